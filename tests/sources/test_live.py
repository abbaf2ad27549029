"""The live source against real servers on loopback."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode

from kfws.errors import Refused as AllRefused
from kfws.errors import Unreachable, Unwelcome
from kfws.protocol.auth import DEMO, Credentials
from kfws.protocol.events import Broken, Closed, Data, Event, Notice, Opened, Subscribed, Tick
from kfws.protocol.session import Subscription
from kfws.sim.server import SimOptions, serve
from kfws.sources.connection import Target
from kfws.sources.live import Live
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
    [beat] = [each for each in events if isinstance(each, Data)]
    assert not beat.quiet


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


async def test_the_stream_ends_when_everything_was_refused() -> None:
    async with serve(SimOptions()) as venue:
        live = Live(Target(venue.url), [Subscription("ticker", "PF_NOPEUSD")])
        with pytest.raises(AllRefused, match="ticker PF_NOPEUSD"):
            await collect(live, data=1)


@pytest.mark.parametrize(
    ("how", "text"), [("close", r"it was closed \(1012 restart\)"), ("abort", "was lost")]
)
async def test_a_lost_connection_gives_all_that_came_then_closed_then_the_reason(
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
        events: list[Event] = []
        with pytest.raises(Unreachable, match=text):
            await exhaust(Live(Target(venue.url), [TICKER]), events)
    assert [each.payload for each in events if isinstance(each, Data)] == TRADES
    assert isinstance(events[-1], Closed)


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
    live = Live(Target(f"ws://127.0.0.1:{unused_tcp_port}/ws/v1"), [TICKER])
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
        live = Live(Target(venue.url), [TICKER], ping_every_s=0.01)
        async with aclosing(live.events()) as batches:
            async for _ in batches:
                await enough.wait()
                break
    assert len(pings) >= 3
