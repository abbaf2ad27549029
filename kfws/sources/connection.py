"""One WebSocket: dial, cut frames, hand out batches. The only source that imports websockets.

The library does the handshake, TLS, proxies and RFC 6455. Taken from it, through its
documented ``create_connection`` hook, are whole payloads in batches: one list per socket
read, with one arrival time, into one buffer bounded in bytes.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    InvalidURI,
    ProxyError,
    SecurityError,
)
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import CLOSING, OPEN, Event

from kfws.errors import KfwsError, MissingExtra, Unreachable, UsageError
from kfws.protocol.auth import as_shown
from kfws.protocol.events import BinaryFrame
from kfws.sources.failures import (
    Route,
    check_proxy,
    is_private_line,
    network_failure,
    status_failure,
    tls_context,
)

__all__ = ["Connection", "Target", "dial"]

MAX_FRAME = 16 * 1024 * 1024
# asyncio reads 256 KiB at once, and what comes of them lives for as long as their batch: 10 to
# 25 MiB more at full speed. Its transports have an attribute for it; uvloop's have none.
READ_BYTES = 64 * 1024
# A read of so much, which is the most that TLS hands over at once, did not take all there was.
TLS_RECORD = 16 * 1024
# Of the answer to the handshake; the library has limits of its own.
LARGEST_HEAD = 256 * 1024
# What waits longer than this was not taken because nobody takes.
IN_TIME_NS = 1_000_000_000
# FIN and opcode 1: no extension's bit, and that of compression (RFC 7692, section 6).
FINAL_TEXT, FINAL_DEFLATED = 0x81, 0xC1
# What a compressed message ends in, and leaves away (RFC 7692, section 7.2.2).
FLUSHED = b"\x00\x00\xff\xff"
# The library inflates messages from here on in two steps, bounded by MAX_FRAME. What is shorter
# needs no bound: deflate makes at most 1032 bytes of one, so 2 MiB of this.
LONG_DEFLATED = 2044
# A closing handshake is a courtesy; leaving must not take a second.
CLOSE_TIMEOUT_S = 0.3
BUFFER_BYTES = 64 * 1000 * 1000
# Who has so much to take is given a moment for it before more is read: else a socket that always
# has something fills the buffer even where the reader of our output keeps up.
TURN_BYTES = 1000 * 1000
# Messages that come one by one faster than one is dealt with keep a core busy with waking up. After
# so many small reads in a row, each so soon after the one before, a nap has the next bring several.
CROWD = 4
CROWDED_NS = 50_000
SMALL_BYTES = 4096
NAP_S = 50e-6
# Addresses of one name that are tried in turn.
MOST_HOSTS = 3


class Target(Route, frozen=True):
    """Where to dial, and how."""

    compression: bool = False
    allow_plain: bool = False
    """Whether a redirect may lead to ws:// on another machine."""
    follow_redirects: bool = True
    """Off with credentials: they are for the venue that was named, not for where it points."""
    buffer_bytes: int = BUFFER_BYTES
    coalesce_s: float = 0.0
    """How long to wait after a read before the next: fewer wake-ups, later messages."""


class Read(msgspec.Struct, gc=False):
    """The frames that one socket read completed."""

    received_ns: int
    frames: list[bytes]
    size: int
    """In bytes, as read; what the bound of the buffer is about."""


