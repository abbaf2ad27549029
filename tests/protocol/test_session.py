"""The session against literal frames, against the venue in memory, and against anything at all."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from kfws.errors import Refused as AllRefused
from kfws.errors import Unreachable, Unwelcome
from kfws.protocol.auth import DEMO, Credentials
from kfws.protocol.events import (
    Beat,
    BinaryFrame,
    Broken,
    Data,
    Event,
    Gap,
    Notice,
    Refused,
    Resync,
    Silent,
    Stale,
    Subscribed,
)
from kfws.protocol.feeds import FEEDS
from kfws.protocol.session import Session, Subscription
from kfws.protocol.venue import Venue
from kfws.protocol.wire import redact, remembering
from tests.frames_of import frame, frames, names

NOW = 1_790_359_964_969_000_000
SECOND = 1_000_000_000
TICKER = Subscription("ticker", "PF_XBTUSD")
BOOK = Subscription("book", "PF_XBTUSD")
ORDERS = Subscription("open_orders")
FILLS = Subscription("fills")
BEAT = Subscription("heartbeat", quiet=True)
AUTH_ALERT = frame("errors", "any authentication problem on a private feed")
CHALLENGE = frame("challenge", "published test vector")


def asked(session: Session, now: int = NOW) -> list[dict[str, Any]]:
    return [json.loads(text) for text in session.outgoing(now)]


def only(session: Session, payload: bytes) -> Event:
    [event] = session.receive([payload], NOW)
    return event


def alert(message: str, event: str = "alert") -> bytes:
    return json.dumps({"event": event, "message": message}).encode()


def ack(subscription: Subscription, event: str = "subscribed") -> bytes:
    products = {"product_ids": [subscription.product]} if subscription.product else {}
    return json.dumps({"event": event, "feed": subscription.feed, **products}).encode()


# What is asked


def test_each_product_is_asked_for_by_itself_in_the_order_wanted() -> None:
    session = Session([TICKER, Subscription("ticker", "PF_ETHUSD"), BEAT])
    assert asked(session) == [
        {"event": "subscribe", "feed": "ticker", "product_ids": ["PF_XBTUSD"]},
        {"event": "subscribe", "feed": "ticker", "product_ids": ["PF_ETHUSD"]},
        {"event": "subscribe", "feed": "heartbeat"},
    ]
    assert asked(session) == []


def test_requests_leave_evenly_and_fewer_than_a_hundred_in_any_second() -> None:
    session = Session([Subscription("ticker", f"PF_SIM{n:04}USD") for n in range(200)])
    sent: list[int] = []
    now = NOW
    while len(sent) < 200:
        due = session.next_at()
        assert due is not None
        now = max(now, due)
        sent += [now] * len(session.outgoing(now))
    assert len(sent) == 200
    assert all(sent[at + 99] - sent[at] >= SECOND for at in range(len(sent) - 99))
    assert all(sent[at + 19] - sent[at] >= SECOND // 9 for at in range(len(sent) - 19))
    assert sent[-1] - sent[0] < 3 * SECOND


def test_one_challenge_serves_all_private_feeds_and_goes_first() -> None:
    session = Session([TICKER, ORDERS, FILLS], DEMO)
    assert [each["event"] for each in asked(session)] == ["challenge", "subscribe"]
    assert session.next_at() == NOW + 10_000_000_000
    session.receive([CHALLENGE], NOW)
    signed = asked(session)
    assert [each["feed"] for each in signed] == ["open_orders", "fills"]
    assert signed[0] == json.loads(frames("open_orders", kind="request", direction="c2s")[0])


def test_what_was_given_up_has_no_past_when_it_is_wanted_again() -> None:
    session = Session([BOOK])
    asked(session)
    session.receive([ack(BOOK), book(5, snapshot=True), book(6)], NOW)
    session.unsubscribe(BOOK)
    session.subscribe(BOOK)
    assert [each["event"] for each in asked(session)] == ["unsubscribe", "subscribe"]
    events = session.receive(
        [book(7), ack(BOOK, "unsubscribed"), ack(BOOK), book(50, snapshot=True), book(51)], NOW
    )
    assert [type(each) for each in events] == [Data, Notice, Subscribed, Data, Data]
    assert session.states == {BOOK: "active"}


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        (Subscription("ticker", "pf_XBTusd"), True),
        (Subscription("ticker", "PF_ETHUSD"), False),
        (Subscription("book", "PF_XBTUSD"), False),
        (Subscription("ticker"), False),
        (Subscription("ticker", "PF_XBTUSD", quiet=True), False),
    ],
)
def test_a_wish_is_the_same_in_whatever_case_its_product_is_spelled(
    other: Subscription, is_same: bool
) -> None:
    assert Subscription("ticker", "PF_XBTUSD").is_same(other) is is_same
    assert Subscription("fills").is_same(Subscription("fills"))


def test_what_is_given_up_before_it_was_asked_for_stays_given_up() -> None:
    session = Session([TICKER])
    session.unsubscribe(TICKER)
    assert [each["event"] for each in asked(session)] == ["subscribe", "unsubscribe"]
    session.receive([ack(TICKER), ack(TICKER, "unsubscribed")], NOW)
    assert session.states == {TICKER: "left"}


def test_a_private_feed_given_up_before_the_challenge_is_not_asked_for() -> None:
    session = Session([ORDERS], DEMO)
    session.unsubscribe(ORDERS)
    asked(session)
    session.receive([CHALLENGE], NOW)
    assert asked(session) == []


def test_heartbeats_become_loud_and_quiet_again_on_the_same_connection() -> None:
    loud = Subscription("heartbeat")
    session = Session([BEAT])
    asked(session)
    beat = frames("heartbeat", kind="delta")[0]

    def is_quiet(payload: bytes) -> bool:
        event = only(session, payload)
        assert isinstance(event, (Beat, Data, Subscribed, Notice))
        return isinstance(event, Beat) or getattr(event, "quiet", False)

    assert is_quiet(ack(BEAT))
    assert is_quiet(beat)
    session.unsubscribe(BEAT)
    session.subscribe(loud)
    asked(session)
    assert is_quiet(ack(BEAT, "unsubscribed"))
    assert not is_quiet(ack(loud))
    assert not is_quiet(beat)
    session.unsubscribe(loud)
    session.subscribe(BEAT)
    asked(session)
    assert not is_quiet(ack(loud, "unsubscribed"))
    assert is_quiet(ack(BEAT))


def test_where_more_may_be_wanted_no_refusal_is_the_end() -> None:
    session = Session([TICKER, ORDERS], Credentials("mine", DEMO.secret), may_grow=True)
    asked(session)
    session.receive([alert("Couldn't subscribe to invalid product `PF_XBTUSD`")], NOW)
    for _ in range(2):
        session.receive([CHALLENGE], NOW)
        asked(session)
        session.receive([AUTH_ALERT], NOW)
        asked(session)
    assert session.states == {TICKER: "refused", ORDERS: "refused"}
    assert session.verdict is None


def test_private_feeds_without_credentials_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="credentials"):
        Session([ORDERS])


def test_a_private_feed_wanted_later_is_signed_with_the_challenge_that_is_there() -> None:
    session = Session([ORDERS], DEMO)
    asked(session)
    session.receive([CHALLENGE], NOW)
    session.subscribe(FILLS)
    assert [each["feed"] for each in asked(session)] == ["open_orders", "fills"]


def test_a_challenge_that_stays_away_ends_the_session_after_ten_seconds() -> None:
    session = Session([ORDERS], DEMO)
    session.tick(NOW, NOW)
    asked(session)
    session.tick(NOW + 9_999_999_999, NOW)
    assert session.verdict is None
    session.tick(NOW + 10_000_000_000, NOW)
    assert isinstance(session.verdict, Unreachable)
    assert session.next_at() is None
    assert session.is_idle


def test_giving_up_a_private_feed_is_signed_too() -> None:
    session = Session([ORDERS, TICKER], DEMO)
    asked(session)
    session.receive([CHALLENGE], NOW)
    asked(session)
    session.receive([ack(ORDERS)], NOW)
    session.unsubscribe(ORDERS)
    [request] = asked(session)
    assert request == json.loads(frames("open_orders", kind="request", direction="c2s")[-1])
    assert only(session, ack(ORDERS, "unsubscribed")) == Notice(
        payload=ack(ORDERS, "unsubscribed"), received_ns=NOW, event="unsubscribed"
    )
    assert session.states[ORDERS] == "left"


# What is answered


def test_an_acknowledgement_makes_a_subscription_active() -> None:
    session = Session([TICKER, BEAT])
    asked(session)
    event = only(session, ack(TICKER))
    assert event == Subscribed(
        payload=ack(TICKER), received_ns=NOW, feed="ticker", products=("PF_XBTUSD",)
    )
    assert session.states == {TICKER: "active", BEAT: "waiting"}
    quiet = only(session, ack(BEAT))
    assert isinstance(quiet, Subscribed)
    assert quiet.quiet


@pytest.mark.parametrize(
    "answer",
    [
        b'{"event":"subscribed","feed":"ticker ","product_ids":["pf_xbtusd"]}',
        b'{"event":"subscribed","feed":"ticker"}',
        b'{"event":"subscribed","feed":"ticker","product_ids":["PF_ETHUSD","PF_XBTUSD",7]}',
        b'{"event":"subscribed","feed":"ticker","product_ids":"PF_XBTUSD"}',
    ],
)
def test_acknowledgements_are_matched_with_patience(answer: bytes) -> None:
    session = Session([TICKER])
    asked(session)
    session.receive([answer], NOW)
    assert session.states[TICKER] == "active"


def test_an_acknowledgement_that_names_no_product_answers_one_request() -> None:
    other = Subscription("ticker", "PF_ETHUSD")
    session = Session([TICKER, other])
    asked(session)
    session.receive([b'{"event":"subscribed","feed":"ticker"}'], NOW)
    assert session.states == {TICKER: "active", other: "waiting"}


def test_an_acknowledgement_that_nobody_asked_for_is_passed_on() -> None:
    session = Session([TICKER])
    asked(session)
    assert isinstance(only(session, ack(BOOK)), Subscribed)
    assert isinstance(only(session, b'{"event":"subscribed"}'), Subscribed)
    assert session.states == {TICKER: "waiting"}


def test_what_was_given_up_stays_given_up_when_its_acknowledgement_comes_late() -> None:
    session = Session([TICKER, BOOK])
    asked(session)
    session.unsubscribe(TICKER)
    session.receive([ack(TICKER)], NOW)
    assert session.states[TICKER] == "left"


def test_data_before_its_acknowledgement_is_data() -> None:
    session = Session([BOOK])
    asked(session)
    events = session.receive([frames("book", kind="delta")[0], ack(BOOK)], NOW)
    assert [type(each) for each in events] == [Data, Subscribed]


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        (frame("book", "quoted with backticks"), 1),
        (alert("Couldn't subscribe to invalid product `pf_nopeusd`"), 1),
        (alert("Invalid product id", "error"), 0),
        (alert("Couldn't subscribe to invalid feed"), 0),
        (alert("Invalid feed", "error"), 0),
        (frame("book", "failure form printed in the docs"), 1),
    ],
)
def test_a_refusal_belongs_to_what_it_names_else_to_the_oldest(answer: bytes, refused: int) -> None:
    wanted = [BOOK, Subscription("book", "PF_NOPEUSD")]
    session = Session(wanted)
    asked(session)
    event = only(session, answer)
    assert isinstance(event, Refused)
    assert event.payload == answer
    assert (event.feed, event.product) == (wanted[refused].feed, wanted[refused].product)
    assert [session.states[each] for each in wanted] == [
        "refused" if at == refused else "waiting" for at in range(2)
    ]
    assert session.verdict is None


def test_one_answer_may_refuse_several_and_is_passed_on_once() -> None:
    wanted = [BOOK, Subscription("book", "PF_ETHUSD")]
    session = Session(wanted)
    asked(session)
    answer = b'{"event":"subscribed_failed","feed":"book","product_ids":["PF_XBTUSD","PF_ETHUSD"]}'
    first, second = session.receive([answer], NOW)
    assert isinstance(first, Refused)
    assert isinstance(second, Refused)
    assert (first.payload, second.payload) == (answer, None)
    assert (first.product, second.product) == ("PF_XBTUSD", "PF_ETHUSD")


def test_nothing_left_is_the_end_and_says_what_the_venue_said() -> None:
    session = Session([BOOK, BEAT])
    asked(session)
    session.receive([alert("Couldn't subscribe to invalid product `PF_XBTUSD`")], NOW)
    assert isinstance(session.verdict, AllRefused)
    assert "book PF_XBTUSD" in session.verdict.message
    assert "`PF_XBTUSD`" in session.verdict.message


def test_a_refused_heartbeat_is_no_end() -> None:
    session = Session([BEAT])
    asked(session)
    event = only(session, alert("Couldn't subscribe to invalid feed"))
    assert isinstance(event, Refused)
    assert event.quiet
    assert session.verdict is None


@pytest.mark.parametrize(
    "text",
    [
        "Already subscribed to feed, re-requesting",
        "Not subscribed to feed",
        "Bad websocket message",
        "Something of tomorrow",
        "Failed to subscribe to authenticated feed",
        "Couldn't subscribe to invalid product `PF_OTHERUSD`",
    ],
)
def test_alerts_that_refuse_nothing_are_notices(text: str) -> None:
    session = Session([TICKER])
    asked(session)
    assert only(session, alert(text)) == Notice(
        payload=alert(text), received_ns=NOW, event="alert", message=text
    )
    assert session.verdict is None
    assert session.states[TICKER] == ("active" if text.startswith("Already") else "waiting")


def test_not_subscribed_answers_the_oldest_request_to_leave() -> None:
    session = Session([TICKER])
    asked(session)
    session.receive([ack(TICKER)], NOW)
    session.unsubscribe(TICKER)
    asked(session)
    session.receive([alert("Not subscribed to feed")], NOW)
    session.receive([alert("Couldn't subscribe to invalid feed")], NOW)
    assert session.states[TICKER] == "left"


def test_unasked_alerts_and_challenges_change_nothing() -> None:
    session = Session([ORDERS], DEMO)
    assert isinstance(only(session, alert("Already subscribed to feed")), Notice)
    assert isinstance(only(session, CHALLENGE), Notice)
    assert [each["event"] for each in asked(session)] == ["challenge"]
    assert isinstance(only(session, b'{"event":"challenge"}'), Notice)
    assert asked(session) == []


def test_echoed_keys_and_signatures_are_overwritten_at_equal_length() -> None:
    session = Session([ORDERS], DEMO)
    asked(session)
    session.receive([CHALLENGE], NOW)
    [request] = session.outgoing(NOW)
    echo = request.replace('"subscribe"', '"subscribed"').encode()
    event = only(session, echo)
    assert isinstance(event, Subscribed)
    assert event.payload is not None
    assert len(event.payload) == len(echo)
    secrets = [value for key, value in json.loads(request).items() if "_" in key and key != "feed"]
    assert not any(value.encode() in event.payload for value in secrets)
    assert session.states[ORDERS] == "active"


@pytest.mark.parametrize(
    "form",
    [
        '{"event":"subscribed","feed":"open_orders","api_key":"KEY","signed_challenge":"SIG"',
        '[{"api_key":"KEY","original_challenge":"CHAL","signed_challenge":"SIG"}]',
        '{"feed":"open_orders","api_key":"KEY","original_challenge":"CHAL"}',
        '{"event":"alert","message":"no good: KEY CHAL SIG"}',
        '{"event":"error","api\\u005fkey":"KEY"}',
        '{"event":"alert","message":"escaped: SLASHED"}',
    ],
)
def test_secrets_are_overwritten_wherever_the_venue_repeats_them(form: str) -> None:
    session = signed_session(ORDERS)
    secrets = json.loads(frames("open_orders", kind="request", direction="c2s")[0])
    signed = secrets["signed_challenge"]
    payload = form.replace("KEY", secrets["api_key"]).replace("SIG", signed)
    payload = payload.replace("CHAL", secrets["original_challenge"])
    payload = payload.replace("SLASHED", signed.replace("/", "\\/"))
    [event] = session.receive([payload.encode()], NOW)
    shown = repr(event)
    for secret in (secrets["api_key"], signed, secrets["original_challenge"]):
        assert secret not in shown
        assert secret.replace("/", "\\/") not in shown
    assert getattr(event, "payload", b"").count(b"*") >= 36
    assert len(getattr(event, "payload", b"")) == len(payload)


def test_a_private_feed_that_never_answers_does_not_keep_the_other_from_its_verdict() -> None:
    session = signed_session(ORDERS, FILLS)
    session.receive([ack(ORDERS)], NOW)
    other = signed_session(ORDERS, FILLS)
    other.receive([AUTH_ALERT], NOW)
    other.tick(NOW + 10 * SECOND, NOW)
    assert "challenge" in [each["event"] for each in asked(other, NOW + 10 * SECOND)]


def test_private_requests_that_wait_are_signed_with_the_new_challenge_alone() -> None:
    session = signed_session(ORDERS, FILLS)
    session.receive([AUTH_ALERT], NOW)
    session.subscribe(Subscription("balances"))
    session.tick(NOW + 10 * SECOND, NOW)
    later = asked(session, NOW + 11 * SECOND)
    assert [each["event"] for each in later] == ["challenge"]
    session.receive([frame("challenge", "UUIDv4")], NOW)
    signed = asked(session, NOW + 12 * SECOND)
    assert {each["feed"] for each in signed} == {"open_orders", "fills", "balances"}
    assert len({each["original_challenge"] for each in signed}) == 1


def test_a_private_acknowledgement_may_name_products() -> None:
    session = signed_session(FILLS, ORDERS)
    session.receive([b'{"event":"subscribed","feed":"fills","product_ids":["PF_XBTUSD"]}'], NOW)
    assert session.states[FILLS] == "active"
    assert isinstance(only(session, AUTH_ALERT), Refused)


def test_a_refusal_without_a_feed_belongs_to_the_oldest() -> None:
    session = Session([TICKER, BOOK])
    asked(session)
    event = only(session, b'{"event":"subscribed_failed"}')
    assert isinstance(event, Refused)
    assert (event.feed, event.message) == ("ticker", "it gives no reason")


# Key or feed refused?


def signed_session(*wanted: Subscription) -> Session:
    session = Session(wanted, DEMO)
    asked(session)
    session.receive([CHALLENGE], NOW)
    asked(session)
    return session


def test_a_refused_key_is_tried_with_a_second_challenge_and_then_given_up() -> None:
    session = signed_session(ORDERS, FILLS, TICKER)
    assert isinstance(only(session, AUTH_ALERT), Notice)
    assert asked(session) == []
    session.receive([AUTH_ALERT], NOW)
    assert session.verdict is None
    assert [each["event"] for each in asked(session)] == ["challenge"]
    session.receive([frame("challenge", "UUIDv4")], NOW)
    again = asked(session)
    assert [each["feed"] for each in again] == ["open_orders", "fills"]
    assert again[0]["original_challenge"] == json.loads(frame("challenge", "UUIDv4"))["message"]
    session.receive([AUTH_ALERT, AUTH_ALERT], NOW)
    assert isinstance(session.verdict, Unwelcome)
    assert "key refused or lacks permission" in session.verdict.message


def test_a_feed_is_refused_once_another_private_feed_was_acknowledged() -> None:
    session = signed_session(ORDERS, FILLS)
    session.receive([ack(ORDERS)], NOW)
    event = only(session, AUTH_ALERT)
    assert isinstance(event, Refused)
    assert event.feed == "fills"
    assert session.verdict is None


def test_a_feed_that_failed_first_is_refused_when_the_next_is_acknowledged() -> None:
    session = signed_session(ORDERS, FILLS)
    assert isinstance(only(session, AUTH_ALERT), Notice)
    acknowledged, refused = session.receive([ack(FILLS)], NOW)
    assert isinstance(acknowledged, Subscribed)
    assert isinstance(refused, Refused)
    assert (refused.feed, refused.payload) == ("open_orders", None)
    assert session.states == {ORDERS: "refused", FILLS: "active"}


# Data


@pytest.mark.parametrize("feed", sorted(FEEDS))
def test_every_recorded_message_is_data_of_its_feed(feed: str) -> None:
    payloads = [*frames(feed, kind="snapshot"), *frames(feed, kind="delta")]
    for payload in payloads:
        message = json.loads(payload)
        event = only(Session([]), payload)
        assert isinstance(event, Data)
        assert event.payload is payload
        assert event.feed == feed
        assert event.kind == ("snapshot" if message["feed"].endswith("_snapshot") else "delta")
        assert event.product == message.get("product_id")
        assert event.seq == message.get("seq")
        assert event.venue_ms == message.get("time", message.get("timestamp"))
        assert event.message == message
    assert feed == "deposits_withdrawals" or payloads


@pytest.mark.parametrize("name", names())
def test_every_recorded_frame_gives_exactly_one_event_that_carries_it(name: str) -> None:
    payloads = frames(name)
    events = Session([]).receive(payloads, NOW)
    carried = [event.payload for event in events if hasattr(event, "payload")]
    assert carried == [*map(redact, payloads)]


def test_feeds_of_tomorrow_pass_with_their_products_and_kind() -> None:
    events = Session([]).receive(frames("candles", kind="snapshot"), NOW)
    [event] = events
    assert isinstance(event, Data)
    assert (event.feed, event.kind) == ("candles_trade_1m", "snapshot")
    assert event.product == "PF_XBTUSD"


def test_only_heartbeats_that_nobody_asked_for_are_quiet() -> None:
    beat = frames("heartbeat", kind="delta")[0]
    for wanted, quiet in (([TICKER, BEAT], True), ([Subscription("heartbeat")], False)):
        event = only(Session(wanted), beat)
        assert type(event) is (Beat if quiet else Data)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"feed":"book","product_id":"A","seq":1,"side":"buy","price":1E+2,"qty":0,"time":"noon"}',
        b'{"feed":"book","product_id":"A","seq":1,"time":1.5e12,"new":{"keys":[1,2]}}',
        b'{"feed":"ticker","product_id":"PF_XBTUSD","note":"\xc3\xa9"}',
        b' {"feed":\n"ticker",\t"product_id":"PF_XBTUSD"} ',
        b'{"feed":"book","product_id":"A","seq":1,"pad":"' + b"x" * 5_000_000 + b'"}',
        b'{"feed":"heartbeat","time":null}',
        b'{"feed":"heartbeat","time":1e300,"seq":null,"event":null}',
        b'{"feed":"heartbeat","timestamp":true}',
    ],
)
def test_the_unusual_but_legal_is_data(payload: bytes) -> None:
    event = only(Session([]), payload)
    assert isinstance(event, Data)
    assert event.payload is payload


def test_a_number_in_e_notation_is_a_number() -> None:
    event = only(Session([]), b'{"feed":"trade","product_id":"A","seq":1.7e7}')
    assert isinstance(event, Data)
    assert event.seq == 17_000_000


def test_what_is_decoded_here_can_be_decoded_anywhere() -> None:
    def from_below(levels: int, payload: bytes) -> None:
        if levels:
            from_below(levels - 1, payload)
        else:
            json.loads(payload)

    for depth in range(300, 1000, 10):
        payload = b'{"feed":"heartbeat","x":' + b"[" * depth + b"]" * depth + b"}"
        event = only(Session([]), payload)
        if isinstance(event, Data):
            from_below(50, payload)
            assert event.message
        else:
            assert event == Broken(payload=payload, received_ns=NOW, reason="nested too deeply")


def test_a_time_with_a_fraction_is_a_time() -> None:
    event = only(Session([]), b'{"feed":"heartbeat","time":1534262350627.9}')
    assert isinstance(event, Data)
    assert event.venue_ms == 1534262350627


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b"<html>504 Gateway Time-out</html>", "not JSON"),
        (b'{"feed":"ticker","product_id":"A","last":NaN}', "not JSON"),
        (b'{"feed":"ticker","product_id":"A"}{}', "not JSON"),
        (b"[]", "not a JSON object"),
        (b"7", "not a JSON object"),
        (b'"book"', "not a JSON object"),
        (b"{}", "neither event nor feed"),
        (b'{"feed":""}', "neither event nor feed"),
        (b'{"feed":"ticker","x":' + b"[" * 5000 + b"]" * 5000 + b"}", "nested too deeply"),
        (b'{"feed":"ticker","product_id":"\xff"}', "not UTF-8"),
        (b'{"feed":"ticker","product_id":"A","x":"\xff"}', "not UTF-8"),
        (b'{"feed":"ticker"}', "no product_id"),
        (b'{"feed":"book","seq":1}', "no product_id"),
        (b'{"feed":"book","product_id":"A"}', "no seq"),
        (b'{"feed":"book_snapshot","product_id":"A","bids":[],"asks":[]}', "no seq"),
        (b'{"feed":"trade","product_id":"A","seq":null}', "no seq"),
        (b'{"feed":"trade","product_id":"A","seq":"12"}', "seq is no integer"),
        (b'{"feed":"trade","product_id":"A","seq":1.5}', "seq is no integer"),
        (b'{"feed":"trade","product_id":"A","seq":true}', "seq is no integer"),
        (b'{"feed":"trade","product_id":7,"seq":1}', "product_id is no text"),
        (b'{"feed":["book"]}', "feed is no text"),
        (b'{"event":1}', "event is no text"),
        (BinaryFrame(b'{"feed":"heartbeat"}'), "binary frame"),
        (BinaryFrame(b"\x00\xff"), "binary frame"),
    ],
)
def test_what_breaks_the_protocol_is_broken_and_says_how(payload: bytes, reason: str) -> None:
    event = only(Session([]), payload)
    assert event == Broken(payload=payload, received_ns=NOW, reason=reason)


@given(st.lists(st.one_of(st.binary(), st.sampled_from([b'{"feed":"book"', b'{"event":"alert"}']))))
def test_any_bytes_at_all_give_one_event_each_and_never_an_exception(payloads: list[bytes]) -> None:
    session = Session([TICKER, ORDERS], DEMO)
    session.outgoing(NOW)
    events = session.receive(payloads, NOW)
    assert [each.payload for each in events if hasattr(each, "payload")] == payloads


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
keys = st.sampled_from(
    ["event", "feed", "product_id", "product_ids", "seq", "time", "timestamp", "message", "trades"]
)
values = json_values | st.sampled_from(
    ["subscribed", "subscribed_failed", "alert", "challenge", "book", "ticker", "trade_snapshot"]
)


@given(st.dictionaries(keys, values))
def test_any_object_gives_one_event_and_never_an_exception(message: dict[str, Any]) -> None:
    session = Session([TICKER, ORDERS], DEMO)
    session.outgoing(NOW)
    payload = json.dumps(message).encode()
    events = session.receive([payload], NOW)
    assert len([each for each in events if hasattr(each, "payload")]) == 1


# What time brings


def book(seq: int, *, snapshot: bool = False) -> bytes:
    feed = "book_snapshot" if snapshot else "book"
    return json.dumps({"feed": feed, "product_id": "PF_XBTUSD", "seq": seq}).encode()


def active(*wanted: Subscription, **options: Any) -> Session:
    """A session in which everything was asked for and acknowledged at NOW."""
    session = Session(wanted, DEMO, **options)
    asked(session)
    session.receive([CHALLENGE], NOW)
    asked(session)
    session.receive([ack(each) for each in wanted], NOW)
    assert set(session.states.values()) == {"active"}
    return session


def test_a_subscribe_without_an_answer_is_asked_again_after_ten_seconds() -> None:
    session = Session([TICKER])
    asked(session)
    assert session.tick(NOW + 10 * SECOND - 1, NOW) == []
    [silent] = session.tick(NOW + 10 * SECOND, NOW)
    assert silent == Silent(
        received_ns=NOW, feed="ticker", product="PF_XBTUSD", reason="no answer in 10 s"
    )
    assert [each["event"] for each in asked(session, NOW + 10 * SECOND)] == ["subscribe"]


def test_a_late_acknowledgement_counts_before_it_is_asked_again_and_after() -> None:
    session = Session([TICKER])
    asked(session)
    session.tick(NOW + 10 * SECOND, NOW)
    session.receive([ack(TICKER)], NOW)
    assert session.states[TICKER] == "active"
    assert asked(session, NOW + 10 * SECOND) == []


def test_messages_are_acknowledgement_enough() -> None:
    session = Session([TICKER])
    asked(session)
    session.receive([b'{"feed":"ticker","product_id":"PF_XBTUSD"}'], NOW)
    assert session.tick(NOW + 10 * SECOND, NOW) == []
    assert session.states[TICKER] == "active"


def test_an_unsubscribe_without_an_answer_is_let_be() -> None:
    session = active(TICKER)
    session.unsubscribe(TICKER)
    asked(session)
    assert session.tick(NOW + 10 * SECOND, NOW) == []
    assert asked(session, NOW + 10 * SECOND) == []


def test_nothing_is_overdue_while_frames_wait_unread() -> None:
    session = Session([ORDERS, TICKER], DEMO)
    asked(session)
    assert session.tick(NOW + 60 * SECOND, NOW, heard_all=False) == []
    assert session.tick(NOW + 69 * SECOND, NOW) == []
    assert session.verdict is None
    assert session.tick(NOW + 70 * SECOND, NOW) != []
    assert session.verdict is not None


def test_while_the_engine_is_away_everything_is_asked_again_ever_more_slowly() -> None:
    session = Session([ORDERS, TICKER], DEMO)
    now = NOW
    for wait in (1, 2, 4, 8, 16, 32, 60, 60):
        assert [each["event"] for each in asked(session, now)] == ["challenge", "subscribe"]
        event, again = session.receive([alert("Trading engine unavailable")] * 2, now)
        assert isinstance(event, Notice)
        assert isinstance(again, Notice)
        assert asked(session, now) == []
        assert asked(session, now + wait * SECOND - 1) == []
        now += wait * SECOND
        assert session.next_at() == now
    assert session.states == {TICKER: "queued", ORDERS: "queued"}
    asked(session, now)
    session.receive([ack(TICKER), alert("Trading engine unavailable")], now)
    assert asked(session, now) == []
    assert [each["event"] for each in asked(session, now + SECOND)] == ["challenge"]


def test_the_audit_is_asked_when_its_time_has_come() -> None:
    session = active(TICKER, BOOK, resync=False)
    session.receive([book(1, snapshot=True), book(3)], NOW)
    assert session.next_at() == 0
    assert session.tick(NOW, NOW) == []
    assert session.next_at() == NOW + 250_000_000
    [gap] = session.tick(NOW + 250_000_000, NOW)
    assert isinstance(gap, Gap)
    assert (gap.first, gap.last) == (2, 2)


def test_a_book_with_a_gap_is_stale_and_asked_for_alone_until_its_snapshot() -> None:
    session = active(TICKER, BOOK)
    session.receive([book(1, snapshot=True), book(3)], NOW)
    session.tick(NOW, NOW)
    gap, stale = session.tick(NOW + 250_000_000, NOW)
    assert isinstance(gap, Gap)
    assert stale == Stale(received_ns=NOW, feed="book", product="PF_XBTUSD")
    assert [(each["event"], each["feed"]) for each in asked(session)] == [
        ("unsubscribe", "book"),
        ("subscribe", "book"),
    ]
    session.receive([book(5)], NOW)
    assert session.tick(NOW + 600_000_000, NOW) == []
    session.receive([ack(BOOK, "unsubscribed"), ack(BOOK)], NOW)
    [widened, resync, data] = session.receive([book(8, snapshot=True)], NOW + SECOND)
    assert isinstance(widened, Gap)
    assert (widened.first, widened.last, widened.cause) == (6, 8, "resync")
    assert resync == Resync(
        received_ns=NOW + SECOND, feed="book", product="PF_XBTUSD", seq=8, stale_ns=SECOND
    )
    assert isinstance(data, Data)
    assert session.states[BOOK] == "active"


def test_a_snapshot_that_came_meanwhile_makes_asking_needless() -> None:
    session = active(BOOK)
    session.receive([book(1, snapshot=True), book(3)], NOW)
    session.tick(NOW, NOW)
    session.receive([book(3, snapshot=True)], NOW + 1)
    [gap] = session.tick(NOW + 250_000_000, NOW)
    assert isinstance(gap, Gap)
    assert asked(session) == []


def priced(seq: int, side: str, price: float, qty: float) -> bytes:
    fields = {"feed": "book", "product_id": "PF_XBTUSD", "seq": seq}
    return json.dumps(fields | {"side": side, "price": price, "qty": qty}).encode()


def full(seq: int, bids: Any, asks: Any) -> bytes:
    fields = {"feed": "book_snapshot", "product_id": "PF_XBTUSD", "seq": seq}
    return json.dumps(fields | {"bids": bids, "asks": asks}).encode()


BIDS, ASKS = [{"price": 10, "qty": 1.0}], [{"price": 11.0, "qty": 2}, {"price": 12.0, "qty": 1}]


def test_a_book_that_stays_crossed_is_asked_for_anew() -> None:
    session = active(BOOK)
    session.receive([full(1, BIDS, ASKS), priced(2, "buy", 11.5, 1.0)], NOW)
    assert session.tick(NOW, NOW) == []
    assert session.tick(NOW + 4 * SECOND, NOW) == []
    [stale] = session.tick(NOW + 5 * SECOND, NOW)
    assert isinstance(stale, Stale)
    assert [each["event"] for each in asked(session, NOW + 5 * SECOND)] == [
        "unsubscribe",
        "subscribe",
    ]
    session.receive([ack(BOOK, "unsubscribed"), ack(BOOK)], NOW)
    resync, data = session.receive([full(2, BIDS, ASKS)], NOW)
    assert isinstance(resync, Resync)
    assert isinstance(data, Data)
    assert session.tick(NOW + 30 * SECOND, NOW) == []
    assert session.tick(NOW + 60 * SECOND, NOW) == []


def test_a_book_that_is_crossed_for_an_instant_is_left_alone() -> None:
    session = active(BOOK)
    session.receive([full(1, BIDS, ASKS), priced(2, "buy", 11.5, 1.0)], NOW)
    session.tick(NOW, NOW)
    session.receive([priced(3, "sell", 11.0, 0.0)], NOW)
    session.tick(NOW + 2 * SECOND, NOW)
    session.receive([priced(4, "sell", 11.0, 1.0)], NOW)
    session.tick(NOW + 4 * SECOND, NOW)
    assert session.tick(NOW + 8 * SECOND, NOW) == []
    assert len(session.tick(NOW + 9 * SECOND, NOW)) == 1


@pytest.mark.parametrize(
    ("bids", "asks"), [([], ASKS), (BIDS, []), (None, 5), ([{"price": "x"}, 7], [{}])]
)
def test_one_sided_empty_and_nonsensical_books_are_not_crossed(bids: Any, asks: Any) -> None:
    session = active(BOOK)
    session.receive([full(1, bids, asks), priced(2, "buy", 0.5, 1.0)], NOW)
    session.receive([priced(4, "hold", 1.0, 1.0), priced(3, "buy", 1e300, 1.0)], NOW)
    session.tick(NOW, NOW)
    assert session.tick(NOW + 9 * SECOND, NOW) == []


def test_many_books_are_looked_at_in_turn() -> None:
    books = [Subscription("book", f"PF_{number:02}USD") for number in range(25)]
    session = Session(books)
    session.outgoing(NOW)
    for each in books:
        session.outgoing(NOW + SECOND)
        crossed = full(1, ASKS, BIDS).replace(b"PF_XBTUSD", str(each.product).encode())
        session.receive([ack(each), crossed], NOW)
    found = [
        event.product
        for quarter in range(4, 40)
        for event in session.tick(NOW + quarter * SECOND // 4, NOW)
        if isinstance(event, Stale)
    ]
    assert sorted(str(each) for each in found) == [str(each.product) for each in books]


def test_without_resync_nobody_looks_whether_a_book_is_crossed() -> None:
    session = active(BOOK, resync=False)
    session.receive([full(1, ASKS, BIDS), priced(2, "buy", 50.0, 1.0)], NOW)
    session.tick(NOW, NOW)
    assert session.tick(NOW + 9 * SECOND, NOW) == []


def test_a_snapshot_from_before_the_gap_does_not_make_a_book_whole() -> None:
    session = active(BOOK)
    session.receive([book(1, snapshot=True), book(9)], NOW)
    session.tick(NOW, NOW)
    session.tick(NOW + 250_000_000, NOW)
    assert len(asked(session)) == 2
    acks = [ack(BOOK, "unsubscribed"), ack(BOOK)]
    [silent, _] = session.receive([*acks, book(5, snapshot=True)], NOW)[-2:]
    assert isinstance(silent, Silent)
    assert silent.reason == "its snapshot (5) is older than the gap (up to 8)"
    # Asked for again, but not at once, later each time, and said once.
    for now, again in ((NOW + SECOND, NOW + 3 * SECOND), (NOW + 4 * SECOND, NOW + 7 * SECOND)):
        session.tick(now, NOW)
        assert session.next_at() is not None
        session.tick(again, NOW)
        found = [each["event"] for each in asked(session, again)]
        assert found == ["unsubscribe", "subscribe"]
        events = session.receive([*acks, book(5, snapshot=True)], NOW)
        assert [type(each) for each in events[-1:]] == [Data]
        assert not any(isinstance(each, Silent) for each in events)
    events = session.receive([book(9, snapshot=True)], NOW)
    assert [type(each) for each in events] == [Resync, Data]


def test_a_number_that_waits_among_what_was_not_taken_yet_is_no_gap() -> None:
    session = active(BOOK)
    session.receive([book(1, snapshot=True), book(2), book(4)], NOW)
    assert session.tick(NOW, NOW, behind_ns=0) == []
    assert session.tick(NOW + 2 * SECOND, NOW, behind_ns=2 * SECOND) == []
    assert [type(each) for each in session.receive([book(3)], NOW)] == [Data]
    assert session.tick(NOW + 4 * SECOND, NOW) == []


def test_dropped_messages_of_a_book_make_it_stale() -> None:
    session = active(BOOK)
    gap = Gap(
        received_ns=NOW, feed="book", product="PF_XBTUSD", first=1, last=2, missing=2,
        cause="slow-reader", from_ns=NOW, to_ns=NOW,
    )  # fmt: skip
    assert [type(each) for each in session.dropped([gap])] == [Stale]
    assert session.dropped([gap]) == []


BEAT_FRAME = b'{"feed":"heartbeat","time":1}'


def test_a_subscription_without_its_snapshot_is_asked_for_again_at_most_in_ten_minutes() -> None:
    session = active(BOOK, BEAT)
    assert session.tick(NOW, NOW) == []
    assert session.tick(NOW + 60 * SECOND, NOW) == []
    session.receive([BEAT_FRAME], NOW)
    assert session.tick(NOW + 60 * SECOND, NOW) == []
    [silent] = session.tick(NOW + 70 * SECOND, NOW)
    assert isinstance(silent, Silent)
    assert silent.reason == "no snapshot in 10 s"
    assert [each["event"] for each in asked(session)] == ["unsubscribe", "subscribe"]
    session.receive([ack(BOOK, "unsubscribed"), ack(BOOK)], NOW)
    for after in range(80, 670, 10):
        assert session.tick(NOW + after * SECOND, NOW) == []
    assert len(session.tick(NOW + 670 * SECOND, NOW)) == 1


@pytest.mark.parametrize(
    ("subscription", "message", "after_s"),
    [
        (TICKER, b'{"feed":"ticker","product_id":"PF_XBTUSD"}', 60),
        (BOOK, book(1, snapshot=True), 600),
    ],
)
def test_a_stream_that_fell_silent_while_its_connection_beats_is_asked_for_again(
    subscription: Subscription, message: bytes, after_s: int
) -> None:
    session = active(subscription, Subscription("trade", "PF_XBTUSD"), ORDERS, BEAT)
    session.receive([message, BEAT_FRAME, b'{"feed":"open_orders_snapshot","orders":[]}'], NOW)
    session.receive([b'{"feed":"trade_snapshot","product_id":"PF_XBTUSD","trades":[]}'], NOW)
    session.tick(NOW, NOW)
    almost, late = NOW + after_s * SECOND - 1, NOW + after_s * SECOND
    assert session.tick(almost, almost) == []
    [silent] = session.tick(late, late)
    assert isinstance(silent, Silent)
    assert (silent.feed, silent.reason) == (subscription.feed, f"silent for {after_s} s")


def test_what_a_silent_ticker_held_back_is_named_when_it_speaks_again() -> None:
    session = active(TICKER, BEAT)
    message = b'{"feed":"ticker","product_id":"PF_XBTUSD"}'
    session.receive([message, BEAT_FRAME], NOW)
    session.tick(NOW, NOW)
    late = NOW + 60 * SECOND
    assert len(session.tick(late, late)) == 1
    asked(session, late)
    session.receive([ack(TICKER, "unsubscribed")], late)
    _, gap = session.receive([ack(TICKER)], late + SECOND)
    assert isinstance(gap, Gap)
    assert (gap.missing, gap.cause, gap.from_ns, gap.to_ns) == (None, "venue", NOW, late + SECOND)
    assert [type(each) for each in session.receive([message], late + SECOND)] == [Data]


def test_a_ticker_that_never_came_at_all_is_silent_too() -> None:
    session = active(TICKER, Subscription("new_feed"), BEAT)
    session.receive([BEAT_FRAME], NOW)
    session.tick(NOW, NOW)
    assert len(session.tick(NOW + 60 * SECOND, NOW + 60 * SECOND)) == 1


def test_a_key_that_worked_before_is_tried_again_and_again() -> None:
    session = Session([ORDERS], DEMO, key_worked=True)
    now = NOW
    asked(session, now)
    session.receive([CHALLENGE], now)
    asked(session, now)
    session.receive([AUTH_ALERT], now)
    for wait in (0, 5, 15, 60, 300, 300):
        session.tick(now, now)
        assert session.verdict is None
        now += wait * SECOND
        session.tick(now, now)
        assert [each["event"] for each in asked(session, now)] == ["challenge"]
        session.receive([CHALLENGE], now)
        assert [each["event"] for each in asked(session, now)] == ["subscribe"]
        session.receive([AUTH_ALERT], now)
    assert session.states[ORDERS] == "queued"


# Session ↔ Venue, wired in memory


class StillMarket:
    products = ("PF_XBTUSD", "PF_ETHUSD")
    feeds = frozenset(FEEDS)

    def snapshot(self, feed: str, product: str | None, now_ms: int) -> list[bytes]:
        return []


def converse(wanted: Sequence[Subscription], credentials: Credentials) -> Session:
    """Both sides talk until neither has anything to say."""
    challenges = (str(uuid.UUID(int=n)) for n in itertools.count())
    conversation = Venue(
        StillMarket(), {DEMO.key: DEMO.secret}, lambda: next(challenges)
    ).converse()
    session = Session(wanted, credentials)
    session.receive(conversation.opened(), NOW)
    now = NOW
    while requests := session.outgoing(now):
        for request in requests:
            session.receive(conversation.receive(request, now // 1_000_000), now)
        now += 1_000_000_000
    return session


def test_both_sides_agree_on_all_feeds() -> None:
    wanted = [
        Subscription(feed.name, "PF_XBTUSD" if feed.products == "required" else None)
        for feed in FEEDS.values()
    ]
    session = converse(wanted, DEMO)
    assert set(session.states.values()) == {"active"}
    assert session.verdict is None


def test_both_sides_agree_on_refusals() -> None:
    wanted = [TICKER, Subscription("ticker", "PF_NOPEUSD"), Subscription("funding"), ORDERS]
    session = converse(wanted, DEMO)
    assert list(session.states.values()) == ["active", "refused", "refused", "active"]


def test_a_key_that_the_venue_does_not_know_is_refused() -> None:
    session = converse([ORDERS, TICKER], Credentials("other", DEMO.secret))
    assert isinstance(session.verdict, Unwelcome)


class Conversation(RuleBasedStateMachine):
    """Whatever the venue says in whatever order: the books of what was asked stay right."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted = [TICKER, BOOK, ORDERS, FILLS, BEAT]
        self.session = Session(self.wanted, DEMO)
        self.now = NOW
        self.requested = self.challenged = False

    @rule(wait=st.integers(0, 12))
    def ask(self, wait: int) -> None:
        self.now += wait * 1_000_000_000
        self.session.tick(self.now, self.now)
        for text in self.session.outgoing(self.now):
            request = json.loads(text)
            self.requested |= request["event"] == "challenge"
            if request["event"] == "subscribe" and FEEDS[request["feed"]].private:
                assert self.challenged, "signed before a challenge came"
                assert request["signed_challenge"]

    @rule(which=st.sampled_from([TICKER, BOOK, ORDERS, FILLS, BEAT]))
    def acknowledge(self, which: Subscription) -> None:
        self.session.receive([ack(which)], self.now)

    @rule(text=st.sampled_from(["Already subscribed", "Failed to subscribe to authenticated feed"]))
    def say(self, text: str) -> None:
        self.session.receive([alert(text)], self.now)

    @rule(product=st.sampled_from(["PF_XBTUSD", "PF_OTHERUSD"]))
    def refuse_product(self, product: str) -> None:
        text = f"Couldn't subscribe to invalid product `{product}`"
        self.session.receive([alert(text)], self.now)

    @precondition(lambda self: not self.challenged)
    @rule()
    def challenge(self) -> None:
        self.session.receive([CHALLENGE], self.now)
        self.challenged = self.requested

    @rule(which=st.sampled_from([TICKER, BOOK]))
    def give_up(self, which: Subscription) -> None:
        self.session.unsubscribe(which)

    @invariant()
    def every_subscription_is_in_one_state(self) -> None:
        assert list(self.session.states) == self.wanted
        states = {"queued", "waiting", "active", "refused", "left"}
        assert set(self.session.states.values()) <= states

    @invariant()
    def whoever_is_idle_has_nothing_to_ask_and_waits_for_nothing(self) -> None:
        if self.session.is_idle:
            assert self.session.next_at() is None
            assert self.session.outgoing(self.now) == []


Conversation.TestCase.settings = settings(max_examples=60, stateful_step_count=25)
test_the_state_of_each_subscription_is_always_one_of_five = Conversation.TestCase


def test_what_another_connection_brought_too_is_read_once_and_has_its_own_moment() -> None:
    read = remembering()
    said = [ack(TICKER), *frames("ticker", kind="delta")]
    one, other = Session([TICKER], read=read), Session([TICKER], read=read)
    first = [each for each in one.receive(said, 1) if isinstance(each, Data)]
    second = [each for each in other.receive(said, 2) if isinstance(each, Data)]
    assert [each.payload for each in first] == [each.payload for each in second] == said[1:]
    assert {each.received_ns for each in first} == {1}
    assert {each.received_ns for each in second} == {2}
    assert [replace(each, received_ns=2) for each in first] == second
    assert read.cache_info().hits == len(second)  # type: ignore[attr-defined]
    long = b'{"feed":"ticker","product_id":"PF_XBTUSD","x":"%s"}' % (b"x" * 2000)
    assert [
        each.payload for each in map(only, (one, other), (long, long)) if isinstance(each, Data)
    ]
    assert read.cache_info().currsize == len(second)  # type: ignore[attr-defined]
