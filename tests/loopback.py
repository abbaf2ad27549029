"""A venue on loopback that says what a test tells it to: a real server, real sockets."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

Script = Callable[[ServerConnection], Awaitable[None]]

INFO = '{"event":"info","version":1}'
SILENT = logging.getLogger("tests.loopback")
SILENT.addHandler(logging.NullHandler())
SILENT.propagate = False


class Loopback:
    """Where the server listens, and what it has seen."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self.handshakes: list[Request] = []
        self.closes: list[int | None] = []
        self._changed = asyncio.Condition()

    async def note(self, text: str | bytes) -> dict[str, Any]:
        """Keeps a request, and wakes who waits for it."""
        request: dict[str, Any] = json.loads(text)
        async with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        return request

    async def closed(self, code: int | None) -> None:
        async with self._changed:
            self.closes.append(code)
            self._changed.notify_all()

    async def until(self, fact: Callable[[Loopback], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: fact(self))


@asynccontextmanager
async def loopback(
    script: Script | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    status: int | None = None,
    headers: dict[str, str] | None = None,
    compression: str | None = None,
) -> AsyncIterator[Loopback]:
    """Says ``info``, acknowledges every subscribe, runs the script; reads until the client leaves.

    ``status``: answers the handshake with that HTTP status instead.
    """
    venue = Loopback()

    async def talk(connection: ServerConnection) -> None:
        await connection.send(INFO)
        scripted = asyncio.create_task(_run(script, connection))
        try:
            async for text in connection:
                request = await venue.note(text)
                if request["event"] == "subscribe":
                    answer = {key: value for key, value in request.items() if key in _ECHOED}
                    await connection.send(json.dumps(answer | {"event": "subscribed"}))
        except ConnectionClosed:
            pass
        finally:
            scripted.cancel()
            await venue.closed(connection.close_code)

    def on_request(connection: ServerConnection, request: Request) -> Response | None:
        venue.handshakes.append(request)
        if status is None:
            return None
        response = connection.respond(status, "no\n")
        for name, value in (headers or {}).items():
            response.headers[name] = value
        return response

    async with serve(
        talk,
        "127.0.0.1",
        0,
        ssl=tls,
        process_request=on_request,
        compression=compression,
        logger=SILENT,
        max_size=None,
        close_timeout=0.2,
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        venue.url = f"{'wss' if tls else 'ws'}://127.0.0.1:{port}/ws/v1"
        yield venue


_ECHOED = ("feed", "product_ids")


async def _run(script: Script | None, connection: ServerConnection) -> None:
    if script is not None:
        try:
            await script(connection)
        except ConnectionClosed:
            pass