class Connection(ClientConnection):
    """One WebSocket that hands out batches of frames instead of messages.

    ``wait`` until something is there, then ``take`` until nothing is. While somebody waits,
    ``at_once`` may take what comes in the same breath, with no task to wake. When more than
    ``buffer_bytes`` are held, ``shed`` is asked to make room; without it the socket is not read
    until half of that was taken.
    """

    def __init__(
        self,
        *args: Any,
        buffer_bytes: int = BUFFER_BYTES,
        coalesce_s: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.buffer_bytes = buffer_bytes
        self.turn_rate = 16e6
        """Bytes a second that are read at least, as long as the buffer has room."""
        self._coalesce_s = coalesce_s
        self.shed: Callable[[list[Read]], None] | None = None
        """Given the oldest half of what is held, which is not handed out then."""
        self.at_once: Callable[[Read], bool] | None = None
        """Given what was read while nothing is held and somebody waits; False: it is held. What
        it raises, ``wait`` raises."""
        self._fault: Exception | None = None
        self.ended = False
        self.opened_ns = 0
        """When the venue's answer to the handshake came."""
        self._has_failed = False
        """Whether a text was no UTF-8: nothing counts any more."""
        self._crowd = 0
        self.read_ns = 0
        """When the last bytes came, on the wall's clock."""
        self.heard_at = self.loop.time()
        """The same on the loop's clock, but no earlier than when reading was last resumed."""
        self._reads: deque[Read] = deque()
        self._held = 0
        self._taken_ns = time.time_ns()
        self._may_have_more = False
        self._tail = b""
        """What came of a frame that is not whole yet, but for what is in ``_later``."""
        self._later = bytearray()
        self._missing = 0
        """Bytes that the frame is short of; less than these need no look, only room."""
        self._frames: list[bytes] = []
        self._parts: list[bytes] = []
        self._is_binary = False
        self._deflate: PerMessageDeflate | None = None
        """Where messages are compressed."""
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._turn: asyncio.TimerHandle | None = None
        """When to read on, where those who take have their turn."""
        self._pinged_at: float | None = None
        self._given_up = ""

    # From the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if hasattr(transport, "max_size"):
            transport.max_size = READ_BYTES
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        now_ns = time.time_ns()
        self._crowd = self._crowd + 1 if now_ns - self.read_ns < CROWDED_NS else 0
        self.read_ns = now_ns
        self.heard_at = self.loop.time()
        self._may_have_more = len(data) >= TLS_RECORD
        if self._tail:
            self._missing -= len(data)
            if self._missing > 0 and self._hears:
                self._later += data
                return
            data = self._take_tail() + data
        if self.response is None:
            data = self._receive_head(data)
        if data:
            self._cut(data)
        if self._frames:
            # What is compressed takes more room here than on the wire.
            size = len(data) if not self.protocol.extensions else sum(map(len, self._frames))
            read, self._frames = Read(self.read_ns, self._frames, size), []
            if not self._is_taken(read):
                self._hold(read)
            if not self._paused and (self._coalesce_s or self._held):
                self._take_turns(size)
        if self._crowd > CROWD:
            self._crowd = 0
            if len(data) < SMALL_BYTES:
                time.sleep(NAP_S)  # shorter than what a timer of the loop can do

    def _is_taken(self, read: Read) -> bool:
        """Whether somebody waited for it and took it."""
        if self._reads or self.at_once is None or self._waiter is None or self._waiter.done():
            return False
        self._taken_ns = read.received_ns
        try:
            return self.at_once(read)
        except Exception as exc:  # the loop would take it for a fault of the connection
            self._fault = exc
            self.wake()
            return True

    def _take_turns(self, size: int) -> None:
        """A moment for those who take, where they have much to take or want it so."""
        turn_s = size / self.turn_rate if self._held > self._turn_bytes else 0.0
        if turn_s or self._coalesce_s:
            self.transport.pause_reading()
            self._turn = self.loop.call_later(max(turn_s, self._coalesce_s), self._read_on)

    def _hold(self, read: Read) -> None:
        self._reads.append(read)
        self._held += read.size
        if self._held > self.buffer_bytes:
            self._make_room()
        self.wake()

    @property
    def _turn_bytes(self) -> int:
        return min(TURN_BYTES, self.buffer_bytes // 4)

    def _read_on(self) -> None:
        self._turn = None
        if not self._paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def eof_received(self) -> None:
        if tail := self._take_tail():
            super().data_received(tail)
        super().eof_received()

    def _take_tail(self) -> bytes:
        tail = self._tail + self._later if self._later else self._tail
        self._tail, self._later, self._missing = b"", bytearray(), 0
        return tail

    def _receive_head(self, data: bytes) -> bytes:
        """Hands the answer to the handshake to the library; gives what stands behind it."""
        end = data.find(b"\r\n\r\n") + 4
        if end < 4 and len(data) < LARGEST_HEAD:
            self._tail = data
            return b""
        end = end if end >= 4 else len(data)
        super().data_received(data[:end])
        if self.protocol.handshake_exc is not None:
            self.transport.abort()  # else the library reads on until the venue has said it all
        match self.protocol.extensions:
            case [PerMessageDeflate() as deflate]:
                self._deflate = deflate
        return data[end:]

    def _cut(self, data: bytes) -> None:
        """Texts are cut here, every other whole frame is handed to the library (RFC 6455,
        section 5.2). What is no whole frame waits for the next read.
        """
        at, size = 0, len(data)
        while self._hears:
            if not self._parts:
                at = self._cut_texts(data, at)
                if at == size:
                    return
                if self._has_failed:  # one was no UTF-8
                    break
            end = _end_of_frame(data, at)
            if end > size:
                self._tail, self._missing = data[at:], end - size
                return
            if self._deflate is not None and not self._parts:
                _begin_anew(self._deflate)
            super().data_received(data[at:end])
            at = end
        if at < size:
            super().data_received(data[at:])

    @property
    def _hears(self) -> bool:
        """Whether what comes are frames that count: behind our own close too, until the venue's
        comes. A venue that has much under way says it all first."""
        protocol = self.protocol
        if protocol.state is CLOSING:
            is_sound = protocol.parser_exc is None and not self._has_failed
            return is_sound and protocol.close_rcvd is None
        return protocol.state is OPEN

    def _cut_texts(self, data: bytes, at: int) -> int:
        """The hot way: the whole text frames, plain or compressed, that stand in a row from here;
        gives where they end. Long ones end the row: they are the library's."""
        size, count, append = len(data), len(self._frames), self._frames.append
        deflate = self._deflate
        inflate = None if deflate is None else _inflater(deflate)
        try:
            while at < size:
                kind, length, start = data[at], data[at + 1], at + 2
                if length > 125:
                    if length != 126:
                        break
                    length, start = data[at + 2] << 8 | data[at + 3], at + 4
                end = start + length
                if end > size:
                    break
                if kind == FINAL_TEXT:
                    append(data[start:end])
                elif kind == FINAL_DEFLATED and inflate is not None and length < LONG_DEFLATED:
                    text = inflate(data[start:end] + FLUSHED)
                    if not text and deflate is not None and _begin_anew(deflate):
                        inflate = deflate.decoder.decompress
                        text = inflate(data[start:end] + FLUSHED)
                    append(text)
                else:
                    break
                at = end
        except IndexError:
            pass  # the last header is not whole
        except zlib.error:
            pass  # the library finds the same, and says so to the venue
        self._look_at_texts(count)
        return at

    def _look_at_texts(self, count: int) -> None:
        """Ends the connection at the first text behind so many frames that is no UTF-8."""
        frames = self._frames
        if b"".join(frames[count:]).isascii():
            return
        for place in range(count, len(frames)):
            if not _is_utf8(frames[place]):
                del frames[place + 1 :]
                self._fail_utf8()
                return

    def _make_room(self) -> None:
        if self.shed is not None:
            oldest: list[Read] = []
            # What has just come is not old: it stays, however large.
            while self._held > self.buffer_bytes // 2 and len(self._reads) > 1:
                oldest.append(self._reads.popleft())
                self._held -= oldest[-1].size
            if oldest:
                self.shed(oldest)
        elif not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame) and event.opcode in _DATA and self.response is not None:
            self._collect(event)
            return
        if self.response is None:
            self.opened_ns = self.read_ns
        elif isinstance(event, Frame) and event.opcode is Opcode.PONG:
            self._pinged_at = None
        super().process_event(event)

    def _collect(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.CONT:
            self._is_binary = frame.opcode is Opcode.BINARY
        self._parts.append(bytes(frame.data))
        if not frame.fin:
            return
        payload = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        if self._is_binary:
            self._frames.append(BinaryFrame(payload))
            return
        self._frames.append(payload)
        if not _is_utf8(payload):
            self._fail_utf8()

    def _fail_utf8(self) -> None:
        """RFC 6455, section 8.1; the library would do so while decoding."""
        if self._hears:
            self._has_failed = True
            self.protocol.fail(CloseCode.INVALID_DATA, "invalid UTF-8")
            self.send_data()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.ended = True
        self.wake()

    # To the source

    def wake(self) -> None:
        """Ends a ``wait``."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Until there is something to take, the connection ended, or somebody called ``wake``."""
        if self._reads or self.ended:
            return
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self._fault is not None:
            raise self._fault

    @property
    def held(self) -> int:
        """Bytes that were read and not taken."""
        return self._held

    def take(self) -> Read | None:
        """The oldest read that is waiting; the socket is read again when half have gone."""
        if not self._reads:
            return None
        read = self._reads.popleft()
        self._held -= read.size
        self._taken_ns = read.received_ns
        if self._held <= self.buffer_bytes // 2:
            self._resume()
        if self._turn is not None and self._held <= self._turn_bytes and not self._coalesce_s:
            self._turn.cancel()
            self._read_on()
        return read

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self.excuse()
            self._read_on()

    @property
    def is_paused(self) -> bool:
        """Whether the socket is not read, because nobody takes what came."""
        return self._paused

    @property
    def hears_all(self) -> bool:
        """Whether what came is taken in time: only then silence is the venue's."""
        if self._paused:
            return False
        return not self._reads or time.time_ns() - self._reads[0].received_ns < IN_TIME_NS

    @property
    def behind_ns(self) -> int:
        """How long ago the last read came that was taken, where others wait, here or, as it
        looks, in the system; else 0. What is missing may be among them."""
        if not (self._reads or self._may_have_more):
            return 0
        return max(0, time.time_ns() - self._taken_ns)

    def say(self, text: str) -> None:
        """Sends a text frame; nothing happens on a connection that is closing."""
        if self.protocol.state is OPEN:
            self.protocol.send_text(text.encode())
            self.send_data()

    def send_ping(self) -> None:
        """Sends a ping frame; the venue closes a connection that is silent for a minute."""
        if self.protocol.state is OPEN:
            self.protocol.send_ping(b"kfws")
            self.send_data()
            if self._pinged_at is None:
                self._pinged_at = self.loop.time()

    async def round_trip_s(self) -> float:
        """Sends a ping and waits for its pong. Raises Unreachable when the connection ends."""
        try:
            return await (await self.ping())
        except ConnectionClosed as exc:
            raise Unreachable("the connection was lost", hint="try again") from exc

    @property
    def unanswered_s(self) -> float:
        """How long a ping has been waiting for its pong, while we could have heard it."""
        if self._pinged_at is None or self._paused:
            return 0.0
        return self.loop.time() - self._pinged_at

    @property
    def silent_s(self) -> float:
        """How long nothing at all has come, while we could have heard it."""
        return 0.0 if self._paused else self.loop.time() - self.heard_at

    @property
    def lived_s(self) -> float:
        """From the handshake to the last bytes that came."""
        return (self.read_ns - self.opened_ns) / 1e9

    def excuse(self) -> None:
        """We were not there to hear: silence begins anew."""
        self.heard_at = self.loop.time()
        if self._pinged_at is not None:
            self._pinged_at = self.heard_at

    def give_up(self, reason: str) -> None:
        """Ends a connection that is dead: no closing handshake would come to an end."""
        self._given_up = self._given_up or reason
        self.transport.abort()

    async def leave(self) -> None:
        """Closes with 1000, and waits shortly for the venue to do so too."""
        self.shed = None
        self._coalesce_s = 0.0
        self._read_on()
        self._resume()  # the venue's close frame stands behind what was not read
        self.buffer_bytes = sys.maxsize
        try:
            await self.close()
        except (ConnectionClosed, OSError):
            pass

    @property
    def _broke_with(self) -> str:
        exc = self.connection_exc
        return (isinstance(exc, OSError) and exc.strerror) or str(exc or "")

    @property
    def ending(self) -> tuple[int, str]:
        """Close code and reason, the venue's or, where we had to end it, ours; 1006 when the
        connection broke without a word."""
        close = self.protocol.close_rcvd or self.protocol.close_sent
        if close is not None:
            return int(close.code), close.reason
        return int(CloseCode.ABNORMAL_CLOSURE), self._given_up or self._broke_with


_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


def _end_of_frame(data: bytes, at: int) -> int:
    """Where a frame ends, as far as its head says it: behind all that is there where it is not
    whole; the end of all that is there where it is one that the library refuses by its head."""
    head = data[at : at + 10]
    if len(head) < 2:
        return at + 2
    length, start = head[1], 2
    if length > 127:  # masked, which no venue may do
        return len(data)
    if length > 125:
        start = 4 if length == 126 else 10
        if len(head) < start:
            return at + start
        length = int.from_bytes(head[2:start])
    if length > MAX_FRAME:
        return len(data)
    return at + start + length


def _inflater(deflate: PerMessageDeflate) -> Callable[[bytes], bytes]:
    """What inflates the payload of a whole message, ``FLUSHED`` behind it.

    Where one window goes over all messages it is the library's own, since fragmented and long
    ones are inflated there.
    """
    if not deflate.remote_no_context_takeover:
        return deflate.decoder.decompress
    bits = -deflate.remote_max_window_bits
    return lambda payload: zlib.decompressobj(bits).decompress(payload)


def _begin_anew(deflate: PerMessageDeflate) -> bool:
    """Whether the last message ended its deflate stream (RFC 7692, section 7.2.3.4): who does so
    begins a new one, of which the library would inflate nothing."""
    if deflate.remote_no_context_takeover or not deflate.decoder.eof:
        return False
    deflate.decoder = zlib.decompressobj(-deflate.remote_max_window_bits)
    return True


def _is_utf8(payload: bytes) -> bool:
    if payload.isascii():
        return True
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


class _Dial(connect):
    """The library's connect, which follows redirects only where that gives nothing away."""

    follow_redirects = True
    allow_plain = False

    def process_redirect(self, exc: Exception) -> Exception | str:
        found = super().process_redirect(exc) if self.follow_redirects else exc
        if isinstance(found, str) and not (self.allow_plain or is_private_line(found)):
            return SecurityError(f"{as_shown(found)} is not encrypted")
        return found


async def dial(target: Target) -> Connection:
    """Opens a connection.

    Raises Unreachable, Unwelcome (HTTP 401, 403), UsageError (a URL or proxy that is none) or
    MissingExtra (SOCKS).
    """
    if target.proxy is not None:
        check_proxy(target.proxy)
    try:
        return await _dial(target)
    except (OSError, InvalidHandshake, InvalidURI, ImportError, ValueError) as exc:
        raise _renamed(exc, target) from exc


async def _dial(target: Target) -> Connection:
    *others, last = await _hosts(target)
    for host in others:
        try:
            return await _dial_at(target, host)
        except OSError:
            pass  # the next address may be better
    return await _dial_at(target, last)


async def _hosts(target: Target) -> Sequence[str | None]:
    """Where to connect; None: wherever the loop finds the URL's host.

    uvloop looks names up in threads of its own, and leaving waits for them; so where the loop is
    not asyncio's own, names are looked up here.
    """
    loop = asyncio.get_running_loop()
    if target.proxy is not None or isinstance(loop, asyncio.BaseEventLoop):
        return [None]
    parts = urlsplit(target.url)
    with suppress(ValueError):
        return [str(ip_address(parts.hostname or ""))]  # nothing to look up
    look_up = partial(socket.getaddrinfo, parts.hostname, parts.port, type=socket.SOCK_STREAM)
    async with asyncio.timeout(target.open_timeout_s):
        found = await loop.run_in_executor(None, look_up)
    return [*dict.fromkeys(str(each[4][0]) for each in found)][:MOST_HOSTS]


async def _dial_at(target: Target, host: str | None) -> Connection:
    logger = logging.getLogger("kfws.websockets")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    options: dict[str, Any] = {} if host is None else {"host": host}
    if target.url.startswith("wss:"):
        options["ssl"] = tls_context(target.ca_file)
    made: list[Connection] = []

    def make(*args: Any, **kwargs: Any) -> Connection:
        bounds = {"buffer_bytes": target.buffer_bytes, "coalesce_s": target.coalesce_s}
        made.append(Connection(*args, **bounds, **kwargs))  # type: ignore[arg-type]  # int, float
        return made[-1]

    attempt = _Dial(
        target.url,
        create_connection=make,  # type: ignore[arg-type]  # documented: "a wrapper or a subclass"
        compression="deflate" if target.compression else None,
        proxy=target.proxy,
        open_timeout=target.open_timeout_s,
        close_timeout=CLOSE_TIMEOUT_S,
        ping_interval=None,  # live.py pings: the library's deadline counts while we do not read
        max_size=MAX_FRAME,
        user_agent_header="kfws",
        logger=logger,
        **options,
    )
    attempt.follow_redirects = target.follow_redirects
    attempt.allow_plain = target.allow_plain
    await attempt
    return made[-1]


def _renamed(exc: Exception, target: Target) -> KfwsError:
    """The library's errors in the user's words. The most special classes come first."""
    place = target.place
    match exc:
        case InvalidStatus():
            wait = exc.response.headers.get("Retry-After", "")
            return status_failure(exc.response.status_code, wait, target)
        case ProxyError():
            return Unreachable(f"{target.dialled} refused: {exc}", hint="look at --proxy")
        case InvalidURI():
            return UsageError(f"{as_shown(exc.uri)} is no address: {exc.msg}", hint="look at --url")
        # The library calls an answer above its limits by the same name.
        case SecurityError() if "redirect" in str(exc) or "not encrypted" in str(exc):
            return Unreachable(f"{place} points elsewhere: {exc}", permanent=True)
        case InvalidHandshake():
            return Unreachable(
                f"{place} did not answer as a WebSocket: {exc}",
                hint="look at --url; a TLS port is wss://",
            )
        case ImportError():
            return MissingExtra(
                "a SOCKS proxy needs python-socks",
                hint="install kfws with its extra: 'kfws[socks]'",
            )
        case _:
            return network_failure(exc, target)
