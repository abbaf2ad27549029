"""The pictures of the README are there, and they are drawn from what the program shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kfws.sinks.paint import cells, unpainted
from tests.pictures import PICTURES, drawn

ROOT = Path(__file__).parent.parent


def test_the_readme_shows_every_picture_and_no_other() -> None:
    shown = re.findall(r"\(docs/(\w+)\.svg\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(PICTURES)
    assert {path.stem for path in (ROOT / "docs").glob("*.svg")} == set(PICTURES)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_says_what_the_program_says_now(name: str) -> None:
    picture = PICTURES[name]
    lines = [unpainted(line) for line in drawn(picture)]
    assert max(map(cells, lines)) <= picture.size.columns
    svg = (ROOT / "docs" / f"{name}.svg").read_text(encoding="utf-8")
    told = "".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg)).replace("&#160;", " ")
    for line in lines:
        assert "".join(line.split()) in "".join(told.split()), "run `make pictures`"
