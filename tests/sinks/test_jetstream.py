"""Into a real nats-server, killed and started again as a bad day would."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import nats
import pytest
import trustme
from nats.js.api import StreamConfig

from kfws.errors import DiskFull, InUse, OutputError, Unreachable, Unwelcome, UsageError
from kfws.protocol.events import Data, Gap, Opened
from kfws.sinks.jetstream import JetStreamOutlet, read_config
from kfws.sinks.spool import Spool
from kfws.tapes.jetstream import Door
from kfws.tapes.subjects import CONNECTION, RECEIVED, RECORDER, Address, Names
from tests.nats_creds import Operator, creds_file
from tests.nats_server import NatsServer, nats_server
from tests.sinks.test_file import mounted


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path / "server") as running:
        yield running


class Told:
    """What the outlet said, by the word for machines."""

    def __init__(self) -> None:
        self.codes: list[str] = []
        self.facts: dict[str, Any] = {}
        self._changed = asyncio.Event()

    def say(self, level: str, code: str, message: str, *, hint: str = "", **facts: Any) -> None:
        self.codes.append(code)
        self.facts |= facts
        self._changed.set()

    async def until(self, code: str) -> None:
        while code not in self.codes:
            self._changed.clear()
            await self._changed.wait()


def an_outlet(
    server: NatsServer, folder: Path, told: Told, recorder: str = "west", **more: Any
) -> JetStreamOutlet:
    spool = Spool(folder / f"{recorder}.ndjson", more.pop("spool_bytes", 10_000_000))
    door = Door(Address.of(server.address), token=more.pop("token", None))
    names = Names("kraken", "sim", recorder)
    return JetStreamOutlet(door, names, spool, told.say, full_bytes=1_000_000, **more)


async def cut_off(server: NatsServer, folder: Path, told: Told, **more: Any) -> JetStreamOutlet:
    """One that is open, and whose server is away by now."""
    outlet = an_outlet(server, folder, told, **more)
    await outlet.open()
    server.stop(signal.SIGKILL)
    await told.until("jetstream-away")
    return outlet


def deltas(first: int, last: int, product: str = "PF_XBTUSD", *, at_ns: int = 0) -> list[Data]:
    at_ns = at_ns or time.time_ns()
    text = (
        '{"feed":"book","product_id":"%s","side":"buy","seq":%d,"price":1,"qty":1,"timestamp":%d}'
    )
    return [
        Data(
            payload=(text % (product, n, n)).encode(),
            received_ns=at_ns,
            feed="book",
            product=product,
            seq=n,
            venue_ms=n,
        )
        for n in range(first, last + 1)
    ]


@asynccontextmanager
async def looking(server: NatsServer, **options: Any) -> Any:
    client = await nats.connect(server.host, **options)
    try:
        yield client.jetstream()
    finally:
        await client.close()


async def stored(server: NatsServer, subject: str = "kraken.>") -> list[Any]:
    """All that the server has, in its order."""
    async with looking(server) as context:
        info = await context.stream_info("kraken")
        found = [await context.get_msg("kraken", seq=n + 1) for n in range(info.state.last_seq)]
    return [each for each in found if subject == "kraken.>" or each.subject == subject]


async def test_messages_arrive_byte_for_byte_with_their_headers(
    server: NatsServer, tmp_path: Path
) -> None:
    told = Told()
    outlet = an_outlet(server, tmp_path, told)
    await outlet.open()
    sent = deltas(1, 50)
    outlet.write([Opened(received_ns=1, connection=7, url="ws://x"), *sent])
    await outlet.flush()
    outlet.close()
    await outlet.leave()
    found = await stored(server, "kraken.sim.book.PF_XBTUSD")
    assert [each.data for each in found] == [each.payload for each in sent]
    assert found[0].headers[RECEIVED] == str(sent[0].received_ns)
    assert found[0].headers[RECORDER] == "west"
    assert found[0].headers[CONNECTION] == "7"
    assert told.facts["published"] == told.facts["acknowledged"] == 50
    assert not (tmp_path / "west.ndjson").exists()


async def test_a_recorders_own_words_are_in_the_stream_too(
    server: NatsServer, tmp_path: Path
) -> None:
    outlet = an_outlet(server, tmp_path, Told())
    await outlet.open()
    gap = Gap(
        received_ns=9, feed="ticker", product="PF_XBTUSD", first=None, last=None, missing=None,
        cause="outage", from_ns=1, to_ns=9,
    )  # fmt: skip
    outlet.write([gap])
    await outlet.flush()
    outlet.close()
    await outlet.leave()
    (found,) = await stored(server, "kraken.sim.kfws.west")
    assert found.data.startswith(b'{"kfws":"gap"')


def a_snapshot(seq: int) -> Data:
    text = (
        '{"feed":"book_snapshot","product_id":"PF_XBTUSD","timestamp":%d,"seq":%d,"tickSize":null,'
        '"bids":[],"asks":[]}'
    )
    payload = (text % (seq, seq)).encode()
    return Data(
        payload=payload,
        received_ns=time.time_ns(),
        feed="book",
        kind="snapshot",
        product="PF_XBTUSD",
        seq=seq,
        venue_ms=seq,
    )


async def test_snapshots_of_books_are_kept_apart_too_and_counted_once(
    server: NatsServer, tmp_path: Path
) -> None:
    told = Told()
    outlet = an_outlet(server, tmp_path, told)
    await outlet.open()
    first, fresh = a_snapshot(4), a_snapshot(9)
    outlet.write([first, *deltas(5, 9)])
    outlet.keep([fresh])
    await outlet.flush()
    outlet.close()
    await outlet.leave()
    found = await stored(server, "kraken.sim.book_snapshot.PF_XBTUSD")
    assert [each.data for each in found] == [first.payload, fresh.payload]
    assert len(await stored(server, "kraken.sim.book.PF_XBTUSD")) == 6
    assert told.facts["published"] == told.facts["acknowledged"] == 6


async def test_what_is_kept_for_others_does_not_wait_on_disk(
    server: NatsServer, tmp_path: Path
) -> None:
    told = Told()
    outlet = an_outlet(server, tmp_path, told)
    await outlet.open()
    outlet.keep([a_snapshot(4)])
    server.stop(signal.SIGKILL)
    await told.until("jetstream-away")
    outlet.write([a_snapshot(9)])
    outlet.keep([a_snapshot(9)])
    outlet.close()
    await outlet.leave()
    assert (tmp_path / "west.ndjson").read_text().count("book_snapshot") == 1
    assert outlet.pending_lines == 0


async def test_two_recorders_of_one_stream_are_stored_once(
    server: NatsServer, tmp_path: Path
) -> None:
    told = Told()
    west, east = an_outlet(server, tmp_path, Told()), an_outlet(server, tmp_path, told, "east")
    for outlet, last in ((west, 30), (east, 40)):
        await outlet.open()
        outlet.write(deltas(1, last))
        await outlet.flush()
        outlet.close()
        await outlet.leave()
    assert [each.data for each in await stored(server)] == [x.payload for x in deltas(1, 40)]
    assert told.facts["duplicates"] == 30


async def test_while_the_server_is_away_messages_wait_and_arrive_in_order(
    server: NatsServer, tmp_path: Path
) -> None:
    told = Told()
    outlet = an_outlet(server, tmp_path, told)
    await outlet.open()
    outlet.write(deltas(1, 500))
    server.stop(signal.SIGKILL)  # whatever of them it has
    await told.until("jetstream-away")
    outlet.write(deltas(501, 1_000))
    server.start()
    await told.until("jetstream-back")
    outlet.write(deltas(1_001, 1_200))
    await outlet.flush()
    outlet.close()
    await outlet.leave()
    assert [each.data for each in await stored(server)] == [x.payload for x in deltas(1, 1_200)]
    assert told.facts["spooled"] >= 500
    assert outlet.pending_lines == 0


async def test_what_a_run_leaves_in_the_spool_the_next_one_publishes_first(
    server: NatsServer, tmp_path: Path
) -> None:
    outlet = await cut_off(server, tmp_path, Told())
    outlet.write(deltas(1, 100))
    await outlet.flush()
    outlet.close()
    await outlet.leave()
    assert (tmp_path / "west.ndjson").exists()
    server.start()
    following = an_outlet(server, tmp_path, Told())
    await following.open()
    following.write(deltas(101, 110))
    await following.flush()
    following.close()
    await following.leave()
    assert [each.data for each in await stored(server)] == [x.payload for x in deltas(1, 110)]
    assert not (tmp_path / "west.ndjson").exists()


async def test_after_a_long_outage_only_what_is_newer_is_published(
    server: NatsServer, tmp_path: Path
) -> None:
    config = {"duplicate_window": 100_000_000}
    east = an_outlet(server, tmp_path, Told(), "east", config=config)
    await east.open()
    east.write(deltas(1, 60))
    await east.flush()
    east.close()
    await east.leave()
    old = time.time_ns() - 1_000_000_000
    left = Spool(tmp_path / "west.ndjson", 1_000_000)
    left.open()
    left.put(deltas(40, 80, at_ns=old))
    left.close()
    west = an_outlet(server, tmp_path, told := Told())
    await west.open()
    await west.flush()
    west.close()
    await west.leave()
    assert [each.data for each in await stored(server)] == [x.payload for x in deltas(1, 80)]
    assert told.facts["skipped"] == 21


async def test_a_message_that_the_server_never_takes_is_kept_beside_the_spool(
    tmp_path: Path,
) -> None:
    with nats_server(tmp_path / "server", "max_payload: 1000") as server:
        outlet = an_outlet(server, tmp_path, told := Told())
        await outlet.open()
        large = Data(
            payload=b'{"feed":"book","x":"' + b"x" * 2_000 + b'"}',
            received_ns=1,
            feed="book",
            product="P",
            seq=1,
            venue_ms=1,
        )
        outlet.write([large, *deltas(1, 3)])
        await outlet.flush()
        outlet.close()
        await outlet.leave()
        assert len(await stored(server)) == 3
    assert "too-large" in told.codes
    kept = (tmp_path / "west.ndjson.too-large").read_bytes()
    assert large.payload[1:] in kept


async def test_a_server_that_refuses_is_as_good_as_away(server: NatsServer, tmp_path: Path) -> None:
    config = {"max_msgs": 5, "discard": "new"}
    outlet = an_outlet(server, tmp_path, told := Told(), config=config)
    await outlet.open()
    outlet.write(deltas(1, 10))
    await told.until("jetstream-away")
    async with looking(server) as context:
        info = await context.stream_info("kraken")
        await context.update_stream(info.config.evolve(max_msgs=-1))
    await told.until("jetstream-back")
    while len(await stored(server)) < 10:
        await outlet.flush()
    outlet.close()
    await outlet.leave()
    found = [each.data for each in await stored(server)]
    assert found == [each.payload for each in deltas(1, 10)]


async def test_a_full_spool_ends_the_run_and_says_what_is_lost(
    server: NatsServer, tmp_path: Path
) -> None:
    outlet = await cut_off(server, tmp_path, Told(), spool_bytes=1_000)
    with pytest.raises(DiskFull, match="is full"):
        outlet.write(deltas(1, 100))
    with pytest.raises(DiskFull):
        outlet.close()
    await outlet.leave()
    assert outlet.pending_lines == 100


def spooled(path: Path) -> list[int]:
    """Numbers of the messages that are there; each line is whole."""
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [each["seq"] for each in lines if "seq" in each]


async def test_a_disk_without_room_for_the_spool_ends_the_run_and_the_loss_is_counted(
    server: NatsServer, tmp_path: Path
) -> None:
    with mounted(tmp_path / "disk", "64k") as disk:
        outlet = await cut_off(server, disk, told := Told())
        outlet.write(deltas(1, 100))
        with pytest.raises(DiskFull, match="disk full") as raised:
            outlet.write(deltas(101, 1_000))
        with pytest.raises(DiskFull):
            outlet.sync(0)
        with pytest.raises(DiskFull):
            outlet.close()
        await outlet.leave()
        kept = spooled(disk / "west.ndjson")
    assert raised.value.hint == "make room, then record on"
    assert kept == [*range(1, 1_000 - outlet.pending_lines + 1)]
    assert told.facts["spooled"] == len(kept)


async def test_who_waits_for_room_loses_nothing_and_takes_no_more_than_memory_holds(
    server: NatsServer, tmp_path: Path
) -> None:
    with mounted(tmp_path / "disk", "64k") as disk:
        outlet = await cut_off(server, disk, told := Told(), waits=True)
        last = 0
        while not outlet.is_full:
            outlet.write(deltas(last + 1, last + 100))
            last += 100
        outlet.sync(0)
        assert told.codes.count("disk-full") == 1
        server.start()
        await outlet.drain()
        await told.until("jetstream-back")
        outlet.write(deltas(last + 1, last + 10))
        await outlet.flush()
        outlet.close()
        await outlet.leave()
    stored_now = [each.data for each in await stored(server, "kraken.sim.book.PF_XBTUSD")]
    assert stored_now == [each.payload for each in deltas(1, last + 10)]
    assert told.codes.count("room") == 1
    assert outlet.pending_lines == 0


async def test_room_that_comes_back_is_used_while_the_server_is_away(
    server: NatsServer, tmp_path: Path
) -> None:
    with mounted(tmp_path / "disk", "64k") as disk:
        other = disk / "other"
        other.write_bytes(b"x" * 40_000)
        outlet = await cut_off(server, disk, told := Told(), waits=True)
        outlet.write(deltas(1, 200))
        assert outlet.pending_lines > 0
        other.unlink()
        outlet.sync(0)
        assert told.codes[-1] == "room"
        outlet.write(deltas(201, 210))
        assert outlet.pending_lines == 0
        outlet.close()
        await outlet.leave()
        assert spooled(disk / "west.ndjson") == [*range(1, 211)]


async def test_what_finds_no_room_to_the_end_is_lost_and_counted(
    server: NatsServer, tmp_path: Path
) -> None:
    with mounted(tmp_path / "disk", "16k") as disk:
        outlet = await cut_off(server, disk, Told(), waits=True)
        outlet.write(deltas(1, 1_000))
        with pytest.raises(DiskFull):
            outlet.close()
        await outlet.leave()
        assert len(spooled(disk / "west.ndjson")) + outlet.pending_lines == 1_000


async def test_a_server_whose_disk_is_full_is_away_and_gets_all_when_it_is_started_again(
    tmp_path: Path,
) -> None:
    """nats-server 2.9.10 answers nothing any more then, not even a signal to end."""
    with (
        mounted(tmp_path / "disk", "40m") as disk,
        nats_server(disk / "server", store="max_file_store: 1GB") as server,
    ):
        config = {"max_bytes": -1, "duplicate_window": 120_000_000_000}
        outlet = an_outlet(server, tmp_path, told := Told(), config=config)
        await outlet.open()
        outlet.write(deltas(1, 100))
        await outlet.flush()
        fill(disk / "other")
        outlet.write(deltas(101, 1_000))
        await told.until("jetstream-away")
        outlet.write(deltas(1_001, 1_200))
        (disk / "other").unlink()
        server.stop(signal.SIGKILL)
        server.start()
        await told.until("jetstream-back")
        await outlet.flush()
        outlet.close()
        await outlet.leave()
        found = await stored(server, "kraken.sim.book.PF_XBTUSD")
    assert [each.data for each in found] == [each.payload for each in deltas(1, 1_200)]


def fill(path: Path) -> None:
    """Takes all the room that the disk has."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4_096)


