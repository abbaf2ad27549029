"""What a run adds up to: counts, and the delay from the venue to here."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, NamedTuple

from kfws.cli.quantities import size_text
from kfws.protocol.delays import Delays
from kfws.protocol.events import (
    Broken,
    Closed,
    Data,
    Duplicate,
    Event,
    Gap,
    Opened,
    Redial,
    Refused,
    Restart,
)

__all__ = ["DELAY_BOUNDS_MS", "Totals", "stats_in_words"]

DELAY_BOUNDS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Upper ends of the classes that delays are counted in; there is one more above the last."""
FRESH_MOST = 256


class _Mark(NamedTuple):
    """Where a run stood."""

    messages: int = 0
    bytes: int = 0
    duration_s: float = 0.0


class Totals:
    """Counts of a run. Messages and bytes are those that were passed on."""

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0
        self.connections = 0
        self.closed = 0
        self.reconnects = 0
        self._opened: set[tuple[int, int]] = set()
        self._lost = 0
        """Connections that were lost and do not stand again."""
        self.gaps = 0
        self.missing = 0
        self.healed = 0
        self.unprovable = 0
        self.restarts = 0
        self.duplicates = 0
        self.dropped = 0
        self.broken = 0
        self.refused = 0
        self._fresh: list[int] = []
        """Delays that were not looked at yet."""
        self._delay_counts = [0] * (len(DELAY_BOUNDS_MS) + 1)
        self._delay_sum_ms = 0
        self._delays = Delays()
        self._since = _Mark()
        self._recent = Delays()
        """Since the last ``stats``."""

    def passed_on(self, messages: Sequence[Data]) -> None:
        """A batch went out. The delay is sampled once per batch, not from snapshots, whose
        time is that of their last change."""
        self.messages += len(messages)
        self.bytes += sum([len(each.payload) for each in messages])
        last = messages[-1]
        if last.venue_ms is not None and last.kind == "delta":
            self._fresh.append(last.received_ns // 1_000_000 - last.venue_ms)
            if len(self._fresh) >= FRESH_MOST:
                self._look_at_delays()

    def _look_at_delays(self) -> None:
        """Some at a time: one by one they cost more, and nobody asks after each batch."""
        for delay_ms in self._fresh:
            self._delays.add(delay_ms)
            self._recent.add(delay_ms)
            self._delay_counts[bisect_left(DELAY_BOUNDS_MS, delay_ms)] += 1
            self._delay_sum_ms += delay_ms
        self._fresh.clear()

    def delays_by_class(self) -> tuple[list[int], int]:
        """How many delays fell into each class of ``DELAY_BOUNDS_MS``, and the sum of all, ms."""
        self._look_at_delays()
        return self._delay_counts, self._delay_sum_ms

    @property
    def anything(self) -> bool:
        """Whether there is something to sum up."""
        return bool(self.messages or self.gaps or self.broken)

    def see(self, event: Event) -> None:
        """Everything but messages."""
        match event:
            case Opened() if (event.connection, event.received_ns) in self._opened:
                pass  # it stands, and is told again at the head of the next file of a tape
            case Opened():
                self._opened.add((event.connection, event.received_ns))
                self.connections += 1
                self.reconnects += self._lost > 0
                self._lost = max(0, self._lost - 1)
            case Redial(connection=lost):
                self._lost += lost > 0
            case Closed():
                self.closed += 1
            case Gap():
                self.gaps += 1
                if event.healed:
                    self.healed += event.missing or 0
                elif event.missing is None:
                    self.unprovable += 1
                elif event.cause == "slow-reader":
                    self.dropped += event.missing
                else:
                    self.missing += event.missing
            case Restart():
                self.restarts += 1
                self.unprovable += 1
            case Duplicate():
                self.duplicates += 1
            case Broken():
                self.broken += 1
            case Refused(quiet=False):
                self.refused += 1

    def fields(self, duration_s: float) -> dict[str, Any]:
        """For machines: the ``totals`` of a tape and of ``--log-format json``."""
        self._look_at_delays()
        return {
            "messages": self.messages,
            "bytes": self.bytes,
            "duration_s": round(duration_s, 3),
            "connections": self.connections,
            "gaps": self.gaps,
            "missing": self.missing,
            "healed": self.healed,
            "unprovable": self.unprovable,
            "restarts": self.restarts,
            "duplicates": self.duplicates,
            "dropped": self.dropped,
            "broken": self.broken,
            "refused": self.refused,
            "delay_p50_ms": self._delays.percentile(50),
            "delay_p99_ms": self._delays.percentile(99),
        }

    def stats(self, duration_s: float, buffered: int) -> dict[str, Any]:
        """How it went since the last time this was asked; ``buffered``: bytes not taken yet."""
        self._look_at_delays()
        since, self._since = self._since, _Mark(self.messages, self.bytes, duration_s)
        delays, self._recent = self._recent, Delays()
        seconds = max(0.001, duration_s - since.duration_s)
        return {
            "messages_per_s": round((self.messages - since.messages) / seconds, 1),
            "bytes_per_s": round((self.bytes - since.bytes) / seconds),
            "delay_p50_ms": delays.percentile(50),
            "delay_p99_ms": delays.percentile(99),
            "gaps": self.gaps,
            "missing": self.missing,
            "connections": self.connections,
            "buffered_bytes": buffered,
        }

    def so_far(self) -> str:
        """For people, while it goes on: ``recording: 1,234 messages, 1.2 MB, no gaps``."""
        gaps = _count(self.gaps, "gap") if self.gaps else "no gaps"
        return f"recording: {_count(self.messages, 'message')}, {size_text(self.bytes)}, {gaps}"

    def sentence(self, duration_s: float) -> str:
        """For people: what came, then what did not."""
        self._look_at_delays()
        parts = [
            f"{_count(self.messages, 'message')}, {_count(self.bytes, 'byte')} in "
            f"{duration_s:.1f} s "
            f"on {_count(self.connections, 'connection')}"
        ]
        losses = [
            f"{self.missing:,} missing" if self.missing else "",
            f"{self.healed:,} healed" if self.healed else "",
            f"{_count(self.unprovable, 'interval')} unprovable" if self.unprovable else "",
            f"{_count(self.restarts, 'counter')} begun anew" if self.restarts else "",
            f"{self.dropped:,} dropped" if self.dropped else "",
            f"{_count(self.duplicates, 'duplicate')}" if self.duplicates else "",
            f"{self.broken:,} broken" if self.broken else "",
        ]
        gaps = _count(self.gaps, "gap") if self.gaps else "no gaps"
        parts.append(", ".join([gaps, *filter(None, losses)]))
        p50, p99 = self._delays.percentile(50), self._delays.percentile(99)
        if p50 is not None:
            parts.append(f"delay p50 {p50} ms, p99 {p99} ms")
        return "; ".join(parts)


def stats_in_words(stats: dict[str, Any]) -> str:
    """For people: rate, delay, what is missing so far, what waits."""
    p50, p99 = stats["delay_p50_ms"], stats["delay_p99_ms"]
    gaps = _count(stats["gaps"], "gap") if stats["gaps"] else "no gaps"
    parts = [
        f"{stats['messages_per_s']:,.0f} messages/s, {size_text(stats['bytes_per_s'])}/s",
        f"delay p50 {p50} ms, p99 {p99} ms" if p50 is not None else "",
        f"{gaps} so far, {stats['missing']:,} missing" if stats["missing"] else f"{gaps} so far",
        _count(stats["connections"], "connection"),
        f"{size_text(stats['buffered_bytes'])} waiting" if stats["buffered_bytes"] else "",
    ]
    return "; ".join(filter(None, parts))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"
