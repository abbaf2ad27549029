from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields

from kfws.protocol import wire
from kfws.protocol.auth import DEMO, signature
from kfws.protocol.events import Data
from kfws.protocol.feeds import FEEDS
from tests.frames_of import frame, frames, names


def head(payload: bytes) -> Data:
    found = wire.read_head(payload)
    assert isinstance(found, Data)
    return found


@pytest.mark.parametrize("name", names())
def test_both_ways_of_reading_a_head_agree_on_every_recorded_frame(name: str) -> None:
    for payload in frames(name):
        patient = wire.read_head(payload)
        strict = wire.read_typed(payload)
        if isinstance(patient, Data) and (patient.feed in FEEDS or not patient.feed):
            assert strict == patient
        else:
            assert strict is None


def test_the_head_of_a_book_delta() -> None:
    [first, *_] = frames("book", kind="delta")
    assert head(first) == Data(
        feed="book",
        product="PF_XBTUSD",
        seq=115358039,
        timestamp=1790359997729,
        side="sell",
        price=83999.0,
        qty=0.0,
    )


def test_the_head_of_a_control_message_has_an_event() -> None:
    found = wire.read_head(frame("connection", "first frame"))
    assert found == wire.Control("info", {"event": "info", "version": 1})


@pytest.mark.parametrize("event", ["delta", "snapshot", "\N{WHITE SQUARE}"])
def test_no_event_whatever_its_name_is_taken_for_a_message_of_a_feed(event: str) -> None:
    payload = f'{{"event":"{event}","feed":"book","product_id":"PF_XBTUSD","seq":1}}'.encode()
    assert wire.read_typed(payload) is None
    found = wire.read_head(payload)
    assert isinstance(found, wire.Control)
    assert found.event == event


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "empty"),
        (b" ", "not JSON"),
        (b"<html>", "not JSON"),
        (b'{"feed":"book"', "not JSON"),
        (b'{"a":NaN}', "not JSON"),
        (b'{"a":1}{"b":2}', "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"42", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'"book"', "not a JSON object"),
        (b'{"a":"\xff"}', "not UTF-8"),
        (b"\x00\xff", "not UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "not UTF-8"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b'{"event":1}', "event is no text"),
        (b'{"feed":["book"]}', "feed is no text"),
        (b'{"product_id":7}', "product_id is no text"),
        (b'{"seq":"7"}', "seq is no integer"),
        (b'{"seq":7.5}', "seq is no integer"),
        (b'{"seq":true}', "seq is no integer"),
    ],
)
def test_a_broken_frame_gives_the_reason(payload: bytes, reason: str) -> None:
    assert wire.read_head(payload) == reason


def test_nulls_are_as_good_as_absent() -> None:
    payload = b'{"event":null,"feed":null,"product_id":null,"seq":null,"time":null}'
    assert head(payload) == Data()


def test_non_ascii_text_is_no_fault() -> None:
    assert head('{"feed":"fills","username":"Zoë ⚡"}'.encode()).feed == "fills"


@pytest.mark.parametrize(
    ("time", "moment"),
    [
        (b"1791518718655", 1791518718655),
        (b"1791518718655.7", 1791518718655),
        (b"1.791518718655e12", 1791518718655),
        (b"1e300", None),
        (b'"2026-11-24T00:00:00Z"', None),
        (b"true", None),
        (b"{}", None),
    ],
)
def test_a_time_of_an_odd_type_is_no_fault(time: bytes, moment: int | None) -> None:
    found = head(b'{"feed":"heartbeat","time":' + time + b',"timestamp":' + time + b"}")
    assert (found.venue_ms, found.timestamp) == (moment, moment)


def test_unknown_keys_are_stepped_over() -> None:
    assert head(b'{"feed":"book","new":{"deep":[1,2,{}]},"seq":7}').seq == 7


@given(st.binary())
def test_any_bytes_give_a_head_or_a_reason(payload: bytes) -> None:
    assert isinstance(wire.read_head(payload), Data | wire.Control | str)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
# Also the names of what only we can say of a message.
KEYS = st.sampled_from([*(each.encode_name for each in fields(Data)), "other"])


@given(st.dictionaries(KEYS, VALUES), st.booleans())
def test_what_the_strict_reader_takes_the_patient_one_takes_alike(
    message: dict[str, Any], ascii_only: bool
) -> None:
    try:
        text = json.dumps(message, allow_nan=False, ensure_ascii=ascii_only)
        payload = text.encode("utf-8", "surrogatepass")
    except ValueError:
        return
    found = wire.read_typed(payload)
    assert found is None or found == wire.read_head(payload)


