"""Out of a real nats-server, what one and two recorders put into it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest

from kfws.errors import InUse, OutputError, Unreachable, UsageError
from kfws.protocol.events import Closed, Data, Event, Gap, Opened, Redial, Restart, Tick
from kfws.protocol.visible import Books
from kfws.sources.jetstream import FromJetStream
from kfws.tapes.jetstream import Door, open_stream
from kfws.tapes.subjects import Address, Names
from tests.nats_server import NatsServer, nats_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path / "server") as running:
        yield running


def deltas(*numbers: int, feed: str = "book", product: str = "PF_XBTUSD") -> list[Data]:
    text = '{"feed":"%s","product_id":"%s","side":"buy","seq":%d,"price":1,"qty":1,"timestamp":%d}'
    return [
        Data(
            payload=(text % (feed, product, n, n)).encode(),
            received_ns=time.time_ns(),
            feed=feed,
            product=product,
            seq=n,
            venue_ms=n,
        )
        for n in numbers
    ]


async def publish(
    server: NatsServer, messages: Sequence[Data | Event], recorder: str = "west", **options: Any
) -> None:
    """As a recorder does; with ``again`` as one whose copy the server does not know any more."""
    again = options.pop("again", False)
    names = Names("kraken", "sim", recorder)
    client = await nats.connect(server.host)
    try:
        context, _ = await open_stream(client, "kraken")
        for each in messages:
            assert type(each) is Data
            filed = names.file(each)
            headers = filed.headers | ({"Nats-Msg-Id": f"again:{filed.id}"} if again else {})
            await context.publish(filed.subject, filed.payload, headers=headers)
    finally:
        await client.close()


@asynccontextmanager
async def reading(server: NatsServer, *feeds: str, **more: Any) -> AsyncIterator[Reading]:
    source = FromJetStream(
        Door(Address.of(server.address)), "kraken.sim", feeds=feeds or ["book"], **more
    )
    reading = Reading(source)
    try:
        yield reading
    finally:
        await reading.batches.aclose()
        await source.close()


class Reading:
    """A source and all that came of it."""

    def __init__(self, source: FromJetStream) -> None:
        self.source = source
        self.batches = source.events()
        self.came: list[Event] = []

    @property
    def numbers(self) -> list[int | None]:
        return [each.seq for each in self.came if type(each) is Data]

    @property
    def gaps(self) -> list[tuple[int | None, int | None]]:
        return [(each.first, each.last) for each in self.came if isinstance(each, Gap)]

    async def begin(self) -> None:
        batch = await anext(self.batches)
        assert isinstance(batch[0], Opened)

    async def until(self, number: int) -> None:
        """Until the message with that number came."""
        while number not in self.numbers:
            self.came += await anext(self.batches)


async def test_what_comes_from_now_on_is_given_as_it_was_published(server: NatsServer) -> None:
    await publish(server, deltas(1, 2, 3))
    async with reading(server) as one:
        await one.begin()
        sent = deltas(4, 5, 6)
        await publish(server, sent)
        await one.until(6)
        found = [each for each in one.came if type(each) is Data]
    assert [each.payload for each in found] == [each.payload for each in sent]
    assert [each.received_ns for each in found] == [each.received_ns for each in sent]
    assert one.gaps == []


@pytest.mark.parametrize("begin", [{"from_seq": 3}, {"since_s": 60.0}])
async def test_a_reader_begins_where_it_is_told_to(
    server: NatsServer, begin: dict[str, Any]
) -> None:
    await publish(server, deltas(1, 2, 3, 4))
    async with reading(server, **begin) as one:
        await one.begin()
        await one.until(4)
    assert one.numbers == ([3, 4] if "from_seq" in begin else [1, 2, 3, 4])


async def test_a_number_beyond_the_end_of_the_stream_is_refused(server: NatsServer) -> None:
    await publish(server, deltas(1, 2))
    async with reading(server, from_seq=669038) as one:
        with pytest.raises(UsageError, match=r"kraken ends at 2; --from-seq 669038 is beyond it"):
            await one.begin()
    async with reading(server, from_seq=3) as next_one:
        await next_one.begin()
        await publish(server, deltas(3))
        await next_one.until(3)


async def test_a_number_of_what_aged_out_is_told_once(server: NatsServer) -> None:
    await publish(server, deltas(1, 2, 3, 4, 5))
    client = await nats.connect(server.host)
    await client.jetstream().purge_stream("kraken", seq=4)
    await client.close()
    told: list[tuple[str, ...]] = []
    for from_seq in (2, 1, 4):
        async with reading(server, from_seq=from_seq, say=lambda *x: told.append(x)) as one:
            await one.begin()
            await one.until(5)
    assert told == [
        (
            "aged-out",
            "the stream kraken begins at 4: what was before is gone",
            "reading from 4 on, not from 2",
        )
    ]


async def test_what_no_recorder_has_is_named_by_its_numbers(server: NatsServer) -> None:
    await publish(server, deltas(1, 2, 5, 6))
    async with reading(server, from_seq=1) as one:
        await one.begin()
        await one.until(6)
    assert one.numbers == [1, 2, 5, 6]
    assert one.gaps == [(3, 4)]


async def test_of_two_recorders_each_message_comes_once_and_in_order(server: NatsServer) -> None:
    await publish(server, deltas(1, 2, 3, 6, 7), "west")
    await publish(server, deltas(1, 2, 3, 4, 5, 6, 7, 8), "east")
    async with reading(server, from_seq=1) as one:
        await one.begin()
        await one.until(8)
    assert one.numbers == [1, 2, 3, 4, 5, 6, 7, 8]
    assert one.gaps == []


async def test_what_follows_late_after_an_outage_is_no_gap_however_old_it_is(
    server: NatsServer,
) -> None:
    hour_ns = 3_600_000_000_000
    old = deltas(1, 2, 3, 4, 5)
    for each in old:
        each.received_ns -= hour_ns
    await publish(server, [old[0], old[1], old[4]])
    async with reading(server, from_seq=1) as one:
        await one.begin()
        await one.until(2)
        await publish(server, old[2:4], "east")
        await one.until(5)
    assert one.numbers == [1, 2, 3, 4, 5]
    assert one.gaps == []


async def test_a_copy_that_the_server_stored_twice_is_given_once(server: NatsServer) -> None:
    await publish(server, deltas(1, 2, 3))
    await publish(server, deltas(1, 2, 3), "east", again=True)
    await publish(server, deltas(4))
    async with reading(server, from_seq=1) as one:
        await one.begin()
        await one.until(4)
    assert one.numbers == [1, 2, 3, 4]


async def test_only_feeds_and_products_that_are_asked_for_come(server: NatsServer) -> None:
    await publish(server, deltas(1, 2))
    await publish(server, deltas(50, product="PF_ETHUSD"))
    await publish(server, deltas(70, product="FI_XBTUSD"))
    await publish(server, deltas(60, feed="trade"))
    await publish(server, deltas(3))
    async with reading(server, from_seq=1, products=["PF_XBTUSD"]) as one:
        await one.begin()
        await one.until(3)
    async with reading(server, "book", "trade", from_seq=1, products=["PF_*"]) as other:
        await other.begin()
        await other.until(3)
    assert one.numbers == [1, 2, 3]
    assert other.numbers == [1, 2, 50, 60, 3]


async def test_a_reader_outlives_its_server_and_goes_on_where_it_was(server: NatsServer) -> None:
    async with reading(server, since_s=60.0) as one:
        await publish(server, deltas(1, 2))
        await one.begin()
        await one.until(2)
        server.stop(signal.SIGKILL)
        server.start()
        await publish(server, deltas(3, 4))
        await one.until(4)
    assert one.numbers == [1, 2, 3, 4]
    assert one.gaps == []
    assert any(isinstance(each, Closed) for each in one.came)


async def test_a_durable_consumer_goes_on_behind_what_was_acknowledged(
    server: NatsServer,
) -> None:
    await publish(server, deltas(1, 2, 3))
    async with reading(server, from_seq=1, consumer="desk") as one:
        await one.begin()
        await one.until(3)
        await one.source.acknowledge()
    await publish(server, deltas(4, 5))
    async with reading(server, consumer="desk") as other:
        await other.begin()
        await other.until(5)
    assert other.numbers == [4, 5]


async def test_what_was_not_acknowledged_comes_again(server: NatsServer) -> None:
    await publish(server, deltas(1, 2, 3))
    async with reading(server, from_seq=1, consumer="desk") as one:
        await one.begin()
        await one.until(3)
        kept = [each for each in one.came if type(each) is Data and each.seq == 3]
        await one.source.acknowledge(kept)
    async with reading(server, consumer="desk") as other:
        await publish(server, deltas(4))
        await other.begin()
        await other.until(4)
    assert other.numbers == [3, 4]


async def test_a_consumer_has_one_reader(server: NatsServer) -> None:
    await publish(server, deltas(1))
    async with reading(server, from_seq=1, consumer="desk") as one:
        await one.begin()
        await one.until(1)
        async with reading(server, consumer="desk") as other:
            with pytest.raises(InUse, match="another reader has the consumer desk"):
                await other.begin()


async def test_a_consumer_of_other_feeds_is_not_ours(server: NatsServer) -> None:
    await publish(server, deltas(1))
    async with reading(server, from_seq=1, consumer="desk") as one:
        await one.begin()
        await one.until(1)
    async with reading(server, "trade", consumer="desk") as other:
        with pytest.raises(OutputError, match="the consumer desk reads"):
            await other.begin()


async def test_a_stream_that_is_not_there_is_named(server: NatsServer) -> None:
    async with reading(server) as one:
        with pytest.raises(Unreachable, match="there is no stream kraken"):
            await one.begin()


# From the middle


async def keep(server: NatsServer, seq: int, product: str = "PF_XBTUSD") -> Data:
    """A book's snapshot, as a recorder keeps it for who begins later."""
    text = (
        '{"feed":"book_snapshot","product_id":"%s","timestamp":%d,"seq":%d,"tickSize":null,'
        '"bids":[{"price":1,"qty":1}],"asks":[]}'
    )
    payload = (text % (product, seq, seq)).encode()
    data = Data(
        payload=payload,
        received_ns=time.time_ns(),
        feed="book",
        kind="snapshot",
        product=product,
        seq=seq,
        venue_ms=seq,
    )
    filed = Names("kraken", "sim", "west").file_kept(data)
    client = await nats.connect(server.host)
    try:
        context = client.jetstream()
        await context.publish(filed.subject, filed.payload, headers=filed.headers)
    finally:
        await client.close()
    return data


