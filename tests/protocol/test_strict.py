"""What a strict run does not let pass."""

from __future__ import annotations

import pytest

from kfws.errors import Incomplete, KfwsError, ProtocolBroken
from kfws.errors import Refused as SubscriptionRefused
from kfws.protocol.events import Broken, Event, Gap, Refused, Tick
from kfws.protocol.strict import judge_strictly


def gap(healed_by: str | None = None) -> Gap:
    return Gap(
        received_ns=0,
        feed="fills",
        product=None,
        first=None,
        last=None,
        missing=None,
        cause="outage",
        from_ns=0,
        to_ns=0,
        healed_by=healed_by,
    )


def refused(*, quiet: bool = False) -> Refused:
    return Refused(
        payload=None,
        received_ns=0,
        feed="book",
        product="PF_NOPEUSD",
        message="invalid",
        quiet=quiet,
    )


@pytest.mark.parametrize(
    ("event", "error", "sentence"),
    [
        (
            Broken(payload=b"", received_ns=0, reason="empty"),
            ProtocolBroken,
            "the venue sent a broken frame: empty",
        ),
        (gap(), Incomplete, "messages are missing of fills"),
        (refused(), SubscriptionRefused, "the venue refused book PF_NOPEUSD: invalid"),
    ],
)
def test_a_loss_a_refusal_and_nonsense_end_it(
    event: Event, error: type[KfwsError], sentence: str
) -> None:
    with pytest.raises(error) as caught:
        judge_strictly([Tick(received_ns=0), event], hint="it was wanted so")
    assert str(caught.value) == sentence
    assert caught.value.hint == "it was wanted so"


def test_what_was_healed_or_nobody_asked_for_passes() -> None:
    judge_strictly([gap("snapshot"), refused(quiet=True)], hint="")
