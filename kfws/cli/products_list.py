"""The products list for commands: the copy that is kept, or fetched from the venue.

Rule of this room: nothing is fetched unless a list is asked for with ``get``; what is at hand
costs no network.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kfws.cli.choices import VenueName
from kfws.cli.env import Env
from kfws.cli.plan import rest_base
from kfws.cli.quantities import age
from kfws.cli.talk import Level, Talk
from kfws.errors import KfwsError, Unreachable
from kfws.products_ids import kept_at

if TYPE_CHECKING:
    from kfws.products_cache import Products

__all__ = ["ProductsList", "open_list"]

INSTRUMENTS = "/derivatives/api/v3/instruments"

FRESH_S = 24 * 3600.0
"""The venue lists a new product every few days."""


def open_list(
    base: str, env: Env, talk: Talk, *, proxy: str | None, ca_file: str | None
) -> ProductsList:
    """The list of the venue whose REST is at ``base``; empty: of the simulator in the process.

    Only the lists of venues that have a name are kept. ``proxy`` is the one that was typed.
    """

    async def fetch(timeout_s: float) -> bytes:
        from kfws.rest import Rest, judge

        async with Rest(base, proxy=env.proxy(proxy, base), ca_file=ca_file) as rest:
            status, body = await rest.fetch("GET", INSTRUMENTS, timeout_s=timeout_s, auth=False)
        if status != 200:
            judge(status, body.decode(errors="replace"))
        return body

    if not base:
        return ProductsList(_simulated, None, talk)
    named = (VenueName.live, VenueName.demo)
    venue = next((each for each in named if rest_base(None, None, each) == base), None)
    return ProductsList(fetch, kept_at(env.cache, venue) if venue else None, talk)


async def _simulated(_: float) -> bytes:
    from kfws.sim.market import Market

    return Market(1, time.time_ns() // 1_000_000).instruments()


class ProductsList:
    """The products list of one venue.

    ``fetch`` gives the venue's answer, within so many seconds, or raises KfwsError; ``path`` is
    where the list is kept, None for a venue that is not to be remembered.
    """

    def __init__(
        self, fetch: Callable[[float], Awaitable[bytes]], path: Path | None, talk: Talk
    ) -> None:
        self._fetch = fetch
        self._path = path
        self._talk = talk
        self._at_hand: Products | None = None
        self._has_looked = False

    def at_hand(self) -> Products | None:
        """The list without asking the venue, however old it is; None where there is none."""
        if not self._has_looked and self._path is not None:
            from kfws.products_cache import kept

            try:
                self._at_hand = kept(self._path)
            except ValueError:
                what = f"the products list kept in {self._path} is damaged, so it is not used"
                self._talk.say("warning", "kept-list", what)
        self._has_looked = True
        return self._at_hand

    async def get(
        self, *, refresh: bool = False, told: Level = "info", timeout_s: float = 10
    ) -> Products:
        """The list at hand if it is of today, else the venue's, which is kept from then on.

        ``refresh``: the venue's in any case. An older one serves where the venue is out of reach,
        with a warning. Raises KfwsError where there is none. ``told``: how loud to say its age.
        """
        old = self.at_hand()
        if old is not None and not refresh and 0 <= old.age_s(time.time_ns()) < FRESH_S:
            self._talk.say(told, "kept-list", f"the products list is {_old(old)}", hint=_REFRESH)
            return old
        try:
            found = await self._fetched(timeout_s)
        except KfwsError as exc:
            if old is None:
                raise
            what = f"{exc.message}; the products list kept before serves, {_old(old)}"
            self._talk.say("warning", "kept-list", what)
            return old
        self._at_hand = found
        self._keep(found)
        return found

    async def _fetched(self, timeout_s: float) -> Products:
        from kfws.products_cache import parse

        body = await self._fetch(timeout_s)
        try:
            return parse(body, time.time_ns())
        except ValueError as exc:
            raise Unreachable(
                "what was answered is no products list", hint="look at --rest-url"
            ) from exc

    def _keep(self, products: Products) -> None:
        if self._path is None:
            return
        from kfws.products_cache import keep

        try:
            keep(products, self._path)
        except OSError as exc:
            what = f"the products list cannot be kept in {self._path}: {exc.strerror}"
            self._talk.say("info", "kept-list", what)

    def fault(self, product_id: str) -> str:
        """What is wrong with an id that the venue refused, if the list at hand knows it."""
        products = self.at_hand()
        return products.fault(product_id) if products else ""


_REFRESH = "`kfws products --refresh` asks the venue anew"


def _old(products: Products) -> str:
    return f"{age(products.age_s(time.time_ns()))} old"
