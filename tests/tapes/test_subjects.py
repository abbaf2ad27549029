from __future__ import annotations

import msgspec
import pytest

from kfws.errors import UsageError
from kfws.protocol.events import Data
from kfws.tapes.subjects import CONNECTION, ID, RECEIVED, RECORDER, Address, Names, token

NAMES = Names("kraken", "live", "west-1")
BOOK = Data(payload=b"{}", received_ns=5, feed="book", product="PF_XBTUSD", seq=17, venue_ms=1_700)
TICKER = Data(payload=b"{}", received_ns=5, feed="ticker", product="PF_XBTUSD", venue_ms=1_700)


def test_an_address_names_a_stream_and_the_servers_of_a_cluster() -> None:
    address = Address.of("nats://a:4222,b/kraken")
    assert address.servers == ("nats://a:4222", "nats://b")
    assert address.stream == "kraken"


@pytest.mark.parametrize(
    "text", ["nats://host", "nats:///kraken", "nats://h/a/b", "nats://h:x/k", "tls://h/a.b"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Address.of(text)


def test_a_secret_in_an_address_is_refused_and_not_quoted() -> None:
    with pytest.raises(UsageError) as told:
        Address.of("nats://me:hunter2@host/kraken")
    assert "hunter2" not in told.value.message + told.value.hint


def test_a_numbered_message_has_the_same_name_whoever_recorded_it() -> None:
    other = Names("kraken", "live", "east-1")
    assert NAMES.file(BOOK).id == other.file(BOOK).id == "delta:book:PF_XBTUSD:17:1700"
    assert NAMES.file(BOOK).subject == other.file(BOOK).subject == "kraken.live.book.PF_XBTUSD"


def test_a_message_without_number_is_filed_per_recorder() -> None:
    other = Names("kraken", "live", "east-1")
    assert NAMES.file(TICKER).subject == "kraken.live.ticker.PF_XBTUSD.west-1"
    assert NAMES.file(TICKER).id != other.file(TICKER).id


@pytest.mark.parametrize("change", [{"seq": 18}, {"venue_ms": 1_701}, {"kind": "snapshot"}])
def test_another_message_has_another_id(change: dict[str, object]) -> None:
    other = msgspec.structs.replace(BOOK, **change)
    assert NAMES.file(other).id != NAMES.file(BOOK).id


def test_snapshots_of_trades_have_no_number_and_are_told_apart_by_what_they_hold() -> None:
    one = Data(
        payload=b'{"trades":[]}', received_ns=5, feed="trade", kind="snapshot", product="PF_XBTUSD"
    )
    other = msgspec.structs.replace(one, payload=b'{"trades":[1]}', received_ns=6)
    again = msgspec.structs.replace(one, received_ns=7)
    assert NAMES.file(one).id == NAMES.file(again).id != NAMES.file(other).id


def test_what_is_about_an_account_stands_apart() -> None:
    fills = Data(payload=b"{}", received_ns=5, feed="fills")
    assert NAMES.file(fills).subject == "kraken.live.private.fills.west-1"


def test_headers_say_when_and_by_whom_a_message_was_recorded() -> None:
    assert NAMES.file(BOOK, 3).headers == {
        ID: "delta:book:PF_XBTUSD:17:1700",
        RECEIVED: "5",
        RECORDER: "west-1",
        CONNECTION: "3",
    }


def test_a_name_is_one_part_of_a_subject_whatever_it_holds() -> None:
    assert token("127.0.0.1:80") == "127_0_0_1_80"
    assert token("a b*>") == "a_b__"
    assert token("") == "_"


def test_the_same_words_twice_in_one_read_are_two_messages() -> None:
    names = Names("kraken", "sim", "a")
    one = Data(payload=b'{"feed":"balances"}', received_ns=7, feed="balances")
    ids = [names.file(each).id for each in (one, one, one)]
    assert len(set(ids)) == 3
    later = Data(payload=one.payload, received_ns=8, feed="balances")
    assert names.file(later).id not in ids
    assert names.file(one).id == ids[0]