def test_a_control_message_is_read_whole() -> None:
    [challenge, *_] = [each for each in frames("challenge", kind="ack") if b"c100b894" in each]
    assert wire.read_control(challenge) == {
        "event": "challenge",
        "message": "c100b894-1729-464d-ace1-52dbce11db42",
    }


def test_requests_are_worded_as_in_the_venues_examples() -> None:
    ours = {
        wire.subscribe("heartbeat", None),
        wire.unsubscribe("heartbeat", None),
        wire.subscribe("trade", "PF_XBTUSD"),
        wire.unsubscribe("trade", "PF_XBTUSD"),
        wire.challenge(DEMO.key),
    }
    theirs = [
        payload.decode()
        for name in ("heartbeat", "trade", "challenge")
        for payload in frames(name, direction="c2s")
    ]
    assert ours < set(theirs)


@pytest.mark.parametrize("event", ["subscribe", "unsubscribe"])
def test_private_requests_are_signed_as_in_the_venues_examples(event: str) -> None:
    signed = signature(DEMO, "c100b894-1729-464d-ace1-52dbce11db42")
    request = wire.subscribe if event == "subscribe" else wire.unsubscribe
    theirs = [each for each in frames("fills", direction="c2s") if f'"{event}"'.encode() in each]
    assert request("fills", None, signed).encode() in theirs


def test_a_json_ping_is_what_some_clients_send() -> None:
    assert json.loads(wire.ping()) == {"event": "ping"}


def test_echoed_secrets_are_overwritten_at_equal_length() -> None:
    [echo] = [each for each in frames("fills", kind="ack") if b"signed_challenge" in each]
    found = wire.redact(echo)
    assert len(found) == len(echo)
    fields = json.loads(found)
    assert {fields["event"], fields["feed"]} <= {"subscribed", "unsubscribed", "fills"}
    for key in ("api_key", "original_challenge", "signed_challenge"):
        assert set(fields[key]) == {"*"}


def test_a_payload_without_secrets_is_the_same_object() -> None:
    for payload in frames("book"):
        assert wire.redact(payload) is payload


def test_a_challenge_of_the_venue_is_not_touched() -> None:
    for payload in frames("challenge", kind="ack"):
        assert wire.redact(payload) == payload


@pytest.mark.parametrize(
    ("payload", "redacted"),
    [
        (b'{"api_key" : "a\\/b\\"c"}', b'{"api_key" : "*******"}'),
        (b'{"api_key":""}', b'{"api_key":""}'),
        (b'{"api_key":null}', b'{"api_key":null}'),
        (b'{"api_key":"torn off he', b'{"api_key":"***********'),
        (b'{"note":"api_key","x":"y"}', b'{"note":"api_key","x":"y"}'),
        (b'{"note":"\\"api_key\\":\\"x\\""}', b'{"note":"\\"api_key\\":\\"x\\""}'),
    ],
)
def test_redaction_steps_over_escapes_and_reaches_torn_frames(
    payload: bytes, redacted: bytes
) -> None:
    assert wire.redact(payload) == redacted


@given(st.text(min_size=1), st.booleans())
def test_no_echoed_key_survives_redaction(key: str, ascii_only: bool) -> None:
    echo = {"event": "subscribed", "feed": "fills", "api_key": key}
    payload = json.dumps(echo, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    found = wire.redact(payload)
    assert len(found) == len(payload)
    assert set(json.loads(found)["api_key"]) == {"*"}


@pytest.mark.parametrize("number", [b"9223372036854775808", b"-9223372036854775808", b"1e300"])
def test_a_number_that_our_own_objects_could_not_tell_is_broken(number: bytes) -> None:
    payload = b'{"feed":"trade","product_id":"PF_XBTUSD","seq":%b}' % number
    assert wire.read_head(payload) == "seq is out of range"


@pytest.mark.parametrize("time", [b"9223372036854775808", b"1e300", b"1e999"])
def test_a_time_beyond_all_times_is_none(time: bytes) -> None:
    head = wire.read_head(b'{"feed":"ticker","product_id":"PF_XBTUSD","time":%b}' % time)
    assert isinstance(head, Data)
    assert head.venue_ms is None
