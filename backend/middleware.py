"""Middleware for every request: gives an id, counts answers, handles `HEAD` and unexpected exceptions."""

import logging
import re
import time

import anyio
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils.compat import uuid7

from backend import logs, problems

logger = logging.getLogger(__name__)

API = "/api"  # prefix of the API's routes


class RequestMiddleware:
    """Gives each request an id: the client's if it is harmless, else a new one. Counts the answers.

    One class without Starlette's helpers, because each layer costs time in every request.
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
        # Read `/api//models/` as `/api/models`, as the locations of the proxy do.
        scope["path"] = re.sub("/+", "/", scope["path"]).rstrip("/") or "/"
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
            if "route" in scope:  # the path of a route lacks the prefix `/api`
                route = (API if scope["path"].startswith(API) else "") + scope["route"].path
            scope["app"].state.services.metrics.count_request(route, method, status, seconds)

        try:
            await answer(scope, receive, send_with_id)
        except ClientDisconnect:
            logger.info("client left", extra={"method": method, "path": scope["path"]})
        except Exception:
            # If an exception reaches the server, the server closes the connection. The proxy may have sent
            # the next request on that connection, so raise only if the answer is incomplete.
            if begun and not complete:
                raise
            logger.exception("request failed", extra={"method": method, "path": scope["path"]})
            if not begun:
                await problems.unexpected(Request(scope))(scope, receive, send_with_id)

    async def answer_head(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer like GET, without the body. Cancels the code that produces the body, such as a stream."""
        with anyio.CancelScope() as making:

            async def send_head(message: Message) -> None:
                if message["type"] == "http.response.start":
                    await send(message)
                    await send({"type": "http.response.body"})
                    making.cancel()

            await self.app(scope, receive, send_head)
