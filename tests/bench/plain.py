"""The baseline: what one writes in a minute with websockets.

``python -m tests.bench.plain URL FEED PRODUCT`` prints every message of the feed until the
venue closes. It decodes each message, and prints the text as it came, without a flush: the
cheapest that a plain client can do and still know what it prints.
"""

from __future__ import annotations

import asyncio
import json
import sys

from websockets.asyncio.client import connect


async def main(url: str, feed: str, product: str) -> None:
    async with connect(url) as websocket:
        request = {"event": "subscribe", "feed": feed, "product_ids": [product]}
        await websocket.send(json.dumps(request))
        async for text in websocket:
            if "event" not in json.loads(text):
                print(text if isinstance(text, str) else text.decode())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
