"""The commands as the parser knows them: what the man pages and the tests of help read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import typer
from typer.main import get_command

from kfws.cli.app import app
from kfws.cli.program import Program

__all__ = ["Entry", "Said", "commands", "default", "every", "leaves", "told"]

NAMED = re.compile(r"(?:^|[|&;] *)kfws\b")


@dataclass(frozen=True)
class Said:
    """A paragraph of a help text, or lines that are to stand as they are."""

    lines: tuple[str, ...]
    verbatim: bool = False

    @property
    def text(self) -> str:
        return " ".join(self.lines)


@dataclass(frozen=True)
class Entry:
    """The help of a command: the program's own, or a group's where there are ``commands``."""

    path: str
    command: Any
    context: Any
    commands: tuple[Entry, ...] = ()

    @property
    def summary(self) -> str:
        return self.said[0].text

    @property
    def said(self) -> list[Said]:
        blocks = re.split(r"\n\s*\n", told(self.command).strip())
        return [_block(each) for each in blocks]

    @property
    def description(self) -> list[Said]:
        """All before the examples, but the summary."""
        return self._parts()[0][1:]

    @property
    def below_examples(self) -> list[Said]:
        return self._parts()[1]

    def _parts(self) -> tuple[list[Said], list[Said]]:
        said = self.said
        at = next((at for at, each in enumerate(said) if each.text == "Examples:"), len(said))
        return said[:at], said[at + 1 :]

    @property
    def examples(self) -> list[str]:
        """Each command line that is shown."""
        blocks = [each for each in self.below_examples if each.verbatim]
        return [line for each in blocks for line in each.lines if NAMED.search(line)]

    @property
    def arguments(self) -> list[Any]:
        return [each for each in self.command.params if each.param_type_name == "argument"]

    @property
    def options(self) -> list[Any]:
        """Those with a help text, ``--help`` last."""
        return [
            each
            for each in self.command.get_params(self.context)
            if each.param_type_name == "option" and not each.hidden
        ]

    def metavar(self, param: Any) -> str:
        """What stands for a value; empty for a flag."""
        if getattr(param, "is_flag", False):
            return ""
        return str(param.make_metavar(self.context)).strip("<>")


def told(what: Any) -> str:
    """A help text; what the markup needs to let a bracket stand is taken out."""
    return (what.help or "").replace("\\[", "[")


def _block(text: str) -> Said:
    lines = text.split("\n")
    verbatim = all(line.startswith("    ") for line in lines)
    return Said(tuple(line.strip() for line in lines), verbatim)


def default(option: Any) -> str:
    """What holds where an option is not typed; empty where its help text says so, if any does."""
    value = option.default
    if option.is_flag:
        positive = next(each for each in option.opts if each.startswith("--"))
        return positive if value and option.secondary_opts else ""
    if value is None or not option.show_default:
        return ""
    return str(value.value if isinstance(value, Enum) else value)


def commands() -> Entry:
    """The whole tree."""
    root = get_command(app)
    return _entry(root, typer.Context(root, info_name="kfws", **root.context_settings), "kfws")


def _entry(command: Any, context: Any, path: str) -> Entry:
    return Entry(path, command, context, tuple(_below(command, context, path)))


def _below(command: Any, context: Any, path: str) -> Iterator[Entry]:
    if isinstance(command, Program):
        command.load_all()
    for name, found in getattr(command, "commands", {}).items():
        inner = typer.Context(found, info_name=name, parent=context)
        yield _entry(found, inner, f"{path} {name}")


def leaves(entry: Entry) -> Iterator[Entry]:
    """The commands that do something."""
    if not entry.commands:
        yield entry
    for each in entry.commands:
        yield from leaves(each)


def every(entry: Entry) -> Iterator[Entry]:
    """The commands, groups of them and the program too."""
    yield entry
    for each in entry.commands:
        yield from every(each)
