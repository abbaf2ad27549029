"""Several lives at once as one stream, against scripted legs and a real venue."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing

import pytest

from kfws.errors import KfwsError, Unreachable
from kfws.protocol.events import Closed, Data, Event, Gap, Notice, Opened, Subscribed, Tick
from kfws.protocol.session import Subscription
from kfws.sim.server import SimOptions, serve
from kfws.sources.arbiter import Arbiter
from kfws.sources.backoff import DialPace
from kfws.sources.connection import Target
from kfws.sources.live import Live, Taker
from kfws.sources.redundant import Redundant, open_source

P = "PF_XBTUSD"


def book(seq: int) -> Data:
    return Data(payload=b'{"seq":%d}' % seq, feed="book", product=P, seq=seq)


def opened(number: int) -> list[Event]:
    subscribed = Subscribed(payload=b"{}", received_ns=0, feed="book", products=(P,))
    return [Opened(received_ns=0, connection=number, url="ws://x"), subscribed]


class Scripted:
    """A leg that gives its batches, then stands until it is closed, or fails."""

    def __init__(
        self,
        *batches: list[Event],
        error: Exception | None = None,
        rest: tuple[list[Event], ...] = (),
    ) -> None:
        self.on_failure: Callable[[KfwsError], None] | None = None
        self.taker: Taker | None = None
        self._batches = batches
        self._error = error
        self._rest = rest
        self.asked: list[tuple[str, str | None]] = []
        self.told: list[tuple[str, Subscription]] = []
        self.hung_up = False
        self.closed = False

    async def events(self) -> AsyncGenerator[list[Event]]:
        try:
            for batch in self._batches:
                yield batch
            if self._error is not None:
                for _ in range(50):  # the other legs are started meanwhile
                    await asyncio.sleep(0)
                raise self._error
            await asyncio.Event().wait()
        finally:
            self.closed = True

    buffered = 0

    def rest(self, patience_s: float | None = None) -> Iterator[list[Event]]:
        yield from self._rest

    def ask_again(self, feed: str, product: str | None) -> None:
        self.asked.append((feed, product))

    def subscribe(self, subscription: Subscription) -> None:
        self.told.append(("subscribe", subscription))

    def unsubscribe(self, subscription: Subscription) -> None:
        self.told.append(("unsubscribe", subscription))

    async def hang_up(self) -> None:
        self.hung_up = True


def redundant(*legs: Scripted, count: int = 2, renew_s: float = 60) -> Redundant:
    return Redundant(
        lambda number: legs[number - 1], count, renew_s=renew_s, apart_s=0, settle_s=0.05
    )


async def collect(source: Redundant, enough: Callable[[list[Event]], bool]) -> list[Event]:
    found: list[Event] = []
    async with aclosing(source.events()) as batches:
        async for events in batches:
            found += [each for each in events if not isinstance(each, Tick)]
            if enough(found):
                break
    return found


def numbers(events: list[Event]) -> list[int | None]:
    return [each.seq for each in events if isinstance(each, Data)]


async def test_what_one_leg_lacks_another_brings() -> None:
    one = Scripted(opened(1), [book(1), book(4)])
    other = Scripted(opened(2), [book(1), book(2), book(3)])
    events = await collect(redundant(one, other), lambda found: len(numbers(found)) == 4)
    assert numbers(events) == [1, 2, 3, 4]
    assert one.closed
    assert other.closed


async def test_a_gap_of_all_legs_is_named_in_time_and_one_leg_asks_for_the_book() -> None:
    one = Scripted(opened(1), [book(1), book(3)])
    other = Scripted(opened(2), [book(1), book(3)])
    events = await collect(redundant(one, other), lambda found: len(numbers(found)) == 2)
    [gap] = [each for each in events if isinstance(each, Gap)]
    assert (gap.first, gap.last) == (2, 2)
    assert one.asked + other.asked == [("book", P)]


async def test_one_leg_that_is_given_up_is_said_and_the_last_one_ends_the_stream() -> None:
    one = Scripted(opened(1), [book(1)], error=Unreachable("no more"))
    source = redundant(one, Scripted(opened(2), [book(1), book(2)]))
    events = await collect(source, lambda found: any(isinstance(x, Notice) for x in found))
    [notice] = [each for each in events if isinstance(each, Notice)]
    assert "one of 2 connections is given up: no more" in notice.message
    assert notice.payload is None
    alone = redundant(one, count=1)
    with pytest.raises(Unreachable, match="no more"):
        await collect(alone, lambda found: False)


async def test_a_leg_is_renewed_and_the_new_one_stands_before_the_old_one_goes() -> None:
    legs = [
        Scripted(opened(n), [book(1)], rest=([book(n)], [Closed(
            received_ns=0, connection=n, code=1000, reason="")]))
        for n in range(1, 5)
    ]  # fmt: skip
    source = redundant(*legs, renew_s=0.1)
    events = await collect(source, lambda found: any(isinstance(x, Closed) for x in found))
    kinds = [type(each) for each in events]
    assert kinds.count(Opened) == 3
    assert kinds.index(Closed) > len(kinds) - 1 - kinds[::-1].index(Opened)
    assert legs[0].closed


async def test_what_waited_in_the_legs_is_the_rest() -> None:
    closed = Closed(received_ns=0, connection=1, code=1000, reason="")
    one = Scripted(opened(1), [book(1)], rest=([book(2)], [closed]))
    source = redundant(one, Scripted(opened(2)))
    await collect(source, lambda found: numbers(found) == [1])
    [rest] = source.rest()
    assert numbers(rest) == [2]
    assert rest[-1] is closed
    assert not any(isinstance(each, Gap) for each in rest)


async def test_two_real_connections_one_of_which_is_torn_lose_nothing() -> None:
    async with serve(SimOptions(rate=200, faults=("drop@2s:conn=1",))) as venue:
        pace, order = DialPace(), itertools.count(1)

        def live(_: int) -> Live:
            wanted = [Subscription("book", P)]
            return Live(Target(venue.url), wanted, resync=False, pace=pace, numbers=order)

        source = Redundant(live, 2, renew_s=60)
        events = await collect(
            source, lambda found: sum(isinstance(each, Opened) for each in found) == 3
        )
    books = [each for each in events if isinstance(each, Data) and each.feed == "book"]
    deltas = [each.seq for each in books if each.kind == "delta"]
    first = deltas[0]
    assert first is not None
    assert deltas == list(range(first, first + len(deltas)))
    assert not any(isinstance(each, Gap) for each in events)


async def test_a_fault_of_ours_in_a_leg_ends_the_stream() -> None:
    broken = Scripted(opened(1), error=ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        await collect(redundant(broken, Scripted(opened(2))), lambda found: False)


class Prompt:
    """Takes what is handed over in the same breath, as long as it has room."""

    def __init__(self) -> None:
        self.has_room = True
        self.taken: list[Event] = []

    def take(self, events: list[Event]) -> None:
        self.taken += events


async def test_what_comes_while_nothing_waits_is_handed_over_in_the_same_breath() -> None:
    legs = Scripted(opened(1)), Scripted(opened(2))
    source, prompt = redundant(*legs), Prompt()
    source.taker = prompt
    async with aclosing(source.events()) as batches:
        pulling = asyncio.create_task(anext(batches))
        while not all(leg.taker for leg in legs):  # noqa: ASYNC110  # both have begun
            await asyncio.sleep(0)
        one, other = (leg.taker for leg in legs)
        assert one is not None
        assert other is not None
        while len(prompt.taken) < 3:  # noqa: ASYNC110  # what they said first went the same way
            await asyncio.sleep(0)
        one.take([book(1), book(2)])
        other.take([book(1), book(2), book(3)])
        assert numbers(prompt.taken) == [1, 2, 3]
        prompt.has_room = False
        one.take([book(3), book(4)])
        prompt.has_room = True
        other.take([book(4), book(5)])
        assert numbers(await pulling) == [4, 5], "what waits is not overtaken"
        assert numbers(prompt.taken) == [1, 2, 3]


async def test_what_may_lie_in_a_buffer_of_ours_is_not_missed_yet() -> None:
    one, other = Scripted(opened(1), [book(1), book(3)]), Scripted(opened(2))
    other.buffered = 1
    source = Redundant(
        lambda number: (one, other)[number - 1],
        2,
        renew_s=60,
        apart_s=0,
        arbiter=Arbiter(wait_ns=1),
    )
    found: list[Event] = []
    async with aclosing(source.events()) as batches:
        while not any(isinstance(each, Tick) for each in found):
            found += await anext(batches)
        assert numbers(found) == [1]
        assert not any(isinstance(each, Gap) for each in found)
        other.buffered = 0
        assert other.taker is not None
        other.taker.take([book(2)])
        assert numbers(await anext(batches)) == [2, 3]


async def test_what_is_wanted_later_is_told_to_all_legs() -> None:
    legs = Scripted(opened(1)), Scripted(opened(2))
    source = redundant(*legs)
    await collect(source, lambda found: sum(isinstance(x, Opened) for x in found) == 2)
    wanted, held = Subscription("ticker", P), Subscription("book", P)
    source.subscribe(wanted)
    source.subscribe(held)  # acknowledged before
    source.unsubscribe(held)
    for leg in legs:
        assert leg.told == [("subscribe", wanted), ("subscribe", held), ("unsubscribe", held)]


async def test_all_legs_hang_up() -> None:
    legs = Scripted(opened(1)), Scripted(opened(2))
    source = redundant(*legs)
    await collect(source, lambda found: sum(isinstance(x, Opened) for x in found) == 2)
    await source.hang_up()
    assert [leg.hung_up for leg in legs] == [True, True]


@pytest.mark.parametrize(("redundancy", "kind"), [(1, Live), (2, Redundant)])
async def test_the_venue_is_one_connection_or_several(redundancy: int, kind: type) -> None:
    source = open_source(Target("ws://127.0.0.1:1"), [], None, redundancy=redundancy)
    assert type(source) is kind
