"""How long a process takes until it has said something, against the least that Python needs."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress

from tests.bench.clients import KFWS, YARDSTICKS_FOLDER
from tests.bench.figures import Bench, ratios, spread, table
from tests.bench.load import PRODUCT, Load
from tests.bench.measure import CLIENT_CORE, pinned, serving

__all__ = ["start"]

# A start is short, so more of them are timed than of the other things.
STARTS_PER_ROUND = 3
SECONDS = 40
TYPER = "import typer"
SCRIPT = "bare script, first line"
SLOWEST_IMPORTS = 12


def start(bench: Bench) -> str:
    load = Load("ticker", 1)
    with serving([load]) as server:
        url = server.urls[load]
        for _ in bench.turns(bench.rounds, SECONDS, "start"):
            for _ in range(STARTS_PER_ROUND):
                start_all(bench, url)
    figures = {name: values for name, values in bench.figures.items() if name.startswith("start ")}
    rows = [
        (
            name.removeprefix("start "),
            spread(values, ".0f"),
            spread(ratios(figures, name, f"start {TYPER}")),
            spread(ratios(figures, name, f"start {SCRIPT}")),
        )
        for name, values in figures.items()
    ]
    shown = table(("what", "ms", f"of `{TYPER}`", "of the bare script"), rows)
    return "\n\n".join([shown, imports()])


def start_all(bench: Bench, url: str) -> None:
    for name, argv, more in commands(url):
        bench.add(f"start {name}", timed(argv, more) * 1000)
    bench.add("start --help, panels", on_terminal([*KFWS, "--help"]) * 1000)


def commands(url: str) -> list[tuple[str, list[str], dict[str, str]]]:
    asked = {"COMP_WORDS": "kfws subscribe ti", "COMP_CWORD": "2"}
    python, script = [sys.executable], str(YARDSTICKS_FOLDER / "first_line.py")
    subscribe = [*KFWS, "subscribe", "ticker", PRODUCT, "--url", url, "-n", "1", "-q"]
    return [
        ("python -c pass", [*python, "-c", "pass"], {}),
        (TYPER, [*python, "-c", TYPER], {}),
        ("--version", [*KFWS, "--version"], {}),
        ("completion", [*KFWS], {"_KFWS_COMPLETE": "complete_bash", **asked}),
        ("--help, plain", [*KFWS, "--help"], {}),
        (SCRIPT, [*python, script, url, "ticker", PRODUCT], {}),
        ("kfws, first line", subscribe, {}),
        ("kfws, first line, asyncio", [*subscribe, "--loop", "asyncio"], {}),
    ]


def timed(argv: Sequence[str], more: Mapping[str, str]) -> float:
    began = time.perf_counter()
    with pinned(CLIENT_CORE):
        subprocess.run(argv, env={**os.environ, **more}, capture_output=True, check=True)
    return time.perf_counter() - began


def on_terminal(argv: Sequence[str]) -> float:
    """The same with a terminal as stdout."""
    ours, theirs = pty.openpty()
    began = time.perf_counter()
    with pinned(CLIENT_CORE):
        process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    with process, suppress(OSError):  # the end of a terminal is an error (EIO)
        while os.read(ours, 65536):
            pass
    os.close(ours)
    return time.perf_counter() - began


def imports() -> str:
    """What ``-X importtime`` says of ``--version``: own time by package."""
    argv = [sys.executable, "-X", "importtime", *KFWS[1:], "--version"]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stderr
    spent: Counter[str] = Counter()
    for own_us, name in re.findall(r"import time: +(\d+) \| +\d+ \| +(\S+)", told):
        spent[name.split(".")[0]] += int(own_us)
    rows = [(f"`{name}`", f"{us / 1000:.1f}") for name, us in spent.most_common(SLOWEST_IMPORTS)]
    whole = f"all {len(spent)} packages", f"{spent.total() / 1000:.1f}"
    shown = table(("package", "own ms"), [*rows, whole])
    return f"`python -X importtime -m kfws --version`, which itself costs about a third:\n\n{shown}"
