from __future__ import annotations

from typing import Any

import pytest

from kfws.cli.narrator import Narrator
from kfws.cli.talk import Level, Talk
from kfws.errors import KfwsError, Unreachable
from kfws.errors import Refused as AllRefused
from kfws.protocol.events import (
    Broken,
    Closed,
    Data,
    Event,
    Notice,
    Opened,
    Refused,
    Report,
    Subscribed,
    Tick,
)
from tests.cli.test_talk import Paper

TOTALS: dict[str, Any] = {"messages": 1234, "bytes": 5_000_000, "duration_s": 1.25}


def told(*events: Event, least: Level = "warning") -> list[str]:
    paper = Paper()
    narrator = Narrator(Talk(paper, least=least))
    for event in events:
        narrator.tell(event)
    return [line.removeprefix("kfws: ") for line in paper.lines]


def refused(product: str | None = "PF_NO", *, quiet: bool = False) -> Refused:
    return Refused(
        payload=b"{}", received_ns=1, feed="book", product=product, message="no", quiet=quiet
    )


@pytest.mark.parametrize(
    ("event", "level", "line"),
    [
        (Opened(received_ns=1, connection=1, url="wss://x"), "info", "connected to wss://x"),
        (
            Subscribed(payload=b"{}", received_ns=1, feed="book", products=("PF_A", "PF_B")),
            "info",
            "subscribed to book PF_A PF_B",
        ),
        (Subscribed(payload=b"{}", received_ns=1, feed="fills"), "info", "subscribed to fills"),
        (
            Broken(payload=b"{", received_ns=1, reason="not JSON"),
            "warning",
            "the venue sent a broken frame: not JSON",
        ),
        (
            Notice(payload=b"{}", received_ns=1, event="alert", message="Bad"),
            "warning",
            "the venue says: Bad",
        ),
        (
            Notice(payload=b"{}", received_ns=1, event="error", message="Json Error"),
            "warning",
            "the venue says: Json Error",
        ),
        (
            Notice(payload=b"{}", received_ns=1, event="info"),
            "debug",
            "the venue sent info: ",
        ),
        (
            Notice(payload=b"{}", received_ns=1, event="of_tomorrow", message="hello"),
            "debug",
            "the venue sent of_tomorrow: hello",
        ),
        (
            Closed(received_ns=1, connection=1, code=1000, reason=""),
            "info",
            "the connection was closed (1000)",
        ),
        (
            Closed(received_ns=1, connection=1, code=1012, reason="restart"),
            "info",
            "the connection was closed (1012 restart)",
        ),
    ],
)
def test_each_event_has_its_sentence_and_its_level(event: Event, level: Level, line: str) -> None:
    assert told(event, least=level) == [line]
    if level != "warning":
        assert told(event) == []


@pytest.mark.parametrize(
    "event",
    [
        Data(b"{}", 1, "trade", "delta", "PF_A", 1, 1),
        Tick(received_ns=1),
        Report(received_ns=1, name="totals", fields={}),
        Subscribed(payload=b"{}", received_ns=1, feed="heartbeat", quiet=True),
    ],
)
def test_data_and_what_nobody_asked_for_are_not_talked_about(event: Event) -> None:
    assert told(event, least="debug") == []


def test_a_broken_frame_is_told_once_per_kind_and_counted_in_the_end() -> None:
    paper = Paper()
    narrator = Narrator(Talk(paper))
    for reason in ("empty", "not JSON", "empty"):
        narrator.tell(Broken(payload=b"", received_ns=1, reason=reason))
    narrator.sum_up(TOTALS, None)
    assert paper.lines == [
        "kfws: the venue sent a broken frame: empty",
        "kfws: the venue sent a broken frame: not JSON",
        "kfws: the venue sent a broken frame: empty (so 2 times in all)",
    ]


def test_a_refusal_is_told_where_the_stream_goes_on_without_it() -> None:
    paper = Paper()
    narrator = Narrator(Talk(paper))
    narrator.tell(refused())
    narrator.tell(refused(None))
    assert paper.lines == []
    narrator.go_on()
    narrator.go_on()
    assert paper.lines == [
        "kfws: the venue refused book PF_NO: no; going on without it",
        "kfws: the venue refused book: no; going on without it",
    ]


def test_a_quiet_subscription_is_refused_quietly() -> None:
    paper = Paper()
    narrator = Narrator(Talk(paper, least="debug"))
    narrator.tell(refused(quiet=True))
    narrator.go_on()
    assert paper.lines == []


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (None, ["kfws: the venue refused book PF_NO: no; going on without it"]),
        (Unreachable("x"), ["kfws: the venue refused book PF_NO: no; going on without it"]),
        (AllRefused("the venue refused all"), []),
    ],
)
def test_refusals_are_not_told_twice_where_they_are_the_error(
    error: KfwsError | None, lines: list[str]
) -> None:
    paper = Paper()
    narrator = Narrator(Talk(paper))
    narrator.tell(refused())
    narrator.sum_up(TOTALS, error)
    assert paper.lines == lines


def test_the_last_words_are_the_totals_for_who_wants_them() -> None:
    paper = Paper()
    Narrator(Talk(paper, least="info")).sum_up(TOTALS, None)
    assert paper.lines == ["kfws: 1,234 messages, 5,000,000 bytes in 1.2 s"]


def test_what_the_venue_says_is_made_harmless() -> None:
    [line] = told(Notice(payload=b"{}", received_ns=1, event="alert", message="\x1b]0;x\x07\n"))
    assert line == "the venue says: ·]0;x··"
