"""Messages that no reader took, as gaps: which they were."""

from __future__ import annotations

from collections.abc import Iterable

from kfws.protocol import wire
from kfws.protocol.events import Data, Gap
from kfws.protocol.feeds import base_name
from kfws.protocol.sequence import gap_of

__all__ = ["Unwritten"]

# A filter leaves many small runs of numbers; nobody wants a line for each.
RUNS_MOST = 20


class Unwritten:
    """One gap per run of numbers, and one with a count per stream that has none."""

    def __init__(self, now_ns: int) -> None:
        self._now_ns = now_ns
        self._streams: dict[tuple[str, str | None], list[Gap]] = {}

    def take_lines(self, lines: Iterable[bytes]) -> None:
        """Of ndjson or raw; what is no message of a feed is passed over."""
        for line in lines:
            head = wire.read_typed(line) or wire.read_head(line)
            if not isinstance(head, Data) or not head.feed or line[:8] == b'{"kfws":':
                continue
            feed, is_snapshot = base_name(head.feed)
            self._add(feed, head.product, None if is_snapshot else head.seq)

    def _add(self, feed: str, product: str | None, seq: int | None) -> None:
        runs = self._streams.setdefault((feed, product), [])
        before = None if seq is None else seq - 1
        for gap in runs[:1] if seq is None else runs[-1:]:
            if gap.last == before:
                gap.last, gap.missing = seq, (gap.missing or 0) + 1
                return
        now_ns = self._now_ns
        gap = gap_of((feed, product), now_ns, seq, seq, 1, "slow-reader", now_ns, now_ns)
        if seq is None:
            runs.insert(0, gap)  # the one that is counted
        else:
            runs.append(gap)

    def gaps(self) -> list[Gap]:
        return [gap for runs in self._streams.values() for gap in _in_short(runs)]


def _in_short(runs: list[Gap]) -> list[Gap]:
    """The runs, or where they are too many one with the count of all."""
    if len(runs) <= RUNS_MOST:
        return runs
    whole, *others = runs
    whole.first = whole.last = None
    whole.missing = sum(each.missing or 0 for each in (whole, *others))
    return [whole]
