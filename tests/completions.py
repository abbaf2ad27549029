"""``make completions``: what a shell loads to complete kfws, and what the program answers it from.

The former changes with kfws/cli/shells.py alone, the latter with every option: kfws/cli/tab.tsv.
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import getclosurevars, signature
from pathlib import Path
from typing import Any

from kfws.cli import complete
from kfws.cli.shells import SCRIPTS
from kfws.cli.tab import TABLE, Row
from tests.commands import Entry, commands

__all__ = ["FOLDER", "table"]

FOLDER = Path(__file__).parent.parent / "completions"


def table() -> str:
    """What the parser knows, a line for each that may be typed."""
    return "".join("\t".join(row) + "\n" for row in _rows(commands()))


def _rows(entry: Entry) -> Iterator[Row]:
    path = entry.path.partition(" ")[2]
    for each in entry.commands:
        name = each.path.rpartition(" ")[2]
        yield Row(path, "command", name, "", _line(each.command.get_short_help_str()))
    for each in (*entry.arguments, *entry.options):
        is_argument = each.param_type_name == "argument"
        kind = "argument" if is_argument else "flag" if _takes_no_value(each) else "option"
        again = each.nargs == -1 or getattr(each, "multiple", False)
        names = each.name if is_argument else " ".join(_names(each))
        text = "" if is_argument else _line(each.help)
        yield Row(path, f"{kind}{'+' * again}", names, _values(each), text)
    for each in entry.commands:
        yield from _rows(each)


def _names(option: Any) -> list[str]:
    names = [*option.opts, *option.secondary_opts]
    return sorted(names) if option.name == "help" else names  # the parser has those in a set


def _takes_no_value(option: Any) -> bool:
    return bool(option.is_flag or option.count)


def _values(param: Any) -> str:
    """Its choices; else, behind ``@``, the function of complete.py that knows them."""
    asked = param._custom_shell_complete
    if asked is None:
        return " ".join(getattr(param.type, "choices", ()))
    knows = getclosurevars(asked).nonlocals["autocompletion"].__wrapped__
    if hasattr(complete, knows.__name__):
        return f"@{knows.__name__}"
    assert not signature(knows).parameters, f"{knows.__name__} is to stand in complete.py"
    return " ".join(knows())


def _line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for shell, script in SCRIPTS.items():
        (FOLDER / f"kfws.{shell}").write_text(script, encoding="utf-8")
    TABLE.write_text(table(), encoding="utf-8")
