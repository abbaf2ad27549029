"""JetStream broken on purpose: two recorders, a cluster, a durable reader, one fault at a time.

What the reader gave out is compared with the ledger of the simulated venue, as all other chaos
runs are. Recorders and reader reach the servers over relays, so that a network can be cut.

``python -m tests.chaos.jetstream`` prints the table; ``--fault leader-killed`` runs one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import nats
import nats.errors
import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, StreamConfig

from tests.chaos.check import Result, check
from tests.chaos.relay import Relay, Relays, relays
from tests.chaos.run import PRODUCTS, Scenario, venue
from tests.cli.program import KFWS, environment
from tests.nats_server import NatsServer, nats_cluster

__all__ = ["FAULTS", "Fault", "Run", "main", "report", "run", "table"]

T = TypeVar("T")
FEEDS = ("book", "trade", "ticker")
RECORDERS = ("west", "east")
READER = "reader"
STREAM, CONSUMER = "kraken", "desk"
BEFORE_S, AFTER_S = 3.0, 2.0
PATIENCE_S = 60.0
LOST = (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError)


class Stage:
    """All that runs, and what a fault may do to it."""

    def __init__(self, folder: Path, url: str, servers: Sequence[NatsServer], ways: Relays) -> None:
        self.folder = folder
        self.servers = servers
        self.programs: dict[str, subprocess.Popen[bytes]] = {}
        self._url = url
        self._relays = ways
        self.struck: NatsServer | None = None
        self.ways: dict[str, list[Relay]] = {
            name: [ways.to(each.port) for each in servers] for name in (*RECORDERS, READER)
        }

    # Programs

    def start(self, name: str) -> None:
        """A recorder, or the reader; what it gives out is added to what it gave before."""
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.ways[name])
        address = f"nats://{hosts}/{STREAM}"
        how = self._as_reader(address) if name == READER else self._as_recorder(name, address)
        with (
            (self.folder / f"{name}.out").open("ab") as out,
            (self.folder / f"{name}.err").open("ab") as err,
        ):
            self.programs[name] = subprocess.Popen(
                [*KFWS, "subscribe", ",".join(FEEDS), *PRODUCTS, "--url", self._url, *how],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment(),
            )

    def _as_recorder(self, name: str, address: str) -> tuple[str, ...]:
        config = str(self.folder / "stream.json")
        spool = str(self.folder / f"{name}.spool.ndjson")
        own = ("-o", address, "--recorder", name, "--spool", spool, "--stream-config", config)
        return (*own, "--snapshots-every", "2s", "--log-format", "json")

    def _as_reader(self, address: str) -> tuple[str, ...]:
        own = ("--source", address, "--consumer", CONSUMER, "--from-seq", "1")
        return (*own, "-f", "ndjson", "--events")

    def end(self, *names: str, signum: signal.Signals = signal.SIGTERM) -> None:
        """All of them at once."""
        programs = [self.programs.pop(each) for each in names]
        for program in programs:
            program.send_signal(signum)
        for program in programs:
            program.wait(PATIENCE_S)

    # Servers

    @property
    def leader(self) -> NatsServer:
        """Who leads the stream."""
        found = self.ask(lambda js: js.stream_info(STREAM))
        name = found.cluster.leader if found.cluster and found.cluster.leader else "n1"
        return next(each for each in self.servers if each.name == name)

    def ask(self, question: Callable[[JetStreamContext], Awaitable[T]]) -> T:
        """An answer of the cluster, of whichever server has one."""
        return asyncio.run(self._ask(question))

    async def _ask(self, question: Callable[[JetStreamContext], Awaitable[T]]) -> T:
        until = time.monotonic() + PATIENCE_S
        while True:
            for server in self.servers:
                try:
                    async with asyncio.timeout(5):
                        client = await nats.connect(server.host, allow_reconnect=False)
                    try:
                        return await question(client.jetstream(timeout=5))
                    finally:
                        await client.close()
                except LOST:
                    if time.monotonic() > until:
                        raise
            await asyncio.sleep(0.2)

    # The network

    def on_ways(self, name: str, what: Callable[[Relay], Any]) -> None:
        for each in self.ways[name]:
            self._relays.wait(what(each))

    # Facts

    def until_came(self) -> None:
        """Until the reader has something."""
        self._until(lambda: (self.folder / "reader.out").stat().st_size > 0, "nothing came out")

    def until_published(self, *names: str) -> None:
        """Until each of these recorders has published something that came from now on."""
        now = self.ask(lambda js: js.stream_info(STREAM)).state.last_seq

        async def has_published(js: JetStreamContext) -> bool:
            subjects = [f"{STREAM}.*.ticker.*.{name}" for name in names]
            return min([(await js.get_last_msg(STREAM, each)).seq or 0 for each in subjects]) > now

        self._until(lambda: self.ask(has_published), f"{names} do not publish")
        self._until(lambda: not any(map(self._spooled, names)), "the spool does not get empty")

    def _spooled(self, name: str) -> int:
        path = self.folder / f"{name}.spool.ndjson"
        return path.stat().st_size if path.exists() else 0

    def until_read(self) -> None:
        """Until the reader has acknowledged all that the stream has."""

        async def has_all(js: JetStreamContext) -> bool:
            info = await js.consumer_info(STREAM, CONSUMER)
            return not info.num_pending and not info.num_ack_pending

        self._until(lambda: self.ask(has_all), "the reader did not come to the end")

    def _until(self, fact: Callable[[], bool], otherwise: str) -> None:
        until = time.monotonic() + PATIENCE_S
        while not fact():
            if time.monotonic() > until:
                raise AssertionError(otherwise)
            time.sleep(0.2)

    def told(self, code: str) -> list[dict[str, Any]]:
        """What recorders said, by the word for machines."""
        found = []
        for name in RECORDERS:
            for line in (self.folder / f"{name}.err").read_text().splitlines():
                if line.startswith("{") and (said := json.loads(line)).get("code") == code:
                    found.append(said)
        return found


@dataclass(frozen=True, slots=True)
class Fault:
    """What is broken, and how it is mended."""

    name: str
    strike: Callable[[Stage], None]
    mend: Callable[[Stage], None]
    lasts_s: float = 4.0
    least: int = 1
    """So many servers it takes; ``most``: so many it is for."""
    most: int = 3
    store: str = ""
    """Settings of the servers' storage."""
    says: str = ""
    """What recorders must have said."""


