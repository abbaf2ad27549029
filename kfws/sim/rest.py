"""The simulated venue's REST behind a real HTTP server. The only room of sim that imports aiohttp.

Rule of this room: it moves bytes, and knows nothing of what they mean.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from kfws.sim.desk import Answer, Asked

__all__ = ["listen"]

FAREWELL_S = 0.15
"""How long a request that is under way may take when the venue leaves."""


@asynccontextmanager
async def listen(
    answer: Callable[[Asked], Answer], host: str, port: int, tls: ssl.SSLContext | None
) -> AsyncIterator[int]:
    """Answers requests until the context is left; gives the port, any free one for 0.

    Raises OSError where it cannot listen.
    """

    async def attend(request: web.BaseRequest) -> web.Response:
        # Not decoded: what is signed is the text of the wire.
        path, _, query = request.raw_path.partition("?")
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = (await request.read()).decode(errors="replace")
        answered = answer(Asked(request.method, path, query, body, headers))
        return web.Response(
            status=answered.status, body=answered.body, content_type="application/json"
        )

    # What clients do wrong is their affair: this server prints nothing.
    logger = logging.Logger("kfws.sim.rest", logging.CRITICAL + 1)
    logger.addHandler(logging.NullHandler())
    server = web.Server(attend, access_log=None, logger=logger)
    runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=FAREWELL_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, ssl_context=tls).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
