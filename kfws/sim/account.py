"""The account of the simulated venue: a trader who places an order every few seconds.

Rule of this room: everything that the private feeds say follows from the same fills, and
every fill is a public trade, so that all of it can be checked against each other.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import orjson

from kfws.protocol.venue import Publication
from kfws.sim.listing import Product, iso
from kfws.sim.trading import Resting, Trading, new_uuid

__all__ = ["Account"]

MAKER_FEE = 0.0002
"""Of the value: two basis points, the venue's published fee of the first tier."""

KEPT = 100
"""Fills and log entries in a snapshot. How many the venue sends is unknown."""

STEP_MS = (800, 2400)
"""How long the trader waits between two steps, at least and at most."""

ORDERS = ("open_orders", "open_orders_verbose")

NOTICE = "This is a simulated venue: nothing here is traded, and no money is real."


class Position:
    """What is held of one product, and how much is gained or lost on it."""

    def __init__(self, trading: Trading, units: int, entry_price: float, at: int) -> None:
        self.trading = trading
        self.units = units
        self.entry_price = entry_price
        self.filled_ms = at

    @property
    def size(self) -> float:
        return self.trading.product.size_of(self.units)

    def pnl(self, at: float) -> float:
        return (self.trading.mark(at) - self.entry_price) * self.size

    def value(self, at: float) -> float:
        return abs(self.size) * self.trading.mark(at)

    def margins(self, at: float) -> tuple[float, float]:
        """Initial and maintenance margin."""
        level = self.trading.product.instrument["marginLevels"][0]
        value = self.value(at)
        return value * level["initialMargin"], value * level["maintenanceMargin"]

    def fill(self, units: int, price: float, at: int) -> float:
        """Adds signed units at a price; gives the profit that this realized."""
        product, before = self.trading.product, self.units
        self.units += units
        self.filled_ms = at
        if before * units >= 0:
            held, added = abs(before), abs(units)
            self.entry_price = (self.entry_price * held + price * added) / (held + added)
            return 0.0
        closed = min(abs(before), abs(units)) * (1 if before > 0 else -1)
        realized = (price - self.entry_price) * product.size_of(closed)
        if self.units * before <= 0:
            self.entry_price = price if self.units else 0.0
        return realized

    def describe(self, at: float) -> dict[str, Any]:
        """An entry of ``open_positions``."""
        initial, maintenance = self.margins(at)
        pnl = self.pnl(at)
        return {
            "instrument": self.trading.product.id,
            "balance": self.size,
            "pnl": pnl,
            "entry_price": self.entry_price,
            "mark_price": self.trading.mark(at),
            "index_price": self.trading.index(at),
            "liquidation_threshold": 0.0,
            "effective_leverage": self.value(at) / Account.DEPOSIT,
            "return_on_equity": 100 * pnl / initial if initial else 0.0,
            "unrealized_funding": 0.0,
            "initial_margin": initial,
            "initial_margin_with_orders": initial,
            "maintenance_margin": maintenance,
            "pnl_currency": "USD",
            "fill_time": iso(self.filled_ms),
        }


class Order:
    """An order of the trader, as ``open_orders`` tells it."""

    def __init__(self, id: str, product: Product, resting: Resting, at: float) -> None:
        self.id = id
        self.product = product
        self.resting = resting
        self.placed_ms = self.updated_ms = int(at)

    @property
    def client_id(self) -> str:
        return f"sim-{self.id[:8]}"

    def describe(self) -> dict[str, Any]:
        """``qty`` is what remains, as on the wire, and not what was ordered."""
        left = self.resting.units
        return {
            "instrument": self.product.id,
            "time": self.placed_ms,
            "last_update_time": self.updated_ms,
            "qty": self.product.size_of(left),
            "filled": self.product.size_of(self.resting.placed - left),
            "limit_price": self.product.price_of(abs(self.resting.key)),
            "stop_price": 0.0,
            "type": "limit",
            "order_id": self.id,
            "direction": 0 if self.resting.buy else 1,
            "reduce_only": False,
            "cli_ord_id": self.client_id,
        }


