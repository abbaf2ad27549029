"""What people look at, kept in ``tests/golden``: ``make golden`` rewrites, the diff is reviewed."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["assert_golden"]

GOLDEN = Path(__file__).parent / "golden"


def assert_golden(name: str, text: str) -> None:
    """Compares with a file, escape characters shown as ``␛``; rewrites it if KFWS_GOLDEN is set."""
    path = GOLDEN / name
    shown = text.replace("\x1b", "␛") + "\n"
    if os.environ.get("KFWS_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(shown, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == shown
