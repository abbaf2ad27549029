"""Tapes made by hand: a stream of events as a recorder writes it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kfws.protocol.events import Closed, Data, Event, Opened, Report, Subscribed
from kfws.sinks.ndjson import Ndjson
from kfws.tapes import files

SECOND_NS = 1_000_000_000
AT = 1_791_518_718 * SECOND_NS


def header(at_ns: int = AT, **fields: Any) -> Report:
    return Report(received_ns=at_ns, name="header", fields={"version": "0", **fields})


def totals(at_ns: int, **fields: Any) -> Report:
    return Report(received_ns=at_ns, name="totals", fields=fields)


def opened(at_ns: int = AT, connection: int = 1) -> Opened:
    return Opened(received_ns=at_ns, connection=connection, url="ws://venue")


def closed(at_ns: int, connection: int = 1) -> Closed:
    return Closed(received_ns=at_ns, connection=connection, code=1006, reason="")


def subscribed(at_ns: int, feed: str, *products: str) -> Subscribed:
    return Subscribed(payload=None, received_ns=at_ns, feed=feed, products=products)


def book(seq: int, at_ns: int | None = None, *, product: str = "PF_A", later_ns: int = 0) -> Data:
    """A delta; a millisecond apart by number where no time is given, on its way for 5 ms, and
    ``later_ns`` more."""
    received_ns = AT + seq * 1_000_000 if at_ns is None else at_ns
    payload = (
        b'{"feed":"book","product_id":"%b","side":"buy","seq":%d,"price":%d.5,"qty":0.10,'
        b'"timestamp":%d}'
    ) % (product.encode(), seq, 100 + seq % 7, received_ns // 1_000_000 - 5)
    return Data(
        payload=payload, received_ns=received_ns + later_ns, feed="book", product=product, seq=seq
    )


def snapshot(seq: int, at_ns: int, *, product: str = "PF_A") -> Data:
    payload = (
        b'{"feed":"book_snapshot","product_id":"%b","timestamp":%d,"seq":%d,'
        b'"bids":[{"price":100.5,"qty":1}],"asks":[{"price":101.5,"qty":2}]}'
    ) % (product.encode(), at_ns // 1_000_000, seq)
    return Data(
        payload=payload, received_ns=at_ns, feed="book", kind="snapshot", product=product, seq=seq
    )


def ticker(at_ns: int, *, product: str = "PF_A") -> Data:
    payload = b'{"feed":"ticker","product_id":"%b","bid":%d}' % (product.encode(), at_ns)
    return Data(payload=payload, received_ns=at_ns, feed="ticker", product=product)


def text(events: Iterable[Event]) -> bytes:
    return Ndjson(stamp=True, events=True).encode([*events])


def tape(path: Path, events: Iterable[Event]) -> Path:
    """Writes a tape, compressed as its name says; one frame for each hundred lines."""
    lines = text(events).splitlines(keepends=True)
    compression = files.compression_of(path)
    parts = [b"".join(lines[at : at + 100]) for at in range(0, len(lines), 100)]
    if compression is not None:
        parts = [files.seal(part, compression) for part in parts]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(parts))
    return path
