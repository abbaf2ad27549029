"""The load server against a client that is known to be right."""

from __future__ import annotations

import json

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.bench.load import PRODUCT, Load, payloads, serve

MESSAGES = 5000  # more than one chunk


@pytest.mark.parametrize("feed", ["book", "ticker"])
async def test_a_client_gets_every_message_in_order_and_then_a_close(feed: str) -> None:
    load = Load(feed, MESSAGES)
    async with serve(load) as port, connect(f"ws://127.0.0.1:{port}/ws/v1") as client:
        await subscribe(client, feed, PRODUCT)
        texts = [text async for text in client]
    assert json.loads(texts[0]) == {"event": "info", "version": 1}
    assert json.loads(texts[1])["event"] == "subscribed"
    assert texts[2:] == [payload.decode() for payload in payloads(load)]
    assert client.close_code == 1000


async def test_pings_and_the_quiet_heartbeat_are_answered_and_start_no_load() -> None:
    async with (
        serve(Load("ticker", 1)) as port,
        connect(f"ws://127.0.0.1:{port}/ws/v1") as client,
    ):
        await subscribe(client, "heartbeat")
        await (await client.ping())
        await subscribe(client, "ticker", PRODUCT)
        kinds = [
            (json.loads(text).get("event"), json.loads(text).get("feed")) async for text in client
        ]
    assert kinds == [
        ("info", None),
        ("subscribed", "heartbeat"),
        ("subscribed", "ticker"),
        (None, "ticker"),
    ]


async def test_a_client_may_leave_in_the_middle() -> None:
    async with serve(Load("book", MESSAGES)) as port:
        async with connect(f"ws://127.0.0.1:{port}/ws/v1", max_queue=1) as client:
            await subscribe(client, "book", PRODUCT)
            await client.recv()
        assert client.close_code == 1000


def test_the_numbers_of_a_book_follow_its_snapshot_without_a_gap() -> None:
    messages = [json.loads(payload) for payload in payloads(Load("book", 100))]
    assert [message["feed"] for message in messages] == ["book_snapshot"] + ["book"] * 99
    assert [message["seq"] - messages[0]["seq"] for message in messages] == list(range(100))


async def test_a_compressed_load_is_the_same_load() -> None:
    load = Load("book", 300, deflate=True)
    async with serve(load) as port, connect(f"ws://127.0.0.1:{port}/ws/v1") as client:
        assert [each.name for each in client.protocol.extensions] == ["permessage-deflate"]
        await subscribe(client, "book", PRODUCT)
        texts = [text async for text in client]
    assert texts[2:] == [payload.decode() for payload in payloads(load)]


async def test_a_load_of_several_products_begins_when_all_connections_asked_for_all() -> None:
    load = Load("book", 12, products=3, connections=2)
    begun: list[str] = []
    async with serve(load, on_start=lambda: begun.append("now")) as port:
        url = f"ws://127.0.0.1:{port}/ws/v1"
        async with connect(url) as one, connect(url) as other:
            for client, products in ((one, load.names), (other, load.names[:2])):
                for product in products:
                    await subscribe(client, "book", product)
                await (await client.ping())  # what was asked for before it has arrived
            assert begun == []
            await subscribe(other, "book", load.names[2])
            assert [text async for text in one][4:] == [text async for text in other][4:]
    assert begun == ["now"]


def test_every_product_of_a_load_has_its_own_snapshot_and_its_own_numbers() -> None:
    load = Load("book", 12, products=3)
    messages = [json.loads(payload) for payload in payloads(load)]
    assert [message["product_id"] for message in messages] == load.names * 4
    assert [message["feed"] for message in messages] == ["book_snapshot"] * 3 + ["book"] * 9
    for product in load.names:
        numbers = [each["seq"] for each in messages if each["product_id"] == product]
        assert [number - numbers[0] for number in numbers] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "load",
    [
        Load("book", 5),
        Load("book", 5, 10_000),
        Load("ticker", 7, products=350, connections=2, tls=True),
        Load("trade", 7, 5, deflate=True),
    ],
    ids=str,
)
def test_a_load_is_read_from_what_it_is_written_as(load: Load) -> None:
    assert Load.parse(str(load)) == load


async def subscribe(client: ClientConnection, feed: str, *products: str) -> None:
    named = {"product_ids": list(products)} if products else {}
    await client.send(json.dumps({"event": "subscribe", "feed": feed, **named}))
