"""The simulated venue over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as dial
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.protocol import State

from kfws.errors import UsageError
from kfws.protocol.auth import DEMO, signature
from kfws.protocol.feeds import FEEDS
from kfws.sim.ledger import Entry, read
from kfws.sim.server import MOST_CONNECTIONS, SimOptions, SimulatedVenue, serve
from tests.frames_of import frame, lines

# Without a bound for unread frames: a client that stopped reading would not see our farewell.
connect = partial(dial, max_queue=None)

START = 1_790_359_964_000
REST = "/derivatives/api/v3"


@pytest.fixture(name="venue")
async def _venue() -> AsyncIterator[SimulatedVenue]:
    async with serve(SimOptions(start_ms=START)) as venue:
        yield venue


def request(event: str, feed: str, *products: str, **more: Any) -> str:
    listed = {"product_ids": products} if products else {}
    return json.dumps({"event": event, "feed": feed, **listed, **more})


async def said(client: ClientConnection) -> dict[str, Any]:
    text = await client.recv()
    assert isinstance(text, str)
    message: dict[str, Any] = json.loads(text)
    return message


async def data(client: ClientConnection, feed: str) -> dict[str, Any]:
    """The next message of a feed."""
    while (message := await said(client)).get("feed") != feed or "event" in message:
        pass
    return message


async def texts(options: SimOptions, count: int) -> list[str | bytes]:
    """What a client gets that asks for a few feeds, one product a request."""
    async with serve(options) as venue, connect(venue.url) as client:
        for feed in ("book", "trade", "ticker"):
            for product in ("PF_XBTUSD", "PI_ETHUSD"):
                await client.send(request("subscribe", feed, product))
        return [await client.recv() for _ in range(count)]


async def test_a_feed_goes_from_info_to_data(venue: SimulatedVenue) -> None:
    async with connect(venue.url) as client:
        assert await client.recv() == frame("connection", "first frame").decode()
        await client.send(request("subscribe", "book", "PF_XBTUSD"))
        assert await said(client) == {
            "event": "subscribed",
            "feed": "book",
            "product_ids": ["PF_XBTUSD"],
        }
        snapshot = await said(client)
        for number in range(1, 50):
            assert (await said(client))["seq"] == snapshot["seq"] + number


async def test_every_feed_is_alive() -> None:
    async with serve(SimOptions(start_ms=START)) as venue, connect(venue.url) as client:
        assert await said(client)
        await client.send(json.dumps({"event": "challenge", "api_key": DEMO.key}))
        signed = signature(DEMO, (await said(client))["message"])
        for name, feed in FEEDS.items():
            products = [] if feed.products == "none" else ["PF_XBTUSD"]
            await client.send(request("subscribe", name, *products, **signed))
        awaited = set(FEEDS) - {"deposits_withdrawals", "notifications_auth"}
        acknowledged = set()
        while awaited:
            message = await said(client)
            if "event" in message:
                assert message["event"] == "subscribed"
                acknowledged.add(message["feed"])
            else:
                awaited.discard(message["feed"])
        assert acknowledged == set(FEEDS)


async def test_the_same_seed_and_start_give_the_same_bytes() -> None:
    options = SimOptions(seed=7, start_ms=START, rate=500)
    assert await texts(options, 500) == await texts(options, 500)


async def test_without_a_start_the_market_keeps_the_time_of_the_clock() -> None:
    async with serve(SimOptions()) as venue, connect(venue.url) as client:
        await client.send(request("subscribe", "heartbeat"))
        assert (await data(client, "heartbeat"))["time"] > START - 400 * 86_400_000


async def test_many_connections_see_one_market(venue: SimulatedVenue) -> None:
    async with connect(venue.url) as one, connect(venue.url) as other:
        for client in (one, other):
            await client.send(request("subscribe", "book", "PF_XBTUSD"))
        seen = [await data(client, "book") for client in (one, other) for _ in range(20)]
    deltas: dict[int, dict[str, Any]] = {}
    for delta in seen:
        assert deltas.setdefault(delta["seq"], delta) == delta


async def test_facts_can_be_waited_for(venue: SimulatedVenue) -> None:
    assert venue.connections == 0
    async with connect(venue.url) as client:
        await client.send(request("subscribe", "trade", "pf_xbtusd"))
        await venue.until_subscribed("trade", "PF_XBTUSD")
        assert venue.connections == 1
        assert venue.received == [request("subscribe", "trade", "pf_xbtusd")]
    await venue.until(lambda: not venue.connections)
    assert not venue.holds("trade", "PF_XBTUSD")


@pytest.mark.parametrize("path", ["", "/", "/ws/v1", "/derivatives/ws/v1", "/ws/v1?x=1"])
async def test_a_websocket_is_opened_at_the_paths_of_the_venue(
    venue: SimulatedVenue, path: str
) -> None:
    async with connect(f"ws://127.0.0.1:{venue.port}{path}") as client:
        assert (await said(client))["event"] == "info"


async def test_a_websocket_elsewhere_is_not_found(venue: SimulatedVenue) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://127.0.0.1:{venue.port}/nowhere")
    assert refused.value.response.status_code == 404


async def test_more_connections_than_the_venue_allows_are_refused(venue: SimulatedVenue) -> None:
    clients = [await connect(venue.url) for _ in range(MOST_CONNECTIONS)]
    with pytest.raises(InvalidStatus) as refused:
        await connect(venue.url)
    assert refused.value.response.status_code == 429
    await asyncio.gather(*(client.close() for client in clients))


@pytest.mark.parametrize("path", ["/instruments", "/tickers", "/tickers/pf_ethusd", "/tickers?x"])
async def test_rest_is_answered_on_the_same_port(venue: SimulatedVenue, path: str) -> None:
    base = f"http://127.0.0.1:{venue.port}{REST}"
    async with aiohttp.ClientSession() as http, http.get(base + path) as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        assert (await response.json())["result"] == "success"


@pytest.mark.parametrize("path", [f"{REST}/nothing", f"{REST}/tickers/PF_NOPEUSD", "/x", REST])
async def test_an_unknown_path_gets_the_venues_error(venue: SimulatedVenue, path: str) -> None:
    recorded = next(line for line in lines("rest") if "unknown path" in line.note)
    url = f"http://127.0.0.1:{venue.port}{path}"
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        assert response.status == 404
        body = await response.json()
    assert body | {"serverTime": ""} == json.loads(recorded.payload) | {"serverTime": ""}


async def test_a_silent_client_is_closed_as_idle() -> None:
    async with serve(SimOptions(idle_close_s=0.05)) as venue, connect(venue.url) as client:
        await client.wait_closed()
        assert client.close_code == 1001


async def test_ping_frames_keep_a_connection() -> None:
    options = SimOptions(idle_close_s=0.5)
    async with serve(options) as venue, connect(venue.url, ping_interval=0.1) as client:
        await client.send(request("subscribe", "heartbeat"))
        for _ in range(2):
            await data(client, "heartbeat")
        assert client.state is State.OPEN


async def test_a_client_that_never_reads_is_dropped() -> None:
    async with serve(SimOptions(rate=100_000, products=1)) as venue:
        reader, writer = await asyncio.open_connection("127.0.0.1", venue.port, limit=1)
        writer.write(_upgrade(venue.port) + _masked(request("subscribe", "book", "PF_XBTUSD")))
        await venue.until_subscribed("book", "PF_XBTUSD")
        await venue.until(lambda: not venue.connections)
        assert reader
        writer.transport.abort()


async def test_a_torn_network_is_seen_by_every_client(venue: SimulatedVenue) -> None:
    async with connect(venue.url) as client:
        await client.recv()
        await venue.drop()
        with pytest.raises(ConnectionClosed) as torn:
            await client.recv()
        assert torn.value.rcvd is None


async def test_leaving_tells_clients_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    async with serve(SimOptions()) as venue:
        client = await connect(venue.url)
        await client.send(request("subscribe", "book", "PF_XBTUSD"))
        await venue.until_subscribed("book", "PF_XBTUSD")
        # One that never shakes hands, and one that never answers a farewell.
        silent = await asyncio.open_connection("127.0.0.1", venue.port)
        deaf = await asyncio.open_connection("127.0.0.1", venue.port)
        deaf[1].write(_upgrade(venue.port))
        await venue.until(lambda: venue.connections == 2)
    left = [task for task in asyncio.all_tasks() - before if "kfws" in repr(task)]
    assert not left
    await client.wait_closed()
    assert client.close_code == 1001
    for _, writer in (silent, deaf):
        writer.close()


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"POST /x HTTP/1.1\r\n\r\n", b"\0\xff\r\n\r\n", b""]
)
async def test_what_is_no_websocket_harms_nobody(
    venue: SimulatedVenue, garbage: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", venue.port)
    writer.write(garbage)
    writer.write_eof()
    await reader.read()
    writer.close()
    async with connect(venue.url) as client:
        assert (await said(client))["event"] == "info"
    assert capfd.readouterr() == ("", "")


async def test_frames_that_break_the_protocol_end_that_connection_quietly(
    venue: SimulatedVenue, capfd: pytest.CaptureFixture[str]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", venue.port)
    writer.write(_upgrade(venue.port))
    assert b"101" in await reader.readuntil(b"\r\n\r\n")
    writer.write(b"\xff\xff\xff\xff")
    await reader.read()
    writer.close()
    assert capfd.readouterr() == ("", "")


async def test_compression_is_declined_unless_it_was_asked_for() -> None:
    for compression in (False, True):
        options = SimOptions(compression=compression)
        async with serve(options) as venue, connect(venue.url, compression="deflate") as client:
            assert bool(client.protocol.extensions) is compression
            await client.send(request("subscribe", "book", "PF_XBTUSD"))
            assert await data(client, "book")


async def test_tls_by_certificate_and_key(tmp_path: Path) -> None:
    authority, trusted = trustme.CA(), ssl.create_default_context()
    certificate = authority.issue_cert("127.0.0.1")
    authority.configure_trust(trusted)
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificate.private_key_pem.write_to_path(key)
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    async with serve(SimOptions(tls_cert=str(chain), tls_key=str(key))) as venue:
        assert venue.url == f"wss://127.0.0.1:{venue.port}/ws/v1"
        async with connect(venue.url, ssl=trusted) as client:
            assert (await said(client))["event"] == "info"


async def test_a_certificate_that_is_none_is_said_in_a_sentence(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    for path in (wrong, tmp_path / "missing.pem"):
        with pytest.raises(UsageError, match=path.name):
            async with serve(SimOptions(tls_cert=str(path), tls_key=str(path))):
                raise NotImplementedError


async def test_a_port_that_is_taken_is_an_os_error(venue: SimulatedVenue) -> None:
    with pytest.raises(OSError, match="address"):
        async with serve(SimOptions(port=venue.port)):
            raise NotImplementedError


async def test_the_url_of_an_ipv6_host_has_brackets() -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
    async with serve(SimOptions(host="::1")) as venue, connect(venue.url) as client:
        assert (await said(client))["event"] == "info"


def _upgrade(port: int) -> bytes:
    """The opening handshake of a client that never reads."""
    return (
        f"GET /ws/v1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def _masked(text: str) -> bytes:
    """A text frame of a client, masked with zeros."""
    assert len(text) < 126
    return bytes((0x81, 0x80 | len(text))) + bytes(4) + text.encode()


# Faults, over real sockets


@asynccontextmanager
async def faulty(tmp_path: Path, *faults: str, **more: Any) -> AsyncIterator[SimulatedVenue]:
    ledger = str(tmp_path / "ledger")
    async with serve(SimOptions(faults=faults, ledger=ledger, **more)) as venue:
        yield venue


def ledger(tmp_path: Path) -> list[Entry]:
    with (tmp_path / "ledger").open("rb") as file:
        return list(read(file))


async def to_the_end(client: ClientConnection) -> tuple[list[str | bytes], int | None]:
    """All frames until the connection ends, and the venue's close code."""
    frames = []
    try:
        while True:
            frames.append(await client.recv())
    except ConnectionClosed as ended:
        return frames, ended.rcvd.code if ended.rcvd else None