def _nothing(stage: Stage) -> None:
    pass


def _kill(server: NatsServer) -> None:
    server.stop(signal.SIGKILL)


def _start_those_down(stage: Stage) -> None:
    for each in stage.servers:
        if not each.is_up:
            each.start()


def _follower(stage: Stage) -> NatsServer:
    leader = stage.leader
    return next(each for each in stage.servers if each is not leader)


def _pause(stage: Stage) -> None:
    """The leader stands still, and later goes on as if nothing had been."""
    stage.struck = stage.leader
    stage.struck.pause()


def _go_on(stage: Stage) -> None:
    assert stage.struck is not None
    stage.struck.go_on()


def _all_killed(stage: Stage) -> None:
    for each in stage.servers:
        _kill(each)


def _fill(stage: Stage) -> None:
    """Somebody else's stream takes what is left of the servers' room."""

    async def fill(js: JetStreamContext) -> None:
        replicas = len(stage.servers)
        await js.add_stream(StreamConfig(name="other", subjects=["other"], num_replicas=replicas))
        refused = 0
        while refused < 3:
            try:
                await js.publish("other", b"x" * 200_000)
            except nats.js.errors.Error:
                refused += 1

    stage.ask(fill)


def _empty(stage: Stage) -> None:
    async def delete(js: JetStreamContext) -> None:
        try:
            await js.delete_stream("other")
        except nats.js.errors.NotFoundError:
            pass  # the answer to the first request got lost

    stage.ask(delete)


