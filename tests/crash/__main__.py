"""``make crash``: the recorder killed at least 200 times over the formats, and a table of it.

Ends with status 1 where anything was not as it must be; the tapes of such runs are kept.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tests.crash.run import RECORDINGS, Outcome, Recording, record

COLUMNS = (
    *("`-o`", "kills", "frames sent", "on tape", "files with a torn end"),
    *("kills that cost something", "first frame lost before the kill, at most", "problems"),
)


def table(outcomes: Iterable[Outcome]) -> str:
    """Markdown: a row for each way to record."""
    rows: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        rows.setdefault(str(outcome.recording), []).append(outcome)
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for name, row in rows.items():
        lost_s = [each for outcome in row for each in outcome.lost_s]
        figures = (
            f"{sum(each.kills for each in row):,}",
            f"{sum(each.sent for each in row):,}",
            f"{sum(each.kept for each in row):,}",
            f"{sum(each.torn for each in row):,}",
            f"{len(lost_s):,}",
            f"{max(lost_s, default=0):.2f} s",
            f"{sum(len(each.problems) for each in row):,}",
        )
        lines.append(f"| `{name}` | " + " | ".join(figures) + " |")
    return "\n".join(lines)


def attempt(recording: Recording) -> Outcome:
    """A recording whose tapes are kept only where something was wrong with it."""
    folder = Path(tempfile.mkdtemp(prefix="crash-"))
    outcome = record(recording, folder)
    if outcome.problems:
        print(f"{recording} (seed {recording.seed}, {folder}):", *outcome.problems, sep="\n  ")
        sys.stdout.flush()
    else:
        shutil.rmtree(folder)
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=13, help="of each recording")
    parser.add_argument("--seeds", type=int, default=2, help="recordings of each kind")
    parser.add_argument("--at-once", type=int, default=3, help="recordings that share the machine")
    typed = parser.parse_args()
    wanted = [
        replace(each, kills=typed.kills, seed=seed)
        for seed in range(1, typed.seeds + 1)
        for each in RECORDINGS
    ]
    with ThreadPoolExecutor(typed.at_once) as pool:
        outcomes = list(pool.map(attempt, wanted))
    print(table(outcomes))
    return any(outcome.problems for outcome in outcomes)


if __name__ == "__main__":
    sys.exit(main())
