"""The README does not lie: its commands are run and their output is what it shows."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kfws.cli.exits import ExitStatus
from kfws.protocol.auth import DEMO
from kfws.sim.server import SimOptions, serve
from tests.cli.program import PATIENCE_S, environment
from tests.needs import need

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PROGRAMS = [each for each in PYTHON if "asyncio.run(" in each]
URL = "ws://127.0.0.1:8765/ws/v1"


def sessions() -> list[tuple[str, list[str]]]:
    """Each shown command with the lines that stand below it; those without any are not run."""
    found: list[tuple[str, list[str]]] = []
    for block in BLOCKS:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *shown = part.rstrip("\n").split("\n")
            if "ndjson.zst" in command and "--env sim" in command:
                found.append((command, []))
            elif shown and "127.0.0.1:8765" not in command:
                found.append((command, shown))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all commands, in their order: some use what an earlier one wrote."""
    return tmp_path_factory.mktemp("readme")


@pytest.mark.parametrize(("command", "shown"), sessions(), ids=lambda each: str(each)[:60])
def test_a_shown_command_prints_what_is_shown(command: str, shown: list[str], folder: Path) -> None:
    for tool in ("jq", "zstdcat"):
        if tool in command:
            need(tool)
    if command.startswith("kfws subscribe book") and "-o book.ndjson.zst" in command:
        (folder / "book.ndjson.zst").unlink(missing_ok=True)
    programs = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment(PATH=f"{programs}{os.pathsep}{os.environ['PATH']}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    printed = done.stdout.splitlines()
    assert len(printed) == len(shown), done.stdout
    for got, wanted in zip(printed, shown, strict=True):
        pattern = ".*?".join(re.escape(piece) for piece in wanted.split("…"))
        assert re.fullmatch(pattern, got), f"{got!r} is not {wanted!r}"


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda each: each[-60:])
async def test_a_shown_program_runs_as_it_stands(program: str) -> None:
    async with serve(SimOptions()) as venue:
        assert URL in program
        run = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-c", program.replace(URL, venue.url)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed, _ = await run.communicate()
    assert run.returncode == 0, printed.decode()
    lines = printed.decode().splitlines()
    assert any(
        re.match(r"\(Level\(price=|\{'time': \d+, 'product_id': 'PF_XBTUSD'", x) for x in lines
    )
    assert "Traceback" not in printed.decode()


def test_there_are_commands_to_run() -> None:
    assert len(sessions()) >= 10
    assert len(PROGRAMS) >= 2


def test_the_exit_statuses_are_those_of_the_program() -> None:
    rows = [f"| {status.value} | {status.meaning} |" for status in ExitStatus]
    table = README[README.index("## Exit status") : README.index("## The simulator")]
    assert [line for line in table.splitlines() if re.match(r"\| \d", line)] == rows


def test_the_account_of_the_simulator_is_the_published_one() -> None:
    assert DEMO.key in README
    assert DEMO.secret in README
