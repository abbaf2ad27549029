"""docs/man, made of what ``--help`` is made of: ``make man`` writes it, a test compares it.

A page for the program and one for each command, in the macros of man(7).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kfws import __version__
from kfws.cli.exits import ExitStatus
from tests.commands import Entry, Said, commands, default, every, told

__all__ = ["FOLDER", "pages"]

FOLDER = Path(__file__).parent.parent / "docs" / "man"

VALUES = {
    "TIME": "A length: 250ms, 30s, 5m, 1h, 2d, 1h30m; a bare number is seconds. A moment where the "
    "option says so.",
    "SIZE": "Bytes: 64MB, 1GB (powers of 1000), 1GiB (of 1024).",
    "EXPR": "KEY OP VALUE, joined with and, or, not and ( ). A key is a dotted path into a "
    "message; OP is one of == != < <= > >=; a value is a number, a text (bare or in quotes), true, "
    "false or null. What lacks the key does not match.",
    "PRODUCT": "The venue's id as it is spelled there (PF_XBTUSD), a glob in quotes ('PF_*'), or "
    "@FILE with one on each line.",
    "TAPE": "A recording that -o wrote: a file, a folder with such files, or a glob.",
}
VARIABLES = {
    "KFWS_API_KEY, KFWS_API_SECRET": "The API key for private feeds and for REST.",
    "KRAKEN_FUTURES_API_KEY, KRAKEN_FUTURES_API_SECRET": "The same, where those are not set.",
    "KFWS_CONFIG": "The file of settings; --config is stronger.",
    "KFWS_OPTION": "The value of --option for each command that has it: KFWS_ENV=demo, "
    "KFWS_ON_FULL=exit, KFWS_STAMP=1. What is typed is stronger.",
    "KFWS_NATS_TOKEN": "The token for a NATS server.",
    "https_proxy, wss_proxy, all_proxy, no_proxy": "The proxy, unless --proxy names one.",
    "NO_COLOR": "No colours on a terminal, unless --color=always.",
    "TERM, COLUMNS, LINES": "What the terminal can draw and how large it is, where it does not say "
    "so itself.",
}
FILES = {
    "~/.config/kfws/config.toml": "Settings: one for each option, tables for commands, profiles.",
    "~/.config/kfws/credentials/NAME.json": "A key that `kfws auth login` keeps, for its owner "
    "alone; where the system has a keyring, the word that it is there.",
    "~/.cache/kfws/products-VENUE.json": "The list of products, kept for a day.",
    "~/.local/state/kfws/spool/": "Messages that wait for a NATS server that is away.",
}
ELSEWHERE = (
    "These are the places on Linux; the variables XDG_CONFIG_HOME, XDG_CACHE_HOME and "
    "XDG_STATE_HOME move them. On macOS they are in ~/Library, on Windows in %LOCALAPPDATA%."
)

_SIGNS = {
    "\\": "\\(rs",
    "-": "\\-",
    "'": "\\(aq",
    '"': "\\(dq",
    "`": "\\(ga",
    "^": "\\(ha",
    "~": "\\(ti",
    "…": "...",
}


def pages() -> dict[str, str]:
    """The text of each page by the name of its file."""
    root = commands()
    return {f"{_name(each)}.1": "\n".join(_lines(each, root)) + "\n" for each in every(root)}


def _name(entry: Entry) -> str:
    return entry.path.replace(" ", "-")


# ── the parts of a page ──


def _lines(entry: Entry, root: Entry) -> Iterator[str]:
    yield ".\\\" Made of the program's own help by `make man`; a test compares it."
    title = _plain(_name(entry).upper())
    yield f'.TH {title} 1 "" "kfws {_plain(__version__)}" "kfws"'
    yield from (".SH NAME", f"{_plain(_name(entry))} \\- {_text(entry.summary.rstrip('.'))}")
    yield from (".SH SYNOPSIS", *_synopsis(entry))
    if entry.description:
        yield from (".SH DESCRIPTION", *_said(entry.description))
    if entry.commands:
        yield from (".SH COMMANDS", *_commands(entry))
    if entry.arguments:
        yield from (".SH ARGUMENTS", *_arguments(entry))
    yield from (".SH OPTIONS", *_options(entry))
    if entry is root:
        yield from _of_the_program(root)
    elif entry.below_examples:
        yield from (".SH EXAMPLES", *_said(entry.below_examples))
    yield from (".SH SEE ALSO", _see_also(entry, root))


def _synopsis(entry: Entry) -> Iterator[str]:
    words = [_bold(entry.path)]
    if entry.commands:
        words += [_italic("COMMAND"), "[" + _italic("ARGUMENT") + " ...]"]
    else:
        words += ["[" + _italic("OPTION") + " ...]"]
    for each in entry.arguments:
        words.append(_italic(entry.metavar(each)))
    yield " ".join(words)


def _commands(entry: Entry) -> Iterator[str]:
    for each in entry.commands:
        yield from _item(f"{_bold(_name(each))}(1)", each.summary)


def _arguments(entry: Entry) -> Iterator[str]:
    for each in entry.arguments:
        more = f" (default: {each.default})" if each.default else ""
        yield from _item(_italic(entry.metavar(each).strip("[]")), f"{told(each)}{more}")


def _options(entry: Entry) -> Iterator[str]:
    """In groups, as ``--help`` has them; those without a group last."""
    groups: dict[str, list[Any]] = {}
    for each in entry.options:
        groups.setdefault(each.rich_help_panel or "", []).append(each)
    for group in sorted(groups, key=lambda each: not each):
        if len(groups) > 1:
            yield f".SS {_plain(group or 'Others')}"
        for each in groups[group]:
            yield from _option(entry, each)


def _option(entry: Entry, option: Any) -> Iterator[str]:
    spelled = sorted(option.opts, key=len) + list(option.secondary_opts)
    names = ", ".join(_bold(each) for each in spelled)
    metavar = entry.metavar(option)
    known = default(option)
    text = f"{told(option)}{_range(option)}" + (f" (default: {known})" if known else "")
    yield from _item(f"{names} {_italic(metavar)}" if metavar else names, text)


def _range(option: Any) -> str:
    least, most = getattr(option.type, "min", None), getattr(option.type, "max", None)
    return "" if None in (least, most) else f" From {least} to {most}."


def _of_the_program(root: Entry) -> Iterator[str]:
    yield ".SH VALUES"
    for metavar, text in VALUES.items():
        yield from _item(_italic(metavar), text)
    yield ".SH EXAMPLES"
    for each in root.commands:
        if each.examples:
            yield from _said([Said((each.summary,)), Said((each.examples[0],), verbatim=True)])
    yield ".SH EXIT STATUS"
    for status in ExitStatus:
        yield from _item(_bold(str(status.value)), f"{status.meaning}.")
    yield ".SH ENVIRONMENT"
    for names, text in VARIABLES.items():
        yield from _item(_bold(names), text)
    yield ".SH FILES"
    for path, text in FILES.items():
        yield from _item(_italic(path), text)
    yield from _said([Said((ELSEWHERE,))])


def _see_also(entry: Entry, root: Entry) -> str:
    """The program's page, those beside this one, those that its text names."""
    if entry is root:
        near = [*root.commands]
    else:
        text = told(entry.command)
        above = [each for each in every(root) if entry in each.commands]
        siblings = [each for each in above[0].commands if above[0] is not root]
        named = [each for each in every(root) if re.search(rf"{each.path}(?! [a-z])", text)]
        near = [root, *entry.commands, *above, *siblings, *named]
    names = dict.fromkeys(_name(each) for each in near if each is not entry)
    return ", ".join(f"{_bold(each)}(1)" for each in names)


