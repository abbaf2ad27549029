"""The reference says what the docstrings say, and every public method has one."""

from __future__ import annotations

import pytest

import kfws
from tests.api_reference import PAGE, ROOMS, page


def test_the_reference_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "make docs writes it anew"


@pytest.mark.parametrize("name", sorted(set(kfws.__all__) - {"__version__", "KfwsError", "Event"}))
def test_every_public_name_is_described(name: str) -> None:
    assert any(name in names for names in ROOMS.values())


def test_every_public_method_says_what_it_does() -> None:
    lines = page().splitlines()
    headings = [at for at, line in enumerate(lines) if line.startswith("#### ")]
    assert len(headings) > 20
    assert [lines[at] for at in headings if not lines[at + 2].strip()] == []
