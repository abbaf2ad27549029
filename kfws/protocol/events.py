"""Frames, and all that a Session can say about them.

Each frame gives exactly one event that carries it, in the order of arrival, so whoever
passes on the payloads of the events passes on everything that came, once.

The stream's own objects (``--events``, tapes) are what ``describe`` makes of an event.
All moments are nanoseconds since the epoch, UTC.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec

from kfws.protocol.feeds import FEEDS

__all__ = [
    "BINARY",
    "LARGEST",
    "Beat",
    "BinaryFrame",
    "Broken",
    "Cause",
    "Closed",
    "Data",
    "Duplicate",
    "Event",
    "Gap",
    "Kind",
    "Notice",
    "Opened",
    "Redial",
    "Refused",
    "Report",
    "Restart",
    "Resync",
    "Silent",
    "Stale",
    "Subscribed",
    "Tick",
    "describe",
    "restore",
]

Kind = Literal["snapshot", "delta"]

BINARY = "binary frame"
"""The reason of a Broken that carries one."""


class BinaryFrame(bytes):
    """The payload of a binary frame: the venue never sends one, so it is broken."""

    __slots__ = ()


# gc=False: these live for one batch and hold no cycles; the collector need not look at them.
class Event(msgspec.Struct, gc=False):
    """What a Session reports."""


# What the typed pass over a frame reads (protocol/wire.py), and where it puts it.
_WIRE_NAMES = {
    "feed": "feed",
    "product": "product_id",
    "side": "side",
    "seq": "seq",
    "price": "price",
    "qty": "qty",
    "timestamp": "timestamp",
    "venue_ms": "time",
    "kind": "event",
}
# What our own objects tell of numbers must be JSON that others can read; larger ones are odd.
LARGEST = 2**63 - 1
if TYPE_CHECKING:
    FeedName: TypeAlias = str
    Side: TypeAlias = str
    Number: TypeAlias = int
    NotTold: TypeAlias = Kind
else:
    # Of the feeds that are known, names come as the very same objects each time: nothing is made,
    # and the hash that a look-up needs is there. Others are left to the patient reader.
    FeedName = Literal[tuple(FEEDS)]
    Side = Literal["buy", "sell", ""]
    Number = Annotated[int, msgspec.Meta(ge=-LARGEST, le=LARGEST)]
    # What has an event is no message of a feed: the typed pass turns it down, since no text that
    # is ASCII and holds no escapes is this one.
    NotTold = Literal["\N{WHITE SQUARE}"]


def _wire_name(field: str) -> str:
    """Fields that are not read from a frame get a name that none has which is ASCII and holds no
    escapes, and long, so that it costs a look at a length to find that a key is another one."""
    return _WIRE_NAMES.get(field) or f"\N{WHITE SQUARE} {field} is not told by the venue {'-' * 40}"


class Data(Event, gc=False, kw_only=True, rename=_wire_name):
    """A message of a feed. The typed pass makes it, so there is one object per frame.

    The fields stand as a change of a book has them: there the typed pass looks first.
    """

    feed: FeedName = ""
    """Without the ``_snapshot`` of the wire."""
    product: str | None = None
    """The product of the whole message; None on private feeds and heartbeats."""
    side: Side = ""
    seq: Number | None = None
    price: float = 0.0
    qty: float = 0.0
    """With side and price: what a change of a book says."""
    timestamp: Number | None = None
    """What some feeds call the venue's time; of no use to others."""
    venue_ms: Number | None = None
    """The venue's own time of the message, where it has one."""
    kind: NotTold = "delta"
    """``snapshot`` or ``delta``: by the name of its feed, never by a key of its own."""
    payload: bytes = b""
    """The frame exactly as it came."""
    received_ns: int = 0
    decoded: dict[str, Any] | None = None

    @property
    def message(self) -> dict[str, Any]:
        """The whole message, decoded on first use and kept; numbers as int and float."""
        if self.decoded is None:
            self.decoded = _decode(self.payload)
        return self.decoded


_read_object = msgspec.json.Decoder(dict[str, Any]).decode


def _decode(payload: bytes) -> dict[str, Any]:
    for read in (_read_object, _read_patiently):
        try:
            return read(payload)
        except (msgspec.ValidationError, RecursionError):
            continue
    # Nested so deeply that it could be read where it came in, but not as deep as here.
    return {}


def _read_patiently(payload: bytes) -> dict[str, Any]:
    """Numbers beyond what a float holds (1e999) are legal; here they are infinite."""
    found: dict[str, Any] = json.loads(payload, parse_int=float)
    return found


class Beat(Event, gc=False, kw_only=True):
    """A heartbeat that nobody asked for: it only proves that the venue lives."""

    payload: bytes
    received_ns: int


