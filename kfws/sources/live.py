"""One supervised life: dial, pump, watch, redial.

Gives batches of Events and decides nothing about them. What outlives a connection stands here:
which numbers came, what was refused, whether the key ever worked.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Literal, Protocol

import msgspec

from kfws.errors import KfwsError, ReaderTooSlow, Refused, Unreachable, Unwelcome
from kfws.protocol.auth import Credentials, as_shown
from kfws.protocol.events import Cause, Closed, Data, Event, Opened, Redial, Silent, Tick
from kfws.protocol.sequence import Sequences
from kfws.protocol.session import Session, Subscription
from kfws.protocol.wire import decode_typed
from kfws.sources.backoff import DialPace, delays
from kfws.sources.connection import Connection, Read, Target, dial
from kfws.sources.shedding import Shedding

__all__ = ["HEARTBEAT", "Live", "OnFull", "Patience", "Standing", "Taker"]

OnFull = Literal["block", "drop-oldest", "exit"]

HEARTBEAT = Subscription("heartbeat", quiet=True)
_HEARD = Subscription("heartbeat")
FIRST_ATTEMPTS = 5
# Nobody's loop is busy for so long: the process or the machine was stopped.
SUSPENDED_S = 5.0
# A connection that has beaten and then gave nothing for so long may be dead: who leaves now
# cannot tell whether something was on its way.
MISSED_BEATS_S = 3.0
# So long after it a lost connection is put down to it.
BLAME_S = 30.0


class Patience(msgspec.Struct, frozen=True):
    """How long a venue may be silent before it is taken for dead; seconds."""

    ping_every_s: float = 30.0
    """The venue wants a sign of life every 60 s."""
    pong_within_s: float = 20.0
    beat_within_s: float = 10.0
    """Heartbeats come about once a second; their interval is nowhere documented."""
    first_beat_within_s: float = 20.0
    good_after_s: float = 10.0
    """A connection that delivered for so long was a good one: the next wait is short again."""
    tick_s: float = 0.5
    """A wake-up without cause now and then, so that deadlines are looked at; no timer per
    frame."""


PATIENCE = Patience()


class Standing(msgspec.Struct):
    """What is known of the venue in this run; connections side by side share it."""

    stood: bool = False
    key_worked: bool = False
    said_no_beat: bool = False


class Taker(Protocol):
    """Who takes batches in the same breath as they are read, while ``events`` waits."""

    @property
    def has_room(self) -> bool:
        """Whether a batch can be taken now; else it comes by ``events``."""
        ...

    def take(self, events: list[Event]) -> None: ...


class Live:
    """The venue's feeds, live, over as many connections as it takes.

    ``events`` may be iterated once; ``rest`` is for afterwards. What is read while ``events``
    waits goes to the ``taker``, if there is one: waking a task for each read costs more than
    the read. ``attempts``: dials that may
    fail in a row, 0 for any number; by default 5 until a connection stood, then any number.
    ``may_grow``: more may be wanted later, so that no refusal but that of a dial ends it.
    """

    def __init__(
        self,
        target: Target,
        wanted: Sequence[Subscription],
        credentials: Credentials | None = None,
        *,
        attempts: int | None = None,
        resync: bool = True,
        may_grow: bool = False,
        on_full: OnFull = "block",
        sequences: Sequences | None = None,
        pace: DialPace | None = None,
        jitter: Callable[[], float] = random.random,
        patience: Patience = PATIENCE,
        numbers: Iterator[int] | None = None,
        standing: Standing | None = None,
        read: Callable[[bytes], Data] = decode_typed,
    ) -> None:
        if not any(each.feed == HEARTBEAT.feed for each in wanted):
            wanted = (*wanted, HEARTBEAT)
        self._target = target
        self._wanted = sorted(wanted, key=_turn)
        self._credentials = credentials
        self._attempts = attempts
        self._resync = resync
        self._may_grow = may_grow
        self._on_full = on_full
        self._sequences = sequences or Sequences()
        self._pace = pace or DialPace()
        self._jitter = jitter
        self._delays = delays(jitter)
        self._patience = patience
        self._read = read
        self._numbers = numbers or itertools.count(1)
        self._number = 0
        self._failed = 0
        self._served = False
        self._standing = standing or Standing()
        self._refused: set[Subscription] = set()
        self._given_up: set[Subscription] = set()
        """Since the last connection: the next one is not to miss it."""
        self._connection: Connection | None = None
        self._session: Session | None = None
        self._pulse: _Pulse | None = None
        self.on_failure: Callable[[KfwsError], None] | None = None
        """Told at once when a full buffer ends the run: nobody may be taking batches."""
        self.taker: Taker | None = None

    async def events(self) -> AsyncGenerator[list[Event]]:
        """Batches of events, for as long as there is something to wait for.

        Raises Unreachable when the allowed dials failed or a refusal is permanent, Unwelcome
        for a refused key, Refused when nothing is left, OutputError with ``on_full="exit"``.
        Closing the generator closes the connection.
        """
        while True:
            try:
                lost = 0
                connection = await self._dial()
                reason, retry_after_s, lost = "", None, self._number
                async with aclosing(self._pump(connection)) as batches:
                    async for events in batches:
                        yield events
                what = f"connection {lost} to {self._target.place}"
                reason = f"{what} was lost: {_in_words(connection)}"
                if not self._served:
                    raise Unreachable(reason, hint="try again later")
            except KfwsError as exc:
                if not isinstance(exc, Unreachable) or not self._may_go_on(exc):
                    yield [*self._sequences.end(time.time_ns())]
                    if isinstance(exc, Unreachable) and self._standing.stood and not exc.permanent:
                        exc.hint = "it was reached before: is it down, or is the network?"
                    raise
                reason, retry_after_s = exc.message, exc.retry_after_s
            self._pace.hold_until(_now() + (retry_after_s or 0.0))
            delay_s = max(next(self._delays), retry_after_s or 0.0, self._pace.wait(_now()))
            yield [self._redial(reason, lost, delay_s)]
            await asyncio.sleep(delay_s)

    @property
    def buffered(self) -> int:
        """Bytes that came and were not handed out yet."""
        return self._connection.held if self._connection is not None else 0

    def rest(self, patience_s: float | None = None) -> Iterator[list[Event]]:
        """What came and was not handed out before ``events`` was closed; what stays open.

        After ``patience_s`` what is left is not read: of all streams it is said from where on.
        """
        until = None if patience_s is None else time.monotonic() + patience_s
        connection, session, pulse = self._connection, self._session, self._pulse
        now_ns = time.time_ns()
        if connection is not None and session is not None and pulse is not None:
            while events := pulse.take() or _received(connection, session):
                yield events
                if until is not None and time.monotonic() >= until and connection.held:
                    since_ns, now_ns = now_ns, time.time_ns()
                    yield self._sequences.lost(since_ns, now_ns, "slow-reader")
                    break
            if session.beats and connection.silent_s > MISSED_BEATS_S:
                yield self._sequences.lost(connection.read_ns, now_ns, pulse.cause)
            yield [*self._sequences.end(now_ns), self._closed(connection)]
        elif gaps := self._sequences.end(now_ns):
            yield gaps

    def ask_again(self, feed: str, product: str | None) -> None:
        """Asks for a feed anew, for its snapshot; nothing happens where it is not active."""
        session, subscription = self._session, Subscription(feed, product)
        if session is not None and session.states.get(subscription) == "active":
            session.ask_again(subscription)
            self._say()

    def subscribe(self, subscription: Subscription) -> None:
        """Wants one more: from now on where a connection stands, and on every later one."""
        self._refused.discard(subscription)
        self._given_up = {each for each in self._given_up if not each.is_same(subscription)}
        if subscription == _HEARD and HEARTBEAT in self._wanted:
            self.unsubscribe(HEARTBEAT)
        if subscription not in self._wanted:
            self._wanted.append(subscription)
            self._wanted.sort(key=_turn)
        if session := self._standing_session():
            session.subscribe(subscription)
            self._say()

    def unsubscribe(self, subscription: Subscription) -> None:
        """Wants one less, in whatever case it is spelled; the venue is told even if it was not
        wanted."""
        held = [each for each in self._wanted if each.is_same(subscription)] or [subscription]
        self._wanted = [each for each in self._wanted if each not in held]
        self._given_up.update(held)
        if session := self._standing_session():
            for each in held:
                session.unsubscribe(each)
            self._say()
        if subscription == _HEARD:
            self.subscribe(HEARTBEAT)

    async def hang_up(self) -> None:
        """Closes the connection that stands; the next one is dialled."""
        if self._connection is not None:
            await self._connection.leave()

    def _standing_session(self) -> Session | None:
        is_open = self._connection is not None and not self._connection.ended
        return self._session if is_open else None

    def _say(self) -> None:
        """At once: who is slow to take batches need not be slow to ask."""
        if self._pulse is not None:
            self._pulse.beat()

    # Dialling

    async def _dial(self) -> Connection:
        while wait_s := self._pace.wait(_now()):  # noqa: ASYNC110  # others dial meanwhile
            await asyncio.sleep(wait_s)
        self._pace.dialled(_now())
        connection = await dial(self._target)
        self._number = next(self._numbers)
        return connection

    def _may_go_on(self, exc: Unreachable) -> bool:
        """Whether it makes sense to dial again after this."""
        self._failed += 1
        attempts = self._attempts
        if attempts is None:
            attempts = 0 if self._standing.stood else FIRST_ATTEMPTS
        if exc.permanent:
            return False
        return attempts == 0 or self._failed < attempts

    # One connection

    async def _pump(self, connection: Connection) -> AsyncGenerator[list[Event]]:
        for each in self._given_up:
            self._sequences.forget(each.feed, each.product)
        self._given_up.clear()
        session = Session(
            [each for each in self._wanted if each not in self._refused],
            self._credentials,
            sequences=self._sequences,
            key_worked=self._standing.key_worked,
            resync=self._resync,
            may_grow=self._may_grow,
            read=self._read,
        )
        pulse = _Pulse(connection, session, self._sequences, self._patience, self.on_failure)
        self._connection, self._session, self._pulse = connection, session, pulse
        self._served = False
        if self._on_full == "drop-oldest":
            connection.shed = pulse.drop
        elif self._on_full == "exit":
            connection.shed = pulse.fail
        if self.taker is not None:
            connection.at_once = partial(_hand_over, connection, session, pulse, self.taker)
        try:
            yield [self._opened(connection)]
            while True:
                pulse.beat()
                await connection.wait()
                was_idle = True
                while events := pulse.take() or _received(connection, session):
                    was_idle = False
                    yield events
                self._standing.key_worked |= session.key_worked
                self._look_whether_served(session)
                if pulse.failure or session.verdict or (connection.ended and was_idle):
                    break
                if was_idle:
                    yield self._tick(session, connection)
            self._connection = self._session = None
            gaps = []
            # Who leaves over a refusal loses nothing: the run is over.
            if not isinstance(session.verdict, (Refused, Unwelcome)):
                gaps = self._sequences.lost(connection.read_ns, time.time_ns(), pulse.cause)
            yield [*gaps, self._closed(connection)]
            if pulse.failure or session.verdict:
                raise pulse.failure or session.verdict  # type: ignore[misc]
        finally:
            pulse.stop()
            self._remember(session, connection)
            await connection.leave()

    def _remember(self, session: Session, connection: Connection) -> None:
        self._refused |= {each for each, state in session.states.items() if state == "refused"}
        self._look_whether_served(session)
        if connection.lived_s >= self._patience.good_after_s:
            self._delays = delays(self._jitter)

    def _look_whether_served(self, session: Session) -> None:
        """Whether the venue is one: a connection that gave nothing was none to speak of."""
        if not self._served and (session.beats or "active" in session.states.values()):
            self._served = self._standing.stood = True
            self._failed = 0

    def _tick(self, session: Session, connection: Connection) -> list[Event]:
        now_ns = time.time_ns()
        old = connection.lived_s >= self._patience.first_beat_within_s
        refused = session.states.get(HEARTBEAT) == "refused"
        if not session.beats and not self._standing.said_no_beat and (old or refused):
            self._standing.said_no_beat = True
            reason = "no heartbeat: only pings can tell whether the venue lives"
            return [Silent(received_ns=now_ns, feed="heartbeat", product=None, reason=reason)]
        return [Tick(received_ns=now_ns)]

    def _redial(self, reason: str, lost: int, delay_s: float) -> Redial:
        return Redial(
            received_ns=time.time_ns(),
            reason=reason,
            failed=self._failed,
            delay_s=delay_s,
            connection=lost,
        )

    def _opened(self, connection: Connection) -> Opened:
        return Opened(
            received_ns=connection.opened_ns,
            connection=self._number,
            url=as_shown(self._target.url),
        )

    def _closed(self, connection: Connection) -> Closed:
        code, reason = connection.ending
        return Closed(received_ns=time.time_ns(), connection=self._number, code=code, reason=reason)


def _turn(subscription: Subscription) -> tuple[bool, bool]:
    """Public feeds come at once, private ones wait for a challenge anyway; ours is the last."""
    return subscription.is_private, subscription.quiet


class _Pulse:
    """What time brings: requests, deadlines, pings; and what a full buffer brings.

    It beats by a timer of its own, so that the venue sees signs of life while nobody takes
    our batches.
    """

    def __init__(
        self,
        connection: Connection,
        session: Session,
        sequences: Sequences,
        patience: Patience,
        on_failure: Callable[[KfwsError], None] | None,
    ) -> None:
        self._on_failure = on_failure
        self.failure: KfwsError | None = None
        self._connection = connection
        self._session = session
        self._sequences = sequences
        self._loop = asyncio.get_running_loop()
        self._events: list[Event] = []
        self._shedding = Shedding()
        self._patience = patience
        self._ping_at = self._loop.time() + patience.ping_every_s
        self._suspended_at = self._slow_at = float("-inf")
        self._beat_ns = time.time_ns()
        # Kept here: uvloop's handle of what is due at once does not know when.
        self._due = self._loop.time()
        self._timer: asyncio.Handle = self._loop.call_later(0, self._on_time)

    def beat(self) -> None:
        """After each batch: an answer may have made a request possible, or a deadline nearer."""
        if self._session.is_idle:
            return
        now_ns = time.monotonic_ns()
        for request in self._session.outgoing(now_ns):
            self._connection.say(request)
        next_at = self._session.next_at()
        if next_at is not None:
            when = self._loop.time() + max(0.001, (next_at - now_ns) / 1e9)
            if when < self._due:
                self._timer.cancel()
                self._due, self._timer = when, self._loop.call_at(when, self._on_time)

    def take(self) -> list[Event]:
        """What time brought since the last time."""
        if not self._events and self._shedding.is_empty:
            return []
        events, self._events = self._events, []
        return [*events, *self._shedding.take(time.time_ns())]

    @property
    def cause(self) -> Cause:
        """What a loss of the connection is put down to."""
        now = self._loop.time()
        if now - self._suspended_at < BLAME_S:
            return "suspended"
        return "slow-reader" if now - self._slow_at < BLAME_S else "outage"

    def _on_time(self) -> None:
        self._due = self._loop.time() + self._patience.tick_s
        self._timer = self._loop.call_at(self._due, self._on_time)
        connection = self._connection
        self._look_for_a_pause()
        if connection.is_paused:
            self._slow_at = self._loop.time()
        self._events += self._session.tick(
            time.monotonic_ns(),
            time.time_ns(),
            heard_all=connection.hears_all,
            behind_ns=connection.behind_ns,
        )
        self.beat()
        if self._loop.time() >= self._ping_at:
            self._ping_at = self._loop.time() + self._patience.ping_every_s
            connection.send_ping()
        pong_s, beat_s = self._patience.pong_within_s, self._patience.beat_within_s
        if connection.unanswered_s > pong_s:
            connection.give_up(f"no pong within {pong_s:g} s")
        elif self._session.beats and connection.silent_s > beat_s:
            connection.give_up(f"nothing came for {beat_s:g} s, not even a heartbeat")
        connection.wake()

    def _look_for_a_pause(self) -> None:
        """The wall's clock goes on while a laptop sleeps or Ctrl-Z holds us."""
        before_ns, self._beat_ns = self._beat_ns, time.time_ns()
        if self._beat_ns - before_ns > (self._patience.tick_s + SUSPENDED_S) * 1e9:
            self._suspended_at = self._loop.time()
            self._events += self._sequences.suspended(before_ns, self._beat_ns)
            self._connection.excuse()
            self._ping_at = self._loop.time()

    # A full buffer

    def drop(self, reads: Iterable[Read]) -> None:
        """``--on-full drop-oldest``: what is dropped is named; answers of the venue are kept."""
        self._slow_at = self._loop.time()
        now_ns = time.time_ns()
        for read in reads:
            self._shedding.shed(self._session.receive(read.frames, read.received_ns), now_ns)
        self._shedding.shed(self._session.dropped(self._shedding.open_gaps()), now_ns)
        self._connection.wake()

    def fail(self, reads: Iterable[Read]) -> None:
        """``--on-full exit``: the run is over, and what it leaves behind is named as well."""
        self.drop(reads)
        if self.failure is None:
            self.failure = ReaderTooSlow(
                "the reader is too slow: the buffer is full",
                hint="raise --buffer, or choose another --on-full",
            )
            if self._on_failure is not None:
                self._on_failure(self.failure)
        self._connection.wake()

    def stop(self) -> None:
        self._timer.cancel()


def _hand_over(
    connection: Connection, session: Session, pulse: _Pulse, taker: Taker, read: Read
) -> bool:
    """Whether what was read is with the taker; time brought nothing that is not there yet."""
    if not taker.has_room:
        return False
    if events := session.receive(read.frames, read.received_ns):
        taker.take(events)
    if session.has_answers:
        session.has_answers = False
        pulse.beat()
        if session.verdict is not None:
            connection.wake()
    return True


def _now() -> float:
    return asyncio.get_running_loop().time()


def _received(connection: Connection, session: Session) -> list[Event]:
    """The events of the oldest read that is waiting; none where none is."""
    while (read := connection.take()) is not None:
        if events := session.receive(read.frames, read.received_ns):
            return events
    return []


def _in_words(connection: Connection) -> str:
    code, reason = connection.ending
    if code == 1006:
        return reason or "it broke off without a word"
    return f"it was closed ({code}{' ' + reason if reason else ''})"
