from __future__ import annotations

import base64
import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.protocol.events import (
    BinaryFrame,
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
    restore,
)
from tests.frames_of import frames

AT = 1_791_518_718_655_000_000


def data(payload: bytes, feed: str = "book") -> Data:
    return Data(payload=payload, received_ns=AT, feed=feed, product="PF_XBTUSD")


def test_a_message_is_decoded_on_first_use_and_kept() -> None:
    event = data(frames("book", kind="delta")[0])
    assert event.decoded is None
    assert event.message["qty"] == 0.0
    assert event.message is event.message


def test_decoding_a_message_leaves_its_payload_alone() -> None:
    [payload, *_] = frames("book", kind="snapshot")
    event = data(payload)
    assert event.message["asks"][0] == {"price": 83999.0, "qty": 0.04}
    assert b'"qty":0.0400' in event.payload


def test_a_number_beyond_all_floats_is_infinite_and_no_error() -> None:
    assert data(b'{"qty":1e999}').message == {"qty": math.inf}
    assert data(b'{"qty":' + b"9" * 5000 + b',"seq":7}').message == {"qty": math.inf, "seq": 7}


def test_a_message_too_deep_to_decode_from_here_is_empty_and_no_error() -> None:
    event = data(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)
    assert event.message == {}


def test_data_ticks_and_what_nobody_asked_for_have_no_object_of_ours() -> None:
    silent: list[Event] = [
        data(b"{}"),
        Tick(received_ns=AT),
        Subscribed(payload=b"{}", received_ns=AT, feed="heartbeat", quiet=True),
        Notice(payload=b"{}", received_ns=AT, event="unsubscribed", quiet=True),
        Refused(
            payload=b"{}", received_ns=AT, feed="heartbeat", product=None, message="", quiet=True
        ),
        Event(),
    ]
    assert [describe(event) for event in silent] == [None] * 6


DESCRIBED: list[tuple[Event, dict[str, Any]]] = [
    (
        Subscribed(payload=b"{}", received_ns=AT, feed="ticker", products=("PF_XBTUSD",)),
        {"kfws": "subscribed", "at_ns": AT, "feed": "ticker", "product_ids": ["PF_XBTUSD"]},
    ),
    (
        Subscribed(payload=b"{}", received_ns=AT, feed="fills"),
        {"kfws": "subscribed", "at_ns": AT, "feed": "fills"},
    ),
    (
        Refused(payload=None, received_ns=AT, feed="book", product="PF_NOPEUSD", message="no"),
        {
            "kfws": "refused",
            "at_ns": AT,
            "feed": "book",
            "product_id": "PF_NOPEUSD",
            "message": "no",
        },
    ),
    (
        Notice(payload=b"{}", received_ns=AT, event="alert", message="Bad websocket message"),
        {
            "kfws": "notice",
            "at_ns": AT,
            "event": "alert",
            "message": "Bad websocket message",
        },
    ),
    (
        Opened(received_ns=AT, connection=1, url="wss://futures.kraken.com/ws/v1"),
        {
            "kfws": "opened",
            "at_ns": AT,
            "connection": 1,
            "url": "wss://futures.kraken.com/ws/v1",
        },
    ),
    (
        Closed(received_ns=AT, connection=1, code=1006, reason=""),
        {"kfws": "closed", "at_ns": AT, "connection": 1, "code": 1006, "reason": ""},
    ),
    (
        Report(received_ns=AT, name="totals", fields={"messages": 3}),
        {"kfws": "totals", "at_ns": AT, "messages": 3},
    ),
]


@pytest.mark.parametrize(("event", "described"), DESCRIBED)
def test_an_event_is_described_by_an_object_with_a_kfws_key_first(
    event: Event, described: dict[str, Any]
) -> None:
    found = describe(event)
    assert found == described
    assert list(found)[:2] == ["kfws", "at_ns"]


def broken(payload: bytes) -> dict[str, Any]:
    event = Broken(payload=payload, received_ns=AT, reason="not JSON")
    described = describe(event)
    assert described is not None
    return described


GAP = Gap(
    received_ns=9, feed="book", product="PF_A", first=5, last=7, missing=3,
    cause="outage", from_ns=1, to_ns=8,
)  # fmt: skip
STREAM = {"feed": "book", "product_id": "PF_A"}
NUMBERS = {"first": 5, "last": 7, "missing": 3, "cause": "outage"}
TIMES = {"from_ns": 1, "to_ns": 8}


@pytest.mark.parametrize(
    ("event", "name", "fields"),
    [
        (GAP, "gap", STREAM | NUMBERS | {"healed": False} | TIMES),
        (
            msgspec.structs.replace(GAP, healed_by="snapshot"),
            "gap",
            STREAM | NUMBERS | {"healed": True, "healed_by": "snapshot"} | TIMES,
        ),
        (
            Duplicate(payload=b"{}", received_ns=9, feed="book", product="PF_A", seq=7),
            "duplicate",
            STREAM | {"seq": 7},
        ),
        (
            Restart(received_ns=9, feed="book", product="PF_A", last=8, seq=1, from_ns=7, to_ns=9),
            "restart",
            STREAM | {"last": 8, "seq": 1, "from_ns": 7, "to_ns": 9},
        ),
        (Stale(received_ns=9, feed="book", product="PF_A"), "stale", STREAM),
        (
            Resync(received_ns=9, feed="book", product="PF_A", seq=8, stale_ns=2),
            "resync",
            STREAM | {"seq": 8, "stale_ns": 2},
        ),
        (
            Silent(received_ns=9, feed="book", product="PF_A", reason="why"),
            "silent",
            STREAM | {"reason": "why"},
        ),
        (
            Redial(received_ns=9, reason="lost", failed=2, delay_s=0.12345),
            "notice",
            {"event": "redial", "message": "lost", "failed": 2, "delay_s": 0.123},
        ),
    ],
)
def test_what_did_not_come_is_described_by_its_numbers(
    event: Event, name: str, fields: dict[str, Any]
) -> None:
    described = describe(event)
    assert described == {"kfws": name, "at_ns": 9, **fields}
    assert [*described] == ["kfws", "at_ns", *fields]


