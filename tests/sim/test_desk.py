"""The venue's REST, without a socket: who may ask, what is answered, what orders bring about."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.protocol.auth import DEMO, sign_request
from kfws.protocol.venue import Publication
from kfws.sim.desk import API, HISTORY, NONCES_KEPT, Answer, Asked, Desk
from kfws.sim.market import Market
from tests.frames_of import lines

START = 1_790_359_964_000
PRODUCT = "PF_XBTUSD"


class Client:
    """One who signs requests and sees what they bring about."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.desk = Desk(market, {DEMO.key: DEMO.secret})
        self.published: list[Publication] = []
        self._nonce = 0

    def ask(self, method: str, name: str, root: str = API, **params: Any) -> dict[str, Any]:
        answer = self.answer(method, name, root, **params)
        assert answer.status == 200, answer.body
        body: dict[str, Any] = json.loads(answer.body)
        return body

    def answer(self, method: str, name: str, root: str = API, **params: Any) -> Answer:
        data = urlencode(params, doseq=True)
        query, body = ("", data) if method == "POST" else (data, "")
        self._nonce += 1
        headers = signed(f"{root}{name}", data, str(self._nonce))
        answer = self.desk.answer(Asked(method, f"{root}{name}", query, body, headers))
        self.published += answer.published
        return answer

    def send(self, kind: str = "lmt", side: str = "buy", size: object = 0.01, **more: Any) -> Any:
        params: dict[str, Any] = {
            "orderType": kind,
            "symbol": PRODUCT,
            "side": side,
            "size": size,
            **more,
        }
        return self.ask("POST", "sendorder", **params)["sendStatus"]

    def rest(self, ticks: int = 10, **more: Any) -> Any:
        """A buy that rests so many ticks below the best one."""
        price: dict[str, Any] = {"limitPrice": self.bid - ticks}
        return self.send(**price | more)

    def pass_ms(self, ms: int) -> None:
        self.published += self.market.advance(self.market.now_ms + ms)

    def said(self, feed: str) -> list[dict[str, Any]]:
        return [json.loads(each.payload) for each in self.published if each.feed == feed]

    @property
    def bid(self) -> float:
        return self.market.book(PRODUCT).bids[0][0]

    @property
    def ask_price(self) -> float:
        return self.market.book(PRODUCT).asks[0][0]

    def position(self) -> float:
        """What is held of the product, with its sign."""
        for each in self.ask("GET", "openpositions")["openPositions"]:
            if each["symbol"] == PRODUCT:
                return float(each["size"]) * (1 if each["side"] == "long" else -1)
        return 0.0

    def open_ids(self) -> list[str]:
        return [order["order_id"] for order in self.ask("GET", "openorders")["openOrders"]]


def signed(path: str, data: str, nonce: str, secret: str = DEMO.secret) -> dict[str, str]:
    authent = sign_request(secret, data, nonce, path)
    return {"apikey": DEMO.key, "nonce": nonce, "authent": authent}


@pytest.fixture(name="client")
def _client() -> Client:
    return Client(Market(1, START, products=3))


@pytest.fixture(name="whole", scope="module")
def _whole() -> Client:
    """With all products."""
    return Client(Market(1, START))


# What anybody may ask


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("instruments", "instruments"),
        ("instruments/status", "instrumentStatus"),
        ("instruments/pf_xbtusd/status", "tradeable"),
        ("tickers", "tickers"),
        ("tickers/PF_XBTUSD", "ticker"),
        ("orderbook?symbol=PF_XBTUSD", "orderBook"),
        ("history?symbol=pf_xbtusd", "history"),
        ("feeschedules", "feeSchedules"),
    ],
)
def test_public_answers_need_no_key(whole: Client, name: str, key: str) -> None:
    path, _, query = name.partition("?")
    answer = whole.desk.answer(Asked("GET", f"{API}{path}", query))
    body = json.loads(answer.body)
    assert (answer.status, body["result"], answer.published) == (200, "success", [])
    assert body[key]
    assert list(body)[-1] == "serverTime"


def test_a_public_answer_has_the_keys_of_the_recorded_one(whole: Client) -> None:
    for line in lines("rest"):
        if line.kind != "snapshot":
            continue
        assert line.http is not None
        body = json.loads(whole.desk.answer(Asked("GET", str(line.http["path"]))).body)
        assert set(body) == set(json.loads(line.payload))