def _limit(stage: Stage) -> None:
    """The stream takes next to nothing any more, as one does that is full."""

    async def limit(js: JetStreamContext) -> None:
        info = await js.stream_info(STREAM)
        most = info.state.bytes + 50_000
        await js.update_stream(info.config.evolve(max_bytes=most, discard=DiscardPolicy.NEW))

    stage.ask(limit)


def _unlimit(stage: Stage) -> None:
    async def unlimit(js: JetStreamContext) -> None:
        info = await js.stream_info(STREAM)
        await js.update_stream(info.config.evolve(max_bytes=-1))

    stage.ask(unlimit)


def _kill_reader(stage: Stage) -> None:
    stage.end(READER)


FAULTS: tuple[Fault, ...] = (
    Fault("nothing", _nothing, _nothing),
    Fault(
        "recorder killed",
        lambda stage: stage.end("west", signum=signal.SIGKILL),
        lambda stage: stage.start("west"),
    ),
    Fault(
        "both recorders killed, one after the other",
        lambda stage: stage.end("west", signum=signal.SIGKILL),
        lambda stage: _swap(stage),
    ),
    Fault("server killed", lambda stage: _kill(_follower(stage)), _start_those_down, least=3),
    Fault("leader killed", lambda stage: _kill(stage.leader), _start_those_down, lasts_s=9),
    Fault("leader stands still", _pause, _go_on, lasts_s=12),
    Fault("all servers killed", _all_killed, _start_those_down, says="jetstream-away"),
    Fault(
        "network of a recorder cut",
        lambda stage: stage.on_ways("west", Relay.cut),
        lambda stage: stage.on_ways("west", Relay.mend),
        says="jetstream-away",
    ),
    Fault(
        "network of a recorder silent",
        lambda stage: stage.on_ways("west", Relay.hold),
        lambda stage: stage.on_ways("west", Relay.mend),
        lasts_s=16,
        says="jetstream-away",
    ),
    Fault(
        "network of the reader cut",
        lambda stage: stage.on_ways(READER, Relay.cut),
        lambda stage: stage.on_ways(READER, Relay.mend),
    ),
    Fault(
        "network of the reader silent",
        lambda stage: stage.on_ways(READER, Relay.hold),
        lambda stage: stage.on_ways(READER, Relay.mend),
        lasts_s=16,
    ),
    Fault("reader ended, and another begins", _kill_reader, lambda stage: stage.start(READER)),
    Fault("stream full", _limit, _unlimit, lasts_s=6, says="jetstream-away"),
    # Of several servers each refuses by itself what is beyond its own room, and nats-server 2.9
    # then has replicas that differ: docs/scale.md says how that cannot come to be.
    Fault("room of the server used up", _fill, _empty, most=1, store="max_file_store: 8MB",
          says="jetstream-away"),
)  # fmt: skip


def _swap(stage: Stage) -> None:
    stage.start("west")
    stage.until_published("west")
    stage.end("east", signum=signal.SIGKILL)
    time.sleep(2)
    stage.start("east")


@dataclass(slots=True)
class Run:
    """What came of a fault."""

    fault: Fault
    servers: int
    result: Result
    stored: int
    totals: list[dict[str, Any]]
    """Of each recorder's last run."""
    tells: int
    folder: Path
    problems: list[str] = field(default_factory=list)

    def total(self, key: str) -> int:
        return sum(each[key] for each in self.totals)


