"""The REST side of the simulated venue: a request in, a status and a body out.

Rule of this room: no socket and no clock; the market's time is the time. Paths, parameters and
the shapes of answers are those of the venue's documentation (derivatives, v3); failures have
the two recorded forms. Of orders, those that rest or execute at once are simulated (``lmt``,
``post``, ``ioc``, ``mkt``) on linear products; all others are refused in the venue's own form.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from hmac import compare_digest
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import orjson

from kfws.protocol.auth import sign_request
from kfws.protocol.venue import Publication
from kfws.sim.account import Account, Order, Ticket
from kfws.sim.listing import Product, iso
from kfws.sim.market import Market
from kfws.sim.spelling import (
    execution_of,
    fee_schedules,
    fill_of,
    flex_of,
    open_order_of,
    order_of,
    position_of,
    status_of,
    trade_of,
    wallet_of,
)
from kfws.sim.trading import Trading

__all__ = ["Answer", "Asked", "Desk"]

API = "/derivatives/api/v3/"
HISTORY = "/api/history/v2/"

NONCES_KEPT = 100
"""How far behind the newest ones a nonce may be. The venue tolerates some; how many is unknown."""

BUDGET, BUDGET_MS = 500, 10_000
"""Cost units, and the time that they are for: the venue's documented limit."""

COSTS = {
    "sendorder": 10,
    "editorder": 10,
    "cancelorder": 10,
    "cancelallorders": 25,
    "cancelallordersafter": 25,
    "accounts": 2,
    "openpositions": 2,
    "openorders": 2,
    "fills": 2,
    "orders/status": 1,
}

LONGEST_CLIENT_ID = 100
ORDERS_KEPT = 1000
WATCH_MS = 100

MARKET_REACH = Fraction(1, 100)
"""How far from the best price a market order goes, as the venue protects it."""

KINDS = {"lmt": "limit", "post": "post", "ioc": "ioc", "mkt": "market"}

Params = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came: query and body not decoded, names of headers in lower case."""

    method: str
    path: str
    query: str = ""
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The path within its API, e.g. ``orders/status``; empty for any other."""
        for root in (API, HISTORY):
            if self.path.startswith(root):
                return self.path.removeprefix(root).rstrip("/")
        return ""

    @property
    def params(self) -> dict[str, str]:
        """Of query and body; of a key that stands there twice the last."""
        pairs = parse_qs(f"{self.query}&{self.body}", keep_blank_values=True)
        return {key: values[-1] for key, values in pairs.items()}

    def all(self, key: str) -> list[str]:
        return parse_qs(f"{self.query}&{self.body}").get(key, [])


class Answer(NamedTuple):
    """An HTTP status, a JSON body, and what the request brought about on the feeds."""

    status: int
    body: bytes
    published: list[Publication]


class _No(Exception):
    """A request is turned down: the venue's word, or the message of an invalid argument."""

    def __init__(self, word: str = "", *, argument: str = "") -> None:
        super().__init__(word or argument)
        self.word = word
        self.argument = argument


