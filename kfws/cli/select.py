"""Which messages are passed on: ``--where``, ``--no-snapshots``, products of private feeds."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from kfws.protocol.events import Data, Event
from kfws.protocol.feeds import PRIVATE
from kfws.protocol.products import is_glob, is_well_formed, match

if TYPE_CHECKING:
    from kfws.cli.where import Expression

__all__ = ["Selection"]

REMEMBERED = 20_000  # order ids; the oldest are forgotten first (about 8 MB when full)

_Id = tuple[str, str]

_PRIVATE = frozenset(PRIVATE)
_ORDERS = frozenset({"open_orders", "open_orders_verbose"})
_ORDER_IDS = ("order_id", "cli_ord_id")
# Where an entry names its product. ``asset`` of an account log may also be a currency.
_NAMES = ("instrument", "product_id", "contract", "asset")


class Selection:
    """What the user wants of what came. Fed with the events of a run, once and in order.

    ``products`` are the ids and globs that were named, ``asked`` the feeds that were asked for: on
    private feeds the venue sends what concerns any product, so there the products select.
    """

    def __init__(
        self,
        *,
        where: Expression | None,
        snapshots: bool,
        products: frozenset[str],
        asked: frozenset[str],
    ) -> None:
        self._where = where
        self._snapshots = snapshots
        named = [name.lower() for name in products] if asked & _PRIVATE else []
        self._products = frozenset(name for name in named if not is_glob(name))
        self._globs = [name for name in named if is_glob(name)]
        self._orders = _Orders()

    @property
    def trivial(self) -> bool:
        """Whether every message that somebody asked for passes."""
        return self._where is None and self._snapshots and not self._filters

    @property
    def _filters(self) -> bool:
        return bool(self._products or self._globs)

    def choose(self, events: list[Event]) -> list[Event]:
        """The events without the messages that do not pass; the same list where all do for sure."""
        if self.trivial:
            return events
        return [event for event in events if type(event) is not Data or self.passes(event)]

    def passes(self, event: Data) -> bool:
        """Whether the message is passed on."""
        # Before all else, since orders of a snapshot that is left out are to be known as well.
        if self._filters and event.feed in _PRIVATE and not self._concerns(event):
            return False
        if event.kind == "snapshot" and not self._snapshots:
            return False
        return self._where is None or self._where.matches(event.message)

    def _concerns(self, event: Data) -> bool:
        """Whether the message is about a product that was named, or about none at all."""
        from kfws.cli.where import entries

        message = event.message
        listed = [(entry, self._names_ours(entry)) for entry in entries(message)]
        if event.feed in _ORDERS:
            cancelled = message.get("is_cancel") is True
            if not listed:
                return self._orders.settle(_ids(event.feed, message), cancelled)
            for order, ours in listed:
                self._orders.learn(_ids(event.feed, order), ours)
                self._orders.settle(_ids(event.feed, order), cancelled)
        return not listed or any(ours for _, ours in listed)

    def _names_ours(self, entry: dict[str, Any]) -> bool:
        named = [entry[key] for key in _NAMES if isinstance(entry.get(key), str)]
        named = [name.lower() for name in named if is_well_formed(name)]
        return (
            not named
            or any(name in self._products for name in named)
            or any(match(glob, named) for glob in self._globs)
        )


class _Orders:
    """Whether an order passes, by its ids: a cancel may carry an id and nothing else."""

    def __init__(self) -> None:
        self._known: OrderedDict[_Id, tuple[bool, list[_Id]]] = OrderedDict()

    def learn(self, ids: list[_Id], ours: bool) -> None:
        for one in ids:
            self._known[one] = ours, ids
            self._known.move_to_end(one)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def settle(self, ids: list[_Id], cancelled: bool) -> bool:
        """Whether the order with these ids passes; a cancelled one is forgotten.

        An order never seen passes: better one too many than one lost without a word.
        """
        for one in ids:
            if one in self._known:
                ours, all_its_ids = self._known[one]
                for gone in all_its_ids if cancelled else ():
                    self._known.pop(gone, None)
                return ours
        return True


def _ids(feed: str, order: dict[str, Any]) -> list[_Id]:
    """The venue's id first. With the feed, since either feed of orders tells of each cancel."""
    return [(feed, order[key]) for key in _ORDER_IDS if isinstance(order.get(key), str)]
