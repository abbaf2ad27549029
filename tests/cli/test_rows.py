from __future__ import annotations

import pytest

from kfws.cli.rows import Column, as_csv, as_table

COLUMNS = [
    Column("ID"),
    Column("TICK", right=True),
    Column("PLACE", cut="start"),
    Column("WHAT", cut="end", spare=1),
    Column("Z", spare=1),
]
ROWS = [("PF_A", "0.5", "/a/long/way/home/and/on", "a rather long story", "zzzz")]


def test_columns_are_as_wide_as_what_stands_in_them() -> None:
    rows = [("PF_A", "0.5", ""), ("FF_ABC", "1", "x")]
    columns = [Column("ID"), Column("TICK", right=True), Column("Z")]
    assert as_table(columns, rows) == "ID      TICK  Z\nPF_A     0.5\nFF_ABC     1  x\n"


def test_a_table_without_rows_has_its_titles() -> None:
    assert as_table([Column("ID"), Column("TICK")], [], width=80) == "ID  TICK\n"


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (62, "PF_A   0.5  /a/long/way/home/and/on  a rather long story  zzzz"),
        (61, "PF_A   0.5  …/long/way/home/and/on  a rather long story  zzzz"),
        (52, "PF_A   0.5  …way/home/and/on  a rather long s…  zzzz"),
        (51, "PF_A   0.5  …g/way/home/and/on  a rather long story"),
        (35, "PF_A   0.5  /a/long/way/home/and/on"),
        (28, "PF_A   0.5  …way/home/and/on"),
        (9, "PF_A   0…"),
    ],
)
def test_where_there_is_no_room_texts_are_cut_then_columns_left_out_then_lines_cut(
    width: int, line: str
) -> None:
    assert as_table(COLUMNS, ROWS, width=width).splitlines()[1] == line


def test_csv_quotes_what_holds_a_comma() -> None:
    assert as_csv(("a", "b"), [("1,2", 'say "x"'), (True, 3)]) == (
        'a,b\n"1,2","say ""x"""\nTrue,3\n'
    )
