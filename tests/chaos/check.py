"""Holds the program's output against the venue's ledger, and says every difference in words.

Rule of this room: no process, no socket, no clock; two recordings in, sentences out.

One connection at a time: the output is the ledger's frames in their order, but for the tail of
a connection that ended without a closing handshake by the venue, which may or may not have
come. Several connections: each stream by itself. In both, every number of ``book`` and
``trade`` came out once or is named, and every loss of another feed lies in a named interval.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from kfws.protocol.feeds import FEEDS
from tests.chaos.numbers import Numbers
from tests.chaos.record import (
    BROKEN,
    NO_NUMBER,
    Ledger,
    Loss,
    Output,
    Stream,
    read_ledger,
    read_output,
)

__all__ = ["Result", "check", "compare"]

TAIL_S = 2.0
"""What was sent so long before the end of a torn connection has certainly come."""

SLACK_S = 0.5
"""How far the moments of two processes may lie apart: buffers, and a busy machine."""

MOST_SHOWN = 5


@dataclass(slots=True)
class Result:
    """What was found. ``differences`` is empty where all is well."""

    differences: list[str] = field(default_factory=list)
    sent: int = 0
    """Data frames that the venue sent, on all connections."""
    came: int = 0
    missing: int = 0
    """Numbers of book and trade that are reported missing and not healed."""
    healed: int = 0
    lost: int = 0
    """Frames of other feeds that nobody got, all of them within named intervals."""
    connections: int = 0
    strikes: Counter[str] = field(default_factory=Counter)
    """Fault → how often it struck."""
    causes: Counter[str] = field(default_factory=Counter)
    """Cause → how many gaps were put down to it."""
    told: Counter[str] = field(default_factory=Counter)
    """The stream's own events, by name."""

    def __str__(self) -> str:
        told = f"{len(self.differences)} differences" if self.differences else "no difference"
        return (
            f"{told}; sent {self.sent}, came out {self.came}, missing {self.missing}, "
            f"healed {self.healed}, lost in named intervals {self.lost}, "
            f"connections {self.connections}, faults {self.strikes.total()}"
        )


def check(
    ledger: Iterable[bytes],
    output: Iterable[bytes],
    feeds: Set[str],
    *,
    redundant: bool = False,
    tail_s: float = TAIL_S,
    slack_s: float = SLACK_S,
) -> Result:
    """Compares the lines of a ledger with those of an output that asked for these feeds."""
    return compare(
        read_ledger(ledger, feeds),
        read_output(output, feeds),
        redundant=redundant,
        tail_s=tail_s,
        slack_s=slack_s,
    )


def compare(
    ledger: Ledger,
    output: Output,
    *,
    redundant: bool = False,
    tail_s: float = TAIL_S,
    slack_s: float = SLACK_S,
) -> Result:
    result = Result(sent=len(ledger.sent), came=len(output.came))
    result.connections = len(set(ledger.sent.conn))
    result.strikes = Counter(spec.partition(":")[0].partition("@")[0] for spec in ledger.struck)
    result.causes = Counter(gap["cause"] for gap in output.of("gap"))
    result.told = Counter(event["kfws"] for event in output.own)
    comparison = _Comparison(ledger, output, result, tail_s, slack_s)
    if redundant:
        comparison.merge()
    else:
        comparison.align()
    for stream in ledger.sent.streams:
        if _is_numbered(stream):
            comparison.audit(stream)
        elif stream != BROKEN:
            comparison.look_for_losses(stream)
            if not redundant:
                comparison.look_for_outages(stream)
    return result


def _is_numbered(stream: Stream) -> bool:
    return stream[0] in FEEDS and FEEDS[stream[0]].numbered


