from __future__ import annotations

import orjson
import pytest

from kfws.protocol.events import Data, Notice, Opened, Subscribed, Tick, describe
from kfws.sinks.ndjson import Ndjson
from tests.frames_of import frame
from tests.sinks.events import AT_NS, all_data, data

_ACK = Subscribed(payload=b'{"event":"subscribed"}', received_ns=1, feed="book", products=("P",))
_QUIET = Subscribed(payload=b"{}", received_ns=1, feed="heartbeat", quiet=True)
_TRADE = frame("trade", "recording kept only this one")
_SNAPSHOT = frame("trade", "trimmed to 3 of 100")


def _lines(encoded: bytes) -> list[bytes]:
    assert encoded == b"" or encoded.endswith(b"\n")
    return encoded.split(b"\n")[:-1]


def test_every_payload_passes_byte_for_byte_in_order() -> None:
    events = all_data()
    assert _lines(Ndjson().encode(events)) == [event.payload for event in events]


def test_an_empty_batch_gives_nothing() -> None:
    assert Ndjson().encode([]) == b""
    assert Ndjson(events=True).encode([_QUIET, Tick(received_ns=1)]) == b""


@pytest.mark.parametrize(
    "payload", [b'{"feed":\n"heartbeat"}', b'{"feed":"heartbeat"}\r', b"{\r\n}"]
)
@pytest.mark.parametrize("stamp", [False, True])
def test_a_line_break_between_tokens_becomes_a_space(payload: bytes, stamp: bool) -> None:
    event = Data(payload=payload, received_ns=5, feed="heartbeat")
    both = _lines(Ndjson(stamp=stamp).encode([event, event]))
    assert len(both) == 2
    assert all(b"\r" not in line for line in both)
    expected = orjson.loads(payload) | ({"received_ns": 5} if stamp else {})
    assert [orjson.loads(line) for line in both] == [expected] * 2


def test_the_stamp_is_the_first_key() -> None:
    [line] = _lines(Ndjson(stamp=True).encode([data(_TRADE)]))
    assert line == b'{"received_ns":%d,' % AT_NS + _TRADE[1:]


def test_own_events_stand_in_the_stream_only_when_asked_for() -> None:
    events = [_ACK, data(_TRADE), _QUIET, Notice(payload=b"{}", received_ns=2, event="info")]
    assert _lines(Ndjson().encode(events)) == [_TRADE]
    assert _lines(Ndjson(events=True).encode(events)) == [
        orjson.dumps(describe(_ACK)),
        _TRADE,
        orjson.dumps(describe(events[3])),
    ]


def test_fields_keep_the_venues_digits_and_the_order_asked_for() -> None:
    [line] = _lines(Ndjson(fields=("price", "side", "nothing")).encode([data(_TRADE)]))
    assert line == b'{"price":83994.0,"side":"sell"}'


def test_dotted_fields_lead_into_nested_objects() -> None:
    option = data(frame("ticker", "option: greeks object"))
    [line] = _lines(Ndjson(fields=("greeks.iv", "product_id")).encode([option]))
    assert line == b'{"greeks.iv":0.3,"product_id":"OF_ETHUSD_240101_1000_C"}'


def test_fields_of_entries_make_a_line_per_entry() -> None:
    lines = _lines(Ndjson(fields=("product_id", "price")).encode([data(_SNAPSHOT)]))
    prices = (b"83999.0", b"84002.0", b"84002.0")
    assert lines == [b'{"product_id":"PF_XBTUSD","price":%b}' % price for price in prices]


def test_fields_that_stand_at_the_top_make_one_line() -> None:
    assert len(_lines(Ndjson(fields=("product_id",)).encode([data(_SNAPSHOT)]))) == 1
    assert _lines(Ndjson(fields=("nothing",)).encode([data(_SNAPSHOT)])) == [b"{}"]


def test_a_list_of_entries_can_be_asked_for_whole() -> None:
    [line] = _lines(Ndjson(fields=("trades",)).encode([data(_SNAPSHOT)]))
    assert orjson.loads(line)["trades"] == orjson.loads(_SNAPSHOT)["trades"]


def test_levels_of_a_book_snapshot_have_their_side_as_a_field() -> None:
    book = data(frame("book", "start of a contiguous run"))
    lines = _lines(Ndjson(fields=("side", "qty")).encode([book]))
    assert lines[0] == b'{"side":"buy","qty":0.0003}'
    assert lines[-1] == b'{"side":"sell","qty":0.0243}'


def test_own_events_stay_whole_and_stamps_stand_first_with_fields() -> None:
    sink = Ndjson(stamp=True, events=True, fields=("price",))
    opened = Opened(received_ns=1, connection=1, url="ws://127.0.0.1/")
    lines = _lines(sink.encode([opened, data(_TRADE)]))
    assert lines == [
        orjson.dumps(describe(opened)),
        b'{"received_ns":%d,"price":83994.0}' % AT_NS,
    ]
