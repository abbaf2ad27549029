"""Doors out: batches of Events → bytes. A sink knows no source."""
