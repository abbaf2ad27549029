"""Fresh snapshots of books for streams that many read: who begins in the middle need not go back
to where a recorder connected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing

from kfws.cli.stream import Source
from kfws.cli.talk import Talk
from kfws.errors import KfwsError
from kfws.protocol.events import Data, Refused
from kfws.sinks.jetstream import JetStreamOutlet

__all__ = ["keep_snapshots"]

# So long a connection has for all of them; what did not come is for the next time.
PATIENCE_S = 30.0


async def keep_snapshots(
    dial: Callable[[], Source],
    products: Sequence[str],
    outlets: Sequence[JetStreamOutlet],
    every_s: float,
    talk: Talk,
) -> None:
    """Asks the venue for them, each time on a short connection of its own: those that record are
    not disturbed, and the bytes are the venue's. Ends when it is cancelled."""
    while True:
        await asyncio.sleep(every_s)
        try:
            found = await _snapshots(dial(), products)
        except KfwsError as exc:
            what = f"no fresh snapshots for the stream: {exc.message}"
            talk.say("info", "snapshots", what, hint=f"again in {every_s:g} s")
            continue
        for outlet in outlets:
            outlet.keep(found)


async def _snapshots(source: Source, products: Sequence[str]) -> list[Data]:
    """The first of each book, as far as they come in time."""
    found: dict[str | None, Data] = {}
    left = set(products)
    try:
        async with asyncio.timeout(PATIENCE_S), aclosing(source.events()) as batches:
            async for batch in batches:
                for event in batch:
                    if type(event) is Data and event.kind == "snapshot" and event.feed == "book":
                        found.setdefault(event.product, event)
                        left.discard(event.product or "")
                    elif isinstance(event, Refused):
                        left.discard(event.product or "")
                if not left:
                    break
    except TimeoutError:
        pass
    return [*found.values()]
