"""A venue that only sends, as fast as it is read: the load of the benchmarks.

``python -m tests.bench.load CERTIFICATE book:1 book:200000`` opens one port on 127.0.0.1 per load,
says the ports in one line of JSON and ``started`` whenever messages begin to leave, and serves
until its stdin ends, so it never outlives who started it. CERTIFICATE is read for TLS only.

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
import ssl
import struct
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PRODUCT", "Load", "payloads", "serve"]

PRODUCT = "PF_XBTUSD"
FRAMES = Path(__file__).parent.parent / "frames"
RFC_6455_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
RSV1 = 0x40
"""Of a compressed message (RFC 7692, section 6)."""
FLUSHED = b"\x00\x00\xff\xff"
"""What a compressed message ends in, and leaves away."""
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
    products: int = 1
    """So many products in turn; it begins when all of them were asked for."""
    connections: int = 1
    """It begins when so many connections have asked for all."""
    tls: bool = False
    deflate: bool = False
    """Whether every message is compressed, to clients that offer it."""

    def __str__(self) -> str:
        pace = f"@{self.per_second}" if self.per_second else ""
        crowd = f"+{self.products}x{self.connections}"
        ways = "+tls" * self.tls + "+deflate" * self.deflate
        return f"{self.feed}:{self.messages}{pace}{crowd}{ways}"

    @classmethod
    def parse(cls, text: str) -> Load:
        """A load written as ``book:200000``, ``book:200000@10000`` or ``book:9+350x2+tls``."""
        what, *more = text.split("+")
        feed, _, amount = what.partition(":")
        messages, _, per_second = amount.partition("@")
        crowd = next((each for each in more if "x" in each), "1x1")
        products, _, connections = crowd.partition("x")
        return cls(
            feed,
            int(messages),
            int(per_second or 0),
            int(products),
            int(connections),
            "tls" in more,
            "deflate" in more,
        )

    @property
    def names(self) -> list[str]:
        """The products."""
        return [PRODUCT, *(f"PF_X{n:03}USD" for n in range(1, self.products))]


def payloads(load: Load) -> Iterator[bytes]:
    """The texts of the data messages: real frames of the feed, their numbers made to rise."""
    snapshots = recorded(load.feed, "snapshot") if load.feed == "book" else []
    deltas = itertools.cycle(recorded(load.feed, "delta"))
    names = [b'"%b"' % name.encode() for name in load.names]
    texts = itertools.chain(snapshots[:1] * load.products, deltas)
    for i, text in enumerate(itertools.islice(texts, load.messages)):
        turn, place = divmod(i, load.products)
        named = text if place == 0 else text.replace(names[0], names[place])
        numbered = re.sub(rb'"seq":\d+', b'"seq":%d' % (FIRST_SEQ + turn), named)
        yield re.sub(rb'"(time|timestamp)":\d+', rb'"\1":%d' % (FIRST_MS + turn), numbered)


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
    framed = deflated(payloads(load)) if load.deflate else plain(payloads(load))
    for frame in framed:
        chunk += frame
        if len(chunk) >= most:
            done.append(bytes(chunk))
            chunk.clear()
    return [*done, bytes(chunk)]


def plain(texts: Iterable[bytes]) -> Iterator[bytes]:
    return (encode(TEXT, text) for text in texts)


def deflated(texts: Iterable[bytes]) -> Iterator[bytes]:
    """Compressed with one window over all messages (RFC 7692, section 7.2.1)."""
    squeeze = zlib.compressobj(wbits=-15)
    for text in texts:
        packed = squeeze.compress(text) + squeeze.flush(zlib.Z_SYNC_FLUSH)
        yield encode(RSV1 | TEXT, packed.removesuffix(FLUSHED))


def encode(opcode: int, payload: bytes) -> bytes:
    """One final, unmasked frame (RFC 6455, section 5.2)."""
    first, size = 0x80 | opcode, len(payload)
    if size < 126:
        return struct.pack("!BB", first, size) + payload
    if size < 65536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


@asynccontextmanager
async def serve(
    load: Load,
    *,
    tls: ssl.SSLContext | None = None,
    on_start: Callable[[], None] = lambda: None,
) -> AsyncIterator[int]:
    """A listening load; gives its port on 127.0.0.1. ``on_start``: before the first message."""
    blast = chunks(load)
    gate = asyncio.Barrier(load.connections)

    async def start() -> None:
        if await gate.wait() == 0:
            on_start()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await converse(load, blast, start, reader, writer)
        except* (OSError, asyncio.IncompleteReadError):
            pass  # the client left in its own way
        finally:
            writer.close()

    context = tls if load.tls else None
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        port: int = server.sockets[0].getsockname()[1]
        yield port


async def converse(
    load: Load,
    blast: list[bytes],
    start: Callable[[], Awaitable[None]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """One connection, from its handshake until the client closes or leaves."""
    writer.write(accept(await reader.readuntil(b"\r\n\r\n"), deflate=load.deflate))
    writer.write(encode(TEXT, b'{"event":"info","version":1}'))
    asked: set[str] = set()
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
            if request["event"] == "subscribe" and request["feed"] == load.feed:
                asked.update(request["product_ids"])
            if len(asked) >= load.products and not sending:
                sending = tasks.create_task(send(blast, writer, start, load.per_second))
        if not (sending and sending.done()):
            writer.write(encode(CLOSE, frame[1]))
        if sending:
            sending.cancel()


async def send(
    blast: list[bytes],
    writer: asyncio.StreamWriter,
    start: Callable[[], Awaitable[None]],
    per_second: int,
) -> None:
    """The whole load, then a normal close."""
    await start()
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    for count, chunk in enumerate(blast):
        # A timer is too coarse for 100 µs: this server has its core to itself, and spins.
        while per_second and loop.time() < started_at + count / per_second:  # noqa: ASYNC110
            await asyncio.sleep(0)
        writer.write(chunk)
        await writer.drain()
        # A venue tells all of its connections at once; else the first would be served alone until
        # the system's buffers are full.
        await asyncio.sleep(0)
    writer.write(encode(CLOSE, struct.pack("!H", 1000)))


def accept(request: bytes, *, deflate: bool = False) -> bytes:
    """The answer to a handshake (RFC 6455, section 4.2.2)."""
    # Without a window of the client's, each request is inflated by itself.
    extension = b"Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n"
    [key] = re.findall(rb"(?im)^sec-websocket-key: *(\S+)", request)
    digest = base64.b64encode(hashlib.sha1(key + RFC_6455_GUID, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + digest + b"\r\n" + (extension if deflate else b"") + b"\r\n"
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
    payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(masked))
    if first & RSV1:
        payload = zlib.decompressobj(-15).decompress(payload + FLUSHED)
    return first & 0x0F, payload


def say_started() -> None:
    print("started", flush=True)


async def main(certificate: str, loads: list[Load]) -> None:
    tls = None
    if any(load.tls for load in loads):
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)
    async with AsyncExitStack() as stack:
        ports = [
            await stack.enter_async_context(serve(load, tls=tls, on_start=say_started))
            for load in loads
        ]
        print(json.dumps(ports), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], [Load.parse(text) for text in sys.argv[2:]]))
