"""What more products and more connections cost: CPU per message, and memory.

Counted is what a client has used from the moment on in which the load begins: until then it only
asks for its products, 90 a second.
"""

from __future__ import annotations

import os
import pty
import subprocess
import threading
from collections.abc import Iterator

from tests.bench.clients import STREAM
from tests.bench.figures import Bench, spread, table
from tests.bench.load import Load
from tests.bench.measure import ClientFailed, Cost, Server, measure, run_to_end, serving

__all__ = ["FEEDS", "PRODUCTS", "growth", "in_words", "memory"]

FEEDS = ("ticker", "trade", "book")
PRODUCTS = (1, 10, 100, 350)
CONNECTIONS = (1, 2)
# Asking for 350 products takes 4 s, so rounds are dear.
MOST_ROUNDS, SECONDS = 2, 90
TABLE_PER_SECOND = 5_000
TABLE_S = 4


def growth(bench: Bench) -> str:
    loads = [*crowds(max(bench.messages // 2, max(PRODUCTS) * 2))]
    with serving(loads) as server:
        for _ in bench.turns(MOST_ROUNDS, SECONDS, "growth"):
            for load in loads:
                try:
                    keep(bench, load, measure(command(server, load), since=server.wait_for_start))
                except ClientFailed as failure:
                    bench.say(f"growth, {named(load)}: {failure}")
    return shown(bench, loads)


def crowds(messages: int) -> Iterator[Load]:
    for feed in FEEDS:
        # Each book begins with a snapshot, which is no change and costs as much as hundreds.
        enough = messages * 3 if feed == "book" else messages
        for connections in CONNECTIONS:
            for products in PRODUCTS:
                yield Load(feed, enough, products=products, connections=connections)


def named(load: Load) -> str:
    return f"growth {load.feed} x{load.connections} {load.products}"


def command(server: Server, load: Load) -> list[str]:
    ends = ["-n", str(load.messages), "-q", "--redundancy", str(load.connections)]
    return [*STREAM, load.feed, *load.names, "--url", server.urls[load], "-f", "ndjson", *ends]


def keep(bench: Bench, load: Load, cost: Cost) -> None:
    bench.add(f"{named(load)} cpu", cost.cpu_s / load.messages * 1e6)
    bench.add(f"{named(load)} peak", cost.peak_mb)


def shown(bench: Bench, loads: list[Load]) -> str:
    rows = []
    for first in [load for load in loads if load.products == 1]:
        name = f"growth {first.feed} x{first.connections}"
        for kind, unit, form in (("cpu", "µs a message", ".2f"), ("peak", "MiB", ".0f")):
            cells = [bench.figures.get(f"{name} {each} {kind}", []) for each in PRODUCTS]
            what = f"{first.feed}, {in_words(first.connections)}, {unit}"
            rows.append((what, *(spread(each, form) for each in cells)))
    return table(("products", *map(str, PRODUCTS)), rows)


def in_words(connections: int) -> str:
    return f"{connections} connection{'s' if connections > 1 else ''}"


def memory(bench: Bench) -> str:
    """A live table of many products on a terminal; what streams need stands in the other parts."""
    seconds = min(TABLE_S, bench.messages / TABLE_PER_SECOND)
    load = Load("ticker", int(TABLE_PER_SECOND * seconds), TABLE_PER_SECOND, products=350)
    with serving([load]) as server:
        ends = ["-n", str(load.messages)]
        argv = [*STREAM, "ticker", *load.names, "--url", server.urls[load], "-f", "table", *ends]
        peak = on_terminal(argv)
    bench.add("memory table", peak)
    streams = {
        name: values for name, values in bench.figures.items() if name.endswith(" kfws peak")
    }
    rows = [
        (name.removesuffix(" kfws peak"), spread(values, ".0f")) for name, values in streams.items()
    ]
    rows.append(
        (f"live table, {load.products} tickers, {TABLE_PER_SECOND:,} a second", f"{peak:.0f}")
    )
    return table(("stream", "MiB at most"), rows)


def on_terminal(argv: list[str]) -> float:
    """The most memory of a client that draws on a terminal of 120 × 50."""
    ours, theirs = pty.openpty()
    subprocess.run(["stty", "rows", "50", "cols", "120"], stdin=theirs, check=False)
    drain = threading.Thread(target=_read_all, args=(ours,), daemon=True)
    drain.start()
    try:
        return run_to_end(argv, theirs).peak_mb
    finally:
        os.close(theirs)
        drain.join()
        os.close(ours)


def _read_all(fd: int) -> None:
    try:
        while os.read(fd, 65536):
            pass
    except OSError:
        pass  # the end of a terminal is an error (EIO)
