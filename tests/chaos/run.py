"""One run: the simulated venue and the program, each a process, and what both have written.

``python -m tests.chaos.run --fault drop@2s`` shows one by hand.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kfws.protocol.auth import DEMO
from kfws.protocol.feeds import FEEDS
from tests.chaos.check import Result, check
from tests.cli.program import KFWS, environment

__all__ = ["Run", "Scenario", "run", "subscribing", "venue"]

LEAVING_S = 10.0

# What a user with a single connection is told of a fault.
TELLS = {
    "drop": "gap",
    "close": "gap",
    "stall": "gap",
    "half-open": "gap",
    "gap": "gap",
    "restart": "restart",
    "duplicate": "duplicate",
    "broken": "broken",
    "binary": "broken",
    "silent": "silent",
    "no-snapshot": "silent",
    "reject": "refused",
    "alerts": "notice",
}
PRODUCTS = ("PF_XBTUSD", "PF_ETHUSD")


@dataclass(frozen=True, slots=True)
class Scenario:
    """What breaks, and who looks on."""

    faults: tuple[str, ...]
    feeds: tuple[str, ...] = ("book", "trade", "ticker")
    products: tuple[str, ...] = PRODUCTS
    redundancy: int = 1
    seconds: float = 5.0
    rate: float = 100.0
    """Book changes a second of each product."""
    seed: int = 1
    more: tuple[str, ...] = ()
    """Further options of ``kfws subscribe``."""

    def __str__(self) -> str:
        connections = f" x{self.redundancy}" if self.redundancy > 1 else ""
        return (", ".join(self.faults) or "nothing") + connections


@dataclass(frozen=True, slots=True)
class Run:
    """What came of it."""

    scenario: Scenario
    result: Result
    status: int
    talk: str
    """The program's stderr."""
    folder: Path
    """Holds ``ledger`` and ``output``."""

    def problems(self) -> list[str]:
        """All that is not as it must be, in words."""
        result, scenario = self.result, self.scenario
        found = list(result.differences)
        if self.status:
            found.append(f"the program ended with status {self.status}")
        if not result.came:
            found.append("nothing came out")
        if result.strikes.total() < len(scenario.faults):
            found.append(f"not every fault struck, so this shows less: {dict(result.strikes)}")
        if wrong := set(result.causes) & {"slow-reader", "suspended"}:
            found.append(f"gaps are put down to {', '.join(wrong)}, which was not so")
        if scenario.redundancy > 1 and result.missing:
            found.append(f"{result.missing} numbers missing, though one connection stood")
        for fault in scenario.faults if scenario.redundancy == 1 else ():
            event = TELLS.get(re.split("[=@:]", fault)[0])
            if event is not None and not result.told[event]:
                found.append(f"no {event!r} event tells of {fault}")
        return found


def run(scenario: Scenario, folder: Path) -> Run:
    """Runs a scenario to its end and compares."""
    with venue(scenario, folder) as url, (folder / "output").open("wb") as output:
        program = subscribing(scenario, url, output.fileno())
        try:
            _, talk = program.communicate(timeout=scenario.seconds + 60)
        finally:
            if program.poll() is None:
                program.kill()
                program.wait()
    return Run(scenario, compared(scenario, folder), program.returncode, talk, folder)


def compared(scenario: Scenario, folder: Path) -> Result:
    """What ledger and output of a finished run have to say of each other."""
    with (folder / "ledger").open("rb") as ledger, (folder / "output").open("rb") as output:
        return check(ledger, output, set(scenario.feeds), redundant=scenario.redundancy > 1)


@contextmanager
def venue(scenario: Scenario, folder: Path) -> Iterator[str]:
    """The simulated venue in a process of its own; gives its URL."""
    faults = [word for fault in scenario.faults for word in ("--fault", fault)]
    market = ["--rate", f"{scenario.rate:g}", "--seed", f"{scenario.seed}"]
    ledger = ["--ledger", str(folder / "ledger")]
    sim = subprocess.Popen(
        [*KFWS, "sim", "--port", "0", *market, *ledger, *faults],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert sim.stderr is not None
    try:
        said = sim.stderr.readline()
        assert "simulated venue at " in said, said
        yield said.split()[-1]
    finally:
        sim.send_signal(signal.SIGTERM)
        try:
            sim.communicate(timeout=LEAVING_S)
        except subprocess.TimeoutExpired:
            sim.kill()
            sim.communicate()


def subscribing(scenario: Scenario, url: str, stdout: int) -> subprocess.Popen[str]:
    """The program, as a user would start it."""
    public = any(not FEEDS[feed].private for feed in scenario.feeds)
    products = scenario.products if public else ()
    limits = ["--duration", f"{scenario.seconds:g}s", "--redundancy", f"{scenario.redundancy}"]
    return subprocess.Popen(
        [
            *(*KFWS, "subscribe", ",".join(scenario.feeds), *products),
            *("--url", url, "-f", "ndjson", "--events", *limits, *scenario.more),
        ],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(KFWS_API_KEY=DEMO.key, KFWS_API_SECRET=DEMO.secret),
    )


def main(args: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--fault", action="append", default=[], metavar="SPEC")
    parser.add_argument("--feeds", default="book,trade,ticker")
    parser.add_argument("--redundancy", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep ledger and output here")
    typed = parser.parse_args(args)
    folder = typed.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(exist_ok=True)
    scenario = Scenario(
        tuple(typed.fault),
        feeds=tuple(typed.feeds.split(",")),
        redundancy=typed.redundancy,
        seconds=typed.seconds,
        rate=typed.rate,
        seed=typed.seed,
    )
    done = run(scenario, folder)
    print(done.talk, end="")
    print(f"{scenario}: status {done.status}; {done.result}; files in {folder}")
    for problem in done.problems():
        print(f"  {problem}")
    return bool(done.problems())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
