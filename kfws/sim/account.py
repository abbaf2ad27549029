"""The account of the simulated venue: a trader who places an order every few seconds, beside
whoever places orders over REST.

Rule of this room: everything that the private feeds say follows from the same fills, and
every fill is a public trade, so that all of it can be checked against each other.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from typing import Any

import orjson

from kfws.protocol.venue import Publication
from kfws.sim.listing import iso
from kfws.sim.trading import Resting, Trading, new_uuid

__all__ = ["Account", "Order", "Position", "Ticket"]

MAKER_FEE = 0.0002
TAKER_FEE = 0.0005
"""Of the value: two and five basis points, the venue's published fees of the first tier."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """An order that somebody wants to place: its price in ticks, its size in units."""

    buy: bool
    units: int
    ticks: int
    """The worst price; a market order has one, too."""
    kind: str = "limit"
    """``limit``, ``post``, ``ioc`` or ``market``."""
    client_id: str | None = None
    reduce_only: bool = False


@dataclass(slots=True, eq=False)
class Order:
    """An order of the account: units are counted, ``key`` is its price as ``Resting`` has it."""

    id: str
    trading: Trading
    placed_ms: int
    buy: bool
    ticks: int
    placed: int
    """Units ordered."""
    left: int
    """Units not filled."""
    client_id: str | None = None
    reduce_only: bool = False
    kind: str = "limit"
    stop_ticks: int = 0
    resting: Resting | None = None
    """None: not in the book, as a stop is not."""
    updated_ms: int = 0
    status: str = "ENTERED_BOOK"

    def __post_init__(self) -> None:
        self.updated_ms = self.updated_ms or self.placed_ms

    def describe(self) -> dict[str, Any]:
        """As ``open_orders`` tells it. ``qty`` is what remains, and not what was ordered."""
        product = self.trading.product
        told: dict[str, Any] = {
            "instrument": product.id,
            "time": self.placed_ms,
            "last_update_time": self.updated_ms,
            "qty": product.size_of(self.left),
            "filled": product.size_of(self.placed - self.left),
            "limit_price": product.price_of(self.ticks),
            "stop_price": product.price_of(self.stop_ticks) if self.stop_ticks else 0.0,
            "type": "stop" if self.kind == "stop" else "limit",
            "order_id": self.id,
            "direction": 0 if self.buy else 1,
            "reduce_only": self.reduce_only,
        }
        if self.kind == "stop":
            told["triggerSignal"] = "mark"
        if self.client_id is not None:
            told["cli_ord_id"] = self.client_id
        return told


