"""Tapes: written, audited, converted, played; against ``zstd`` and ``jq -c .`` on the same file.

Each is run on a tape of one message too, which takes its start-up out.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.bench.clients import KFWS, Place, kfws
from tests.bench.figures import Bench, ratios, spread, table
from tests.bench.load import Load
from tests.bench.measure import ClientFailed, Cost, Server, measure, serving

__all__ = ["tapes"]

ROUNDS, SECONDS = 3, 20
PACKED, PLAIN = ".ndjson.zst", ".ndjson"
COMPRESS, FORMAT = "zstd -1", "jq -c ."


@dataclass(frozen=True, slots=True)
class Job:
    """A program on a tape; ``{tape}`` and ``{out}`` stand in its command."""

    name: str
    suffix: str
    command: tuple[str, ...]
    needs: str = ""

    def argv(self, tape: Path, out: Path) -> list[str]:
        return [each.format(tape=tape, out=out) for each in self.command]


def _kfws(name: str, suffix: str, *command: str) -> Job:
    return Job(f"{name}, {suffix[1:]}", suffix, (*KFWS, *command))


JOBS = (
    *(_kfws("verify", each, "verify", "{tape}", "-f", "json") for each in (PLAIN, PACKED)),
    *(
        _kfws(
            "replay --speed max", each, "replay", "{tape}", "--speed", "max", "-f", "ndjson", "-q"
        )
        for each in (PLAIN, PACKED)
    ),
    _kfws("convert to csv", PACKED, "convert", "{tape}", "{out}.csv"),
    _kfws("convert to parquet", PACKED, "convert", "{tape}", "{out}.parquet"),
    Job(COMPRESS, PLAIN, ("zstd", "-1", "-q", "-f", "-o", "{out}.zst", "{tape}"), "zstd"),
    Job("zstd -dc", PACKED, ("zstd", "-dcq", "{tape}"), "zstd"),
    Job(FORMAT, PLAIN, ("jq", "-c", ".", "{tape}"), "jq"),
)


def tapes(bench: Bench) -> str:
    one, many = Load("book", 1), Load("book", bench.messages)
    with serving([one, many]) as server:
        for _ in bench.turns(ROUNDS, SECONDS, "writing tapes"):
            for suffix in (PLAIN, PACKED):
                few = record(bench, server, one, suffix)
                lot = record(bench, server, many, suffix)
                keep(bench, f"write {suffix[1:]}", lot, few, size_of(bench, many))
    for job in JOBS:
        if job.needs and not shutil.which(job.needs):
            bench.say(f"{job.name}: there is no {job.needs} here")
    jobs = [each for each in JOBS if not each.needs or shutil.which(each.needs)]
    for _ in bench.turns(ROUNDS, 2 * SECONDS, "reading tapes"):
        for job in jobs:
            try:
                few, lot = work(bench, job, one), work(bench, job, many)
            except ClientFailed as failure:
                bench.say(f"{job.name}: {failure}")
                continue
            keep(bench, job.name, lot, few, size_of(bench, many))
    return shown(bench)


def tape_of(bench: Bench, load: Load, suffix: str) -> Path:
    return bench.scratch / f"{load.messages}{suffix}"


def size_of(bench: Bench, load: Load) -> tuple[int, float]:
    """Messages, and MB of text."""
    return load.messages, tape_of(bench, load, PLAIN).stat().st_size / 1e6


def record(bench: Bench, server: Server, load: Load, suffix: str) -> Cost:
    tape = tape_of(bench, load, suffix)
    tape.unlink(missing_ok=True)
    options = ("-o", str(tape))
    return measure(kfws(*options)(Place(server.urls[load], load, server.ca_file, tape)))


def work(bench: Bench, job: Job, load: Load) -> Cost:
    out = bench.scratch / "out"
    cost = measure(job.argv(tape_of(bench, load, job.suffix), out))
    for left in bench.scratch.glob("out.*"):
        left.unlink()
    return cost


def keep(bench: Bench, name: str, lot: Cost, few: Cost, size: tuple[int, float]) -> None:
    messages, megabytes = size
    cost = lot.per_message(few, messages - 1)
    bench.add(f"tape {name} cpu", cost.cpu_s * 1e6)
    bench.add(f"tape {name} rate", cost.rate)
    bench.add(f"tape {name} MB", megabytes / messages * cost.rate)


def shown(bench: Bench) -> str:
    figures = bench.figures
    names = [name[5:-4] for name in figures if name.startswith("tape ") and name.endswith(" cpu")]
    header = (
        "what",
        "CPU, µs a message",
        "messages a second",
        "MB of text a second",
        f"CPU / `{FORMAT}`",
    )
    rows = [
        (
            name,
            spread(figures[f"tape {name} cpu"]),
            spread(figures[f"tape {name} rate"], ",.0f"),
            spread(figures[f"tape {name} MB"], ",.0f"),
            spread(ratios(figures, f"tape {name} cpu", f"tape {FORMAT} cpu")),
        )
        for name in names
    ]
    return table(header, rows)
