"""Requests over real sockets, against a venue that keeps what it was sent."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp import web

from kfws.errors import NoConnection, TimedOut, Unreachable, UsageError
from kfws.exceptions import (
    KrakenApiLimitExceededError,
    KrakenAuthenticationError,
    KrakenBadRequestError,
    KrakenError,
    KrakenInsufficientAvailableFundsError,
    KrakenInvalidArgumentsError,
    KrakenNotFoundError,
    KrakenPermissionDeniedError,
    KrakenServiceUnavailableError,
    KrakenUnknownMethodError,
)
from kfws.protocol.auth import DEMO, sign_request
from kfws.rest import LARGEST_ANSWER, Rest, judge
from tests.frames_of import Line, lines

PATH = "/derivatives/api/v3/orders"


@dataclass
class Seen:
    """One request as it came over the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: str

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]


@dataclass
class Venue:
    """Answers all requests alike, and keeps them."""

    url: str = ""
    status: int = 200
    answer: str = '{"result":"success"}'
    headers: dict[str, str] = field(default_factory=dict)
    is_compressed: bool = False
    seen: list[Seen] = field(default_factory=list)

    async def attend(self, request: web.BaseRequest) -> web.Response:
        body = await request.text()
        self.seen.append(Seen(request.method, request.raw_path, dict(request.headers), body))
        response = web.Response(status=self.status, text=self.answer, headers=self.headers)
        if self.is_compressed:
            response.enable_compression(web.ContentCoding.gzip)
        return response


@asynccontextmanager
async def listening(tls: ssl.SSLContext | None = None, **more: Any) -> AsyncIterator[Venue]:
    venue = Venue(**more)
    runner = web.ServerRunner(web.Server(venue.attend))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    venue.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield venue
    finally:
        await runner.cleanup()


@pytest.fixture(name="venue")
async def _venue() -> AsyncIterator[Venue]:
    async with listening() as venue:
        yield venue


@pytest.fixture(name="rest")
async def _rest(venue: Venue) -> AsyncIterator[Rest]:
    async with Rest(venue.url, DEMO) as rest:
        yield rest


# What is sent


@pytest.mark.parametrize("method", ["GET", "put", "DELETE"])
async def test_all_but_a_post_says_everything_in_the_query(
    venue: Venue, rest: Rest, method: str
) -> None:
    await rest.request(method, PATH, {"size": 2}, {"symbol": "PF_XBTUSD"})
    [seen] = venue.seen
    assert (seen.method, seen.body) == (method.upper(), "")
    assert seen.target == f"{PATH}?symbol=PF_XBTUSD&size=2"


async def test_a_post_has_a_form(venue: Venue, rest: Rest) -> None:
    await rest.request("POST", PATH, {"orderIds": ["a", "b"], "text": "ä b&c"}, {"q": "1"})
    [seen] = venue.seen
    assert seen.target == f"{PATH}?q=1"
    assert seen.body == "orderIds=a&orderIds=b&text=%C3%A4+b%26c"
    assert seen.headers["Content-Type"].startswith("application/x-www-form-urlencoded")


@pytest.mark.parametrize(
    ("method", "is_form"), [("GET", False), ("POST", True), ("PUT", True), ("DELETE", False)]
)
async def test_what_may_have_a_form_names_its_type(
    venue: Venue, rest: Rest, method: str, is_form: bool
) -> None:
    await rest.request(method, PATH, {"size": 2})
    found = venue.seen[0].headers.get("Content-Type")
    assert (found == "application/x-www-form-urlencoded; charset=utf-8") is is_form


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_what_is_signed_is_what_is_sent(venue: Venue, rest: Rest, method: str) -> None:
    await rest.request(method, PATH, {"text": "x:y*z~ä"}, {"when": "2026-01-01T00:00:00+01:00"})
    [seen] = venue.seen
    data = seen.query + seen.body
    assert "%3A00%2B01%3A00" in seen.query
    signed = sign_request(DEMO.secret, data, seen.headers["Nonce"], PATH)
    assert seen.headers["Authent"] == signed
    assert seen.headers["APIKey"] == DEMO.key


