"""Commands are imported when they are called, and no sooner."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from kfws.cli.app import app
from kfws.cli.commands import COMMANDS, GROUPS
from kfws.cli.program import Program
from kfws.sim.server import SimOptions, serve
from tests.cli.inside import beside, run
from tests.cli.program import PATIENCE_S, environment
from tests.test_walls import HEAVY

ROOM = "kfws.cli.commands."


def program() -> Program:
    made = typer.main.get_group(app)
    assert isinstance(made, Program)
    return made


def test_the_summaries_are_what_the_commands_say_of_themselves() -> None:
    for name, command in program().load_all().items():
        first = " ".join(command.help.partition("\n\n")[0].split())
        assert {**COMMANDS, **GROUPS}[name] == first
        assert command.name == name


def test_groups_are_what_has_commands() -> None:
    loaded = program().load_all()
    assert [name for name, each in loaded.items() if hasattr(each, "commands")] == [*GROUPS]


@pytest.mark.parametrize(
    ("args", "line", "wanted"),
    [
        (["--version"], None, set()),
        (["--help"], None, set()),
        (["-h"], None, set()),
        (["nonsense"], None, set()),
        (["feeds"], None, {"feeds"}),
        (["subscribe", "--help"], None, {"subscribe"}),
        (["subscribe", "ticker", "--url", "nowhere"], None, {"subscribe"}),
        ([], "kfws sub", set()),
        ([], "kfws subscribe tick", {"subscribe"}),
        ([], "kfws auth lo", {"auth", "feeds"}),
        ([], "kfws config show pro", {"config", "feeds"}),
    ],
)
def test_only_what_is_called_is_imported(
    args: list[str], line: str | None, wanted: set[str]
) -> None:
    loaded = loaded_by(args, line)
    assert {name.removeprefix(ROOM) for name in loaded if name.startswith(ROOM)} <= wanted
    assert "rich" not in loaded


def loaded_by(args: list[str], line: str | None = None) -> set[str]:
    """The modules of a run, or of a TAB at the end of a line."""
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: sys.stderr.write('|'.join(['', *sys.modules])))\n"
        "from kfws.__main__ import main\n"
        "main()"
    )
    asked = {} if line is None else tab(line)
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        env=environment(**asked),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return set(done.stderr.split("|"))


def test_a_stream_of_lines_imports_nothing_that_it_does_not_need() -> None:
    with beside(lambda: serve(SimOptions())) as venue:
        loaded = loaded_by(["subscribe", "ticker", "PF_XBTUSD", "--url", venue.url, "-n", "1"])
    assert {"kfws.sources.connection", "kfws.sinks.ndjson"} <= loaded
    assert loaded & UNNEEDED == set()


UNNEEDED = (HEAVY - {"asyncio", "orjson", "ssl", "uvloop", "websockets"}) | {
    "gzip",
    "kfws.cli.booklines",
    "kfws.cli.secrets",
    "kfws.cli.tab",
    "kfws.cli.where",
    "kfws.products_cache",
    "kfws.protocol.book",
    "kfws.rest",
    "kfws.sim.server",
    "kfws.sinks.paint",
    "kfws.sinks.shelf",
    "kfws.tapes.files",
    "kfws.tapes.names",
    "platformdirs",
}
"""Of outputs, venues and commands that are not this one's."""


def test_what_is_imported_is_not_looked_through_for_garbage() -> None:
    code = (
        "import gc, sys\n"
        "looked = []\n"
        "from kfws.__main__ import main\n"
        "gc.callbacks.append(lambda phase, info: looked.append(info['generation']))\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    sys.stderr.write(f'{looked} {gc.get_freeze_count() > 10_000}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "feeds"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.stderr == "[] True"


def test_a_file_of_settings_of_one_command_imports_no_other(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    for text, others in (
        ("format = 'csv'\n[feeds]\nformat = 'json'\n[profiles.x]\nformat = 'raw'\n", False),
        ("stamp = true\n", True),
    ):
        path.write_text(text)
        loaded = loaded_by(["feeds", "--config", str(path)])
        assert (f"{ROOM}book" in loaded) is others


def tab(line: str) -> dict[str, str]:
    words = line.count(" ")
    return {"_KFWS_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(words)}


def test_a_command_that_was_misspelled_is_named() -> None:
    done = run("subscibe", "ticker")
    assert done.status == 2
    assert "no such command 'subscibe'; similar: subscribe;" in done.err
