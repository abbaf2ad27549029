"""Rows for spreadsheets and data frames, one feed a file.

RFC 4180 quoting, but lines end in a bare line feed as other tools of the shell expect. The
numbers are the venue's own digits. Data is unchanged: no guard against formulas is added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Raw

from kfws.protocol.events import Data, Event
from kfws.sinks import columns
from kfws.tapes import line

__all__ = ["Csv"]


class Csv:
    """A nested message makes a row per entry; ``message_no`` counts the messages.

    ``fields`` picks columns, in that order. The stream's own events are not written.
    ``is_shown``: a terminal shows it, and is kept from what could move or hide something there.
    """

    def __init__(self, *, feed: str, fields: tuple[str, ...] = (), is_shown: bool = False) -> None:
        self._is_shown = is_shown
        self._columns = fields or columns.csv_columns(feed)
        self._known = columns.known_keys(feed)
        self._header = ",".join(_quoted(name) for name in self._columns) + "\n"
        self._messages = 0
        self._read_tokens = None if fields else columns.token_reader(feed)
        self._feed = b',"%b"\n' % feed.encode()

    def encode(self, events: Sequence[Event]) -> bytes:
        """The rows of a batch. The first call gives the header too, whatever the batch."""
        messages = [event for event in events if type(event) is Data]
        header, self._header = self._header, ""
        text = header.encode() + self._encode(messages)
        if self._is_shown:
            return columns.printable_lines(text.decode(errors="replace")).encode()
        return text

    def _encode(self, messages: Sequence[Data]) -> bytes:
        text = self._at_once(messages)
        if text is None and len(messages) > 1:
            return b"".join([self._encode([each]) for each in messages])
        if text is None:
            return "".join([row for each in messages for row in self._rows(each)]).encode()
        self._messages += len(messages)
        return text

    def _at_once(self, messages: Sequence[Data]) -> bytes | None:
        """The rows of messages that say one thing each, in plain tokens: most of what comes.
        None where one is otherwise; whether it is, is asked of all of them together."""
        read = self._read_tokens
        if read is None:
            return None
        rows, join = [], b",".join
        try:
            for number, each in enumerate(messages, self._messages + 1):
                if each.kind != "delta":
                    return None
                rows.append(
                    b"%d,delta,%d,%b\n" % (each.received_ns, number, join(read(each.payload)))
                )
        except msgspec.DecodeError:
            return None  # a key without a column, or entries
        text = b"".join(rows)
        commas = (len(self._columns) - 1) * len(rows)
        is_odd = b"\\" in text or b"{" in text or b"[" in text or b"\r" in text
        if is_odd or text.count(b",") != commas or text.count(self._feed) != len(rows):
            return None
        # Now each comma and line end stands between tokens, so quotes are around texts only.
        text = text.replace(self._feed, b",\n").replace(b",null", b",").replace(b'"', b"")
        return text if text.count(b"\n") == len(rows) else None

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
