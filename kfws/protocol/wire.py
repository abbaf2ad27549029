"""Bytes ↔ meaning: requests out, the heads of messages in.

The head of a frame is read in one typed pass that also proves that the frame is one JSON
object; the rest is skipped, checked but not built.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import orjson

from kfws.protocol.events import LARGEST, BinaryFrame, Data

__all__ = [
    "Control",
    "are_plain",
    "challenge",
    "decode_typed",
    "is_plain",
    "ping",
    "read_head",
    "read_typed",
    "redact",
    "remembering",
    "subscribe",
    "unsubscribe",
]


decode_typed = msgspec.json.Decoder(Data).decode
"""A message of a known feed in one pass, all but ``payload``, ``received_ns`` and ``kind``; raises
msgspec.DecodeError at anything odd. What it says of a frame that is not plain is not to be relied
on."""

# What one connection brought and another one may bring soon: so many messages, none of them longer.
REMEMBERED = 4096
REMEMBERED_BYTES = 1024


def remembering() -> Callable[[bytes], Data]:
    """``decode_typed`` for several connections of the same feeds: of a copy nothing is read again.
    It gives the very object that it gave before, to be copied by whom that one is not for. Not
    for what is longer than ``REMEMBERED_BYTES``."""
    return lru_cache(REMEMBERED)(decode_typed)


# Decoding goes down the stack one level per level of nesting, and who decodes a message later
# may stand lower on it than we do. What is shorter cannot be nested so deeply.
SHORT = 900
# As a number: a byte that is looked for as bytes costs a TypeError, raised and caught inside.
BACKSLASH = ord("\\")
STACK_MARGIN = 100


def are_plain(frames: Sequence[bytes]) -> bool:
    """Whether all frames are plain for sure: asked once of all, a few nanoseconds a frame."""
    joined = b"".join(frames)
    return (
        joined.isascii()
        and BACKSLASH not in joined
        and (len(joined) <= SHORT or max(map(len, frames)) <= SHORT)
        and BinaryFrame not in map(type, frames)
    )


def is_plain(payload: bytes) -> bool:
    """Whether ``decode_typed`` can be relied on: text that is ASCII without escapes, in which no
    key means more than it seems to, and not nested too deeply."""
    return (
        payload.isascii()
        and BACKSLASH not in payload
        and type(payload) is not BinaryFrame
        and not is_too_deep(payload)
    )


def read_typed(payload: bytes) -> Data | None:
    """What ``decode_typed`` gives, where it can be relied on."""
    if not is_plain(payload):
        return None
    try:
        return decode_typed(payload)
    except (msgspec.DecodeError, RecursionError):
        return None


# float_hook: 1e999 is legal, and more than msgspec by itself takes for a number.
_read_object = msgspec.json.Decoder(dict[str, Any], float_hook=float).decode


class Control(NamedTuple):
    """A message that is of no feed: what it is about, and all that it says."""

    event: str
    fields: dict[str, Any]


def read_head(payload: bytes) -> Data | Control | str:
    """What ``read_typed`` gives, a control message, or in a few words what is wrong with the frame.

    Slower than ``read_typed`` and more patient: a time of an odd type is no fault, since
    nothing depends on it.
    """
    if not payload.isascii():
        try:
            payload.decode()
        except UnicodeDecodeError:
            return "not UTF-8"
    try:
        fields = _read_object(payload)
    except RecursionError:
        return "nested too deeply"
    except msgspec.ValidationError:
        return "not a JSON object"
    except msgspec.DecodeError:
        return "not JSON" if payload else "empty"
    if is_too_deep(payload):
        return "nested too deeply"
    for key, wanted in (("event", str), ("feed", str), ("product_id", str), ("seq", int)):
        value = fields.get(key)
        if key == "seq" and isinstance(value, float) and value.is_integer():
            value = fields[key] = int(value)  # 1.7e7 is an integer, too
        # bool is an int to Python, not to the protocol.
        if value is not None and (not isinstance(value, wanted) or isinstance(value, bool)):
            return f"{key} is no {'text' if wanted is str else 'integer'}"
    seq = fields.get("seq")
    if seq is not None and abs(seq) > LARGEST:
        return "seq is out of range"
    if event := fields.get("event"):
        return Control(event, fields)
    return Data(
        feed=fields.get("feed") or "",
        product=fields.get("product_id"),
        seq=seq,
        venue_ms=_moment(fields.get("time")),
        timestamp=_moment(fields.get("timestamp")),
        side=side if isinstance(side := fields.get("side"), str) else "",
        price=_number(fields.get("price")),
        qty=_number(fields.get("qty")),
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and abs(value) < 1e300 else 0.0


def is_too_deep(payload: bytes) -> bool:
    """Whether a message that can be decoded here may be too deep to be decoded elsewhere."""
    if len(payload) <= SHORT or payload.count(b"[") + payload.count(b"{") < SHORT // 2:
        return False
    try:
        _decode_below(payload, STACK_MARGIN)
    except RecursionError:
        return True
    return False


def _decode_below(payload: bytes, levels: int) -> None:
    if levels:
        _decode_below(payload, levels - 1)
    else:
        _read_object(payload)


def read_control(payload: bytes) -> dict[str, Any]:
    """All that a control message says; call it only on what ``read_head`` accepted."""
    return _read_object(payload)


def _moment(value: object) -> int | None:
    """A time in epoch milliseconds, where the value is one."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) <= LARGEST:
        return None
    return int(value)


Signature = dict[str, str]
"""``api_key``, ``original_challenge``, ``signed_challenge``: what a private request adds."""


def subscribe(feed: str, product: str | None, signature: Signature | None = None) -> str:
    """A request for one feed, and one product at the most, so that a refusal can be told apart."""
    return _request("subscribe", feed, product, signature)


def unsubscribe(feed: str, product: str | None, signature: Signature | None = None) -> str:
    """The opposite of ``subscribe``; private feeds are signed here too."""
    return _request("unsubscribe", feed, product, signature)


def challenge(api_key: str) -> str:
    """Asks for a challenge. The venue answers any key, without checking it."""
    return orjson.dumps({"event": "challenge", "api_key": api_key}).decode()


def ping() -> str:
    """The JSON ping that some clients send; the venue rejects it (use WebSocket pings)."""
    return '{"event":"ping"}'


def _request(event: str, feed: str, product: str | None, signature: Signature | None) -> str:
    request: dict[str, Any] = {"event": event, "feed": feed}
    if product is not None:
        request["product_ids"] = [product]
    return orjson.dumps(request | (signature or {})).decode()


# The venue may echo key and challenges in acknowledgements of private feeds. Their JSON
# strings hold no escapes but the odd \/ or \u002b, which the pattern steps over. A closing
# quote is not asked for: a torn frame ends in the middle of one.
_SECRET = rb'("(?:api_key|original_challenge|signed_challenge)"\s*:\s*")((?s:[^"\\]|\\.)*)'


def redact(payload: bytes) -> bytes:
    """The payload with echoed keys, challenges and signatures overwritten by ``*``, as long."""
    if b"challenge" not in payload and b"api_key" not in payload:
        return payload
    return re.sub(_SECRET, lambda found: found[1] + b"*" * len(found[2]), payload)