class Subscribed(Event, gc=False, kw_only=True):
    """The venue acknowledged a subscription, with all products that it named."""

    payload: bytes | None
    """None of what a tape tells, here and below: tapes hold no control frames."""
    received_ns: int
    feed: str
    products: tuple[str, ...] = ()
    quiet: bool = False


class Refused(Event, gc=False, kw_only=True):
    """The venue turned a subscription down; ``message`` is the venue's own text."""

    payload: bytes | None
    """None when the verdict fell later than the frame (an alert that was tried again)."""
    received_ns: int
    feed: str
    product: str | None
    message: str
    quiet: bool = False


class Notice(Event, gc=False, kw_only=True):
    """Anything else the venue said: ``info``, ``alert``, ``challenge``, an event of tomorrow."""

    payload: bytes | None
    """None of what is our own word."""
    received_ns: int
    event: str
    message: str = ""
    quiet: bool = False
    """Whether it answers what nobody asked for (see ``Beat``)."""


class Broken(Event, gc=False, kw_only=True):
    """A frame that breaks the protocol; ``reason`` says in a few words how."""

    payload: bytes
    received_ns: int
    reason: str

    @property
    def is_binary(self) -> bool:
        """Whether the frame was a binary one."""
        return isinstance(self.payload, BinaryFrame)


Cause = Literal["venue", "outage", "takeover", "resync", "slow-reader", "suspended", "disk-full"]


class Gap(Event, gc=False, kw_only=True):
    """Messages that never came, or an interval for which nobody can prove that all came."""

    received_ns: int
    """When it was found."""
    feed: str
    product: str | None
    first: int | None
    """The first and the last number that are missing; None on feeds without such numbers."""
    last: int | None
    missing: int | None
    """How many; None: unprovable."""
    cause: Cause
    from_ns: int
    to_ns: int
    healed_by: str | None = None
    """``snapshot`` or ``connection``: the messages are known all the same."""

    @property
    def healed(self) -> bool:
        """Whether nothing is lost after all."""
        return self.healed_by is not None


class Duplicate(Event, gc=False, kw_only=True):
    """A message whose number came before: not passed on a second time, but in ``raw``."""

    payload: bytes | None
    received_ns: int
    feed: str
    product: str | None
    seq: int


class Restart(Event, gc=False, kw_only=True):
    """The venue's counter began anew: a lower number, but nothing old."""

    received_ns: int
    feed: str
    product: str | None
    last: int
    """The last number of the old count."""
    seq: int
    """The first of the new one."""
    from_ns: int
    """When the old count was last heard, and the new one first: how far either went in between
    nobody can prove."""
    to_ns: int
    venue_ms: int | None = None
    """The venue's time of the message that began the new count."""


class Stale(Event, gc=False, kw_only=True):
    """A book is not to be trusted until its next snapshot, which was asked for."""

    received_ns: int
    feed: str
    product: str | None


class Resync(Event, gc=False, kw_only=True):
    """The snapshot that ends a stale time."""

    received_ns: int
    feed: str
    product: str | None
    seq: int | None
    stale_ns: int
    """How long the state was stale."""


class Silent(Event, gc=False, kw_only=True):
    """A subscription that gives nothing was asked for again; ``reason`` in a few words."""

    received_ns: int
    feed: str
    product: str | None
    reason: str


class Redial(Event, gc=False, kw_only=True):
    """No connection, or none any more: the next dial comes after ``delay_s``."""

    received_ns: int
    reason: str
    failed: int
    """Dials that failed in a row."""
    delay_s: Annotated[float, msgspec.Meta(ge=0, le=1e9)]
    connection: int = 0
    """The one that was lost; 0 where none stood."""


class Opened(Event, gc=False, kw_only=True):
    """A connection stands."""

    received_ns: int
    connection: int
    """1 for the first of the run."""
    url: str


class Closed(Event, gc=False, kw_only=True):
    """A connection ended; ``code`` and ``reason`` as in RFC 6455 (1006: without a word)."""

    received_ns: int
    connection: int
    code: int
    reason: str


class Tick(Event, gc=False, kw_only=True):
    """Time passed and nothing came: the loop looks at its limits."""

    received_ns: int


class Report(Event, gc=False, kw_only=True):
    """What the program says of its own run, in the stream: ``header``, ``totals``."""

    received_ns: int
    name: str
    fields: dict[str, Any]


