from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.products_cache import Product, Products, decimals, keep, kept, kept_at, parse
from kfws.products_ids import beside, kept_ids
from kfws.sim.market import Market
from tests.frames_of import lines

RECORDED = next(each.payload for each in lines("rest") if "full list" in each.note)
WHOLE = Market(1, 0).instruments()


def listed(*rows: bytes) -> Products:
    return parse(b'{"result":"success","instruments":[%b]}' % b",".join(rows), 7)


def product(row: bytes) -> Product:
    return listed(row).rows[0][0]


# Reading


def test_a_recorded_answer_is_read_and_its_row_stays_as_the_venue_wrote_it() -> None:
    products = parse(RECORDED, 7)
    [(only, row)] = products.rows
    assert row in RECORDED
    assert RECORDED.endswith(b'"instruments":[' + row + b"]" + RECORDED.rpartition(b"]")[2])
    assert (only.id, bytes(only.type)) == ("PI_XBTUSD", b'"futures_inverse"')
    assert (bytes(only.tick_size), bytes(only.contract_size)) == (b"0.5", b"1")
    assert only.is_tradeable
    assert products.fetched_ns == 7


def test_products_stand_in_the_order_of_their_ids() -> None:
    products = parse(WHOLE, 0)
    assert len(products.ids) == 36
    assert list(products.ids) == sorted(products.ids)
    assert set(products.ids) - set(products.tradeable) == {
        *("in_xbtusd", "in_ethusd", "rr_xbtusd", "rr_ethusd", "FI_ETHUSD_210625")
    }


def test_digits_and_unknown_keys_stay_as_they_came() -> None:
    row = b'{"new":{"a": [1.10]},"symbol":"PF_A","tickSize":0.0000100,"contractSize":1e+0}'
    products = listed(row)
    assert products.rows[0][1] == row
    assert bytes(products.rows[0][0].tick_size) == b"0.0000100"


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"<html>", b"[]", b"{}", b'{"instruments":[{}]}', b'{"instruments":["\xff"]}'),
        b'{"instruments":' + b"[" * 100_000,
    ],
    ids=lambda body: body[:20].decode(errors="replace"),
)
def test_what_is_no_list_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # of any kind: the caller says what it was
        parse(body, 0)


@pytest.mark.parametrize(
    ("tick", "digits"),
    [
        *((b"1", 0), (b"1.0", 0), (b"100", 0), (b"0.5", 1), (b"0.05", 2), (b"0.10", 1)),
        *((b"1e-10", 10), (b"2.5E-3", 4), (b"1e3", 0), (b"null", None), (b'"x"', None)),
        *((b'"NaN"', None), (b"[]", None), (b"0", None), (b"-0.5", None)),
    ],
)
def test_the_tick_size_says_the_digits_of_a_price(tick: bytes, digits: int | None) -> None:
    assert decimals(product(b'{"symbol":"PF_A","tickSize":%b}' % tick)) == digits


def test_a_product_without_a_tick_has_no_digits() -> None:
    assert decimals(product(b'{"symbol":"in_xbtusd"}')) is None


# What is wrong with an id


def test_an_id_that_is_not_listed_is_told_with_those_that_look_like_it() -> None:
    assert listed(b'{"symbol":"PF_XBTUSD","tradeable":true}').fault("PF_XBTUS") == (
        "no product PF_XBTUS; similar: PF_XBTUSD"
    )
    assert listed().fault("PF_XBTUS") == "no product PF_XBTUS"


def test_an_index_is_told_to_have_no_feeds() -> None:
    assert parse(WHOLE, 0).fault("in_xbtusd") == "in_xbtusd is not tradeable, so it has no feeds"


def test_the_list_knows_nothing_against_what_is_traded() -> None:
    assert parse(WHOLE, 0).fault("PF_XBTUSD") == ""


# Keeping


def test_a_list_is_kept_with_its_age_and_all_of_its_text(tmp_path: Path) -> None:
    path = tmp_path / "not" / "there" / "list.json"
    products = parse(WHOLE, 1_791_518_718_655_000_000)
    keep(products, path)
    assert kept(path) == products
    keep(parse(RECORDED, 8), path)
    assert kept(path) == parse(RECORDED, 8)


def test_a_kept_list_is_for_its_owner_alone_and_leaves_but_its_ids_beside_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "kept" / "list.json"
    keep(parse(RECORDED, 8), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sorted(path.parent.iterdir()) == [beside(path), path]


def test_a_list_that_cannot_be_kept_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "list.json").mkdir()
    with pytest.raises(OSError, match=r"list\.json"):
        keep(parse(RECORDED, 8), tmp_path / "list.json")
    assert [*tmp_path.iterdir()] == [tmp_path / "list.json"]


def test_where_nothing_is_kept_there_is_nothing(tmp_path: Path) -> None:
    assert kept(tmp_path / "list.json") is None
    assert kept(tmp_path) is None


def test_a_kept_list_that_is_nested_too_deep_is_a_value_error(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_bytes(b'{"instruments":' + b"[" * 100_000)
    with pytest.raises(ValueError, match="too deep"):
        kept(path)


@given(st.binary() | st.integers(0, 2000).map(lambda cut: WHOLE[:cut]))
def test_any_bytes_in_its_place_are_a_value_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011  # of any kind: the caller says what it was
        kept(path)


# Ids beside the list


def test_ids_of_what_is_traded_are_kept_beside_the_list(tmp_path: Path) -> None:
    path = kept_at(tmp_path, "live")
    assert kept_ids(path) is None
    products = listed(
        b'{"symbol":"PF_XBTUSD","tradeable":true}',
        b'{"symbol":"in_xbtusd","tradeable":false}',
        b'{"symbol":"PF_$(reboot)","tradeable":true}',
    )
    keep(products, path)
    assert kept_ids(path) == ["PF_XBTUSD"]
    assert beside(path).read_bytes() == b"PF_XBTUSD\n"
    assert stat.S_IMODE(beside(path).stat().st_mode) == 0o600


def test_ids_without_their_list_or_older_than_it_say_nothing(tmp_path: Path) -> None:
    path = kept_at(tmp_path, "live")
    keep(listed(b'{"symbol":"PF_XBTUSD","tradeable":true}'), path)
    os.utime(beside(path), ns=(0, path.stat().st_mtime_ns - 1))
    assert kept_ids(path) is None
    keep(listed(), path)
    assert kept_ids(path) == []
    path.unlink()
    assert kept_ids(path) is None