def test_the_order_book_is_that_of_the_feed(client: Client) -> None:
    book = json.loads(client.desk.answer(Asked("GET", f"{API}orderbook", "symbol=PF_XBTUSD")).body)
    kept = client.market.book(PRODUCT)
    assert book["orderBook"] == {
        "asks": [list(level) for level in kept.asks],
        "bids": [list(level) for level in kept.bids],
    }


def test_history_is_that_of_the_feed(client: Client) -> None:
    [snapshot] = client.market.snapshot("trade", PRODUCT, START)
    path = f"{API}history"
    history = json.loads(client.desk.answer(Asked("GET", path, "symbol=PF_XBTUSD")).body)["history"]
    assert [(row["sequence_id"], row["price"], row["uid"]) for row in history] == [
        (trade["seq"], trade["price"], trade["uid"]) for trade in json.loads(snapshot)["trades"]
    ]
    assert len(history) == 100


# Failures, as they were recorded


def recorded(note: str) -> dict[str, Any]:
    [line] = [line for line in lines("rest") if note in line.note]
    frame: dict[str, Any] = json.loads(line.payload)
    return frame | {"serverTime": ""}


def refusal(answer: Answer) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(answer.body)
    return body | {"serverTime": ""}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        signed(f"{API}openorders", "", "1") | {"apikey": "another"},
        signed(f"{API}openorders", "", "1") | {"nonce": "2"},
        signed(f"{API}openorders", "", "one"),
        signed(f"{API}openorders", "", "1", secret="AAAA"),
        signed(f"{API}openpositions", "", "1"),
        signed(f"{API}openorders", "symbol=x", "1"),
        signed(f"{API}openorders", "", "1") | {"authent": "ä"},
    ],
)
def test_whoever_cannot_sign_gets_the_recorded_word(
    client: Client, headers: dict[str, str]
) -> None:
    answer = client.desk.answer(Asked("GET", f"{API}openorders", headers=headers))
    assert answer.status == 200
    assert refusal(answer) == recorded("same word for bad key")


def test_a_request_may_leave_the_nonce_out(client: Client) -> None:
    headers = signed(f"{API}openorders", "", "")
    del headers["nonce"]
    answer = client.desk.answer(Asked("GET", f"{API}openorders", headers=headers))
    assert json.loads(answer.body)["result"] == "success"


def test_a_nonce_is_good_once_and_not_long(client: Client) -> None:
    def word(nonce: int) -> str:
        headers = signed(f"{API}notifications", "", str(nonce))
        answer = client.desk.answer(Asked("GET", f"{API}notifications", headers=headers))
        return str(json.loads(answer.body).get("error", "success"))

    assert [word(5), word(5), word(4)] == ["success", "nonceDuplicate", "success"]
    for nonce in range(10, 10 + NONCES_KEPT):
        assert word(nonce) == "success"
    assert word(6) == "nonceBelowThreshold"


def test_an_argument_that_is_none_gets_the_recorded_answer(client: Client) -> None:
    answer = client.answer("POST", "sendorder", symbol="PF_NOPEUSD", orderType="lmt")
    assert answer.status == 400
    assert refusal(answer) == recorded("second error shape")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{API}historicalfundingrates"),
        ("GET", f"{API}tickers/PF_NOPEUSD"),
        ("GET", f"{API}instruments/PF_NOPEUSD/status"),
        ("POST", f"{API}tickers"),
        ("GET", f"{API}sendorder"),
        ("GET", "/"),
        ("GET", "/api/v3/tickers"),
    ],
)
def test_an_unknown_path_gets_the_recorded_answer(client: Client, method: str, path: str) -> None:
    answer = client.desk.answer(Asked(method, path))
    assert answer.status == 404
    assert refusal(answer) == recorded("unknown path")


