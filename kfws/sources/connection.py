"""One WebSocket: dial, cut frames, hand out batches. The only source that imports websockets.

The library does the handshake, TLS, proxies and RFC 6455. Taken from it, through its
documented ``create_connection`` hook, are whole payloads in batches: one list per socket
read, with one arrival time, into one buffer bounded in bytes.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections import deque
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    ProxyError,
    SecurityError,
)
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN, Event

from kfws.errors import KfwsError, MissingExtra, Unreachable, Unwelcome, UsageError
from kfws.protocol.events import BinaryFrame

__all__ = ["Connection", "Target", "dial"]

MAX_FRAME = 16 * 1024 * 1024
OPEN_TIMEOUT_S = 10.0
# A closing handshake is a courtesy; leaving must not take a second.
CLOSE_TIMEOUT_S = 0.4
BUFFER_BYTES = 64 * 1000 * 1000


@dataclass(frozen=True, slots=True)
class Target:
    """Where to dial, and how."""

    url: str
    proxy: str | None = None
    """A proxy's URL; ``environment`` asks the environment; None goes straight."""
    ca_file: str | None = None
    compression: bool = False
    follow_redirects: bool = True
    """Off with credentials: they are for the venue that was named, not for where it points."""
    buffer_bytes: int = BUFFER_BYTES

    @property
    def place(self) -> str:
        """Host and port, for sentences."""
        parts = urlsplit(self.url)
        port = parts.port or (443 if parts.scheme == "wss" else 80)
        return f"{parts.hostname}:{port}"


@dataclass(frozen=True, slots=True)
class Read:
    """The frames that one socket read completed."""

    received_ns: int
    frames: list[bytes]


class Connection(ClientConnection):
    """One WebSocket that hands out batches of frames instead of messages.

    ``wait`` until something is there, then ``take`` all of it. When more than the bound is
    held, the socket is not read until everything was taken.
    """

    def __init__(self, *args: Any, buffer_bytes: int = BUFFER_BYTES, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.buffer_bytes = buffer_bytes
        self.ended = False
        self.opened_ns = 0
        """When the venue's answer to the handshake came."""
        self._read_ns = 0
        self._reads: deque[Read] = deque()
        self._held = 0
        self._frames: list[bytes] = []
        self._parts: list[bytes] = []
        self._is_binary = False
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False

    # From the socket

    def data_received(self, data: bytes) -> None:
        self._read_ns = time.time_ns()
        super().data_received(data)
        if self._frames:
            size = len(data)
            self._reads.append(Read(self._read_ns, self._frames))
            self._frames = []
            self._held += size
            if self._held > self.buffer_bytes and not self._paused:
                self._paused = True
                self.transport.pause_reading()
            self.wake()

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame) and event.opcode in _DATA and self.response is not None:
            self._collect(event)
            return
        if self.response is None:
            self.opened_ns = self._read_ns
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
        if not payload.isascii() and not _is_utf8(payload) and self.protocol.state is OPEN:
            # RFC 6455, section 8.1; the library would do so while decoding.
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

    def take(self) -> list[Read]:
        """All that came since the last time; the socket is read again if it was not."""
        reads = list(self._reads)
        self._reads.clear()
        self._held = 0
        if self._paused:
            self._paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()
        return reads

    def say(self, text: str) -> None:
        """Sends a text frame; nothing happens on a connection that is closing."""
        if self.protocol.state is OPEN:
            self.protocol.send_text(text.encode())
            self.send_data()

    def ping_unheeded(self) -> None:
        """Sends a ping frame; the venue closes a connection that is silent for a minute."""
        if self.protocol.state is OPEN:
            self.protocol.send_ping(b"kfws")
            self.send_data()

    async def leave(self) -> None:
        """Closes with 1000, and waits shortly for the venue to do so too."""
        if self._paused and not self.transport.is_closing():
            # The venue's close frame stands behind what was not read.
            self._paused = False
            self.transport.resume_reading()
        try:
            await self.close()
        except (ConnectionClosed, OSError):
            pass

    @property
    def ending(self) -> tuple[int, str]:
        """Close code and reason, the venue's or, where we had to end it, ours; 1006 when the
        connection broke without a word."""
        close = self.protocol.close_rcvd or self.protocol.close_sent
        if close is not None:
            return int(close.code), close.reason
        return int(CloseCode.ABNORMAL_CLOSURE), str(self.connection_exc or "")