def test_a_broken_frame_is_described_with_its_text() -> None:
    assert broken(b"<html>") == {
        "kfws": "broken",
        "at_ns": AT,
        "reason": "not JSON",
        "payload": "<html>",
    }


def test_bytes_that_are_no_text_are_described_in_base64() -> None:
    found = broken(b'{"a":"\xff"}')
    assert found["encoding"] == "base64"
    assert base64.b64decode(found["payload"]) == b'{"a":"\xff"}'


def test_a_binary_frame_is_described_in_base64_even_where_it_is_text() -> None:
    payload = BinaryFrame(b"{}")
    assert Broken(payload=payload, received_ns=AT, reason="binary frame").is_binary
    assert broken(payload)["encoding"] == "base64"


def test_a_text_frame_is_not_binary() -> None:
    assert not Broken(payload=b"{}", received_ns=AT, reason="empty").is_binary


@given(st.binary(), st.sampled_from([bytes, BinaryFrame]))
def test_any_broken_payload_can_be_had_back_from_its_description(
    payload: bytes, kind: Callable[[bytes], bytes]
) -> None:
    found = broken(kind(payload))
    if "encoding" in found:
        assert base64.b64decode(found["payload"]) == payload
    else:
        assert found["payload"].encode() == payload


# And back, as a tape is played again


WITHOUT_FRAMES: list[Event] = [
    *(event for event, _ in DESCRIBED if not isinstance(event, Report)),
    GAP,
    Redial(received_ns=AT, reason="it broke off", failed=2, delay_s=1.25, connection=3),
    Duplicate(payload=None, received_ns=AT, feed="trade", product="PF_A", seq=7),
    Restart(received_ns=AT, feed="trade", product="PF_A", last=9, seq=2, from_ns=1, to_ns=AT),
    Stale(received_ns=AT, feed="book", product="PF_A"),
    Resync(received_ns=AT, feed="book", product="PF_A", seq=None, stale_ns=5),
    Silent(received_ns=AT, feed="ticker", product=None, reason="silent for 60 s"),
    Broken(payload=b"{", received_ns=AT, reason="not JSON"),
    Broken(payload=b"\xff", received_ns=AT, reason="not UTF-8"),
    Broken(payload=BinaryFrame(b"{}"), received_ns=AT, reason="binary frame"),
]


@pytest.mark.parametrize("event", WITHOUT_FRAMES, ids=lambda event: type(event).__name__)
def test_an_event_is_restored_from_what_it_is_described_as(event: Event) -> None:
    described = describe(event)
    assert described is not None
    restored = restore(described)
    assert type(restored) is type(event)
    assert describe(restored) == described


def test_a_binary_frame_is_restored_as_one() -> None:
    described = describe(Broken(payload=BinaryFrame(b"{}"), received_ns=AT, reason="binary frame"))
    restored = restore(described or {})
    assert isinstance(restored, Broken)
    assert restored.is_binary


def test_a_healed_gap_is_restored_healed() -> None:
    gap = Gap(
        received_ns=9, feed="trade", product=None, first=None, last=None, missing=2,
        cause="venue", from_ns=1, to_ns=8, healed_by="snapshot",
    )  # fmt: skip
    assert restore(describe(gap) or {}) == gap


ODD: list[dict[str, Any]] = [
    {"kfws": "totals", "at_ns": AT, "messages": 3},
    {"kfws": "of tomorrow", "at_ns": AT, "feed": "book"},
    {"kfws": "gap", "at_ns": AT, "feed": "book"},
    {"kfws": "gap", "at_ns": AT, **STREAM, **NUMBERS, **TIMES, "cause": "of tomorrow"},
    {"kfws": "broken", "at_ns": AT, "reason": "not JSON"},
    {"kfws": "broken", "at_ns": AT, "reason": "binary frame", "payload": "?", "encoding": "base64"},
    {"kfws": "notice", "at_ns": AT, "event": "redial", "message": "no", "failed": "often"},
    {"kfws": "opened", "at_ns": AT, "connection": None, "url": 1},
]


@pytest.mark.parametrize("own", ODD)
def test_what_nobody_knows_is_reported_as_it_stands(own: dict[str, Any]) -> None:
    restored = restore(own)
    assert isinstance(restored, Report)
    assert describe(restored) == own


@pytest.mark.parametrize("own", [{}, {"kfws": "gap"}, {"kfws": 1, "at_ns": 1}, {"kfws": []}])
def test_an_object_without_name_or_moment_is_no_event(own: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no event"):
        restore(own)


@pytest.mark.parametrize("delay_s", [1e300, -1.0])
def test_a_wait_that_is_none_is_not_taken_for_a_redial(delay_s: float) -> None:
    own = {"kfws": "notice", "at_ns": 1, "event": "redial", "message": "x", "delay_s": delay_s}
    event = restore(own | {"failed": 1})
    assert not isinstance(event, Redial)
    assert describe(event) == own | {"failed": 1}