async def test_a_spool_has_one_writer(server: NatsServer, tmp_path: Path) -> None:
    outlet = an_outlet(server, tmp_path, Told())
    await outlet.open()
    with pytest.raises(InUse):
        await an_outlet(server, tmp_path, Told()).open()
    outlet.close()
    await outlet.leave()


async def test_a_stream_that_takes_other_subjects_is_not_touched(
    server: NatsServer, tmp_path: Path
) -> None:
    async with looking(server) as context:
        await context.add_stream(StreamConfig(name="kraken", subjects=["orders.>"]))
    with pytest.raises(OutputError, match=r"takes orders\.>, not kraken\.sim"):
        await an_outlet(server, tmp_path, Told()).open()
    async with looking(server) as context:
        info = await context.stream_info("kraken")
    assert info.config.subjects == ["orders.>"]


async def test_a_missing_stream_is_made_as_the_file_says(
    server: NatsServer, tmp_path: Path
) -> None:
    config = read_config('{"config": {"max_bytes": 1000000, "storage": "memory"}}')
    outlet = an_outlet(server, tmp_path, Told(), config=config)
    await outlet.open()
    outlet.close()
    await outlet.leave()
    async with looking(server) as context:
        info = await context.stream_info("kraken")
    assert (info.config.max_bytes, info.config.storage) == (1_000_000, "memory")
    assert info.config.subjects == ["kraken.>"]


