"""One target, many inputs: what came of them, and how the time grew."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.targets import Target

__all__ = ["Result", "grown", "run", "size_of"]

# Shorter inputs tell of the call, not of the byte.
LEAST_BYTES = 256
SMALL_BYTES = 4_000
TIMES = 4
# Below this a quotient of times says nothing.
LEAST_S = 0.002
# How many inputs are repeated until they are long.
SWOLLEN = 12


@dataclass
class Result:
    """What came of a target."""

    name: str
    examples: int = 0
    outcomes: set[str] = field(default_factory=set)
    bugs: dict[str, Any] = field(default_factory=dict)
    """Where an exception that nobody documented came from, and what was put in."""
    slowest_us: float = 0.0
    """Per byte, of inputs that are not short."""
    growth: float = 0.0
    """How much longer an input took that was four times as long, at worst."""
    grower: Any = None


def size_of(given: Any) -> int:
    """Bytes or characters of an input."""
    return len(given) if isinstance(given, (bytes, str)) else sum(map(len, given))


def grown(given: Any, size: int) -> Any:
    """The input again and again, until it is that long."""
    return given * max(1, size // max(1, size_of(given)))


def run(target: Target, examples: int, *, growth: bool = True, start: int = 0) -> Result:
    """Tries a target; bugs are collected, not raised. ``start`` seeds the inputs."""
    result = Result(target.name)
    pieces: list[Any] = []

    @seed(start)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(target.inputs)
    def attempt(given: Any) -> None:
        took = _timed(target, given, result)
        result.examples += 1
        size = size_of(given)
        if size >= LEAST_BYTES:
            result.slowest_us = max(result.slowest_us, took / size * 1e6)
        if 0 < size < LEAST_BYTES * 4 and len(pieces) < SWOLLEN:
            pieces.append(given)

    attempt()
    for piece in pieces if growth else ():
        _measure_growth(target, piece, result)
    return result


def _timed(target: Target, given: Any, result: Result) -> float:
    began = time.process_time()
    try:
        result.outcomes.add(target.outcome(given))
    except Exception as exc:
        where = traceback.extract_tb(exc.__traceback__)[-1]
        place = f"{type(exc).__name__} in {where.filename.rpartition('kfws/')[2]}:{where.lineno}"
        result.bugs.setdefault(f"{place}: {str(exc)[:80]}", given)
    return time.process_time() - began


def _measure_growth(target: Target, piece: Any, result: Result) -> None:
    def took(size: int) -> float:
        given = grown(piece, size)
        return min(_timed(target, given, result) for _ in range(2))

    _grow(took, piece, result)


def _grow(took: Callable[[int], float], piece: Any, result: Result) -> None:
    long = took(SMALL_BYTES * TIMES)
    if long < LEAST_S:
        return
    growth = long / took(SMALL_BYTES)
    if growth > max(result.growth, TIMES * 1.5):
        # On a busy machine once is never.
        growth = min(growth, took(SMALL_BYTES * TIMES) / took(SMALL_BYTES))
    if growth > result.growth:
        result.growth, result.grower = growth, piece
