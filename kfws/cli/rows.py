"""Short lists as text."""

from __future__ import annotations

from collections.abc import Collection, Sequence

__all__ = ["as_csv", "as_table"]


def as_table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = ()
) -> str:
    """Aligned columns under their titles; those in ``right`` stand at the right."""
    table = [titles, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if title in right else cell.ljust(width)
            for cell, width, title in zip(row, widths, titles, strict=True)
        ).rstrip()
        for row in table
    ]
    return "\n".join([*lines, ""])


def as_csv(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A header and a line per row (RFC 4180, but for the line ends)."""
    import csv
    import io

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([titles, *rows])
    return text.getvalue()
