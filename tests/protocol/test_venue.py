"""Kraken's side of the conversation: the recorded answers, in the order of the requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.protocol.auth import DEMO, Credentials, signature
from kfws.protocol.feeds import FEEDS
from kfws.protocol.venue import Conversation, Publication, Venue
from tests.frames_of import frame, frames

VECTOR = "c100b894-1729-464d-ace1-52dbce11db42"
"""The documented challenge, which the private frames are signed with."""

NOW = 1_790_359_964_000

# The file shows three forms of this acknowledgement; ours is the bare one, seen live.
SUBSCRIBED = {"subscribed", "unsubscribed"}


class Shelf:
    """A market whose snapshots say what they were asked for."""

    products = ("PF_XBTUSD", "PI_XBTUSD", "PF_AAPLxUSD")
    feeds = frozenset(FEEDS)

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None, int]] = []

    def snapshot(self, feed: str, product: str | None, now_ms: int) -> list[bytes]:
        self.asked.append((feed, product, now_ms))
        return [] if feed == "heartbeat" else [f"<{feed} {product}>".encode()]


def conversation(
    shelf: Shelf | None = None, challenges: Iterator[str] | None = None
) -> Conversation:
    given = challenges or iter([VECTOR, "second", "third"])
    return Venue(shelf or Shelf(), {DEMO.key: DEMO.secret}, lambda: next(given)).converse()


def say(talk: Conversation, now_ms: int = NOW, **request: Any) -> list[bytes]:
    return talk.receive(json.dumps(request), now_ms)


def alert(message: str) -> bytes:
    return orjson.dumps({"event": "alert", "message": message})


def challenged(talk: Conversation | None = None) -> Conversation:
    talk = talk or conversation()
    say(talk, event="challenge", api_key=DEMO.key)
    return talk


def signed(challenge: str = VECTOR, key: Credentials = DEMO) -> dict[str, Any]:
    return {**signature(key, challenge)}


def test_the_venue_speaks_first() -> None:
    assert conversation().opened() == [frame("connection", "first frame on every new connection")]


@pytest.mark.parametrize("feed", ["trade", "book", "ticker", "ticker_lite", "heartbeat"])
def test_recorded_requests_for_public_feeds_get_the_recorded_acknowledgements(feed: str) -> None:
    requests = [f for f in frames(feed, kind="request", direction="c2s") if b"depth" not in f]
    acks = [f for f in frames(feed, kind="ack") if json.loads(f)["event"] in SUBSCRIBED]
    talk = Venue(_Listed(), {}, lambda: VECTOR).converse()
    said = [answer for request in requests for answer in talk.receive(request, NOW)]
    assert [answer for answer in said if answer.startswith(b"{")] == acks


class _Listed(Shelf):
    products = ("PF_XBTUSD", "PI_XBTUSD", "PF_ETHUSD")


@pytest.mark.parametrize("feed", [name for name, feed in FEEDS.items() if feed.private])
def test_recorded_signed_requests_get_bare_acknowledgements(feed: str) -> None:
    talk = challenged()
    subscribe, unsubscribe = frames(feed, kind="request", direction="c2s")[:2]
    bare = [
        orjson.dumps({"event": event, "feed": feed}) for event in ("subscribed", "unsubscribed")
    ]
    assert talk.receive(subscribe, NOW) == [bare[0], f"<{feed} None>".encode()]
    assert talk.receive(unsubscribe, NOW) == [bare[1]]


def test_a_challenge_is_given_for_any_key_and_is_new_each_time() -> None:
    talk = conversation()
    first = say(talk, event="challenge", api_key="nobody's")
    second = say(talk, event="challenge", api_key=DEMO.key)
    assert first == [frame("challenge", "published test vector")]
    assert second == [orjson.dumps({"event": "challenge", "message": "second"})]


def test_every_challenge_of_a_connection_stays_good_until_it_closes() -> None:
    talk = challenged(challenged())
    for challenge, feed in ((VECTOR, "fills"), ("second", "balances")):
        answer = say(talk, event="subscribe", feed=feed, **signed(challenge))[0]
        assert json.loads(answer) == {"event": "subscribed", "feed": feed}


def test_a_malformed_challenge_request_is_an_error() -> None:
    assert say(conversation(), event="challenge") == [frame("challenge", "malformed")]


@pytest.mark.parametrize(
    "proof",
    [
        {},
        signed("of another connection"),
        signed(key=Credentials("nobody's", DEMO.secret)),
        signed() | {"signed_challenge": "wrong"},
        signed() | {"api_key": 7},
        signed() | {"original_challenge": None},
        signed() | {"original_challenge": ["list"]},
    ],
)
@pytest.mark.parametrize("event", ["subscribe", "unsubscribe"])
def test_any_fault_of_a_signature_gives_the_one_alert(event: str, proof: dict[str, Any]) -> None:
    talk = challenged()
    assert say(talk, event=event, feed="open_orders", **proof) == [
        frame("errors", "any authentication problem")
    ]
    assert not talk.held


def test_a_signature_is_worth_nothing_before_a_challenge() -> None:
    answers = say(conversation(), event="subscribe", feed="fills", **signed())
    assert answers == [frame("errors", "any authentication problem")]


def test_a_venue_checks_no_challenge_that_is_no_text() -> None:
    venue = Venue(Shelf(), {DEMO.key: DEMO.secret}, lambda: VECTOR)
    assert not venue.signed_by_account(signed() | {"original_challenge": 7})
    assert venue.signed_by_account(signed())


def test_fills_can_be_had_of_single_products() -> None:
    talk = challenged()
    answers = say(talk, event="subscribe", feed="fills", product_ids=["pf_xbtusd"], **signed())
    ack = orjson.dumps({"event": "subscribed", "feed": "fills", "product_ids": ["PF_XBTUSD"]})
    assert answers == [ack, b"<fills PF_XBTUSD>"]
    assert talk.wants("fills", "PF_XBTUSD")
    assert not talk.wants("fills", "PI_XBTUSD")


def test_fills_without_a_filter_are_those_of_every_product() -> None:
    talk = challenged()
    say(talk, event="subscribe", feed="fills", **signed())
    assert talk.wants("fills", "PF_XBTUSD")
    assert say(talk, event="unsubscribe", feed="fills", product_ids=["PF_XBTUSD"], **signed()) == [
        frame("errors", "unsubscribe without a subscription")
    ]


def test_unsubscribing_from_fills_ends_those_with_a_filter_too() -> None:
    talk = challenged()
    say(talk, event="subscribe", feed="fills", product_ids=["PF_XBTUSD"], **signed())
    say(talk, event="unsubscribe", feed="fills", **signed())
    assert not talk.held


def test_products_named_for_a_feed_without_products_are_ignored() -> None:
    talk = conversation()
    answers = say(talk, event="subscribe", feed="heartbeat", product_ids=["PF_XBTUSD"])
    assert answers == frames("heartbeat", kind="ack", note="")[:1]
    assert talk.wants("heartbeat", None)


def test_each_product_is_acknowledged_before_its_snapshot_at_the_moment_of_the_request() -> None:
    shelf = Shelf()
    talk = conversation(shelf)
    answers = say(talk, event="subscribe", feed="book", product_ids=["PF_XBTUSD", "PI_XBTUSD"])
    assert [json.loads(answer)["product_ids"] for answer in answers[::2]] == [
        ["PF_XBTUSD"],
        ["PI_XBTUSD"],
    ]
    assert answers[1::2] == [b"<book PF_XBTUSD>", b"<book PI_XBTUSD>"]
    assert shelf.asked == [("book", "PF_XBTUSD", NOW), ("book", "PI_XBTUSD", NOW)]


def test_good_and_bad_products_of_one_request_are_answered_in_its_order() -> None:
    wanted = ["PF_NOPEUSD", "PF_XBTUSD", "in_xbtusd"]
    answers = say(conversation(), event="subscribe", feed="trade", product_ids=wanted)
    assert answers == [
        frame("trade", "unknown product"),
        frames("trade", kind="ack")[0],
        b"<trade PF_XBTUSD>",
        alert("Couldn't subscribe to invalid product `in_xbtusd`"),
    ]


def test_products_are_compared_without_case_and_spelled_as_listed() -> None:
    talk = conversation()
    answer = say(talk, event="subscribe", feed="ticker", product_ids=["pf_AAPLXusd"])[0]
    assert json.loads(answer)["product_ids"] == ["PF_AAPLxUSD"]
    assert talk.wants("ticker", "PF_AAPLxUSD")


def test_unknown_keys_of_a_request_are_ignored() -> None:
    request = frames("book", direction="c2s", note="depth")[0]
    assert conversation().receive(request, NOW) == [
        frames("book", kind="ack")[0],
        b"<book PF_XBTUSD>",
    ]


@pytest.mark.parametrize("feed", ["liquidations", "candles_trade_1m", "", None, ["book"]])
def test_an_unknown_feed_is_refused_and_not_named(feed: object) -> None:
    talk = conversation()
    refusal = frame("errors", "unknown feed name")
    assert say(talk, event="subscribe", feed=feed, product_ids=["PF_XBTUSD"]) == [refusal]
    assert say(talk, event="subscribe") == [refusal]


@pytest.mark.parametrize("products", [None, [], "PF_XBTUSD", [7], {"a": 1}])
@pytest.mark.parametrize("event", ["subscribe", "unsubscribe"])
def test_a_feed_of_products_without_products_is_the_documented_error(
    event: str, products: object
) -> None:
    assert say(conversation(), event=event, feed="book", product_ids=products) == [
        orjson.dumps({"event": "error", "message": "Invalid product id"})
    ]


def test_a_second_subscribe_is_told_so_and_gets_a_new_snapshot() -> None:
    talk = conversation()
    request = frames("book", kind="request", direction="c2s")[0]
    talk.receive(request, NOW)
    assert talk.receive(request, NOW) == [frame("book", "second subscribe"), b"<book PF_XBTUSD>"]


@pytest.mark.parametrize(("feed", "product"), [("book", "PF_XBTUSD"), ("nonsense", "PF_XBTUSD")])
def test_what_is_not_held_cannot_be_given_up(feed: str, product: str) -> None:
    assert say(conversation(), event="unsubscribe", feed=feed, product_ids=[product]) == [
        frame("errors", "unsubscribe without a subscription")
    ]


def test_data_comes_only_between_subscribed_and_unsubscribed() -> None:
    talk = conversation()
    published = [
        Publication("book", "PF_XBTUSD", b"1"),
        Publication("trade", "PF_XBTUSD", b"2"),
        Publication("heartbeat", None, b"3"),
        Publication("book", "PI_XBTUSD", b"4"),
    ]
    assert talk.select(published) == []
    say(talk, event="subscribe", feed="book", product_ids=["PF_XBTUSD"])
    say(talk, event="subscribe", feed="heartbeat")
    assert talk.select(published) == [b"1", b"3"]
    say(talk, event="unsubscribe", feed="book", product_ids=["PF_XBTUSD"])
    assert talk.select(published) == [b"3"]


@pytest.mark.parametrize(
    "text", ['{"event":"ping"}', "{}", "[]", "7", '"text"', '{"event":7}', '{"event":null}']
)
def test_json_that_is_no_request_is_a_bad_message(text: str) -> None:
    refusal = frame("connection", "reply to the JSON ping")
    assert conversation().receive(text, NOW) == [refusal]


@pytest.mark.parametrize("text", ["", "{", b"\xff", "NaN", "[" * 100_000, '{"event":"\ud800"}'])
def test_text_that_is_no_json_is_an_error(text: str | bytes) -> None:
    assert conversation().receive(text, NOW) == [frame("connection", "unparseable text, per docs")]


def test_more_than_a_hundred_requests_a_second_are_refused_until_the_second_is_over() -> None:
    talk = conversation()
    bad = frame("connection", "reply to the JSON ping")
    answers = [say(talk, NOW + number, event="ping")[0] for number in range(102)]
    assert answers[:100] == [bad] * 100
    assert answers[100:] == [alert("Rate limit exceeded")] * 2
    assert say(talk, NOW + 1000, event="ping") == [bad]


@given(st.one_of(st.text(), st.binary()))
def test_anything_at_all_is_answered_with_one_frame(text: str | bytes) -> None:
    [answer] = conversation().receive(text, NOW)
    assert orjson.loads(answer)["event"] in ("alert", "error")


@given(
    st.dictionaries(
        st.sampled_from(["event", "feed", "product_ids", "api_key", "original_challenge"]),
        st.recursive(
            st.none()
            | st.integers()
            | st.text()
            | st.sampled_from([*FEEDS, "subscribe", DEMO.key]),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=5,
        ),
    )
)
def test_any_request_at_all_is_answered_and_nothing_is_held_in_secret(
    request: dict[str, Any],
) -> None:
    talk = conversation()
    answers = say(talk, **request)
    assert answers
    acknowledged = sum(answer.startswith(b'{"event":"subscribed"') for answer in answers)
    assert len(talk.held) == acknowledged