def run(fault: Fault, servers: int, folder: Path, rate: float = 100.0) -> Run:
    """One fault from its beginning to its end."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"num_replicas": servers, "max_bytes": -1}
    (folder / "stream.json").write_text(json.dumps(config))
    scenario = Scenario((), FEEDS, PRODUCTS, rate=rate)
    with ExitStack() as stack:
        members = stack.enter_context(nats_cluster(folder, servers, store=fault.store))
        ways = stack.enter_context(relays())
        url = stack.enter_context(venue(scenario, folder))
        stage = stack.enter_context(staged(Stage(folder, url, members, ways)))
        _until_replicated(stage)
        _play(stage, fault)
        stored = stage.ask(lambda js: js.stream_info(STREAM)).state.messages
    with (folder / "ledger").open("rb") as ledger, (folder / "reader.out").open("rb") as output:
        result = check(ledger, output, set(FEEDS), redundant=True)
    totals = stage.told("jetstream")
    tells = len(stage.told(fault.says)) if fault.says else 0
    done = Run(fault, servers, result, stored, totals, tells, folder)
    done.problems = [*_problems(done)]
    return done


@contextmanager
def staged(stage: Stage) -> Iterator[Stage]:
    try:
        yield stage
    finally:
        for program in stage.programs.values():
            program.kill()
            program.wait()


def _until_replicated(stage: Stage) -> None:
    """A cluster takes a while until it can make a stream on all of its servers."""

    async def probe(js: JetStreamContext) -> None:
        config = StreamConfig(name="probe", subjects=["probe"], num_replicas=len(stage.servers))
        await js.add_stream(config)
        await js.delete_stream("probe")

    stage.ask(probe)


def _play(stage: Stage, fault: Fault) -> None:
    stage.start("west")
    _until_stream(stage)
    stage.start("east")
    stage.start(READER)
    stage.until_came()
    stage.until_published(*RECORDERS)
    time.sleep(BEFORE_S)
    fault.strike(stage)
    time.sleep(fault.lasts_s)
    fault.mend(stage)
    stage.until_published(*RECORDERS)
    time.sleep(AFTER_S)
    stage.end(*RECORDERS)
    stage.until_read()
    stage.end(READER)


def _until_stream(stage: Stage) -> None:
    stage.ask(lambda js: js.stream_info(STREAM))


def _problems(done: Run) -> Iterator[str]:
    yield from done.result.differences
    for name in RECORDERS:
        if (done.folder / f"{name}.spool.ndjson").exists():
            yield f"{name} could not publish all that was in its spool"
    if done.result.missing:
        yield f"{done.result.missing} numbers missing"
    if not done.result.came:
        yield "nothing came out"
    if done.fault.says and not done.tells:
        yield f"no recorder said {done.fault.says}"
    for name in (*RECORDERS, READER):
        if "Traceback" in (done.folder / f"{name}.err").read_text():
            yield f"{name} has a bug"


COLUMNS = (
    *("fault", "servers", "sent to both", "stored", "came out", "missing", "takeovers named"),
    *("copies refused", "spooled", "problems"),
)


def table(runs: Iterable[Run]) -> str:
    """Markdown: a row for each run."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for done in runs:
        result = done.result
        figures = (
            *(done.servers, result.sent, done.stored, result.came, result.missing),
            *(result.causes["takeover"], done.total("duplicates"), done.total("spooled")),
            len(done.problems),
        )
        lines.append(f"| {done.fault.name} | " + " | ".join(f"{n:,}" for n in figures) + " |")
    return "\n".join(lines)


def attempt(fault: Fault, servers: int) -> Run:
    """A run whose recordings are kept only where something was wrong with it."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-jetstream-"))
    try:
        done = run(fault, servers, folder)
    except Exception as exc:
        return Run(fault, servers, Result(), 0, [], 0, folder, [f"{type(exc).__name__}: {exc}"])
    if not done.problems:
        shutil.rmtree(folder)
    return done


def main(args: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.jetstream", description=__doc__)
    parser.add_argument("--fault", help="those with this in their name")
    parser.add_argument("--servers", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=4, help="runs that share the machine")
    typed = parser.parse_args(args)
    wanted = [each for each in FAULTS if (typed.fault or "") in each.name]
    return report(wanted, servers=typed.servers, at_once=typed.at_once)


def report(faults: Iterable[Fault], *, servers: int, at_once: int) -> bool:
    """Runs them, prints what was seen; whether anything was not as it must be."""
    wanted = [each for each in faults if each.least <= servers <= each.most]
    with ThreadPoolExecutor(at_once) as pool:
        runs = [*pool.map(lambda each: attempt(each, servers), wanted)]
    for done in runs:
        if done.problems:
            print(f"{done.fault.name} ({done.folder}):", *done.problems, sep="\n  ")
    print(table(runs))
    return any(done.problems for done in runs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
