"""Events as sentences: what a person wants to know of a run, on stderr."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from kfws.cli.talk import Level, Talk
from kfws.cli.totals import Totals
from kfws.errors import KfwsError, OutputError, ReaderTooSlow
from kfws.errors import Refused as AllRefused
from kfws.protocol.events import (
    Broken,
    Closed,
    Duplicate,
    Event,
    Gap,
    Notice,
    Opened,
    Redial,
    Refused,
    Restart,
    Resync,
    Silent,
    Stale,
    Subscribed,
    describe,
)
from kfws.protocol.session import (
    ALREADY_SUBSCRIBED,
    INVALID_PRODUCT,
    NOT_SUBSCRIBED,
    UNAUTHENTICATED,
)

__all__ = ["Narrator", "gap_in_words", "is_unknown"]

# So many intervals of one feed and cause are told one by one; more are told as one.
INTERVALS_TOLD = 3


# What the Session deals with by itself, and says what comes of it.
HANDLED = (ALREADY_SUBSCRIBED, NOT_SUBSCRIBED, UNAUTHENTICATED)
SHOWN = 200


class Narrator:
    """Says each thing that needs a person once, the rest only when asked to be verbose.

    ``fault`` says what is wrong with a product id, or nothing where it does not know.
    """

    def __init__(self, talk: Talk, fault: Callable[[str], str] = lambda _: "") -> None:
        self._talk = talk
        self._fault = fault
        self.refused: dict[tuple[str, str | None], Refused] = {}
        """What the venue turned down, by feed and product."""
        self._refusals: list[Refused] = []
        self._redials = 0

    def tell(self, events: list[Event]) -> None:
        """A batch, but for its messages."""
        intervals = [each for each in events if isinstance(each, Gap) and each.missing is None]
        if len(intervals) > INTERVALS_TOLD:
            self._tell_as_one(intervals)
            events = [each for each in events if each not in intervals]
        for event in events:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        match event:
            case Gap():
                self._say("warning", "gap", gap_in_words(event), event)
            case Redial():
                self._redials += 1
                soon = event.delay_s < 0.05
                again = "at once" if soon else f"in {event.delay_s:.1f} s"
                self._say("warning", "redial", f"{event.reason}; dialling again {again}", event)
            case Opened():
                # Good news only for who heard the bad.
                level: Level = "warning" if self._redials else "info"
                self._redials = max(0, self._redials - 1)
                which = f" (connection {event.connection})" if event.connection > 1 else ""
                self._say(level, "opened", f"connected to {event.url}{which}", event)
            case Subscribed(quiet=False):
                products = " ".join(event.products)
                what = f"subscribed to {event.feed} {products}".rstrip()
                self._say("info", "subscribed", what, event)
            case Refused(quiet=False):
                self.refused[event.feed, event.product] = event
                self._refusals.append(event)
            case Broken():
                what = f"the venue sent a broken frame: {event.reason}"
                self._talk.once("warning", "broken", what)
            case Duplicate():
                what = f"{_stream(event)} {event.seq}"
                what = f"duplicate: {what} came before; left out"
                self._say("warning", "duplicate", what, event)
            case Restart():
                what = f"{_stream(event)}: the venue counts anew, {event.last} then {event.seq}"
                between = f"between {_clock(event.from_ns)} and {_clock(event.to_ns)}"
                what = f"{what}; how far it went {between} nobody can prove"
                self._say("warning", "restart", what, event)
            case Stale():
                what = f"{_stream(event)} is stale; asked for a new snapshot"
                self._say("warning", "stale", what, event)
            case Resync():
                after = f"after {event.stale_ns / 1e9:.2f} s"
                what = f"{_stream(event)} is whole again {after}, from {event.seq} on"
                self._say("warning", "resync", what, event)
            case Silent(feed="heartbeat"):
                self._say("warning", "silent", event.reason, event)
            case Silent():
                what = f"{_stream(event)}: {event.reason}; asked for again"
                self._say("warning", "silent", what, event)
            case Notice(event="alert" | "error") if not event.message.startswith(HANDLED):
                self._talk.once("warning", event.event, f"the venue says: {_said(event)}")
            case Notice():
                what = f"the venue sent {event.event}: {_said(event)}"
                self._say("debug", event.event, what, event)
            case Closed():
                why = f" {event.reason}" if event.reason else ""
                what = f"connection {event.connection} was closed ({event.code}{why})"
                self._say("info", "closed", what, event)

    def _say(self, level: Level, code: str, sentence: str, event: Event) -> None:
        """For machines the event itself goes with the sentence, as ``--events`` gives it."""
        self._talk.say(level, code, sentence, event=describe(event))

    def _tell_as_one(self, intervals: list[Gap]) -> None:
        feeds = ", ".join(dict.fromkeys(each.feed for each in intervals))
        first = min(each.from_ns for each in intervals)
        last = max(each.to_ns for each in intervals)
        what = f"gap: {len(intervals)} streams of {feeds}"
        told = [describe(each) for each in intervals]
        what = f"{what} {_unprovable(intervals[0], first, last)}"
        self._talk.say("warning", "gap", what, events=told)

    @property
    def waits(self) -> bool:
        """Whether something was refused and is not told yet."""
        return bool(self._refusals)

    @property
    def wonders(self) -> bool:
        """Whether a products list could tell more of what was refused than is known."""
        return any(
            is_unknown(each) and not self._fault(each.product or "") for each in self._refusals
        )

    def go_on(self) -> None:
        """The stream goes on in spite of what was refused; where it does not, the error says so."""
        for event in self._refusals:
            fault = self._fault(event.product) if event.product and is_unknown(event) else ""
            what = f"the venue refused {_stream(event)}: {fault or event.message}"
            self._say("warning", "refused", f"{what}; going on without it", event)
        self._refusals.clear()

    def sum_up(self, totals: Totals, duration_s: float, error: KfwsError | None) -> None:
        """The last words of a run."""
        if not isinstance(error, AllRefused):
            self.go_on()
        self._talk.say_counts()
        broken = isinstance(error, OutputError) and not isinstance(error, ReaderTooSlow)
        if broken or (error is not None and not totals.anything):
            return  # one line says it all: that of the error
        facts = totals.fields(duration_s)
        self._talk.say("warning", "totals", totals.sentence(duration_s), totals=facts)


def is_unknown(refused: Refused) -> bool:
    """Whether the venue refused a subscription since it has no such product."""
    return refused.message.startswith(INVALID_PRODUCT)


def _said(notice: Notice) -> str:
    """The venue's words, or where there are none the frame itself; neither at any length."""
    text = notice.message or (notice.payload or b"").decode(errors="replace")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _stream(event: Gap | Duplicate | Restart | Stale | Resync | Silent | Refused) -> str:
    return f"{event.feed} {event.product or ''}".rstrip()


def gap_in_words(gap: Gap) -> str:
    """What is missing, of which stream, and why."""
    what = f"gap: {_stream(gap)}"
    if gap.missing is None:
        since = "" if gap.first is None else f" from {gap.first} on"
        return f"{what}{since} {_unprovable(gap, gap.from_ns, gap.to_ns)}"
    numbers = "" if gap.first is None else f" {gap.first}"
    if gap.last is not None and gap.last != gap.first:
        numbers += f"–{gap.last}"
    count = f"{gap.missing:,} message{'s' if gap.missing != 1 else ''}"
    if gap.healed:
        return f"{what}{numbers}: {count} healed by the {gap.healed_by} ({gap.cause})"
    return f"{what}{numbers}: {count} missing ({gap.cause})"


def _unprovable(gap: Gap, from_ns: int, to_ns: int) -> str:
    return (
        f"between {_clock(from_ns)} and {_clock(to_ns)}: "
        f"nobody can prove that nothing is missing ({gap.cause})"
    )


def _clock(moment_ns: int) -> str:
    """Local time of day, for a line that a person reads now."""
    moment = datetime.fromtimestamp(moment_ns / 1e9).astimezone()
    return moment.strftime("%H:%M:%S.") + f"{moment.microsecond // 1000:03}"