async def test_a_query_in_the_path_is_kept_and_signed_as_data(venue: Venue, rest: Rest) -> None:
    await rest.request("GET", f"{PATH}?symbol=PF_XBTUSD", query_params={"n": 1})
    [seen] = venue.seen
    assert seen.query == "symbol=PF_XBTUSD&n=1"
    signed = sign_request(DEMO.secret, seen.query, seen.headers["Nonce"], PATH)
    assert seen.headers["Authent"] == signed


async def test_nonces_rise(venue: Venue, rest: Rest) -> None:
    for _ in range(5):
        await rest.request("GET", PATH)
    nonces = [int(each.headers["Nonce"]) for each in venue.seen]
    assert nonces == sorted(set(nonces))


async def test_without_auth_nothing_is_told_of_the_account(venue: Venue, rest: Rest) -> None:
    await rest.request("GET", PATH, auth=False)
    assert not {"Authent", "APIKey", "Nonce"} & set(venue.seen[0].headers)


async def test_without_credentials_nothing_is_sent_that_needs_them(venue: Venue) -> None:
    async with Rest(venue.url) as rest:
        with pytest.raises(ValueError, match="Missing credentials"):
            await rest.request("GET", PATH)
        await rest.request("GET", PATH, auth=False)
    assert len(venue.seen) == 1


async def test_nothing_is_signed_for_a_line_that_others_can_read() -> None:
    async with Rest("http://venue.example", DEMO) as rest:
        with pytest.raises(UsageError, match="never go over plain http"):
            await rest.request("GET", PATH)


async def test_a_redirect_is_not_followed(rest: Rest, venue: Venue) -> None:
    async with listening() as other:
        venue.status, venue.headers = 302, {"Location": f"{other.url}/x"}
        for auth in (True, False):
            with pytest.raises(
                Unreachable, match="answered HTTP 302: a redirect, not followed"
            ) as caught:
                await rest.request("GET", PATH, auth=auth)
            assert caught.value.permanent
        assert not other.seen


async def test_an_answer_that_grows_beyond_measure_is_cut_off(rest: Rest, venue: Venue) -> None:
    venue.answer, venue.is_compressed = " " * (LARGEST_ANSWER + 1), True
    with pytest.raises(Unreachable, match="gave more than 67,108,864 bytes"):
        await rest.request("GET", PATH)


async def test_an_answer_that_is_nested_too_deep_is_no_json(rest: Rest, venue: Venue) -> None:
    venue.answer = "[" * 200_000 + "]" * 200_000
    with pytest.raises(KrakenServiceUnavailableError, match="no JSON"):
        await rest.request("GET", PATH)


@pytest.mark.parametrize("uri", ["tickers", "https://evil.example/x", "//evil.example/x", ""])
async def test_a_path_that_is_none_is_refused(venue: Venue, rest: Rest, uri: str) -> None:
    with pytest.raises(ValueError, match="no path of the venue"):
        await rest.request("GET", uri)
    assert not venue.seen


async def test_a_path_is_spelled_as_it_may_stand_on_the_wire(venue: Venue, rest: Rest) -> None:
    await rest.request("GET", "/x y/ä%20#?z=a b&c=%41")
    [seen] = venue.seen
    assert seen.target == "/x%20y/%C3%A4%20%23?z=a%20b&c=%41"
    signed = sign_request(DEMO.secret, seen.query, seen.headers["Nonce"], "/x%20y/%C3%A4%20%23")
    assert seen.headers["Authent"] == signed


async def test_a_method_that_is_none_is_refused(venue: Venue, rest: Rest) -> None:
    with pytest.raises(ValueError, match="PATCH is no method"):
        await rest.request("PATCH", PATH)
    assert not venue.seen


# What is answered


async def test_an_answer_is_given_decoded(venue: Venue, rest: Rest) -> None:
    venue.answer = '{"result":"success","n":1.50,"error":"","sendStatus":{"status":"placed"}}'
    assert await rest.request("GET", PATH) == json.loads(venue.answer)


async def test_an_answer_is_given_raw_when_that_is_asked_for(venue: Venue, rest: Rest) -> None:
    venue.answer = "not,json\n"
    response = await rest.request("GET", PATH, return_raw=True)
    assert isinstance(response, aiohttp.ClientResponse)
    assert await response.text() == venue.answer


