"""The venue's products list, and the copy of it that is kept in the user's cache.

Rule of this room: no network, and few imports. Rows stay the venue's own text, so that no digit is
ever changed and no field lost. Their shape: protocol page, sections 10 and 13
(``GET /derivatives/api/v3/instruments``).
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from kfws.products_ids import beside, kept_at
from kfws.protocol.products import is_well_formed, nearest

if TYPE_CHECKING:
    from decimal import Decimal

__all__ = [
    "Product",
    "Products",
    "decimals",
    "keep",
    "kept",
    "kept_at",
    "parse",
    "put",
    "tick_size",
]


class Product(msgspec.Struct, frozen=True, gc=False):
    """One row of the list. Values are the venue's own tokens; empty where it has none."""

    id: str = msgspec.field(name="symbol")
    type: Raw = Raw()
    tick_size: Raw = msgspec.field(name="tickSize", default=Raw())
    contract_size: Raw = msgspec.field(name="contractSize", default=Raw())
    tradeable: Raw = Raw()
    expiry: Raw = msgspec.field(name="lastTradingTime", default=Raw())
    """The last moment of trading, ISO 8601; perpetuals have none."""

    @property
    def is_tradeable(self) -> bool:
        """Whether it has feeds of its own: indices, reference rates and what expired have none."""
        return bytes(self.tradeable) == b"true"


def tick_size(product: Product) -> Decimal | None:
    """The tick size as a number above 0; None where there is none."""
    from decimal import Decimal, InvalidOperation

    try:
        tick = Decimal(str(product.tick_size, "utf-8"))
    except InvalidOperation:
        return None
    return tick if tick.is_finite() and tick > 0 else None


def decimals(product: Product) -> int | None:
    """Digits behind the point of a price, from the tick size; None where there is none.

    0.05 and 1e-10 give 2 and 10, 1.0 and 100 give 0.
    """
    tick = tick_size(product)
    exponent = None if tick is None else tick.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else None


class Products(msgspec.Struct, frozen=True, dict=True):
    """All that the venue lists, in the order of ids, and when it was asked (wall clock, ns)."""

    rows: tuple[tuple[Product, bytes], ...]
    """Each product and its row, the venue's own text."""
    fetched_ns: int

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(product.id for product, _ in self.rows)

    @cached_property
    def tradeable(self) -> tuple[str, ...]:
        """Ids of what can be subscribed to."""
        return tuple(product.id for product, _ in self.rows if product.is_tradeable)

    def age_s(self, now_ns: int) -> float:
        return (now_ns - self.fetched_ns) / 1e9

    def fault(self, product_id: str) -> str:
        """What is wrong with an id that the venue refused; empty where the list knows nothing."""
        if product_id in self.tradeable:
            return ""
        if product_id in self.ids:
            return f"{product_id} is not tradeable, so it has no feeds"
        return f"no product {product_id}{self.similar(product_id)}"

    def similar(self, typed: str) -> str:
        """A tail for a sentence with the ids that look like what was typed, if any do."""
        found = nearest(typed.strip("*?"), self.tradeable)
        return f"; similar: {', '.join(found)}" if found else ""


class _Answer(msgspec.Struct):
    instruments: list[Raw]


class _Kept(msgspec.Struct):
    fetched_ns: int
    instruments: list[Raw]


_read_answer = msgspec.json.Decoder(_Answer).decode
_read_kept = msgspec.json.Decoder(_Kept).decode
_read_product = msgspec.json.Decoder(Product).decode


def parse(body: bytes, fetched_ns: int) -> Products:
    """The list out of the venue's answer. Raises ValueError for anything else."""
    try:
        return _products(_read_answer(body.decode()).instruments, fetched_ns)
    except RecursionError as exc:
        raise ValueError("nested too deep") from exc


def _products(texts: list[Raw], fetched_ns: int) -> Products:
    rows = [(_read_product(text), bytes(text)) for text in texts]
    return Products(tuple(sorted(rows, key=lambda row: row[0].id)), fetched_ns)


def kept(path: Path) -> Products | None:
    """The list kept in a file; None where there is none. Raises ValueError for a damaged one."""
    try:
        found = _read_kept(path.read_text(encoding="utf-8"))
    except OSError:
        return None
    except RecursionError as exc:
        raise ValueError("nested too deep") from exc
    return _products(found.instruments, found.fetched_ns)


def keep(products: Products, path: Path) -> None:
    """Keeps the list in a file, as ``put`` does, and its ids beside it. Raises OSError."""
    content = _Kept(products.fetched_ns, [Raw(row) for _, row in products.rows])
    put(msgspec.json.encode(content), path)
    ids = [each for each in products.tradeable if is_well_formed(each)]
    put("".join(f"{each}\n" for each in ids).encode(), beside(path))  # never older than the list


def put(content: bytes, path: Path) -> None:
    """Writes a file: all of it or nothing, for its owner's eyes. Raises OSError."""
    import tempfile

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Two runs at once each write a file of their own (0600); the last to rename wins.
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(fd)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
