"""The library against real servers on loopback: as documented, and better behaved."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

import kfws
from kfws import Closed, Data, FuturesWSClient, Gap, KfwsError, Opened, Redial, Stream
from kfws.errors import Incomplete, ProtocolBroken, Refused, Unreachable, Unwelcome, UsageError
from kfws.exceptions import KrakenAuthenticationError
from kfws.protocol.auth import DEMO
from kfws.protocol.book import Book
from kfws.protocol.events import Duplicate, Event, Notice, Resync, Stale, Subscribed
from kfws.sim.server import SimOptions, SimulatedVenue, serve
from tests.frames_of import frames
from tests.loopback import loopback
from tests.needs import lacking
from tests.test_rest import listening, saying

P = "PF_XBTUSD"
E = "PF_ETHUSD"
INFO = {"event": "info", "version": 1}
Message = dict[str, Any]


class Heard:
    """A callback that keeps what it is given, and wakes who waits for it."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._changed = asyncio.Condition()

    async def __call__(self, message: Message) -> None:
        async with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    async def until(self, fact: Callable[[list[Message]], object]) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: fact(self.messages))

    async def of(self, feed: str, count: int = 1) -> list[Message]:
        """The first messages of a feed."""
        await self.until(lambda all_: len([x for x in all_ if x.get("feed") == feed]) >= count)
        return [each for each in self.messages if each.get("feed") == feed]

    async def said(self, **wanted: Any) -> Message:
        """The first control message that holds this."""
        await self.until(lambda all_: any(wanted.items() <= x.items() for x in all_))
        return next(each for each in self.messages if wanted.items() <= each.items())


@asynccontextmanager
async def connected(venue: SimulatedVenue, **more: Any) -> AsyncIterator[tuple[Any, Heard]]:
    """A client of the simulator's account, and what it hears."""
    heard = Heard()
    client = FuturesWSClient(DEMO.key, DEMO.secret, venue.url, heard, **more)
    async with client:
        yield client, heard


@pytest.fixture(name="venue")
async def _venue() -> AsyncIterator[SimulatedVenue]:
    async with serve(SimOptions()) as venue:
        yield venue


async def collect(stream: Stream[Event], enough: Callable[[list[Event]], object]) -> list[Event]:
    found: list[Event] = []
    async for event in stream:
        found.append(event)
        if enough(found):
            break
    return found


async def stay(client: FuturesWSClient, *subscriptions: tuple[str, list[str]]) -> None:
    """Stays in the block for as long as it takes."""
    async with client:
        for each in subscriptions:
            await client.subscribe(*each)
        await asyncio.Event().wait()


def asked(venue: SimulatedVenue) -> list[Message]:
    """What the venue received, but for the quiet heartbeat."""
    requests = [json.loads(each) for each in venue.received]
    return [each for each in requests if each.get("feed") != "heartbeat"]


# The documented interface


async def test_every_message_comes_in_order_the_challenge_excepted(venue: SimulatedVenue) -> None:
    async with connected(venue) as (client, heard):
        await client.subscribe(feed="open_orders")
        await client.subscribe("ticker", [P])
        await heard.of("open_orders_snapshot")
        await heard.of("ticker")
    assert heard.messages[0] == INFO
    assert {"event": "subscribed", "feed": "ticker", "product_ids": [P]} in heard.messages
    assert {"event": "subscribed", "feed": "open_orders"} in heard.messages
    assert not any(each.get("event") == "challenge" for each in heard.messages)
    assert not any(each.get("feed") == "heartbeat" for each in heard.messages)


async def test_messages_are_what_the_venue_sent_number_by_number() -> None:
    sent = frames("trade", kind="delta") + frames("ticker", kind="delta")

    async def script(server: ServerConnection) -> None:
        for payload in sent:
            await server.send(payload, text=True)

    heard = Heard()
    async with loopback(script) as server, FuturesWSClient(url=server.url, callback=heard):
        await heard.until(lambda all_: len(all_) > len(sent))
    got = [each for each in heard.messages if each.get("event") != "subscribed"]
    assert got == [INFO, *map(json.loads, sent)]


async def test_a_subclass_hears_by_its_own_on_message(venue: SimulatedVenue) -> None:
    heard = Heard()

    class Mine(FuturesWSClient):
        async def on_message(self, message: Message) -> None:
            await heard(message)

    client = Mine(url=venue.url)
    await client.start()
    await heard.until(len)
    await client.stop()
    assert heard.messages[0] == INFO


async def test_a_subclass_may_hand_its_own_on_message_in_as_the_callback(
    venue: SimulatedVenue,
) -> None:
    heard = Heard()

    class Mine(FuturesWSClient):
        def __init__(self, key: str = "", secret: str = "") -> None:
            super().__init__(key=key, secret=secret, url=venue.url, callback=self.on_message)

        async def on_message(self, message: Message) -> None:
            await heard(message)

    async with Mine() as client:
        assert not client.is_auth
        await heard.until(len)
    assert heard.messages == [INFO]


