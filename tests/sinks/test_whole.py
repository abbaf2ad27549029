from __future__ import annotations

from pathlib import Path

import pytest

from kfws.errors import DiskFull, OutputError, UsageError
from kfws.sinks.whole import appearing


def test_a_file_has_its_name_when_it_is_complete_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with appearing(path) as partial:
        partial.write_text("1\n")
        assert not path.exists()
    assert path.read_text() == "1\n"
    assert [each.name for each in tmp_path.iterdir()] == ["a.csv"]


def test_where_an_error_came_nothing_is_left_and_what_was_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old\n")

    def fail() -> None:
        with appearing(path, overwrite=True) as partial:
            partial.write_text("half")
            raise UsageError("no")

    with pytest.raises(UsageError):
        fail()
    assert [each.name for each in tmp_path.iterdir()] == ["a.csv"]
    assert path.read_text() == "old\n"


def test_what_fails_is_called_by_the_name_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with pytest.raises(DiskFull) as found, appearing(path) as partial:
        raise DiskFull(f"disk full: {partial}", hint="make room")
    assert (found.value.message, found.value.hint) == (f"disk full: {path}", "make room")
    with pytest.raises(OutputError, match=r"cannot write .*/a: not a directory"):  # noqa: SIM117
        with appearing(Path(__file__) / "a"):
            pass


def test_what_is_there_is_not_replaced_unless_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old\n")
    with pytest.raises(OutputError, match="not empty"), appearing(path):
        pass
    with pytest.raises(OutputError, match="there is no folder"), appearing(tmp_path / "b" / "a"):
        pass
    assert path.read_text() == "old\n"