def test_a_spent_budget_gets_the_documented_word_until_time_goes_by(client: Client) -> None:
    for _ in range(20):
        client.ask("POST", "cancelallorders")
    assert refusal(client.answer("POST", "cancelallorders")) == recorded("budget exhausted")
    client.pass_ms(10_001)
    assert client.ask("POST", "cancelallorders")["result"] == "success"


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("sendorder", {}, "requiredArgumentMissing"),
        ("sendorder", {"orderType": "stp"}, "Argument invalid: orderType"),
        ("sendorder", {"orderType": "lmt", "symbol": PRODUCT}, "requiredArgumentMissing"),
        ("sendorder", {"orderType": "lmt", "symbol": "PI_XBTUSD"}, "marketUnavailable"),
        ("sendorder", {"side": "up"}, "Argument invalid: side"),
        ("sendorder", {"size": "much"}, "Argument invalid: size"),
        ("sendorder", {"size": "NaN"}, "Argument invalid: size"),
        ("sendorder", {"size": "1e999999999"}, "Argument invalid: size"),
        ("editorder", {}, "requiredArgumentMissing"),
        ("cancelorder", {}, "requiredArgumentMissing"),
        ("cancelallorders", {"symbol": "PF_NOPEUSD"}, "Argument invalid: symbol"),
        ("cancelallordersafter", {"timeout": "soon"}, "Argument invalid: timeout"),
        ("batchorder", {"json": "{"}, "Json Parse Error"),
        ("batchorder", {"json": "[]"}, "Json Parse Error"),
        ("batchorder", {"json": '{"batchOrder":[1]}'}, "Json Parse Error"),
        ("batchorder", {"json": '{"batchOrder":[{"order":"x"}]}'}, "Argument invalid: json"),
    ],
)
def test_what_is_missing_or_malformed_is_named(
    whole: Client, name: str, params: dict[str, str], said: str
) -> None:
    if {"side", "size"} & set(params):
        order = {"orderType": "lmt", "symbol": PRODUCT, "side": "buy", "limitPrice": "1"}
        params = order | {"size": "1"} | params
    body = json.loads(whole.answer("POST", name, **params).body)
    assert said in (body.get("error"), body.get("errors", [{}])[0].get("message"))


def test_a_moment_that_is_none_is_named(client: Client) -> None:
    answer = client.answer("GET", "fills", lastFillTime="yesterday")
    assert b"Argument invalid: lastFillTime" in answer.body


# Orders


def test_an_order_rests_and_is_told_of_everywhere(client: Client) -> None:
    status = client.rest(cliOrdId="mine")
    assert status["status"] == "placed"
    [event] = status["orderEvents"]
    assert (event["type"], event["order"]["filled"]) == ("PLACE", 0.0)
    [row] = [
        each
        for each in client.ask("GET", "openorders")["openOrders"]
        if each["order_id"] == status["order_id"]
    ]
    assert (row["cliOrdId"], row["side"], row["unfilledSize"]) == ("mine", "buy", 0.01)
    [told] = client.said("open_orders")
    assert told["order"]["order_id"] == status["order_id"]
    assert (told["reason"], told["is_cancel"]) == ("new_placed_order_by_user", False)
    [change] = client.said("book")
    assert (change["side"], change["price"]) == ("buy", row["limitPrice"])
    snapshot = json.loads(client.market.snapshot("open_orders", None, START)[0])
    assert status["order_id"] in [order["order_id"] for order in snapshot["orders"]]


def test_a_cancelled_order_leaves_the_book_as_it_was(client: Client) -> None:
    client.open_ids()
    before = client.market.book(PRODUCT)
    status = client.rest(cliOrdId="mine")
    assert client.market.book(PRODUCT) != before
    cancelled = client.ask("POST", "cancelorder", cliOrdId="mine")["cancelStatus"]
    assert (cancelled["status"], cancelled["order_id"]) == ("cancelled", status["order_id"])
    after = client.market.book(PRODUCT)
    assert (after.bids, after.asks) == (before.bids, before.asks)
    assert client.said("open_orders")[-1] == {
        "feed": "open_orders",
        "order_id": status["order_id"],
        "cli_ord_id": "mine",
        "is_cancel": True,
        "reason": "cancelled_by_user",
    }
    again = client.ask("POST", "cancelorder", order_id=status["order_id"])["cancelStatus"]
    assert again["status"] == "notFound"


@pytest.mark.parametrize("kind", ["mkt", "ioc", "lmt"])
def test_an_order_that_meets_the_market_is_filled_by_public_trades(
    client: Client, kind: str
) -> None:
    held = client.position()
    price: dict[str, Any] = {} if kind == "mkt" else {"limitPrice": client.ask_price + 50}
    status = client.send(kind, size=0.5, **price)
    assert status["status"] == "placed"
    trades = {trade["uid"]: trade for trade in client.said("trade")}
    fills = [fill for message in client.said("fills") for fill in message["fills"]]
    assert len(fills) >= 1
    assert [event["executionId"] for event in status["orderEvents"]] == [*trades]
    for fill in fills:
        trade = trades[fill["fill_id"]]
        assert (trade["side"], fill["fill_type"]) == ("buy", "taker")
        assert (fill["price"], fill["qty"]) == (trade["price"], trade["qty"])
    assert sum(fill["qty"] for fill in fills) == pytest.approx(0.5)
    assert client.position() == pytest.approx(held + 0.5)
    newest = client.ask("GET", "fills")["fills"][0]
    assert newest["fill_id"] == fills[-1]["fill_id"]
    assert status["order_id"] not in client.open_ids()


