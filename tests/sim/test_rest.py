"""The simulator's REST over real sockets, beside its feeds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as dial

from kfws.exceptions import KrakenAuthenticationError, KrakenInvalidNonceError, KrakenNotFoundError
from kfws.protocol.auth import DEMO, Credentials, sign_request, signature
from kfws.rest import Rest
from kfws.sim.desk import API
from kfws.sim.server import SimOptions, SimulatedVenue, serve

connect = partial(dial, max_queue=None)


@pytest.fixture(name="venue")
async def _venue() -> AsyncIterator[SimulatedVenue]:
    async with serve(SimOptions(products=2, rest_port=0)) as venue:
        yield venue


@pytest.fixture(name="rest")
async def _rest(venue: SimulatedVenue) -> AsyncIterator[Rest]:
    async with Rest(venue.rest_url, DEMO) as rest:
        yield rest


async def following(venue: SimulatedVenue, feed: str) -> ClientConnection:
    """A client that has the snapshot of a private feed behind it."""
    client = await connect(venue.url)
    await client.send(json.dumps({"event": "challenge", "api_key": DEMO.key}))
    while (message := json.loads(await client.recv())).get("event") != "challenge":
        pass
    proof = signature(DEMO, message["message"])
    await client.send(json.dumps({"event": "subscribe", "feed": feed, **proof}))
    while json.loads(await client.recv()).get("feed") != f"{feed}_snapshot":
        pass
    return client


async def told_of(client: ClientConnection, order_id: str) -> dict[str, Any]:
    """The next message that tells of the order."""
    while order_id not in (text := str(await client.recv())):
        pass
    message: dict[str, Any] = json.loads(text)
    return message


async def order(rest: Rest, **params: Any) -> str:
    wanted = {"orderType": "lmt", "symbol": "PF_XBTUSD", "side": "buy", "size": 0.01}
    answer = await rest.request("POST", f"{API}sendorder", wanted | params)
    assert answer["sendStatus"]["status"] == "placed"
    return str(answer["sendStatus"]["order_id"])


async def test_an_order_over_rest_is_on_the_private_feeds(
    venue: SimulatedVenue, rest: Rest
) -> None:
    orders, fills = await following(venue, "open_orders"), await following(venue, "fills")
    rested = await order(rest, limitPrice=1000)
    message = await told_of(orders, rested)
    assert message["order"]["limit_price"] == 1000.0
    await rest.request("POST", f"{API}cancelorder", {"order_id": rested})
    assert (await told_of(orders, rested))["reason"] == "cancelled_by_user"
    filled = await order(rest, orderType="mkt")
    assert (await told_of(fills, filled))["fills"][0]["fill_type"] == "taker"
    for client in (orders, fills):
        await client.close()


async def test_the_first_private_request_starts_the_market(
    venue: SimulatedVenue, rest: Rest
) -> None:
    assert not venue.market.has_started
    first = await rest.request("GET", f"{API}openorders")
    assert venue.market.has_started
    while (await rest.request("GET", f"{API}notifications"))["serverTime"] == first["serverTime"]:
        pass


async def test_every_signature_of_the_library_is_good(rest: Rest) -> None:
    batch = '{"batchOrder":[{"order":"cancel","order_id":"ä & b"}]}'
    for _ in range(3):
        await rest.request("GET", f"{API}fills", query_params={"lastFillTime": "2030-01-01T00:00Z"})
        await rest.request("POST", f"{API}cancelallorders", {"symbol": "PF_XBTUSD"})
        with pytest.raises(KrakenNotFoundError):
            await rest.request("POST", f"{API}batchorder", {"json": batch})


async def test_many_requests_at_once_are_all_answered(rest: Rest) -> None:
    asked = [rest.request("GET", f"{API}notifications") for _ in range(50)]
    assert {answer["result"] for answer in await asyncio.gather(*asked)} == {"success"}


async def test_another_key_is_refused(venue: SimulatedVenue) -> None:
    for stranger in (Credentials("unknown", DEMO.secret), Credentials(DEMO.key, "AAAA")):
        async with Rest(venue.rest_url, stranger) as rest:
            with pytest.raises(KrakenAuthenticationError):
                await rest.request("GET", f"{API}openorders")


async def test_a_request_that_is_sent_again_is_refused(venue: SimulatedVenue, rest: Rest) -> None:
    path = f"{API}openorders"
    headers = {
        "APIKey": DEMO.key,
        "Nonce": "7",
        "Authent": sign_request(DEMO.secret, "", "7", path),
    }
    async with aiohttp.ClientSession(venue.rest_url, headers=headers) as http:
        words = []
        for _ in range(2):
            async with http.get(path) as response:
                words.append((await response.json()).get("error"))
    assert words == [None, "nonceDuplicate"]
    assert KrakenInvalidNonceError("nonceDuplicate").text in words


@pytest.mark.parametrize("path", ["orderbook?symbol=PF_XBTUSD", "history?symbol=PF_XBTUSD"])
async def test_public_answers_are_on_both_ports(venue: SimulatedVenue, path: str) -> None:
    bases = [venue.rest_url, venue.url.replace("ws", "http", 1).removesuffix("/ws/v1")]
    answers = []
    for base in bases:
        async with Rest(base) as rest:
            answers.append(await rest.request("GET", f"{API}{path}", auth=False))
    for answer in answers:
        answer.pop("serverTime")
    assert answers[0] == answers[1]


async def test_without_its_port_there_is_no_order_entry() -> None:
    async with serve(SimOptions(products=1)) as venue:
        assert venue.rest_url == f"http://127.0.0.1:{venue.port}"


async def test_tls_by_the_same_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    chain, key, trusted = (tmp_path / name for name in ("chain.pem", "key.pem", "ca.pem"))
    certificate.private_key_pem.write_to_path(key)
    certificate.cert_chain_pems[0].write_to_path(chain)
    authority.cert_pem.write_to_path(trusted)
    options = SimOptions(products=1, rest_port=0, tls_cert=str(chain), tls_key=str(key))
    async with serve(options) as venue, Rest(venue.rest_url, DEMO, ca_file=str(trusted)) as rest:
        assert venue.rest_url.startswith("https://")
        assert (await rest.request("GET", f"{API}accounts"))["result"] == "success"


async def test_a_rest_port_that_is_taken_is_an_os_error(venue: SimulatedVenue) -> None:
    before = asyncio.all_tasks()
    with pytest.raises(OSError, match="address"):
        async with serve(SimOptions(products=1, rest_port=venue.rest_port)):
            raise NotImplementedError
    assert not [task for task in asyncio.all_tasks() - before if "kfws" in repr(task)]


async def test_leaving_waits_for_nobody() -> None:
    async with serve(SimOptions(products=1, rest_port=0)) as venue:
        silent = await asyncio.open_connection("127.0.0.1", venue.rest_port)
        rest = Rest(venue.rest_url)
        await rest.request("GET", f"{API}tickers", auth=False)
    silent[1].close()
    await rest.close()


@pytest.mark.parametrize("garbage", [b"\0\xff\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b""])
async def test_what_is_no_http_harms_nobody(
    venue: SimulatedVenue,
    rest: Rest,
    garbage: bytes,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", venue.rest_port)
    writer.write(garbage)
    writer.write_eof()
    await reader.read()
    writer.close()
    await rest.request("GET", f"{API}openorders")
    assert capfd.readouterr() == ("", "")
    assert [each for each in caplog.records if each.name != "asyncio"] == []
