"""``python -m tests.bench``: all figures of kfws beside those of other programs, in one run.

Rounds are interleaved and only ratios within a round are compared, since a shared machine swings
by a quarter from one minute to the next. Nothing here passes or fails; it prints what it saw, and a
run of all parts writes it to docs/performance.md.
"""

from __future__ import annotations

import argparse
import compileall
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import kfws
from tests.bench import board as live_table
from tests.bench import growth, jetstream, keeping, latency, starts, streams, targets, yard
from tests.bench.figures import Bench
from tests.bench.measure import CLIENT_CORE

PAGE = Path(__file__).parent.parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- made by make bench: begin -->", "<!-- made by make bench: end -->"

PARTS: dict[str, tuple[str, Callable[[Bench], str]]] = {
    "start": ("Start", starts.start),
    "streams": ("As fast as it can be read", streams.throughput),
    "paced": ("10,000 messages a second, one by one", streams.paced),
    "latency": ("From the venue's write to the line that is read", latency.latency),
    "growth": ("Products and connections", growth.growth),
    "memory": ("Memory", growth.memory),
    "tapes": ("Tapes", keeping.tapes),
    "jetstream": ("Through a JetStream", jetstream.report),
    "board": ("A live table", live_table.report),
}


def main() -> int:
    options = parse()
    began = time.monotonic()
    missing = yard.fetch()
    # As an installer leaves them: a start that compiles its modules tells nothing of others.
    compileall.compile_dir(Path(kfws.__file__).parent, quiet=1)
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(options.rounds, options.messages, Path(scratch), said=missing)
        told = []
        for name in options.parts:
            title, measure = PARTS[name]
            print(f"{name} …", file=sys.stderr)
            told.append(f"### {title}\n\n{measure(bench)}")
    page = report(bench, told, time.monotonic() - began)
    print(page)
    if options.write or [*options.parts] == [*PARTS]:
        write(page)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=200_000, help="of a fast client per run")
    parser.add_argument("--parts", nargs="+", choices=[*PARTS], default=[*PARTS])
    parser.add_argument("--write", action="store_true", help="to docs/performance.md all the same")
    return parser.parse_args()


def report(bench: Bench, told: list[str], took_s: float) -> str:
    """All of it as Markdown: the targets first, then part by part, then what is missing."""
    left_out = [f"* {line}" for line in bench.said] or ["* nothing"]
    return "\n\n".join(
        [
            describe(bench, took_s),
            "### The targets",
            targets.report(bench.figures),
            *told,
            "### What could not be measured",
            "\n".join(left_out),
        ]
    )


def describe(bench: Bench, took_s: float) -> str:
    pinning = "each client pinned alone to one" if CLIENT_CORE is not None else "nothing pinned"
    ours = ("websockets", "msgspec", "orjson", "uvloop", "typer")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ours)
    return "\n".join(
        [
            f"* {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; the run took {took_s / 60:.1f} minutes.",
            f"* {processor()}, {os.cpu_count()} cores, {pinning}; {platform.system()} "
            f"{platform.release()}.",
            f"* kfws {metadata.version('kfws')}; Python {platform.python_version()}, {versions}.",
            f"* Yardsticks: {yard.versions()}.",
            f"* Up to {bench.rounds} interleaved rounds, {bench.messages:,} messages a run; "
            "figures are minimum / median / maximum.",
        ]
    )


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def write(page: str) -> None:
    """What stands around the figures is kept."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{page}\n\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
