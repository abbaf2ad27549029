"""What the simulated venue's REST says of things, in its own spelling; pure.

The shapes are those of the venue's documentation (derivatives, v3): camelCase where the feeds
have snake_case, ISO 8601 where they have milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kfws.sim.account import MAKER_FEE, TAKER_FEE, Order, Position
from kfws.sim.listing import iso

__all__ = [
    "execution_of",
    "fee_schedules",
    "fill_of",
    "flex_of",
    "open_order_of",
    "order_of",
    "position_of",
    "status_of",
    "trade_of",
    "wallet_of",
]

TYPES = {"limit": "lmt", "market": "mkt", "stop": "stp"}


def status_of(product: str) -> dict[str, Any]:
    """A row of ``instruments/status``: nothing is ever the matter."""
    return {
        "tradeable": product,
        "experiencingDislocation": False,
        "priceDislocationDirection": None,
        "experiencingExtremeVolatility": False,
        "extremeVolatilityInitialMarginMultiplier": 1,
    }


def trade_of(trade: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``history``, from a message of the feed ``trade``."""
    return {
        "time": iso(trade["time"]),
        "price": trade["price"],
        "size": trade["qty"],
        "side": trade["side"],
        "type": trade["type"],
        "uid": trade["uid"],
        "sequence_id": trade["seq"],
    }


def fee_schedules() -> list[dict[str, Any]]:
    """One schedule of one tier; the venue writes fees in percent."""
    tier = {"makerFee": 100 * MAKER_FEE, "takerFee": 100 * TAKER_FEE, "usdVolume": 0.0}
    return [
        {"uid": "97ae0cc8-2964-43ea-91e9-d8e720b02b19", "name": "Simulated Fees", "tiers": [tier]}
    ]


def order_of(order: Order) -> dict[str, Any]:
    """As ``orderEvents`` tell of an order."""
    product = order.trading.product
    return {
        "orderId": order.id,
        "cliOrdId": order.client_id,
        "type": TYPES.get(order.kind, order.kind),
        "symbol": product.id,
        "side": "buy" if order.buy else "sell",
        "quantity": product.size_of(order.placed),
        "filled": product.size_of(order.placed - order.left),
        "limitPrice": product.price_of(order.ticks),
        "reduceOnly": order.reduce_only,
        "timestamp": iso(order.placed_ms),
        "lastUpdateTimestamp": iso(order.updated_ms),
    }


def execution_of(order: Order, trade: Mapping[str, Any]) -> dict[str, Any]:
    """An order event: the order took part in a trade."""
    return {
        "type": "EXECUTION",
        "executionId": trade["uid"],
        "price": trade["price"],
        "amount": trade["qty"],
        "orderPriorEdit": None,
        "orderPriorExecution": order_of(order),
        "takerReducedQuantity": None,
    }


def open_order_of(order: Order) -> dict[str, Any]:
    """A row of ``openorders``."""
    product = order.trading.product
    told: dict[str, Any] = {
        "order_id": order.id,
        "symbol": product.id,
        "side": "buy" if order.buy else "sell",
        "orderType": TYPES.get(order.kind, "lmt"),
        "limitPrice": product.price_of(order.ticks),
        "unfilledSize": product.size_of(order.left),
        "filledSize": product.size_of(order.placed - order.left),
        "receivedTime": iso(order.placed_ms),
        "lastUpdateTime": iso(order.updated_ms),
        "status": "untouched" if order.left == order.placed else "partiallyFilled",
        "reduceOnly": order.reduce_only,
    }
    if order.kind == "stop":
        told |= {"stopPrice": product.price_of(order.stop_ticks), "triggerSignal": "mark"}
    if order.client_id is not None:
        told["cliOrdId"] = order.client_id
    return told


def fill_of(fill: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``fills``, from an entry of the feed."""
    told = {
        "fill_id": fill["fill_id"],
        "symbol": fill["instrument"],
        "side": "buy" if fill["buy"] else "sell",
        "order_id": fill["order_id"],
        "size": fill["qty"],
        "price": fill["price"],
        "fillTime": iso(fill["time"]),
        "fillType": fill["fill_type"],
    }
    if "cli_ord_id" in fill:
        told["cliOrdId"] = fill["cli_ord_id"]
    return told


def position_of(position: Position) -> dict[str, Any]:
    """A row of ``openpositions``."""
    return {
        "side": "long" if position.units > 0 else "short",
        "symbol": position.trading.product.id,
        "price": position.entry_price,
        "fillTime": iso(position.filled_ms),
        "size": abs(position.size),
        "unrealizedFunding": 0.0,
        "pnlCurrency": "USD",
    }


def wallet_of(wallet: Mapping[str, Any]) -> dict[str, Any]:
    """A single-collateral wallet of ``accounts``, from the feed ``balances``."""
    unit = wallet["unit"].lower()
    return {
        "type": "marginAccount",
        "currency": unit,
        "balances": {unit: wallet["balance"]},
        "auxiliary": {
            "af": wallet["available"],
            "pnl": wallet["pnl"],
            "pv": wallet["portfolio_value"],
            "usd": 0.0,
        },
        "marginRequirements": {
            "im": wallet["initial_margin"],
            "mm": wallet["maintenance_margin"],
            "lt": 0.0,
            "tt": 0.0,
        },
    }


FLEX = {
    "balance_value": "balanceValue",
    "portfolio_value": "portfolioValue",
    "collateral_value": "collateralValue",
    "initial_margin": "initialMargin",
    "maintenance_margin": "maintenanceMargin",
    "pnl": "pnl",
    "unrealized_funding": "unrealizedFunding",
    "total_unrealized": "totalUnrealized",
    "total_unrealized_as_margin": "totalUnrealizedAsMargin",
    "margin_equity": "marginEquity",
    "available_margin": "availableMargin",
}


def flex_of(flex: Mapping[str, Any]) -> dict[str, Any]:
    """The multi-collateral wallet of ``accounts``, from the feed ``balances``."""
    currencies = {
        name: {
            "quantity": each["quantity"],
            "value": each["value"],
            "collateral": each["collateral_value"],
            "available": each["available"],
        }
        for name, each in flex["currencies"].items()
    }
    totals = {told: flex[key] for key, told in FLEX.items()}
    return {"type": "multiCollateralMarginAccount", "currencies": currencies, **totals}