@pytest.mark.parametrize("text", ["{", "[]"])
def test_settings_that_are_no_json_object_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read_config(text)


async def test_a_server_that_is_away_at_the_start_ends_the_run(
    server: NatsServer, tmp_path: Path
) -> None:
    server.stop()
    with pytest.raises(Unreachable, match="cannot be reached: connection refused"):
        await an_outlet(server, tmp_path, Told()).open()


async def test_who_is_patient_begins_without_the_server(server: NatsServer, tmp_path: Path) -> None:
    server.stop()
    outlet = an_outlet(server, tmp_path, told := Told(), patient=True)
    await outlet.open()
    outlet.write(deltas(1, 10))
    server.start()
    await told.until("jetstream-back")
    await outlet.flush()
    outlet.close()
    await outlet.leave()
    assert len(await stored(server)) == 10


async def test_a_token_opens_the_door_and_is_never_shown(tmp_path: Path) -> None:
    with nats_server(tmp_path / "server", 'authorization { token: "open-sesame" }') as server:
        with pytest.raises(Unwelcome, match="does not let us in"):
            await an_outlet(server, tmp_path, Told()).open()
        outlet = an_outlet(server, tmp_path, Told(), token="open-sesame")
        await outlet.open()
        outlet.write(deltas(1, 1))
        await outlet.flush()
        outlet.close()
        await outlet.leave()
        async with looking(server, token="open-sesame") as context:
            assert (await context.stream_info("kraken")).state.messages == 1
    assert "open-sesame" not in repr(Door(Address.of(server.address), token="open-sesame"))