class Account:
    """One trader on one product, and what the private feeds say of them."""

    DEPOSIT = 100_000.0
    """US dollars at the start."""

    def __init__(self, seed: int, trading: Trading, start_ms: int) -> None:
        self._random = random.Random(f"{seed}:account")
        # Apart, so that an order over REST changes no draw of the trader's.
        self._ids = random.Random(f"{seed}:orders")
        self.id = new_uuid(self._random)
        self._trading = trading
        self._usd = self.DEPOSIT
        self._order: Order | None = None
        self._open: dict[str, Order] = {}
        self._positions: dict[str, Position] = {}
        self.attend(trading, start_ms)
        self._keep(self._protective_stop(start_ms))
        self._fills: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._log: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._fill_seq = self._random.randrange(10, 1000)
        self._log_id = self._random.randrange(1000, 100_000)
        self._balances_seq = self._positions_seq = self._margins_seq = 0
        units = self._lot()
        price = trading.product.price_of(trading.product.ticks_of(trading.mark(start_ms - 60_000)))
        # The account begins with one fill behind it, so that no snapshot is empty.
        uid = new_uuid(self._random)
        opening = Order(uid, trading, start_ms - 60_000, True, 0, units, 0, f"sim-{uid[:8]}")
        opening.kind = "market"
        trade = {"price": price, "time": start_ms - 60_000, "uid": uid}
        self._book_fill(opening, units, trade, is_maker=False)

    def attend(self, trading: Trading, at: int) -> Position:
        """Hears of fills on a product from now on; gives what is held of it."""
        trading.filled = self._filled
        product = trading.product.id
        if product not in self._positions:
            self._positions[product] = Position(trading, 0, 0.0, at)
        return self._positions[product]

    # What the trader does.

    def step(self, at: float, out: list[Publication]) -> float:
        """Places an order, or has somebody hit the one that rests; gives the next moment."""
        order = self._order
        if order is None and self._random.random() < 0.1:
            self._be_rejected(at, out)
        elif order is None:
            self._trade(at, out)
        elif order.resting is None or not self._trading.reach(order.resting, at, out):
            self.cancel(order, "cancelled_by_user", at, out)
        return at + self._random.uniform(*STEP_MS)

    def _lot(self) -> int:
        return max(4, int(self._trading.product.units_of(1000 / self._trading.product.price)))

    def _trade(self, at: float, out: list[Publication]) -> None:
        # Back towards nothing when much is held.
        held, lot = self._positions[self._trading.product.id].units, self._lot()
        buy = held < -3 * lot or (held < 3 * lot and self._random.random() < 0.5)
        units = int(lot * self._random.uniform(0.5, 1.5))
        resting = self._trading.rest(buy, units, at, out)
        order = self._new(buy, abs(resting.key), units, at)
        order.resting = resting
        self._order = self._keep(order)
        self._tell_order(order, False, "new_placed_order_by_user", out)
        self._tell_state(at, out)

    def _new(self, buy: bool, ticks: int, units: int, at: float) -> Order:
        id = new_uuid(self._random)
        return Order(id, self._trading, int(at), buy, ticks, units, units, f"sim-{id[:8]}")

    def _keep(self, order: Order) -> Order:
        self._open[order.id] = order
        return order

    def _be_rejected(self, at: float, out: list[Publication]) -> None:
        """A post-only order that would have traded at once: only the verbose feed tells."""
        best_ask = self._trading.best(buy=False)
        self._tell_rejected(self._new(True, best_ask, self._lot(), at), out)

    def _tell_rejected(self, order: Order, out: list[Publication]) -> None:
        message = {
            "feed": "open_orders_verbose",
            "order": order.describe(),
            "is_cancel": True,
            "reason": "post_order_failed_because_it_would_be_filled",
        }
        _publish(out, "open_orders_verbose", message)

    # What is done over REST. Whoever calls has checked the order.

    @property
    def orders(self) -> list[Order]:
        """Those that are open, the oldest first."""
        return list(self._open.values())

    def place(
        self, trading: Trading, ticket: Ticket, at: int, out: list[Publication]
    ) -> tuple[Order, list[dict[str, Any]]]:
        """Takes what is offered, then rests or ends; gives the order and its trades."""
        order = Order(
            new_uuid(self._ids),
            trading,
            at,
            ticket.buy,
            ticket.ticks,
            ticket.units,
            ticket.units,
            ticket.client_id,
            ticket.reduce_only,
            ticket.kind,
        )
        self.attend(trading, at)
        offered, _ = trading.offered(ticket.buy, ticket.ticks, ticket.units)
        if ticket.kind == "post" and offered:
            order.status = "REJECTED"
            self._tell_rejected(order, out)
            return order, []
        if ticket.kind in ("limit", "post"):
            self._keep(order)
            self._tell_order(order, False, "new_placed_order_by_user", out)
        trades = self._cross(order, at, out)
        if order.left and order.id not in self._open:
            order.status = "CANCELLED" if trades else "REJECTED"
            reason = "ioc_order_failed_because_it_would_not_be_executed"
            self._tell_order(order, True, reason, out)
        else:
            self._rest(order, at, out)
        self._tell_state(at, out)
        return order, trades

    def _rest(self, order: Order, at: int, out: list[Publication]) -> None:
        """What is left goes into the book; a simulated one that is nearly eaten up takes none."""
        if order.left and order.trading.offered(order.buy, order.ticks, order.left)[0]:
            self.cancel(order, "market_inactive", at, out)
        elif order.left:
            order.resting = order.trading.rest(order.buy, order.left, at, out, order.ticks)

    def _cross(self, order: Order, at: int, out: list[Publication]) -> list[dict[str, Any]]:
        """The order as a taker, as far as its price goes."""
        trading = order.trading
        trades = trading.cross(order.buy, order.ticks, order.left, at, out)
        for trade in trades:
            units = trading.product.units_of(trade["qty"])
            self._fill(order, units, trade, out, is_maker=False)
        return trades

    def amend(
        self, order: Order, ticks: int, units: int, at: int, out: list[Publication]
    ) -> list[dict[str, Any]]:
        """Another price or size (of all that was ordered), last in its queue; gives the trades."""
        if order.resting is not None:
            order.trading.cancel(order.resting, at, out)
            order.resting = None
        order.left += units - order.placed
        order.placed, order.ticks, order.updated_ms = units, ticks, at
        self._tell_order(order, False, "edited_by_user", out)
        trades = self._cross(order, at, out)
        self._rest(order, at, out)
        self._tell_state(at, out)
        return trades

    def cancel(self, order: Order, reason: str, at: float, out: list[Publication]) -> None:
        """Ends an open order; a cancel names it by its id alone."""
        if order.resting is not None:
            order.trading.cancel(order.resting, at, out)
            order.resting = None
        self._forget(order, "CANCELLED")
        order.updated_ms = int(at)
        names = {"order_id": order.id}
        if order.client_id is not None:
            names["cli_ord_id"] = order.client_id
        for feed in ORDERS:
            _publish(out, feed, {"feed": feed, **names, "is_cancel": True, "reason": reason})
        self._tell_state(at, out)

    def _forget(self, order: Order, status: str) -> None:
        order.status = status
        del self._open[order.id]
        if order is self._order:
            self._order = None

    def _filled(
        self, resting: Resting, units: int, trade: dict[str, Any], out: list[Publication]
    ) -> None:
        """A public trade hit a resting order."""
        for order in self.orders:
            if order.resting is resting:
                self._fill(order, units, trade, out, is_maker=True)
                self._tell_state(trade["time"], out)

    def _fill(
        self,
        order: Order,
        units: int,
        trade: dict[str, Any],
        out: list[Publication],
        *,
        is_maker: bool,
    ) -> None:
        """Everything private follows from a public trade."""
        order.left -= units
        order.updated_ms = trade["time"]
        done = order.left == 0
        fill, entries = self._book_fill(order, units, trade, is_maker=is_maker)
        message = {"feed": "fills", "username": self.id, "fills": [fill]}
        out.append(Publication("fills", fill["instrument"], orjson.dumps(message)))
        if order.id in self._open:
            self._tell_order(order, done, "full_fill" if done else "partial_fill", out)
        if done:
            order.status = "FULLY_EXECUTED"
            order.resting = None
            if order.id in self._open:
                self._forget(order, order.status)
        for entry in entries:
            _publish(out, "account_log", {"feed": "account_log", "new_entry": entry})

    # What the books of the account say.

    def _book_fill(
        self, order: Order, units: int, trade: dict[str, Any], *, is_maker: bool
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Takes a fill into position, balance and log; gives its entries in fills and log."""
        product, position = order.trading.product, self._positions[order.trading.product.id]
        price, at = trade["price"], trade["time"]
        before = (position.size, position.entry_price, self._usd)
        rate = MAKER_FEE if is_maker else TAKER_FEE
        fee = round(price * product.size_of(units) * rate, 8)
        realized = round(position.fill(units if order.buy else -units, price, at), 8)
        self._usd = round(self._usd + realized - fee, 8)
        self._fill_seq += self._random.choice((1, 1, 1, 2, 3))  # not consecutive on the venue
        kind = "market" if order.kind == "market" else "limit"
        fill = {
            "instrument": product.id,
            "time": at,
            "price": price,
            "seq": self._fill_seq,
            "buy": order.buy,
            "qty": product.size_of(units),
            "remaining_order_qty": product.size_of(order.left),
            "order_id": order.id,
            **({} if order.client_id is None else {"cli_ord_id": order.client_id}),
            "fill_id": trade["uid"],
            "fill_type": "maker" if is_maker else "taker",
            "fee_paid": fee,
            "fee_currency": "USD",
            "taker_order_type": "market" if is_maker else kind,
            "order_type": kind,
        }
        self._fills.append(fill)
        entries = [
            self._entry(
                position, product.id.lower(), before[0], position.size, before[1], fill, realized
            ),
            self._entry(position, "usd", before[2], self._usd, 0.0, fill, realized),
        ]
        self._log.extendleft(entries)
        return fill, entries

    def _entry(
        self,
        position: Position,
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
            "new_average_entry_price": position.entry_price if is_position else 0.0,
            "trade_price": fill["price"],
            "mark_price": position.trading.mark(fill["time"]),
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
        _publish(out, "open_positions", self._positions_message(at))
        balances = {
            "feed": "balances",
            "account": self.id,
            "flex_futures": self.flex(at),
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
                orders = [order.describe() for order in self.orders]
                message = {"account": self.id, "orders": orders}
            case "balances":
                message = self.balances(at)
            case "account_log":
                message = {"logs": list(self._log)}
            case "open_positions":
                return [orjson.dumps(self._positions_message(at))]
            case "account_balances_and_margins":
                return [orjson.dumps(self._margin_accounts(at))]
            case "notifications_auth":
                notices = self.notifications(at)
                return [orjson.dumps({"feed": feed, "notifications": notices})]
            case _:
                return []  # deposits_withdrawals: nobody knows what it carries
        return [orjson.dumps({"feed": f"{feed}_snapshot", **message})]

    def _protective_stop(self, start_ms: int) -> Order:
        """A stop far below the market that is never reached."""
        product, units = self._trading.product, self._lot()
        far = product.ticks_of(0.8 * product.price)
        id, at = new_uuid(self._random), start_ms - 60_000
        order = Order(id, self._trading, at, False, far, units, units, reduce_only=True)
        order.kind, order.stop_ticks = "stop", far
        return order

    def _positions_message(self, at: float) -> dict[str, Any]:
        return {
            "feed": "open_positions",
            "account": self.id,
            "positions": [position.describe(at) for position in self.positions],
            "seq": self._positions_seq,
            "timestamp": int(at),
        }

    @property
    def positions(self) -> list[Position]:
        """Those that are open."""
        return [position for position in self._positions.values() if position.units]

    @property
    def fills(self) -> list[dict[str, Any]]:
        """The last ones as the feed tells them, the oldest first."""
        return list(self._fills)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The last entries of the account's log, the newest first."""
        return list(self._log)

    def balances(self, at: float) -> dict[str, Any]:
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
            "flex_futures": self.flex(at),
            "timestamp": int(at),
            "seq": self._balances_seq,
        }

    def flex(self, at: float) -> dict[str, Any]:
        """The multi-collateral wallet: one currency, one position, margined across."""
        pnl, initial, maintenance = self._totals(at)
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
        leverage = sum(position.value(at) for position in self.positions) / equity
        return {
            "currencies": {"USD": currency},
            **totals,
            "isolated": {},
            "cross": {**totals, "effective_leverage": leverage},
        }

    def _totals(self, at: float) -> tuple[float, float, float]:
        """Profit not taken, initial and maintenance margin, of all positions."""
        margins = [position.margins(at) for position in self.positions]
        return (
            sum((position.pnl(at) for position in self.positions), 0.0),
            sum((initial for initial, _ in margins), 0.0),
            sum((maintenance for _, maintenance in margins), 0.0),
        )

    def _margin_accounts(self, at: float) -> dict[str, Any]:
        """The legacy feed, in its old abbreviations."""
        pnl, initial, maintenance = self._totals(at)
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

    def notifications(self, at: float) -> list[dict[str, Any]]:
        """What the venue lets its users know."""
        return [
            {
                "id": 1,
                "type": "general",
                "priority": "low",
                "note": NOTICE,
                "effective_time": int(at),
            }
        ]


def _publish(out: list[Publication], feed: str, message: dict[str, Any]) -> None:
    out.append(Publication(feed, None, orjson.dumps(message)))
