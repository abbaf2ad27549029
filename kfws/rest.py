"""Signed REST requests to the venue, with the interface of the documented client.

Rule of this room: what is signed is byte for byte what is sent, and a signature goes to the
venue that was named and nowhere else: no redirect is followed, and nothing is signed for a line
that others can read. aiohttp is imported with the first request.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from kfws.errors import KfwsError, NoConnection, Unreachable, UsageError
from kfws.exceptions import (
    KrakenApiLimitExceededError,
    KrakenAuthenticationError,
    KrakenBadRequestError,
    KrakenError,
    KrakenInvalidArgumentsError,
    KrakenPermissionDeniedError,
    KrakenServiceUnavailableError,
    KrakenUnknownMethodError,
    named,
)
from kfws.protocol.auth import Credentials, Nonces, sign_request
from kfws.sources.failures import (
    Route,
    check_proxy,
    is_private_line,
    network_failure,
    status_failure,
    tls_context,
    without_password,
)

if TYPE_CHECKING:
    import aiohttp

__all__ = ["METHODS", "Rest", "judge", "load"]

METHODS = ("GET", "POST", "PUT", "DELETE")

FORM = "application/x-www-form-urlencoded; charset=utf-8"

# Decompressed; the longest that the venue has is the products list, 0.5 MB.
LARGEST_ANSWER = 64 * 1024 * 1024

# Of an answer that is no JSON, in a sentence.
MOST_QUOTED = 200

_OF_STATUS: Mapping[int, type[KrakenError]] = {
    401: KrakenAuthenticationError,
    403: KrakenPermissionDeniedError,
    404: KrakenUnknownMethodError,
    405: KrakenUnknownMethodError,
    429: KrakenApiLimitExceededError,
}


class Rest:
    """Requests to one venue, on connections that are kept open between them.

    ``base_url`` is scheme, host and port, e.g. ``https://futures.kraken.com``. Without
    ``credentials`` only requests with ``auth=False`` are made. ``proxy``: the URL of an HTTP
    proxy; UsageError is raised for another. ``ca_file``: authorities (PEM) to trust instead of
    the system's.

    Use it as an async context manager, or call ``close`` in the end.
    """

    def __init__(
        self,
        base_url: str,
        credentials: Credentials | None = None,
        *,
        proxy: str | None = None,
        ca_file: str | None = None,
    ) -> None:
        if proxy is not None and not proxy.startswith(("http://", "https://")):
            raise UsageError(
                f"{without_password(proxy)} is no HTTP proxy",
                hint="REST takes no other, e.g. --proxy http://host:3128",
            )
        if proxy is not None:
            check_proxy(proxy)
        self._route = Route(base_url.rstrip("/"), proxy, ca_file)
        self._credentials = credentials
        self._nonces = Nonces()
        self._http: aiohttp.ClientSession | None = None
        self._is_closed = False

    async def __aenter__(self) -> Rest:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes all connections. A second call does nothing."""
        self._is_closed = True
        if self._http is not None:
            await self._http.close()

    async def request(
        self,
        method: str,
        uri: str,
        post_params: Mapping[str, Any] | None = None,
        query_params: Mapping[str, Any] | None = None,
        timeout: float = 10,  # noqa: ASYNC109  # documented so
        *,
        auth: bool = True,
        return_raw: bool = False,
    ) -> Any:
        """One request, and its answer decoded; with ``return_raw`` the ``aiohttp.ClientResponse``.

        ``uri`` is the path, e.g. ``/derivatives/api/v3/openorders``; a query in it is kept.
        ``post_params`` are the form of a POST; other methods have no body, so theirs go into the
        query. A list as a value repeats its key. ``timeout`` is in seconds, for the whole answer.

        Raises ValueError without credentials (unless ``auth`` is off) and for another method;
        ``kfws.exceptions.KrakenError``, mostly one of its kinds, for what the venue refuses: HTTP
        statuses but 200, ``error``, ``errors``, and a ``sendStatus`` or ``batchStatus`` that has
        an exception of its own; ``"result": "error"`` without a reason too. Other statuses of
        orders are the caller's to read. Raises TimedOut (a TimeoutError) where no whole answer
        came in time, NoConnection (a ConnectionError) and other kinds of Unreachable where none
        came at all.
        """
        response = await self._send(method, uri, post_params, query_params, timeout, auth=auth)
        if return_raw and response.status == 200:
            return response
        body = await self._body(response, timeout)
        return judge(response.status, body.decode(errors="replace"))

    async def fetch(
        self,
        method: str,
        uri: str,
        post_params: Mapping[str, Any] | None = None,
        query_params: Mapping[str, Any] | None = None,
        timeout_s: float = 10.0,
        *,
        auth: bool = True,
    ) -> tuple[int, bytes]:
        """The same as ``request``, but gives HTTP status and body as they came, whatever they
        say; ``judge`` tells."""
        response = await self._send(method, uri, post_params, query_params, timeout_s, auth=auth)
        return response.status, await self._body(response, timeout_s)

    async def _send(
        self,
        method: str,
        uri: str,
        post_params: Mapping[str, Any] | None,
        query_params: Mapping[str, Any] | None,
        timeout_s: float,
        *,
        auth: bool,
    ) -> aiohttp.ClientResponse:
        import aiohttp
        from yarl import URL

        method = method.upper()
        if method not in METHODS:
            raise ValueError(f"{method} is no method of this venue; one of {', '.join(METHODS)}")
        path, query, body = _spelled(method, uri, post_params, query_params)
        headers = {"Content-Type": FORM} if method in ("POST", "PUT") else {}
        if auth:
            headers |= self._signed(path, query + body)
        target = f"{self._route.url}{path}" + (f"?{query}" if query else "")
        with self._in_our_words(timeout_s):
            response = await self._session().request(
                method,
                URL(target, encoded=True),  # else it would be spelled anew, not as it was signed
                data=body.encode() if method == "POST" else None,
                headers=headers,
                proxy=self._route.proxy,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            )
        if 300 <= response.status < 400:
            response.release()
            raise status_failure(response.status, "", self._route)
        return response

    async def _body(self, response: aiohttp.ClientResponse, timeout_s: float) -> bytes:
        with self._in_our_words(timeout_s):
            body = bytearray()
            async with response:  # let go of however this ends
                async for piece in response.content.iter_any():
                    body += piece
                    if len(body) > LARGEST_ANSWER:
                        response.close()
                        raise Unreachable(
                            f"{self._route.place} gave more than {LARGEST_ANSWER:,} bytes",
                            hint="ask for less with --query",
                        )
            return bytes(body)

    def _signed(self, path: str, data: str) -> dict[str, str]:
        """The headers of an account, over data exactly as it is sent."""
        credentials = self._credentials
        if credentials is None:
            raise ValueError("Missing credentials")
        if not is_private_line(self._route.url):
            raise UsageError(
                f"credentials never go over plain http:// to {self._route.place}",
                hint="use https://",
            )
        nonce = self._nonces.next(time.time_ns())
        return {
            "APIKey": credentials.key,
            "Nonce": nonce,
            "Authent": sign_request(credentials.secret, data, nonce, path),
        }

    def _session(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._is_closed:
            raise RuntimeError("Session is closed")
        if self._http is None:
            route = self._route
            tls = tls_context(route.ca_file) if route.is_secure else True
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "kfws"},
            )
        return self._http

    @contextmanager
    def _in_our_words(self, timeout_s: float) -> Iterator[None]:
        import aiohttp

        try:
            yield
        except (aiohttp.ClientError, OSError) as exc:  # TimeoutError is an OSError
            raise self._renamed(exc, timeout_s) from exc

    def _renamed(self, exc: Exception, timeout_s: float) -> KfwsError:
        """aiohttp's errors in the user's words. The most special classes come first."""
        import aiohttp

        route = Route(self._route.url, self._route.proxy, self._route.ca_file, timeout_s)
        match exc:
            case aiohttp.ClientConnectorCertificateError():
                return network_failure(exc.certificate_error, route)
            case aiohttp.ClientConnectorError():
                return network_failure(exc.os_error, route)
            case aiohttp.ClientHttpProxyError():
                return NoConnection(
                    f"{route.dialled} refused: HTTP {exc.status} {exc.message}",
                    hint="look at --proxy",
                )
            case aiohttp.InvalidURL():
                # The URL itself may be that of the proxy, or hold a token.
                return UsageError(
                    f"this request of {route.place} has no address", hint="look at the path"
                )
            case TimeoutError():
                return network_failure(exc, route)
            case _:
                reason = _quoted(str(exc)) or type(exc).__name__
                return NoConnection(f"{route.place} gave no whole answer: {reason}")


