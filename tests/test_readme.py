"""README and docs do not lie: what they show is run, and its output is what they show."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from kfws.cli.app import app
from kfws.cli.env import Env
from kfws.cli.exits import ExitStatus
from kfws.protocol.auth import DEMO
from kfws.sim.server import SimOptions, serve
from tests.documents import PAGES, ROOT, Command, Section, matches, printed, sections
from tests.needs import lacking, need

PARTS = [part for page in PAGES for part in sections(page)]
RUN = [part for part in PARTS if part.commands and part.heading]
PROGRAMS = [program for part in PARTS for program in part.programs if "asyncio.run(" in program]
UNTRIED = sorted({command for part in PARTS for command in part.untried})
# What orders the rows of a live table is for a terminal.
TRIED = [each for each in UNTRIED if "--env sim" in each and "--sort" not in each]
TOOLS = ("jq", "zstdcat", "nats-server", "curl")
MODULES = ("duckdb", "pandas", "pyarrow")
URL = "ws://127.0.0.1:8765/ws/v1"
README, GUIDE = (ROOT / name for name in ("README.md", "docs/guide.md"))


def need_all_of(text: str) -> None:
    for tool in TOOLS:
        if re.search(rf"\b{tool} ", text):
            need(tool)
    for module in MODULES:
        if re.search(rf"\bimport {module}\b", text) and find_spec(module) is None:
            lacking(f"{module} is not installed")


def try_out(part: Section, folder: Path) -> None:
    """Runs what a section shows, in a folder that holds its files."""
    need_all_of("\n".join([*part.files.values(), *(each.typed for each in part.commands)]))
    for name, text in part.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    for command, got in zip(part.commands, printed(part.commands, folder), strict=True):
        assert matches(command.shown, got), (
            f"{command.typed}\n--- shown\n{command.shown}\n--- got\n{got}"
        )


@pytest.fixture(scope="session")
def led(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """The folder in which the head of a page was run: once for each page."""
    folders: dict[Path, Path] = {}

    def folder_of(page: Path) -> Path:
        if page not in folders:
            folders[page] = tmp_path_factory.mktemp(page.stem)
            try_out(sections(page)[0], folders[page])
        return folders[page]

    return folder_of


@pytest.mark.timeout(180)  # many programs, one after the other
@pytest.mark.parametrize("part", RUN, ids=str)
def test_what_a_section_shows_is_what_its_commands_print(
    part: Section, led: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "here"
    shutil.copytree(led(part.page), folder)
    try_out(part, folder)


@pytest.mark.parametrize("typed", TRIED, ids=lambda each: str(each)[:70])
def test_what_you_type_does_something(typed: str, tmp_path: Path) -> None:
    (tmp_path / "products.txt").write_text("PF_XBTUSD\nPF_ETHUSD\n")
    typed = typed.replace("\\|", "|")
    need_all_of(typed)
    if typed.startswith(("kfws subscribe", "kfws book")):
        typed = typed.replace("--env sim", "--env sim -q --duration 1s", 1)
    (got,) = printed([Command(f'{typed}; echo "left: $?"', "")], tmp_path)
    assert re.search(r"^left: [09]$", got, re.M), got  # 9: what --until waits for did not come


@pytest.mark.parametrize("typed", UNTRIED, ids=lambda each: str(each)[:70])
def test_every_command_is_understood(typed: str, tmp_path: Path) -> None:
    words = shlex.shlex(typed.replace("\\|", "|"), posix=True, punctuation_chars="|&;<>")
    words.whitespace_split = True
    args = [*takewhile(lambda each: not set(each) <= set("|&;<>"), words)][1:]
    understand(get_command(app), "kfws", args, Env(environ={}, config_folder=tmp_path))


def understand(command: Any, name: str, args: list[str], env: Env, parent: Any = None) -> None:
    """Parses as the command line does; what is wrong raises."""
    context = command.make_context(name, args, parent=parent, obj=env)
    if isinstance(command, TyperGroup):
        typed = [*context._protected_args, *context.args]
        found, inner, rest = command.resolve_command(context, typed)
        understand(inner, str(found), rest, env, context)


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
        output, _ = await run.communicate()
    text = output.decode()
    assert run.returncode == 0, text
    assert re.search(r"^(\(Level\(price=|\{'time': \d+, 'product_id': 'PF_XBTUSD')", text, re.M)
    assert "Traceback" not in text


def test_what_moves_is_no_row_more() -> None:
    shown = "[('A', …, …), ('B', …)]"
    assert matches(shown, "[('A', 1, 2.5), ('B', 3)]")
    assert not matches(shown, "[('A', 1, 2.5), (None, 2, None), ('B', 3)]")
    assert not matches("[[…]]", "[[1],[2]]")
    assert matches("[[…]]", "[[1,2]]")


def test_there_is_much_to_run() -> None:
    assert sum(len(part.commands) for part in RUN if part.page == README) >= 10
    assert sum(part.page.stem == "cookbook" for part in RUN) >= 20
    assert len(PROGRAMS) >= 2
    assert len(TRIED) >= 10


def test_the_readme_is_one_page() -> None:
    assert README.read_text(encoding="utf-8").count("\n") <= 190


def test_the_exit_statuses_are_those_of_the_program() -> None:
    rows = [f"| {status.value} | {status.meaning} |" for status in ExitStatus]
    table = re.split(r"^## ", README.read_text(encoding="utf-8"), flags=re.M)
    (found,) = [part for part in table if part.startswith("Exit status\n")]
    assert [line for line in found.splitlines() if re.match(r"\| \d", line)] == rows


def test_the_account_of_the_simulator_is_the_published_one() -> None:
    assert DEMO.key in GUIDE.read_text(encoding="utf-8")
    assert DEMO.secret in GUIDE.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(
        r"\]\((?!https?:)([^)#\s]*)(#[^)]*)?\)", page.read_text(encoding="utf-8")
    ):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
            assert anchor[1:] in {_anchor(each) for each in headings}, anchor


def _anchor(heading: str) -> str:
    """As the sites that show Markdown make them."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