@pytest.mark.parametrize(
    ("fault", "code"), [("drop", None), ("close=1012", 1012), ("restart", None)]
)
async def test_a_connection_is_ended_after_so_many_messages(
    tmp_path: Path, fault: str, code: int | None
) -> None:
    async with faulty(tmp_path, f"{fault}@5msgs") as venue, connect(venue.url) as client:
        await client.send(request("subscribe", "book", "PF_XBTUSD"))
        frames, closed = await to_the_end(client)
        assert closed == code
        await venue.until(lambda: not venue.connections)
    entries = ledger(tmp_path)
    assert [entry.sent for entry in entries if entry.sent][: len(frames)] == frames
    assert len([entry for entry in entries if '"seq"' in (entry.sent or "")]) == 5
    [end] = [entry for entry in entries if entry.closed]
    assert (end.conn, end.closed, end.clean) == (1, code or 1006, code is not None)
    assert [entry.struck for entry in entries if entry.struck] == [f"{fault}@5msgs"]


async def test_a_stalled_connection_still_answers_pings(tmp_path: Path) -> None:
    async with faulty(tmp_path, "stall@5msgs") as venue, connect(venue.url) as client:
        await client.send(request("subscribe", "book", "PF_XBTUSD"))
        for _ in range(7):
            await client.recv()
        await (await client.ping())
        await client.send(request("subscribe", "heartbeat"))
        await venue.until(lambda: len(venue.received) == 2)
        assert client.state is State.OPEN
    assert not venue.holds("heartbeat")