# Of a path and its query (RFC 3986); % is of what is encoded already.
_LEGAL = "/%:@!$&'()*+,;=~?"


def _spelled(
    method: str,
    uri: str,
    post_params: Mapping[str, Any] | None,
    query_params: Mapping[str, Any] | None,
) -> tuple[str, str, str]:
    """Path, query and body as they are sent."""
    parts = urlsplit(quote(uri, safe=_LEGAL))
    if parts.scheme or parts.netloc or not parts.path.startswith("/"):
        raise ValueError(f"{uri!r} is no path of the venue; e.g. /derivatives/api/v3/tickers")
    form = urlencode(post_params or {}, doseq=True)
    queries = [parts.query, urlencode(query_params or {}, doseq=True)]
    if method != "POST":
        queries.append(form)
        form = ""
    return parts.path, "&".join(filter(None, queries)), form


def load() -> None:
    """Imports what the first request needs, which takes a while: for a thread, beside a stream."""
    import aiohttp  # noqa: F401


def judge(status: int, text: str) -> Any:
    """What an answer holds, decoded. Raises KrakenError for what it refuses (``Rest.request``)."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = None
    refused = answer if isinstance(answer, dict) else {}
    said = _said(refused)
    if status != 200:
        raise _kind(status, said)(
            f"HTTP {status}: {said or _quoted(text)}", status=status, body=text
        )
    if answer is None:
        # What a venue in maintenance answers.
        raise KrakenServiceUnavailableError(f"no JSON: {_quoted(text)}", body=text)
    if said:
        raise _kind(status, said)(said, body=text)
    for word in _order_words(refused):
        kind = named(word)
        if kind is not None:
            raise kind(word, body=text)
    if refused.get("result") == "error":
        raise KrakenError(f"it gives no reason: {_quoted(text)}", body=text)
    return answer


def _said(answer: Mapping[str, Any]) -> str:
    """The venue's own words for what is wrong, in either of its two shapes; else empty."""
    found = [answer.get("error"), answer.get("errors")]
    entries = [entry for each in found for entry in (each if isinstance(each, list) else [each])]
    texts = [entry.get("message", entry) if isinstance(entry, dict) else entry for entry in entries]
    return ", ".join(str(each) for each in texts if each)


def _kind(status: int, said: str) -> type[KrakenError]:
    kind = named(said)
    if kind is not None:
        return kind
    if status >= 500:
        return KrakenServiceUnavailableError
    if said.startswith("Argument invalid"):
        return KrakenInvalidArgumentsError
    return _OF_STATUS.get(status, KrakenBadRequestError if status != 200 else KrakenError)


def _order_words(answer: Mapping[str, Any]) -> list[str]:
    """What became of each order that the answer tells of."""
    batch = answer.get("batchStatus")
    entries = [answer.get("sendStatus"), *(batch if isinstance(batch, list) else [])]
    words = [entry.get("status") for entry in entries if isinstance(entry, dict)]
    return [word for word in words if isinstance(word, str)]


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MOST_QUOTED else f"{line[:MOST_QUOTED]}…"
