"""The yardstick: what anyone would write first.

A loop over the messages that looks whether each is data, and prints it. The look is not left
out to save time: a program that reads control messages as prices is none, and one that prints
without looking cannot know what it prints.
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
    asyncio.run(main(*sys.argv[1:4]))
