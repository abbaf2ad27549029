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


async def subscribe(client: ClientConnection, feed: str, *products: str) -> None:
    named = {"product_ids": list(products)} if products else {}
    await client.send(json.dumps({"event": "subscribe", "feed": feed, **named}))
