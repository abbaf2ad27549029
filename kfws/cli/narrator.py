"""Events as sentences: what a person wants to know of a run, on stderr."""

from __future__ import annotations

from typing import Any

from kfws.cli.talk import Talk
from kfws.errors import KfwsError
from kfws.errors import Refused as AllRefused
from kfws.protocol.events import Broken, Closed, Event, Notice, Opened, Refused, Subscribed

__all__ = ["Narrator"]


class Narrator:
    """Says each thing that needs a person once, the rest only when asked to be verbose."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._refusals: list[str] = []

    def tell(self, event: Event) -> None:
        talk = self._talk
        match event:
            case Opened():
                talk.say("info", "opened", f"connected to {event.url}")
            case Subscribed(quiet=False):
                products = " ".join(event.products)
                talk.say("info", "subscribed", f"subscribed to {event.feed} {products}".rstrip())
            case Refused(quiet=False):
                what = f"{event.feed} {event.product or ''}".rstrip()
                self._refusals.append(f"the venue refused {what}: {event.message}")
            case Broken():
                talk.once("warning", "broken", f"the venue sent a broken frame: {event.reason}")
            case Notice(event="alert" | "error"):
                talk.once("warning", event.event, f"the venue says: {event.message}")
            case Notice():
                talk.say("debug", event.event, f"the venue sent {event.event}: {event.message}")
            case Closed():
                why = f" {event.reason}" if event.reason else ""
                talk.say("info", "closed", f"the connection was closed ({event.code}{why})")

    def go_on(self) -> None:
        """The stream goes on in spite of what was refused; where it does not, the error says so."""
        for refusal in self._refusals:
            self._talk.say("warning", "refused", f"{refusal}; going on without it")
        self._refusals.clear()

    def sum_up(self, totals: dict[str, Any], error: KfwsError | None) -> None:
        """The last words of a run."""
        if not isinstance(error, AllRefused):
            self.go_on()
        self._talk.say_counts()
        self._talk.say(
            "info",
            "totals",
            f"{totals['messages']:,} messages, {totals['bytes']:,} bytes "
            f"in {totals['duration_s']:.1f} s",
            totals=totals,
        )
