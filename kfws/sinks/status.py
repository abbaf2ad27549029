"""The line below a picture: where it comes from, and whether it can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kfws.protocol.events import Closed, Data, Event, Gap, Opened, Redial
from kfws.sinks.columns import printable
from kfws.sinks.paint import Paint, fit

__all__ = ["Status"]

SECOND_NS = 1_000_000_000


class Status:
    """``venue`` and ``asked`` (what was subscribed to) as they are to be shown; ``played`` says
    where a replay stands, instead of how connections do."""

    def __init__(
        self, *, venue: str, asked: str, paint: Paint, played: Callable[[], str] | None = None
    ) -> None:
        self._played = played
        self._fixed = printable(venue), printable(asked)
        self._paint = paint
        self._open: set[int] = set()
        self._has_stood = False
        self._reconnects = 0
        self._redial_ns: int | None = None
        self._gaps = 0
        self._unhealed = 0
        self._messages = 0
        self._last: Data | None = None
        self._second = 0
        self._counted = 0
        self._rate: int | None = None
        self._delay_ms: int | None = None

    def take(self, events: Sequence[Event]) -> None:
        """A batch. Messages are counted; what happens on connections is kept."""
        for event in events:
            if type(event) is Data:
                self._messages += 1
                self._last = event
            else:
                self._see(event)

    def _see(self, event: Event) -> None:
        match event:
            case Opened():
                self._open.add(event.connection)
                self._reconnects += self._has_stood and self._redial_ns is not None
                self._has_stood, self._redial_ns = True, None
            case Closed():
                self._open.discard(event.connection)
            case Redial():
                self._redial_ns = event.received_ns + int(event.delay_s * SECOND_NS)
            case Gap():
                self._gaps += 1
                self._unhealed += not event.healed

    def line(self, now_ns: int, width: int, *, buffered: int = 0) -> str:
        """The line, as wide as the terminal; where it is narrow what matters least is left out,
        and the state itself, which is always there, is cut."""
        self._measure(now_ns)
        style, state = self._state(now_ns)
        text = f" {state}"
        for part in self._parts(buffered):
            longer = f"{text} · {part}"
            if part and len(longer) <= width:
                text = longer
        return self._paint(style, fit(text, width))

    def _state(self, now_ns: int) -> tuple[str, str]:
        if self._played is not None:
            return "reverse", self._played()
        if self._open:
            more = f" ×{len(self._open)}" if len(self._open) > 1 else ""
            return "reverse", f"● {self._fixed[0]}{more}"
        if self._redial_ns is None:
            what = "disconnected" if self._has_stood else "connecting"
            return "black on yellow", f"○ {what} {self._fixed[0]}"
        left_s = max(0, self._redial_ns - now_ns) / SECOND_NS
        return "black on yellow", f"○ {self._fixed[0]} reconnecting in {left_s:.1f} s"

    def _parts(self, buffered: int) -> list[str]:
        return [
            self._fixed[1],
            f"{self._rate:,}/s" if self._rate is not None else "",
            f"delay {self._delay_ms:,} ms" if self._delay_ms is not None else "",
            f"{_count(self._gaps, 'gap')}" + (" healed" if self._gaps > self._unhealed == 0 else "")
            if self._gaps
            else "no gaps",
            _count(self._reconnects, "reconnect") if self._reconnects else "",
            f"buffer {buffered / 1024:,.0f} KiB" if buffered >= 1024 else "",
            _count(self._messages, "message"),
        ]

    def _measure(self, now_ns: int) -> None:
        """Rate and delay, once a second."""
        second = now_ns // SECOND_NS
        if second == self._second:
            return
        if self._second:
            self._rate = (self._messages - self._counted) // max(1, second - self._second)
        self._second, self._counted = second, self._messages
        last, self._last = self._last, None
        if last is not None and last.venue_ms is not None and last.kind == "delta":
            self._delay_ms = last.received_ns // 1_000_000 - last.venue_ms


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"
