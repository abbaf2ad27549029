"""docs/man says what ``--help`` says, and man can show it."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest

from kfws.cli.exits import ExitStatus
from tests.cli.program import PATIENCE_S
from tests.commands import Entry, commands, leaves, told
from tests.man_pages import FOLDER, VALUES, VARIABLES, pages
from tests.needs import need

PAGES = pages()
LEAVES = [*leaves(commands())]
ROOT = Path(__file__).parent.parent


def test_the_pages_are_up_to_date() -> None:
    kept = {each.name: each.read_text(encoding="utf-8") for each in FOLDER.iterdir()}
    assert kept == PAGES, "`make man` writes them anew"


def test_every_command_has_a_page() -> None:
    names = {each.path.replace(" ", "-") + ".1" for each in LEAVES}
    assert names | {"kfws.1", "kfws-auth.1", "kfws-config.1"} == set(PAGES)


@pytest.mark.parametrize("device", ["ascii", "utf8"])
def test_groff_has_nothing_to_say_about_them(device: str) -> None:
    files = [str(FOLDER / name) for name in PAGES]
    done = subprocess.run(
        [need("groff"), "-man", "-ww", "-z", f"-T{device}", *files],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def shown(name: str) -> str:
    """A page as man shows it on a wide terminal, without bold and the like."""
    done = subprocess.run(
        [need("man"), "-l", str(FOLDER / name)],
        env={**os.environ, "MANWIDTH": "1000", "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": ""},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return re.sub(r".\x08|\x1b\[[0-9;]*m", "", done.stdout)


def plain(text: str) -> str:
    return " ".join(text.replace("`", "").replace("…", "...").split())


@pytest.mark.parametrize("entry", LEAVES, ids=lambda each: each.path)
def test_man_shows_all_options_and_all_examples_as_they_are_typed(entry: Entry) -> None:
    text = shown(entry.path.replace(" ", "-") + ".1")
    for option in entry.options:
        for each in (*option.opts, *option.secondary_opts):
            assert re.search(rf"(^|[ ,]){re.escape(each)}([ ,\n]|$)", text), each
        assert plain(told(option))[1:] in plain(text)
    for example in entry.examples:
        assert f" {example}\n" in text
    assert plain(entry.summary.rstrip(".")) in plain(text)


def test_the_page_of_the_program_has_every_exit_status() -> None:
    text = plain(shown("kfws.1"))
    for status in ExitStatus:
        assert f" {status.value} {status.meaning[:1].upper()}{status.meaning[1:]}. " in text


def test_the_page_of_the_program_names_every_variable_that_is_read() -> None:
    known = {name for names in VARIABLES for name in names.split(", ")}
    trees = [ast.parse(each.read_text(encoding="utf-8")) for each in (ROOT / "kfws").rglob("*.py")]
    read = {
        str(node.value)
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and re.fullmatch(r"(KFWS|KRAKEN)_[A-Z_]*[A-Z]|NO_COLOR|COLUMNS|LINES|TERM", str(node.value))
    }
    assert len(read) > 5
    assert read <= known


def test_the_values_are_those_of_the_options() -> None:
    metavars = {each.metavar(option) for each in LEAVES for option in each.options}
    metavars |= {each.metavar(argument) for each in LEAVES for argument in each.arguments}
    words = {word for each in metavars for word in re.findall(r"[A-Z]+", each)}
    assert set(VALUES) <= words