class Account:
    """One trader on one product, and what the private feeds say of them."""

    DEPOSIT = 100_000.0
    """US dollars at the start."""

    def __init__(self, seed: int, trading: Trading, start_ms: int) -> None:
        self._random = random.Random(f"{seed}:account")
        self.id = new_uuid(self._random)
        self._trading = trading
        trading.filled = self._filled
        self._usd = self.DEPOSIT
        self._order: Order | None = None
        self._stop = self._protective_stop(start_ms)
        self._fills: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._log: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._fill_seq = self._random.randrange(10, 1000)
        self._log_id = self._random.randrange(1000, 100_000)
        self._balances_seq = self._positions_seq = self._margins_seq = 0
        units = self._lot()
        price = trading.product.price_of(trading.product.ticks_of(trading.mark(start_ms - 60_000)))
        self._position = Position(trading, 0, 0.0, start_ms)
        # The account begins with one fill behind it, so that no snapshot is empty.
        uid = new_uuid(self._random)
        self._book_fill(uid, "market", True, units, 0, price, start_ms - 60_000, uid)

    # What the trader does.

    def step(self, at: float, out: list[Publication]) -> float:
        """Places an order, or has somebody hit the one that rests; gives the next moment."""
        order = self._order
        if order is None and self._random.random() < 0.1:
            self._be_rejected(at, out)
        elif order is None:
            self._place(at, out)
        elif not self._trading.reach(order.resting, at, out):
            self._cancel(order, at, out)
        return at + self._random.uniform(*STEP_MS)

    def _lot(self) -> int:
        return max(4, int(self._trading.product.units_of(1000 / self._trading.product.price)))

    def _place(self, at: float, out: list[Publication]) -> None:
        # Back towards nothing when much is held.
        held, lot = self._position.units, self._lot()
        buy = held < -3 * lot or (held < 3 * lot and self._random.random() < 0.5)
        units = int(lot * self._random.uniform(0.5, 1.5))
        resting = self._trading.rest(buy, units, at, out)
        self._order = Order(new_uuid(self._random), self._trading.product, resting, at)
        self._tell_order(self._order, False, "new_placed_order_by_user", out)
        self._tell_state(at, out)

    def _be_rejected(self, at: float, out: list[Publication]) -> None:
        """A post-only order that would have traded at once: only the verbose feed tells."""
        product, lot = self._trading.product, self._lot()
        best_ask = product.ticks_of(self._trading.levels("sell")[0][0])
        order = Order(new_uuid(self._random), product, Resting(True, -best_ask, lot, lot), at)
        message = {
            "feed": "open_orders_verbose",
            "order": order.describe(),
            "is_cancel": True,
            "reason": "post_order_failed_because_it_would_be_filled",
        }
        _publish(out, "open_orders_verbose", message)

    def _cancel(self, order: Order, at: float, out: list[Publication]) -> None:
        """The market has gone away: a cancel names the order by its id alone."""
        self._trading.cancel(order.resting, at, out)
        self._order = None
        for feed in ORDERS:
            message = {
                "feed": feed,
                "order_id": order.id,
                "cli_ord_id": order.client_id,
                "is_cancel": True,
                "reason": "cancelled_by_user",
            }
            _publish(out, feed, message)
        self._tell_state(at, out)

    def _filled(
        self, resting: Resting, units: int, trade: dict[str, Any], out: list[Publication]
    ) -> None:
        """A public trade hit the order: everything private follows from it."""
        order = self._order
        if order is None:
            return
        at = order.updated_ms = trade["time"]
        done = resting.units == 0
        fill, entries = self._book_fill(
            order.id, "limit", resting.buy, units, resting.units, trade["price"], at, trade["uid"]
        )
        message = {"feed": "fills", "username": self.id, "fills": [fill]}
        product = self._trading.product.id
        out.append(Publication("fills", product, orjson.dumps(message)))
        self._tell_order(order, done, "full_fill" if done else "partial_fill", out)
        if done:
            self._order = None
        for entry in entries:
            _publish(out, "account_log", {"feed": "account_log", "new_entry": entry})
        self._tell_state(at, out)

    # What the books of the account say.

    def _book_fill(
        self,
        order_id: str,
        kind: str,
        buy: bool,
        units: int,
        left: int,
        price: float,
        at: int,
        uid: str,
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Takes a fill into position, balance and log; gives its entries in fills and log."""
        product, position = self._trading.product, self._position
        before = (position.size, position.entry_price, self._usd)
        fee = round(price * product.size_of(units) * MAKER_FEE, 8)
        realized = round(position.fill(units if buy else -units, price, at), 8)
        self._usd = round(self._usd + realized - fee, 8)
        self._fill_seq += self._random.choice((1, 1, 1, 2, 3))  # not consecutive on the venue
        fill = {
            "instrument": product.id,
            "time": at,
            "price": price,
            "seq": self._fill_seq,
            "buy": buy,
            "qty": product.size_of(units),
            "remaining_order_qty": product.size_of(left),
            "order_id": order_id,
            "cli_ord_id": f"sim-{order_id[:8]}",
            "fill_id": uid,
            "fill_type": "maker" if kind == "limit" else "taker",
            "fee_paid": fee,
            "fee_currency": "USD",
            "taker_order_type": "market",
            "order_type": kind,
        }
        self._fills.append(fill)
        entries = [
            self._entry(product.id.lower(), before[0], position.size, before[1], fill, realized),
            self._entry("usd", before[2], self._usd, 0.0, fill, realized),
        ]
        self._log.extendleft(entries)
        return fill, entries

    def _entry(
        self,
        asset: str,
        old: float,
        new: float,
        old_entry_price: float,
        fill: dict[str, Any],
        realized: float,
    ) -> dict[str, Any]:
        self._log_id += 1
        is_position = asset != "usd"
        return {
            "id": self._log_id,
            "date": iso(fill["time"]),
            "asset": asset,
            "info": "futures trade",
            "booking_uid": new_uuid(self._random),
            "margin_account": "flex",
            "old_balance": old,
            "new_balance": new,
            "old_average_entry_price": old_entry_price,
            "new_average_entry_price": self._position.entry_price if is_position else 0.0,
            "trade_price": fill["price"],
            "mark_price": self._trading.mark(fill["time"]),
            "realized_pnl": realized,
            "fee": fill["fee_paid"],
            "execution": fill["fill_id"],
            "collateral": "usd",
            "contract": fill["instrument"],
            "funding_rate": 0.0,
            "realized_funding": 0.0,
            "conversion_spread_percentage": 0.0,
            "liquidation_fee": 0.0,
        }

    def _tell_order(self, order: Order, closed: bool, reason: str, out: list[Publication]) -> None:
        for feed in ORDERS:
            message = {
                "feed": feed,
                "order": order.describe(),
                "is_cancel": closed,
                "reason": reason,
            }
            _publish(out, feed, message)

    def _tell_state(self, at: float, out: list[Publication]) -> None:
        self._positions_seq += 1
        self._balances_seq += 1
        self._margins_seq += 1
        _publish(out, "open_positions", self._positions(at))
        balances = {
            "feed": "balances",
            "account": self.id,
            "flex_futures": self._flex(at),
            "timestamp": int(at),
            "seq": self._balances_seq,
        }
        _publish(out, "balances", balances)
        _publish(out, "account_balances_and_margins", self._margin_accounts(at))

    # What a subscriber is told first.

    def snapshot(self, feed: str, product: str | None, at: float) -> list[bytes]:
        """The first frames of a private feed; ``product`` filters fills."""
        match feed:
            case "fills":
                fills = [fill for fill in self._fills if product in (None, fill["instrument"])]
                message: dict[str, Any] = {"account": self.id, "fills": fills}
            case "open_orders" | "open_orders_verbose":
                orders = [self._stop] + ([self._order.describe()] if self._order else [])
                message = {"account": self.id, "orders": orders}
            case "balances":
                message = self._balances(at)
            case "account_log":
                message = {"logs": list(self._log)}
            case "open_positions":
                return [orjson.dumps(self._positions(at))]
            case "account_balances_and_margins":
                return [orjson.dumps(self._margin_accounts(at))]
            case "notifications_auth":
                return [orjson.dumps(self._notifications(at))]
            case _:
                return []  # deposits_withdrawals: nobody knows what it carries
        return [orjson.dumps({"feed": f"{feed}_snapshot", **message})]

    def _protective_stop(self, start_ms: int) -> dict[str, Any]:
        """A stop far below the market that is never reached."""
        product = self._trading.product
        far = product.price_of(product.ticks_of(0.8 * product.price))
        return {
            "instrument": product.id,
            "time": start_ms - 60_000,
            "last_update_time": start_ms - 60_000,
            "qty": product.size_of(self._lot()),
            "filled": 0.0,
            "limit_price": far,
            "stop_price": far,
            "type": "stop",
            "order_id": new_uuid(self._random),
            "direction": 1,
            "reduce_only": True,
            "triggerSignal": "mark",
        }

    def _positions(self, at: float) -> dict[str, Any]:
        return {
            "feed": "open_positions",
            "account": self.id,
            "positions": [self._position.describe(at)] if self._position.units else [],
            "seq": self._positions_seq,
            "timestamp": int(at),
        }

    def _balances(self, at: float) -> dict[str, Any]:
        wallet = {
            "name": "F-XBT:USD",
            "pair": "XBT/USD",
            "unit": "XBT",
            "portfolio_value": 0.25,
            "balance": 0.25,
            "maintenance_margin": 0.0,
            "initial_margin": 0.0,
            "available": 0.25,
            "unrealized_funding": 0.0,
            "pnl": 0.0,
        }
        return {
            "account": self.id,
            "holding": {"USD": 5000.0, "XBT": 0.1285407184, "ETH": 1.8714395862},
            "futures": {"F-XBT:USD": wallet},
            "flex_futures": self._flex(at),
            "timestamp": int(at),
            "seq": self._balances_seq,
        }

    def _flex(self, at: float) -> dict[str, Any]:
        """The multi-collateral wallet: one currency, one position, margined across."""
        pnl = self._position.pnl(at)
        initial, maintenance = self._position.margins(at)
        equity = self._usd + pnl
        margins = {
            "initial_margin": initial,
            "initial_margin_without_orders": initial,
            "maintenance_margin": maintenance,
            "pnl": pnl,
            "unrealized_funding": 0.0,
            "total_unrealized": pnl,
            "total_unrealized_as_margin": pnl,
        }
        totals = {
            "balance_value": self._usd,
            "portfolio_value": equity,
            "collateral_value": self._usd,
            **margins,
            "margin_equity": equity,
            "available_margin": equity - initial,
        }
        currency = {
            "quantity": self._usd,
            "value": self._usd,
            "collateral_value": self._usd,
            "available": equity - initial,
            "haircut": 0.0,
            "conversion_spread": 0.0,
        }
        leverage = self._position.value(at) / equity
        return {
            "currencies": {"USD": currency},
            **totals,
            "isolated": {},
            "cross": {**totals, "effective_leverage": leverage},
        }

    def _margin_accounts(self, at: float) -> dict[str, Any]:
        """The legacy feed, in its old abbreviations."""
        pnl = self._position.pnl(at)
        initial, maintenance = self._position.margins(at)
        flex = {
            "name": "flex",
            "pv": self._usd + pnl,
            "balance": self._usd,
            "funding": 0.0,
            "mm": maintenance,
            "pnl": pnl,
            "im": initial,
            "am": self._usd + pnl - initial,
        }
        return {
            "feed": "account_balances_and_margins",
            "account": self.id,
            "margin_accounts": [flex],
            "seq": self._margins_seq,
        }

    def _notifications(self, at: float) -> dict[str, Any]:
        notice = {
            "id": 1,
            "type": "general",
            "priority": "low",
            "note": NOTICE,
            "effective_time": int(at),
        }
        return {"feed": "notifications_auth", "notifications": [notice]}


def _publish(out: list[Publication], feed: str, message: dict[str, Any]) -> None:
    out.append(Publication(feed, None, orjson.dumps(message)))