def test_what_a_limit_order_cannot_get_at_once_rests(client: Client) -> None:
    client.open_ids()
    best, there = client.market.book(PRODUCT).asks[0]
    status = client.send(size=round(there + 1, 4), limitPrice=best)
    kinds = [event["type"] for event in status["orderEvents"]]
    assert kinds == ["EXECUTION", "PLACE"]
    assert client.market.book(PRODUCT).bids[0] == (best, 1.0)
    [row] = [
        row
        for row in client.ask("GET", "openorders")["openOrders"]
        if row["order_id"] == status["order_id"]
    ]
    assert (row["status"], row["filledSize"], row["unfilledSize"]) == (
        "partiallyFilled",
        there,
        1.0,
    )


def test_what_an_ioc_order_cannot_get_at_once_is_gone(client: Client) -> None:
    client.open_ids()
    best, there = client.market.book(PRODUCT).asks[0]
    status = client.send("ioc", size=round(there + 1, 4), limitPrice=best)
    assert status["status"] == "placed"
    assert status["order_id"] not in client.open_ids()
    last = client.said("open_orders")[-1]
    assert last["reason"] == "ioc_order_failed_because_it_would_not_be_executed"
    assert client.market.book(PRODUCT).bids[0][0] < best


def test_a_resting_order_is_filled_when_the_market_comes(client: Client) -> None:
    ids = [client.rest(ticks)["order_id"] for ticks in (1, 1, 2)]
    client.pass_ms(60_000)
    fills = [
        fill
        for message in client.said("fills")
        for fill in message["fills"]
        if fill["order_id"] in ids
    ]
    assert {fill["order_id"] for fill in fills} == set(ids)
    # At one price whoever came first is filled first.
    order = list(dict.fromkeys(fill["order_id"] for fill in fills))
    assert order.index(ids[0]) < order.index(ids[1])
    trades = {trade["uid"] for trade in client.said("trade")}
    assert {fill["fill_id"] for fill in fills} <= trades
    assert {fill["fill_type"] for fill in fills} == {"maker"}


@pytest.mark.parametrize(
    ("order", "word"),
    [
        ({"size": 0.00001}, "invalidSize"),
        ({"size": -1}, "invalidSize"),
        ({"limitPrice": 0.123}, "invalidPrice"),
        ({"limitPrice": 0}, "invalidPrice"),
        ({"cliOrdId": "x" * 101}, "clientOrderIdTooBig"),
        ({"reduceOnly": "true"}, "wouldNotReducePosition"),
        ({"kind": "post", "limitPrice": 1_000_000}, "postWouldExecute"),
        ({"kind": "ioc", "limitPrice": 1}, "iocWouldNotExecute"),
        ({"size": 1000, "limitPrice": 50_000}, "insufficientAvailableFunds"),
    ],
)
def test_an_order_that_cannot_be_is_refused_by_its_word(
    client: Client, order: dict[str, Any], word: str
) -> None:
    before = client.open_ids()
    assert client.position() > 0  # as it is at the start
    assert client.send(**{"limitPrice": 1000, **order})["status"] == word
    assert client.open_ids() == before


def test_a_client_id_is_good_once(client: Client) -> None:
    assert client.rest(cliOrdId="a")["status"] == "placed"
    assert client.rest(cliOrdId="a")["status"] == "clientOrderIdAlreadyExist"


def test_nobody_trades_with_themselves(client: Client) -> None:
    client.open_ids()
    mine = client.ask_price - 1
    assert client.send(side="sell", limitPrice=mine)["status"] == "placed"
    assert client.send("mkt")["status"] == "selfFill"
    assert client.send(limitPrice=mine)["status"] == "selfFill"
    assert client.send("post", limitPrice=mine)["status"] == "postWouldExecute"


