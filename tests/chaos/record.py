"""What the venue sent and what the program gave out, in columns: a frame costs 40 bytes here.

Frames that are no JSON objects, which the program reports as ``broken``, stand in a stream of
their own, so that they are accounted for like all others.
"""

from __future__ import annotations

import base64
import re
from array import array
from collections.abc import Iterable, Sequence, Set
from typing import Any, NamedTuple

import msgspec

from kfws.protocol.feeds import base_name
from kfws.sim.ledger import read

__all__ = ["BROKEN", "Frames", "Ledger", "Loss", "Output", "Stream", "read_ledger", "read_output"]

Stream = tuple[str, str | None]
"""Feed and product."""

BROKEN: Stream = ("broken", None)
NO_NUMBER = -1


class _Trade(msgspec.Struct, gc=False):
    seq: int = NO_NUMBER


class _Head(msgspec.Struct, gc=False):
    event: str = ""
    feed: str = ""
    product_id: str | None = None
    seq: int | None = None
    trades: list[_Trade] = []


_read_head = msgspec.json.Decoder(_Head).decode


class Frames:
    """Data frames in their order, a column each."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self._index: dict[Stream, int] = {}
        self._positions: list[array[int]] = []
        self.stream = array("h")
        self.digest = array("q")
        self.twin = array("q")
        """The digest as it were had the venue not padded the frame (fault ``huge``)."""
        self.seq = array("q")
        """The number; of a trade snapshot the highest that it lists."""
        self.is_snapshot = bytearray()
        self.conn = array("l")
        self.at_ns = array("q")
        self.epoch = array("h")
        """How often the counter had begun anew."""
        self.listed: dict[int, list[int]] = {}
        """Position of a trade snapshot → the numbers that it lists."""

    def __len__(self) -> int:
        return len(self.digest)

    def index(self, stream: Stream) -> int:
        if stream not in self._index:
            self._index[stream] = len(self.streams)
            self.streams.append(stream)
            self._positions.append(array("l"))
        return self._index[stream]

    def positions(self, stream: Stream) -> Sequence[int]:
        """Where the frames of a stream stand."""
        return self._positions[self._index[stream]] if stream in self._index else ()

    def add(
        self,
        payload: bytes,
        feeds: Set[str],
        *,
        conn: int = 0,
        at_ns: int = 0,
        epoch: int = 0,
        is_broken: bool = False,
    ) -> Stream | None:
        """Takes up a frame of these feeds; control frames and other feeds give None."""
        head = None if is_broken else _head(payload)
        if head is None:
            head = _Head(feed=BROKEN[0])
        elif head.event or base_name(head.feed)[0] not in feeds:
            return None
        feed, is_snapshot = base_name(head.feed)
        numbers = [trade.seq for trade in head.trades]
        if numbers:
            self.listed[len(self)] = numbers
        seq = max(numbers, default=NO_NUMBER) if head.seq is None else head.seq
        index = self.index((feed, head.product_id))
        self._positions[index].append(len(self))
        self.stream.append(index)
        self.digest.append(hash(payload))
        self.twin.append(hash(_PADDING.sub(b"}", payload)))
        self.seq.append(seq)
        self.is_snapshot.append(is_snapshot)
        self.conn.append(conn)
        self.at_ns.append(at_ns)
        self.epoch.append(epoch)
        return feed, head.product_id

    def name(self, at: int) -> str:
        """A frame in words."""
        feed, product = self.streams[self.stream[at]]
        words = [feed, product or "", "snapshot" if self.is_snapshot[at] else ""]
        number = f"{self.seq[at]}" if self.seq[at] != NO_NUMBER else ""
        place = f"(line {at + 1} of connection {self.conn[at]})" if self.conn[at] else ""
        return " ".join(word for word in (*words, number, place) if word)


_PADDING = re.compile(rb',"padding":"x*"}$')


def _head(payload: bytes) -> _Head | None:
    try:
        return _read_head(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class Loss(NamedTuple):
    """A frame that the venue had and did not send where somebody waited for it."""

    before: int
    """The position of the next frame that was sent."""
    stream: Stream
    at_ns: int
    seq: int
    epoch: int
    digest: int


class Ledger(NamedTuple):
    """All that the venue did."""

    sent: Frames
    losses: list[Loss]
    ended: dict[int, int]
    """Connection → when it ended."""
    clean: set[int]
    """Connections whose client has certainly read all."""
    struck: list[str]
    """The faults, as they began."""


def read_ledger(lines: Iterable[bytes], feeds: Set[str]) -> Ledger:
    """A ledger's frames of these feeds."""
    ledger = Ledger(Frames(), [], {}, set(), [])
    scratch, epoch = Frames(), 0
    for entry in read(lines):
        epoch += entry.restart
        text = entry.sent or entry.withheld or entry.unheard
        if entry.sent is not None or entry.binary is not None:
            payload = (entry.sent or "").encode() or base64.b64decode(entry.binary or "")
            is_broken = entry.binary is not None
            ledger.sent.add(
                payload,
                feeds,
                conn=entry.conn,
                at_ns=entry.at_ns,
                epoch=epoch,
                is_broken=is_broken,
            )
        elif text is not None:
            stream = scratch.add(text.encode(), feeds)
            if stream is not None and not scratch.is_snapshot[-1]:
                number = scratch.seq[-1]
                digest = scratch.digest[-1]
                loss = Loss(len(ledger.sent), stream, entry.at_ns, number, epoch, digest)
                ledger.losses.append(loss)
        elif entry.closed is not None:
            ledger.ended[entry.conn] = entry.at_ns
            if entry.clean:
                ledger.clean.add(entry.conn)
        elif entry.struck is not None:
            ledger.struck.append(entry.struck)
    return ledger


class Output(NamedTuple):
    """All that the program gave out."""

    came: Frames
    own: list[dict[str, Any]]
    """The stream's own events."""

    def of(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.own if event["kfws"] == name]


def read_output(lines: Iterable[bytes], feeds: Set[str]) -> Output:
    """The output of ``kfws subscribe … --events -f ndjson``; a torn last line is left out."""
    output = Output(Frames(), [])
    epochs: dict[Stream, int] = {}
    for line in lines:
        if not line.endswith(b"\n"):
            continue
        if not line.startswith(b'{"kfws"'):
            _add_payload(output.came, line[:-1], feeds, epochs)
            continue
        event = msgspec.json.decode(line)
        output.own.append(event)
        if event["kfws"] == "restart":
            stream = event["feed"], event["product_id"]
            epochs[stream] = epochs.get(stream, 0) + 1
        elif event["kfws"] == "broken":
            text = event["payload"]
            coded = event.get("encoding") == "base64"
            payload = base64.b64decode(text) if coded else text.encode()
            output.came.add(payload, feeds, is_broken=True)
        if event["kfws"] in ("restart", "gap"):
            event["epoch"] = epochs.get((event["feed"], event["product_id"]), 0)
    return output


def _add_payload(came: Frames, payload: bytes, feeds: Set[str], epochs: dict[Stream, int]) -> None:
    stream = came.add(payload, feeds)
    if stream is not None and stream in epochs:
        came.epoch[-1] = epochs[stream]
