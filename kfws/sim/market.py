"""The simulated market: all products and the account, on one line of time.

Rule of this room: the same seed, the same start and the same requests in the same order
give the same bytes. Time is handed in; nothing here reads a clock.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import orjson

from kfws.errors import UsageError
from kfws.protocol.feeds import FEEDS
from kfws.protocol.venue import Publication
from kfws.sim.account import Account
from kfws.sim.listing import Listing, iso
from kfws.sim.trading import HOUR_MS, Index, Trading

__all__ = ["Book", "Market"]

TICKER_MS = 1000
HEARTBEAT_MS = 1000
"""Guesses: the documentation says "timed intervals", recordings once a second."""

Happening = Callable[[float, list[Publication]], float]
"""Something due at a moment: publishes what comes of it and gives the next moment."""


class Book(NamedTuple):
    """A product's order book as the market itself has it: price and quantity, best first."""

    seq: int
    bids: list[tuple[float, float]]
    asks: list[tuple[float, float]]


class Market:
    """A seeded market, standing still until somebody subscribes.

    ``products``: how many, None for the whole list; beyond its end they are made up.
    ``rate``: book changes a second of each product, None for the list's own; trades besides.
    Times are milliseconds since the epoch. Raises UsageError for what cannot be simulated.
    """

    def __init__(
        self, seed: int, start_ms: int, *, products: int | None = None, rate: float | None = None
    ) -> None:
        if products is not None and products < 1:
            raise UsageError("the simulator needs at least one product", hint="give 1 or more")
        if rate is not None and not 0 < rate <= 100_000:
            raise UsageError(
                f"a rate of {rate:g} changes a second cannot be simulated",
                hint="give a number above 0, at most 100000",
            )
        self._seed = seed
        self._start_ms = start_ms
        self._listing = Listing.load(products, rate)
        self.products = tuple(self._listing.products)
        self._spelling = {product.lower(): product for product in self.products}
        self.feeds = frozenset(FEEDS)
        self._prices = self._listing.prices | {
            product.base: product.price for product in self._listing.products.values()
        }
        self._indices: dict[str, Index] = {}
        self._idle: dict[str, Trading] = {}
        self._trading: dict[str, Trading] = {}
        self._accounts: dict[str, Account] = {}
        # (moment, rank, happening): ranks are unique, so that two happenings at one moment
        # have an order which does not depend on who subscribed first.
        self._due: list[tuple[float, int, Happening]] = []
        self._now_ms = start_ms

    is_over = False
    """A market never is."""

    # The seam to the Venue.

    def snapshot(self, feed: str, product: str | None, now_ms: int) -> list[bytes]:
        """First frames of a subscription; the first one to a product or feed starts it."""
        self._now_ms = max(self._now_ms, now_ms)
        if FEEDS[feed].private:
            return self.account().snapshot(feed, product, self._now_ms)
        if product is None:
            self._start_heart()
            return []
        trading = self.started(product)
        match feed:
            case "book":
                return [trading.book_snapshot()]
            case "trade":
                return [trading.trade_snapshot()]
            case "ticker":
                return [trading.ticker(self._now_ms)]
            case _:
                return [trading.ticker_lite(self._now_ms)]

    def advance(self, to_ms: float) -> list[Publication]:
        """All that happens until then, in the order of its happening."""
        out: list[Publication] = []
        due = self._due
        while due and due[0][0] <= to_ms:
            at, rank, happening = due[0]
            heapq.heapreplace(due, (happening(at, out), rank, happening))
        self._now_ms = max(self._now_ms, int(to_ms))
        return out

    @property
    def has_started(self) -> bool:
        """Whether anybody ever subscribed: before, nothing moves."""
        return bool(self._due)

    @property
    def now_ms(self) -> int:
        """How far it has advanced."""
        return self._now_ms

    def stand_until(self, now_ms: int) -> None:
        """Time went by in a market that has not started."""
        if not self.has_started:
            self._now_ms = max(self._now_ms, now_ms)

    def watch(self, look: Callable[[float, list[Publication]], None], every_ms: int) -> None:
        """Lets something be looked at again and again, from now on."""
        self._set_off(2, every_ms, _regularly(look, every_ms))

    # To look at.

    def spelled(self, symbol: str) -> str | None:
        """The listed spelling of a product typed in any case; None if there is none such."""
        return self._spelling.get(symbol.lower())

    def trades(self, product: str) -> list[dict[str, Any]]:
        """The last trades of a product, the newest first."""
        return self._traded(product).trades

    def book(self, product: str) -> Book:
        """The book as it stands after the last ``advance``."""
        trading = self._traded(product)
        return Book(trading.seq, trading.levels("buy"), trading.levels("sell"))

    def instruments(self) -> bytes:
        """The body of ``GET /derivatives/api/v3/instruments``."""
        rows = [product.instrument for product in self._listing.products.values()]
        return self.enveloped(instruments=[*rows, *self._listing.others])

    def tickers(self) -> bytes:
        """The body of ``GET /derivatives/api/v3/tickers``."""
        rows = map(self._row, self.products)
        return self.enveloped(tickers=[*rows, *self._index_rows()])

    def ticker(self, symbol: str) -> bytes | None:
        """The body of ``GET /derivatives/api/v3/tickers/{symbol}``; None if there is none such."""
        product = self.spelled(symbol)
        if product is not None:
            return self.enveloped(ticker=self._row(product))
        for row in self._index_rows():
            if row["symbol"] == symbol.lower():
                return self.enveloped(ticker=row)
        return None

    def not_found(self) -> bytes:
        """The venue's answer to a path that it does not know."""
        failure = {"code": 0, "message": "404 NOT_FOUND"}
        return orjson.dumps(
            {
                "status": "NOT_FOUND",
                "result": "error",
                "errors": [failure],
                "serverTime": iso(self._now_ms),
            }
        )

    def enveloped(self, **body: Any) -> bytes:
        """A body in REST's envelope."""
        return orjson.dumps({"result": "success", **body, "serverTime": iso(self._now_ms)})

    def _traded(self, product: str) -> Trading:
        return self._trading.get(product) or self._built(product)

    # What is due.

    def started(self, product: str) -> Trading:
        """The trading of a product, from now on if it never began."""
        if product in self._trading:
            return self._trading[product]
        trading = self._trading[product] = self._built(product)
        self._idle.pop(product, None)
        listed = trading.product
        rank = 10 + 10 * self.products.index(product)
        # Busy markets trade once in fifty changes of the book, three times a second at most.
        trades = min(3.0, max(0.2, listed.rate / 50))
        rhythm = random.Random(f"{self._seed}:rhythm:{product}")
        self._set_off(rank, 0, _at_random(trading.change, rhythm, listed.rate / 1000))
        self._set_off(rank + 1, 0, _at_random(trading.trade, rhythm, trades / 1000))
        self._set_off(rank + 2, TICKER_MS, _regularly(trading.tick, TICKER_MS))
        if product == self.products[0]:
            # The account trades whether anybody looks at it or not, so that what is public
            # does not depend on who subscribes to what is private.
            self._accounts[product] = Account(self._seed, trading, self._now_ms)
            self._set_off(1, 700, self._accounts[product].step)
        return trading

    def account(self) -> Account:
        """The account, which trades from now on."""
        self.started(self.products[0])
        return self._accounts[self.products[0]]

    def _start_heart(self) -> None:
        if all(rank for _, rank, _ in self._due):
            self._set_off(0, HEARTBEAT_MS, _regularly(_beat, HEARTBEAT_MS))

    def _set_off(self, rank: int, delay_ms: int, happening: Happening) -> None:
        heapq.heappush(self._due, (self._now_ms + delay_ms, rank, happening))

    # What is listed.

    def _index(self, base: str) -> Index:
        if base not in self._indices:
            price = self._prices[base]
            self._indices[base] = Index(self._seed, base, price, self._start_ms)
        return self._indices[base]

    def _built(self, product: str, *, sketch: bool = False) -> Trading:
        listed = self._listing.products[product]
        index = self._index(listed.base)
        start_ms = self._start_ms if sketch else self._now_ms
        return Trading(self._seed, listed, index, start_ms, sketch=sketch)

    def _row(self, product: str) -> dict[str, Any]:
        """Where nobody subscribed, the market stands still."""
        if product in self._trading:
            return self._trading[product].rest_ticker(self._now_ms)
        if product not in self._idle:
            self._idle[product] = self._built(product, sketch=True)
        return self._idle[product].rest_ticker(self._start_ms)

    def _index_rows(self) -> Iterator[dict[str, Any]]:
        """Index rates of this moment, reference rates of the last full hour."""
        for other in self._listing.others:
            symbol = other["symbol"]
            if not symbol.startswith(("in_", "rr_")):
                continue
            at = self._now_ms if symbol.startswith("in_") else self._now_ms // HOUR_MS * HOUR_MS
            last = round(self._index(symbol[3:-3].upper()).at(at), 2)
            yield {"symbol": symbol, "last": last, "lastTime": iso(at)}


def _at_random(
    happen: Callable[[float, list[Publication]], None], rhythm: random.Random, per_ms: float
) -> Happening:
    """As often as that on average, at moments that do not know of each other."""

    def happening(at: float, out: list[Publication]) -> float:
        happen(at, out)
        return at + rhythm.expovariate(per_ms)

    return happening


def _regularly(happen: Callable[[float, list[Publication]], None], every_ms: int) -> Happening:
    def happening(at: float, out: list[Publication]) -> float:
        happen(at, out)
        return at + every_ms

    return happening


def _beat(at: float, out: list[Publication]) -> None:
    payload = orjson.dumps({"feed": "heartbeat", "time": int(at)})
    out.append(Publication("heartbeat", None, payload))
