from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kfws.cli.select import REMEMBERED, Selection
from kfws.cli.where import parse
from kfws.protocol.events import Beat, Broken, Data, Event, Kind, Subscribed, Tick
from kfws.protocol.feeds import PRIVATE, base_name
from tests.frames_of import frame, frames

AT = 1_791_518_718_655_000_000
XBT = frozenset({"PF_XBTUSD"})
ALL = frozenset({"ticker", "book", "trade", *PRIVATE})


def data(payload: bytes) -> Data:
    fields = msgspec.json.decode(payload)
    feed, is_snapshot = base_name(fields["feed"])
    kind: Kind = "snapshot" if is_snapshot else "delta"
    product, seq = fields.get("product_id"), fields.get("seq")
    return Data(payload=payload, received_ns=AT, feed=feed, kind=kind, product=product, seq=seq)


def made(feed: str, **fields: Any) -> Data:
    return data(msgspec.json.encode({"feed": feed, **fields}))


def selection(
    *,
    where: str | None = None,
    snapshots: bool = True,
    products: frozenset[str] = frozenset(),
    asked: frozenset[str] = ALL,
) -> Selection:
    return Selection(
        where=None if where is None else parse(where),
        snapshots=snapshots,
        products=products,
        asked=asked,
    )


def of_products(*products: str) -> Selection:
    return selection(products=frozenset(products))


def order(order_id: str, product: str, **more: Any) -> Data:
    fields = {"order_id": order_id, "instrument": product, **more}
    return made("open_orders", order=fields, is_cancel=False, reason="new_placed_order_by_user")


def cancel(**ids: str) -> Data:
    return made("open_orders", **ids, is_cancel=True, reason="cancelled_by_user")


DELTA = data(frames("book", kind="delta")[0])
SNAPSHOT = data(frames("book", kind="snapshot")[0])
CONTROL: list[Event] = [
    Beat(payload=frames("heartbeat", kind="delta")[0], received_ns=AT),
    Subscribed(payload=b"{}", received_ns=AT, feed="book", products=("PF_XBTUSD",)),
    Broken(payload=b"<html>", received_ns=AT, reason="not JSON"),
    Tick(received_ns=AT),
]


# Batches


def test_where_nothing_selects_a_batch_is_handed_on_as_it_is() -> None:
    events = [SNAPSHOT, DELTA, *CONTROL]
    assert selection().trivial
    assert selection().choose(events) is events


def test_events_that_are_no_data_always_stay_in_their_place() -> None:
    events = [CONTROL[0], DELTA, CONTROL[1], SNAPSHOT, *CONTROL[2:]]
    assert selection(where="nothing==1").choose(events) == CONTROL


def test_a_selection_with_any_condition_is_not_trivial() -> None:
    assert not selection(where="a==1").trivial
    assert not selection(snapshots=False).trivial
    assert not of_products("PF_XBTUSD").trivial


def test_products_of_public_feeds_select_nothing_the_venue_did_that() -> None:
    public = selection(products=XBT, asked=frozenset({"book", "ticker"}))
    assert public.trivial
    mixed = selection(products=XBT, asked=frozenset({"book", "fills"}))
    assert not mixed.trivial
    assert mixed.passes(data(frame("book", "removal of a level")))


# Snapshots and expressions


def test_snapshots_are_left_out_on_request() -> None:
    assert selection(snapshots=False).choose([SNAPSHOT, DELTA]) == [DELTA]
    assert selection(snapshots=True).choose([SNAPSHOT, DELTA]) == [SNAPSHOT, DELTA]


def test_what_matches_the_expression_passes() -> None:
    assert selection(where="side==sell").passes(DELTA)
    assert not selection(where="side==buy").passes(DELTA)
    assert selection(where="side==buy and price==83998").passes(SNAPSHOT)


def test_nothing_is_decoded_where_nothing_asks() -> None:
    event = data(frames("fills", kind="delta")[0])
    assert selection(snapshots=False).choose([event]) == [event]
    assert event.decoded is None


# Products of private feeds


@pytest.mark.parametrize(
    ("product", "passing"), [("PF_XBTUSD", True), ("pi_ethusd", True), ("PF_SOLUSD", False)]
)
def test_fills_pass_when_any_of_them_names_the_product(product: str, passing: bool) -> None:
    event = data(frames("fills", kind="snapshot")[0])
    assert of_products(product).passes(event) is passing


def test_a_message_that_lists_nothing_passes() -> None:
    assert of_products("PF_SOLUSD").passes(data(frame("fills", "no fills yet")))
    assert of_products("PF_SOLUSD").passes(data(frame("open_orders", "no open orders")))
    assert of_products("PF_SOLUSD").passes(data(frame("open_positions", "position closed")))


@pytest.mark.parametrize("name", ["balances", "notifications_auth", "account_balances_and_margins"])
def test_messages_that_name_no_product_pass(name: str) -> None:
    events: list[Event] = [data(payload) for payload in frames(name) if b'"event"' not in payload]
    assert events
    assert of_products("PF_SOLUSD").choose(events) == events


def test_positions_are_compared_without_regard_to_case() -> None:
    event = data(frame("open_positions", "lower-case instrument"))
    assert of_products("FI_XBTUSD_180316").passes(event)
    assert not of_products("PF_XBTUSD").passes(event)


def test_a_booking_names_its_product_as_asset_or_contract() -> None:
    booking = data(frames("account_log", kind="delta")[0])
    assert of_products("PI_BCHUSD").passes(booking)
    assert not of_products("PF_XBTUSD").passes(booking)
    contract = made("account_log", new_entry={"asset": "usd", "contract": "pf_xbtusd"})
    assert of_products("PF_XBTUSD").passes(contract)
    assert not of_products("PF_ETHUSD").passes(contract)


