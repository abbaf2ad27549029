"""Tapes as a market: what was recorded, at its own pace, for whoever subscribes.

Rule of this room: no clock. Payloads are the recorded ones; made up are heartbeats, where the
tapes have none, and the snapshots of late subscribers: a book folded up to the present, the
last hundred trades, of other feeds the last one recorded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import msgspec
import orjson

from kfws.protocol.book import Book, Side
from kfws.protocol.events import Data
from kfws.protocol.session import Session
from kfws.protocol.venue import Publication
from kfws.sim.desk import Answer, Asked
from kfws.sim.listing import Listing, iso
from kfws.tapes.files import Reader
from kfws.tapes.recordings import Step, interleave
from kfws.tapes.tape import Tape

__all__ = ["Recorded"]

Key = tuple[str, str | None]

HEARTBEAT_MS = 1000
TRADES_LISTED = 100
"""As many as the venue's own snapshot lists."""

WHOLE = frozenset({"ticker", "ticker_lite", "open_positions", "account_balances_and_margins"})
"""Feeds without a snapshot whose every message tells all: the last one opens a subscription, as
at the venue."""


class Recorded:
    """The tapes, standing still until somebody subscribes; ``speed`` times as fast from then on.

    Times are milliseconds since the epoch, of a clock that begins at ``start_ms``.
    """

    def __init__(self, tapes: Sequence[Tape], speed: float = 1.0) -> None:
        self._tapes = tapes
        self._speed = speed
        self._start_ns = min(tape.first_ns for tape in tapes)
        self.start_ms = self._start_ns // 10**6
        self.products: Sequence[str] = _all(tape.products for tape in tapes)
        self.feeds = frozenset(("heartbeat", *_all(tape.feeds for tape in tapes)))
        self.has_started = False
        self.is_over = False
        self._steps = self._played()
        self._next: Step | None = next(self._steps, None)
        self._beats = "heartbeat" not in _all(tape.feeds for tape in tapes)
        self._beat_ms = self._now_ms = self.start_ms
        # It asks for nothing: it tells what a frame is, and lets nothing pass twice.
        self._session = Session([], resync=False)
        self._books: dict[str | None, Book] = {}
        self._trades: dict[str | None, deque[bytes]] = {}
        self._last: dict[Key, bytes] = {}

    def _played(self) -> Iterator[Step]:
        readers = [Reader(tape.path, damages=[]) for tape in self._tapes]
        return (step for _, _, step in interleave(readers))

    # What the Venue and the server ask for.

    def snapshot(self, feed: str, product: str | None, now_ms: int) -> list[bytes]:
        """What opens a subscription; nothing before it was recorded: then it comes in its turn."""
        self.has_started = True
        if feed == "book":
            book = self._books.get(product)
            return [] if book is None or book.stale else [_book_snapshot(product, book)]
        if feed == "trade":
            trades = self._trades.get(product)
            return [] if trades is None else [_trade_snapshot(product, trades)]
        last = self._last.get((feed, product))
        return [] if last is None else [last]

    def advance(self, to_ms: float) -> list[Publication]:
        """All that was recorded until then."""
        self._now_ms = max(self._now_ms, int(to_ms))
        until_ns = self._start_ns + round((to_ms - self.start_ms) * self._speed * 1e6)
        out: list[Publication] = []
        while (step := self._next) is not None and step.at_ns <= until_ns:
            self._play(step, out)
            self._next = next(self._steps, None)
        self.is_over = self._next is None
        if self._beats and self._now_ms - self._beat_ms >= HEARTBEAT_MS:
            self._beat_ms = self._now_ms
            beat = orjson.dumps({"feed": "heartbeat", "time": self._now_ms})
            out.append(Publication("heartbeat", None, beat))
        return out

    def _play(self, step: Step, out: list[Publication]) -> None:
        for event in self._session.receive(step.frames, step.at_ns):
            if type(event) is Data:
                self._fold(event)
                out.append(Publication(event.feed, _product(event), event.payload))

    def _fold(self, data: Data) -> None:
        """Keeps what a snapshot will be made of."""
        if data.feed == "book":
            self._books.setdefault(data.product, Book()).apply(data)
        elif data.feed == "trade" and data.kind == "snapshot":
            self._trades[data.product] = deque(_listed(data.payload), maxlen=TRADES_LISTED)
        elif data.feed == "trade":
            trades = self._trades.setdefault(data.product, deque(maxlen=TRADES_LISTED))
            trades.appendleft(data.payload)
        elif data.kind == "snapshot" or data.feed in WHOLE:
            self._last[data.feed, data.product] = data.payload

    # What REST asks for: of the products is known that they were there.

    def stand_until(self, now_ms: int) -> None:
        """Time passes, and nothing is played before somebody subscribes."""
        self._now_ms = max(self._now_ms, now_ms)

    def answer(self, asked: Asked) -> Answer:
        """The answer to a request: of accounts and orders tapes hold nothing."""
        return self.public(asked) or Answer(404, self.not_found(), [])

    def public(self, asked: Asked) -> Answer | None:
        """The answer to what anybody may ask; None to all else."""
        if asked.method != "GET" or asked.name != "instruments":
            return None
        listed = Listing.load(None, None).products
        rows = [
            listed[each].instrument if each in listed else {"symbol": each, "tradeable": True}
            for each in self.products
        ]
        body = {"result": "success", "instruments": rows, "serverTime": iso(self._now_ms)}
        return Answer(200, orjson.dumps(body), [])

    def not_found(self) -> bytes:
        """The venue's answer to a path that it does not know."""
        failure = {"code": 0, "message": "404 NOT_FOUND"}
        answer = {"status": "NOT_FOUND", "result": "error", "errors": [failure]}
        return orjson.dumps(answer | {"serverTime": iso(self._now_ms)})


class _Trades(msgspec.Struct, gc=False):
    trades: list[msgspec.Raw]


def _listed(snapshot: bytes) -> list[bytes]:
    """The trades of a snapshot, as they stand in it; none of one that is odd."""
    try:
        return [bytes(each) for each in msgspec.json.decode(snapshot, type=_Trades).trades]
    except msgspec.MsgspecError:
        return []


def _all(lists: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each for one in lists for each in one))


def _product(data: Data) -> str | None:
    """The product by which a message is subscribed to: of fills that of the first one."""
    if data.feed != "fills" or data.kind == "snapshot":
        return data.product
    fills = data.message.get("fills")
    first = fills[0] if isinstance(fills, list) and fills else None
    named = first.get("instrument") if isinstance(first, dict) else None
    return named if isinstance(named, str) else None


def _book_snapshot(product: str | None, book: Book) -> bytes:
    return b'{"feed":"book_snapshot","product_id":%b,"timestamp":%b,"seq":%b,%b}' % (
        orjson.dumps(product),
        orjson.dumps(book.venue_ms),
        orjson.dumps(book.seq),
        b'"tickSize":null,"bids":[%b],"asks":[%b]' % (_levels(book, "buy"), _levels(book, "sell")),
    )


def _levels(book: Book, side: Side) -> bytes:
    levels = book.levels(side)
    return ",".join([f'{{"price":{price},"qty":{qty}}}' for price, qty in levels]).encode()


def _trade_snapshot(product: str | None, trades: deque[bytes]) -> bytes:
    listed = b",".join(trades)
    return b'{"feed":"trade_snapshot","product_id":%b,"trades":[%b]}' % (
        orjson.dumps(product),
        listed,
    )
