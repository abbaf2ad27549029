"""cryptofeed: a feed with one callback. Its ticker is another feed, so it serves for books only.

It speaks wss:// only, so that is undone.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from decimal import Decimal
from typing import Any

from cryptofeed import FeedHandler, connection
from cryptofeed.defines import ASK, BID, KRAKEN_FUTURES, L2_BOOK
from cryptofeed.exchanges import KrakenFutures
from cryptofeed.symbols import Symbols

SYMBOL = "BTC-USD-PERP"
connect = connection.connect


def plainly(url: str, **options: Any) -> Any:
    return connect(url.replace("wss:", "ws:"), **options)


class Feed(KrakenFutures):  # type: ignore[misc]  # untyped here
    """The recorded changes come round again, and it ends at the second removal of a level."""

    async def _book(self, msg: dict[str, Any], pair: str, timestamp: float) -> None:
        if msg["qty"] == 0:
            side = BID if msg["side"] == "buy" else ASK
            self._l2_book[pair].book[side][Decimal(msg["price"])] = 1
        await super()._book(msg, pair, timestamp)


def main(url: str, product: str, messages: int) -> None:
    left = messages

    async def on_book(book: Any, received_at: float) -> None:
        nonlocal left
        print(book.exchange, book.symbol, book.sequence_number, received_at)
        left -= 1
        if not left:
            sys.stdout.flush()
            os._exit(0)  # it would connect again for ever

    connection.connect = plainly
    Symbols.set(KRAKEN_FUTURES, {SYMBOL: product.lower()}, defaultdict(dict))
    Feed.websocket_endpoints = [connection.WebsocketEndpoint(url.replace("ws:", "wss:"))]
    handler = FeedHandler({"log": {"disabled": True}})
    handler.add_feed(Feed(symbols=[SYMBOL], channels=[L2_BOOK], callbacks={L2_BOOK: on_book}))
    handler.run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[3], int(sys.argv[4]))
