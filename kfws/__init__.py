"""Stream Kraken Futures WebSocket feeds; every message accounted for."""

__version__ = "0.1.0"