async def test_a_reader_from_now_begins_a_book_with_the_last_snapshot_and_what_followed(
    server: NatsServer,
) -> None:
    await publish(server, deltas(1, 2))
    await keep(server, 2)
    await publish(server, deltas(3, 4, 5))  # one recorder is ahead of the other's snapshot
    kept = await keep(server, 4)
    await publish(server, deltas(60, 61, feed="trade"))
    await publish(server, deltas(6))
    async with reading(server, "book", "trade") as one:
        await one.begin()
        await one.until(6)
        await publish(server, deltas(7))
        await publish(server, deltas(62, feed="trade"))
        await one.until(62)
    assert one.numbers == [4, 5, 6, 7, 62]
    assert next(each for each in one.came if type(each) is Data).payload == kept.payload
    assert one.gaps == []


async def test_a_book_that_nothing_happened_to_since_is_given_at_once(server: NatsServer) -> None:
    await publish(server, deltas(1, 2))
    for product in ("PF_XBTUSD", "PF_ETHUSD", "FI_XBTUSD"):
        await keep(server, 2, product)
    async with reading(server, products=["PF_*"]) as one:
        await one.begin()
        await one.until(2)
    found = {each.product for each in one.came if type(each) is Data}
    assert found == {"PF_XBTUSD", "PF_ETHUSD"}
    assert any(isinstance(each, Tick) for each in one.came)


