"""The venue's number tokens as a person reads them: separators, and one precision per column.

Rule of this room: pure decimal arithmetic; a text that is no number is left as it is.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

__all__ = ["decimals", "figure", "grouped", "percent"]

# Written out, a number further from 1 than this fills the screen with zeros.
_LONGEST = 24
# Most tokens are so, and up to 15 digits a float holds them exactly: three times as quick.
_PLAIN = re.compile(r"-?\d{1,9}(?:\.(\d{1,6}))?", re.ASCII).fullmatch


def figure(text: str) -> Decimal | None:
    """The number, if it is one that can be written out."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    if not number.is_finite() or abs(number.adjusted()) > _LONGEST:
        return None
    return number


def decimals(text: str) -> int:
    """How many digits behind the point say something: 2 of ``8.250``, 9 of ``1e-09``."""
    if plain := _PLAIN(text):
        return len((plain[1] or "").rstrip("0"))
    number = figure(text)
    if number is None or not number:
        return 0
    exponent = number.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def grouped(text: str, places: int | None = None) -> str:
    """With separators, and written out where it was in E-notation.

    ``places``: exactly so many digits behind the point; None: those that it has.
    """
    if places is not None and _PLAIN(text):
        return f"{float(text):,.{places}f}"
    number = figure(text)
    if number is None:
        return text
    return f"{number:,f}" if places is None else f"{number:,.{places}f}"


def percent(text: str, places: int, *, factor: int = 1) -> str:
    """With sign and ``%``; ``factor`` is 100 for a fraction."""
    number = figure(text)
    if number is None:
        return text
    rounded = round(number * factor, places)
    return f"{rounded:+,.{places}f}%" if rounded else f"{0:.{places}f}%"
