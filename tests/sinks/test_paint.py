from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from kfws.sinks.paint import Paint, cells, fit, unpainted


@given(st.text(alphabet="ab日▲é", max_size=12), st.integers(0, 12), st.booleans())
def test_a_text_takes_exactly_the_width_that_it_is_fitted_to(
    text: str, width: int, right: bool
) -> None:
    shown = fit(text, width, right=right)
    assert cell_len(shown) == cells(shown) == width
    if cell_len(text) <= width:
        assert shown.strip() == text.strip()
    elif width:
        assert shown.endswith("…")


@pytest.mark.parametrize("color", [True, False])
def test_a_style_goes_around_a_text_where_colours_are_wanted(color: bool) -> None:
    painted = Paint(color)("bold green", "up")
    assert painted == ("\x1b[1;32mup\x1b[0m" if color else "up")
    assert unpainted(painted) == "up"


def test_no_style_is_no_escape() -> None:
    assert Paint(True)("", "x") == "x"