async def test_a_reader_that_lost_its_server_keeps_its_books(server: NatsServer) -> None:
    await publish(server, deltas(1, 2))
    await keep(server, 2)
    books = Books(1, {})
    books.apply(Opened(received_ns=1, connection=1, url="nats://…"))
    async with reading(server) as one:
        await one.begin()
        await publish(server, deltas(3))
        await one.until(3)
        server.stop(signal.SIGKILL)
        server.start()
        await publish(server, deltas(4))
        await one.until(4)
    for event in one.came:
        books.apply(event)
    assert any(isinstance(each, Redial) for each in one.came)
    assert (books.of["PF_XBTUSD"].book.seq, books.of["PF_XBTUSD"].book.stale) == (4, False)


async def test_a_book_outlives_that_the_venue_counts_anew(server: NatsServer) -> None:
    await publish(server, deltas(5_000))
    await keep(server, 5_000)
    books = Books(1, {})
    async with reading(server) as one:
        await one.begin()
        await publish(server, deltas(5_001))
        await one.until(5_001)
        snapshot = await keep(server, 7)  # under another subject it is nothing to who reads on
        snapshot.venue_ms = 9_000
        snapshot.payload = snapshot.payload.replace(b'"timestamp":7', b'"timestamp":9000')
        following = deltas(8)
        following[0].venue_ms = 9_001
        following[0].payload = following[0].payload.replace(b'"timestamp":8', b'"timestamp":9001')
        await publish(server, [snapshot, *following])
        await one.until(8)
    for event in one.came:
        books.apply(event)
    assert [each.seq for each in one.came if isinstance(each, Restart)] == [7]
    assert (books.of["PF_XBTUSD"].book.seq, books.of["PF_XBTUSD"].book.stale) == (8, False)


