from __future__ import annotations

import subprocess
import sys
import unicodedata

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.protocol.feeds import FEEDS
from kfws.sinks import columns
from tests.frames_of import frame
from tests.sinks.events import all_data


def _rows(feed: str, payload: bytes) -> list[dict[str, str]]:
    message = columns.read(payload)
    rows = columns.rows(message, columns.entries(feed, message))
    return [{key: columns.text_of(token) for key, token in row.items()} for row in rows]


@pytest.mark.parametrize(
    "mark",
    ["\x1b", "\x00", "\x7f", "\x9b", "\n", "\r", "\t", "\u2028", "\u202e", "\u2066", "\u200e",
     "\u200b", "\ufeff", "\ud800"],
)  # fmt: skip
def test_what_could_move_or_hide_on_a_terminal_is_made_visible(mark: str) -> None:
    assert columns.printable(f"a{mark}b") == "a·b"


def test_plain_text_of_any_language_stays() -> None:
    assert columns.printable("Größe 大小 ok") == "Größe 大小 ok"


@given(st.text())
def test_no_control_or_format_character_is_ever_left(text: str) -> None:
    safe = columns.printable(text)
    assert len(safe) == len(text)
    assert not {unicodedata.category(mark) for mark in safe} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    safe.encode()


@given(st.text())
def test_the_text_of_a_string_is_what_json_says(text: str) -> None:
    assert columns.text_of(msgspec.json.encode(text)) == text


@pytest.mark.parametrize(
    ("token", "text"),
    [(b"1.10", "1.10"), (b"-0.0", "-0.0"), (b"2.7e-6", "2.7e-6"), (b"null", ""), (b"true", "true"),
     (b'"a\\ud800"', "a\\ud800")],
)  # fmt: skip
def test_other_tokens_are_shown_as_they_stand(token: bytes, text: str) -> None:
    assert columns.text_of(token) == text


def test_a_dotted_path_leads_into_nested_objects() -> None:
    row = columns.read(b'{"a":{"b":{"c":1.0}},"x.y":2,"n":1}')
    assert columns.text_of(columns.find(row, "a.b.c") or b"") == "1.0"
    assert columns.text_of(columns.find(row, "x.y") or b"") == "2"
    assert columns.find(row, "a.q") is None
    assert columns.find(row, "n.q") is None


def test_the_levels_of_a_book_snapshot_say_their_side() -> None:
    rows = _rows("book", frame("book", "start of a contiguous run"))
    assert [row["side"] for row in rows] == ["buy"] * 3 + ["sell"] * 3
    assert {row["seq"] for row in rows} == {"173877391"}


def test_balances_are_rows_by_section_and_name() -> None:
    rows = _rows("balances", frame("balances", "seq 0 on the snapshot"))
    assert [(row["section"], row.get("name", "")) for row in rows] == [
        *(("holding", name) for name in ("USDT", "XBT", "ETH", "USD", "EUR")),
        *(("futures", name) for name in ("F-ETH:EUR", "F-XBT:USD")),
        ("flex_futures", ""),
        *(("flex_futures.currencies", name) for name in ("USDT", "USD")),
        ("flex_futures.isolated", "PF_ETHUSD"),
        ("flex_futures.cross", ""),
    ]
    assert rows[1]["quantity"] == "0.1285407184"


def test_balances_of_an_odd_shape_lose_nothing() -> None:
    odd = b'{"feed":"balances","holding":[1],"futures":3,"flex_futures":null}'
    assert _rows("balances", odd) == [
        {"feed": "balances", "holding": "[1]", "futures": "3", "flex_futures": ""}
    ]
    mixed = b'{"futures":{"a":1,"b":{"pnl":2}},"flex_futures":{"isolated":[]}}'
    assert _rows("balances", mixed) == [
        {"section": "futures", "name": "b", "pnl": "2", "futures": '{"a":1}'},
        {"section": "flex_futures", "isolated": "[]", "futures": '{"a":1}'},
    ]


@pytest.mark.parametrize("value", [b"null", b"7", b'"x"', b"[1,2]"])
def test_what_is_no_list_of_entries_stays_in_the_message(value: bytes) -> None:
    message = columns.read(b'{"feed":"fills","fills":%b}' % value)
    assert columns.entries("fills", message) == []
    assert bytes(message["fills"]) == value


def test_an_object_of_an_unexpected_shape_is_not_flattened() -> None:
    payload = b'{"feed":"open_orders","order":{"trailing_stop_options":[{"unit":"percent"}]}}'
    assert _rows("open_orders", payload)[0]["trailing_stop_options"] == '[{"unit":"percent"}]'


def test_every_feed_has_csv_columns_without_repeats() -> None:
    for feed in [*FEEDS, "tomorrow"]:
        names = columns.csv_columns(feed)
        assert names[:3] == ("received_ns", "kind", "message_no")
        assert names[-1] == "extra"
        assert len(set(names)) == len(names)


def test_an_unknown_feed_has_product_and_number_and_the_rest_as_json() -> None:
    assert columns.csv_columns("candles_trade_1m")[3:] == ("product_id", "seq", "extra")
    assert columns.table_columns("candles_trade_1m") == ()


def test_every_table_shows_known_keys_only() -> None:
    for feed, shown in columns.TABLE.items():
        known = columns.table_columns(feed)
        assert {key for column in shown for key in column.keys} - set(known) <= {
            "time", "timestamp", "product_id", "order_id"
        }  # fmt: skip


def test_every_key_of_todays_frames_has_a_column() -> None:
    # Keys of 2018 aside: ticker_lite once had an index, candles have no columns at all.
    for event in all_data():
        if event.feed in FEEDS and b"FV_XRPXBT" not in event.payload:
            for row in _rows(event.feed, event.payload):
                assert set(row) - {"feed"} <= set(columns.csv_columns(event.feed))


def test_this_room_is_free_of_heavy_packages() -> None:
    code = "import sys, kfws.sinks.columns; print({'rich', 'orjson', 'asyncio'} & set(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "set()\n"