async def test_a_plain_function_will_do(venue: SimulatedVenue) -> None:
    got: list[Message] = []
    came = asyncio.Event()

    def on_message(message: Message) -> None:
        got.append(message)
        came.set()

    async with FuturesWSClient(url=venue.url, callback=on_message):
        await came.wait()
    assert got == [INFO]


async def test_without_a_callback_messages_are_logged_with_a_warning(
    venue: SimulatedVenue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    said = asyncio.Event()

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == str(INFO):
                said.set()

    watch = Watch()
    logging.getLogger("kfws.client").addHandler(watch)
    try:
        async with FuturesWSClient(url=venue.url):
            await said.wait()
    finally:
        logging.getLogger("kfws.client").removeHandler(watch)
    assert "Received event but no callback is defined" in caplog.text


@pytest.mark.parametrize("verb", ["subscribe", "unsubscribe"])
@pytest.mark.parametrize(
    ("feed", "products", "error", "text"),
    [
        ("ticker", P, TypeError, r'list\[str\] \(e.g. products=\["PI_XBTUSD"\]\)'),
        ("ticker", (P,), TypeError, "must be type of list"),
        ("ticker", [P, 1], TypeError, "must be type of list"),
        ("fills", [P], ValueError, "There is no private feed that accepts products!"),
        ("fills", None, AttributeError, "Cannot access private endpoints with unauthenticated"),
        ("nope", None, ValueError, r"Feed: nope not found. Not (un)?subscribing (to )?it."),
    ],
)
async def test_wrong_arguments_raise_as_documented(
    verb: str, feed: str, products: Any, error: type[Exception], text: str
) -> None:
    client = FuturesWSClient()
    with pytest.raises(error, match=text):
        await getattr(client, verb)(feed, products)


async def test_each_product_is_asked_for_alone_and_each_answer_stands(
    venue: SimulatedVenue,
) -> None:
    async with connected(venue) as (client, heard):
        assert client.get_active_subscriptions() == []
        await client.subscribe(feed="ticker", products=[P, E])
        await client.subscribe("open_orders")
        await heard.said(event="subscribed", feed="open_orders")
        assert client.get_active_subscriptions() == [
            {"event": "subscribe", "feed": "ticker", "product_ids": [P]},
            {"event": "subscribe", "feed": "ticker", "product_ids": [E]},
            {"event": "subscribe", "feed": "open_orders"},
        ]
        await client.unsubscribe("ticker", [P])
        await client.unsubscribe("open_orders")
        await heard.said(event="unsubscribed", feed="open_orders")
        [only] = client.get_active_subscriptions()
        only["product_ids"].append("mine")  # a copy
        [only] = client.get_active_subscriptions()
        assert only["product_ids"] == [E]
    tickers = [each["product_ids"] for each in asked(venue) if each.get("feed") == "ticker"]
    assert tickers == [[P], [E], [P]]


async def test_feeds_are_listed_in_the_documented_order() -> None:
    assert FuturesWSClient.get_available_public_subscription_feeds() == (
        ["trade", "book", "ticker", "ticker_lite", "heartbeat"]
    )
    assert FuturesWSClient.get_available_private_subscription_feeds() == str.split(
        "fills open_positions open_orders open_orders_verbose balances deposits_withdrawals "
        "account_balances_and_margins account_log notifications_auth"
    )


def test_a_challenge_is_signed_as_published() -> None:
    client = FuturesWSClient(DEMO.key, DEMO.secret)
    assert client.is_auth
    assert client.key == DEMO.key
    assert client.get_sign_challenge("c100b894-1729-464d-ace1-52dbce11db42") == (
        "4JEpF3ix66GA2B+ooK128Ift4XQVtc137N9yeg4Kqsn9PI0Kpzbysl9M1IeCEdjg0zl00wkVqcsnG4bmnlMb3A=="
    )


def test_without_credentials_nothing_is_signed() -> None:
    client = FuturesWSClient(key=DEMO.key)
    assert not client.is_auth
    with pytest.raises(KrakenAuthenticationError):
        client.get_sign_challenge("anything")


async def test_malformed_credentials_are_no_hindrance_to_public_feeds(
    venue: SimulatedVenue,
) -> None:
    heard = Heard()
    async with FuturesWSClient("api-key", "secret-key", venue.url, heard) as client:
        await client.subscribe("ticker", [P])
        await heard.of("ticker")
        for wrong in (client.subscribe("fills"), client.request("GET", "/derivatives/api/v3/x")):
            with pytest.raises(Unwelcome, match="not base64"):
                await wrong


def test_nonces_rise() -> None:
    client = FuturesWSClient()
    nonces = [client.get_nonce() for _ in range(3)]
    assert sorted(set(nonces), key=int) == nonces


@pytest.mark.parametrize(
    ("options", "dialled"),
    [
        ({}, "wss://futures.kraken.com/ws/v1"),
        ({"sandbox": True}, "wss://demo-futures.kraken.com/ws/v1"),
        ({"url": "example.org/ws/v1"}, "wss://example.org/ws/v1"),
        ({"url": "ws://[::1]:8765/ws/v1", "sandbox": True}, "ws://[::1]:8765/ws/v1"),
    ],
)
def test_the_url_is_host_and_path_or_whole(options: dict[str, Any], dialled: str) -> None:
    assert FuturesWSClient(**options)._url == dialled


@pytest.mark.parametrize("url", ["ws://futures.kraken.com/ws/v1", "https://futures.kraken.com"])
def test_urls_that_others_can_read_or_that_are_none_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="wss://"):
        FuturesWSClient(url=url)