_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


class _Dial(connect):
    """The library's connect, which follows redirects only where that gives nothing away."""

    follow_redirects = True

    def process_redirect(self, exc: Exception) -> Exception | str:
        return super().process_redirect(exc) if self.follow_redirects else exc


async def dial(target: Target) -> Connection:
    """Opens a connection.

    Raises Unreachable, Unwelcome (HTTP 401, 403), UsageError (a URL or proxy that is none) or
    MissingExtra (SOCKS).
    """
    try:
        return await _dial(target)
    except (OSError, InvalidHandshake, InvalidURI, InvalidProxy, ImportError, ValueError) as exc:
        raise _renamed(exc, target) from exc


async def _dial(target: Target) -> Connection:
    logger = logging.getLogger("kfws.websockets")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    options: dict[str, Any] = {}
    if target.url.startswith("wss:"):
        options["ssl"] = _tls(target.ca_file)
    made: list[Connection] = []

    def make(*args: Any, **kwargs: Any) -> Connection:
        made.append(Connection(*args, buffer_bytes=target.buffer_bytes, **kwargs))
        return made[-1]

    attempt = _Dial(
        target.url,
        create_connection=make,  # type: ignore[arg-type]  # documented: "a wrapper or a subclass"
        compression="deflate" if target.compression else None,
        proxy=True if target.proxy == "environment" else target.proxy,
        open_timeout=OPEN_TIMEOUT_S,
        close_timeout=CLOSE_TIMEOUT_S,
        ping_interval=None,  # live.py pings: the library's deadline counts while we do not read
        max_size=MAX_FRAME,
        user_agent_header="kfws",
        logger=logger,
        **options,
    )
    attempt.follow_redirects = target.follow_redirects
    await attempt
    return made[-1]


def _tls(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as exc:
        raise UsageError(
            f"--ca-file {ca_file} cannot be used: {exc.strerror or exc}",
            hint="it holds certificates in PEM form",
        ) from exc


def _renamed(exc: Exception, target: Target) -> KfwsError:
    """The library's errors in the user's words. The most special classes come first."""
    place = target.place
    match exc:
        case InvalidStatus():
            return _answered(exc.response.status_code, place)
        case ssl.SSLCertVerificationError():
            return Unreachable(
                f"the certificate of {place} is not trusted: {exc.verify_message}",
                hint="name the authority that signed it with --ca-file",
            )
        case ssl.SSLError():
            return Unreachable(
                f"no TLS with {place}: {exc.reason or exc}",
                hint="is it a TLS port? A local venue without TLS is ws://",
            )
        case socket.gaierror():
            return Unreachable(
                f"no address for {urlsplit(target.url).hostname}: {exc.strerror}",
                hint="look at the spelling of --url, and at the network",
            )
        case TimeoutError():
            return Unreachable(
                f"{place} did not answer within {OPEN_TIMEOUT_S:.0f} s",
                hint="look at the network, a firewall, or --proxy",
            )
        case ConnectionRefusedError():
            return Unreachable(f"nobody listens at {place}", hint="look at --url")
        case ProxyError():
            return Unreachable(f"the proxy refused: {exc}", hint="look at --proxy")
        case InvalidProxy() | InvalidURI():
            return UsageError(str(exc), hint="look at --url and --proxy")
        case SecurityError():
            return Unreachable(f"{place} points elsewhere: {exc}")
        case InvalidHandshake():
            return Unreachable(
                f"{place} did not answer as a WebSocket: {exc}", hint="look at --url"
            )
        case ImportError():
            return MissingExtra(
                "a SOCKS proxy needs the extra `socks`", hint="pip install 'kfws[socks]'"
            )
        case _:
            return Unreachable(f"no connection to {place}: {exc}", hint="look at the network")


def _answered(status: int, place: str) -> KfwsError:
    said = f"{place} answered HTTP {status}"
    if status in (401, 403):
        return Unwelcome(f"{said}: not welcome", hint="is this address allowed to connect?")
    if status == 404:
        return Unreachable(f"{said}: no such path", hint="the path of Kraken Futures is /ws/v1")
    if 300 <= status < 400:
        return Unreachable(
            f"{said}: a redirect, not followed", hint="give the final address with --url"
        )
    return Unreachable(said, hint="try again later")
