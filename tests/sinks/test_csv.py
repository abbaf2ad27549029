from __future__ import annotations

import csv
import io

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.protocol.events import Data, Opened
from kfws.protocol.feeds import FEEDS
from kfws.sinks.columns import csv_columns
from kfws.sinks.csv import Csv
from tests.frames_of import frame
from tests.sinks.events import AT_NS, all_data, data


def _table(encoded: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(encoded.decode(), newline=""), strict=True))


def test_the_header_comes_first_and_once() -> None:
    sink = Csv(feed="heartbeat")
    assert sink.encode([]) == b"received_ns,kind,message_no,time,extra\n"
    assert sink.encode([]) == b""


def test_a_book_snapshot_is_a_row_per_level_and_a_delta_one_row() -> None:
    sink = Csv(feed="book")
    rows = _table(
        sink.encode(
            [
                data(frame("book", "start of a contiguous run")),
                data(frame("book", "seq = snapshot.seq + 1")),
            ]
        )
    )
    assert [row["message_no"] for row in rows] == ["1"] * 6 + ["2"]
    assert [row["side"] for row in rows] == ["buy"] * 3 + ["sell"] * 3 + ["buy"]
    assert [row["qty"] for row in rows[3:]] == ["0.6051", "0.4345", "0.0243", "0.0031"]
    assert [row["kind"] for row in rows[5:]] == ["snapshot", "delta"]
    assert {row["received_ns"] for row in rows} == {str(AT_NS)}


@pytest.mark.parametrize("feed", sorted(FEEDS))
def test_distinct_message_numbers_count_the_messages_of_every_feed(feed: str) -> None:
    events = [event for event in all_data() if event.feed == feed]
    rows = _table(Csv(feed=feed).encode(events))
    assert list(dict.fromkeys(row["message_no"] for row in rows)) == [
        str(number + 1) for number in range(len(events))
    ]


def test_numbers_are_the_venues_own_digits_and_null_is_empty() -> None:
    [row] = _table(Csv(feed="ticker").encode([data(frame("ticker", "key order as on the wire"))]))
    assert row["relative_funding_rate"] == "2.747066666667e-6"
    assert row["markPrice"] == "64399.68035588646"
    assert row["suspended"] == "false"
    [row, *_] = _table(Csv(feed="book").encode([data(frame("book", "start of a contiguous run"))]))
    assert row["tickSize"] == ""


def test_nested_objects_of_a_known_shape_have_columns() -> None:
    [row] = _table(Csv(feed="ticker").encode([data(frame("ticker", "option: greeks object"))]))
    assert row["greeks.iv"] == "0.3"
    orders = data(frame("open_orders", "three kinds"))
    rows = _table(Csv(feed="open_orders").encode([orders]))
    assert rows[1]["trailing_stop_options.max_deviation"] == "20.0"


def test_an_order_that_is_cancelled_by_its_id_alone_is_a_row() -> None:
    [row] = _table(Csv(feed="open_orders").encode([data(frame("open_orders", "user cancel"))]))
    assert (row["is_cancel"], row["reason"]) == ("true", "cancelled_by_user")
    assert row["order_id"] == "7a2f793e-26f3-4987-a938-56d296a11560"


def test_a_new_log_entry_is_a_row() -> None:
    entry = data(frame("account_log", "single object under new_entry"))
    [row] = _table(Csv(feed="account_log").encode([entry]))
    assert (row["id"], row["asset"]) == ("1697", "pi_bchusd")


def test_unknown_keys_of_message_and_entry_go_to_extra_with_their_own_tokens() -> None:
    payload = (
        b'{"feed":"fills","username":"u","mood":1.50,"fills":[{"price":1.0,"kind":{\n"a" : 2.0}}]}'
    )
    [row] = _table(Csv(feed="fills").encode([data(payload)]))
    assert row["extra"] == '{"mood":1.50,"kind":{ "a" : 2.0}}'
    assert row["kind"] == "delta"


