"""The trading of one simulated product: its book, its trades, its ticker.

Rule of this room: the seed and the moments handed in decide everything; no clock.
Prices are whole ticks and sizes whole units until they are written.
"""

from __future__ import annotations

import math
import random
import uuid
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from kfws.protocol.venue import Publication
from kfws.sim.listing import Product, iso

__all__ = ["Index", "Resting", "Trading", "new_uuid"]

LEVELS = 500
"""Levels a side. PF_XBTUSD has 1000 to 1700 on the venue; half of it starts quicker."""

FEWEST = 20
"""Levels a side that are never taken away: a simulated market is never empty."""

DAY_MS = 86_400_000
HOUR_MS = 3_600_000

TRADES_KEPT = 100
"""Entries of a trade snapshot on the venue."""

# In seconds, without common factors, so that the sum does not repeat.
WAVES_S = (7, 31, 113, 421, 1601, 6007, 22811, 86399)


class Index:
    """Where an underlying stands, at any moment: a sum of waves, the longer the higher.

    A function of time alone, so that all products of one underlying agree on it.
    """

    def __init__(self, seed: int, base: str, price: float, start_ms: int) -> None:
        generator = random.Random(f"{seed}:index:{base}")
        # A height of 0.3 basis points times the root of the period gives about 0.5 % a day.
        self._waves = [
            (0.3e-4 * math.sqrt(period), math.tau / (1000 * period), generator.uniform(0, math.tau))
            for period in WAVES_S
        ]
        self._middle = 1.0
        self._middle = price / self.at(start_ms)

    def at(self, at_ms: float) -> float:
        """The price at a moment."""
        sway = 0.0
        for height, speed, shift in self._waves:
            sway += height * math.sin(at_ms * speed + shift)
        return self._middle * (1 + sway)


class Side:
    """One side of a book. Keys are ticks, negative on the bid side: the best is the smallest."""

    __slots__ = ("keys", "name", "sign", "units")

    def __init__(self, name: str, sign: int) -> None:
        self.name = name
        self.sign = sign
        self.keys: list[int] = []
        self.units: dict[int, int] = {}

    def put(self, key: int, units: int) -> None:
        """Sets a level; no units remove it."""
        if not units:
            del self.units[key]
            del self.keys[bisect_left(self.keys, key)]
            return
        if key not in self.units:
            insort(self.keys, key)
        self.units[key] = units


@dataclass(slots=True, eq=False)
class Resting:
    """An order of the simulated account that rests in the book, last in its level's queue."""

    buy: bool
    key: int
    placed: int
    """What was ordered."""
    units: int
    """What is left of it."""

    def next_part(self) -> int:
        """How much is hit next: half at first, then the rest."""
        return (self.placed + 1) // 2 if self.units == self.placed else self.units


Filled = Callable[[Resting, int, dict[str, Any], list[Publication]], None]
"""Told of a fill: the order, how many units, the public trade, where to publish."""


