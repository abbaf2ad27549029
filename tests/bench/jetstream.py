"""Into a JetStream and out of it: rate, CPU of ours a message, and delay, beside bare nats-py.

The server is a process of its own with its storage on file; who publishes and who reads are here,
so that the CPU time of this process is theirs. The yardstick does the same with nothing but
nats-py: as many messages on their way, each acknowledged; pulls of the same size.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import nats
import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from kfws.protocol.events import Data
from kfws.sinks.jetstream import IN_FLIGHT, JetStreamOutlet
from kfws.sinks.spool import Spool
from kfws.sources.jetstream import PULL, FromJetStream
from kfws.tapes.jetstream import Door, open_stream
from kfws.tapes.recordings import data_of
from kfws.tapes.subjects import Address, Names
from tests.bench.figures import Bench, spread, table
from tests.bench.load import Load, payloads
from tests.nats_server import NatsServer, nats_server

__all__ = ["report"]

MOST_MESSAGES, MOST_ROUNDS, ALL_SECONDS = 20_000, 3, 60
# Handed over together, about what one read of a socket holds.
BATCH = 25
PACE, PACED_S = 1_000, 2
OURS, BARE = "kfws", "bare nats-py"


def report(bench: Bench) -> str:
    """Rows for both ways, and the delay from one end to the other."""
    count = min(MOST_MESSAGES, bench.messages)
    try:
        for turn in bench.turns(MOST_ROUNDS, ALL_SECONDS, "jetstream"):
            with nats_server(bench.scratch / f"jetstream-{turn}") as server:
                asyncio.run(_round(bench, server, count))
    except pytest.skip.Exception as exc:
        bench.say(f"jetstream: {exc}")
        return "Not measured."
    return _shown(bench)


async def _round(bench: Bench, server: NatsServer, count: int) -> None:
    messages = [*_messages(count)]
    for name, publish in ((OURS, _publish), (BARE, _publish_bare)):
        with _counted(bench, f"jetstream in {name}", count):
            await publish(server, f"in-{name[:4]}", messages, bench.scratch)
    stream = f"in-{OURS}"
    for name, read in ((OURS, _read), (BARE, _read_bare)):
        with _counted(bench, f"jetstream out {name}", count):
            await read(server, stream, count)
    cuts = quantiles(await _delays(server, bench.scratch), n=100)
    bench.add("jetstream delay p50", cuts[49])
    bench.add("jetstream delay p99", cuts[98])


def _messages(count: int) -> Iterator[Data]:
    now_ns = time.time_ns()
    for payload in payloads(Load("book", count)):
        data = data_of(payload, now_ns)
        assert data is not None
        yield data


@contextmanager
def _counted(bench: Bench, name: str, count: int) -> Iterator[None]:
    began, spent = time.perf_counter(), time.process_time()
    yield
    bench.add(f"{name} cpu", (time.process_time() - spent) / count * 1e6)
    bench.add(f"{name} rate", count / (time.perf_counter() - began))


def _door(server: NatsServer, stream: str) -> Door:
    return Door(Address.of(f"{server.host}/{stream}"))


def _silent(*_: Any, **__: Any) -> None:
    pass


def _outlet(server: NatsServer, stream: str, scratch: Path) -> JetStreamOutlet:
    spool = Spool(scratch / f"{stream}.spool", 1_000_000_000)
    names = Names(stream, "sim", "bench")
    return JetStreamOutlet(_door(server, stream), names, spool, _silent, full_bytes=1 << 20)


async def _publish(
    server: NatsServer, stream: str, messages: Sequence[Data], scratch: Path
) -> None:
    outlet = _outlet(server, stream, scratch)
    await outlet.open()
    for at in range(0, len(messages), BATCH):
        outlet.write(messages[at : at + BATCH])
        if outlet.is_full:
            await outlet.drain()
    await outlet.flush()
    outlet.close()
    await outlet.leave()
    assert outlet.acknowledged == len(messages)


async def _publish_bare(
    server: NatsServer, stream: str, messages: Sequence[Data], scratch: Path
) -> None:
    """What nats-py costs: the same subjects and ids, the same window."""
    client = await nats.connect(server.host)
    await open_stream(client, stream)
    room, waiting, done = asyncio.Semaphore(IN_FLIGHT), len(messages), asyncio.Event()

    async def acknowledged(_: Any) -> None:
        nonlocal waiting
        waiting -= 1
        room.release()
        if not waiting:
            done.set()

    inbox = client.new_inbox()
    await client.subscribe(inbox, cb=acknowledged)
    for number, data in enumerate(messages):
        await room.acquire()
        headers = {"Nats-Msg-Id": f"{number}"}
        await client.publish(f"{stream}.sim.book.X", data.payload, inbox, headers)
    await done.wait()
    await client.close()


async def _read(server: NatsServer, stream: str, count: int) -> None:
    source = FromJetStream(_door(server, stream), f"{stream}.sim", feeds=["book"], from_seq=1)
    async with aclosing(source.events()) as batches:
        async for batch in batches:
            count -= sum([type(each) is Data for each in batch])
            if count <= 0:
                break
    await source.close()


async def _read_bare(server: NatsServer, stream: str, count: int) -> None:
    client = await nats.connect(server.host)
    config = ConsumerConfig(ack_policy=AckPolicy.NONE)  # as that of a reader that is not durable
    js = client.jetstream()
    pulling = await js.pull_subscribe(f"{stream}.>", "bare", stream, config=config)
    while count > 0:
        got = await pulling.fetch(min(PULL, count))
        count -= len(got)
    await client.close()


async def _delays(server: NatsServer, scratch: Path) -> list[float]:
    """From handing a message over to having it from the reader, in ms, one by one at a pace."""
    outlet = _outlet(server, "delay", scratch)
    await outlet.open()
    source = FromJetStream(_door(server, "delay"), "delay.sim", feeds=["book"], from_seq=1)
    messages = [*_messages(PACE * PACED_S)]
    sent: list[float] = []
    delays: list[float] = []

    async def read() -> None:
        async with aclosing(source.events()) as batches:
            async for batch in batches:
                now = time.perf_counter()
                for each in batch:
                    if type(each) is Data:
                        delays.append((now - sent[len(delays)]) * 1e3)
                if len(delays) >= len(messages):
                    return

    reading = asyncio.create_task(read())
    began = time.perf_counter()
    for number, data in enumerate(messages):
        await asyncio.sleep(max(0.0, began + number / PACE - time.perf_counter()))
        sent.append(time.perf_counter())
        outlet.write([data])
    await reading
    outlet.close()
    await outlet.leave()
    await source.close()
    return delays


def _shown(bench: Bench) -> str:
    rows = []
    for way, words in (("in", "published, each acknowledged"), ("out", "read from the beginning")):
        for name in (OURS, BARE):
            start = f"jetstream {way} {name}"
            cells = [spread(bench.figures[f"{start} {kind}"], ".0f") for kind in ("rate", "cpu")]
            rows.append((words, name, *cells))
    half, late = (spread(bench.figures[f"jetstream delay {each}"]) for each in ("p50", "p99"))
    told = (
        f"Book deltas, one server, storage on file. At {PACE:,} a second, one by one, from handing "
        f"a message to the publisher until the reader gives it: p50 {half} ms, p99 {late} ms."
    )
    return f"{table(('way', 'client', 'messages a second', 'CPU µs a message'), rows)}\n\n{told}"
