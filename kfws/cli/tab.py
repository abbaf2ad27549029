"""TAB, answered without the parser, which takes 100 ms to come.

The table beside this file holds what the parser knows; `make completions` writes it. Rule of this
room: its answer is the parser's, and where the table does not say it all there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kfws.cli import complete
from kfws.cli.env import ASKED, Env

__all__ = ["LINE", "TABLE", "Offer", "Row", "answer", "line", "offered"]

LINE = "_TYPER_COMPLETE_ARGS"
TABLE = Path(__file__).with_name("tab.tsv")

Offer = tuple[str, str]
"""What a word may become, and what that is; the latter empty where it goes without saying."""


class Row(NamedTuple):
    """A line of the table: what may stand behind a command."""

    path: str
    """The command, without the program; empty for the program."""
    kind: str
    """``command``, ``flag``, ``option`` (it takes a value) or ``argument``; with a ``+`` what may
    be given again."""
    names: str
    values: str
    """What its value may be: words, or ``@`` and who knows them."""
    help: str

    @property
    def name(self) -> str:
        return self.names.split()[0].lstrip("-")


def answer(env: Env) -> str | None:
    """What goes on from what was typed, a line each; None where the parser is to be asked."""
    shell = env.environ.get(ASKED, "").removeprefix("complete_")
    words = _words(shell, env.environ)
    offers = None if words is None else offered(words, env)
    return None if offers is None else "".join(f"{line(shell, *each)}\n" for each in offers)


def line(shell: str, value: str, text: str | None) -> str:
    """An offer as a shell wants it."""
    if shell == "zsh":
        value = value.replace("\\", "\\\\").replace(":", "\\:")
    if shell == "bash" or not text:
        return value
    return f"{value}{':' if shell == 'zsh' else chr(9)}{' '.join(text.split())}"


def _words(shell: str, environ: Mapping[str, str]) -> list[str] | None:
    """What was typed behind the program's name, last the word that TAB was pressed in.

    None for quotes, for what is not ASCII, and for other shells.
    """
    typed = environ.get("COMP_WORDS" if shell == "bash" else LINE, "")
    if not typed.isascii() or not {*"'\"\\"}.isdisjoint(typed):
        return None
    words = typed.split()
    if shell == "bash":
        at = int(environ.get("COMP_CWORD") or 0)
        return [*words[1:at], *(words[at : at + 1] or [""])]
    if shell not in ("zsh", "fish"):
        return None
    return words[1:] if words[1:] and not typed.endswith(" ") else [*words[1:], ""]


def offered(words: Sequence[str], env: Env) -> list[Offer] | None:
    """What the last word may become; None where the parser is to be asked."""
    *before, begun = words
    if "--" in before or any("=" in each for each in words):
        return None
    typed = _command(before, env)
    if not typed.take(before):
        return None
    if begun.startswith("-"):
        offers: list[Offer] | None = typed.options_left()
    elif place := typed.place():
        offers = typed.values(place, begun)
    else:
        offers = [(each.names, each.help) for each in typed.rows if each.kind == "command"]
    return offers and [each for each in offers if each[0].startswith(begun)]


def _command(words: list[str], env: Env) -> _Typed:
    """The command that the first words name; they are taken away."""
    table = [Row(*each.split("\t")) for each in TABLE.read_text(encoding="utf-8").splitlines()]
    path, rows = "", [each for each in table if not each.path]
    while words and any(each.kind == "command" for each in rows):
        path = f"{path} {words.pop(0)}".strip()
        rows = [each for each in table if each.path == path]
    return _Typed(env, path.rpartition(" ")[2], rows)


class _Typed:
    """A command and what was typed behind it; to who knows values it is what was asked."""

    def __init__(self, env: Env, name: str, rows: list[Row]) -> None:
        self.obj = env
        self.info_name: str | None = name
        self.params: dict[str, Any] = {}
        self.rows = rows
        self._options = {
            name: row for row in rows for name in row.names.split() if name.startswith("-")
        }
        self._open = [row for row in rows if row.kind.startswith("argument")]
        """Arguments that may still be typed."""
        self._last: Row | None = None
        """An option behind which nothing stands, so that it may lack its value."""

    def take(self, words: list[str]) -> bool:
        """Reads words; whether there is such a command, and the table says what each of them is."""
        if words and words[-1].startswith("-"):
            self._last = self._options.get(words.pop())
            if self._last is None:
                return False
        rest = iter(words)
        return bool(self.rows) and all(self._takes(each, rest) for each in rest)

    def _takes(self, word: str, rest: Iterator[str]) -> bool:
        value: str | None = word
        if word.startswith("-"):
            row = self._options.get(word)
            if row and row.kind.startswith("option"):
                value = next(rest, None)
        else:
            row = self._open[0] if self._open else None
            if row and row.kind == "argument":
                del self._open[0]
        if row is None or value is None or (value is not word and value.startswith("-")):
            return False
        choices = () if row.values.startswith("@") else row.values.split()
        self.params[row.name] = value
        return not choices or value in choices

    def options_left(self) -> list[Offer]:
        """Options that may still be typed."""
        return [
            (name, row.help)
            for name, row in self._options.items()
            if row.kind.endswith("+") or row.name not in self.params
        ]

    def place(self) -> Row | None:
        """Whose value the word is that comes next; None where there is none to come."""
        if self._last and self._last.kind.startswith("option"):
            return self._last
        return self._open[0] if self._open else None

    def values(self, row: Row, begun: str) -> list[Offer] | None:
        """What the value of an option or an argument may be."""
        if not row.values.startswith("@"):
            found = row.values.split()
        elif row.values == "@product_ids" and self._is_set():
            return None
        else:
            found = getattr(complete, row.values[1:])(self, begun)
        return [(each, "") for each in found]

    def _is_set(self) -> bool:
        """Whether settings may name another venue."""
        env = self.obj
        names = ("config", "env", "url")
        if "config" in self.params or any(env.environ.get(f"KFWS_{x.upper()}") for x in names):
            return True
        try:
            text = (env.config / "config.toml").read_text(encoding="utf-8")
        except (OSError, ValueError):
            return False
        return "env" in text or "url" in text