def describe(event: Event) -> dict[str, Any] | None:
    """The stream's own object for an event, with a ``kfws`` key first; None for data, ticks
    and what nobody asked for."""
    match event:
        case Subscribed(quiet=False):
            fields: dict[str, Any] = {"feed": event.feed}
            if event.products:
                fields["product_ids"] = list(event.products)
            return _own("subscribed", event.received_ns, fields)
        case Refused(quiet=False):
            fields = {"feed": event.feed, "product_id": event.product, "message": event.message}
            return _own("refused", event.received_ns, fields)
        case Notice(quiet=False):
            fields = {"event": event.event, "message": event.message}
            return _own("notice", event.received_ns, fields)
        case Broken():
            fields = {"reason": event.reason, **_text(event.payload)}
            return _own("broken", event.received_ns, fields)
        case Gap():
            return _own("gap", event.received_ns, _gap(event))
        case Duplicate():
            return _own("duplicate", event.received_ns, _stream(event) | {"seq": event.seq})
        case Restart():
            fields = _stream(event) | {"last": event.last, "seq": event.seq}
            fields |= {"from_ns": event.from_ns, "to_ns": event.to_ns}
            return _own("restart", event.received_ns, fields)
        case Stale():
            return _own("stale", event.received_ns, _stream(event))
        case Resync():
            fields = _stream(event) | {"seq": event.seq, "stale_ns": event.stale_ns}
            return _own("resync", event.received_ns, fields)
        case Silent():
            return _own("silent", event.received_ns, _stream(event) | {"reason": event.reason})
        case Redial():
            fields = {"event": "redial", "message": event.reason}
            fields |= {"failed": event.failed, "delay_s": round(event.delay_s, 3)}
            if event.connection:
                fields["connection"] = event.connection
            return _own("notice", event.received_ns, fields)
        case Opened():
            fields = {"connection": event.connection, "url": event.url}
            return _own("opened", event.received_ns, fields)
        case Closed():
            fields = {
                "connection": event.connection,
                "code": event.code,
                "reason": event.reason,
            }
            return _own("closed", event.received_ns, fields)
        case Report():
            return _own(event.name, event.received_ns, event.fields)
        case _:
            return None


def _stream(event: Gap | Duplicate | Restart | Stale | Resync | Silent) -> dict[str, Any]:
    return {"feed": event.feed, "product_id": event.product}


def _gap(gap: Gap) -> dict[str, Any]:
    fields = _stream(gap) | {
        "first": gap.first,
        "last": gap.last,
        "missing": gap.missing,
        "cause": gap.cause,
        "healed": gap.healed,
    }
    if gap.healed:
        fields["healed_by"] = gap.healed_by
    return fields | {"from_ns": gap.from_ns, "to_ns": gap.to_ns}


def _own(name: str, at_ns: int, fields: dict[str, Any]) -> dict[str, Any]:
    return {"kfws": name, "at_ns": at_ns, **fields}


def _text(payload: bytes) -> dict[str, str]:
    """A payload inside JSON: as text, or in base64 where it is no text."""
    if not isinstance(payload, BinaryFrame):
        try:
            return {"payload": payload.decode()}
        except UnicodeDecodeError:
            pass
    return {"payload": base64.b64encode(payload).decode(), "encoding": "base64"}


# Where a field of the event has another name than the key.
_FIELDS = {"at_ns": "received_ns", "product_id": "product", "product_ids": "products"}
_KINDS: dict[object, type[Event]] = {
    "subscribed": Subscribed,
    "refused": Refused,
    "notice": Notice,
    "gap": Gap,
    "duplicate": Duplicate,
    "restart": Restart,
    "stale": Stale,
    "resync": Resync,
    "silent": Silent,
    "opened": Opened,
    "closed": Closed,
}


def restore(own: dict[str, Any]) -> Event:
    """The event that ``describe`` made this object of; of what is unknown a Report that is
    described as the same object. Raises ValueError where it names no event or no moment."""
    fields = {_FIELDS.get(key, key): value for key, value in own.items()}
    try:
        if own["kfws"] == "broken":
            broken = msgspec.convert(fields | {"payload": b""}, Broken)
            broken.payload = _payload(own)
            return broken
        if own["kfws"] == "notice" and own["event"] == "redial":
            return msgspec.convert(fields | {"reason": own["message"]}, Redial)
        return msgspec.convert({"payload": None, **fields}, _KINDS[own["kfws"]])
    except (KeyError, ValueError, TypeError):
        return _reported(own)


def _reported(own: dict[str, Any]) -> Report:
    name, at_ns = own.get("kfws"), own.get("at_ns")
    if not isinstance(name, str) or not isinstance(at_ns, int):
        raise ValueError("no event of a stream: it has no name, or no moment")
    fields = {key: value for key, value in own.items() if key not in ("kfws", "at_ns")}
    return Report(received_ns=at_ns, name=name, fields=fields)


def _payload(own: dict[str, Any]) -> bytes:
    """The opposite of ``_text``."""
    text = str(own["payload"])
    if "encoding" not in own:
        return text.encode()
    payload = base64.b64decode(text, validate=True)
    return BinaryFrame(payload) if own["reason"] == BINARY else payload
