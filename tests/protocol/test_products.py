from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.protocol.products import is_glob, is_well_formed, match, nearest, spelling
from tests.frames_of import frames, names

SOME = ["PF_XBTUSD", "PF_ETHUSD", "PI_XBTUSD", "PF_AAPLxUSD", "FF_XBTUSD_261225", "in_xbtusd"]


@pytest.mark.parametrize(
    "product_id",
    [
        *SOME,
        "PF_1INCHUSD",
        "FI_LTCUSD_190426",
        "fi_xbtusd_180316",
        "OF_ETHUSD_240101_1000_C",
        "OF_ETHUSD_240101_0.5_P",
        "rr_ethusd",
    ],
)
def test_ids_of_the_venue_are_well_formed(product_id: str) -> None:
    assert is_well_formed(product_id)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "XBTUSD",
        "PF_",
        "PF-XBTUSD",
        "PF_XBT/USD",
        "PF_XBTUSD\n",
        " PF_XBTUSD",
        "PF_XBTUSD_2612",
        "OF_ETHUSD_240101_1000",
        "OF_ETHUSD_240101_1000_X",
        "PF_*",
        "bch",
        "f-bch:usd",
        "PF_XBTUSD,PF_ETHUSD",
        "FF_XBTUSD_２６１２２５",
        "PF_" + "A" * 31,
    ],
)
def test_other_texts_are_not(text: str) -> None:
    assert not is_well_formed(text)


def test_every_product_in_the_recorded_frames_is_well_formed() -> None:
    found = {
        product_id
        for name in names()
        for payload in frames(name)
        if isinstance(product_id := msgspec.json.decode(payload).get("product_id"), str)
    }
    assert {"PF_XBTUSD", "FI_LTCUSD_190426"} <= found
    assert all(map(is_well_formed, found))


@pytest.mark.parametrize("typed", ["PF_*", "PF_?BTUSD", "P[FI]_XBTUSD"])
def test_a_pattern_is_a_glob(typed: str) -> None:
    assert is_glob(typed)


@pytest.mark.parametrize("text", [*SOME, "", "PF *", "\x1b[31m", "PF_*\n", "*" * 61, "é*"])
def test_an_id_and_what_no_id_could_match_are_no_globs(text: str) -> None:
    assert not is_glob(text)


def test_a_glob_matches_without_regard_to_case_in_the_order_of_the_list() -> None:
    assert match("pf_*", SOME) == ["PF_XBTUSD", "PF_ETHUSD", "PF_AAPLxUSD"]
    assert match("*xbtusd", SOME) == ["PF_XBTUSD", "PI_XBTUSD", "in_xbtusd"]
    assert match("P[FI]_XBT*", iter(SOME)) == ["PF_XBTUSD", "PI_XBTUSD"]
    assert match("FV_*", SOME) == []


def test_the_venues_spelling_wins_over_the_typed_one() -> None:
    assert spelling("pf_aaplXusd", SOME) == "PF_AAPLxUSD"
    assert spelling("PF_AAPLxUSD", SOME) == "PF_AAPLxUSD"


def test_an_unknown_id_stays_as_it_was_typed() -> None:
    assert spelling("pf_NewUSD", SOME) == "pf_NewUSD"
    assert spelling("PF_XBTUSD", []) == "PF_XBTUSD"


def test_near_misses_come_as_the_venue_spells_them() -> None:
    assert nearest("PF_XTBUSD", SOME)[0] == "PF_XBTUSD"
    assert nearest("pf_aaplusd", SOME)[0] == "PF_AAPLxUSD"
    assert nearest("something", SOME) == []


@given(st.text())
def test_no_text_at_all_breaks_anything(text: str) -> None:
    is_well_formed(text)
    assert set(match(text, SOME)) <= set(SOME)
    assert spelling(text, SOME) in {text, *SOME}
    assert set(nearest(text, SOME)) <= set(SOME)
