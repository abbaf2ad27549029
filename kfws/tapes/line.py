"""One recorded line ↔ one Frame.

A line is the payload with ``{"received_ns":…,`` spliced in front of its own first key, or one
of the stream's own events. Nothing is decoded or built again on the way, so the payload comes
back byte for byte, but for line breaks between its tokens, which are spaces on a tape.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

from kfws.protocol.events import Data

__all__ = [
    "AHEAD_NS",
    "HEADER",
    "MESSAGES_HERE",
    "OWN",
    "Frame",
    "has_breaks",
    "is_begun",
    "moment_of",
    "one_line",
    "read",
    "stamp",
    "stamped",
    "write",
]

HEADER = b'{"kfws":"header"'
"""How every tape begins."""

AHEAD_NS = 15_000_000_000
"""A header so far ahead of the message behind it was written by a wrong clock: what is held back
a moment, and stands behind what came after it, is younger."""

MESSAGES_HERE = "messages_here"
"""In the last line of a run in a file: how many messages stand between its header and there."""

OWN = b'{"kfws":'
"""How the stream's own events begin."""

# 19 digits reach to the year 2286; more is no moment in nanoseconds.
_STAMP = re.compile(rb'([ \t]*)\{"received_ns":(\d{1,19})(,?)')
_MOMENT = rb'[ \t]*\{(?:"kfws":"[^"]*","at_ns"|"received_ns"):(\d{1,19})[,}]'
_BREAKS = bytes.maketrans(b"\r\n", b"  ")
# As numbers: a byte that is looked for as bytes costs a TypeError that is raised and caught inside.
_LF, _CR = b"\n\r"
_behind_its_brace = itemgetter(slice(1, None))


class Frame(NamedTuple):
    """One complete text payload as it arrived, and when: nanoseconds since the epoch, UTC."""

    payload: bytes
    received_ns: int


def one_line(payload: bytes) -> bytes:
    """The payload without line breaks: JSON allows them between tokens only, as it does spaces."""
    return payload.translate(_BREAKS) if has_breaks(payload) else payload


def has_breaks(text: bytes) -> bool:
    """Whether there is a line break in it."""
    return _LF in text or _CR in text


def stamp(payload: bytes, received_ns: int) -> bytes:
    """The object with ``received_ns`` as its first key; line breaks inside stay."""
    if payload.startswith(b'{"'):
        return b'{"received_ns":%d,%b' % (received_ns, payload[1:])
    before, _, after = payload.partition(b"{")
    comma = b"" if after.lstrip().startswith(b"}") else b","
    return b'%b{"received_ns":%d%b%b' % (before, received_ns, comma, after)


def stamped(payloads: Sequence[bytes], moments: Sequence[int]) -> bytes:
    """The lines of a batch, each stamped with its moment (ns), without line breaks inside."""
    if not _are_usual(payloads):
        both = zip(payloads, moments, strict=True)
        return b"".join([one_line(stamp(payload, at_ns)) + b"\n" for payload, at_ns in both])
    # All at once, and a number written once for what came in one read: a third of the cost.
    begins = [b'{"received_ns":%d,%%b\n' % at_ns * len([*same]) for at_ns, same in groupby(moments)]
    return b"".join(begins) % tuple(map(_behind_its_brace, payloads))


def _are_usual(payloads: Sequence[bytes]) -> bool:
    """Whether each begins with a brace and a key, and none has a line break."""
    if has_breaks(b"".join(payloads)):
        return False
    # Whatever sorts between these two begins like the first; # is the byte behind the quote.
    return min(payloads, default=b"") >= b'{"' and max(payloads) < b"{#"


def write(data: Data) -> bytes:
    """The line of a message, without its line end."""
    return one_line(stamp(data.payload, data.received_ns))


def read(line: bytes) -> Frame | dict[str, Any]:
    """The frame of a line, or the stream's own event that it is; a line end may follow.

    The payload is not looked into: whether it is a message is for a Session to say.
    Raises ValueError when the line is neither.
    """
    line = line.removesuffix(b"\n")
    if line.startswith(OWN):
        event: dict[str, Any] = orjson.loads(line)
        return event
    found = _STAMP.match(line)
    if found is None:
        raise ValueError("no line of a tape: it does not begin with received_ns or kfws")
    return Frame(found[1] + b"{" + line[found.end() :], int(found[2]))


def moment_of(line: bytes) -> int | None:
    """When a line came, in nanoseconds; None of what is no line of a tape."""
    found = re.match(_MOMENT, line)
    return None if found is None else int(found[1])


def is_begun(text: bytes) -> bool:
    """Whether a torn line may be the beginning of a tape's line; nothing at all may."""
    begins = (OWN, b'{"received_ns":')
    return any(text.startswith(begin) or begin.startswith(text) for begin in begins)