# ── roff ──


def _item(head: str, text: str) -> Iterator[str]:
    yield from (".TP", head, _text(text[:1].upper() + text[1:]))


def _said(said: list[Said]) -> Iterator[str]:
    for each in said:
        if each.verbatim:
            yield from (".PP", ".RS 4", ".nf", *map(_line, each.lines), ".fi", ".RE")
        else:
            yield from (".PP", _text(each.text))


def _text(text: str) -> str:
    """What stands in backticks is bold."""
    parts = re.split(r"`([^`]+)`", text)
    return _guarded("".join(_bold(x) if at % 2 else _plain(x) for at, x in enumerate(parts)))


def _line(text: str) -> str:
    return _guarded(_plain(text))


def _bold(text: str) -> str:
    return f"\\fB{_plain(text)}\\fR"


def _italic(text: str) -> str:
    return f"\\fI{_plain(text)}\\fR"


def _plain(text: str) -> str:
    """Each character as itself, on every device and in every encoding."""
    signs = (_SIGNS.get(each, each) for each in text)
    return "".join(each if each.isascii() else f"\\[u{ord(each):04X}]" for each in signs)


def _guarded(line: str) -> str:
    """A line that is no request of roff's."""
    return f"\\&{line}" if line.startswith((".", "'")) else line


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    made = pages()
    for old in FOLDER.glob("*.1"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"{len(made)} pages in {FOLDER.relative_to(FOLDER.parent.parent)}", file=sys.stderr)
