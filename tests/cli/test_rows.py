from __future__ import annotations

from kfws.cli.rows import as_csv, as_table


def test_columns_are_as_wide_as_what_stands_in_them() -> None:
    rows = [("PF_A", "0.5", ""), ("FF_ABC", "1", "x")]
    assert as_table(("ID", "TICK", "Z"), rows, right=("TICK",)) == (
        "ID      TICK  Z\nPF_A     0.5\nFF_ABC     1  x\n"
    )


def test_a_table_without_rows_has_its_titles() -> None:
    assert as_table(("ID", "TICK"), []) == "ID  TICK\n"


def test_csv_quotes_what_holds_a_comma() -> None:
    assert as_csv(("a", "b"), [("1,2", 'say "x"'), (True, 3)]) == (
        'a,b\n"1,2","say ""x"""\nTrue,3\n'
    )