def test_a_booking_in_a_currency_names_no_product() -> None:
    event = made("account_log", new_entry={"asset": "bch", "margin_account": "f-bch:usd"})
    assert of_products("PF_XBTUSD").passes(event)


def test_a_glob_names_products_in_any_case() -> None:
    assert of_products("pf_xbt*").passes(order("1", "PF_XBTUSD"))
    assert of_products("PF_XBT*").passes(order("1", "pf_xbtusd"))
    assert not of_products("PI_*").passes(order("1", "PF_XBTUSD"))
    assert of_products("PI_*", "PF_XBTUSD").passes(order("1", "PF_XBTUSD"))
    assert not of_products("PI_*").trivial


def test_products_and_expression_both_have_to_agree() -> None:
    both = selection(products=XBT, where="buy==true")
    assert both.passes(data(frame("fills", "delta: same list shape")))
    assert not both.passes(data(frame("fills", "liquidation fill")))
    assert not both.passes(made("fills", fills=[{"instrument": "PF_ETHUSD", "buy": True}]))


# Orders, and cancels that carry an id only


def test_the_recorded_life_of_orders_passes_for_its_product_and_not_for_another() -> None:
    kinds = ("snapshot", "delta")
    events = [data(payload) for kind in kinds for payload in frames("open_orders", kind=kind)]
    xbt, eth = of_products("PF_XBTUSD"), of_products("PF_ETHUSD")
    assert all(xbt.passes(event) for event in events)
    # Nothing says whose they are: the empty snapshot, the rejected order that never was placed.
    assert [event.payload for event in events if eth.passes(event)] == [
        frame("open_orders", "no open orders"),
        frame("open_orders", "rejected"),
    ]


def test_a_cancel_passes_as_its_order_did() -> None:
    select = of_products("PF_XBTUSD")
    assert select.passes(order("1", "PF_XBTUSD"))
    assert not select.passes(order("2", "PF_ETHUSD"))
    assert not select.passes(cancel(order_id="2"))
    assert select.passes(cancel(order_id="1"))


def test_a_cancel_by_client_id_passes_as_its_order_did() -> None:
    select = of_products("PF_XBTUSD")
    assert not select.passes(order("2", "PF_ETHUSD", cli_ord_id="mine"))
    assert not select.passes(cancel(cli_ord_id="mine"))


def test_the_id_of_the_venue_counts_before_the_clients() -> None:
    select = of_products("PF_XBTUSD")
    assert select.passes(order("1", "PF_XBTUSD", cli_ord_id="a"))
    assert not select.passes(order("2", "PF_ETHUSD", cli_ord_id="b"))
    assert not select.passes(cancel(order_id="2", cli_ord_id="a"))


def test_a_cancel_of_an_order_never_seen_passes() -> None:
    assert of_products("PF_XBTUSD").passes(cancel(order_id="9", cli_ord_id="x"))


def test_a_cancelled_order_is_forgotten_by_all_its_ids() -> None:
    select = of_products("PF_XBTUSD")
    assert not select.passes(order("2", "PF_ETHUSD", cli_ord_id="mine"))
    assert not select.passes(cancel(order_id="2"))
    assert select.passes(cancel(order_id="2"))
    assert select.passes(cancel(cli_ord_id="mine"))


def test_an_order_filled_to_its_end_is_forgotten_too() -> None:
    select = of_products("PF_XBTUSD")
    assert not select.passes(order("2", "PF_ETHUSD"))
    filled = made("open_orders", order={"order_id": "2", "instrument": "PF_ETHUSD"}, is_cancel=True)
    assert not select.passes(filled)
    assert select.passes(cancel(order_id="2"))


def test_an_id_only_message_that_cancels_nothing_forgets_nothing() -> None:
    select = of_products("PF_XBTUSD")
    assert not select.passes(order("2", "PF_ETHUSD"))
    assert not select.passes(made("open_orders", order_id="2", is_cancel=False))
    assert not select.passes(cancel(order_id="2"))


def test_either_feed_of_orders_remembers_for_itself() -> None:
    select = of_products("PF_XBTUSD")
    placed = order("2", "PF_ETHUSD")
    verbose = data(placed.payload.replace(b'"open_orders"', b'"open_orders_verbose"'))
    assert not select.passes(placed)
    assert not select.passes(verbose)
    assert not select.passes(cancel(order_id="2"))
    assert not select.passes(made("open_orders_verbose", order_id="2", is_cancel=True))


def test_orders_of_a_snapshot_that_is_left_out_are_remembered_all_the_same() -> None:
    select = selection(products=XBT, snapshots=False)
    orders = [{"order_id": "1", "instrument": "PF_XBTUSD"}]
    orders += [{"order_id": "2", "instrument": "PF_ETHUSD"}]
    assert not select.passes(made("open_orders_snapshot", orders=orders))
    assert select.passes(cancel(order_id="1"))
    assert not select.passes(cancel(order_id="2"))


def test_the_memory_is_bounded_and_the_oldest_order_goes_first() -> None:
    select = of_products("PF_XBTUSD")
    orders = [{"order_id": str(n), "instrument": "PF_ETHUSD"} for n in range(REMEMBERED + 1)]
    assert not select.passes(made("open_orders_snapshot", orders=orders))
    assert select.passes(cancel(order_id="0"))
    assert not select.passes(cancel(order_id="1"))
    assert not select.passes(cancel(order_id=str(REMEMBERED)))
