"""What a message costs: as fast as it can be read, and paced at 10,000 a second.

In each round every client runs once with one message and once with many; the difference is
what its messages cost, without its start-up.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.bench.clients import OURS, PACED, PLAIN, Client, Place, in_turn
from tests.bench.figures import Bench, ratios, spread, table
from tests.bench.load import Load, payloads
from tests.bench.measure import ClientFailed, Cost, Server, measure, serving, silent_stdin

__all__ = ["FEEDS", "paced", "throughput"]

FEEDS = ("book", "ticker")
# Enough lines to see that a client loses none, few enough to hold in memory.
TRIAL_MESSAGES = 1000
SLOW_ROUNDS = 3
PER_SECOND = 10_000
PACED_S = 2
# Of all rounds of a feed, and of the paced ones: the whole run is to last ten minutes.
SECONDS, PACED_SECONDS = 110, 60


def run(client: Client, server: Server, load: Load) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        return measure(client.command(place(server, load, folder)))


def place(server: Server, load: Load, folder: str) -> Place:
    return Place(server.urls[load], load, server.ca_file, Path(folder, "x"))


def try_out(client: Client, server: Server, load: Load) -> None:
    """Raises ClientFailed unless the client passes on every message; warms the caches too."""
    with tempfile.TemporaryDirectory() as folder, silent_stdin() as stdin:
        argv = client.command(place(server, load, folder))
        try:
            done = subprocess.run(argv, capture_output=True, stdin=stdin, timeout=20)
        except subprocess.TimeoutExpired:
            raise ClientFailed(f"{client.name} did not end within 20 s") from None
    lines = done.stdout.count(b"\n")
    if done.returncode or (client.lines and lines != load.messages + client.control):
        words = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        told = f"status {done.returncode}, {lines} lines for {load.messages} messages"
        raise ClientFailed(f"{client.name}: {told}; {' '.join(words)[-200:]}")


def those_that_work(
    bench: Bench, clients: Iterable[Client], server: Server, feed: str
) -> list[Client]:
    working = []
    for client in clients:
        try:
            try_out(client, server, client.load(feed, TRIAL_MESSAGES))
            working.append(client)
        except ClientFailed as failure:
            bench.say(f"{feed}: {failure}")
    return working


def throughput(bench: Bench) -> str:
    return "\n\n".join(throughput_of(bench, feed) for feed in FEEDS)


def throughput_of(bench: Bench, feed: str) -> str:
    clients = [*in_turn(feed)]
    many = {each.name: each.load(feed, int(bench.messages * each.share)) for each in clients}
    loads = [each.load(feed, amount) for each in clients for amount in (1, TRIAL_MESSAGES)]
    with serving([*loads, *many.values()]) as server:
        clients = those_that_work(bench, clients, server, feed)
        for number in bench.turns(bench.rounds, SECONDS, feed):
            for client in clients:
                if client.slow and number >= SLOW_ROUNDS:
                    continue
                load = many[client.name]
                start_up = run(client, server, client.load(feed, 1))
                whole = run(client, server, load)
                keep(bench, f"{feed} {client.name}", whole, start_up, load.messages - 1)
    return costs(bench, feed, [each.name for each in clients])


def keep(bench: Bench, name: str, whole: Cost, start_up: Cost, messages: int) -> None:
    cost = whole.per_message(start_up, messages)
    bench.add(f"{name} cpu", cost.cpu_s * 1e6)
    bench.add(f"{name} rate", cost.rate)
    bench.add(f"{name} peak", cost.peak_mb)


def costs(bench: Bench, feed: str, names: list[str]) -> str:
    figures = bench.figures
    sizes = [len(payload) for payload in payloads(Load(feed, 1000))]
    header = (
        "client",
        "CPU, µs a message",
        "messages a second",
        "CPU / plain",
        "CPU / kfws",
        "MiB",
    )
    rows = [
        (
            name,
            spread(figures[f"{feed} {name} cpu"]),
            spread(figures[f"{feed} {name} rate"], ",.0f"),
            spread(ratios(figures, f"{feed} {name} cpu", f"{feed} {PLAIN.name} cpu"), ".3f"),
            spread(ratios(figures, f"{feed} {name} cpu", f"{feed} {OURS.name} cpu")),
            f"{max(figures[f'{feed} {name} peak']):.0f}",
        )
        for name in names
    ]
    title = f"**{feed}**, {sum(sizes) / len(sizes):.0f} bytes a message on average"
    return f"{title}\n\n{table(header, rows)}"


def paced(bench: Bench) -> str:
    seconds = PACED_S if bench.messages >= PER_SECOND * PACED_S else bench.messages / PER_SECOND
    messages = int(PER_SECOND * seconds)
    clients = [each for each in PACED if each.is_there]
    one, many, trial = Load("book", 1), Load("book", messages, PER_SECOND), Load("book", 1000)
    with serving([one, many, trial]) as server:
        clients = those_that_work(bench, clients, server, "book")
        for _ in bench.turns(bench.rounds, PACED_SECONDS, "paced"):
            for client in clients:
                start_up, whole = run(client, server, one), run(client, server, many)
                share = (whole.cpu_s - start_up.cpu_s) / seconds
                bench.add(f"paced {client.name}", share * 100)
    header = ("client", "% of a core", "of the plain client's")
    rows = [
        (
            each.name,
            spread(bench.figures[f"paced {each.name}"], ".1f"),
            spread(ratios(bench.figures, f"paced {each.name}", f"paced {PLAIN.name}")),
        )
        for each in clients
    ]
    return table(header, rows)