def test_a_position_is_reduced_with_no_funds_asked_for(client: Client) -> None:
    held = client.position()
    assert client.send("mkt", "sell", held, reduceOnly="true")["status"] == "placed"
    assert client.position() == pytest.approx(0.0)


def test_an_order_is_edited_in_price_and_size(client: Client) -> None:
    status = client.rest()
    price = client.bid - 20
    edited = client.ask(
        "POST", "editorder", orderId=status["order_id"], limitPrice=price, size=0.02
    )["editStatus"]
    assert (edited["status"], edited["orderId"]) == ("edited", status["order_id"])
    [event] = edited["orderEvents"]
    assert (event["old"]["quantity"], event["new"]["quantity"]) == (0.01, 0.02)
    assert event["new"]["limitPrice"] == price
    last = client.said("open_orders")[-1]
    assert (last["reason"], last["is_cancel"]) == ("edited_by_user", False)
    assert (last["order"]["limit_price"], last["order"]["qty"]) == (price, 0.02)


def test_an_edit_across_the_market_fills(client: Client) -> None:
    id = client.rest()["order_id"]
    edited = client.ask("POST", "editorder", orderId=id, limitPrice=client.ask_price + 50)
    kinds = [event["type"] for event in edited["editStatus"]["orderEvents"]]
    assert kinds[:2] == ["EDIT", "EXECUTION"]
    assert id not in client.open_ids()


@pytest.mark.parametrize(
    ("edit", "word"),
    [
        ({"size": 0}, "invalidSize"),
        ({"limitPrice": 0.123}, "invalidPrice"),
        ({"limitPrice": 1_000_000}, "postWouldExecute"),
        ({"size": 1000}, "insufficientAvailableFunds"),
        ({"orderId": "unknown"}, "orderForEditNotFound"),
    ],
)
def test_an_edit_that_cannot_be_is_refused_by_its_word(
    client: Client, edit: dict[str, Any], word: str
) -> None:
    id = client.rest(kind="post")["order_id"]
    status = client.ask("POST", "editorder", **{"orderId": id, **edit})["editStatus"]
    assert status["status"] == word


def test_an_edit_into_an_own_order_is_refused(client: Client) -> None:
    id = client.rest()["order_id"]
    mine = client.ask_price - 1
    client.send(side="sell", limitPrice=mine)
    status = client.ask("POST", "editorder", orderId=id, limitPrice=mine)["editStatus"]
    assert status["status"] == "selfFill"


def test_all_orders_are_cancelled_the_traders_too(client: Client) -> None:
    assert len(client.open_ids()) == 1  # the stop
    client.rest()
    client.pass_ms(5000)
    cancelled = client.ask("POST", "cancelallorders", symbol="pf_xbtusd")["cancelStatus"]
    assert (cancelled["status"], cancelled["cancelOnly"]) == ("cancelled", PRODUCT)
    assert len(cancelled["cancelledOrders"]) >= 2
    assert client.open_ids() == []
    again = client.ask("POST", "cancelallorders")["cancelStatus"]
    assert (again["status"], again["cancelOnly"]) == ("noOrdersToCancel", "all")
    client.pass_ms(60_000)
    assert client.said("fills")  # the trader goes on


def test_the_dead_mans_switch_cancels_when_nobody_speaks(client: Client) -> None:
    client.rest(1000)
    status = client.ask("POST", "cancelallordersafter", timeout=60)["status"]
    assert status["triggerTime"] > status["currentTime"]
    client.pass_ms(59_000)
    client.ask("POST", "cancelallordersafter", timeout=60)
    client.pass_ms(59_000)
    assert "dead_man_switch" not in [each["reason"] for each in client.said("open_orders")]
    client.pass_ms(2_000)
    assert "dead_man_switch" in [each["reason"] for each in client.said("open_orders")]


def test_the_dead_mans_switch_can_be_taken_back(client: Client) -> None:
    client.ask("POST", "cancelallordersafter", timeout=1)
    assert client.ask("POST", "cancelallordersafter", timeout=0)["status"]["triggerTime"] == "0"
    client.pass_ms(5_000)
    assert "dead_man_switch" not in [each["reason"] for each in client.said("open_orders")]


