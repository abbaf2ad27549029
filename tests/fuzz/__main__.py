"""``make fuzz``: every target, long; a table for docs/reliability.md.

Ends with 1 when something raised what nobody documented.
"""

from __future__ import annotations

import argparse
import random
import sys

from tests.fuzz.run import Result, run
from tests.fuzz.targets import TARGETS

HEAD = """\
| what is fed | examples | distinct outcomes | undocumented exceptions | slowest byte | growth |
|---|---|---|---|---|---|"""


def row(result: Result) -> str:
    growth = f"{result.growth:.1f} times" if result.growth else "too fast to tell"
    return (
        f"| {result.name} | {result.examples:,} | {len(result.outcomes)} | {len(result.bugs)} | "
        f"{result.slowest_us:.1f} µs | {growth} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=2000, help="of each target")
    parser.add_argument("--only", default="", help="targets whose names hold this text")
    parser.add_argument("--seed", type=int, default=None, help="the same inputs again")
    typed = parser.parse_args()
    start = random.randrange(1 << 31) if typed.seed is None else typed.seed
    print(f"--seed {start}", file=sys.stderr)
    print(HEAD, flush=True)
    bugs = 0
    for target in TARGETS:
        if typed.only not in target.name:
            continue
        result = run(target, typed.examples, start=start)
        print(row(result), flush=True)
        for place, given in result.bugs.items():
            print(f"{target.name}: {place}\n  {given!r:.300}", file=sys.stderr)
        if result.growth > 8:
            print(f"{target.name}: grew with {result.grower!r:.300}", file=sys.stderr)
        bugs += len(result.bugs)
    return int(bugs > 0)


if __name__ == "__main__":
    sys.exit(main())