class Desk:
    """Answers requests to one market. ``accounts`` maps an API key to its secret in base64."""

    def __init__(self, market: Market, accounts: Mapping[str, str]) -> None:
        self._market = market
        self._accounts = accounts
        self._nonces: dict[str, deque[int]] = {}
        self._spent: deque[tuple[int, int]] = deque()
        self._orders: dict[str, Order] = {}
        self._deadline_ms: int | None = None
        self._is_watching = False
        self._out: list[Publication] = []
        self._private: dict[tuple[str, str], Callable[[Asked], dict[str, Any]]] = {
            ("GET", "accounts"): self._accounts_of,
            ("GET", "openpositions"): self._open_positions,
            ("GET", "openorders"): self._open_orders,
            ("GET", "fills"): self._fills,
            ("GET", "notifications"): self._notifications,
            ("GET", "account-log"): self._account_log,
            ("POST", "orders/status"): self._orders_status,
            ("POST", "sendorder"): lambda asked: {"sendStatus": self._send(asked.params)},
            ("POST", "editorder"): lambda asked: {"editStatus": self._edit(asked.params)},
            ("POST", "cancelorder"): lambda asked: {"cancelStatus": self._cancel(asked.params)},
            ("POST", "cancelallorders"): self._cancel_all,
            ("POST", "cancelallordersafter"): self._cancel_all_after,
            ("POST", "batchorder"): self._batch,
        }

    def answer(self, asked: Asked) -> Answer:
        """The venue's answer; never raises for what a request holds."""
        found = self.public(asked)
        if found is not None:
            return found
        private = self._private.get((asked.method, asked.name))
        if private is None:
            return Answer(404, self._market.not_found(), [])
        self._out = []
        try:
            self._admit(asked)
            body = self._market.enveloped(**private(asked))
        except _No as no:
            return self._refused(no)
        return Answer(200, body, self._out)

    def public(self, asked: Asked) -> Answer | None:
        """The answer to what anybody may ask; None to all else."""
        if asked.method != "GET" or not asked.path.startswith(API):
            return None
        try:
            body = self._public_body(asked.name.split("/"), asked.params)
        except _No as no:
            return self._refused(no)
        return None if body is None else Answer(200, body, [])

    # Who may ask.

    def _refused(self, no: _No) -> Answer:
        now = iso(self._market.now_ms)
        if no.word:
            refusal = {"result": "error", "error": no.word, "serverTime": now}
            return Answer(200, orjson.dumps(refusal), [])
        failure = {"code": 11, "message": f"Argument invalid: {no.argument}"}
        refusal = {"status": "BAD_REQUEST", "result": "error"}
        return Answer(400, orjson.dumps({**refusal, "errors": [failure], "serverTime": now}), [])

    def _admit(self, asked: Asked) -> None:
        """Checks key, signature, nonce and budget."""
        key, nonce = asked.headers.get("apikey", ""), asked.headers.get("nonce", "")
        secret = self._accounts.get(key)
        if secret is None:
            raise _No("authenticationError")
        signed = sign_request(secret, asked.query + asked.body, nonce, asked.path)
        if not compare_digest(asked.headers.get("authent", "").encode(), signed.encode()):
            raise _No("authenticationError")
        if nonce:
            self._take_nonce(key, nonce)
        self._spend(asked)

    def _take_nonce(self, key: str, text: str) -> None:
        if not re.fullmatch(r"[0-9]{1,30}", text):
            raise _No("authenticationError")
        nonce, seen = int(text), self._nonces.setdefault(key, deque(maxlen=NONCES_KEPT))
        if nonce in seen:
            raise _No("nonceDuplicate")
        if len(seen) == NONCES_KEPT and nonce < min(seen):
            raise _No("nonceBelowThreshold")
        seen.append(nonce)

    def _spend(self, asked: Asked) -> None:
        now, cost = self._market.now_ms, COSTS.get(asked.name, 0)
        if asked.name == "batchorder":
            cost = 9 + len(_batch_of(asked.params))
        if asked.name == "fills" and "lastFillTime" in asked.params:
            cost = 25
        while self._spent and self._spent[0][0] <= now - BUDGET_MS:
            self._spent.popleft()
        if sum(each for _, each in self._spent) + cost > BUDGET:
            raise _No("apiLimitExceeded")
        self._spent.append((now, cost))

    # What anybody may ask.

    def _public_body(self, path: list[str], params: Params) -> bytes | None:
        market = self._market
        match path:
            case ["instruments"]:
                return market.instruments()
            case ["instruments", "status"]:
                rows = [status_of(product) for product in market.products]
                return market.enveloped(instrumentStatus=rows)
            case ["instruments", symbol, "status"]:
                product = market.spelled(symbol)
                return market.enveloped(**status_of(product)) if product else None
            case ["tickers"]:
                return market.tickers()
            case ["tickers", symbol]:
                return market.ticker(symbol)
            case ["orderbook"]:
                book = market.book(self._symbol(params))
                return market.enveloped(orderBook={"asks": book.asks, "bids": book.bids})
            case ["history"]:
                trades = market.trades(self._symbol(params))
                return market.enveloped(history=[trade_of(trade) for trade in trades])
            case ["feeschedules"]:
                return market.enveloped(feeSchedules=fee_schedules())
            case _:
                return None

    def _symbol(self, params: Params) -> str:
        product = self._market.spelled(_required(params, "symbol"))
        if product is None:
            raise _No(argument="symbol")
        return product

    # What the account may ask.

    @property
    def _account(self) -> Account:
        return self._market.account()

    def _accounts_of(self, _: Asked) -> dict[str, Any]:
        balances = self._account.balances(self._market.now_ms)
        wallets = {
            name.lower().replace("f-", "fi_").replace(":", ""): wallet_of(wallet)
            for name, wallet in balances["futures"].items()
        }
        cash = {name.lower(): amount for name, amount in balances["holding"].items()}
        return {
            "accounts": {
                "cash": {"type": "cashAccount", "balances": cash},
                **wallets,
                "flex": flex_of(balances["flex_futures"]),
            }
        }

    def _open_positions(self, _: Asked) -> dict[str, Any]:
        return {"openPositions": [position_of(each) for each in self._account.positions]}

    def _open_orders(self, _: Asked) -> dict[str, Any]:
        return {"openOrders": [open_order_of(order) for order in self._account.orders]}

    def _fills(self, asked: Asked) -> dict[str, Any]:
        before = asked.params.get("lastFillTime")
        until = _moment_ms(before) if before else None
        fills = [fill for fill in self._account.fills if until is None or fill["time"] < until]
        return {"fills": [fill_of(fill) for fill in reversed(fills)]}

    def _notifications(self, _: Asked) -> dict[str, Any]:
        now = self._market.now_ms
        notices = self._account.notifications(now)
        return {
            "notifications": [
                {key: notice[key] for key in ("type", "priority", "note")}
                | {"effectiveTime": iso(notice["effective_time"])}
                for notice in notices
            ]
        }

    def _account_log(self, _: Asked) -> dict[str, Any]:
        return {"accountUid": self._account.id, "logs": self._account.log}

    def _orders_status(self, asked: Asked) -> dict[str, Any]:
        known = self._orders | {order.id: order for order in self._account.orders}
        wanted, named = asked.all("orderIds"), asked.all("cliOrdIds")
        return {
            "orders": [
                {
                    "order": {"type": "ORDER", **order_of(order)},
                    "status": order.status,
                    "updateReason": None,
                    "error": None,
                }
                for order in known.values()
                if order.id in wanted or order.client_id in named
            ]
        }

    # Orders.

    def _send(self, params: Params) -> dict[str, Any]:
        """``sendStatus``: what became of a new order."""
        kind = KINDS.get(_required(params, "orderType"))
        if kind is None:
            raise _No(argument="orderType")
        trading = self._trading(params)
        side = _required(params, "side")
        if side not in ("buy", "sell"):
            raise _No(argument="side")
        buy, product = side == "buy", trading.product
        units = _whole(_number(params, "size"), product.unit)
        ticks = _worst(trading, buy) if kind == "market" else _price(params, product)
        if units is None or ticks is None:
            return self._status("invalidSize" if units is None else "invalidPrice")
        ticket = Ticket(
            buy=buy,
            units=units,
            ticks=ticks,
            kind=kind,
            client_id=params.get("cliOrdId") or None,
            reduce_only=params.get("reduceOnly", "").lower() == "true",
        )
        objection = self._objection(trading, ticket)
        if objection and objection != "postWouldExecute":
            return self._status(objection)
        order, trades = self._account.place(trading, ticket, self._market.now_ms, self._out)
        self._remember(order)
        return self._status(objection or "placed", order, trades)

    def _objection(self, trading: Trading, ticket: Ticket) -> str | None:
        """Why an order is not taken, in the venue's word."""
        account, client_id = self._account, ticket.client_id
        held = account.attend(trading, self._market.now_ms).units
        reduces = held * (1 if ticket.buy else -1) < 0 and ticket.units <= abs(held)
        found, meets_own = trading.offered(ticket.buy, ticket.ticks, ticket.units)
        if client_id is not None and len(client_id) > LONGEST_CLIENT_ID:
            return "clientOrderIdTooBig"
        if client_id is not None and any(client_id == each.client_id for each in account.orders):
            return "clientOrderIdAlreadyExist"
        if ticket.reduce_only and not reduces:
            return "wouldNotReducePosition"
        if ticket.kind == "post" and (found or meets_own):
            return "postWouldExecute"
        if meets_own:
            return "selfFill"
        if ticket.kind in ("ioc", "market") and not found:
            return "iocWouldNotExecute"
        if not reduces and not self._affords(trading.product, ticket.units, ticket.ticks):
            return "insufficientAvailableFunds"
        return None

    def _affords(self, product: Product, units: int, ticks: int) -> bool:
        level = product.instrument["marginLevels"][0]
        needed = product.size_of(units) * product.price_of(ticks) * level["initialMargin"]
        return bool(needed <= self._account.flex(self._market.now_ms)["available_margin"])

    def _edit(self, params: Params) -> dict[str, Any]:
        """``editStatus``: what became of another price or size."""
        order = self._open(params, "orderId")
        if order is None or order.kind == "stop":
            return self._status("orderForEditNotFound")
        trading, product = order.trading, order.trading.product
        units: int | None = order.placed
        ticks: int | None = order.ticks
        if "size" in params:
            units = _whole(_number(params, "size"), product.unit)
        if "limitPrice" in params:
            ticks = _price(params, product)
        if units is None or units <= order.placed - order.left:
            return self._status("invalidSize")
        if ticks is None:
            return self._status("invalidPrice")
        found, meets_own = trading.offered(order.buy, ticks, units)
        if order.kind == "post" and found:
            return self._status("postWouldExecute")
        if meets_own:
            return self._status("selfFill")
        if units > order.placed and not self._affords(product, units - order.placed, ticks):
            return self._status("insufficientAvailableFunds")
        old = order_of(order)
        trades = self._account.amend(order, ticks, units, self._market.now_ms, self._out)
        self._remember(order)
        edit = {"type": "EDIT", "old": old, "new": order_of(order), "reducedQuantity": None}
        events = [edit, *(execution_of(order, trade) for trade in trades)]
        now = iso(self._market.now_ms)
        return {
            "status": "edited",
            "orderId": order.id,
            "receivedTime": now,
            "orderEvents": events,
        }

    def _cancel(self, params: Params) -> dict[str, Any]:
        """``cancelStatus``: what became of an order that is to go."""
        order = self._open(params, "order_id")
        if order is None:
            return self._status("notFound")
        return self._status("cancelled", order, events=[self._end(order, "cancelled_by_user")])

    def _end(self, order: Order, reason: str) -> dict[str, Any]:
        self._remember(order)
        self._account.cancel(order, reason, self._market.now_ms, self._out)
        return {"type": "CANCEL", "uid": order.id, "order": order_of(order)}

    def _cancel_all(self, asked: Asked) -> dict[str, Any]:
        only = self._symbol(asked.params) if "symbol" in asked.params else None
        orders = [
            order for order in self._account.orders if only in (None, order.trading.product.id)
        ]
        events = [self._end(order, "cancelled_by_user") for order in orders]
        return {
            "cancelStatus": {
                "status": "cancelled" if orders else "noOrdersToCancel",
                "receivedTime": iso(self._market.now_ms),
                "cancelOnly": only or "all",
                "cancelledOrders": [
                    {"order_id": order.id, "cliOrdId": order.client_id} for order in orders
                ],
                "orderEvents": events,
            }
        }

    def _cancel_all_after(self, asked: Asked) -> dict[str, Any]:
        """The dead man's switch: all orders go unless this is said again in time."""
        text = _required(asked.params, "timeout")
        if not re.fullmatch(r"[0-9]{1,6}", text):
            raise _No(argument="timeout")
        now, seconds = self._market.now_ms, int(text)
        self._deadline_ms = now + 1000 * seconds if seconds else None
        if not self._is_watching:
            self._is_watching = True
            self._account  # noqa: B018  # the market moves from now on
            self._market.watch(self._look_at_deadline, WATCH_MS)
        trigger = iso(self._deadline_ms) if self._deadline_ms else "0"
        return {"status": {"currentTime": iso(now), "triggerTime": trigger}}

    def _look_at_deadline(self, at: float, out: list[Publication]) -> None:
        if self._deadline_ms is None or at < self._deadline_ms:
            return
        self._deadline_ms = None
        for order in self._account.orders:
            self._remember(order)
            self._account.cancel(order, "dead_man_switch", at, out)

    def _batch(self, asked: Asked) -> dict[str, Any]:
        acts = {"send": self._send, "edit": self._edit, "cancel": self._cancel}
        statuses = []
        for entry in _batch_of(asked.params):
            act = acts.get(entry.get("order", ""))
            if act is None:
                raise _No(argument="json")
            status = act(entry)
            tag = {"order_tag": entry["order_tag"]} if "order_tag" in entry else {}
            status["dateTimeReceived"] = status.pop("receivedTime")
            if "orderId" in status:
                status["order_id"] = status.pop("orderId")
            statuses.append(tag | status)
        return {"batchStatus": statuses}

    def _trading(self, params: Params) -> Trading:
        trading = self._market.started(self._symbol(params))
        if trading.product.is_inverse:
            raise _No("marketUnavailable")  # the account holds dollars, and no coin to margin with
        return trading

    def _open(self, params: Params, key: str) -> Order | None:
        id, client_id = params.get(key), params.get("cliOrdId")
        if not id and not client_id:
            raise _No("requiredArgumentMissing")
        for order in self._account.orders:
            if order.id == id or (not id and order.client_id == client_id):
                return order
        return None

    def _remember(self, order: Order) -> None:
        """Orders that are over can still be asked about."""
        self._orders[order.id] = order
        if len(self._orders) > ORDERS_KEPT:
            del self._orders[next(iter(self._orders))]

    def _status(
        self,
        word: str,
        order: Order | None = None,
        trades: list[dict[str, Any]] | None = None,
        events: list[dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        status: dict[str, Any] = {"status": word, "receivedTime": iso(self._market.now_ms)}
        if order is None:
            return status
        status["order_id"] = order.id
        if order.client_id is not None:
            status["cliOrdId"] = order.client_id
        if events is None:
            events = [execution_of(order, trade) for trade in trades or ()]
            if order.status == "REJECTED":
                events = [{"type": "REJECT", "reason": word, "order": order_of(order)}]
            elif order.kind in ("limit", "post") and order.left:
                place = {"type": "PLACE", "order": order_of(order), "reducedQuantity": None}
                events.append(place)
        status["orderEvents"] = events
        return status


# What was asked, read


def _required(params: Params, key: str) -> str:
    value = params.get(key, "")
    if not value:
        raise _No("requiredArgumentMissing")
    return value


def _number(params: Params, key: str) -> Fraction:
    try:
        number = Decimal(_required(params, key))
    except InvalidOperation as exc:
        raise _No(argument=key) from exc
    # An exponent without a bound would be a number without one.
    if not number.is_finite() or abs(number.adjusted()) > 30:
        raise _No(argument=key)
    return Fraction(number)


def _whole(number: Fraction, step: Fraction) -> int | None:
    """How many steps a number is; None if it is none, or no whole number of them."""
    steps = number / step
    return int(steps) if steps > 0 and steps.denominator == 1 else None


def _price(params: Params, product: Product) -> int | None:
    return _whole(_number(params, "limitPrice"), product.tick)


def _worst(trading: Trading, buy: bool) -> int:
    """The worst price that a market order takes, in ticks."""
    best = trading.best(buy=not buy)
    return max(1, int(best * (1 + MARKET_REACH if buy else 1 - MARKET_REACH)))


def _moment_ms(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise _No(argument="lastFillTime") from exc
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _batch_of(params: Params) -> list[dict[str, str]]:
    """The entries of ``json``, their values as a form would have them."""
    try:
        entries = orjson.loads(_required(params, "json"))["batchOrder"]
        return [
            {
                key: value if isinstance(value, str) else orjson.dumps(value).decode()
                for key, value in entry.items()
            }
            for entry in entries
        ]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as exc:
        raise _No("Json Parse Error") from exc
