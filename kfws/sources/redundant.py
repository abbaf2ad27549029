"""Several lives at once as one stream.

Connections are dialled apart in time, and renewed one at a time before they are old: the new
one stands before the old one goes.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Protocol

from kfws.errors import KfwsError
from kfws.protocol.auth import Credentials
from kfws.protocol.events import Closed, Event, Gap, Notice, Tick
from kfws.protocol.feeds import NUMBERED
from kfws.protocol.sequence import Sequences
from kfws.protocol.session import Subscription
from kfws.protocol.wire import decode_typed, remembering
from kfws.sources.arbiter import Arbiter
from kfws.sources.backoff import DialPace
from kfws.sources.connection import Target
from kfws.sources.live import Live, OnFull, Standing, Taker

__all__ = ["Redundant", "open_source"]

APART_S = 1.0
TICK_S = 0.5
# Events that wait here for the loop; beyond it each connection's own buffer fills.
WAITING_MOST = 2_000
# A new connection has so long to be subscribed before the old one is let go.
SETTLE_S = 5.0
RENEW_S = 12 * 3600.0


class Leg(Protocol):
    """One of the lives: sources/live.py's Live."""

    on_failure: Callable[[KfwsError], None] | None
    taker: Taker | None

    @property
    def buffered(self) -> int: ...

    def events(self) -> AsyncGenerator[list[Event]]: ...

    def rest(self, patience_s: float | None = None) -> Iterator[list[Event]]: ...

    def ask_again(self, feed: str, product: str | None) -> None:
        """Asks for a feed anew, for its snapshot."""
        ...

    def subscribe(self, subscription: Subscription) -> None:
        """Wants one more."""
        ...

    def unsubscribe(self, subscription: Subscription) -> None:
        """Wants one less."""
        ...

    async def hang_up(self) -> None:
        """Closes the connection that stands; the next one is dialled."""
        ...


class _Ear:
    """Takes what a leg hands over in the same breath as it came."""

    def __init__(self, source: Redundant, number: int) -> None:
        self._source = source
        self._number = number

    @property
    def has_room(self) -> bool:
        return self._source.has_room

    def take(self, events: list[Event]) -> None:
        self._source.take(self._number, events)


