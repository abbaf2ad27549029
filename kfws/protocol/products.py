"""Product ids: their grammar, globs over them, near misses.

Ids are mixed case on the venue (``PF_AAPLxUSD``): compared without regard to case,
always sent and printed as they are spelled (protocol page, sections 7 and 10).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

__all__ = ["is_glob", "is_well_formed", "match", "nearest", "spelling"]

# <TYPE>_<BASE><QUOTE>[_YYMMDD][_STRIKE_C|P], and lower-case index ids such as in_xbtusd.
_PRODUCT = re.compile(r"[A-Za-z]{2}_[A-Za-z0-9]{2,30}(_\d{6})?(_\d+(\.\d+)?_[CP])?", re.ASCII)

# A glob is made of what ids are made of, and of fnmatch's marks.
_GLOB = r"(?a:[\w.*?\[\]!-]{1,60})"


def is_well_formed(product_id: str) -> bool:
    """Whether the text has the shape of a product id; says nothing of its existence."""
    return _PRODUCT.fullmatch(product_id) is not None


def is_glob(typed: str) -> bool:
    """Whether the text is a pattern over product ids (``PF_*``)."""
    return any(mark in typed for mark in "*?[") and re.fullmatch(_GLOB, typed) is not None


def match(pattern: str, product_ids: Iterable[str]) -> list[str]:
    """The ids that a glob matches, in the order given, case aside."""
    wanted = pattern.lower()
    return [name for name in product_ids if fnmatch.fnmatchcase(name.lower(), wanted)]


def spelling(typed: str, product_ids: Iterable[str]) -> str:
    """The venue's spelling of an id where the list knows one, else the id as typed."""
    known = {name.lower(): name for name in product_ids}
    return known.get(typed.lower(), typed)


def nearest(typed: str, product_ids: Iterable[str]) -> list[str]:
    """Ids that look like what was typed, the nearest first."""
    import difflib  # TAB does without

    upper = {name.upper(): name for name in product_ids}
    found = difflib.get_close_matches(typed.upper(), upper, n=3, cutoff=0.75)
    return [upper[name] for name in found]
