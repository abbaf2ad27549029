"""python-kraken-sdk, as its own examples use it; it speaks wss:// only, so that is undone."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import kraken.futures.websocket as sdk
from kraken.futures import FuturesWSClient

connect = sdk.connect


def plainly(url: str, **options: Any) -> Any:
    return connect(url.replace("wss:", "ws:"), **options)


async def main(url: str, feed: str, product: str, messages: int) -> None:
    sdk.connect = plainly
    left = messages

    async def on_message(message: dict[str, Any]) -> None:
        nonlocal left
        if "event" in message or "feed" not in message:
            return
        print(json.dumps(message))
        left -= 1
        if not left:
            sys.stdout.flush()
            os._exit(0)  # it would connect again for ever

    client = FuturesWSClient(url=url.removeprefix("ws://"), callback=on_message)
    await client.start()
    await client.subscribe(feed=feed, products=[product])
    await asyncio.Future()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
