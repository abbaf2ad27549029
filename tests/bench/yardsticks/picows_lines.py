"""The fastest WebSocket library of Python, with the least that passes lines on."""

from __future__ import annotations

import asyncio
import json
import sys

import picows
import uvloop


class Lines(picows.WSListener):  # type: ignore[misc]  # untyped here
    """Each text frame that is no control message, as a line."""

    def __init__(self, request: bytes) -> None:
        self._request = request

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        transport.send(picows.WSMsgType.TEXT, self._request)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.TEXT:
            payload = frame.get_payload_as_bytes()
            if not payload.startswith(b'{"event"'):
                sys.stdout.buffer.write(payload + b"\n")
        elif frame.msg_type == picows.WSMsgType.CLOSE:
            transport.disconnect()


async def main(url: str, feed: str, product: str) -> None:
    request = json.dumps({"event": "subscribe", "feed": feed, "product_ids": [product]}).encode()
    transport, _ = await picows.ws_connect(lambda: Lines(request), url)
    await transport.wait_disconnected()


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(main(*sys.argv[1:4]))
