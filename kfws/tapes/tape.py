"""A tape as a whole: where it lies, and what it says of itself in its first line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfws.errors import OutputError
from kfws.protocol.events import Report
from kfws.tapes.files import Reader, find
from kfws.tapes.recordings import steps

__all__ = ["Tape", "tapes_in", "texts"]


@dataclass(frozen=True, slots=True)
class Tape:
    """A tape that can be played."""

    path: Path
    header: dict[str, Any]
    first_ns: int
    """When the first thing behind the header was; of a header alone, its own moment."""
    size: int
    """In bytes, as it lies on the disk."""

    @property
    def feeds(self) -> tuple[str, ...]:
        return texts(self.header.get("feeds"))

    @property
    def products(self) -> tuple[str, ...]:
        return texts(self.header.get("products"))

    @property
    def is_filtered(self) -> bool:
        """Whether not all that came was recorded, so that numbers prove nothing."""
        return self.header.get("filter") is not None

    @property
    def is_simulated(self) -> bool:
        return self.header.get("simulated") is True


def texts(value: object) -> tuple[str, ...]:
    """Those of a list in a header, whatever stands there."""
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()


def tapes_in(names: Iterable[str]) -> list[Tape]:
    """The tapes that are named (files, folders, globs), the oldest first.

    Raises OutputError for what is not there or no tape.
    """
    return sorted(map(_tape, find(names)), key=lambda tape: tape.first_ns)


def _tape(path: Path) -> Tape:
    said = steps(Reader(path, damages=[]))
    first = next(said, None)
    header = first.event if first is not None else None
    if first is None or not isinstance(header, Report) or header.name != "header":
        raise OutputError(
            f"{path} is no tape: it does not begin with a header",
            hint="tapes are what `kfws subscribe … -o NAME.ndjson` writes",
        )
    following = next(said, None)
    # Of a file that goes on with others, connections stand behind the header that are older.
    first_ns = header.received_ns if following is None else max(first.at_ns, following.at_ns)
    return Tape(path, header.fields, first_ns, path.stat().st_size)
