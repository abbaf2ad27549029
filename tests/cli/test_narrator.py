from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import msgspec
import pytest

from kfws.cli.narrator import Narrator
from kfws.cli.talk import Level, Talk
from kfws.cli.totals import Totals
from kfws.errors import Interrupted, KfwsError, OutputError, Unreachable
from kfws.errors import Refused as AllRefused
from kfws.protocol.events import (
    Broken,
    Closed,
    Data,
    Duplicate,
    Event,
    Gap,
    Notice,
    Opened,
    Redial,
    Refused,
    Report,
    Restart,
    Resync,
    Silent,
    Stale,
    Subscribed,
    Tick,
    describe,
)
from tests.cli.test_talk import Paper

# Local time of day of one nanosecond after the epoch.
CLOCK = datetime.fromtimestamp(0).astimezone().strftime("%H:%M:%S.000")


def totals(messages: int = 0) -> Totals:
    found = Totals()
    if messages:
        one = Data(
            payload=b"x" * 10, received_ns=2_000_000, feed="book", product="PF_A", seq=1, venue_ms=1
        )
        found.passed_on([one] * messages)
    return found


def told(*events: Event, least: Level = "warning") -> list[str]:
    paper = Paper()
    narrator = Narrator(Talk(paper, least=least))
    for event in events:
        narrator.tell([event])
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
            "the venue sent info: {}",
        ),
        (
            Notice(payload=b"{}", received_ns=1, event="of_tomorrow", message="hello"),
            "debug",
            "the venue sent of_tomorrow: hello",
        ),
        (
            Closed(received_ns=1, connection=1, code=1000, reason=""),
            "info",
            "connection 1 was closed (1000)",
        ),
        (
            Closed(received_ns=1, connection=1, code=1012, reason="restart"),
            "info",
            "connection 1 was closed (1012 restart)",
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
        Data(payload=b"{}", received_ns=1, feed="trade", product="PF_A", seq=1, venue_ms=1),
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
        narrator.tell([Broken(payload=b"", received_ns=1, reason=reason)])
    narrator.sum_up(totals(), 1.25, Interrupted(2))
    assert paper.lines == [
        "kfws: the venue sent a broken frame: empty",
        "kfws: the venue sent a broken frame: not JSON",
        "kfws: the venue sent a broken frame: empty (so 2 times in all)",
    ]


def test_a_refusal_is_told_where_the_stream_goes_on_without_it() -> None:
    paper = Paper()
    narrator = Narrator(Talk(paper))
    narrator.tell([refused()])
    narrator.tell([refused(None)])
    assert paper.lines == []
    narrator.go_on()
    narrator.go_on()
    assert paper.lines == [
        "kfws: the venue refused book PF_NO: no; going on without it",
        "kfws: the venue refused book: no; going on without it",
    ]


def test_an_unknown_product_is_told_with_what_is_wrong_with_it() -> None:
    paper = Paper()
    narrator = Narrator(Talk(paper), lambda product: f"no product {product}; similar: PF_A")
    unknown = Refused(
        payload=b"{}",
        received_ns=1,
        feed="book",
        product="PF_NO",
        message="Couldn't subscribe to invalid product `PF_NO`",
    )
    narrator.tell([unknown, refused()])
    narrator.go_on()
    assert paper.lines == [
        "kfws: the venue refused book PF_NO: no product PF_NO; similar: PF_A; going on without it",
        "kfws: the venue refused book PF_NO: no; going on without it",
    ]
    assert [*narrator.refused] == [("book", "PF_NO")]


def test_a_quiet_subscription_is_refused_quietly() -> None:
    paper = Paper()
    narrator = Narrator(Talk(paper, least="debug"))
    narrator.tell([refused(quiet=True)])
    narrator.go_on()
    assert paper.lines == []


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (Interrupted(2), ["kfws: the venue refused book PF_NO: no; going on without it"]),
        (Unreachable("x"), ["kfws: the venue refused book PF_NO: no; going on without it"]),
        (AllRefused("the venue refused all"), []),
    ],
)
def test_refusals_are_not_told_twice_where_they_are_the_error(
    error: KfwsError | None, lines: list[str]
) -> None:
    paper = Paper()
    narrator = Narrator(Talk(paper))
    narrator.tell([refused()])
    narrator.sum_up(totals(), 1.25, error)
    assert paper.lines == lines