async def test_a_server_without_jetstream_is_named(server: NatsServer, tmp_path: Path) -> None:
    server.stop()
    config = tmp_path / "server" / "server.conf"
    config.write_text("")
    server.start()
    with pytest.raises(OutputError, match="has no JetStream"):
        await an_outlet(server, tmp_path, Told()).open()


async def test_tls_is_checked_against_the_authority_that_is_named(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "server.pem"
    )
    pem = tmp_path / "server.pem"
    with nats_server(
        tmp_path / "server", f'tls {{ cert_file: "{pem}", key_file: "{pem}" }}'
    ) as server:
        address = Address.of(server.address.replace("nats://", "tls://"))
        spool = Spool(tmp_path / "west.ndjson", 1_000_000)
        names = Names("kraken", "sim", "west")
        for ca_file, works in ((None, False), (str(tmp_path / "ca.pem"), True)):
            outlet = JetStreamOutlet(
                Door(address, ca_file=ca_file), names, spool, (told := Told()).say, full_bytes=1_000
            )
            if not works:
                with pytest.raises(Unreachable, match="TLS failed"):
                    await outlet.open()
                continue
            await outlet.open()
            outlet.write(deltas(1, 3))
            await outlet.flush()
            outlet.close()
            await outlet.leave()
            assert told.facts["acknowledged"] == 3


