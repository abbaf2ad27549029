"""A bare script that connects, prints one line and ends: the yardstick of a start."""

from __future__ import annotations

import asyncio
import sys

import orjson
from websockets.asyncio.client import connect


async def main(url: str, feed: str, product: str) -> None:
    async with connect(url) as websocket:
        request = {"event": "subscribe", "feed": feed, "product_ids": [product]}
        await websocket.send(orjson.dumps(request).decode())
        async for text in websocket:
            if "event" not in orjson.loads(text):
                print(text)
                return


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
