"""ccxt: the loop of its manual. It gives what is current, so some messages give no line."""

from __future__ import annotations

import asyncio
import json
import sys

import ccxt.pro
from ccxt.base.errors import NetworkError

SYMBOL = "BTC/USD:USD"


async def main(url: str, feed: str, product: str) -> None:
    exchange = ccxt.pro.krakenfutures()
    exchange.urls["api"]["ws"] = url
    market = {"id": product, "symbol": SYMBOL, "base": "BTC", "quote": "USD", "settle": "USD"}
    kinds = {"type": "swap", "spot": False, "swap": True, "linear": True, "contract": True}
    exchange.set_markets([exchange.safe_market_structure({**market, **kinds, "active": True})])
    watch = exchange.watch_order_book if feed == "book" else exchange.watch_ticker
    try:
        while True:
            found = await watch(SYMBOL)
            told = (
                {"bids": found["bids"][:1], "asks": found["asks"][:1]} if "bids" in found else found
            )
            print(json.dumps(told))
    except NetworkError:
        pass  # the load came to its end
    finally:
        await exchange.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
