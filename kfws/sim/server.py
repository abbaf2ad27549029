"""The simulated venue behind a real WebSocket server.

Rule of this room: it moves bytes and time, and knows nothing of what they mean. One task
advances the market and writes what came of it, many frames in one write for each connection.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import struct
import time
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from random import Random
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as listen
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State

from kfws.errors import UsageError
from kfws.protocol.auth import DEMO
from kfws.protocol.venue import Conversation, Publication, Venue
from kfws.sim.desk import Answer, Asked, Desk
from kfws.sim.faults import (
    Counters,
    Course,
    Ending,
    Faults,
    Greeting,
    Later,
    Sent,
    Step,
    Struck,
    Withheld,
)
from kfws.sim.ledger import Ledger
from kfws.sim.market import Market
from kfws.sim.recorded import Recorded
from kfws.tapes.tape import Tape

__all__ = ["SimOptions", "SimulatedVenue", "serve"]

STEP_S = 0.02
"""How often the market is advanced. Its bytes do not depend on it."""

MOST_AT_ONCE_MS = 250
"""Of market time in one step: a rate that this machine cannot keep up with makes the market
late, instead of each step longer than the one before."""

QUIET_S = 0.05
"""The market begins to move so long after the last of the first subscriptions, so that a
client that sends one request per product finds the same market each time."""

PATIENCE_S = 5.0
"""It begins at the latest so long after the first of them."""

MOST_UNSENT = 16 * 1024 * 1024
"""Bytes kept for a client that does not read; beyond that it is dropped, as venues do."""

MOST_CONNECTIONS = 100
"""The venue's documented limit for one client. What it does beyond is unknown."""

LARGEST_REQUEST = 1024 * 1024

OPEN_TIMEOUT_S = 10.0

FAREWELL_S = 0.15
"""How long a client may take to answer a closing handshake."""

RECEIVED_KEPT = 1000

END = "end of the tape"
"""Why connections are closed then."""


@dataclass(frozen=True, slots=True)
class SimOptions:
    """What the simulated venue is to be.

    ``port`` 0 takes any free one. ``start_ms`` is the market's first moment, None the clock's.
    ``rate`` and ``products`` as in ``Market``. With ``tls_cert`` and ``tls_key`` (PEM files) it
    speaks TLS. ``compression`` accepts permessage-deflate when a client offers it.
    """

    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 1
    start_ms: int | None = None
    rate: float | None = None
    products: int | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    compression: bool = False
    idle_close_s: float = 60.0
    """A client that sent nothing for so long, no ping frame either, is closed with 1001. The
    documentation asks for a sign of life every 60 s; the live code is unknown."""
    faults: Sequence[str] = ()
    """What is to break, as ``kfws.sim.faults`` parses it."""
    rest_port: int | None = None
    """Where the whole REST face listens: 0 takes any free port, None leaves it out. Without it,
    ``port`` answers what is public all the same."""
    ledger: str | None = None
    """A path: what was sent, and what was not, is written there (``kfws.sim.ledger``)."""
    tapes: Sequence[Tape] = ()
    """Tapes to be played instead of a simulated market; the market's own options mean nothing."""
    tape_speed: float = 1.0