async def publish_one(server: NatsServer, folder: Path, **door: Any) -> int:
    """Publishes a message through such a door; how many were acknowledged."""
    spool = Spool(folder / "west.ndjson", 1_000_000)
    names = Names("kraken", "sim", "west")
    outlet = JetStreamOutlet(
        Door(Address.of(server.address), **door), names, spool, (told := Told()).say, full_bytes=99
    )
    await outlet.open()
    outlet.write(deltas(1, 1))
    await outlet.flush()
    outlet.close()
    await outlet.leave()
    return int(told.facts["acknowledged"])


async def test_a_credentials_file_of_the_servers_operator_opens_the_door(tmp_path: Path) -> None:
    operator = Operator()
    ours = creds_file(tmp_path / "ours.creds", operator.user())
    other = creds_file(tmp_path / "other.creds", Operator().user())
    none = tmp_path / "none.creds"
    none.write_text("-----BEGIN NATS USER JWT-----\nx\n")
    with nats_server(tmp_path / "server", operator.config) as server:
        assert await publish_one(server, tmp_path, creds=str(ours)) == 1
        for path, said in (
            (str(other), "does not let us in"),
            (None, "does not let us in"),
            (str(none), "is no credentials file"),
            (str(tmp_path / "missing"), "missing cannot be read: No such file"),
        ):
            with pytest.raises(Unwelcome, match=said) as refused:
                await publish_one(server, tmp_path, creds=path)
            assert "eyJ" not in str(refused.value)
            assert "SU" not in str(refused.value)
