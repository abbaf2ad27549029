"""The list of simulated products, and the spelling of their numbers."""

from __future__ import annotations

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.protocol.products import is_well_formed
from kfws.sim.listing import Listing, iso
from tests.frames_of import lines

LISTING = Listing.load()


def test_the_whole_list_is_every_tradeable_product_and_no_other() -> None:
    assert "PF_XBTUSD" in LISTING.products
    assert {"in_xbtusd", "rr_ethusd", "FI_ETHUSD_210625"} <= {
        row["symbol"] for row in LISTING.others
    }
    assert not LISTING.products.keys() & {row["symbol"] for row in LISTING.others}


def test_a_listed_instrument_is_the_recorded_one() -> None:
    recorded = next(line for line in lines("rest") if "one instrument" in line.note)
    [instrument] = msgspec.json.decode(recorded.payload)["instruments"]
    assert LISTING.products["PI_XBTUSD"].instrument == instrument


@pytest.mark.parametrize("count", [1, 3, 31, 40])
def test_a_number_of_products_gives_the_first_of_the_list_and_then_made_up_ones(
    count: int,
) -> None:
    chosen = list(Listing.load(count).products)
    known = list(LISTING.products)
    assert len(chosen) == count
    assert chosen[: len(known)] == known[:count]
    assert all(is_well_formed(product) for product in chosen)
    assert all(product.startswith("PF_SIM") for product in chosen[len(known) :])


def test_made_up_products_have_prices_of_their_own_that_never_change() -> None:
    first, second = (Listing.load(40).products for _ in range(2))
    assert first == second
    assert first["PF_SIM0001USD"].price != first["PF_SIM0002USD"].price


@pytest.mark.parametrize(
    ("product", "ticks", "spelled"),
    [
        ("PF_XBTUSD", 84001, b"84001.0"),
        ("PF_ETHUSD", 31619, b"3161.9"),
        ("PF_PEPEUSD", 98214, b"9.8214e-6"),
        ("PI_XBTUSD", 168001, b"84000.5"),
        ("PI_ETHUSD", 3, b"0.15"),
        ("PF_LINKUSD", 16404, b"16.404"),
    ],
)
def test_prices_are_spelled_without_noise(product: str, ticks: int, spelled: bytes) -> None:
    assert orjson.dumps(LISTING.products[product].price_of(ticks)) == spelled


@given(st.sampled_from(list(LISTING.products)), st.integers(1, 10**7))
def test_a_price_goes_to_ticks_and_back(product: str, ticks: int) -> None:
    listed = LISTING.products[product]
    price = listed.price_of(ticks)
    assert listed.ticks_of(price) == ticks
    assert float(f"{price:.{listed.decimals}f}") == price


@pytest.mark.parametrize(
    ("product", "units", "size"),
    [("PF_XBTUSD", 371, 0.0371), ("PF_PEPEUSD", 21000, 21e6), ("PI_XBTUSD", 38, 38.0)],
)
def test_sizes_are_multiples_of_the_listed_precision(product: str, units: int, size: float) -> None:
    listed = LISTING.products[product]
    assert listed.size_of(units) == size
    assert listed.units_of(size) == units


def test_what_the_ticker_says_of_a_product_follows_from_the_list() -> None:
    quarter, month = (LISTING.products[f"FF_XBTUSD_{day}"] for day in ("261225", "261127"))
    perpetual = LISTING.products["PF_XBTUSD"]
    assert (quarter.tag, month.tag, perpetual.tag) == ("quarter", "month", "perpetual")
    assert quarter.maturity_ms == 1_798_185_600_000
    assert perpetual.pair == "XBT:USD"
    assert perpetual.leverage == "100x"
    assert quarter.basis(0) > month.basis(0) > perpetual.basis(0) == 0


def test_moments_are_spelled_as_rest_spells_them() -> None:
    assert iso(1_790_358_239_000.9) == "2026-09-25T17:43:59.000Z"