class Redundant:
    """``count`` legs, made by ``make(number)`` with numbers from 1 on. ``taker`` as in Live."""

    def __init__(
        self,
        make: Callable[[int], Leg],
        count: int,
        *,
        renew_s: float,
        arbiter: Arbiter | None = None,
        apart_s: float = APART_S,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._make = make
        self._count = count
        self._renew_s = renew_s
        self._arbiter = arbiter or Arbiter()
        self._apart_s = apart_s
        self._settle_s = settle_s
        self._made = 0
        self._legs: dict[int, Leg] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._settled: dict[int, asyncio.Event] = {}
        self._out: list[Event] = []
        self._is_idle = False
        """Whether ``events`` waits, and all that was passed on is with who takes it."""
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._failures: list[KfwsError] = []
        self._bug: Exception | None = None
        self.on_failure: Callable[[KfwsError], None] | None = None
        self.taker: Taker | None = None

    async def events(self) -> AsyncGenerator[list[Event]]:
        """Batches of the one stream. Raises what ended the last leg."""
        loop = asyncio.get_running_loop()
        keeper = asyncio.create_task(self._keep())
        try:
            ticked_at = loop.time()
            while True:
                self._is_idle = True
                try:
                    async with asyncio.timeout(self._patience_s()):
                        await self._news.wait()
                except TimeoutError:
                    self._out.append(Tick(received_ns=time.time_ns()))
                self._is_idle = False
                self._news.clear()
                due = self._arbiter.next_at()
                now_ns = time.time_ns()
                is_due = due is not None and now_ns >= due
                # What is missing may lie in a buffer of ours: then it is no time to miss it.
                if not self.buffered and (is_due or loop.time() - ticked_at >= TICK_S):
                    ticked_at = loop.time()
                    self._out += self._arbiter.tick(now_ns)
                    self._ask()
                out, self._out = self._out, []
                self._room.set()
                if out:
                    yield out
                if self._bug is not None:
                    raise self._bug
                if self._failures and not self._tasks:
                    raise self._failures[0]
                if keeper.done():
                    keeper.result()
        finally:
            for task in (keeper, *self._tasks.values()):
                task.cancel()
            await asyncio.gather(keeper, *self._tasks.values(), return_exceptions=True)

    @property
    def buffered(self) -> int:
        """Bytes that came and were not handed out yet, on all connections."""
        return sum(leg.buffered for leg in self._legs.values())

    def rest(self, patience_s: float | None = None) -> Iterator[list[Event]]:
        """What came and was not handed out before ``events`` was closed."""
        now_ns = time.time_ns()
        out, self._out = self._out, []
        closed: list[Event] = []  # by us: no reason to take anything over
        silent: dict[tuple[str, str | None], list[Gap]] = {}
        for number, leg in self._legs.items():
            for events in leg.rest(patience_s):
                closed += [each for each in events if isinstance(each, Closed)]
                others = [each for each in events if not isinstance(each, Closed)]
                out += self._arbiter.receive(number, others, now_ns)
                for each in events:
                    if isinstance(each, Gap) and each.last is None and each.first is not None:
                        silent.setdefault((each.feed, each.product), []).append(each)
        ends = self._arbiter.end(now_ns)
        named = {(each.feed, each.product) for each in ends if isinstance(each, Gap)}
        for key, gaps in silent.items():
            # All are silent: nobody can tell whether something was on its way.
            if key not in named and len(gaps) == len(self._legs):
                ends.append(max(gaps, key=lambda each: each.first or 0))
        yield [*out, *ends, *closed]

    def subscribe(self, subscription: Subscription) -> None:
        """Wants one more, of all legs; what ``make`` makes later has to know it as well."""
        if not self._arbiter.is_acknowledged(subscription.feed, subscription.product):
            # What came behind our back since it was given up, and an old refusal.
            self._arbiter.forget(subscription.feed, subscription.product)
        for leg in self._legs.values():
            leg.subscribe(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Wants one less, of all legs."""
        self._arbiter.forget(subscription.feed, subscription.product)
        for leg in self._legs.values():
            leg.unsubscribe(subscription)

    async def hang_up(self) -> None:
        """Closes all connections that stand; each leg dials its next one."""
        await asyncio.gather(*(leg.hang_up() for leg in self._legs.values()))

    def _patience_s(self) -> float:
        due = self._arbiter.next_at()
        if due is None or self.buffered:
            return TICK_S
        return min(TICK_S, max(0.001, (due - time.time_ns()) / 1e9))

    async def _keep(self) -> None:
        """Starts the legs, and replaces the oldest when its time has come."""
        for _ in range(self._count):
            self._start()
            await asyncio.sleep(self._apart_s)
        while True:
            await asyncio.sleep(self._renew_s / self._count)
            oldest, number = min(self._tasks), self._start()
            try:
                await asyncio.wait_for(self._settled[number].wait(), self._settle_s)
            except TimeoutError:
                await self._retire(number)  # the next renewal tries again
            else:
                self._arbiter.hand_over(oldest)
                await asyncio.sleep(self._settle_s / 2)
                if oldest in self._tasks and len(self._tasks) > self._count:
                    await self._retire(oldest)

    def _start(self) -> int:
        self._made += 1
        number = self._made
        self._legs[number] = self._make(number)
        self._legs[number].on_failure = self.on_failure
        self._legs[number].taker = _Ear(self, number)
        self._settled[number] = asyncio.Event()
        self._tasks[number] = asyncio.create_task(self._run(number, self._legs[number]))
        return number

    async def _retire(self, number: int) -> None:
        task = self._tasks.pop(number, None)
        if task is None:
            return  # it gave up by itself
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for events in self._legs.pop(number).rest():
            self.take(number, events)

    async def _run(self, number: int, leg: Leg) -> None:
        try:
            async with aclosing(leg.events()) as batches:
                async for events in batches:
                    self.take(number, events)
                    while not self.has_room:
                        self._room.clear()
                        await self._room.wait()
        except KfwsError as exc:
            self._tasks.pop(number, None)
            self._failures.append(exc)
            if self._tasks:
                self._out.append(
                    Notice(
                        payload=None,
                        received_ns=time.time_ns(),
                        event="alert",
                        message=f"one of {self._count} connections is given up: {exc.message}",
                    )
                )
            self._news.set()
        except Exception as exc:  # no venue is to blame: the others do not make up for it
            self._bug = exc
            self._news.set()

    @property
    def has_room(self) -> bool:
        """Whether a leg's batch can be taken now."""
        return len(self._out) <= WAITING_MOST

    def take(self, number: int, events: list[Event]) -> None:
        """A leg's batch: what is new of it is handed over in the same breath if it can be."""
        known = self._arbiter.acknowledgements
        out = self._arbiter.receive(number, events, time.time_ns())
        if self._arbiter.acknowledgements != known:
            others = set(self._tasks) - {number}
            if all(self._arbiter.covers(number, other) for other in others):
                self._settled[number].set()
        self._ask()
        if self._arbiter.is_waiting:
            self._news.set()  # it is to be looked when that is over
        if not out:
            return
        if self._is_idle and not self._out and self.taker is not None and self.taker.has_room:
            self.taker.take(out)
        else:
            self._out += out
            self._news.set()

    def _ask(self) -> None:
        """Has the legs ask for what the arbiter lacks."""
        for leg, (feed, product) in self._arbiter.asks:
            if leg in self._legs:
                self._legs[leg].ask_again(feed, product)
        self._arbiter.asks.clear()


def open_source(
    target: Target,
    wanted: Sequence[Subscription],
    credentials: Credentials | None,
    *,
    redundancy: int = 1,
    renew_s: float = RENEW_S,
    attempts: int | None = None,
    resync: bool = True,
    may_grow: bool = False,
    on_full: OnFull = "block",
    snapshots_pass: bool = True,
) -> Live | Redundant:
    """The venue by one connection, or by ``redundancy`` of them; the rest as in Live.

    ``wanted`` is looked at anew for each connection that is renewed, so it may change.
    """
    pace, numbers, standing = DialPace(), itertools.count(1), Standing()
    # Copies of what has no number are matched by all that they say: to remember it costs no more.
    is_numbered = all(each.feed in NUMBERED for each in wanted)
    read = decode_typed if redundancy == 1 or is_numbered else remembering()

    def live(*, resync: bool, snapshots_pass: bool) -> Live:
        return Live(
            target,
            wanted,
            credentials,
            attempts=attempts,
            resync=resync,
            may_grow=may_grow,
            on_full=on_full,
            sequences=Sequences(snapshots_pass=snapshots_pass),
            pace=pace,
            numbers=numbers,
            standing=standing,
            read=read,
        )

    if redundancy == 1:
        return live(resync=resync, snapshots_pass=snapshots_pass)
    # Each leg tells all that it saw; what of it is lost is the arbiter's to say.
    return Redundant(
        lambda _: live(resync=False, snapshots_pass=True),
        redundancy,
        renew_s=renew_s,
        arbiter=Arbiter(snapshots_pass=snapshots_pass, resync=resync),
    )
