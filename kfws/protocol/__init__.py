"""The protocol of Kraken Futures WebSocket v1, without any I/O.

Rule of this room: no socket, no clock, no log, no randomness. Time and bytes are
handed in; events and bytes to send are handed back.
"""
