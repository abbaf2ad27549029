"""Stream Kraken Futures WebSocket feeds; every message accounted for.

The public names are loaded on first use: importing kfws alone stays cheap.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kfws.client import FuturesWSClient, Stream
    from kfws.errors import KfwsError
    from kfws.protocol.book import Book, Level
    from kfws.protocol.events import Closed, Data, Event, Gap, Opened, Redial

__all__ = [
    "Book",
    "Closed",
    "Data",
    "Event",
    "FuturesWSClient",
    "Gap",
    "KfwsError",
    "Level",
    "Opened",
    "Redial",
    "Stream",
    "__version__",
]

_ROOMS = {
    "kfws.client": ("FuturesWSClient", "Stream"),
    "kfws.errors": ("KfwsError",),
    "kfws.protocol.book": ("Book", "Level"),
    "kfws.protocol.events": ("Closed", "Data", "Event", "Gap", "Opened", "Redial"),
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    for room, names in _ROOMS.items():
        if name in names:
            return getattr(import_module(room), name)
    raise AttributeError(f"module 'kfws' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