def test_an_unknown_feed_is_written_with_its_body_in_extra() -> None:
    candle = next(event for event in all_data() if event.feed == "candles_trade_1m")
    [row] = _table(Csv(feed="candles_trade_1m").encode([candle]))
    assert row["product_id"] == "PF_XBTUSD"
    assert orjson.loads(row["extra"])["candle"] == orjson.loads(candle.payload)["candle"]


def test_fields_pick_columns_in_the_order_asked_for() -> None:
    trade = data(frame("trade", "recording kept only this one"))
    text = Csv(feed="trade", fields=("price", "kind", "product_id")).encode([trade])
    assert text == b"price,kind,product_id\n83994.0,delta,PF_XBTUSD\n"


def test_own_events_are_not_written() -> None:
    opened = Opened(received_ns=1, connection=1, url="ws://127.0.0.1/")
    assert Csv(feed="heartbeat").encode([opened]).count(b"\n") == 1


# Whoever names the columns gets them in the patient way, which looks at each token by itself.
def in_both_ways(feed: str, events: list[Data]) -> tuple[bytes, bytes]:
    return Csv(feed=feed).encode(events), Csv(feed=feed, fields=csv_columns(feed)).encode(events)


@pytest.mark.parametrize("feed", sorted(FEEDS))
def test_the_quick_way_gives_what_the_patient_one_gives(feed: str) -> None:
    events = [event for event in all_data() if event.feed == feed]
    for batch in (events, events[-1:], [each for each in events if each.kind == "delta"]):
        quick, patient = in_both_ways(feed, batch)
        assert quick == patient


_tokens = st.one_of(
    st.sampled_from(["1.50", "-7E+3", "null", "true", '"null"', '""', "{}", "[]", '{"iv":1}']),
    st.sampled_from(
        ['"a,b"', '"\\u0022"', '"a\\"b"', '"[x]"', '"\\n"', '" "', '"ä"', "1 \n", " \r2"]
    ),
    st.text(max_size=4).map(lambda each: orjson.dumps(each).decode()),
    st.integers().map(str),
)
_keys = st.sampled_from([*csv_columns("ticker"), "greeks", "new", "feed "])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["delta", "delta", "delta", "snapshot"]),
            st.lists(st.tuples(_keys, _tokens), max_size=6),
        ),
        max_size=4,
    )
)
def test_whatever_a_message_says_both_ways_write_the_same(
    said: list[tuple[str, list[tuple[str, str]]]],
) -> None:
    events = []
    for kind, pairs in said:
        name = "ticker" if kind == "delta" else "ticker_snapshot"
        parts = [f'"feed":"{name}"', *(f'"{key}":{token}' for key, token in pairs)]
        payload = f"{{{','.join(parts)}}}".encode()
        events.append(
            Data(
                payload=payload,
                received_ns=AT_NS,
                feed="ticker",
                kind=kind,  # type: ignore[arg-type]
                product=None,
                seq=None,
                venue_ms=None,
            )
        )
    quick, patient = in_both_ways("ticker", events)
    assert quick == patient


@given(note=st.text())
def test_any_text_is_read_back_by_a_csv_reader(note: str) -> None:
    payload = orjson.dumps({"feed": "notifications_auth", "notifications": [{"note": note}]})
    event = Data(payload=payload, received_ns=1, feed="notifications_auth")
    [row] = _table(Csv(feed="notifications_auth").encode([event]))
    assert row["note"] == note


@given(fields=st.dictionaries(st.text(max_size=5), st.integers(-9, 9) | st.text(), max_size=4))
def test_nothing_of_a_message_of_unknown_keys_is_lost(fields: dict[str, object]) -> None:
    payload = orjson.dumps({"feed": "trade", **{f"new_{key}": fields[key] for key in fields}})
    [row] = _table(Csv(feed="trade").encode([data(payload)]))
    extra = orjson.loads(row["extra"]) if row["extra"] else {}
    assert extra == {f"new_{key}": fields[key] for key in fields}
    assert tuple(row) == csv_columns("trade")