async def test_a_refusal_is_raised_even_when_raw_was_asked_for(venue: Venue, rest: Rest) -> None:
    venue.status, venue.answer = 500, "oh"
    with pytest.raises(KrakenServiceUnavailableError, match="HTTP 500: oh"):
        await rest.request("GET", PATH, return_raw=True)


async def test_what_came_can_be_had_as_it_came(venue: Venue, rest: Rest) -> None:
    venue.status, venue.answer = 400, '{"error": "x"}'
    assert await rest.fetch("GET", PATH) == (400, b'{"error": "x"}')


RECORDED: dict[str, tuple[type[KrakenError], str]] = {
    "same word for bad key": (KrakenAuthenticationError, "authenticationError"),
    "second error shape": (KrakenInvalidArgumentsError, "HTTP 400: Argument invalid: symbol"),
    "unknown path": (KrakenUnknownMethodError, "HTTP 404: 404 NOT_FOUND"),
    "budget exhausted": (KrakenApiLimitExceededError, "apiLimitExceeded"),
}


@pytest.mark.parametrize(
    "line", [line for line in lines("rest") if line.kind == "failure"], ids=lambda line: line.note
)
async def test_a_recorded_failure_is_raised_by_its_name(
    venue: Venue, rest: Rest, line: Line
) -> None:
    [(kind, text)] = [each for note, each in RECORDED.items() if note in line.note]
    assert line.http is not None
    venue.status, venue.answer = int(line.http["status"]), line.payload.decode()
    with pytest.raises(kind) as caught:
        await rest.request("GET", PATH)
    assert type(caught.value) is kind
    assert caught.value.text == text
    assert (caught.value.status, caught.value.body) == (venue.status, venue.answer)


@pytest.mark.parametrize(
    ("status", "answer", "kind", "text"),
    [
        (200, '{"error":"accountInactive"}', KrakenError, "accountInactive"),
        (200, '{"errors":[{"code":1,"message":"a"},"b"]}', KrakenError, "a, b"),
        (200, '{"error":["notFound"]}', KrakenNotFoundError, "notFound"),
        (200, '{"result":"error"}', KrakenError, 'it gives no reason: {"result":"error"}'),
        (200, "<html>\n down </html>", KrakenServiceUnavailableError, "no JSON: <html> down"),
        (200, "", KrakenServiceUnavailableError, "no JSON"),
        (400, "x" * 500, KrakenBadRequestError, f"HTTP 400: {'x' * 200}…"),
        (401, "[]", KrakenAuthenticationError, "HTTP 401: []"),
        (403, "", KrakenPermissionDeniedError, "HTTP 403"),
        (405, "", KrakenUnknownMethodError, "HTTP 405"),
        (429, "", KrakenApiLimitExceededError, "HTTP 429"),
        (503, "", KrakenServiceUnavailableError, "HTTP 503"),
        (503, '{"error":"apiLimitExceeded"}', KrakenApiLimitExceededError, "HTTP 503: apiLimit"),
    ],
)
def test_every_refusal_has_its_exception(
    status: int, answer: str, kind: type[KrakenError], text: str
) -> None:
    with pytest.raises(KrakenError) as caught:
        judge(status, answer)
    assert type(caught.value) is kind
    assert caught.value.text.startswith(text)


@pytest.mark.parametrize(
    "answer",
    [
        {"sendStatus": {"status": "insufficientAvailableFunds"}},
        {"batchStatus": [{"status": "placed"}, {"status": "insufficientAvailableFunds"}]},
    ],
)
def test_an_order_that_was_refused_is_raised_where_it_has_an_exception(answer: object) -> None:
    with pytest.raises(KrakenInsufficientAvailableFundsError, match="insufficientAvailableFunds"):
        judge(200, json.dumps(answer))


@pytest.mark.parametrize(
    "answer",
    [
        {"sendStatus": {"status": "postWouldExecute"}},
        {"sendStatus": {}},
        {"sendStatus": None, "batchStatus": None},
        {"batchStatus": [None, {"status": 5}, {"status": "invalidSize"}]},
        {"error": [], "errors": []},
        {"result": "success"},
        ["a", "b"],
    ],
)
def test_all_else_is_the_callers_to_read(answer: object) -> None:
    assert judge(200, json.dumps(answer)) == answer


# Where no answer comes from