class Trading:
    """A product that is traded, from ``start_ms`` on.

    ``filled`` is told whenever a resting order of the account is hit. ``sketch`` leaves out all
    but the best levels and the last trade: enough for a row of REST, and forty times quicker.
    """

    def __init__(
        self, seed: int, product: Product, index: Index, start_ms: int, *, sketch: bool = False
    ) -> None:
        self.product = product
        self.filled: Filled | None = None
        self.resting: list[Resting] = []
        """The account's orders, in the order of their coming."""
        self._id = product.id
        # price_of and size_of, taken apart: thousands of changes a second ask for them.
        tick, unit = product.tick, product.unit
        self._scale = (tick.numerator, tick.denominator, unit.numerator, unit.denominator)
        self._random = random.Random(f"{seed}:{product.id}")
        self._index = index
        self._asks, self._bids = Side("sell", 1), Side("buy", -1)
        self._walk = 0.0
        self._shift = self._random.uniform(0, math.tau)
        self._typical = product.units_of(product.instrument["impactMidSize"])
        # The slower a market is told of, the wider apart its levels, or it could not follow.
        per_tick = product.ticks_of(product.price) * 0.12e-4
        self._spacing = max(1, round(per_tick * max(1.0, math.sqrt(100 / product.rate))))
        self._fair, self._fair_at = self._ticks(self.mark(start_ms)), float(start_ms)
        self.seq = self._random.randrange(10**6, 2 * 10**8)
        self.changed_ms = start_ms
        self._trade_seq = self._random.randrange(10**4, 10**6)
        self._trades: deque[dict[str, Any]] = deque(maxlen=TRADES_KEPT)
        draw = self._random.uniform
        self._volume = int(self._typical * draw(20_000, 60_000))
        self._open_interest = int(self._typical * draw(10_000, 30_000))
        for side in (self._asks, self._bids):
            # A generator for each, so that a sketch begins like the whole.
            self._fill(
                side, 2 if sketch else LEVELS, random.Random(f"{seed}:{self._id}:{side.name}")
            )
        self._remember(start_ms, 1 if sketch else TRADES_KEPT, random.Random(f"{seed}:{self._id}"))

    # What happens.

    def change(self, at: float, out: list[Publication]) -> None:
        """One level changes: a stale quote goes, a better one comes, or the depth stirs."""
        fair = self._move(at)
        for side in (self._asks, self._bids):
            if side.keys[0] < side.sign * fair:
                return self._withdraw(side, at, out)
        draw = self._random.random()
        side = self._asks if draw < 0.5 else self._bids
        if side.keys[0] - side.sign * fair > self._spacing and draw * 2 % 1 < 0.6:
            return self._improve(side, fair, at, out)
        return self._stir(side, at, out)

    def trade(self, at: float, out: list[Publication]) -> None:
        """Somebody takes from the best levels."""
        side = self._asks if self._random.random() < 0.5 else self._bids
        self._take(side, self._taken(self._random), at, out)

    def tick(self, at: float, out: list[Publication]) -> None:
        """The tickers, due once a second."""
        out.append(Publication("ticker", self.product.id, self.ticker(at)))
        out.append(Publication("ticker_lite", self.product.id, self.ticker_lite(at)))

    def rest(
        self, buy: bool, units: int, at: float, out: list[Publication], ticks: int | None = None
    ) -> Resting:
        """Puts an order of the account on a price that crosses nothing: the best of its side."""
        side = self._bids if buy else self._asks
        key = side.keys[0] if ticks is None else side.sign * ticks
        order = Resting(buy, key, units, units)
        self.resting.append(order)
        self._set(side, key, side.units.get(key, 0) + units, at, out)
        return order

    def cancel(self, order: Resting, at: float, out: list[Publication]) -> None:
        """Takes an order of the account out of the book."""
        side = self._bids if order.buy else self._asks
        self.resting.remove(order)
        self._set(side, order.key, side.units[order.key] - order.units, at, out)

    def reach(self, order: Resting, at: float, out: list[Publication]) -> bool:
        """Somebody takes all before the account's order, and the next part of it.

        False, and nothing happens, if the market has left the order far behind.
        """
        side = self._bids if order.buy else self._asks
        ahead = bisect_left(side.keys, order.key)
        if ahead > 12 or len(side.keys) <= FEWEST:
            return False
        mine = self._mine(side, order.key)
        behind = sum(each.units for each in mine[mine.index(order) :])
        before = sum(side.units[key] for key in side.keys[: ahead + 1]) - behind
        self._take(side, before + order.next_part(), at, out)
        return True

    def offered(self, buy: bool, ticks: int, units: int) -> tuple[int, bool]:
        """How many of these units the other side has to that price, and whether an order of the
        account itself would be met on the way."""
        side = self._asks if buy else self._bids
        found = 0
        for key in side.keys:
            if key > side.sign * ticks or found >= units:
                break
            own = self._own(side, key)
            found += side.units[key] - own
            if own and found < units:
                return found, True
        return min(found, units), False

    def cross(
        self, buy: bool, ticks: int, units: int, at: float, out: list[Publication]
    ) -> list[dict[str, Any]]:
        """The account takes from the other side, to that price at most; gives the trades."""
        side = self._asks if buy else self._bids
        return self._take(side, units, at, out, worst=side.sign * ticks)

    @property
    def trades(self) -> list[dict[str, Any]]:
        """The last ones, the newest first."""
        return list(self._trades)

    def best(self, buy: bool) -> int:
        """The best price of a side, in ticks."""
        return abs((self._bids if buy else self._asks).keys[0])

    # What there is to see.

    def mark(self, at: float) -> float:
        """The mark price: the index, and what the product is worth more or less than it."""
        return self._index.at(at) * (1 + self.product.basis(at) + self._premium(at))

    def index(self, at: float) -> float:
        return round(self._index.at(at), self.product.decimals + 2)

    def book_snapshot(self) -> bytes:
        """All levels, best first; its time is that of the last change, as on the venue."""
        return orjson.dumps(
            {
                "feed": "book_snapshot",
                "product_id": self.product.id,
                "timestamp": self.changed_ms,
                "seq": self.seq,
                "tickSize": None,
                "bids": [{"price": price, "qty": qty} for price, qty in self.levels("buy")],
                "asks": [{"price": price, "qty": qty} for price, qty in self.levels("sell")],
            }
        )

    def levels(self, side: str) -> list[tuple[float, float]]:
        """Price and quantity of each level of ``buy`` or ``sell``, best first."""
        chosen = self._bids if side == "buy" else self._asks
        price_of, size_of = self.product.price_of, self.product.size_of
        return [(price_of(abs(key)), size_of(chosen.units[key])) for key in chosen.keys]

    def trade_snapshot(self) -> bytes:
        """The last trades, newest first."""
        return orjson.dumps(
            {
                "feed": "trade_snapshot",
                "product_id": self.product.id,
                "trades": list(self._trades),
            }
        )

    def ticker(self, at: float) -> bytes:
        """Everything of the moment, keys in the order of the wire."""
        product, mark = self.product, self.mark(at)
        bid, ask = self._best(self._bids), self._best(self._asks)
        last = self._trades[0]["price"]
        fields: dict[str, Any] = {"time": int(at), "product_id": product.id}
        if not product.maturity_ms:
            fields |= self._funding(at)
        fields |= {
            "leverage": product.leverage,
            "premium": self._premium_percent(at),
            "feed": "ticker",
            "bid": bid[0],
            "ask": ask[0],
            "bid_size": bid[1],
            "ask_size": ask[1],
            "volume": product.size_of(self._volume),
            "dtm": self._days(at),
            "index": self.index(at),
            "last": last,
            "change": self._change(at),
            "suspended": False,
            "tag": product.tag,
            "pair": product.pair,
            "openInterest": product.size_of(self._open_interest),
            "markPrice": mark,
            "maturityTime": product.maturity_ms,
            "post_only": product.instrument["postOnly"],
            "volumeQuote": self._volume_quote(),
            **self._day(at),
        }
        return orjson.dumps(fields)

    def ticker_lite(self, at: float) -> bytes:
        return orjson.dumps(
            {
                "premium": self._premium_percent(at),
                "product_id": self.product.id,
                "feed": "ticker_lite",
                "bid": self._best(self._bids)[0],
                "ask": self._best(self._asks)[0],
                "change": self._change(at),
                "volume": self.product.size_of(self._volume),
                "tag": self.product.tag,
                "pair": self.product.pair,
                "dtm": self._days(at),
                "maturityTime": self.product.maturity_ms,
                "volumeQuote": self._volume_quote(),
            }
        )

    def rest_ticker(self, at: float) -> dict[str, Any]:
        """The row of ``GET /tickers``, in REST's own spelling."""
        product, last = self.product, self._trades[0]
        bid, ask = self._best(self._bids), self._best(self._asks)
        day = self._day(at)
        row = {
            "symbol": product.id,
            "last": last["price"],
            "lastTime": iso(last["time"]),
            "tag": product.tag,
            "pair": product.pair,
            "markPrice": self.mark(at),
            "bid": bid[0],
            "bidSize": bid[1],
            "ask": ask[0],
            "askSize": ask[1],
            "vol24h": product.size_of(self._volume),
            "volumeQuote": self._volume_quote(),
            "openInterest": product.size_of(self._open_interest),
            "open24h": day["open"],
            "high24h": day["high"],
            "low24h": day["low"],
            "lastSize": last["qty"],
        }
        if not product.maturity_ms:
            funding = self._funding(at)
            row["fundingRate"] = funding["funding_rate"]
            row["fundingRatePrediction"] = funding["funding_rate_prediction"]
        row["suspended"] = False
        row["indexPrice"] = self.index(at)
        row["postOnly"] = product.instrument["postOnly"]
        row["change24h"] = self._change(at)
        return row

    # The book.

    def _fill(self, side: Side, levels: int, generator: random.Random) -> None:
        """Levels close together near the middle, further and further apart away from it."""
        reach, fair = max(0.0, 0.3 * self._fair - LEVELS * self._spacing), side.sign * self._fair
        # The bid side begins a tick lower, or both might begin at one price.
        best = math.ceil(fair + 0.3 * self._spacing * generator.random()) + (side is self._bids)
        for number in range(levels):
            apart = int((number + 0.5 * generator.random()) * self._spacing)
            key = best + apart + int(reach * (number / LEVELS) ** 3)
            units = self._quantity(number, generator)
            if key not in side.units and key * side.sign > 0:
                side.units[key] = units
        side.keys = sorted(side.units)

    def _quantity(self, place: int, generator: random.Random | None = None) -> int:
        """Units of the level at that place of its side: many small, few large, less far away."""
        draw = (generator or self._random).random()
        return 1 + int(self._typical * (0.01 + 4 * draw**4) / (1 + place / 150))

    def _withdraw(self, side: Side, at: float, out: list[Publication]) -> None:
        """The best level is worse than fair to those who quote it: it goes."""
        key = side.keys[0]
        mine = self._mine(side, key)
        if len(side.keys) <= FEWEST:
            self._extend(side, at, out)
        elif mine:
            # No order is gone without a word: the market trades through it.
            others = side.units[key] - self._own(side, key)
            self._take(side, others + mine[0].next_part(), at, out)
        else:
            self._set(side, key, 0, at, out)

    def _improve(self, side: Side, fair: float, at: float, out: list[Publication]) -> None:
        """A new best level between the fair price and the best so far; never across the other."""
        other = self._bids if side is self._asks else self._asks
        nearest = max(math.ceil(side.sign * fair), 1 - other.keys[0])
        key = nearest + int(self._random.random() * self._spacing)
        if key < side.keys[0]:
            self._set(side, key, self._quantity(0), at, out)
        else:
            self._stir(side, at, out)

    def _stir(self, side: Side, at: float, out: list[Publication]) -> None:
        """A level somewhere, mostly near the best, is resized, removed, or joined by another."""
        draw, keys = self._random.random(), side.keys
        place = int(len(keys) * self._random.random() ** 3)
        key = keys[place]
        if len(keys) > LEVELS * 1.1:
            place, key, draw = len(keys) - 1, keys[-1], 0.9
        if draw > 0.8 and place and len(keys) > LEVELS * 0.9 and not self._own(side, key):
            return self._set(side, key, 0, at, out)
        if draw > 0.6 and self._insert(side, place, at, out):
            return None
        units = self._own(side, key) + self._quantity(place)
        return self._set(side, key, units + (units == side.units[key]), at, out)

    def _insert(self, side: Side, place: int, at: float, out: list[Publication]) -> bool:
        """A new level between this one and the next; False if there is no tick between them."""
        if place + 1 == len(side.keys):
            return False
        key, following = side.keys[place : place + 2]
        if following - key < 2:
            return False
        between = key + 1 + int(self._random.random() * (following - key - 1))
        self._set(side, between, self._quantity(place), at, out)
        return True

    def _extend(self, side: Side, at: float, out: list[Publication]) -> None:
        """A new worst level, unless the price would be nothing."""
        key = side.keys[-1] + self._spacing
        if key * side.sign > 0:
            self._set(side, key, self._quantity(len(side.keys)), at, out)

    def _mine(self, side: Side, key: int) -> list[Resting]:
        """The account's orders in that level, first come first."""
        buy = side is self._bids
        return [order for order in self.resting if order.key == key and order.buy == buy]

    def _own(self, side: Side, key: int) -> int:
        """Units of the account's orders in that level."""
        return sum(order.units for order in self._mine(side, key)) if self.resting else 0

    def _set(self, side: Side, key: int, units: int, at: float, out: list[Publication]) -> None:
        side.put(key, units)
        self.seq += 1
        self.changed_ms = int(at)
        tick, per_tick, unit, per_unit = self._scale
        payload = orjson.dumps(
            {
                "feed": "book",
                "product_id": self._id,
                "side": side.name,
                "seq": self.seq,
                "price": side.sign * key * tick / per_tick,
                "qty": units * unit / per_unit,
                "timestamp": self.changed_ms,
            }
        )
        out.append(Publication("book", self._id, payload))

    def _best(self, side: Side) -> tuple[float, float]:
        key = side.keys[0]
        return self.product.price_of(abs(key)), self.product.size_of(side.units[key])

    def _move(self, at: float) -> float:
        """The fair price in ticks: the mark, and a walk that keeps coming back to it."""
        if at - self._fair_at >= 50:
            self._fair, self._fair_at = self._ticks(self.mark(at)), at
        self._walk = 0.99 * self._walk + (self._random.random() - 0.5) * 0.5 * self._spacing
        return self._fair + self._walk

    def _ticks(self, price: float) -> float:
        return price / self.product.price_of(1)

    # The trades.

    def _take(
        self,
        side: Side,
        units: int,
        at: float,
        out: list[Publication],
        worst: int | None = None,
    ) -> list[dict[str, Any]]:
        """A taker eats through the levels of a side, a trade and a change of the book for each,
        to the key ``worst`` at most; gives the trades with others than the account."""
        trades = []
        while units > 0 and len(side.keys) > FEWEST:
            key = side.keys[0]
            if worst is not None and key > worst:
                break
            there, own = side.units[key], self._own(side, key)
            others = min(units, there - own)
            ours = min(units - others, own)
            if others:
                trades.append(self._print(side, key, others, at, out))
            mine = [
                (order, part, self._print(side, key, part, at, out))
                for order, part in self._shares(side, key, ours)
            ]
            self._set(side, key, there - others - ours, at, out)
            for order, part, trade in mine:
                self._tell(order, part, trade, out)
            units -= others + ours
        return trades

    def _shares(self, side: Side, key: int, units: int) -> Iterator[tuple[Resting, int]]:
        """Which of the account's orders in a level lose how much."""
        for order in self._mine(side, key) if units else ():
            part = min(units, order.units)
            units -= part
            if part:
                yield order, part

    def _tell(
        self, order: Resting, units: int, trade: dict[str, Any], out: list[Publication]
    ) -> None:
        """An order of the account lost so much to a trade."""
        order.units -= units
        if not order.units:
            self.resting.remove(order)
        if self.filled is not None:
            self.filled(order, units, trade, out)

    def _print(
        self, side: Side, key: int, units: int, at: float, out: list[Publication]
    ) -> dict[str, Any]:
        """A trade at a level of ``side``, which the taker was on the other side of."""
        trade = self._record("buy" if side is self._asks else "sell", abs(key), units, at)
        out.append(Publication("trade", self.product.id, orjson.dumps(trade)))
        return trade

    def _record(self, taker: str, ticks: int, units: int, at: float) -> dict[str, Any]:
        self._trade_seq += 1
        trade = self._trade(taker, ticks, units, at, self._trade_seq, self._random)
        self._trades.appendleft(trade)
        self._volume += units
        # A trade opens a contract, hands one on, or closes one.
        opened = self._random.choice((0, 0, 1, 1, -1)) * units
        self._open_interest = max(0, self._open_interest + opened)
        return trade

    def _trade(
        self, taker: str, ticks: int, units: int, at: float, seq: int, generator: random.Random
    ) -> dict[str, Any]:
        return {
            "product_id": self._id,
            "feed": "trade",
            "uid": new_uuid(generator),
            "side": taker,
            "type": "fill",
            "time": int(at),
            "qty": self.product.size_of(units),
            "price": self.product.price_of(ticks),
            "seq": seq,
        }

    def _remember(self, start_ms: float, trades: int, generator: random.Random) -> None:
        """The last trades before the start, near where the market was at their time."""
        best = (("buy", self._asks.keys[0]), ("sell", -self._bids.keys[0]))
        at = start_ms
        for number in range(trades):
            at -= 1 + generator.expovariate(1 / 600)
            moved = self._ticks(self.mark(at)) - self._fair
            taker, ticks = generator.choice(best)
            units = self._taken(generator)
            seq = self._trade_seq - number
            self._trades.append(
                self._trade(taker, max(1, round(ticks + moved)), units, at, seq, generator)
            )

    def _taken(self, generator: random.Random) -> int:
        """Units that a taker wants: mostly few, sometimes many."""
        return max(1, int(self._typical * (0.002 + generator.random() ** 6)))

    # The ticker.

    def _premium(self, at: float) -> float:
        """Futures over index, as a fraction: up to two basis points, in waves of half an hour."""
        return 2e-4 * math.sin(at * math.tau / (HOUR_MS / 2) + self._shift)

    def _premium_percent(self, at: float) -> float:
        index = self._index.at(at)
        return round(100 * (self.mark(at) - index) / index, 1)

    def _funding(self, at: float) -> dict[str, float]:
        """The rates of the hour. The usable one is relative; the absolute one is an amount."""
        hour = int(at) // HOUR_MS
        now, coming = self._relative_rate(hour), self._relative_rate(hour + 1)
        return {
            "funding_rate": self._absolute_rate(now, hour),
            "funding_rate_prediction": self._absolute_rate(coming, hour),
            "relative_funding_rate": now,
            "relative_funding_rate_prediction": coming,
            "next_funding_rate_time": (hour + 1) * HOUR_MS,
        }

    def _relative_rate(self, hour: int) -> float:
        """A fraction of the price per hour."""
        return _digits(3e-6 + 1e-5 * math.sin(0.7 * hour + self._shift), 13)

    def _absolute_rate(self, relative: float, hour: int) -> float:
        """Quote currency per contract, or coin per contract of one dollar."""
        price = self._index.at(hour * HOUR_MS)
        return _digits(relative / price if self.product.is_inverse else relative * price, 16)

    def _days(self, at: float) -> int:
        return max(0, int(self.product.maturity_ms - at) // DAY_MS)

    def _volume_quote(self) -> float:
        """In quote currency for linear products; the same as the volume for inverse ones."""
        size = self.product.size_of(self._volume)
        return size if self.product.is_inverse else round(size * self._trades[0]["price"], 4)

    def _day(self, at: float) -> dict[str, float]:
        """What the last 24 hours saw, as far as index and last trades know."""
        product, last = self.product, self._trades[0]["price"]
        moments = [self.mark(at - hour * HOUR_MS) for hour in range(1, 25)]
        prices = [product.price_of(product.ticks_of(price)) for price in moments]
        recent = [trade["price"] for trade in self._trades]
        return {
            "open": prices[-1],
            "high": max(*prices, *recent, last),
            "low": min(*prices, *recent, last),
        }

    def _change(self, at: float) -> float:
        opening = self.mark(at - DAY_MS)
        last: float = self._trades[0]["price"]
        return round(100 * (last - opening) / opening, 2)


def new_uuid(generator: random.Random) -> str:
    """A UUID out of a seeded generator."""
    return str(uuid.UUID(int=generator.getrandbits(128), version=4))


def _digits(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")
