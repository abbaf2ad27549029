"""Lines that no reader took, as gaps: which messages they were."""

from __future__ import annotations

from collections.abc import Iterable

from kfws.protocol import wire
from kfws.protocol.events import Gap
from kfws.protocol.feeds import base_name

__all__ = ["gaps_of"]


def gaps_of(lines: Iterable[bytes], now_ns: int) -> list[Gap]:
    """One gap per run of numbers, and one with a count per stream that has none.

    ``lines`` are ndjson or raw frames; what is no message of a feed is passed over.
    """
    gaps: dict[tuple[str, str | None], list[Gap]] = {}
    for line in lines:
        head = wire.read_head(line)
        if isinstance(head, str) or head.event or not head.feed or line.startswith(b'{"kfws":'):
            continue
        feed, is_snapshot = base_name(head.feed)
        seq = None if is_snapshot else head.seq
        runs = gaps.setdefault((feed, head.product_id), [])
        if not _joins(runs, seq):
            runs.append(_gap(feed, head.product_id, seq, now_ns))
    return [gap for runs in gaps.values() for gap in runs]


def _joins(runs: list[Gap], seq: int | None) -> bool:
    for gap in reversed(runs):
        if gap.last == (None if seq is None else seq - 1):
            gap.last, gap.missing = seq, (gap.missing or 0) + 1
            return True
    return False


def _gap(feed: str, product: str | None, seq: int | None, now_ns: int) -> Gap:
    return Gap(
        received_ns=now_ns,
        feed=feed,
        product=product,
        first=seq,
        last=seq,
        missing=1,
        cause="slow-reader",
        from_ns=now_ns,
        to_ns=now_ns,
    )