class _Comparison:
    """``got[i]``: whether the i-th frame of the ledger came out; ``certain[i]``: whether it
    must have reached the program."""

    def __init__(
        self, ledger: Ledger, output: Output, result: Result, tail_s: float, slack_s: float
    ) -> None:
        self.sent, self.came, self.output = ledger.sent, output.came, output
        self.ledger, self.result = ledger, result
        self.slack_ns = int(slack_s * 1e9)
        self.got = bytearray(len(self.sent))
        self.certain = bytearray(self._certain(int(tail_s * 1e9)))
        self._said: Counter[str] = Counter()

    def _certain(self, tail_ns: int) -> Iterator[bool]:
        until = {
            conn: end if conn in self.ledger.clean else end - tail_ns - 1
            for conn, end in self.ledger.ended.items()
        }
        for conn, at_ns in zip(self.sent.conn, self.sent.at_ns, strict=True):
            yield at_ns <= until.get(conn, 0)

    def say(self, kind: str, where: str) -> None:
        """A difference; of one kind only the first few are shown."""
        self._said[kind] += 1
        if self._said[kind] <= MOST_SHOWN:
            self.result.differences.append(f"{kind}: {where}")
        elif self._said[kind] == MOST_SHOWN + 1:
            self.result.differences.append(f"{kind}: … and more")

    # One connection at a time

    def align(self) -> None:
        """The output in the order of the ledger."""
        sent, came = self.sent, self.came
        at = 0
        for place, digest in enumerate(came.digest):
            try:
                found = sent.digest.index(digest, at)
            except ValueError:
                known = digest in sent.digest
                kind = "came out of order, or once more" if known else "was never sent like this"
                self.say(kind, f"{came.name(place)}, payload line {place + 1}")
                if self._said.total() > 1000:
                    return  # each costs a look at everything
                continue
            self.got[found] = True
            at = found + 1
        self._trust_what_came_before()
        self._choose_the_later_of_equals()
        self._look_for_unseen()

    def _trust_what_came_before(self) -> None:
        """What was sent on a connection before something that came has come, too."""
        last = {conn: at for at, conn in enumerate(self.sent.conn) if self.got[at]}
        for at, conn in enumerate(self.sent.conn):
            if at <= last.get(conn, -1):
                self.certain[at] = True

    def _choose_the_later_of_equals(self) -> None:
        """A frame sent in a tail and, the same, on the next connection may have come by either."""
        sent = self.sent
        last = {conn: at for at, conn in enumerate(sent.conn) if self.got[at]}
        ends = {sent.digest[at]: at for at in last.values()}
        for at, digest in enumerate(sent.digest):
            other = ends.get(digest, at)
            if self.certain[at] and not self.got[at] and other < at:
                self.got[at], self.got[other], self.certain[other] = True, False, False

    def _look_for_unseen(self) -> None:
        for at, is_certain in enumerate(self.certain):
            if is_certain and not self.got[at] and not self._is_again(at):
                self.say("was sent and did not come out", self.sent.name(at))

    def _is_again(self, at: int) -> bool:
        """Whether the venue sent a numbered frame twice in a row: it comes out once."""
        sent, before = self.sent, max(0, at - 1)
        same = sent.digest[at] == sent.digest[before] and sent.conn[at] == sent.conn[before]
        return at > 0 and same and _is_numbered(sent.streams[sent.stream[at]])

    # Several at once

    def merge(self) -> None:
        """Each stream of the output by itself: known frames, none twice, in order."""
        for stream in self.came.streams:
            if stream == BROKEN:
                continue
            places: dict[int, list[int]] = {}
            most: Counter[int] = Counter()
            for (digest, _), count in self._copies(stream, places).items():
                most[digest] = max(most[digest], count)
            self._merge_stream(stream, places, most)

    def _copies(self, stream: Stream, places: dict[int, list[int]]) -> Counter[tuple[int, int]]:
        copies: Counter[tuple[int, int]] = Counter()
        for at in self.sent.positions(stream):
            places.setdefault(self.sent.digest[at], []).append(at)
            copies[self.sent.digest[at], self.sent.conn[at]] += 1
        return copies

    def _merge_stream(
        self, stream: Stream, places: dict[int, list[int]], most: Counter[int]
    ) -> None:
        came, reached = self.came, -1
        for place in came.positions(stream):
            digest = came.digest[place]
            where = f"{came.name(place)}, payload line {place + 1}"
            if digest not in places:
                self.say("was never sent like this", where)
                continue
            most[digest] -= 1
            if most[digest] < 0:
                self.say("came out once more", where)
            for at in places[digest]:
                self.got[at] = True
            # Another connection may have been sent it later, so the earliest place counts.
            if not came.is_snapshot[place] and not _is_numbered(stream):
                if places[digest][0] < reached:
                    self.say("came out of order", where)
                reached = places[digest][0]
        if _is_numbered(stream):
            self._look_at_order(stream)

    def _look_at_order(self, stream: Stream) -> None:
        came, last = self.came, (0, NO_NUMBER)
        for place in came.positions(stream):
            if came.is_snapshot[place]:
                continue
            number = came.epoch[place], came.seq[place]
            if number <= last:
                self.say("came out of order", f"{came.name(place)} after {last[1]}")
            last = number

    # Streams with numbers

    def audit(self, stream: Stream) -> None:
        """Every number that the counter passed came out, or is named, and nothing else is."""
        known = (at for at in self.sent.positions(stream) if self.certain[at] or self.got[at])
        epochs = sorted({self.sent.epoch[at] for at in known})
        for place, epoch in enumerate(epochs):
            self._audit_count(stream, epoch, place)

    def _audit_count(self, stream: Stream, sent_epoch: int, own_epoch: int) -> None:
        sent, came = self.sent, self.came
        mine = [at for at in sent.positions(stream) if sent.epoch[at] == sent_epoch]
        sure = [at for at in mine if self.certain[at] or self.got[at]]
        out = [at for at in came.positions(stream) if came.epoch[at] == own_epoch]
        arrived = Numbers.of(came.seq[at] for at in out if not came.is_snapshot[at])
        listed = Numbers.of(
            number for at in out for number in sorted(came.listed.get(at, ()))
        ) | Numbers.of(came.seq[at] for at in out if came.is_snapshot[at])
        # A snapshot of a book holds its number's change, so that one is neither here nor there.
        free = Numbers.of(sorted(sent.seq[at] for at in mine if sent.is_snapshot[at]))
        after = sent.seq[sure[0]] - (not sent.is_snapshot[sure[0]])
        passed = Numbers([(after + 1, max(sent.seq[at] for at in sure))])
        must = Numbers.of(
            sent.seq[at] for at in mine if self.certain[at] and not sent.is_snapshot[at]
        )
        highest = max(
            *(sent.seq[at] for at in mine),
            *(loss.seq for loss in self._losses(stream) if loss.epoch == sent_epoch),
            passed.runs[-1][1] if passed.runs else after,
        )
        gone, healed, unsure = self._reported(stream, own_epoch, after, highest)
        name = " ".join(word for word in stream if word)
        self._say_numbers("came out twice", name, arrived.doubled)
        self._say_numbers("was sent and did not come out", name, must - arrived)
        unnamed = passed - arrived - gone - healed - unsure - must
        self._say_numbers(
            "neither came nor is named", name, unnamed - (free if stream[0] == "book" else _NONE)
        )
        self._say_numbers("is named missing and came", name, gone & arrived)
        self._say_numbers("is named healed and is not there", name, healed - arrived - listed)
        self.result.missing += len(gone)
        self.result.healed += len(healed)

    def _reported(
        self, stream: Stream, epoch: int, after: int, highest: int
    ) -> tuple[Numbers, Numbers, Numbers]:
        """Numbers that are named missing, healed, and beyond proof."""
        gone, healed, unsure = _NONE, _NONE, _NONE
        name = " ".join(word for word in stream if word)
        for gap in self._gaps(stream):
            if gap["epoch"] != epoch:
                continue
            first, last = gap["first"], gap["last"]
            if gap["missing"] is None:
                unsure |= Numbers([(first or after + 1, last or highest)])
                continue
            if gap["missing"] != last - first + 1:
                self.say("counts wrong", f"{name}: {first} to {last} are not {gap['missing']}")
            named = Numbers([(first, last)])
            if first <= after or last > highest:
                self.say("names numbers that the venue never passed", f"{name}: {named}")
            if gap["healed"]:
                gone, healed = gone - named, healed | named
            else:
                self._say_numbers("is named missing twice", name, gone & named)
                gone |= named
        return gone, healed, unsure

    def _say_numbers(self, kind: str, name: str, numbers: Numbers) -> None:
        if len(numbers):
            self.say(kind, f"{name}: {len(numbers)}: {numbers}")

    # Streams without numbers

    def look_for_losses(self, stream: Stream) -> None:
        """Whatever did not come lies in a named interval, and so does each change of connection."""
        sent = self.sent
        mine = list(sent.positions(stream))
        out = [at for at in mine if self.got[at]]
        intervals = [(gap["from_ns"], gap["to_ns"]) for gap in self._gaps(stream)]
        greetings = self._greetings(stream)
        known = {sent.twin[at] for at in out}
        lost = [
            (at, sent.at_ns[at])
            for at in mine
            if not self.got[at] and at not in greetings and sent.twin[at] not in known
        ]
        losses = [loss for loss in self._losses(stream) if loss.digest not in known]
        lost += [(loss.before, loss.at_ns) for loss in losses]
        for at, at_ns in lost:
            # Before the first and after the last that came there is nothing to be proven.
            if out and out[0] < at <= out[-1]:
                self._look_for_interval(stream, at_ns, at_ns, intervals, "was lost without a word")
                self.result.lost += 1

    def _greetings(self, stream: Stream) -> set[int]:
        """What a connection was sent first, and snapshots: said to it alone, so that of several
        connections one greeting is passed on."""
        sent = self.sent
        mine = sent.positions(stream)
        first: dict[int, int] = {}
        for at in mine:
            first.setdefault(sent.conn[at], at)
        return {*first.values(), *(at for at in mine if sent.is_snapshot[at])}

    def look_for_outages(self, stream: Stream) -> None:
        """Each time that a stream goes on with another connection, the interval is named."""
        sent = self.sent
        intervals = [(gap["from_ns"], gap["to_ns"]) for gap in self._gaps(stream)]
        for one, next_ in pairwise(at for at in sent.positions(stream) if self.got[at]):
            if sent.conn[one] != sent.conn[next_]:
                ends = sent.at_ns[one], sent.at_ns[next_]
                kind = "goes on after an outage that is not named"
                self._look_for_interval(stream, *ends, intervals, kind)

    def _look_for_interval(
        self, stream: Stream, from_ns: int, to_ns: int, intervals: list[tuple[int, int]], kind: str
    ) -> None:
        for first, last in intervals:
            if first - self.slack_ns <= to_ns and from_ns <= last + self.slack_ns:
                return
        name = " ".join(word for word in stream if word)
        self.say(kind, f"{name} at {from_ns}")

    # What both need

    def _gaps(self, stream: Stream) -> Iterator[dict[str, Any]]:
        for gap in self.output.of("gap"):
            if (gap["feed"], gap["product_id"]) == stream:
                yield gap

    def _losses(self, stream: Stream) -> list[Loss]:
        return [loss for loss in self.ledger.losses if loss.stream == stream]


_NONE = Numbers()
