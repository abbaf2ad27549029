"""What a test needs of the machine and may not find there.

Skipped with a visible reason where a person works, a failure where ``CI=true``: a check
that silently stopped running is worse than a red one.
"""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

__all__ = ["lacking", "need"]


def need(program: str) -> str:
    """The path of a program; the test goes no further where there is none."""
    return shutil.which(program) or lacking(f"{program} is not installed")


def lacking(what: str) -> NoReturn:
    """Ends the test here, because of what this machine lacks."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}, and CI=true: nothing is skipped", pytrace=False)
    pytest.skip(what)
