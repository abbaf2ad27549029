"""The closed choices of the command line. Light: every press of TAB imports this."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Color", "Format", "LogFormat", "LoopName", "OnDiskFull", "OnFull", "VenueName"]


class Format(StrEnum):
    """How lines look on stdout, or in a file by its name."""

    auto = "auto"
    table = "table"
    ndjson = "ndjson"
    json = "json"
    csv = "csv"
    raw = "raw"


class Color(StrEnum):
    """Whether what people see is coloured."""

    auto = "auto"
    always = "always"
    never = "never"


class VenueName(StrEnum):
    """The venues that have a name."""

    live = "live"
    demo = "demo"
    sim = "sim"


class LogFormat(StrEnum):
    """How lines look on stderr."""

    text = "text"
    json = "json"


class LoopName(StrEnum):
    """What the event loop is made of."""

    auto = "auto"
    asyncio = "asyncio"
    uvloop = "uvloop"


class OnFull(StrEnum):
    """What happens when a reader is so slow that the buffer is full."""

    block = "block"
    drop_oldest = "drop-oldest"
    exit = "exit"


class OnDiskFull(StrEnum):
    """What happens when there is no room for a file to grow."""

    exit = "exit"
    wait = "wait"
