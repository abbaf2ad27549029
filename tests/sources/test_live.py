"""The live source against real servers on loopback."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import aclosing

import pytest
from msgspec.structs import replace
from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode

from kfws.errors import OutputError, Unreachable, Unwelcome
from kfws.errors import Refused as AllRefused
from kfws.protocol.auth import DEMO, Credentials
from kfws.protocol.events import (
    Beat,
    Broken,
    Closed,
    Data,
    Event,
    Gap,
    Notice,
    Opened,
    Redial,
    Refused,
    Silent,
    Subscribed,
    Tick,
)
from kfws.protocol.session import Subscription
from kfws.sim.server import SimOptions, serve
from kfws.sources.connection import Target
from kfws.sources.live import Live, Patience
from tests.frames_of import frames
from tests.loopback import loopback

TICKER = Subscription("ticker", "PF_XBTUSD")
TRADES = frames("trade", kind="delta")


async def collect(live: Live, *, data: int) -> list[Event]:
    """Events until so many messages came, ticks left out; then leaves."""
    found: list[Event] = []
    async with aclosing(live.events()) as batches:
        async for events in batches:
            found += [each for each in events if not isinstance(each, Tick)]
            if sum(isinstance(each, Data) for each in found) >= data:
                break
    return found


async def exhaust(live: Live, into: list[Event]) -> None:
    async for events in live.events():
        into += events


async def test_the_stream_opens_asks_and_passes_on_everything_in_order() -> None:
    async def script(server: ServerConnection) -> None:
        for payload in TRADES:
            await server.send(payload, text=True)

    async with loopback(script) as venue:
        events = await collect(Live(Target(venue.url), [TICKER]), data=len(TRADES))
        await venue.until(lambda seen: seen.closes == [1000])
    assert isinstance(events[0], Opened)
    assert events[0].url == venue.url
    assert [each.payload for each in events if isinstance(each, Data)] == TRADES
    assert {type(each) for each in events} >= {Opened, Notice, Data}


async def test_the_heartbeat_is_asked_for_quietly_and_after_what_is_wanted() -> None:
    async with loopback() as venue:
        live = Live(Target(venue.url), [TICKER])
        async with aclosing(live.events()) as batches:
            async for _ in batches:
                if len(venue.requests) == 2:
                    break
    assert [each["feed"] for each in venue.requests] == ["ticker", "heartbeat"]


async def test_a_heartbeat_that_is_wanted_is_asked_for_once() -> None:
    async with serve(SimOptions()) as venue:
        events = await collect(Live(Target(venue.url), [Subscription("heartbeat")]), data=1)
        assert [json.loads(each)["feed"] for each in venue.received] == ["heartbeat"]
    assert [type(each) for each in events if isinstance(each, (Beat, Data))] == [Data]


async def test_private_feeds_come_after_one_challenge() -> None:
    wanted = [Subscription("open_orders"), Subscription("balances"), TICKER]
    async with serve(SimOptions()) as venue:
        events = await collect(Live(Target(venue.url), wanted, DEMO), data=3)
        asked = [json.loads(each) for each in venue.received]
    assert [each["event"] for each in asked].count("challenge") == 1
    subscribed = {each.feed for each in events if isinstance(each, Subscribed)}
    assert {"open_orders", "balances", "ticker"} <= subscribed


async def test_a_key_that_is_refused_ends_the_stream() -> None:
    async with serve(SimOptions()) as venue:
        live = Live(Target(venue.url), [Subscription("fills")], Credentials("mine", DEMO.secret))
        with pytest.raises(Unwelcome, match="key refused"):
            await collect(live, data=1)


async def test_who_leaves_over_a_refused_key_has_lost_nothing() -> None:
    events: list[Event] = []
    async with serve(SimOptions()) as venue:
        wanted = [Subscription("fills"), TICKER]
        live = Live(Target(venue.url), wanted, Credentials("mine", DEMO.secret))
        with pytest.raises(Unwelcome, match="key refused"):
            await exhaust(live, events)
    assert any(isinstance(each, Subscribed) and each.feed == "ticker" for each in events)
    assert isinstance(events[-1], Closed)
    assert not [each for each in events if isinstance(each, Gap)]


async def test_the_stream_ends_when_everything_was_refused() -> None:
    async with serve(SimOptions()) as venue:
        live = Live(Target(venue.url), [Subscription("ticker", "PF_NOPEUSD")])
        with pytest.raises(AllRefused, match="ticker PF_NOPEUSD"):
            await collect(live, data=1)


@pytest.mark.parametrize(
    ("how", "text"), [("close", r"it was closed \(1012 restart\)"), ("abort", "was lost")]
)
async def test_a_lost_connection_gives_all_that_came_then_closed_then_a_redial(
    how: str, text: str
) -> None:
    async def leave(server: ServerConnection) -> None:
        for payload in TRADES:
            await server.send(payload, text=True)
        if how == "close":
            await server.close(1012, "restart")
        else:
            server.transport.close()

    async with loopback(leave) as venue:
        live = Live(Target(venue.url), [TICKER], jitter=lambda: 0.0)
        events: list[Event] = []
        async with aclosing(live.events()) as batches:
            async for batch in batches:
                events += batch
                if sum(isinstance(each, Opened) for each in events) == 2:
                    break
    kinds = [type(each) for each in events]
    lost = kinds.index(Closed)
    assert [each.payload for each in events[:lost] if isinstance(each, Data)] == TRADES
    redial = events[kinds.index(Redial)]
    assert isinstance(redial, Redial)
    assert re.search(text, redial.reason)
    assert lost < kinds.index(Redial)


async def test_what_came_and_was_not_handed_out_is_left_as_the_rest() -> None:
    sent = asyncio.Event()

    async def script(server: ServerConnection) -> None:
        for payload in TRADES:
            await server.send(payload, text=True)
        sent.set()

    async with loopback(script) as venue:
        live = Live(Target(venue.url), [TICKER])
        async with aclosing(live.events()) as batches:
            async for _ in batches:
                await sent.wait()
                break
        rest = [event for events in live.rest() for event in events]
    assert [each.payload for each in rest if isinstance(each, Data)] == TRADES
    assert isinstance(rest[-1], Closed)
    assert rest[-1].code == 1000


async def test_there_is_no_rest_without_a_connection(unused_tcp_port: int) -> None:
    live = Live(Target(f"ws://127.0.0.1:{unused_tcp_port}/ws/v1"), [TICKER], attempts=1)
    with pytest.raises(Unreachable):
        await collect(live, data=1)
    assert list(live.rest()) == []


async def test_a_broken_frame_is_an_event_and_the_stream_goes_on() -> None:
    async def script(server: ServerConnection) -> None:
        for payload in (b"<html>", b"", b"[]", b'{"feed":"trade"}', TRADES[0]):
            await server.send(payload, text=True)
        await server.send(b"\x00\xff")
        await server.send(TRADES[1], text=True)

    async with loopback(script) as venue:
        events = await collect(Live(Target(venue.url), [TICKER]), data=2)
    reasons = [each.reason for each in events if isinstance(each, Broken)]
    assert reasons == ["not JSON", "empty", "not a JSON object", "no product_id", "binary frame"]


async def test_ticks_come_while_nothing_else_does() -> None:
    async with loopback() as venue:
        live = Live(Target(venue.url), [TICKER])
        async with aclosing(live.events()) as batches:
            async for events in batches:
                if any(isinstance(each, Tick) for each in events):
                    break


async def test_pings_are_sent_in_time_also_while_nobody_takes_the_batches() -> None:
    pings: list[object] = []
    enough = asyncio.Event()

    async def script(server: ServerConnection) -> None:
        original = server.process_event

        def spy(event: object) -> None:
            if isinstance(event, Frame) and event.opcode is Opcode.PING:
                pings.append(event)
                if len(pings) == 3:
                    enough.set()
            original(event)  # type: ignore[arg-type]

        server.process_event = spy  # type: ignore[method-assign]

    async with loopback(script) as venue:
        live = Live(Target(venue.url), [TICKER], patience=Patience(ping_every_s=0.01, tick_s=0.01))
        async with aclosing(live.events()) as batches:
            async for _ in batches:
                await enough.wait()
                break
    assert len(pings) >= 3


# Redialling


QUICK = Patience(
    ping_every_s=0.05, pong_within_s=0.2, beat_within_s=0.2, first_beat_within_s=0.1, tick_s=0.02
)


async def until(live: Live, kind: type[Event], times: int = 1) -> list[Event]:
    """Events until so many of a kind came; then leaves."""
    found: list[Event] = []
    async with aclosing(live.events()) as batches:
        async for events in batches:
            found += events
            if sum(isinstance(each, kind) for each in found) >= times:
                break
    return found


async def test_so_many_dials_may_fail_in_a_row(unused_tcp_port: int) -> None:
    url = f"ws://127.0.0.1:{unused_tcp_port}/ws/v1"
    live = Live(Target(url), [TICKER], attempts=2, jitter=lambda: 0.0)
    events: list[Event] = []
    with pytest.raises(Unreachable, match="nothing is listening"):
        await exhaust(live, events)
    redials = [each for each in events if isinstance(each, Redial)]
    assert [each.failed for each in redials] == [1]


async def test_a_venue_that_hangs_up_before_it_serves_is_a_failed_dial() -> None:
    async def script(server: ServerConnection) -> None:
        await server.close(1011)

    async with loopback(script) as venue:
        live = Live(Target(venue.url), [TICKER], attempts=2, jitter=lambda: 0.0)
        with pytest.raises(Unreachable, match=r"connection 2 to .* was lost: it was closed \(1011"):
            await exhaust(live, [])
        assert len(venue.handshakes) == 2


@pytest.mark.parametrize("status", [403, 404])
async def test_a_permanent_refusal_is_not_dialled_again(status: int) -> None:
    async with loopback(status=status) as venue:
        with pytest.raises((Unreachable, Unwelcome)):
            await exhaust(Live(Target(venue.url), [TICKER], jitter=lambda: 0.0), [])
        assert len(venue.handshakes) == 1


async def test_retry_after_is_honoured() -> None:
    async with loopback(status=503, headers={"Retry-After": "7"}) as venue:
        events = await until(Live(Target(venue.url), [TICKER], jitter=lambda: 0.0), Redial)
    redial = events[-1]
    assert isinstance(redial, Redial)
    assert redial.delay_s == 7.0


async def test_after_a_loss_all_that_is_wanted_is_asked_for_anew_and_the_loss_is_named() -> None:
    wanted = [Subscription("open_orders"), TICKER, Subscription("ticker", "PF_NOPEUSD")]
    async with serve(SimOptions()) as venue:
        live = Live(Target(venue.url), wanted, DEMO, jitter=lambda: 0.0)
        events: list[Event] = []
        async with aclosing(live.events()) as batches:
            async for batch in batches:
                events += batch
                named = {each.feed for each in events if isinstance(each, Gap)}
                if named == {"ticker", "open_orders"}:
                    break
                if not any(isinstance(each, Closed) for each in events) and venue.holds(
                    "open_orders"
                ):
                    await venue.drop()
        asked = [json.loads(each) for each in venue.received]
    assert [each["event"] for each in asked].count("challenge") == 2
    assert [each.get("product_ids") for each in asked].count(["PF_NOPEUSD"]) == 1
    gaps = [each for each in events if isinstance(each, Gap)]
    assert all(gap.missing is None and gap.cause == "outage" for gap in gaps)


async def test_a_venue_that_does_not_pong_is_dead_and_one_that_does_not_beat_is_said_once() -> None:
    async def script(server: ServerConnection) -> None:
        server.protocol.receive_data = lambda _data: None  # type: ignore[method-assign,assignment]

    async with loopback(script) as venue:
        live = Live(Target(venue.url), [TICKER], patience=QUICK, jitter=lambda: 0.0)
        events = await until(live, Redial)
    redial = events[-1]
    assert isinstance(redial, Redial)
    assert "no pong within 0.2 s" in redial.reason


async def test_a_connection_that_stops_beating_is_dead() -> None:
    async def script(server: ServerConnection) -> None:
        await server.send('{"feed":"heartbeat","time":1}')

    async with loopback(script) as venue:
        patience = replace(QUICK, ping_every_s=60)
        live = Live(Target(venue.url), [TICKER], patience=patience, jitter=lambda: 0.0)
        events = await until(live, Redial)
    redial = events[-1]
    assert isinstance(redial, Redial)
    assert "not even a heartbeat" in redial.reason


async def test_a_venue_that_never_beats_is_left_to_its_pongs_and_that_is_said_once() -> None:
    async with loopback() as venue:
        live = Live(Target(venue.url), [TICKER], patience=QUICK)
        events: list[Event] = []
        async with aclosing(live.events()) as batches:
            async for batch in batches:
                events += batch
                if sum(isinstance(each, Tick) for each in events) > 30:
                    break
    assert [each.feed for each in events if isinstance(each, Silent)] == ["heartbeat"]
    assert not any(isinstance(each, Redial) for each in events)


# A full buffer


LAST = 10_000  # more than the sockets' own buffers hold


def trade(seq: int) -> bytes:
    return b'{"feed":"trade","product_id":"A","seq":%d,"pad":"%s"}' % (seq, b"x" * 1000)


async def stall(live: Live, sent: asyncio.Event) -> list[Event]:
    """Takes the first batch, then nothing until all was sent, then the rest."""
    events: list[Event] = []
    async with aclosing(live.events()) as batches:
        async for batch in batches:
            events += batch
            if len(events) == 1:
                await sent.wait()
            if any(isinstance(each, Data) and each.seq == LAST for each in batch):
                break
    return events


async def test_with_drop_oldest_what_is_dropped_is_counted_and_named() -> None:
    sent = asyncio.Event()

    async def script(server: ServerConnection) -> None:
        for seq in range(1, LAST + 1):
            await server.send(trade(seq), text=True)
        sent.set()

    async with loopback(script) as venue:
        target = Target(venue.url, buffer_bytes=300_000)
        wanted = [Subscription("trade", "A")]
        events = await stall(Live(target, wanted, on_full="drop-oldest"), sent)
    came = {each.seq for each in events if isinstance(each, Data)}
    gaps = [each for each in events if isinstance(each, Gap)]
    assert gaps
    assert {gap.cause for gap in gaps} == {"slow-reader"}
    named = {seq for gap in gaps for seq in range(gap.first or 0, (gap.last or 0) + 1)}
    assert came | named == set(range(1, LAST + 1))
    assert not came & named
    assert any(isinstance(each, Subscribed) for each in events)


async def test_with_exit_a_full_buffer_ends_the_stream() -> None:
    sent = asyncio.Event()

    async def script(server: ServerConnection) -> None:
        for seq in range(1, LAST + 1):
            await server.send(trade(seq), text=True)
        sent.set()

    async with loopback(script) as venue:
        target = Target(venue.url, buffer_bytes=300_000)
        live = Live(target, [Subscription("trade", "A")], on_full="exit")
        with pytest.raises(OutputError, match="too slow"):
            await stall(live, sent)


async def test_with_block_nothing_is_lost() -> None:
    async def script(server: ServerConnection) -> None:
        for seq in range(1, LAST + 1):
            await server.send(trade(seq), text=True)

    async with loopback(script) as venue:
        target = Target(venue.url, buffer_bytes=300_000)
        ready = asyncio.Event()
        ready.set()
        events = await stall(Live(target, [Subscription("trade", "A")]), ready)
    assert [each.seq for each in events if isinstance(each, Data)] == list(range(1, LAST + 1))


async def test_what_is_wanted_changes_while_a_connection_stands_and_for_the_next_one() -> None:
    ether, trades = Subscription("ticker", "PF_ETHUSD"), Subscription("trade", "PF_XBTUSD")
    async with loopback() as venue:
        live = Live(Target(venue.url), [TICKER], jitter=lambda: 0.0, may_grow=True)
        live.subscribe(trades)
        opened = 0
        async with aclosing(live.events()) as batches:
            async for batch in batches:
                for event in batch:
                    if isinstance(event, Subscribed) and event.feed == "heartbeat" and opened == 1:
                        live.subscribe(ether)
                        live.subscribe(ether)
                        live.unsubscribe(TICKER)
                        await venue.until(lambda seen: len(seen.requests) == 6)
                        await live.hang_up()
                    opened += isinstance(event, Opened)
                if opened == 2 and len(venue.requests) == 9:
                    break
        live.subscribe(TICKER)  # nothing stands any more: nothing happens
        await live.hang_up()
    asked = [(each["event"], each["feed"], each.get("product_ids")) for each in venue.requests]
    first = [
        ("subscribe", "ticker", ["PF_XBTUSD"]),
        ("subscribe", "trade", ["PF_XBTUSD"]),
        ("subscribe", "heartbeat", None),
    ]
    assert asked[:3] == first
    later = ("subscribe", "ticker", ["PF_ETHUSD"])
    assert asked[3:6] == [later, later, ("unsubscribe", "ticker", ["PF_XBTUSD"])]
    assert sorted(asked[6:], key=str) == sorted([first[1], later, first[2]], key=str)


async def test_what_is_given_up_in_another_case_is_asked_for_no_more() -> None:
    async with loopback() as venue:
        live = Live(Target(venue.url), [TICKER], jitter=lambda: 0.0, may_grow=True)
        async with aclosing(live.events()) as batches:
            async for batch in batches:
                if any(isinstance(each, Subscribed) and not each.quiet for each in batch):
                    live.unsubscribe(Subscription("ticker", "pf_xbtusd"))
                    await venue.until(lambda seen: len(seen.requests) == 3)
                    await live.hang_up()
                if len(venue.requests) == 4:
                    break
    asked = [(each["event"], each["feed"], each.get("product_ids")) for each in venue.requests]
    assert asked[2:] == [("unsubscribe", "ticker", ["PF_XBTUSD"]), ("subscribe", "heartbeat", None)]


async def test_a_refused_key_is_no_end_where_more_may_be_wanted() -> None:
    wanted = [Subscription("fills"), TICKER]
    async with serve(SimOptions()) as venue:
        live = Live(Target(venue.url), wanted, Credentials("mine", DEMO.secret), may_grow=True)
        events = await collect(live, data=6)
    assert any(isinstance(each, Refused) and each.feed == "fills" for each in events)
