"""A venue that only sends, as fast as it is read: the load of the benchmarks.

``python -m tests.bench.load book:1 book:200000`` opens one port on 127.0.0.1 per load, says
the ports in one line of JSON, and serves until its stdin ends, so it never outlives who started it.

Frames are encoded before the first client comes and leave in large writes, so that the
server costs little beside any client. It speaks only as much of RFC 6455 as clients of
the feeds use: unfragmented text, ping, close.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import re
import struct
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PRODUCT", "Load", "payloads", "serve"]

PRODUCT = "PF_XBTUSD"
FRAMES = Path(__file__).parent.parent / "frames"
RFC_6455_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
# Large against any reader's own reads, small against the server's memory.
CHUNK_BYTES = 256 * 1024
# Nine digits as on the wire today, so all deltas of a load have one length.
FIRST_SEQ = 100_000_000
FIRST_MS = 1_791_518_718_000


@dataclass(frozen=True, slots=True)
class Load:
    """What a client gets after it subscribed to ``feed``; a book's snapshot counts as one."""

    feed: str
    messages: int
    per_second: int = 0
    """So many a second, each in a write of its own; 0: as fast as they are read."""

    def __str__(self) -> str:
        pace = f"@{self.per_second}" if self.per_second else ""
        return f"{self.feed}:{self.messages}{pace}"

    @classmethod
    def parse(cls, text: str) -> Load:
        """A load written as ``book:200000`` or ``book:200000@10000``."""
        feed, _, amount = text.partition(":")
        messages, _, per_second = amount.partition("@")
        return cls(feed, int(messages), int(per_second or 0))


def payloads(load: Load) -> Iterator[bytes]:
    """The texts of the data messages: real frames of the feed, their numbers made to rise."""
    snapshots = recorded(load.feed, "snapshot") if load.feed == "book" else []
    deltas = itertools.cycle(recorded(load.feed, "delta"))
    texts = itertools.chain(snapshots[:1], deltas)
    for i, text in enumerate(itertools.islice(texts, load.messages)):
        numbered = re.sub(rb'"seq":\d+', b'"seq":%d' % (FIRST_SEQ + i), text)
        yield re.sub(rb'"(time|timestamp)":\d+', rb'"\1":%d' % (FIRST_MS + i), numbered)


def recorded(feed: str, kind: str) -> list[bytes]:
    """The newest-shaped frames of the product, byte for byte as in ``tests/frames``."""
    lines = (FRAMES / f"{feed}.ndjson").read_bytes().splitlines()
    texts = [
        line[line.index(b'"frame":') + 8 : -1] for line in lines if json.loads(line)["kind"] == kind
    ]
    texts = [text for text in texts if b'"product_id":"%s"' % PRODUCT.encode() in text]
    # Only the fullest form of a ticker: older ones lack fields that the venue sends today.
    return [max(texts, key=len)] if feed == "ticker" else texts


def chunks(load: Load) -> list[bytes]:
    """The load as it goes on the wire; each chunk holds whole frames, so a pong fits between."""
    done, chunk = [], bytearray()
    most = 1 if load.per_second else CHUNK_BYTES
    for payload in payloads(load):
        chunk += encode(TEXT, payload)
        if len(chunk) >= most:
            done.append(bytes(chunk))
            chunk.clear()
    return [*done, bytes(chunk)]


def encode(opcode: int, payload: bytes) -> bytes:
    """One final, unmasked frame (RFC 6455, section 5.2)."""
    first, size = 0x80 | opcode, len(payload)
    if size < 126:
        return struct.pack("!BB", first, size) + payload
    if size < 65536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


@asynccontextmanager
async def serve(load: Load) -> AsyncIterator[int]:
    """A listening load; gives its port on 127.0.0.1."""
    blast = chunks(load)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await converse(load, blast, reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client left in its own way
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port: int = server.sockets[0].getsockname()[1]
        yield port


async def converse(
    load: Load, blast: list[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """One connection, from its handshake until the client closes or leaves."""
    writer.write(accept(await reader.readuntil(b"\r\n\r\n")))
    writer.write(encode(TEXT, b'{"event":"info","version":1}'))
    async with asyncio.TaskGroup() as tasks:
        sending: asyncio.Task[None] | None = None
        while (frame := await read_frame(reader))[0] != CLOSE:
            opcode, payload = frame
            if opcode == PING:
                writer.write(encode(PONG, payload))
            if opcode != TEXT:
                continue
            request = json.loads(payload)
            writer.write(encode(TEXT, acknowledgement(request)))
            if request["event"] == "subscribe" and request["feed"] == load.feed and not sending:
                sending = tasks.create_task(send(blast, writer, load.per_second))
        if not (sending and sending.done()):
            writer.write(encode(CLOSE, frame[1]))
        if sending:
            sending.cancel()


async def send(blast: list[bytes], writer: asyncio.StreamWriter, per_second: int) -> None:
    """The whole load, then a normal close."""
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    for count, chunk in enumerate(blast):
        # A timer is too coarse for 100 µs: this server has its core to itself, and spins.
        while per_second and loop.time() < started_at + count / per_second:  # noqa: ASYNC110
            await asyncio.sleep(0)
        writer.write(chunk)
        await writer.drain()
    writer.write(encode(CLOSE, struct.pack("!H", 1000)))


def accept(request: bytes) -> bytes:
    """The answer to a handshake (RFC 6455, section 4.2.2); no extension is ever accepted."""
    [key] = re.findall(rb"(?im)^sec-websocket-key: *(\S+)", request)
    digest = base64.b64encode(hashlib.sha1(key + RFC_6455_GUID, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + digest + b"\r\n\r\n"
    )


def acknowledgement(request: dict[str, object]) -> bytes:
    """``subscribed`` or ``unsubscribed``, with the request's own feed and products."""
    return json.dumps({**request, "event": f"{request['event']}d"}).encode()


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Opcode and payload of a client's frame, which is always masked and here never fragmented."""
    first, second = await reader.readexactly(2)
    size = second & 0x7F
    if size == 126:
        [size] = struct.unpack("!H", await reader.readexactly(2))
    elif size == 127:
        [size] = struct.unpack("!Q", await reader.readexactly(8))
    mask = await reader.readexactly(4)
    masked = await reader.readexactly(size)
    return first & 0x0F, bytes(byte ^ mask[i % 4] for i, byte in enumerate(masked))


async def main(loads: list[Load]) -> None:
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(serve(load)) for load in loads]
        print(json.dumps(ports), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main([Load.parse(text) for text in sys.argv[1:]]))