def test_a_batch_is_a_row_of_orders(client: Client) -> None:
    id = client.rest(cliOrdId="old")["order_id"]
    batch = [
        {
            "order": "send",
            "order_tag": "1",
            "orderType": "lmt",
            "symbol": PRODUCT,
            "side": "buy",
            "size": 0.01,
            "limitPrice": client.bid - 5,
            "reduceOnly": False,
        },
        {"order": "edit", "orderId": id, "size": 0.03},
        {"order": "cancel", "cliOrdId": "old"},
        {"order": "cancel", "order_id": "unknown"},
    ]
    statuses = client.ask("POST", "batchorder", json=json.dumps({"batchOrder": batch}))
    assert [(row["status"], row.get("order_tag")) for row in statuses["batchStatus"]] == [
        ("placed", "1"),
        ("edited", None),
        ("cancelled", None),
        ("notFound", None),
    ]


def test_orders_can_be_asked_about_after_their_end(client: Client) -> None:
    rested, filled = client.rest(cliOrdId="a"), client.send("mkt")
    client.ask("POST", "cancelorder", cliOrdId="a")
    ids = [rested["order_id"], filled["order_id"], "unknown"]
    found = client.ask("POST", "orders/status", orderIds=ids)["orders"]
    assert [(each["order"]["orderId"], each["status"]) for each in found] == [
        (ids[0], "CANCELLED"),
        (ids[1], "FULLY_EXECUTED"),
    ]


def test_another_product_is_traded_and_margined_beside_the_first(client: Client) -> None:
    other = client.market.products[1]
    before = client.ask("GET", "accounts")["accounts"]["flex"]
    order: dict[str, Any] = {"orderType": "mkt", "symbol": other, "side": "sell", "size": 1}
    assert client.ask("POST", "sendorder", **order)["sendStatus"]["status"] == "placed"
    [row] = [
        row for row in client.ask("GET", "openpositions")["openPositions"] if row["symbol"] == other
    ]
    assert (row["side"], row["size"]) == ("short", 1.0)
    after = client.ask("GET", "accounts")["accounts"]["flex"]
    assert after["initialMargin"] > before["initialMargin"]
    assert after["balanceValue"] < before["balanceValue"]  # the fee
    positions = client.said("open_positions")[-1]["positions"]
    assert {position["instrument"] for position in positions} == {PRODUCT, other}


def test_accounts_and_log_tell_what_the_feeds_tell(client: Client) -> None:
    accounts = client.ask("GET", "accounts")["accounts"]
    balances = json.loads(client.market.snapshot("balances", None, START)[0])
    assert accounts["cash"]["balances"]["usd"] == balances["holding"]["USD"]
    assert accounts["flex"]["balanceValue"] == balances["flex_futures"]["balance_value"]
    assert accounts["fi_xbtusd"]["balances"] == {"xbt": 0.25}
    log = client.ask("GET", "account-log", HISTORY)
    assert log["logs"] == json.loads(client.market.snapshot("account_log", None, START)[0])["logs"]
    notices = client.ask("GET", "notifications")["notifications"]
    assert "no money is real" in notices[0]["note"]


def test_fills_before_a_moment(client: Client) -> None:
    client.send("mkt")
    [newest, oldest] = client.ask("GET", "fills")["fills"][:: len(client.said("fills"))][:2]
    asked = client.ask("GET", "fills", lastFillTime=newest["fillTime"])["fills"]
    assert [fill["fill_id"] for fill in asked] == [oldest["fill_id"]]


def test_the_same_requests_give_the_same_bytes() -> None:
    def run() -> list[bytes]:
        client = Client(Market(7, START, products=2))
        client.rest()
        client.send("mkt", size=0.3)
        client.pass_ms(20_000)
        return [each.payload for each in client.published]

    assert run() == run()


FUZZED = Market(1, START, products=1)


@given(
    st.sampled_from(["GET", "POST"]),
    st.sampled_from(["sendorder", "editorder", "fills", "batchorder", "orderbook", "x"]),
    st.dictionaries(
        st.sampled_from(["orderType", "symbol", "side", "size", "limitPrice", "json", "orderId"]),
        st.one_of(st.text(), st.sampled_from(["lmt", "PF_XBTUSD", "buy", "1", "70000", "1e-9"])),
    ),
)
def test_any_request_gets_an_answer(method: str, name: str, params: dict[str, str]) -> None:
    client = Client(FUZZED)
    params = {key: value.encode(errors="replace").decode() for key, value in params.items()}
    answer = client.answer(method, name, **params)
    assert answer.status in (200, 400, 404)
    assert "result" in json.loads(answer.body)
