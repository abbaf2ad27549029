"""Short lists as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from kfws.cli.choices import Format

__all__ = ["Column", "Row", "as_csv", "as_json", "as_rows", "as_table"]

LEAST = 16
"""Characters that are left of a text that is cut."""

GAP = 2
"""Spaces between columns."""

Row = Mapping[str, object]


class Column(NamedTuple):
    """A column of a table, and what becomes of it where there is no room for all."""

    title: str
    right: bool = False
    """Whether it stands at the right."""
    cut: Literal["", "end", "start"] = ""
    """Where its texts may be cut."""
    spare: int = 0
    """Above 0 it may be left out: the highest goes first, of equals the last."""


def as_table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], *, width: int | None = None
) -> str:
    """Aligned columns under their titles, no line wider than a terminal of that width.

    First texts are cut, then columns are left out, then lines are cut."""
    shown = [*zip(columns, zip([each.title for each in columns], *rows, strict=True), strict=True)]
    widths = [max(map(len, cells)) for _, cells in shown]
    if width is not None:
        while _excess(widths, width) > sum(_slack(shown, widths)):
            spare, at = max((column.spare, at) for at, (column, _) in enumerate(shown))
            if not spare:
                break
            del shown[at], widths[at]
        for at, slack in enumerate(_slack(shown, widths)):
            widths[at] -= min(slack, max(0, _excess(widths, width)))
    sized = zip(shown, widths, strict=True)
    lines = zip(*(_cells(column, texts, size) for (column, texts), size in sized), strict=True)
    return "".join(_cut((" " * GAP).join(line).rstrip(), width) + "\n" for line in lines)


def _excess(widths: Sequence[int], width: int) -> int:
    return sum(widths) + GAP * (len(widths) - 1) - width


def _slack(shown: Sequence[tuple[Column, Sequence[str]]], widths: Sequence[int]) -> list[int]:
    """How much narrower each column may be."""
    pairs = zip(shown, widths, strict=True)
    return [max(0, size - LEAST) if column.cut else 0 for (column, _), size in pairs]


def _cells(column: Column, cells: Sequence[str], size: int) -> Iterator[str]:
    for cell in cells:
        cell = _cut(cell, size, column.cut)
        yield cell.rjust(size) if column.right else cell.ljust(size)


def _cut(text: str, size: int | None, cut: str = "end") -> str:
    if size is None or len(text) <= size:
        return text
    return "…" + text[len(text) + 1 - size :] if cut == "start" else text[: size - 1] + "…"


def as_csv(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A header and a line per row (RFC 4180, but for the line ends)."""
    import csv
    import io

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([titles, *rows])
    return text.getvalue()


def as_json(row: Row, format: Format, *, is_ascii: bool = False) -> str:
    """An object: indented for ``json``, else on one line. ``is_ascii``: other characters as
    escapes."""
    import json

    is_indented = format is Format.json
    indent, separators = (2, None) if is_indented else (None, (",", ":"))
    text = json.dumps(row, indent=indent, separators=separators, ensure_ascii=is_ascii)
    return f"{text}\n"


def as_rows(
    rows: Sequence[Row],
    format: Format,
    table: Callable[[Sequence[Row]], str],
    *,
    is_terminal: bool,
    is_ascii: bool = False,
) -> str:
    """A short list as ``-f`` has it; ``is_ascii`` as in ``as_json``."""
    if format is Format.auto:
        format = Format.table if is_terminal else Format.ndjson
    if format is Format.table:
        return table(rows)
    if format is Format.csv:
        return as_csv(list(rows[0]), [list(row.values()) for row in rows])
    return "".join([as_json(row, format, is_ascii=is_ascii) for row in rows])
