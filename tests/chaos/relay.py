"""Between a program and a server: bytes pass both ways until a test cuts the way or holds it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Relay", "Relays", "relays"]

PATIENCE_S = 30


class Relay:
    """The way to one port."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._takes = True
        self.port = -1

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not self._takes:
                raise OSError
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _reset(writer)
            return
        self._writers |= {writer, back}
        await asyncio.gather(self._pass_on(reader, back), self._pass_on(there, writer))
        self._writers -= {writer, back}

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def cut(self) -> None:
        """Every connection is reset, and so is every new one."""
        self._takes = False
        self._open.set()
        for each in self._writers:
            _reset(each)

    async def hold(self) -> None:
        """Nothing passes any more, and nobody is told."""
        self._open.clear()

    async def mend(self) -> None:
        self._takes = True
        self._open.set()


def _reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


class Relays:
    """All relays of a run, in a loop of their own beside the test's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._servers: list[asyncio.Server] = []

    def to(self, port: int) -> Relay:
        """A new way to a port."""
        relay = Relay(port)
        self._servers.append(self.wait(relay.start()))
        return relay

    def wait(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(PATIENCE_S)

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        mine = asyncio.current_task()
        tasks = [each for each in asyncio.all_tasks() if each is not mine]
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def relays() -> Iterator[Relays]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    found = Relays(loop)
    try:
        yield found
    finally:
        found.wait(found.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.close()