async def test_with_since_all_messages_come_and_the_snapshot_where_it_belongs(
    server: NatsServer,
) -> None:
    await publish(server, deltas(1, 2, 3))
    await keep(server, 2)
    async with reading(server, since_s=60.0) as one:
        await one.begin()
        await one.until(3)
    assert [(each.seq, each.kind) for each in one.came if type(each) is Data] == [
        *((1, "delta"), (2, "delta"), (2, "snapshot"), (3, "delta"))
    ]


async def test_who_wants_no_snapshots_or_goes_on_with_a_consumer_gets_none(
    server: NatsServer,
) -> None:
    await publish(server, deltas(1, 2))
    await keep(server, 2)
    more: list[dict[str, Any]] = [{"snapshots_pass": False}, {"consumer": "desk"}, {"from_seq": 1}]
    for n, options in enumerate(more):
        async with reading(server, **options) as one:
            await one.begin()
            await publish(server, deltas(3 + n))
            await one.until(3 + n)
        assert all(each.kind == "delta" for each in one.came if type(each) is Data)


async def test_a_reader_of_what_nobody_records_is_told_what_there_is(server: NatsServer) -> None:
    await publish(server, deltas(1, 2))
    await keep(server, 2)
    told: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()
    async with reading(server, products=["PF_ETHUSD"], say=lambda *x: told.put_nowait(x)) as one:
        await one.begin()
        reading_on = asyncio.create_task(one.until(99))
        code, what, hint = await told.get()
        reading_on.cancel()
        await asyncio.gather(reading_on, return_exceptions=True)
    assert code == "nothing-there"
    assert what.endswith("nothing of what was asked for of sim; it has sim (book)")
    assert hint == "look at --env or --url (as the recorder had it), feeds and products; waiting"


def tickers(first_ns: int, count: int) -> list[Data]:
    """One a second."""
    text = '{"feed":"ticker","product_id":"PF_XBTUSD","time":%d}'
    moments = [first_ns + n * 1_000_000_000 for n in range(count)]
    return [
        Data(
            payload=(text % (at_ns // 1_000_000)).encode(),
            received_ns=at_ns,
            feed="ticker",
            product="PF_XBTUSD",
            venue_ms=at_ns // 1_000_000,
        )
        for at_ns in moments
    ]


async def test_a_feed_without_numbers_goes_over_to_the_other_recorder(server: NatsServer) -> None:
    start_ns = 1_790_360_004_000_000_000
    both = tickers(start_ns, 3)
    for each in both:  # side by side
        await publish(server, [each], "west")
        await publish(server, [each], "east")
    later = tickers(start_ns + 3_000_000_000, 5)
    await publish(server, later, "east")
    async with reading(server, "ticker", from_seq=1) as one:
        await one.begin()
        while later[-1].payload not in [x.payload for x in one.came if type(x) is Data]:
            one.came += await anext(one.batches)
    found = [each.payload for each in one.came if type(each) is Data]
    assert found == [each.payload for each in (*both, *later)]
    gaps = [each for each in one.came if isinstance(each, Gap)]
    assert [(each.cause, each.missing) for each in gaps] == [("takeover", None)]