@pytest.mark.parametrize(
    ("error", "messages", "said"),
    [
        (None, 1234, True),
        (None, 0, True),
        (Unreachable("x"), 1234, True),
        (Interrupted(2), 0, False),
        (OutputError("disk full"), 1234, False),
    ],
)
def test_the_last_words_are_the_totals_unless_the_error_says_it_all(
    error: KfwsError | None, messages: int, said: bool
) -> None:
    paper = Paper()
    Narrator(Talk(paper)).sum_up(totals(messages), 1.25, error)
    assert len(paper.lines) == said
    if messages and said:
        assert paper.lines == [
            "kfws: 1,234 messages, 12,340 bytes in 1.2 s on 0 connections; no gaps; "
            "delay p50 1 ms, p99 1 ms"
        ]


GAP = Gap(
    received_ns=1, feed="book", product="PF_A", first=5, last=7, missing=3,
    cause="outage", from_ns=0, to_ns=10**9,
)  # fmt: skip


def gap(**changes: Any) -> Gap:
    return msgspec.structs.replace(GAP, **changes)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (gap(), "gap: book PF_A 5–7: 3 messages missing (outage)"),
        (gap(last=5, missing=1), "gap: book PF_A 5: 1 message missing (outage)"),
        (
            gap(healed_by="snapshot", cause="venue"),
            "gap: book PF_A 5–7: 3 messages healed by the snapshot (venue)",
        ),
        (
            Duplicate(payload=b"{}", received_ns=1, feed="book", product="PF_A", seq=7),
            "duplicate: book PF_A 7 came before; left out",
        ),
        (
            Restart(received_ns=1, feed="book", product="PF_A", last=9, seq=2, from_ns=1, to_ns=1),
            f"book PF_A: the venue counts anew, 9 then 2; how far it went between {CLOCK} "
            f"and {CLOCK} nobody can prove",
        ),
        (
            Stale(received_ns=1, feed="book", product="PF_A"),
            "book PF_A is stale; asked for a new snapshot",
        ),
        (
            Resync(received_ns=1, feed="book", product="PF_A", seq=9, stale_ns=250_000_000),
            "book PF_A is whole again after 0.25 s, from 9 on",
        ),
        (
            Silent(received_ns=1, feed="ticker", product="PF_A", reason="silent for 60 s"),
            "ticker PF_A: silent for 60 s; asked for again",
        ),
        (
            Silent(received_ns=1, feed="heartbeat", product=None, reason="no heartbeat"),
            "no heartbeat",
        ),
        (
            Redial(received_ns=1, reason="it broke off", failed=0, delay_s=0.25),
            "it broke off; dialling again in 0.2 s",
        ),
        (
            Redial(received_ns=1, reason="it broke off", failed=0, delay_s=0.01),
            "it broke off; dialling again at once",
        ),
    ],
)
def test_what_did_not_come_is_said_aloud(event: Event, line: str) -> None:
    assert told(event) == [line]


def test_an_interval_is_told_with_its_moments() -> None:
    for first, since in ((None, ""), (8, " from 8 on")):
        [line] = told(gap(first=first, last=None, missing=None, feed="ticker"))
        assert line.startswith(f"gap: ticker PF_A{since} between ")
        assert line.endswith("nobody can prove that nothing is missing (outage)")


def test_many_intervals_of_a_batch_are_told_as_one() -> None:
    paper = Paper()
    one = gap(first=None, last=None, missing=None)
    Narrator(Talk(paper)).tell([one] * 350)
    [line] = paper.lines
    assert "gap: 350 streams of book between" in line


def test_a_connection_after_a_loss_is_good_news() -> None:
    opened = Opened(received_ns=1, connection=2, url="wss://x")
    redial = Redial(received_ns=1, reason="lost", failed=0, delay_s=0.1)
    assert told(redial, opened)[1:] == ["connected to wss://x (connection 2)"]
    assert told(opened) == []


def test_for_machines_the_event_goes_with_its_sentence() -> None:
    paper = Paper()
    narrator = Narrator(Talk(paper, as_json=True))
    narrator.tell([gap()])
    narrator.tell([gap(missing=None)] * 4)
    one, many = map(json.loads, paper.lines)
    assert one["event"] == describe(gap())
    assert [each["kfws"] for each in many["events"]] == ["gap"] * 4


def test_what_the_venue_says_is_made_harmless() -> None:
    [line] = told(Notice(payload=b"{}", received_ns=1, event="alert", message="\x1b]0;x\x07\n"))
    assert line == "the venue says: ·]0;x··"


def test_a_connection_that_every_file_of_a_tape_tells_of_is_one() -> None:
    found = Totals()
    for number in (1, 1, 2, 1):
        found.see(Opened(received_ns=number, connection=number, url="wss://x"))
    assert found.connections == 2
