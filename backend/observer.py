"""Around every request: its id, its count, `HEAD`, and an answer when a route breaks."""

import logging
import re
import time

import anyio
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils.compat import uuid7

from backend import errors, logs

logger = logging.getLogger(__name__)

API = "/api"  # what the application puts before its routes


class Observer:
    """Give every request an id: the client's own if it is harmless, else a new one. Count its answer.

    One class for all, and no Starlette helper around it: every layer is paid for by every request.
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
        scope["path"] = without_needless_slashes(scope["path"])
        method, answer = scope["method"], self.app
        if method == "HEAD":
            scope = dict(scope, method="GET")
            answer = self.answer_head
        begun = complete = False

        async def send_with_id(message: Message) -> None:
            nonlocal begun, complete
            if message["type"] == "http.response.start":
                begun = True
                message["headers"].append((b"x-request-id", request_id.encode()))
                count(message["status"])
            else:
                complete = not message.get("more_body", False)
            await send(message)

        def count(status: int) -> None:
            seconds = time.perf_counter() - started
            route = "unmatched"
            if "route" in scope:  # whose path is its router's, without the prefix of the application
                route = (API if scope["path"].startswith(API) else "") + scope["route"].path
            scope["app"].state.services.metrics.count_request(route, method, status, seconds)

        try:
            await answer(scope, receive, send_with_id)
        except ClientDisconnect:
            logger.info("client left", extra={"method": method, "path": scope["path"]})
        except Exception:
            # An exception that reaches the server makes it close the connection, on which the proxy may have
            # sent the next request already. Only an answer that is cut off has to end so.
            if begun and not complete:
                raise
            logger.exception("request failed", extra={"method": method, "path": scope["path"]})
            if not begun:
                await errors.unexpected(Request(scope))(scope, receive, send_with_id)

    async def answer_head(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as for GET, without the body. What makes the body, an event stream perhaps, is canceled."""
        with anyio.CancelScope() as making:

            async def send_head(message: Message) -> None:
                if message["type"] == "http.response.start":
                    await send(message)
                    await send({"type": "http.response.body"})
                    making.cancel()

            await self.app(scope, receive, send_head)


def without_needless_slashes(path: str) -> str:
    """`/api//models/` is `/api/models`: the proxy's locations take both for the same address, too."""
    if "//" in path or path.endswith("/"):
        return re.sub("/{2,}", "/", path).rstrip("/") or "/"
    return path