class SimulatedVenue:
    """A venue at work: where it is, and facts that a test can wait for."""

    def __init__(self, options: SimOptions) -> None:
        self._options = options
        self.market: Market | Recorded
        if options.tapes:
            self.market = Recorded(options.tapes, options.tape_speed)
            self._clock = _Clock(self.market.start_ms)
        else:
            self._clock = _Clock(options.start_ms)
            self.market = Market(
                options.seed, self._clock.now_ms(), products=options.products, rate=options.rate
            )
        self.ended = asyncio.Event()
        """Set when the tapes are at their end."""
        self._counters = Counters()
        numbered = _Numbered(self.market, self._counters)
        accounts = {DEMO.key: DEMO.secret}
        self._venue = Venue(numbered, accounts, self._new_challenge)
        self._desk: Desk | Recorded = (
            Desk(self.market, accounts) if isinstance(self.market, Market) else self.market
        )
        self.faults = Faults(options.faults, options.seed)
        self.ledger = None if options.ledger is None else Ledger(options.ledger)
        self.must_restart = False
        self._opened = 0
        self._first_client_at: float | None = None
        self._ever_held: set[tuple[str, str | None]] = set()
        self._challenges = Random(f"{options.seed} challenges")
        self._links: set[_Link] = set()
        self._received: deque[str | bytes] = deque(maxlen=RECEIVED_KEPT)
        self._news = asyncio.Event()
        self.port = self.rest_port = 0

    def _new_challenge(self) -> str:
        return str(uuid.UUID(int=self._challenges.getrandbits(128), version=4))

    @property
    def url(self) -> str:
        """Where a client connects."""
        return f"{'wss' if self._options.tls_cert else 'ws'}://{self._host}:{self.port}/ws/v1"

    @property
    def rest_url(self) -> str:
        """The base of REST requests: the whole face where it listens, else what is public."""
        scheme = "https" if self._options.tls_cert else "http"
        return f"{scheme}://{self._host}:{self.rest_port or self.port}"

    @property
    def _host(self) -> str:
        return f"[{self._options.host}]" if ":" in self._options.host else self._options.host

    @property
    def connections(self) -> int:
        """How many WebSocket connections stand."""
        return sum(link.is_open for link in self._links)

    @property
    def received(self) -> list[str | bytes]:
        """The last requests of all clients, oldest first."""
        return list(self._received)

    def holds(self, feed: str, product: str | None = None) -> bool:
        """Whether any connection is subscribed."""
        wanted = (feed, product)
        return any(wanted in link.conversation.held for link in self._links if link.is_open)

    async def until(self, fact: Callable[[], bool]) -> None:
        """Waits until something is so. Looked at whenever a client comes, speaks or leaves."""
        while not fact():
            await self._news.wait()

    async def until_subscribed(self, feed: str, product: str | None = None) -> None:
        await self.until(lambda: self.holds(feed, product))

    async def drop(self) -> None:
        """Tears every connection without a word, as a failing network does."""
        self.cut()
        await self.until(lambda: not self.connections)

    def cut(self) -> None:
        """Begins to tear every connection, those in their handshake too."""
        for link in tuple(self._links):
            link.transport.abort()

    def restart(self) -> None:
        """The engine restarts: every connection is torn, the numbers count on from lower ones."""
        self.must_restart = False
        self._counters.restart()
        if self.ledger is not None:
            self.ledger.note(restart=True)
        for link in tuple(self._links):
            link.tear()

    # What the server calls.

    def converse(self) -> Conversation:
        return self._venue.converse()

    def made(self, link: _Link) -> None:
        self._links.add(link)

    def lost(self, link: _Link) -> None:
        self._links.discard(link)
        self._tell()

    async def attend(self, connection: ServerConnection) -> None:
        """One connection, from its first frame to its last."""
        link = cast(_Link, connection)  # create_connection makes no other
        self._opened += 1
        link.open(self.faults.course(self._opened))
        self._strike()
        idle = asyncio.create_task(link.close_when_idle(self._options.idle_close_s))
        try:
            link.carry_out(link.course.answer(link.conversation.opened()))
            self._tell()
            async for text in link:
                self._received.append(text)
                link.answer(text, self._clock.now_ms())
                if self.market.has_started:
                    self._clock.touch()
                self._tell()
        except ConnectionClosed:
            pass  # torn: the client's affair
        finally:
            idle.cancel()
            await asyncio.wait({idle})

    async def keep_time(self) -> None:
        """The market's pulse."""
        reached = self._clock.now_ms()
        while True:
            await asyncio.sleep(STEP_S)
            self._strike()
            if not self._clock.is_running():
                reached = self._clock.now_ms()
                continue
            reached = min(self._clock.now_ms(), reached + MOST_AT_ONCE_MS)
            self._publish(self.market.advance(reached))
            if self.market.is_over:
                await self._end()
                return

    async def _end(self) -> None:
        """The tapes are at their end: every client is told so, and nobody gets a second showing."""
        closing = [link.close(CloseCode.NORMAL_CLOSURE, END) for link in tuple(self._links)]
        await asyncio.gather(*closing)
        self.ended.set()

    def _publish(self, published: list[Publication]) -> None:
        if self._counters.restarts:
            published = [self._counters.renumber(each) for each in published]
        for link in tuple(self._links):
            link.publish(published)
        if self.ledger is not None:
            self._note_unheard(published, self.ledger)

    def answer_rest(self, asked: Asked) -> Answer:
        """The answer to a request; what comes of it is on the feeds at once."""
        had_started = self.market.has_started
        self.market.stand_until(self._clock.now_ms())
        answer = self._desk.answer(asked)
        if self.market.has_started and not had_started:
            self._clock.touch()
        self._publish(answer.published)
        return answer

    def _strike(self) -> None:
        """Lets those faults begin whose time has come."""
        standing = {link.course.number: link for link in self._links if link.is_open}
        courses = [standing[number].course for number in sorted(standing)]
        for course, fault in self.faults.aim(self._seconds(), courses):
            standing[course.number].carry_out(course.suffer(fault))
        if self.must_restart:
            self.restart()

    def _seconds(self) -> float:
        """Since the first client came."""
        now = time.monotonic()
        if self._first_client_at is None:
            return 0.0
        return now - self._first_client_at

    def _note_unheard(self, published: list[Publication], ledger: Ledger) -> None:
        held: set[tuple[str, str | None]] = set()
        for link in self._links:
            held |= link.conversation.held if link.is_open else set()
        self._ever_held |= held
        lost = self._ever_held - held
        for each in published if lost else ():
            streams = {(each.feed, each.product), (each.feed, None)}
            if streams & lost and not streams & held:
                ledger.note(unheard=each.payload.decode())
        ledger.flush()

    async def answer(self, _: ServerConnection, request: Request) -> Response | None:
        """HTTP on the same port; None lets a WebSocket handshake go on."""
        target = urlsplit(request.path)
        path = unquote(target.path)
        if path == "/" or path.endswith("/ws/v1"):
            if self.connections >= MOST_CONNECTIONS:
                return _json(HTTPStatus.TOO_MANY_REQUESTS, b'{"result":"error"}')
            if self._first_client_at is None:
                self._first_client_at = time.monotonic()
            return await self._greet(self.faults.greet(self._opened + 1, self._seconds()))
        answer = self._desk.public(Asked("GET", path, target.query))
        if answer is None:
            return _json(HTTPStatus.NOT_FOUND, self.market.not_found())
        return _json(HTTPStatus(answer.status), answer.body)

    async def _greet(self, greeting: Greeting) -> Response | None:
        if self.ledger is not None:
            for spec in greeting.struck:
                self.ledger.note(struck=spec)
            if greeting.status is not None:
                self.ledger.note(refused=greeting.status)
        if greeting.delay_s:
            await asyncio.sleep(greeting.delay_s)
        if greeting.status is None:
            return None
        refusal = _json(HTTPStatus(greeting.status), b'{"result":"error"}')
        if greeting.retry_after is not None:
            refusal.headers["Retry-After"] = greeting.retry_after
        return refusal

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class _Link(ServerConnection):
    """A connection that is written to in batches and knows when it last heard of its client."""

    def __init__(self, venue: SimulatedVenue, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._venue = venue
        self.conversation = venue.converse()
        self.course = UNOPENED
        self.heard_at = self.loop.time()
        self._is_deaf = False
        self._closing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the handshake is through and nobody began to close."""
        return self.protocol.state is State.OPEN and self.course is not UNOPENED

    def open(self, course: Course) -> None:
        """The handshake is through."""
        self.course = course
        self._note(opened=True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._venue.made(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.course is not UNOPENED:
            self._note_end()
        self._venue.lost(self)

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self.heard_at = self.loop.time()  # ping frames count, too
        super().data_received(data)

    def publish(self, published: Iterable[Publication]) -> None:
        """Sends what this connection is subscribed to."""
        wants = self.conversation.wants
        mine = [each for each in published if wants(each.feed, each.product)]
        if mine:
            self.carry_out(self.course.carry(mine))

    def answer(self, text: str | bytes, now_ms: int) -> None:
        """Sends what the venue says to a request."""
        self.carry_out(self.course.request(text, lambda: self.conversation.receive(text, now_ms)))

    def carry_out(self, steps: Iterable[Step]) -> None:
        """Sends what is to be sent, and lets end what is to end, in this order."""
        frames: list[Frame] = []
        ledger = self._venue.ledger
        for step in steps:
            match step:
                case Sent(payload, is_binary) if self._can_send:
                    frames.append(Frame(Opcode.BINARY if is_binary else Opcode.TEXT, payload))
                    if ledger is not None:
                        ledger.sent(self.course.number, payload, is_binary=is_binary)
                case Sent(payload):
                    self._note(withheld=payload.decode(), by="closed")
                case Withheld(payload, fault):
                    self._note(withheld=payload.decode(), by=fault)
                case Struck(spec):
                    self._note(struck=spec)
                case Later(delay_s, payload):
                    self.loop.call_later(delay_s, self._send_later, payload)
                case Ending():
                    self._write(frames)
                    frames = []
                    self._end(step)
        self._write(frames)

    @property
    def _can_send(self) -> bool:
        return self.protocol.state is State.OPEN and not self.transport.is_closing()

    def _write(self, frames: list[Frame]) -> None:
        """In one go: no await and no system call for each of them."""
        if self._venue.ledger is not None:
            self._venue.ledger.flush()
        if not frames:
            return
        extensions = self.protocol.extensions
        self.transport.write(
            b"".join(frame.serialize(mask=False, extensions=extensions) for frame in frames)
        )
        if self.transport.get_write_buffer_size() > MOST_UNSENT:
            self.transport.abort()

    def _send_later(self, payload: bytes) -> None:
        if not self.course.is_mute:
            self.carry_out([Sent(payload)])

    def _end(self, ending: Ending) -> None:
        match ending.how:
            case "drop":
                self.tear()
            case "close":
                self._closing = self.loop.create_task(self.close(ending.code))
            case "half-open":
                self._is_deaf = True
            case "restart":
                # Not amid a batch: what was published before keeps its numbers.
                self._venue.must_restart = True

    def tear(self) -> None:
        """Ends the connection with a reset: what is on its way may be lost."""
        linger = struct.pack("ii", 1, 0)  # on, and no time at all: close(2) sends RST
        self.transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, linger)
        self.transport.abort()

    def _note(self, **what: bool | int | str) -> None:
        if self._venue.ledger is not None:
            self._venue.ledger.note(self.course.number, **what)

    def _note_end(self) -> None:
        protocol = self.protocol
        self.carry_out(self.course.unsent())
        # We closed and the client answered: it has read all that came before.
        clean = protocol.close_rcvd is not None and protocol.close_rcvd_then_sent is False
        self._note(closed=protocol.close_code or int(CloseCode.ABNORMAL_CLOSURE), clean=clean)

    async def close_when_idle(self, idle_s: float) -> None:
        left = idle_s
        while left > 0:
            await asyncio.sleep(left)
            left = self.heard_at + idle_s - self.loop.time()
        await self.close(CloseCode.GOING_AWAY, "no sign of life")


UNOPENED = Course(0, [], Random(0))
"""Of a connection whose handshake is not through. Nothing is ever sent on it."""


class _Numbered:
    """The market with the numbers that it has since its last restart."""

    def __init__(self, market: Market | Recorded, counters: Counters) -> None:
        self._market = market
        self._counters = counters
        self.products: Sequence[str] = market.products
        self.feeds = market.feeds

    def snapshot(self, feed: str, product: str | None, now_ms: int) -> list[bytes]:
        frames = self._market.snapshot(feed, product, now_ms)
        return [
            self._counters.renumber(Publication(feed, product, each)).payload for each in frames
        ]


class _Clock:
    """The market's time: it stands at the start until the first subscriptions are through.

    It is never set back or forward with the computer's clock.
    """

    def __init__(self, start_ms: int | None) -> None:
        self._is_live = start_ms is None
        self._start_ms = time.time_ns() // 1_000_000 if start_ms is None else start_ms
        self._created_at = time.monotonic()
        self._first_at: float | None = None
        self._last_at = 0.0
        self._began_at: float | None = None

    def now_ms(self) -> int:
        if self._is_live:
            return self._start_ms + int(1000 * (time.monotonic() - self._created_at))
        if self._began_at is None:
            return self._start_ms
        return self._start_ms + int(1000 * (time.monotonic() - self._began_at))

    def touch(self) -> None:
        """Somebody subscribed."""
        self._last_at = time.monotonic()
        self._first_at = self._first_at or self._last_at

    def is_running(self) -> bool:
        if self._began_at is None and self._first_at is not None:
            now = time.monotonic()
            if now - self._last_at >= QUIET_S or now - self._first_at >= PATIENCE_S:
                self._began_at = now
        return self._began_at is not None


@asynccontextmanager
async def serve(options: SimOptions) -> AsyncGenerator[SimulatedVenue]:
    """The simulated venue, until the context is left; then every client is told 1001.

    Raises OSError where it cannot listen, UsageError for options that make no market.
    """
    venue = SimulatedVenue(options)
    # What clients do wrong is their affair: this server prints nothing.
    logger = logging.Logger("kfws.sim", logging.CRITICAL + 1)
    logger.addHandler(logging.NullHandler())
    server = await listen(
        venue.attend,
        options.host,
        options.port,
        ssl=_tls(options),
        process_request=venue.answer,
        open_timeout=OPEN_TIMEOUT_S + venue.faults.slowest_s,
        # A wrapper does as well as a class, says websockets; its annotation does not.
        create_connection=cast(type[ServerConnection], partial(_Link, venue)),
        compression="deflate" if options.compression else None,
        ping_interval=None,
        close_timeout=FAREWELL_S,
        max_size=LARGEST_REQUEST,
        server_header=None,
        logger=logger,
    )
    venue.port = next(iter(server.sockets)).getsockname()[1]
    pulse = asyncio.create_task(venue.keep_time())
    try:
        async with _rest(options, venue):
            yield venue
    finally:
        pulse.cancel()
        await asyncio.wait({pulse})
        await _close(server, venue)
        if venue.ledger is not None:
            venue.ledger.close()


@asynccontextmanager
async def _rest(options: SimOptions, venue: SimulatedVenue) -> AsyncGenerator[None]:
    if options.rest_port is None:
        yield
        return
    from kfws.sim.rest import listen as listen_for_rest

    async with listen_for_rest(
        venue.answer_rest, options.host, options.rest_port, _tls(options)
    ) as venue.rest_port:
        yield


async def _close(server: Server, venue: SimulatedVenue) -> None:
    """Says farewell, and cuts off who does not answer or never asked for anything."""
    server.close(code=CloseCode.GOING_AWAY)
    waiting = asyncio.ensure_future(server.wait_closed())
    await asyncio.wait({waiting}, timeout=FAREWELL_S)
    venue.cut()
    # Not for ever: a handshake may be in the middle of a fault that takes its time.
    await asyncio.wait({waiting}, timeout=FAREWELL_S)
    waiting.cancel()


def _tls(options: SimOptions) -> ssl.SSLContext | None:
    if options.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(options.tls_cert, options.tls_key)
    except OSError as exc:
        raise UsageError(
            f"{options.tls_cert} and {options.tls_key} cannot be used for TLS: "
            f"{exc.strerror or exc}",
            hint="give a certificate and its private key, both PEM",
        ) from exc
    return context


def _json(status: HTTPStatus, body: bytes) -> Response:
    headers: dict[str, Any] = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    return Response(status.value, status.phrase, Headers(headers), body)
