"""A user's program, checked by mypy --strict like everything here, and run by a test."""

from __future__ import annotations

import asyncio
from typing import Any

from kfws import Data, FuturesWSClient, Gap
from kfws.sim.server import SimOptions, serve


class Client(FuturesWSClient):
    """Counts what comes."""

    count = 0

    async def on_message(self, message: dict[str, Any]) -> None:
        self.count += 1


def on_gap(gap: Gap) -> None:
    print("gap", gap.feed, gap.product, gap.missing, gap.cause)


async def main(url: str) -> None:
    async with Client(url=url, on_gap=on_gap, redundancy=2) as client:
        await client.subscribe(feed="book", products=["PF_XBTUSD"])
        book = client.book("PF_XBTUSD")
        async for event in client.events():
            if isinstance(event, Data) and not book.stale:
                bid, ask = book.best()
                if bid is not None and ask is not None:
                    print("best bid", bid.price, "best ask", ask.price, event.seq)
                break
        active: list[dict[str, Any]] = client.get_active_subscriptions()
        print(client.count, active)


async def simulated() -> None:
    async with serve(SimOptions()) as venue:
        await main(venue.url)


if __name__ == "__main__":
    asyncio.run(simulated())
