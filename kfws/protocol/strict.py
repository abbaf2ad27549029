"""What ``--strict`` does not let pass.

Rule of this room: pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from kfws.errors import Incomplete, ProtocolBroken
from kfws.errors import Refused as SubscriptionRefused
from kfws.protocol.events import Broken, Event, Gap, Refused

__all__ = ["judge_strictly"]


def judge_strictly(events: Iterable[Event], *, hint: str) -> None:
    """Raises ProtocolBroken for a broken frame, Incomplete for a gap that nothing healed, and
    Refused for a subscription that was turned down; ``hint`` says who wanted it so."""
    for event in events:
        if isinstance(event, Broken):
            raise ProtocolBroken(f"the venue sent a broken frame: {event.reason}", hint=hint)
        if isinstance(event, Gap) and not event.healed:
            what = f"{event.feed} {event.product or ''}".rstrip()
            raise Incomplete(f"messages are missing of {what}", hint=hint)
        if isinstance(event, Refused) and not event.quiet:
            what = f"{event.feed} {event.product or ''}".rstrip()
            raise SubscriptionRefused(f"the venue refused {what}: {event.message}", hint=hint)
