"""What a hostile venue sends without end, or packed: it is refused in one sentence, in bounded
memory, whether it speaks WebSocket or REST."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from kfws.errors import KfwsError, Unreachable
from kfws.rest import LARGEST_ANSWER, Rest
from kfws.sources.connection import Target, dial

MOST_HELD = 40_000_000
OK = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def saying(*pieces: bytes, then: bytes = b"") -> AsyncIterator[str]:
    """A server that answers any request with the pieces, and then with the last without end;
    gives host and port."""
    ended = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.writelines(pieces)
            while then:
                writer.write(then)
                await writer.drain()
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            ended.set()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await ended.wait()


SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
ENDLESS = {
    "headers": (SWITCHING, b"X-Header: y\r\n" * 500),
    "a header": (SWITCHING + b"X-Header: ", b"y" * 8192),
    "a status line": (b"HTTP/1.1 101 ", b"y" * 8192),
    "a body": (b"HTTP/1.1 503 Away\r\n\r\n", b"y" * 8192),
    "no HTTP": (b"", b"\0" * 8192),
}


@pytest.fixture(name="bounded")
def _bounded() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MOST_HELD
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("what", ENDLESS)
@pytest.mark.usefixtures("bounded")
async def test_an_answer_to_the_handshake_without_end_is_refused(what: str) -> None:
    head, then = ENDLESS[what]
    async with saying(head, then=then) as place:
        with pytest.raises(KfwsError) as caught:
            await dial(Target(f"ws://{place}/ws/v1", open_timeout_s=5))
    assert isinstance(caught.value, Unreachable)
    assert caught.value.message.startswith(f"{place} did not answer as a WebSocket")
    assert "\n" not in f"{caught.value.message}{caught.value.hint}"
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("what", ["headers", "a header", "a status line", "no HTTP"])
@pytest.mark.usefixtures("bounded")
async def test_a_head_of_rest_without_end_is_refused(what: str) -> None:
    head, then = ENDLESS[what]
    head = head.replace(b"101 Switching Protocols", b"200 OK")
    async with saying(head, then=then) as place, Rest(f"http://{place}") as rest:
        with pytest.raises(Unreachable) as caught:
            await rest.request("GET", "/x", auth=False, timeout=5)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 500


PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize("coding", PACKERS)
async def test_a_small_answer_of_rest_that_swells_is_cut_off(coding: str) -> None:
    bomb = PACKERS[coding](b" " * (LARGEST_ANSWER + 1_000_000))
    assert len(bomb) < 100_000
    head = b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (coding.encode(), len(bomb))
    async with saying(OK, head, bomb) as place, Rest(f"http://{place}") as rest:
        with pytest.raises(Unreachable) as caught:
            await rest.request("GET", "/x", auth=False)
    assert "\n" not in caught.value.message