async def test_a_venue_that_stays_away_is_a_timeout_and_leaves_nothing() -> None:
    client = FuturesWSClient(url="ws://127.0.0.1:1/ws/v1", callback=Heard())
    with pytest.raises(TimeoutError, match="Could not connect"):
        await client.start(timeout=0.1)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_permanent_refusal_ends_the_client_in_the_documented_way() -> None:
    heard = Heard()
    async with loopback(status=404) as server:
        client = FuturesWSClient(url=server.url, callback=heard)
        with pytest.raises(Unreachable, match="404"):
            await client.start()
        assert client.exception_occur
        assert isinstance(client.error, KfwsError)
        with pytest.raises(Unreachable, match="404"):
            await client.subscribe("ticker", [P])
        await client.close()
    gave_up = {"python-kraken-sdk": {"error": "kraken.exceptions.MaxReconnectError"}}
    assert heard.messages == [gave_up]


async def test_a_callback_that_raises_at_the_very_last_word_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def on_message(message: Message) -> None:
        raise LookupError("mine")

    async with loopback(status=404) as server:
        client = FuturesWSClient(url=server.url, callback=on_message)
        with pytest.raises(Unreachable):
            await client.start()
    assert "LookupError: mine" in caplog.text


async def test_subscribe_waits_for_the_connection(venue: SimulatedVenue) -> None:
    heard = Heard()
    client = FuturesWSClient(url=venue.url, callback=heard)
    early = asyncio.create_task(client.subscribe("ticker", [P]))
    await asyncio.sleep(0)
    assert not early.done()
    await client.start()
    await early
    await heard.of("ticker")
    await client.close()


async def test_who_waits_for_a_connection_is_told_that_there_will_be_none() -> None:
    client = FuturesWSClient()
    early = asyncio.create_task(client.subscribe("ticker", [P]))
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(UsageError, match="closed"):
        await early


async def test_closing_is_possible_often_and_in_any_order(venue: SimulatedVenue) -> None:
    client = FuturesWSClient(url=venue.url, callback=Heard())
    await client.close()
    await client.start()
    await client.start()  # runs already
    await client.async_close()
    await client.stop()
    await client.close()
    await client.async_close()
    assert not client.exception_occur
    with pytest.raises(UsageError, match=r"closed"):
        await client.unsubscribe("ticker", [P])


async def test_a_client_that_is_started_again_subscribes_to_what_it_had(
    venue: SimulatedVenue,
) -> None:
    heard = Heard()
    client = FuturesWSClient(DEMO.key, DEMO.secret, venue.url, heard)
    for _ in range(2):
        await client.start()
        if not client.get_active_subscriptions():
            await client.subscribe("ticker", [P])
            await client.subscribe("fills")
        await heard.said(event="subscribed", feed="fills")
        await heard.of("ticker")
        answer = await client.request("GET", "/derivatives/api/v3/tickers", auth=False)
        assert answer["result"] == "success"
        await client.close()
        with pytest.raises(RuntimeError, match="closed"):
            await client.request("GET", "/derivatives/api/v3/tickers", auth=False)
        heard.messages.clear()
    assert len(client.get_active_subscriptions()) == 2


async def test_the_documented_example_leaves_its_block_at_once(venue: SimulatedVenue) -> None:
    async with FuturesWSClient(url=venue.url, callback=Heard()) as session:
        await session.subscribe(feed="ticker", products=[P])


async def test_requests_are_signed_by_the_venues_rest_rules() -> None:
    async with listening() as rest:
        client = FuturesWSClient(DEMO.key, DEMO.secret, rest_url=rest.url)
        answer = await client.request(
            "POST", "/derivatives/api/v3/sendorder", post_params={"size": 1}
        )
        await client.close()
    assert answer == {"result": "success"}
    [seen] = rest.seen
    assert (seen.method, seen.body) == ("POST", "size=1")
    assert seen.headers["APIKey"] == DEMO.key
    assert {"Authent", "Nonce"} <= seen.headers.keys()


