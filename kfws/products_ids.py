"""Ids of the kept products list, a line each, in a file beside it.

For TAB: to decode the list takes longer than all else that a press does.
"""

from __future__ import annotations

from pathlib import Path

from kfws.protocol.products import is_well_formed

__all__ = ["beside", "kept_at", "kept_ids"]


def kept_at(folder: Path, venue: str) -> Path:
    """Where the list of a venue is kept."""
    return folder / f"products-{venue}.json"


def beside(path: Path) -> Path:
    """Where the ids of the list in a file stand."""
    return path.with_suffix(".ids")


def kept_ids(path: Path) -> list[str] | None:
    """Ids of what can be subscribed to of the list in a file; None where only the list knows.

    So it is where no ids were written, where they are older than the list, or damaged.
    """
    try:
        if beside(path).stat().st_mtime_ns < path.stat().st_mtime_ns:
            return None
        ids = beside(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    return ids if all(map(is_well_formed, ids)) else None
