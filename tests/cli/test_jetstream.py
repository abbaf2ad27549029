"""The program and a real nats-server."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.cli.jetstream import Shard, share
from kfws.errors import UsageError
from kfws.protocol.book import Book, Side
from kfws.sim.server import SimOptions, serve
from kfws.tapes.recordings import data_of
from tests.cli import program
from tests.cli.inside import beside, run
from tests.nats_server import NatsServer, nats_server
from tests.sinks.test_file import mounted


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path / "server") as running:
        yield running


def published(err: str) -> str:
    return next(line for line in err.splitlines() if " published, " in line)


def test_a_run_publishes_what_it_streams_and_sums_up(server: NatsServer, tmp_path: Path) -> None:
    done = program.run(
        *("subscribe", "book,trade,ticker", "PF_XBTUSD", "--env", "sim", "-n", "50"),
        *("-o", server.address, "-o", "-", "--spool", str(tmp_path / "spool.ndjson")),
    )
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 50)
    assert "50 published, 50 acknowledged, 0 duplicates" in published(done.stderr)
    assert not (tmp_path / "spool.ndjson").exists()


def test_without_its_server_a_run_ends_with_3(server: NatsServer, tmp_path: Path) -> None:
    server.stop()
    done = program.run(
        *("subscribe", "trade", "PF_XBTUSD", "--env", "sim", "-o", server.address),
        env=program.environment(XDG_STATE_HOME=str(tmp_path)),
    )
    assert done.returncode == 3
    assert "cannot be reached: connection refused" in done.stderr
    assert [*tmp_path.rglob("*.ndjson")] == []


def test_a_place_where_no_spool_can_be_ends_the_run(server: NatsServer) -> None:
    done = run(*PUBLIC, "-o", server.address, "--spool", "/dev/null/spool")
    assert done.status == 8
    assert "cannot make the folder /dev/null" in done.err


def test_a_run_that_is_ended_leaves_what_is_not_published_for_the_next(
    server: NatsServer, tmp_path: Path
) -> None:
    server.stop()
    spool = tmp_path / "spool.ndjson"
    args = ("subscribe", "book", "PF_XBTUSD", "--env", "sim", "-o", server.address, "-o", "-")
    running = program.start(*args, "--spool", str(spool), "--log-format", "json")
    assert running.stdout is not None
    seen = [running.stdout.readline() for _ in range(20)]
    err, status = program.end(running, signal.SIGTERM)
    assert status == 143
    told = [json.loads(line) for line in err.splitlines()]
    facts = next(each for each in told if each["code"] == "jetstream")
    assert facts["spooled"] >= len(seen)
    assert "published at the next start" in facts["hint"]
    server.start()
    done = program.run(*args, "--spool", str(spool), "-n", "5")
    assert done.returncode == 0
    assert f"{facts['spooled'] + 5} published" in published(done.stderr)
    assert not spool.exists()


def test_a_disk_without_room_for_the_spool_is_one_line_and_the_loss_is_counted(
    server: NatsServer, tmp_path: Path
) -> None:
    server.stop()
    with mounted(tmp_path / "disk", "128k") as disk:
        done = program.run(
            *("subscribe", "book", "PF_XBTUSD", "--env", "sim", "-o", server.address, "-o", "-"),
            *("--spool", str(disk / "spool.ndjson")),
        )
        kept = (disk / "spool.ndjson").read_bytes().splitlines()
    assert done.returncode == 8
    [said] = [line for line in done.stderr.splitlines() if "disk full" in line]
    assert said.endswith("make room, then record on")
    lost = int(re.search(r"\((\d+) lines? not written to nats:", said)[1])  # type: ignore[index]
    came = [line.encode() for line in done.stdout.splitlines()]
    stored = [line for line in kept if b'"kfws":' not in line]
    assert len(came) == len(stored) + lost


PRIVATE = ("subscribe", "fills", "--env", "sim", "-o", "nats://h/kraken")
PUBLIC = ("subscribe", "trade", "PF_XBTUSD", "--env", "sim")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (PRIVATE, "--publish-private if you mean it"),
        ((*PUBLIC, "-o", "nats://h/kraken", "--where", "qty>1"), "would thin out the stream"),
        ((*PUBLIC, "-o", "nats://h"), "names no stream"),
        ((*PUBLIC, "-o", "nats://me:secret@h/kraken"), "takes no user, password or token"),
        ((*PUBLIC, "-o", "nats://h/k", "-o", "nats://i/k", "--spool", "x"), "cannot share a"),
        ((*PUBLIC, "-o", "nats://h/k", "--recorder", "a.b"), "is no name"),
        ((*PUBLIC, "-o", "nats://h/k", "--spool-size", "1k"), "is too small"),
        ((*PUBLIC, "-o", "nats://h/k", "--stream-config", "/no/such"), "cannot be read"),
        ((*PUBLIC, "-o", "nats://h/k", "--rotate", "1h"), "--rotate is for files"),
        ((*PUBLIC, "--spool", "x"), "--spool is for a JetStream"),
        ((*PUBLIC, "--snapshots-every", "1m"), "--snapshots-every is for a JetStream"),
        ((*PUBLIC, "-o", "nats://h/k", "--snapshots-every", "1ms"), "is too often"),
        ((*PUBLIC, "-o", "nats://h/k", "--snapshots-every", "x"), "e.g. 10m, or never"),
        ((*PUBLIC, "--nats-creds", "x"), "--nats-creds is for a JetStream"),
        (("book", "PF_XBTUSD", "--env", "sim", "-o", "nats://h/k"), "no output of this version"),
        (
            ("book", "PF_XBTUSD", "--source", "nats://h/k", "-o", "nats://h/k"),
            "no output of this version",
        ),
    ],
)
def test_what_cannot_be_done_with_a_stream_is_said_before_anything_else(
    args: tuple[str, ...], said: str
) -> None:
    done = run(*args)
    assert done.status == 2
    assert said in done.err
    assert "secret@" not in done.err


# Reading

READ = ("subscribe", "book", "PF_XBTUSD")


def numbers(text: str) -> list[int]:
    """Those of deltas, in their order."""
    found = [json.loads(line) for line in text.splitlines()]
    return [each["seq"] for each in found if each["feed"] == "book"]


def test_two_readings_with_one_consumer_are_one_stream(server: NatsServer, tmp_path: Path) -> None:
    spool = ("--spool", str(tmp_path / "spool"))
    done = program.run(*READ, "--env", "sim", "-n", "60", "-o", server.address, *spool)
    assert done.returncode == 0
    source = (*READ, "--env", "sim", "--source", server.address, "--consumer", "desk")
    first = program.run(*source, "--from-seq", "1", "--no-snapshots", "-n", "20", "--strict")
    second = program.run(*source, "--no-snapshots", "-n", "20", "--strict")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    found = numbers(first.stdout) + numbers(second.stdout)
    assert found == list(range(found[0], found[0] + 40))


def test_one_of_two_recorders_killed_is_nothing_to_a_reader(
    server: NatsServer, tmp_path: Path
) -> None:
    with beside(lambda: serve(SimOptions(rate=300))) as venue:
        recorders = [
            program.start(
                *(*READ, "--url", venue.url, "-o", server.address, "--recorder", name),
                *("--spool", str(tmp_path / name)),
            )
            for name in ("west", "east")
        ]
        reader: subprocess.Popen[str] | None = None
        try:
            wait_for_stream(server)
            reader = program.start(
                *(*READ, "--url", venue.url, "--source", server.address, "--since", "1m"),
                *("--no-snapshots", "-n", "600", "--strict"),
            )
            assert reader.stdout is not None
            lines = [reader.stdout.readline() for _ in range(200)]
            recorders[0].kill()
            assert reader.stderr is not None
            rest, err = reader.stdout.read(), reader.stderr.read()
            reader.wait(program.PATIENCE_S)
        finally:
            for each in (*recorders, reader):
                if each is not None:
                    each.kill()
                    each.communicate()
    found = numbers("".join(lines) + rest)
    assert reader.returncode == 0, err
    assert found == list(range(found[0], found[0] + 600))


@pytest.mark.parametrize("every", ["1s", "never"])
def test_a_book_that_is_read_from_now_is_whole_and_the_venues_own(
    server: NatsServer, tmp_path: Path, every: str
) -> None:
    """With ``never`` it begins with what came when the recorder connected."""
    tape = tmp_path / "direct.ndjson"
    with beside(lambda: serve(SimOptions(rate=300))) as venue:
        recorder = program.start(
            *(*READ, "--url", venue.url, "-o", server.address, "--snapshots-every", every),
            *("--spool", str(tmp_path / "spool"), "-o", str(tape), "-q"),
        )
        try:
            wait_for_stream(server, 3 if every == "1s" else 1)
            done = program.run(
                *("book", "PF_XBTUSD", "--url", venue.url, "--source", server.address),
                *("-n", "3", "--depth", "100000", "--strict"),
            )
        finally:
            program.end(recorder, signal.SIGTERM)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line, parse_float=str, parse_int=str) for line in done.stdout.splitlines()]
    assert [line["stale"] for line in lines] == [False] * 3
    assert lines == [direct(tape, int(line["seq"])) | cut(line) for line in lines]


def test_snapshots_that_the_venue_does_not_give_are_asked_for_again(
    server: NatsServer, tmp_path: Path
) -> None:
    with beside(lambda: serve(SimOptions(faults=["refuse=503:conn=2"]))) as venue:
        recorder = program.start(
            *(*READ, "--url", venue.url, "-o", server.address, "--snapshots-every", "1s"),
            *("--spool", str(tmp_path / "spool"), "-v", "--log-format", "json"),
        )
        try:
            wait_for_stream(server, 2)  # one from the beginning
        finally:
            err, _ = program.end(recorder, signal.SIGTERM)
    told = [json.loads(line) for line in err.splitlines()]
    [said] = [each for each in told if each["code"] == "snapshots"]
    assert said["message"].startswith("no fresh snapshots for the stream: ")
    assert said["hint"] == "again in 1 s"


def direct(tape: Path, seq: int) -> dict[str, Any]:
    """The whole book as the venue itself told the recorder of it, at a number."""
    book = Book()
    for line in tape.read_bytes().splitlines():
        data = data_of(line, 0)
        if data is not None and (data.seq or 0) <= seq:
            book.apply(data)
    assert (book.seq, book.stale) == (seq, False)
    sides: tuple[tuple[str, Side], ...] = (("bids", "buy"), ("asks", "sell"))
    return {name: [each._asdict() for each in book.levels(side)] for name, side in sides}


def cut(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key not in ("bids", "asks")}


def test_who_names_another_environment_is_told_what_the_stream_has(
    server: NatsServer, tmp_path: Path
) -> None:
    spool = ("--spool", str(tmp_path / "spool"))
    program.run(*READ, "--env", "sim", "-n", "5", "-o", server.address, *spool)
    args = (*READ, "--env", "demo", "--source", server.address, "--log-format", "json")
    reader = program.start(*args)
    try:
        assert reader.stderr is not None
        said = json.loads(reader.stderr.readline())
    finally:
        program.end(reader, signal.SIGTERM)
    assert said["code"] == "nothing-there"
    assert "nothing of what was asked for of demo; it has sim (book)" in said["message"]
    assert "--env" in said["hint"]


def wait_for_stream(server: NatsServer, snapshots: int = 0) -> None:
    """Until the stream has something: both recorders stand, or will; or until it keeps so many
    snapshots."""
    subject = "kraken.*.book_snapshot.>" if snapshots else "kraken.>"

    async def look() -> None:
        client = await nats.connect(server.host)
        try:
            found = asyncio.Semaphore(0)

            async def see(_: object) -> None:
                found.release()

            await client.subscribe(subject, cb=see)
            for _ in range(max(1, snapshots)):
                await found.acquire()
        finally:
            await client.close()

    asyncio.run(asyncio.wait_for(look(), program.PATIENCE_S))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--since", "10m"), "--since is for --source"),
        (("--consumer", "a"), "--consumer is for --source"),
        (("--source", "nats://h"), "names no stream"),
        (("--source", "tape.ndjson"), "tapes are for `kfws replay`"),
        (("--source", "nats://h/k", "--since", "1m", "--from-seq", "3"), "leave one away"),
        (("--source", "nats://h/k", "--redundancy", "2"), "--redundancy is for the venue"),
    ],
)
def test_what_cannot_be_read_is_said_before_anything_else(args: tuple[str, ...], said: str) -> None:
    done = run(*PUBLIC, *args)
    assert done.status == 2
    assert said in done.err


def test_a_source_that_is_away_ends_the_run_with_3(server: NatsServer) -> None:
    server.stop()
    done = run(*PUBLIC, "--source", server.address)
    assert done.status == 3
    assert "connection refused" in done.err


# Sharing the work


@given(st.sets(st.from_regex(r"P[FI]_[A-Z]{3,6}USD", fullmatch=True)), st.integers(1, 5))
def test_every_product_is_in_exactly_one_part(names: set[str], of: int) -> None:
    products = sorted(names)
    found: list[str] = []
    for part in range(1, of + 1):
        try:
            found += share(products, Shard(part, of))
        except UsageError:
            pass  # few products, and none of them in this part
    assert sorted(found) == products


def test_one_more_part_takes_products_and_moves_none_between_the_others() -> None:
    products = [f"PF_{number}USD" for number in range(300)]
    before = {each: part for part in (1, 2) for each in share(products, Shard(part, 2))}
    after = {each: part for part in (1, 2, 3) for each in share(products, Shard(part, 3))}
    assert all(after[each] in (before[each], 3) for each in products)
    assert 60 < sum(part == 3 for part in after.values()) < 140


def test_a_run_takes_its_part(tmp_path: Path) -> None:
    taken = []
    for part in ("1/2", "2/2"):
        args = ("--env", "sim", "--shard", part, "--duration", "2s", "--events")
        done = run("subscribe", "ticker", "PF_XBTUSD,PF_ETHUSD,PF_SOLUSD,PF_XRPUSD", *args)
        assert done.status == 0, done.err
        found = [json.loads(line) for line in done.out.splitlines()]
        taken += [
            x for each in found if each.get("kfws") == "subscribed" for x in each["product_ids"]
        ]
    assert sorted(taken) == ["PF_ETHUSD", "PF_SOLUSD", "PF_XBTUSD", "PF_XRPUSD"]


@pytest.mark.parametrize("part", ["0/3", "4/3", "1", "a/b"])
def test_what_is_no_part_is_refused(part: str) -> None:
    done = run(*PUBLIC, "--shard", part)
    assert done.status == 2
    assert "1/3 is the first of three" in done.err