async def test_nothing_listening_is_said(unused_tcp_port: int) -> None:
    async with Rest(f"http://127.0.0.1:{unused_tcp_port}") as rest:
        with pytest.raises(Unreachable, match=r"nothing is listening at 127\.0\.0\.1") as caught:
            await rest.request("GET", PATH, auth=False)
    assert caught.value.hint == "look at --rest-url"
    assert isinstance(caught.value, ConnectionError)


async def test_a_name_without_an_address_is_said() -> None:
    async with Rest("https://nowhere.invalid") as rest:
        with pytest.raises(NoConnection, match=r"no address for nowhere\.invalid"):
            await rest.request("GET", PATH, auth=False)


@asynccontextmanager
async def saying(said: bytes, *, hangs: bool = False) -> AsyncIterator[str]:
    """The address of a venue that answers one request with these bytes; ``hangs``: and then
    waits for the client to leave."""
    done = asyncio.Event()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said or b"")
        if hangs:
            await reader.read()
        writer.close()
        await asyncio.wait([asyncio.ensure_future(writer.wait_closed())])
        done.set()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await done.wait()


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
async def test_a_venue_that_says_nothing_or_half_is_given_up_in_time(said: bytes) -> None:
    async with saying(said, hangs=True) as url, Rest(url) as rest:
        with pytest.raises(TimedOut, match=r"did not answer within 0\.05 s") as caught:
            await rest.request("GET", PATH, timeout=0.05, auth=False)
    assert isinstance(caught.value, TimeoutError)


@pytest.mark.parametrize(
    "said", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9"]
)
async def test_half_an_answer_is_none(said: bytes) -> None:
    async with saying(said) as url, Rest(url) as rest:
        with pytest.raises(NoConnection, match="gave no whole answer"):
            await rest.request("POST", PATH, auth=False)


async def test_a_certificate_is_verified(tmp_path: Path) -> None:
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    trusted = str(tmp_path / "ca.pem")
    authority.cert_pem.write_to_path(trusted)
    async with listening(tls) as venue:
        async with Rest(venue.url, DEMO, ca_file=trusted) as rest:
            assert await rest.request("GET", PATH) == {"result": "success"}
        async with Rest(venue.url, DEMO) as rest:
            with pytest.raises(Unreachable, match="is not trusted") as caught:
                await rest.request("GET", PATH)
            assert "--ca-file" in caught.value.hint
        assert len(venue.seen) == 1


async def test_tls_to_a_plain_port_is_said(venue: Venue) -> None:
    async with Rest(venue.url.replace("http:", "https:")) as rest:
        with pytest.raises(NoConnection, match="TLS"):
            await rest.request("GET", PATH, auth=False)


async def test_a_proxy_is_asked(venue: Venue) -> None:
    async with Rest("http://venue.example", proxy=venue.url) as rest:
        assert await rest.request("GET", PATH, auth=False) == {"result": "success"}
    assert venue.seen[0].headers["Host"] == "venue.example"


async def test_a_proxy_that_refuses_is_said(venue: Venue) -> None:
    venue.status = 407
    async with Rest("https://venue.example", DEMO, proxy=venue.url) as rest:
        with pytest.raises(Unreachable, match=r"the proxy 127\.0\.0\.1:.* refused: HTTP 407"):
            await rest.request("GET", PATH)
    assert [(each.method, "Authent" in each.headers) for each in venue.seen] == [("CONNECT", False)]


@pytest.mark.parametrize("proxy", ["socks5://me:hunter2@host:1080", "host:3128"])
def test_a_proxy_of_another_kind_is_refused_and_its_password_not_repeated(proxy: str) -> None:
    with pytest.raises(UsageError, match="no HTTP proxy") as caught:
        Rest("https://venue.example", proxy=proxy)
    assert "hunter2" not in str(caught.value)


# The end


async def test_closing_twice_is_closing_once_and_leaves_no_socket(venue: Venue) -> None:
    before = asyncio.all_tasks()
    rest = Rest(venue.url)
    await rest.close()
    rest = Rest(venue.url)
    await rest.request("GET", PATH, auth=False)
    await rest.close()
    await rest.close()
    assert not [task for task in asyncio.all_tasks() - before if "kfws" in repr(task)]
    with pytest.raises(RuntimeError, match="Session is closed"):
        await rest.request("GET", PATH, auth=False)
