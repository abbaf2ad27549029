"""The clients that are compared: kfws in its ways, and the yardsticks. A new one is one row."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench import yard
from tests.bench.load import PRODUCT, Load

__all__ = ["OURS", "PACED", "PLAIN", "Client", "Place", "in_turn"]

# The event loop that `pip install kfws` brings; uvloop is a row of its own.
KFWS = (sys.executable, "-m", "kfws")
STREAM = (*KFWS, "subscribe", "--loop", "asyncio")
YARDSTICKS_FOLDER = Path(__file__).parent / "yardsticks"


@dataclass(frozen=True, slots=True)
class Place:
    """What a client is given: where the load is, and which one."""

    url: str
    load: Load
    ca_file: Path
    file: Path
    """Where a client that writes a file may do so; it does not exist."""


@dataclass(frozen=True, slots=True)
class Client:
    """How a client is called, so that it passes on the messages of a load and ends."""

    name: str
    command: Callable[[Place], list[str]]
    needs: Path | None = None
    feeds: tuple[str, ...] = ("book", "ticker")
    share: float = 1.0
    """Of the messages of a run: a slow client tells as much with fewer."""
    slow: bool = False
    """Whether few rounds have to do."""
    lines: bool = True
    """Whether each message gives a line on stdout."""
    control: int = 0
    """Lines for what is no message."""
    connections: int = 1
    tls: bool = False
    deflate: bool = False

    def load(self, feed: str, messages: int, per_second: int = 0) -> Load:
        load = Load(feed, messages, per_second, connections=self.connections)
        return replace(load, tls=self.tls, deflate=self.deflate)

    @property
    def is_there(self) -> bool:
        return self.needs is None or self.needs.exists()


def kfws(*options: str, form: str = "ndjson") -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        limit = ["-n", str(place.load.messages), "-f", form, "-q"]
        given = [
            option.format(ca=place.ca_file, file=place.file, **WHERE[place.load.feed])
            for option in options
        ]
        return [*STREAM, place.load.feed, PRODUCT, "--url", place.url, *limit, *given]

    return command


# True of every message, so that as many lines come out.
WHERE = {"book": {"where": "seq > 0"}, "ticker": {"where": "last > 0"}}


def script(name: str, python: Path = yard.PYTHON) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        asked = [place.url, place.load.feed, PRODUCT, str(place.load.messages)]
        return [str(python), str(YARDSTICKS_FOLDER / f"{name}.py"), *asked]

    return command


def asks_for(load: Load) -> str:
    return json.dumps({"event": "subscribe", "feed": load.feed, "product_ids": [PRODUCT]})


def websocat(place: Place) -> list[str]:
    return [str(yard.WEBSOCAT), "--exit-on-eof", place.url, "--preamble", asks_for(place.load)]


def wscat(place: Place) -> list[str]:
    return [str(yard.WSCAT), "-c", place.url, "-x", asks_for(place.load), "-w", "60"]


def floor(place: Place) -> list[str]:
    port = place.url.split(":")[2].split("/")[0]
    return [str(yard.FLOOR), port, place.load.feed, PRODUCT]


PLAIN = Client("plain client", script("plain", Path(sys.executable)), share=0.25)
OURS = Client("kfws", kfws())

YARDSTICKS = (
    PLAIN,
    Client("websocat", websocat, needs=yard.WEBSOCAT, control=2),
    Client("picows", script("picows_lines"), needs=yard.PYTHON),
    Client("C floor", floor, needs=yard.FLOOR),
    Client("ccxt", script("ccxt_pro"), needs=yard.PYTHON, share=0.1, slow=True, lines=False),
    Client(
        *("cryptofeed", script("crypto_feed")),
        needs=yard.PYTHON,
        feeds=("book",),
        share=0.1,
        slow=True,
    ),
    Client("python-kraken-sdk", script("kraken_sdk"), needs=yard.PYTHON, share=0.1, slow=True),
    Client("wscat", wscat, needs=yard.WSCAT, share=0.25, slow=True, lines=False),
)

VARIANTS = (
    Client("kfws --loop uvloop", kfws("--loop", "uvloop")),
    Client("kfws --stamp", kfws("--stamp")),
    Client("kfws -f csv", kfws(form="csv"), share=0.5, lines=False),
    Client("kfws -o x.ndjson", kfws("-o", "{file}.ndjson"), lines=False),
    Client("kfws -o x.ndjson.zst", kfws("-o", "{file}.ndjson.zst"), lines=False),
    Client("kfws --where", kfws("--where", "{where}"), share=0.5),
    Client("kfws --redundancy 2", kfws("--redundancy", "2"), share=0.5, connections=2),
    Client("kfws, TLS", kfws("--ca-file", "{ca}"), tls=True),
    Client("kfws --compression", kfws("--compression"), share=0.5, deflate=True),
)

PACED = (
    PLAIN,
    OURS,
    Client("kfws --loop uvloop", kfws("--loop", "uvloop")),
    Client("kfws --coalesce 5ms", kfws("--coalesce", "5ms")),
    Client("C floor", floor, needs=yard.FLOOR),
)


def in_turn(feed: str) -> Iterator[Client]:
    """All that are there, kfws first."""
    for client in (OURS, *YARDSTICKS, *VARIANTS):
        if client.is_there and feed in client.feeds:
            yield client
