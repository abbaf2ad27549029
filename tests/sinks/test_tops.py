from __future__ import annotations

from datetime import UTC

import pytest

from kfws.protocol.events import Data
from kfws.sinks.paint import Paint
from kfws.sinks.tops import Tops


def line(bids: str, asks: str, spread: str = "2", stale: str = "false", product: str = "A") -> Data:
    text = (
        f'{{"product_id":"{product}","seq":1,"timestamp":1000,"bids":[{bids}],"asks":[{asks}],'
        f'"spread":{spread},"mid":9,"stale":{stale}}}'
    )
    return Data(
        payload=text.encode(),
        received_ns=10**9,
        feed="book",
        kind="snapshot",
        product=product,
        seq=1,
        venue_ms=1000,
    )


BID, ASK = '{"price":8,"qty":1.50}', '{"price":10,"qty":3}'
DEEPER = ',{"price":7,"qty":1}'


def shown(*lines: Data, width: int = 80) -> list[str]:
    table = Tops(feeds=("book",), paint=Paint(False), width=width, zone=UTC)
    _, *rows = table.encode(lines).decode().splitlines()
    return [" ".join(row.split()[1:]) for row in rows]


def test_a_row_has_the_best_of_both_sides() -> None:
    assert shown(line(BID + DEEPER, ASK)) == ["A 1.50 8 10 3 2"]


def test_what_changed_further_down_has_no_row() -> None:
    other = line(BID, ASK, product="B")
    lines = line(BID, ASK), other, line(BID + DEEPER, ASK), line(BID, ""), other
    assert shown(*lines) == ["A 1.50 8 10 3 2", "B 1.50 8 10 3 2", "A 1.50 8 2"]


@pytest.mark.parametrize("width", [80, 120])
def test_a_book_that_became_stale_and_is_not_any_more_says_so(width: int) -> None:
    lines = line(BID, ASK), line(BID, ASK, stale="true"), line(BID, ASK)
    assert shown(*lines, width=width) == [
        "A 1.50 8 10 3 2",
        "A 1.50 8 10 3 2 stale",
        "A 1.50 8 10 3 2",
    ]


def test_an_empty_side_is_empty() -> None:
    assert shown(line("", "", spread="null")) == ["A"]
