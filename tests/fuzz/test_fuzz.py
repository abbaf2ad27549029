"""The short form of ``make fuzz``, and that work grows as its input does."""

from __future__ import annotations

import ast
import gzip
import importlib
import re
import re._parser  # type: ignore[import-not-found]  # the only one who knows how a pattern is built
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from kfws.errors import UsageError
from kfws.protocol.events import Gap
from kfws.protocol.session import Session, Subscription
from kfws.tapes.files import Reader
from tests.fuzz.run import grown, run, size_of
from tests.fuzz.targets import TARGETS, Target

ROOT = Path(__file__).parents[2]
EXAMPLES = 40


@pytest.mark.parametrize("target", TARGETS, ids=lambda each: each.name)
def test_nothing_comes_out_of_a_door_but_what_is_documented(target: Target) -> None:
    result = run(target, EXAMPLES, growth=False)
    assert result.bugs == {}
    assert result.outcomes


def test_a_bug_would_be_seen() -> None:
    def attempt(given: Any) -> str:
        return str(1 // (size_of(given) % 2))

    broken = Target("broken", TARGETS[0].inputs, attempt)
    assert next(iter(run(broken, 20, growth=False).bugs)).startswith("ZeroDivisionError in ")


def work(call: Callable[[], object]) -> int:
    """How many functions were called meanwhile, Python's own included: the same each time."""
    count = 0

    def tally(frame: FrameType, event: str, arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(tally)
    try:
        call()
    finally:
        sys.setprofile(before)
    return count


FRAME = b'{"feed":"trade","product_id":"PF_XBTUSD","seq":7,"time":1,"qty":1,"price":1,"side":"buy"}'
PIECES: dict[str, tuple[Any, ...]] = {
    "wire": ([FRAME], [b'{"api_key":"x'], [b'["{']),
    "session": ([FRAME], [b'{"event":"alert","message":"`"}'], [b"\xff"]),
    "formats (csv, json, …)": ([FRAME], [b'{"feed":"fills","fills":[{"a":[1]}]}']),
    "terminal": ([FRAME], [b'{"feed":"ticker","product_id":"\\u001b[2J","bid":1e999}']),
    "tape, whole": (b'{"received_ns":1,"a":1}\n', b"\n", b"x", gzip.compress(b"x")),
    "tape, damaged": (b'{"received_ns":1,"feed":"book"}\n', b'{"kfws":"gap","at_ns":1}\n'),
    "tape, played": (b'{"received_ns":1,"feed":"book"}\n', b'{"kfws":"opened","at_ns":1}\n'),
    "--where": ("a==1 and ", "not ", "a<1 or ", '"', "\\"),
    "products": ("PF_*", "x,", "[", "PF_XBTUSD,"),
    "quantities": ("1", "1m", "1.", ":"),
    "templates": ("{feed}", "{", ".gz", "/.."),
    "settings (TOML)": ('[a]\nb=1\n"', "a.", "#\n", "env = "),
    "credentials": ("api_key = ", "'", "#\n", "{"),
    "REST answers": (b'{"error":[', b'{"symbol":1},', b"9"),
    "sim --fault": ("drop@", ":", "1s..", "gap=1"),
}


@pytest.mark.parametrize("target", TARGETS, ids=lambda each: each.name)
def test_four_times_the_input_is_four_times_the_work(target: Target) -> None:
    for piece in PIECES[target.name]:
        small, large = (grown(piece, size) for size in (1_000, 4_000))
        target.outcome(small)  # what is made once is made here
        few, many = (work(partial(target.outcome, each)) for each in (small, large))
        assert many <= 5 * few + 500, piece


def test_many_gaps_and_late_messages_cost_as_much_each_as_a_few() -> None:
    """A venue that leaves out every other message of a burst, and sends them backwards later."""

    def burst(messages: int) -> None:
        session = Session([Subscription("trade", "PF_XBTUSD")])
        session.outgoing(0)
        numbers = [*range(2, 2 * messages, 2), *range(2 * messages - 1, messages, -2)]
        frames = [FRAME.replace(b":7", b":%d" % number) for number in numbers]
        session.receive(frames, 1)
        session.tick(1, 1)
        gaps = session.tick(10**9, 10**9)
        assert sum(each.missing or 0 for each in gaps if isinstance(each, Gap)) > messages // 4

    burst(50)
    few, many = work(lambda: burst(500)), work(lambda: burst(2000))
    assert many <= 5 * few


def test_a_line_in_a_hundred_thousand_compressed_frames_is_read_in_one_go(tmp_path: Path) -> None:
    path = tmp_path / "x.ndjson.gz"
    path.write_bytes(gzip.compress(b"x", mtime=0) * 100_000 + gzip.compress(b"\n", mtime=0))
    [[whole]] = Reader(path).batches()
    assert whole == b"x" * 100_000


def test_settings_that_nest_without_end_are_no_toml() -> None:
    [target] = (each for each in TARGETS if each.name == "settings (TOML)")
    with pytest.raises(UsageError, match="is no TOML: nested too deeply"):
        target.attempt("x = " + "[" * 20_000)


# Patterns. What matches without end inside of what matches without end can take for ever.

SAFE = {
    # Each round ends with a unit, which no digit can be.
    r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+",
    # Each round begins with a colon, which no other place takes.
    r"([a-z-]+)(?:=([^@:]*))?(?:@([^:]*))?((?::[^:@]*)*)",
}


def patterns() -> Iterator[tuple[str, re.Pattern[Any]]]:
    """Every pattern that a module keeps, compiled or as a text for ``re`` to compile in time."""
    for path in sorted((ROOT / "kfws").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "import re\n" not in text:
            continue
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for key, value in vars(importlib.import_module(name)).items():
            if isinstance(value, re.Pattern):
                yield f"{name}.{key}", value
            elif isinstance(value, (str, bytes)) and re.search(rf"\bre\.\w+\(\s*{key}\b", text):
                yield f"{name}.{key}", re.compile(value)


def nests(parsed: Any, inside: bool = False) -> bool:
    """Whether an endless repetition stands in another one that could give some of it back."""
    for operator, argument in parsed:
        name = str(operator)
        if name == "POSSESSIVE_REPEAT":
            continue
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            _, most, inner = argument
            endless = most == re._parser.MAXREPEAT
            if (endless and inside) or nests(inner, inside or endless):
                return True
        elif name == "BRANCH":
            if any(nests(each, inside) for each in argument[1]):
                return True
        elif name in ("SUBPATTERN", "ATOMIC_GROUP") and nests(
            argument[-1] if name == "SUBPATTERN" else argument, inside
        ):
            return True
    return False


def test_no_pattern_repeats_without_end_what_repeats_without_end() -> None:
    found = dict(patterns())
    assert len(found) > 20
    bad = [
        name for name, each in found.items() if nests(re._parser.parse(each.pattern, each.flags))
    ]
    assert [name for name in bad if found[name].pattern not in SAFE] == []


@pytest.mark.parametrize("pattern", [r"(a+)+", r"(?:a|b*)*c", r"(x(y*z)?)+"])
def test_a_nest_is_seen(pattern: str) -> None:
    assert nests(re._parser.parse(pattern))


def test_the_safe_patterns_are_patterns_of_ours() -> None:
    assert {each.pattern for _, each in patterns()} >= SAFE


def test_every_compiled_pattern_is_kept_by_its_module() -> None:
    """One made in a function would not be looked at above; two are known to be harmless."""
    inside = [
        f"{path.relative_to(ROOT)}:{node.name}"
        for path in sorted((ROOT / "kfws").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and any(
            ast.unparse(each.func) == "re.compile"
            for each in ast.walk(node)
            if isinstance(each, ast.Call)
        )
    ]
    assert inside == ["kfws/cli/commands/convert.py:count", "kfws/tapes/names.py:_pattern"]
