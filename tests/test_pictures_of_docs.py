"""The pictures of README and guide are there, and they are drawn from what the program shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kfws.sinks.paint import cells, unpainted
from tests.pictures import PICTURES, drawn

ROOT = Path(__file__).parent.parent


def test_the_pages_show_every_picture_and_no_other() -> None:
    pages = [ROOT / "README.md", ROOT / "docs" / "guide.md"]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    assert set(re.findall(r"\((?:docs/)?(\w+)\.svg\)", text)) == set(PICTURES)
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
