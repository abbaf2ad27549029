"""``make soak``: half an hour at 5,000 messages a second with a fault every 20 s.

The memory of the program is sampled from ``/proc``; at the end its output is compared with the
venue's ledger, and a small report is printed and written. Ledger and output need 4 GB of disk.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from subprocess import Popen, TimeoutExpired

from tests.chaos.run import Run, Scenario, compared, subscribing, venue

FAULTS = (
    *("drop", "gap=5", "close=1012", "duplicate=5", "restart", "reorder=5", "stall", "broken=3"),
    *("half-open", "binary=2", "no-ack", "huge=1MB"),
)
PRODUCTS = ("PF_XBTUSD", "PF_ETHUSD", "PF_SOLUSD", "PF_XRPUSD", "PF_DOGEUSD")
NOTICED_S = 12.0
"""A stalled connection is found out within that time; a fault needs it to show."""

SAMPLES = 360
FLAT_MB = 8.0
"""So much may the median of the last quarter lie above that of the second one: the first
quarter is for filling pools and caches."""


@dataclass(frozen=True, slots=True)
class Sample:
    at_s: float
    resident_mb: float
    cpu_s: float


def sample(pid: int, started_at: float) -> Sample:
    """Memory and CPU of a process, from the kernel."""
    status = Path(f"/proc/{pid}/status").read_text()
    [resident] = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    # utime and stime, in ticks of 10 ms, behind the name that may hold spaces.
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return Sample(time.monotonic() - started_at, int(resident) / 1024, sum(map(int, times)) / 100)


def watched(program: Popen[str], seconds: float) -> list[Sample]:
    """Samples until the program ends."""
    started_at, samples = time.monotonic(), []
    while program.poll() is None:
        samples.append(sample(program.pid, started_at))
        try:
            program.wait(max(0.5, seconds / SAMPLES))
        except TimeoutExpired:
            continue
    return samples


def growth_mb(samples: list[Sample]) -> float:
    """How far memory went up from the second quarter to the last, medians of each."""
    quarter = max(1, len(samples) // 4)
    early = [each.resident_mb for each in samples[quarter : 2 * quarter]]
    late = [each.resident_mb for each in samples[-quarter:]]
    return median(late) - median(early or late)


def report(done: Run, samples: list[Sample]) -> str:
    result, last = done.result, samples[-1]
    sizes = [each.resident_mb for each in samples]
    cost_us = 1e6 * last.cpu_s / max(1, result.came)
    faults = ", ".join(f"{name} {count}" for name, count in sorted(result.strikes.items()))
    causes = ", ".join(f"{name} {count}" for name, count in sorted(result.causes.items()))
    lines = [
        f"time          {last.at_s:,.0f} s, {result.connections} connections",
        f"messages      {result.sent:,} sent, {result.came:,} came out, "
        f"{result.came / last.at_s:,.0f} a second",
        f"faults        {result.strikes.total()}: {faults}",
        f"gaps          {result.causes.total()}: {causes}",
        f"numbers       {result.missing:,} missing and named, {result.healed:,} healed",
        f"others        {result.lost:,} lost in named intervals",
        f"memory        most {max(sizes):.1f} MB, last {sizes[-1]:.1f} MB, "
        f"{growth_mb(samples):+.1f} MB from the second quarter to the last",
        f"CPU           {last.cpu_s:,.0f} s, {cost_us:.1f} µs a message",
        f"differences   {len(result.differences)}",
        *(f"  {each}" for each in done.problems()),
    ]
    return "\n".join(lines) + "\n"


def scenario_of(typed: argparse.Namespace) -> Scenario:
    every_s, kinds = typed.every, FAULTS
    faults = [
        f"{kind}@{every_s * (number + 1):g}s:every={every_s * len(kinds):g}s"
        for number, kind in enumerate(kinds)
        if every_s * (number + 1) <= typed.seconds - min(every_s, NOTICED_S)
    ]
    return Scenario(
        tuple(faults),
        products=PRODUCTS,
        redundancy=typed.redundancy,
        seconds=typed.seconds,
        rate=typed.rate / len(PRODUCTS),
        seed=typed.seed,
        more=("-q",),
    )


@contextmanager
def recordings(kept: Path | None) -> Iterator[Path]:
    """A folder for ledger and output, deleted at the end unless it was named."""
    folder = kept or Path(tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        if kept is None:
            shutil.rmtree(folder)


def soak(scenario: Scenario, folder: Path) -> tuple[Run, list[Sample]]:
    with venue(scenario, folder) as url, (folder / "output").open("wb") as output:
        program = subscribing(scenario, url, output.fileno())
        try:
            samples = watched(program, scenario.seconds)
        finally:
            if program.poll() is None:
                program.kill()
            _, talk = program.communicate()
    return Run(scenario, compared(scenario, folder), program.returncode, talk, folder), samples


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--rate", type=float, default=5000, help="messages a second in all")
    parser.add_argument("--every", type=float, default=20, help="seconds from fault to fault")
    parser.add_argument("--redundancy", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, default=Path("soak.txt"))
    parser.add_argument("--folder", type=Path, help="keep ledger and output here")
    typed = parser.parse_args()
    with recordings(typed.folder) as folder:
        done, samples = soak(scenario_of(typed), folder)
    text = report(done, samples)
    print(done.talk, text, sep="", end="")
    typed.report.write_text(text)
    return bool(done.problems()) or growth_mb(samples) > FLAT_MB


if __name__ == "__main__":
    sys.exit(main())
