from __future__ import annotations

import contextlib
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.errors import Unwelcome
from kfws.protocol.auth import (
    DEMO,
    Credentials,
    Nonces,
    as_shown,
    is_loopback,
    sign_challenge,
    sign_request,
    signature,
)

# Published by the venue: protocol page, section 5.
CHALLENGE = "c100b894-1729-464d-ace1-52dbce11db42"
SIGNED = "4JEpF3ix66GA2B+ooK128Ift4XQVtc137N9yeg4Kqsn9PI0Kpzbysl9M1IeCEdjg0zl00wkVqcsnG4bmnlMb3A=="


def test_the_published_vector_comes_out() -> None:
    assert sign_challenge(DEMO.secret, CHALLENGE) == SIGNED


def test_a_signature_carries_key_challenge_and_signed_challenge() -> None:
    assert signature(DEMO, CHALLENGE) == {
        "api_key": DEMO.key,
        "original_challenge": CHALLENGE,
        "signed_challenge": SIGNED,
    }


def test_credentials_show_the_end_of_the_key_and_nothing_of_the_secret() -> None:
    assert repr(DEMO) == str(DEMO) == "Credentials(key='…3aT+')"


def test_a_short_key_is_not_shown_at_all() -> None:
    assert repr(Credentials("abcd", "AAAA")) == "Credentials(key='…')"


@pytest.mark.parametrize(("key", "secret"), [("", "AAAA"), ("k", ""), (" ", "AAAA"), ("k", "\n")])
def test_empty_credentials_are_found_out(key: str, secret: str) -> None:
    with pytest.raises(Unwelcome, match="empty"):
        Credentials(key, secret)


@pytest.mark.parametrize("key", ["clé", "a\nb", "tab\there"])
def test_a_key_with_impossible_characters_is_found_out(key: str) -> None:
    with pytest.raises(Unwelcome, match="characters that no key has"):
        Credentials(key, "AAAA")


@pytest.mark.parametrize("secret", ["MARK!", "MARK\n", "MARKé===", "MAR", "MA=K"])
def test_a_malformed_secret_is_found_out_and_no_cause_holds_it(secret: str) -> None:
    with pytest.raises(Unwelcome, match="not base64") as caught:
        Credentials("key", secret)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert secret not in "".join(traceback.format_exception(caught.value))


@given(st.text(), st.text())
def test_any_two_texts_are_credentials_or_unwelcome(key: str, secret: str) -> None:
    with contextlib.suppress(Unwelcome):
        signature(Credentials(key, secret), CHALLENGE)


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("venue.localhost", True),
        ("192.0.2.1", False),
        ("localhost.example", False),
        ("", False),
    ],
)
def test_only_this_machine_is_loopback(host: str, here: bool) -> None:
    assert is_loopback(host) is here


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("wss://h:1/ws/v1", "wss://h:1/ws/v1"),
        ("wss://h/ws?token=x#y", "wss://h/ws?***"),
        ("wss://h/ws#x\ny", "wss://h/ws#***"),
        ("wss://h/ws?mail=a@b", "wss://***"),
        ("nats:/user:x@h/s", "nats:/***"),
        ("user:x@h", "***"),
    ],
)
def test_what_may_be_a_secret_in_a_url_is_not_shown(url: str, shown: str) -> None:
    assert as_shown(url) == shown


# Protocol page, section 13.
AUTHENT = "JHLjN8OUDYaXjHRGT0z4nUvJorORrXoL9omot4BK5ihtp6jKHPHfzX9MrpVjqAgKqGJejoO3gySwoVCMJQlx/Q=="


@pytest.mark.parametrize("path", ["/api/v3/orderbook", "/derivatives/api/v3/orderbook"])
def test_a_request_is_signed_over_data_nonce_and_path(path: str) -> None:
    data, nonce = "symbol=fi_xbtusd_180615", "1415957147987"
    assert sign_request(DEMO.secret, data, nonce, path) == AUTHENT


def test_a_nonce_is_the_moment_in_steps_of_ten_nanoseconds() -> None:
    assert Nonces().next(1_700_000_000_123_456_789) == "170000000012345678"


@given(st.lists(st.integers(0, 2**63)))
def test_nonces_rise_whatever_the_clock_does(moments: list[int]) -> None:
    nonces = Nonces()
    numbers = [int(nonces.next(moment)) for moment in moments]
    assert numbers == sorted(set(numbers))