async def test_a_half_open_connection_answers_nothing(tmp_path: Path) -> None:
    async with faulty(tmp_path, "half-open@5msgs") as venue:
        async with connect(venue.url, close_timeout=0.05) as client:
            await client.send(request("subscribe", "book", "PF_XBTUSD"))
            for _ in range(7):
                await client.recv()
            pong = await client.ping()
            await client.send(request("subscribe", "heartbeat"))
        assert client.close_code == 1006
        with pytest.raises(ConnectionClosed):
            await pong
        assert len(venue.received) == 1


async def test_a_handshake_is_refused_then_slow(tmp_path: Path) -> None:
    async with faulty(tmp_path, "refuse=503:retry-after=2", "slow=20ms") as venue:
        with pytest.raises(InvalidStatus) as refused:
            await dial(venue.url, process_exception=lambda exc: exc)
        assert refused.value.response.status_code == 503
        assert refused.value.response.headers["Retry-After"] == "2"
        async with connect(venue.url) as client:
            assert (await said(client))["event"] == "info"
    assert [entry.refused for entry in ledger(tmp_path) if entry.refused] == [503]


async def test_numbers_are_lower_after_a_restart(tmp_path: Path) -> None:
    last: dict[str, int] = {}
    first: dict[str, int] = {}
    async with faulty(tmp_path, "restart@300msgs") as venue:
        for seen in (last, first):
            async with connect(venue.url) as client:
                for feed in ("book", "trade"):
                    await client.send(request("subscribe", feed, "PF_XBTUSD"))
                    await data(client, f"{feed}_snapshot")
                    seen[feed] = (await data(client, feed))["seq"]
                if seen is last:
                    await to_the_end(client)
    assert all(first[feed] < last[feed] for feed in last)
    assert [entry.restart for entry in ledger(tmp_path) if entry.restart] == [True]


