"""Rows for spreadsheets and data frames, one feed a file.

RFC 4180 quoting, but lines end in a bare line feed as other tools of the shell expect. The
numbers are the venue's own digits. Data is unchanged: no guard against formulas is added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Raw

from kfws.protocol.events import Data, Event
from kfws.sinks import columns
from kfws.tapes import line

__all__ = ["Csv"]


class Csv:
    """A nested message makes a row per entry; ``message_no`` counts the messages.

    ``fields`` picks columns, in that order. The stream's own events are not written.
    """

    def __init__(self, *, feed: str, fields: tuple[str, ...] = ()) -> None:
        self._columns = fields or columns.csv_columns(feed)
        self._known = columns.known_keys(feed)
        self._header = ",".join(_quoted(name) for name in self._columns) + "\n"
        self._messages = 0

    def encode(self, events: Sequence[Event]) -> bytes:
        """The rows of a batch. The first call gives the header too, whatever the batch."""
        found = [row for event in events if type(event) is Data for row in self._rows(event)]
        header, self._header = self._header, ""
        return "".join([header, *found]).encode()

    def _rows(self, data: Data) -> Iterator[str]:
        self._messages += 1
        for row in columns.full_rows(data, self._messages, self._known):
            yield ",".join([_cell(row.get(name)) for name in self._columns]) + "\n"


def _cell(token: Raw | None) -> str:
    if token is None:
        return ""
    text = columns.text_of(token)
    if text[:1] in ("{", "["):
        # Perhaps a nested value: one row is one line unless a text itself has several.
        text = columns.text_of(line.one_line(bytes(token)))
    return _quoted(text)


def _quoted(text: str) -> str:
    if "," in text or '"' in text or "\n" in text or "\r" in text:
        return '"' + text.replace('"', '""') + '"'
    return text
