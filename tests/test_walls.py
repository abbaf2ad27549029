"""The walls of the house: who may import whom, and who may look outside."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = sorted((ROOT / "kfws").rglob("*.py"))
DOOR = ROOT / "kfws" / "cli" / "env.py"
HEAVY = {
    "aiohttp",
    "asyncio",
    "backports.zstd",
    "keyring",
    "nats",
    "orjson",
    "pyarrow",
    "pydantic",
    "rich",
    "ssl",
    "uvloop",
    "websockets",
}
OUTSIDE = {
    "os": {"environ", "environb", "getenv", "getenvb", "putenv"},
    "sys": {"stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__"},
}


def test_every_import_stays_within_its_walls() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


# Every TAB press is a process start, so the command line loads only what it needs to parse.
@pytest.mark.parametrize(
    ("room", "barred"),
    [
        ("kfws", HEAVY | {"typer", "msgspec", "kfws.protocol"}),
        ("kfws.__main__", HEAVY | {"typer", "msgspec", "kfws.protocol"}),
        ("kfws.cli.app", HEAVY),
    ],
)
def test_importing_a_light_room_pulls_in_nothing_heavy(room: str, barred: set[str]) -> None:
    assert loaded_by(room) & barred == set()


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_environment_looks_outside_and_nobody_prints(path: Path) -> None:
    tree = ast.parse(path.read_text())
    looks = set(outside_looks(tree))
    assert path == DOOR or not looks, f"{sorted(looks)}: ask kfws/cli/env.py instead"
    prints = [node.lineno for node in ast.walk(tree) if is_talk(node)]
    assert not prints, f"lines {prints}: stdout is data, and env.py writes it"


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.environ['HOME']",
        "import os as o; o.getenv('HOME')",
        "from os import environ",
        "from sys import stdout as out",
        "import sys; sys.stderr.write('')",
    ],
)
def test_a_look_outside_is_seen_however_it_is_spelled(code: str) -> None:
    assert list(outside_looks(ast.parse(code)))


@pytest.mark.parametrize("code", ["import sys; sys.exit(1)", "env.stdout.write('')", "import os"])
def test_what_only_resembles_a_look_outside_is_let_be(code: str) -> None:
    assert not list(outside_looks(ast.parse(code)))


def loaded_by(room: str) -> set[str]:
    """The names in ``sys.modules`` after a fresh interpreter imported the room."""
    code = f"import sys, {room}; sys.stdout.write(chr(10).join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def outside_looks(tree: ast.Module) -> Iterator[str]:
    """Each use of the environment or a standard stream, as ``os.environ``."""
    names = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attr):
                found = [(names.get(name, ""), attr)]
            case ast.ImportFrom(module=str(module)):
                found = [(module, alias.name) for alias in node.names]
            case _:
                continue
        yield from (f"{module}.{name}" for module, name in found if name in OUTSIDE.get(module, ()))


def is_talk(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and node.id in {"print", "input"}


def mutable_state(tree: ast.Module) -> list[str]:
    """Names of the module that stand for something that can change: lists, dicts, sets."""
    makers = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    found = []
    for statement in tree.body:
        if not isinstance(statement, (ast.Assign, ast.AnnAssign)) or statement.value is None:
            continue
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = [each.id for each in targets if isinstance(each, ast.Name)]
        if isinstance(statement.value, makers):
            found += [name for name in names if name != "__all__" and not _is_constant(name)]
    return found


def _is_constant(name: str) -> bool:
    return name.lstrip("_").isupper()


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_keeps_state_but_constants_and_the_app(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert mutable_state(tree) == []
    written = {
        node.value.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and isinstance(node.ctx, (ast.Store, ast.Del))
        and isinstance(node.value, ast.Name)
        and _is_constant(node.value.id)
    }
    assert written == set()
    assert "typer._click" not in path.read_text(encoding="utf-8")


def test_state_of_a_module_is_seen() -> None:
    assert mutable_state(ast.parse("seen = []\nLIMITS = {1: 2}\n__all__ = []")) == ["seen"]
