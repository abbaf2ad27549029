"""``python -m tests.bench``: kfws beside other clients, on the same load, in the same run.

In each round every client runs once with one message and once with many; the difference is
what its messages cost, without its start-up. The rounds are interleaved and only ratios within
a round are compared, since a shared machine swings by a quarter from one minute to the next.
Nothing here passes or fails; it prints what it saw.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from statistics import median

from tests.bench.load import PRODUCT, Load, payloads
from tests.bench.measure import CLIENT_CORE, ClientFailed, Cost, measure, serving

Client = Callable[[str, Load], list[str]]
"""The command line of a client that, given a URL, passes on the messages of a load and ends."""


def kfws(url: str, load: Load) -> list[str]:
    limit = ["-n", str(load.messages)]
    command = [sys.executable, "-m", "kfws", "subscribe", load.feed, PRODUCT]
    return [*command, "--url", url, "-f", "ndjson", *limit]


def plain(url: str, load: Load) -> list[str]:
    return [sys.executable, "-m", "tests.bench.plain", url, load.feed, PRODUCT]


# A new yardstick is one function above and one name here.
BASELINE: Client = plain
CLIENTS: tuple[Client, ...] = (kfws, plain)
FEEDS = ("book", "ticker")
# Enough lines to see that a client loses none, few enough to hold in memory.
TRIAL_MESSAGES = 1000

Rounds = dict[str, list[Cost]]
"""Per client, what one message cost in each round."""


def main() -> int:
    options = parse()
    print(describe_machine(options.rounds, options.messages))
    for feed in options.feeds:
        try:
            print(report(feed, options.messages, run_feed(feed, options.rounds, options.messages)))
        except ClientFailed as failure:
            print(f"{feed}: {failure}", file=sys.stderr)
            return 1
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=200_000, help="per run")
    parser.add_argument("--feeds", nargs="+", choices=FEEDS, default=FEEDS)
    return parser.parse_args()


def run_feed(feed: str, rounds: int, messages: int) -> Rounds:
    one, many, trial = Load(feed, 1), Load(feed, messages), Load(feed, TRIAL_MESSAGES)
    costs: Rounds = {client.__name__: [] for client in CLIENTS}
    with serving([one, many, trial]) as urls:
        for client in CLIENTS:
            try_out(client, urls[trial], trial)
        for _ in range(rounds):
            for client in CLIENTS:
                start_up = measure(client(urls[one], one))
                whole = measure(client(urls[many], many))
                costs[client.__name__].append(whole.per_message(start_up, messages - 1))
    return costs


def try_out(client: Client, url: str, load: Load) -> None:
    """Raises ClientFailed unless the client passes on every message; warms the caches too."""
    run = subprocess.run(client(url, load), capture_output=True)
    lines = run.stdout.count(b"\n")
    if run.returncode or lines != load.messages:
        words = run.stderr.decode(errors="replace").strip()[-400:]
        told = f"status {run.returncode}, {lines} of {load.messages} lines"
        raise ClientFailed(f"{client.__name__}: {told}: {words}")


def describe_machine(rounds: int, messages: int) -> str:
    pinning = "client pinned alone" if CLIENT_CORE is not None else "nothing pinned"
    websockets = metadata.version("websockets")
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {pinning}; "
        f"Python {platform.python_version()}, websockets {websockets}; "
        f"{rounds} rounds of {messages} messages"
    )


def report(feed: str, messages: int, costs: Rounds) -> str:
    """One feed as a table of minimum, median and maximum, and each round's ratios."""
    sample = [len(payload) for payload in payloads(Load(feed, min(messages, 1000)))]
    lines = [
        f"\n{feed}, {sum(sample) / len(sample):.0f} bytes a message    min / median / max",
        f"  {'':14}{'CPU µs per message':>26}{'messages per second':>34}",
    ]
    for name, rounds in costs.items():
        cpu = spread([cost.cpu_s * 1e6 for cost in rounds], ".2f")
        rate = spread([1 / cost.wall_s for cost in rounds], ",.0f")
        lines.append(f"  {name:14}{cpu:>26}{rate:>34}")
    baseline = costs[BASELINE.__name__]
    for name, rounds in costs.items():
        if rounds is not baseline:
            cpu_ratios = [a.cpu_s / b.cpu_s for a, b in zip(rounds, baseline, strict=True)]
            rate_ratios = [b.wall_s / a.wall_s for a, b in zip(rounds, baseline, strict=True)]
            title = f"{name}/{BASELINE.__name__}"
            lines.append(
                f"  {title:14}{spread(cpu_ratios, '.3f'):>26}{spread(rate_ratios, '.2f'):>34}"
            )
            each = "  ".join(f"{cpu:.3f}" for cpu in cpu_ratios)
            lines.append(f"  {title} CPU in each round: {each}")
    return "\n".join(lines)


def spread(values: list[float], form: str) -> str:
    return " / ".join(format(value, form) for value in (min(values), median(values), max(values)))


if __name__ == "__main__":
    sys.exit(main())
