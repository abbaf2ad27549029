"""What the simulated venue lists: its products, and how their numbers are spelled.

Rule of this room: the list is data (``products.json``: instruments as the venue's REST
answers them, a price for each base, a number of book changes a second for busy products).
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from importlib import resources
from typing import Any

__all__ = ["Listing", "Product", "iso", "synthetic"]

QUIET_RATE = 5.0
"""Book changes a second of a product that ``products.json`` gives no rate for."""

YEAR_MS = 365 * 86_400_000


@dataclass(frozen=True)
class Product:
    """One tradeable product. Prices are counted in ticks, sizes in units: both whole numbers."""

    instrument: dict[str, Any]
    """The REST row, as it is listed."""
    price: float
    """Where its underlying stands at the start, about."""
    rate: float
    """Book changes a second."""

    @cached_property
    def id(self) -> str:
        return str(self.instrument["symbol"])

    @cached_property
    def is_inverse(self) -> bool:
        """Whether sizes are contracts of one US dollar, and profits are in coin."""
        return bool(self.instrument["type"] == "futures_inverse")

    @cached_property
    def base(self) -> str:
        """The underlying in the socket's spelling, ``XBT`` where REST says ``BTC``."""
        return str(self.instrument["base"]).replace("BTC", "XBT")

    @property
    def pair(self) -> str:
        return f"{self.base}:{self.instrument['quote']}"

    @cached_property
    def maturity_ms(self) -> int:
        """When it expires; 0 for perpetuals."""
        last = self.instrument.get("lastTradingTime")
        return int(datetime.fromisoformat(last).timestamp() * 1000) if last else 0

    @cached_property
    def tag(self) -> str:
        if not self.maturity_ms:
            return "perpetual"
        month = datetime.fromtimestamp(self.maturity_ms / 1000, UTC).month
        return "quarter" if month % 3 == 0 else "month"

    @cached_property
    def leverage(self) -> str:
        return f"{round(1 / self.instrument['marginLevels'][0]['initialMargin'])}x"

    @cached_property
    def tick(self) -> Fraction:
        return Fraction(str(self.instrument["tickSize"]))

    @cached_property
    def unit(self) -> Fraction:
        """The smallest size; a negative precision means a power of ten (PF_PEPEUSD: 1000)."""
        return Fraction(10) ** -int(self.instrument["contractValueTradePrecision"])

    @cached_property
    def decimals(self) -> int:
        """Digits behind the point of a price."""
        return max(0, -int(Decimal(str(self.instrument["tickSize"])).as_tuple().exponent))

    def price_of(self, ticks: int) -> float:
        # One division of whole numbers is rounded once, so that the shortest spelling is the
        # exact one: 31619 ticks of 0.1 are 3161.9, never 3161.9000000000001.
        return ticks * self.tick.numerator / self.tick.denominator

    def ticks_of(self, price: float) -> int:
        return max(1, round(price / self.tick))

    def size_of(self, units: int) -> float:
        return units * self.unit.numerator / self.unit.denominator

    def units_of(self, size: float) -> int:
        return max(1, round(size / self.unit))

    def basis(self, at_ms: float) -> float:
        """How far it trades above its index, as a fraction: dated ones 4 % a year."""
        return 0.04 * max(0.0, self.maturity_ms - at_ms) / YEAR_MS if self.maturity_ms else 0.0


@dataclass(frozen=True)
class Listing:
    """All that the venue lists: tradeable products, and the rows of what is not."""

    products: dict[str, Product]
    others: tuple[dict[str, Any], ...]
    """Index and reference rates, expired contracts: listed by REST, not to be subscribed to."""
    prices: dict[str, float]
    """Base to price, bases in the socket's spelling."""

    @classmethod
    def load(cls, count: int | None = None, rate: float | None = None) -> Listing:
        """The first ``count`` products (None: the whole list), made up ones beyond its end.

        ``rate`` is the number of book changes a second of each; None: the list's own.
        """
        text = resources.files("kfws.sim").joinpath("products.json").read_text("utf-8")
        kept = json.loads(text)
        rows = [row for row in kept["instruments"] if row["tradeable"]]
        rates, prices = kept["rates"], kept["prices"]
        products = [
            Product(row, prices[row["base"]], rate or rates.get(row["symbol"], QUIET_RATE))
            for row in rows[:count]
        ]
        made_up = range(1, (count or 0) - len(rows) + 1)
        products += [synthetic(number, rate or QUIET_RATE) for number in made_up]
        return cls(
            {product.id: product for product in products},
            tuple(row for row in kept["instruments"] if not row["tradeable"]),
            {base.replace("BTC", "XBT"): price for base, price in prices.items()},
        )


def synthetic(number: int, rate: float) -> Product:
    """A linear perpetual that no venue lists, for tests with many products."""
    name = f"SIM{number:04}"
    instrument = {
        "symbol": f"PF_{name}USD",
        "type": "flexible_futures",
        "tickSize": 0.01,
        "contractSize": 1,
        "tradeable": True,
        "impactMidSize": 20.0,
        "maxPositionSize": 100000.0,
        "openingDate": "2026-01-01T00:00:00Z",
        "marginLevels": [
            {"numNonContractUnits": 0.0, "initialMargin": 0.02, "maintenanceMargin": 0.01}
        ],
        "fundingRateCoefficient": 8,
        "maxRelativeFundingRate": 0.005,
        "contractValueTradePrecision": 2,
        "postOnly": False,
        "mtf": True,
        "base": name,
        "quote": "USD",
        "pair": f"{name}:USD",
        "category": "Simulated",
        "tradfi": False,
        "isExpired": False,
    }
    return Product(instrument, random.Random(name).uniform(50, 500), rate)


def iso(at_ms: float) -> str:
    """A moment as the venue's REST writes it: 2026-09-25T17:43:59.000Z."""
    moment = datetime.fromtimestamp(int(at_ms) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