async def test_a_gap_is_missed_by_one_connection_only(tmp_path: Path) -> None:
    async with (
        faulty(tmp_path, "gap=3@5msgs:feed=book:conn=2") as venue,
        connect(venue.url) as first,
        connect(venue.url) as second,
    ):
        seen = []
        for client in (first, second):
            await client.send(request("subscribe", "book", "PF_XBTUSD"))
            numbers = [(await data(client, "book"))["seq"] for _ in range(20)]
            seen.append(numbers[-1] - numbers[0])
        assert seen == [19, 22]
    missed = [entry for entry in ledger(tmp_path) if entry.by == "gap"]
    assert [entry.conn for entry in missed] == [2, 2, 2]


async def test_a_challenge_that_is_wrong_or_late(tmp_path: Path) -> None:
    async with (
        faulty(tmp_path, "wrong-challenge", "late-challenge=20ms") as venue,
        connect(venue.url) as client,
    ):
        await said(client)
        for answer in ("alert", "subscribed"):
            await client.send(json.dumps({"event": "challenge", "api_key": DEMO.key}))
            signed = signature(DEMO, (await said(client))["message"])
            await client.send(request("subscribe", "open_orders", **signed))
            assert (await said(client))["event"] == answer


async def test_what_nobody_hears_is_in_the_ledger(tmp_path: Path) -> None:
    async with faulty(tmp_path, "drop@20msgs") as venue:
        async with connect(venue.url) as client:
            await client.send(request("subscribe", "book", "PF_XBTUSD"))
            await to_the_end(client)
        async with connect(venue.url) as client:
            await client.send(request("subscribe", "heartbeat"))
            await data(client, "heartbeat")
    entries = ledger(tmp_path)
    numbers = [
        json.loads(text)["seq"]
        for entry in entries
        if (text := entry.sent or entry.withheld or entry.unheard or "").startswith(
            '{"feed":"book"'
        )
    ]
    assert [entry for entry in entries if entry.unheard]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


async def test_a_fault_that_cannot_be_understood_is_found_before_listening() -> None:
    with pytest.raises(UsageError, match="drip"):
        async with serve(SimOptions(faults=["drip"])):
            raise NotImplementedError
