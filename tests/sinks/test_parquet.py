from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from pyarrow import parquet as pq

from kfws.protocol.events import Data
from kfws.protocol.feeds import FEEDS, base_name
from kfws.sinks import columns, parquet
from kfws.sinks.parquet import Parquet
from tests.frames_of import frames

AT = 1_791_518_718_655_000_001


def message(payload: bytes, feed: str = "trade") -> Data:
    return Data(payload=payload, received_ns=AT, feed=feed)


def messages_of(feed: str) -> list[Data]:
    if feed == "heartbeat":
        return [message(b'{"feed":"heartbeat","time":17}', feed)]
    named = [(base_name(json.loads(each).get("feed", ""))[0], each) for each in frames(feed)]
    return [message(each, feed) for name, each in named if name == feed]


def written(path: Path, feed: str, *messages: Data) -> list[dict[str, Any]]:
    file = Parquet(path, feed=feed)
    file.write(messages)
    file.close()
    assert file.count() == len(messages)
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def same(value: Any, token: Raw | None) -> bool:
    """Whether a cell says what the venue's token says."""
    said = None if token is None else json.loads(bytes(token), parse_float=Decimal)
    if isinstance(value, float):
        return said is not None and Decimal(repr(value)) == said
    return bool(value == said) and isinstance(value, bool) == isinstance(said, bool)


@pytest.mark.parametrize("feed", FEEDS)
def test_every_frame_comes_back_with_the_same_values(feed: str, tmp_path: Path) -> None:
    payloads = frames(feed) if feed != "heartbeat" else [b'{"feed":"heartbeat","time":17}']
    messages = [
        message(each, feed)
        for each in payloads
        if base_name(json.loads(each).get("feed", ""))[0] == feed
    ]
    found = iter(written(tmp_path / "a.parquet", feed, *messages))
    known = columns.known_keys(feed)
    for number, each in enumerate(messages, start=1):
        for row in columns.full_rows(each, number, known):
            cells = next(found)
            extra = json.loads(cells["extra"] or "{}", parse_float=Decimal)
            for name in columns.csv_columns(feed)[:-1]:
                kept = cells[name] if name not in extra else extra[name]
                assert same(kept, row.get(name)), (name, cells[name], row.get(name))
    assert next(found, None) is None


def test_documented_values_all_have_a_column_of_their_type(tmp_path: Path) -> None:
    for feed in ("trade", "ticker", "book", "fills", "open_orders", "account_log"):
        payloads = [
            each for each in frames(feed, kind="delta") if b'"feed":"%b"' % feed.encode() in each
        ]
        path = tmp_path / f"{feed}.parquet"
        for row in written(path, feed, *(message(each, feed) for each in payloads)):
            extra = json.loads(row["extra"] or "{}")
            assert not extra.keys() & set(columns.csv_columns(feed)), (feed, extra)


def test_what_a_column_cannot_hold_stands_whole_in_extra(tmp_path: Path) -> None:
    payload = (
        b'{"feed":"trade","seq":"seven","price":0.12345678901234567890,"qty":1e999,"time":1.7e3,'
        b'"side":9,"uid":"\\u00e9\\n","new":{"a":1}}'
    )
    [row] = written(tmp_path / "a.parquet", "trade", message(payload))
    assert [row[name] for name in ("seq", "price", "qty", "side")] == [None] * 4
    assert (row["time"], row["uid"]) == (1700, "é\n")
    assert row["extra"] == (
        '{"new":{"a":1},"seq":"seven","side":9,"price":0.12345678901234567890,"qty":1e999}'
    )


@given(st.decimals(allow_nan=False, allow_infinity=False) | st.integers().map(Decimal))
def test_a_number_is_kept_exactly_or_not_at_all(number: Decimal) -> None:
    token = Raw(str(number).encode())
    value = parquet._number(token)
    if isinstance(value, float):
        assert Decimal(repr(value)) == number
    whole = parquet._integer(token)
    if isinstance(whole, int):
        assert Decimal(whole) == number


def test_units_stand_in_the_metadata_and_products_in_a_dictionary(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    written(path, "ticker", message(b'{"feed":"ticker","product_id":"PF_A"}', "ticker"))
    schema = pq.read_schema(path)
    assert schema.field("received_ns").metadata[b"unit"] == b"ns since 1970-01-01 UTC"
    assert schema.field("relative_funding_rate").metadata[b"unit"] == b"fraction of price per hour"
    assert str(schema.field("product_id").type).startswith("dictionary<values=string")
    assert schema.metadata[b"feed"] == b"ticker"
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"


def test_rows_leave_by_the_group_and_messages_stay_whole(tmp_path: Path) -> None:
    levels = b",".join(b'{"price":%d,"qty":1}' % price for price in range(1, 20_001))
    payload = b'{"feed":"book_snapshot","product_id":"PF_A","seq":1,"bids":[%b],"asks":[]}' % levels
    path = tmp_path / "a.parquet"
    rows = written(path, "book", *(message(payload, "book") for _ in range(4)))
    assert len(rows) == 80_000
    assert pq.ParquetFile(path).metadata.num_row_groups == 2


def test_a_feed_of_tomorrow_is_kept_in_extra(tmp_path: Path) -> None:
    [row] = written(tmp_path / "a.parquet", "new", message(b'{"feed":"new","x":[1,2]}', "new"))
    assert row["extra"] == '{"x":[1,2]}'
