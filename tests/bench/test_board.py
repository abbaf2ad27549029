from __future__ import annotations

from itertools import islice

from tests.bench.board import cost, messages


def test_every_product_has_its_turn_and_its_prices_move() -> None:
    found = [*messages(20, 5)]
    assert [each.product for each in found[:6]] == [f"PF_X{n:03}USD" for n in (0, 1, 2, 3, 4, 0)]
    assert [each.message["product_id"] for each in found] == [each.product for each in found]
    for field in ("bid", "ask", "last", "markPrice", "index"):
        values = [each.message[field] for each in islice(found, 0, None, 5)]
        assert len(set(values)) == len(values)


def test_a_taller_terminal_costs_more() -> None:
    assert 0 < cost(1, 5, products=50) < cost(1, 60, products=50)