async def test_a_raw_answer_is_a_response_and_no_credentials_are_a_value_error() -> None:
    async with listening() as rest:
        client = FuturesWSClient(rest_url=rest.url)
        response = await client.request(
            "GET", "/derivatives/api/v3/tickers", query_params={"a": "b"}, auth=False,
            return_raw=True,
        )  # fmt: skip
        assert response.status == 200
        assert json.loads(await response.text()) == {"result": "success"}
        with pytest.raises(ValueError, match="Missing credentials"):
            await client.request("GET", "/derivatives/api/v3/openorders")
        await client.close()


@pytest.mark.parametrize(
    ("url", "base"),
    [("", "https://futures.kraken.com"), ("ws://localhost:1/ws/v1", "http://localhost:1")],
)
async def test_requests_go_to_the_host_of_the_stream(url: str, base: str) -> None:
    client = FuturesWSClient(url=url)
    with pytest.raises(ValueError, match="no method"):
        await client.request("PATCH", "/", auth=False)
    assert client._rest is not None
    assert client._rest._route.url == base
    await client.close()


async def test_the_timeout_of_the_class_holds_for_requests_that_give_none() -> None:
    class Hasty(FuturesWSClient):
        TIMEOUT = 0.05

    async with saying(b"", hangs=True) as url:
        client = Hasty(rest_url=url)
        with pytest.raises(TimeoutError, match=r"did not answer within 0\.05 s"):
            await client.request("GET", "/derivatives/api/v3/tickers", auth=False)
        await client.close()
    assert FuturesWSClient.TIMEOUT == 10


async def test_a_timeout_that_is_given_outdoes_that_of_the_class() -> None:
    async with listening() as rest:
        client = FuturesWSClient(rest_url=rest.url)
        client.TIMEOUT = 1e-9
        assert await client.request("GET", "/x", auth=False, timeout=10) == {"result": "success"}
        await client.close()


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({}, "https://futures.kraken.com"),
        ({"sandbox": True}, "https://demo-futures.kraken.com"),
        ({"rest_url": "https://rest.example"}, "https://rest.example"),
        ({"url": "example.org/ws/v1"}, "example.org/ws/v1"),
    ],
)
def test_the_url_can_be_read_as_documented(options: dict[str, Any], url: str) -> None:
    assert FuturesWSClient(**options).url == url


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"redundancy": 0}, "redundancy is 1, 2 or 3 connections, not 0"),
        ({"redundancy": 4}, "not 4"),
        ({"redundancy": 2.0}, r"not 2\.0"),
        ({"redundancy": True}, "not True"),
        ({"redundancy": "2"}, "not '2'"),
        ({"on_error": "ignore"}, 'on_error is "raise" or "log", not \'ignore\''),
        ({"on_error": None}, "not None"),
    ],
)
def test_options_that_are_none_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        FuturesWSClient(**options)


# Better behaved: life


async def test_a_lost_connection_is_recovered_with_all_that_was_subscribed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with (
        serve(SimOptions(faults=("drop@30msgs:conn=1",))) as venue,
        connected(venue) as (client, heard),
    ):
        await client.subscribe("ticker", [P])
        await client.subscribe("open_orders")
        await client.subscribe("book", [P])
        await heard.until(lambda all_: all_.count(INFO) == 2)
        await heard.of("open_orders_snapshot", 2)
        assert len(client.get_active_subscriptions()) == 3
        assert not client.exception_occur
    assert "Recover subscriptions [{'event': 'subscribe', 'feed': 'ticker'" in caplog.text
    assert not any(each.get("event") == "alert" for each in heard.messages)


