"""Around every request: its id, and its count."""

import re
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils.compat import uuid7

from backend import logs

API = "/api"  # what the application puts before its routes


class Observer:
    """Give every request an id: the client's own if it is harmless, else a new one. Count its answer.

    One class for both, and no Starlette helper around it: every layer is paid for by every request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        given = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"x-request-id"), "")
        request_id = given if re.fullmatch(r"[\w.-]{1,64}", given, re.ASCII) else uuid7().hex
        scope.setdefault("state", {})["request_id"] = request_id
        logs.request_id.set(request_id)
        answered = False

        def count(status: int) -> None:
            nonlocal answered
            answered = True
            seconds = time.perf_counter() - started
            route = "unmatched"
            if "route" in scope:  # whose path is its router's, without the prefix of the application
                route = (API if scope["path"].startswith(API) else "") + scope["route"].path
            scope["app"].state.services.metrics.count_request(route, scope["method"], status, seconds)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-request-id", request_id.encode()))
                count(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            if not answered:
                count(500)  # the answer comes from a layer above
            raise
