"""``make chaos``: the long form of the chaos suite, and a table of what it saw.

Every fault alone with several seeds, each of two connections faulty in turn, and many mixes;
then two recorders, a cluster of JetStream and a reader (``--parts jetstream``: these alone).
Ends with status 1 where anything was not as it must be; the recordings of such runs are kept.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.chaos import jetstream
from tests.chaos.run import Run, Scenario, run
from tests.chaos.scenarios import alone, mix, redundant, slow

COLUMNS = (
    *("fault", "connections", "runs", "sent", "came out", "missing, named", "healed"),
    *("lost in named intervals", "problems"),
)


def scenarios(seeds: Iterable[int], mixes: int) -> Iterator[Scenario]:
    for seed in seeds:
        yield from slow(seed=seed)
        yield from alone(quick_s=8, seed=seed)
        yield from redundant(quick_s=10, seed=seed)
    for seed in range(1, mixes + 1):
        yield mix(seed, faults=8)
        yield mix(seed, redundancy=2, faults=6, apart_s=4)


def kind(scenario: Scenario) -> str:
    """The row of the table that a run belongs to."""
    is_mix = len(scenario.faults) > 3
    return f"{len(scenario.faults)} mixed" if is_mix else ", ".join(map(_short, scenario.faults))


def _short(fault: str) -> str:
    """Without the connection that was hit, which the seed decides."""
    return ":".join(part for part in fault.split(":") if not part.startswith("conn="))


def table(runs: Iterable[Run]) -> str:
    """Markdown: a row for each fault, single and redundant."""
    rows: dict[tuple[str, int], list[Run]] = {}
    for done in runs:
        rows.setdefault((kind(done.scenario), done.scenario.redundancy), []).append(done)
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for (name, redundancy), row in sorted(rows.items(), key=lambda item: (item[0][1], item[0][0])):
        results = [done.result for done in row]
        figures = (
            *(redundancy, len(row), sum(each.sent for each in results)),
            *(sum(each.came for each in results), sum(each.missing for each in results)),
            *(sum(each.healed for each in results), sum(each.lost for each in results)),
            sum(len(done.problems()) for done in row),
        )
        lines.append(f"| `{name or 'none'}` | " + " | ".join(f"{n:,}" for n in figures) + " |")
    return "\n".join(lines)


def attempt(scenario: Scenario) -> Run:
    """A run whose recordings are kept only where something was wrong with it."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    done = run(scenario, folder)
    problems = done.problems()
    if problems:
        print(f"{scenario} (seed {scenario.seed}, {folder}):", *problems, sep="\n  ", flush=True)
    else:
        shutil.rmtree(folder)
    return done


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each fault")
    parser.add_argument("--mixes", type=int, default=20, help="mixes, single and redundant each")
    parser.add_argument("--at-once", type=int, default=8, help="runs that share the machine")
    parser.add_argument(
        "--parts", nargs="+", choices=["venue", "jetstream"], default=["venue", "jetstream"]
    )
    typed = parser.parse_args()
    failed = False
    if "venue" in typed.parts:
        failed |= of_the_venue(typed)
    if "jetstream" in typed.parts:
        failed |= jetstream.report(jetstream.FAULTS, servers=3, at_once=min(4, typed.at_once))
    return failed


def of_the_venue(typed: argparse.Namespace) -> bool:
    """Whether anything was not as it must be."""
    wanted = sorted(scenarios(range(1, typed.seeds + 1), typed.mixes), key=lambda s: -s.seconds)
    with ThreadPoolExecutor(typed.at_once) as pool:
        runs = list(pool.map(attempt, wanted))
    print(table(runs))
    return any(done.problems() for done in runs)


if __name__ == "__main__":
    sys.exit(main())
