"""Which runs there are: each fault alone, one connection faulty of two, and seeded mixes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from tests.chaos.run import Scenario

__all__ = ["alone", "mix", "redundant", "slow"]

PRIVATE = ("book", "ticker", "fills", "open_orders", "balances", "account_log")
NOTICED_S = 16.0
"""A run in which the program has to notice something by itself: its deadlines are 10 s."""

QUICK = (
    ("drop@1s",),
    ("drop@1s..2s:every=1s..2s",),
    ("close=1012@1s",),
    ("close=1001@300msgs",),
    ("restart@1s",),
    ("drop@1s", "refuse=503@1s:retry-after=1"),
    ("drop@1s", "refuse=429@1s:times=2"),
    ("slow=1s", "drop@2s", "slow=500ms@2s"),
    ("gap=3@1s:feed=book:product=PF_XBTUSD",),
    ("gap=1@5msgs:feed=trade",),
    ("gap=2:every=500ms",),
    ("duplicate=5@1s",),
    ("reorder=5@1s:feed=book",),
    ("broken=3@1s",),
    ("binary=3@1s",),
    ("huge=5MB@1s",),
    ("alerts=20@1s",),
    ("reject:feed=trade",),
)

NOTICED = (
    ("stall@2s",),
    ("half-open@2s",),
    ("no-ack=2",),
    ("no-ack:no-data:feed=book",),
    ("no-snapshot=2:feed=book",),
    ("silent:feed=book:product=PF_ETHUSD",),
)

SIGNED = (("late-challenge=2s",), ("wrong-challenge",), ("drop@2s", "wrong-challenge:conn=2"))

ONE_OF_TWO = (
    "drop@3s",
    "close=1012@3s",
    "gap=5@3s:feed=book",
    "gap=2@3s:feed=trade",
    "duplicate=5@3s",
    "reorder=5@3s:feed=book",
    "broken=3@3s",
    "huge=2MB@3s",
    "silent@3s:feed=ticker",
    "stall@3s",
    "half-open@3s",
)

# Whoever stalls is found out within 10 s, which is more than lies between two faults here.
MIXED = ("drop", "close=1012", "gap=4", "duplicate=3", "reorder=3", "broken", "binary", "huge=1MB")


def alone(*, quick_s: float = 3.0, seed: int = 1) -> Iterator[Scenario]:
    """Each fault by itself, on a single connection."""
    for faults in QUICK:
        seconds = quick_s + 3 * any("refuse" in fault for fault in faults)
        yield Scenario(faults, seconds=seconds, seed=seed)
    for faults in NOTICED:
        yield Scenario(faults, seconds=NOTICED_S, seed=seed)
    for faults in SIGNED:
        yield Scenario(faults, feeds=PRIVATE, seconds=quick_s + 4, seed=seed)


def redundant(*, quick_s: float = 7.0, seed: int = 1) -> Iterator[Scenario]:
    """One of two connections is faulty, with an odd seed the first in every other row."""
    for number, fault in enumerate(ONE_OF_TWO):
        is_noticed = fault.startswith(("stall", "half-open"))
        faulty = f"{fault}:conn={1 + (number + seed + 1) % 2}"
        seconds = NOTICED_S + 3 if is_noticed else quick_s
        yield Scenario((faulty,), redundancy=2, seconds=seconds, seed=seed)


def slow(*, seed: int = 1) -> Iterator[Scenario]:
    """What takes a minute to be noticed."""
    yield Scenario(("silent@3s:feed=ticker:product=PF_ETHUSD",), seconds=75, seed=seed)


def mix(seed: int, *, redundancy: int = 1, faults: int = 5, apart_s: float = 2.0) -> Scenario:
    """Faults by chance, one after the other; of several connections one at a time is hit."""
    chance = random.Random(f"mix {seed}")
    drawn: list[str] = []
    at_s = 2.0
    for _ in range(faults):
        name = chance.choice(MIXED)
        # Of two connections with a stream without numbers nobody knows which order is right.
        stream = ":feed=book" if name.startswith("reorder") else ""
        drawn.append(f"{name}@{at_s:.1f}s{stream}")
        at_s += apart_s * chance.uniform(0.8, 1.2)
    scenario = Scenario(tuple(drawn), seconds=at_s + 1, seed=seed)
    return replace(scenario, redundancy=redundancy)