async def test_a_connection_that_is_closed_by_hand_is_dialled_anew(
    venue: SimulatedVenue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with connected(venue) as (client, heard):
        await client.subscribe("open_orders")
        await heard.said(event="subscribed")
        await client._conn.close_connection()
        await heard.until(lambda all_: sum(x.get("event") == "subscribed" for x in all_) == 2)
        assert len(client.get_active_subscriptions()) == 1
    await client._conn.close_connection()  # nothing stands: nothing happens
    assert client._conn._ConnectFuturesWebsocket__get_reconnect_wait(1) == 0
    for phrase in (
        "Websocket connected!",
        "Websocket connection established!",
        "got an exception sent 1000 (OK); then received 1000 (OK)",
        "Connection closed",
        "Recover subscriptions [{'event': 'subscribe', 'feed': 'open_orders'}]: waiting",
        "Recover subscriptions [{'event': 'subscribe', 'feed': 'open_orders'}]: done",
    ):
        assert phrase in caplog.text


TICKER_OF_E = {"event": "subscribe", "feed": "ticker", "product_ids": [E]}


async def test_what_is_given_up_while_no_connection_stands_is_active_no_more() -> None:
    heard = Heard()
    async with serve(SimOptions()) as venue:
        client = FuturesWSClient(url=venue.url, callback=heard)
        await client.start()
        await client.subscribe("ticker", [P, E])
        await heard.until(lambda all_: sum(x.get("event") == "subscribed" for x in all_) == 2)
        events = client.events()
    await collect(events, lambda found: isinstance(found[-1], Redial))
    assert len(client.get_active_subscriptions()) == 2
    await client.unsubscribe("ticker", [P])
    assert client.get_active_subscriptions() == [TICKER_OF_E]
    await client.close()


async def test_what_is_given_up_with_a_connection_that_is_lost_is_active_no_more(
    venue: SimulatedVenue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    heard, may_go_on = Heard(), asyncio.Event()
    may_go_on.set()

    async def on_message(message: Message) -> None:
        await heard(message)
        await may_go_on.wait()

    async with FuturesWSClient(url=venue.url, callback=on_message) as client:
        await client.subscribe("ticker", [P, E])
        await heard.until(lambda all_: sum(x.get("event") == "subscribed" for x in all_) == 2)
        may_go_on.clear()
        seen = len(heard.messages)
        await heard.until(lambda all_: len(all_) > seen)
        # The callback holds the client, so it has not heard yet that the connection is gone.
        await client._conn.close_connection()
        await client.unsubscribe("ticker", [P])
        assert len(client.get_active_subscriptions()) == 2
        may_go_on.set()
        await heard.until(lambda all_: sum(x.get("event") == "subscribed" for x in all_) == 3)
        assert client.get_active_subscriptions() == [TICKER_OF_E]
    assert f"Recover subscriptions [{TICKER_OF_E}]: done" in caplog.text


@pytest.mark.parametrize("redundancy", [1, 2])
@pytest.mark.parametrize(("subscribed", "given_up"), [(P, P.lower()), (P.lower(), P)])
async def test_products_are_given_up_in_any_case(
    venue: SimulatedVenue, subscribed: str, given_up: str, redundancy: int
) -> None:
    gaps: list[Gap] = []
    async with connected(venue, redundancy=redundancy, on_gap=gaps.append) as (client, heard):
        await client.subscribe("book", [subscribed])
        seen = len(await heard.of("book"))
        await client.unsubscribe("book", [given_up])
        await heard.said(event="unsubscribed", product_ids=[P])
        assert client.get_active_subscriptions() == []
        await client.subscribe("book", [subscribed])
        await heard.of("book", seen + 1)
        await client.unsubscribe("book", [given_up])
        await heard.until(lambda all_: sum(x.get("event") == "unsubscribed" for x in all_) == 2)
        await client._conn.close_connection()
        await client.subscribe("trade", [E])
        await heard.of("trade")
        assert [each["feed"] for each in client.get_active_subscriptions()] == ["trade"]
    assert gaps == []
    assert {x["product_ids"][0] for x in asked(venue) if x["feed"] == "book"} == {subscribed}


async def test_no_task_and_no_socket_is_left_behind(venue: SimulatedVenue) -> None:
    before = asyncio.all_tasks()
    async with connected(venue, redundancy=2) as (client, heard):
        await client.subscribe("book", [P])
        await heard.of("book")
        assert asyncio.all_tasks() > before
    assert asyncio.all_tasks() == before
    gc.collect()  # a socket left open would be a ResourceWarning, which is an error here


async def test_a_refused_product_or_key_ends_nothing(venue: SimulatedVenue) -> None:
    heard = Heard()
    async with FuturesWSClient("not-this-one", DEMO.secret, venue.url, heard) as client:
        await client.subscribe("ticker", ["PF_NOPEUSD"])
        await heard.said(event="alert")
        await client.subscribe("fills")
        await heard.said(event="alert", message="Failed to subscribe to authenticated feed")
        await client.subscribe("ticker", [P])
        await heard.of("ticker")
        assert len(client.get_active_subscriptions()) == 1
        for _ in range(2):  # asked for again, it is refused again
            heard.messages.clear()
            await client.subscribe("ticker", ["PF_NOPEUSD"])
            await heard.said(event="alert")
        assert not client.exception_occur


async def test_heartbeats_come_only_to_who_subscribed_to_them(venue: SimulatedVenue) -> None:
    async with connected(venue) as (client, heard):
        await client.subscribe("ticker", [P])
        await heard.of("ticker", 2)
        assert not [each for each in heard.messages if each.get("feed") == "heartbeat"]
        await client.subscribe("heartbeat")
        beats = await heard.of("heartbeat", 2)
        assert beats[0] == {"event": "subscribed", "feed": "heartbeat"}
        assert beats[1].keys() == {"feed", "time"}
        await client.unsubscribe("heartbeat")
        await heard.said(event="unsubscribed", feed="heartbeat")
        since = len(heard.messages)
        await heard.of("ticker", len(await heard.of("ticker")) + 3)
        late = [each for each in heard.messages[since:] if each.get("feed") == "heartbeat"]
        assert late == []
        assert len(client.get_active_subscriptions()) == 1


async def test_a_start_that_is_cancelled_leaves_nothing() -> None:
    client = FuturesWSClient(url="ws://127.0.0.1:1/ws/v1", callback=Heard())
    starting = asyncio.create_task(client.start())
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_odd_answer_to_an_unsubscribe_harms_nobody() -> None:
    odd = {"event": "unsubscribed", "feed": "book", "product_ids": 5}

    async def script(server: ServerConnection) -> None:
        await server.send(json.dumps(odd))

    heard = Heard()
    async with loopback(script) as server, FuturesWSClient(url=server.url, callback=heard):
        await heard.said(**odd)


# Better behaved: callbacks


def raising(error: Exception) -> Callable[[Message], None]:
    def on_message(message: Message) -> None:
        raise error

    return on_message


@pytest.mark.parametrize("error", [LookupError("mine"), Unreachable("mine")])
async def test_what_a_callback_raises_comes_out_of_the_block_and_ends_its_body(
    venue: SimulatedVenue, error: Exception
) -> None:
    with pytest.raises(type(error), match="mine") as caught:
        await stay(FuturesWSClient(url=venue.url, callback=raising(error)))
    assert caught.value is error
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_body_that_raises_has_the_last_word_and_the_callback_is_logged(
    venue: SimulatedVenue, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with FuturesWSClient(url=venue.url, callback=raising(LookupError("mine"))):
            try:
                await asyncio.Event().wait()
            finally:
                raise KeyError("body")

    with pytest.raises(KeyError, match="body"):
        await run()
    assert "LookupError: mine" in caplog.text


async def test_a_body_that_was_cancelled_by_others_stays_cancelled(venue: SimulatedVenue) -> None:
    inside = asyncio.Event()

    async def run() -> None:
        async with FuturesWSClient(url=venue.url, callback=Heard()):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_a_callback_that_raises_while_the_client_is_closed_is_raised_too(
    venue: SimulatedVenue,
) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def on_message(message: Message) -> None:
        started.set()
        await go_on.wait()
        raise LookupError("mine")

    async def run() -> None:
        async with FuturesWSClient(url=venue.url, callback=on_message):
            await started.wait()
            asyncio.get_running_loop().call_soon(go_on.set)

    with pytest.raises(LookupError, match="mine"):
        await run()


async def test_without_a_block_the_failure_is_logged_and_stands_in_error(
    venue: SimulatedVenue, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = asyncio.Event()

    async def on_message(message: Message) -> None:
        await go_on.wait()
        raise LookupError("mine")

    client = FuturesWSClient(url=venue.url, callback=on_message)
    messages = client.messages()
    await client.start()
    go_on.set()
    assert await messages.__anext__() == INFO
    with pytest.raises(LookupError, match="mine"):
        await messages.__anext__()
    assert client.exception_occur
    assert isinstance(client.error, LookupError)
    with pytest.raises(LookupError):
        await client.subscribe("ticker", [P])
    await client.close()
    assert "LookupError: mine" in caplog.text


async def test_a_callback_that_raises_at_once_is_raised_by_start(venue: SimulatedVenue) -> None:
    client = FuturesWSClient(url=venue.url, callback=raising(LookupError("mine")))
    await client.start()
    with pytest.raises(LookupError):
        async for _ in client.messages():
            pass
    await client.close()


async def test_errors_of_callbacks_may_be_logged_and_counted_instead(
    venue: SimulatedVenue, caplog: pytest.LogCaptureFixture
) -> None:
    async with FuturesWSClient(
        url=venue.url, callback=raising(LookupError("mine")), on_error="log"
    ) as client:
        messages = client.messages()
        await client.subscribe("ticker", [P])
        async for message in messages:
            if message.get("feed") == "ticker" and "event" not in message:
                break
        assert client.callback_errors >= 2
        assert not client.exception_occur
    assert "LookupError: mine" in caplog.text


async def test_a_callback_that_was_cancelled_from_within_is_an_error_too(
    venue: SimulatedVenue,
) -> None:
    async def on_message(message: Message) -> None:
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="a callback was cancelled"):
        await stay(FuturesWSClient(url=venue.url, callback=on_message))


async def test_a_callback_may_close_the_client(venue: SimulatedVenue) -> None:
    class Once(FuturesWSClient):
        async def on_message(self, message: Message) -> None:
            await self.close()

    client = Once(url=venue.url)
    messages = client.messages()
    await client.start()
    assert [each async for each in messages] == [INFO]
    await client.close()
    assert not client.exception_occur


async def test_a_running_callback_comes_to_its_end(venue: SimulatedVenue) -> None:
    started, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def on_message(message: Message) -> None:
        started.set()
        await go_on.wait()
        ended.set()

    async with FuturesWSClient(url=venue.url, callback=on_message):
        await started.wait()
        asyncio.get_running_loop().call_soon(go_on.set)
    assert ended.is_set()


async def test_a_slow_callback_stops_the_reading_and_misses_nothing() -> None:
    deltas = 20_000
    book = json.loads(frames("book", kind="delta")[0])
    go_on = asyncio.Event()

    async def script(server: ServerConnection) -> None:
        for seq in range(deltas):
            await server.send(json.dumps(book | {"seq": seq}))

    numbers: list[int] = []
    all_came = asyncio.Event()

    async def on_message(message: Message) -> None:
        await go_on.wait()
        if message.get("feed") == "book":
            numbers.append(message["seq"])
            if len(numbers) == deltas:
                all_came.set()

    async with (
        loopback(script) as server,
        FuturesWSClient(url=server.url, callback=on_message, buffer_bytes=100_000) as client,
    ):
        source: Any = client._source
        while not source._connection.is_paused:  # noqa: ASYNC110  # no event tells of it
            await asyncio.sleep(0)
        assert source._connection._held < 500_000
        go_on.set()
        await all_came.wait()
    assert numbers == list(range(deltas))


# Beside it


async def test_messages_can_be_iterated_and_the_first_one_is_among_them(
    venue: SimulatedVenue, caplog: pytest.LogCaptureFixture
) -> None:
    async with FuturesWSClient(url=venue.url) as client:
        await client.subscribe("ticker", [P])
        got: list[Message] = []
        async for message in client.messages():
            got.append(message)
            if len(got) == 3:
                break
    assert got[:2] == [INFO, {"event": "subscribed", "feed": "ticker", "product_ids": [P]}]
    assert got[2]["feed"] == "ticker"
    assert "no callback" not in caplog.text


async def test_streams_end_with_the_client_and_new_ones_are_over_at_once(
    venue: SimulatedVenue,
) -> None:
    async with connected(venue) as (client, heard):
        stream = client.messages()
        await client.subscribe("ticker", [P])
        await heard.of("ticker")
    assert {"event": "subscribed", "feed": "ticker", "product_ids": [P]} in [
        x async for x in stream
    ]
    assert [each async for each in client.events()] == []


async def test_a_stream_that_nobody_takes_from_holds_the_client_until_it_is_closed_or_let_go() -> (
    None
):
    async def script(server: ServerConnection) -> None:
        for time in range(5_000):
            await server.send(f'{{"feed":"heartbeat2","time":{time}}}')

    async with loopback(script) as server:
        client = FuturesWSClient(url=server.url, callback=Heard())
        held, forgotten, taken = client.messages(), client.messages(), client.messages()
        await client.start()
        while not held.is_full:  # noqa: ASYNC110  # no event tells of it
            await asyncio.sleep(0)
        del forgotten
        await held.aclose()
        assert [each async for each in held] == []
        times = []
        async for message in taken:
            if message.get("feed") == "heartbeat2":
                times.append(message["time"])
                if len(times) == 5_000:
                    break
        await client.close()
    assert times == list(range(5_000))


async def test_events_tell_of_losses_and_reconnects_between_the_messages() -> None:
    gaps: list[Gap] = []
    async with (
        serve(SimOptions(faults=("drop@1s:conn=1",))) as venue,
        FuturesWSClient(url=venue.url, on_gap=gaps.append) as client,
    ):
        await client.subscribe("ticker", [P])
        events = await collect(
            client.events(), lambda found: any(isinstance(each, Gap) for each in found)
        )
    kinds = [type(each) for each in events]
    assert kinds[0] is Opened
    order = [kinds.index(each) for each in (Subscribed, Data, Closed, Redial, Gap)]
    assert order == sorted(order)
    gap = events[-1]
    assert isinstance(gap, Gap)
    assert (gap.feed, gap.product, gap.missing, gap.cause) == ("ticker", P, None, "outage")
    assert gaps == [gap]


async def test_what_was_given_up_and_is_wanted_again_has_no_gap(venue: SimulatedVenue) -> None:
    gaps: list[Gap] = []
    async with connected(venue, on_gap=gaps.append) as (client, heard):
        for feed in ("book", "trade", "ticker"):
            await client.subscribe(feed, [P])
            first = len(await heard.of(f"{feed}_snapshot" if feed != "ticker" else feed))
            await client.unsubscribe(feed, [P])
            await client.subscribe(feed, [P])
            await heard.of(f"{feed}_snapshot" if feed != "ticker" else feed, first + 1)
            await heard.of(feed, 5)
    assert gaps == []


@pytest.mark.parametrize(
    ("fault", "error"),
    [("gap=3@50msgs:feed=book", Incomplete), ("broken@20msgs", ProtocolBroken)],
)
async def test_strict_ends_the_client_at_the_first_loss(fault: str, error: type[Exception]) -> None:
    async with serve(SimOptions(faults=(fault,))) as venue:
        with pytest.raises(error):
            await stay(FuturesWSClient(url=venue.url, callback=Heard(), strict=True), ("book", [P]))


async def test_strict_ends_the_client_when_a_product_is_refused(venue: SimulatedVenue) -> None:
    with pytest.raises(Refused, match="ticker PF_NOPEUSD"):
        await stay(
            FuturesWSClient(url=venue.url, callback=Heard(), strict=True),
            ("ticker", [P, "PF_NOPEUSD"]),
        )


async def test_a_broken_frame_is_logged_and_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    good = frames("trade", kind="delta")[0]

    async def script(server: ServerConnection) -> None:
        await server.send("no JSON")
        await server.send(good, text=True)

    heard = Heard()
    async with loopback(script) as server, FuturesWSClient(url=server.url, callback=heard):
        await heard.of("trade")
    assert "broken frame: not JSON" in caplog.text
    assert heard.messages[-1] == json.loads(good)


async def test_with_redundancy_nothing_is_lost_and_nothing_comes_twice() -> None:
    gaps: list[Gap] = []
    async with (
        serve(SimOptions(rate=200, faults=("drop@2s:conn=1",))) as venue,
        connected(venue, redundancy=2, on_gap=gaps.append) as (client, heard),
    ):
        await client.subscribe("book", [P])
        events = client.events()
        await collect(events, lambda found: sum(isinstance(x, Opened) for x in found) >= 2)
        book = client.book(P)
        seen = len(await heard.of("book"))
        await heard.of("book", seen + 100)
        assert not book.stale
        await client.unsubscribe("book", [P])
        await heard.said(event="unsubscribed", feed="book")
        subscribed = sum(each.get("event") == "subscribed" for each in heard.messages)
        await client.subscribe("book", [P])
        await heard.until(
            lambda all_: sum(x.get("event") == "subscribed" for x in all_) > subscribed
        )
    books = [each for each in heard.messages if each.get("feed") == "book" and "seq" in each]
    numbers = [each["seq"] for each in books]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert gaps == []


# The book


async def test_a_book_is_kept_and_is_stale_while_it_cannot_be_trusted(
    venue: SimulatedVenue,
) -> None:
    by_hand = Book()
    async with FuturesWSClient(url=venue.url) as client:
        book = client.book(P)
        assert book.stale
        assert client.book(P) is book
        await client.subscribe("book", [P])
        events = client.events()
        async for event in events:
            if isinstance(event, Data):
                by_hand.apply(event)
                if event.kind == "delta" and event.seq == book.seq:
                    break  # nothing waits between the two
        assert by_hand.levels("buy") == book.levels("buy")
        assert by_hand.levels("sell") == book.levels("sell")
        assert not book.stale
        await client._conn.close_connection()
        await collect(events, lambda found: isinstance(found[-1], Closed))
        await collect(
            events, lambda found: isinstance(found[-1], Data) and found[-1].kind == "snapshot"
        )
        assert not book.stale
        await client.unsubscribe("book", [P])
        await collect(
            events,
            lambda found: isinstance(found[-1], Notice) and found[-1].event == "unsubscribed",
        )
        assert book.stale
    assert client.book(P) is book


async def test_a_book_with_a_gap_is_asked_for_anew_and_whole_again() -> None:
    async with (
        serve(SimOptions(rate=200, faults=("gap=3@100msgs:feed=book",))) as venue,
        FuturesWSClient(url=venue.url) as client,
    ):
        book, events = client.book(P), client.events()
        await client.subscribe("book", [P])
        await collect(events, lambda found: isinstance(found[-1], Stale))
        assert len(client.get_active_subscriptions()) == 1
        await collect(events, lambda found: isinstance(found[-1], Resync))
        await collect(events, lambda found: isinstance(found[-1], Data))
        assert not book.stale
        assert len(client.get_active_subscriptions()) == 1


# The package


def test_the_package_gives_its_public_names_and_no_others() -> None:
    for name in kfws.__all__:
        assert getattr(kfws, name) is not None
    assert set(dir(kfws)) == set(kfws.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        kfws.nothing  # noqa: B018


def test_a_duplicate_is_an_event_and_no_message() -> None:
    from kfws.client import _message

    twice = Duplicate(payload=b"{}", received_ns=0, feed="book", product=P, seq=1)
    assert _message(twice) is None


@pytest.mark.parametrize("redundancy", [1, 2])
def test_it_works_under_uvloop(redundancy: int) -> None:
    try:
        uvloop = import_module("uvloop")
    except ImportError:
        lacking("uvloop is not installed")

    async def run() -> list[Message]:
        async with (
            serve(SimOptions()) as venue,
            connected(venue, redundancy=redundancy) as (client, heard),
        ):
            await client.subscribe("fills")
            await client.subscribe("book", [P])
            await heard.of("book", 3)
            return heard.messages

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(run())[0] == INFO


def test_a_users_typed_program_runs_as_it_stands(tmp_path: Path) -> None:
    sample = Path(__file__).parent / "library_sample.py"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-m", f"tests.{sample.stem}"],
        cwd=sample.parent.parent,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert "best bid" in run.stdout
