"""Why a venue cannot be reached, in the user's words: names, sockets, TLS, HTTP statuses.

Rule of this room: an error of a lower room goes in, one of ours comes out; nothing is dialled.
WebSocket and REST share it.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from urllib.parse import urlsplit

import msgspec

from kfws.errors import KfwsError, NoConnection, TimedOut, Unreachable, Unwelcome, UsageError
from kfws.protocol.auth import is_loopback
from kfws.sources.backoff import retry_after

__all__ = [
    "Route",
    "check_proxy",
    "is_private_line",
    "network_failure",
    "status_failure",
    "tls_context",
    "without_password",
]

# X509_V_ERR_CERT_NOT_YET_VALID and …_CERT_HAS_EXPIRED
WRONG_DATE = (9, 10)
# X509_V_ERR_HOSTNAME_MISMATCH and …_IP_ADDRESS_MISMATCH
WRONG_HOST = (62, 64)
OPEN_TIMEOUT_S = 10.0
SECURE = ("wss", "https")


class Route(msgspec.Struct, frozen=True):
    """Where to dial, and which way."""

    url: str
    proxy: str | None = None
    """A proxy's URL, which may hold a password; None goes straight."""
    ca_file: str | None = None
    open_timeout_s: float = OPEN_TIMEOUT_S

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r}, …)"  # a proxy may hold a password

    @property
    def is_secure(self) -> bool:
        return urlsplit(self.url).scheme in SECURE

    @property
    def place(self) -> str:
        """Host and port, for sentences."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port or (443 if self.is_secure else 80)}"

    @property
    def dialled(self) -> str:
        """Host and port of what is really dialled: the proxy's where there is one."""
        return self.place if self.proxy is None else f"the proxy {without_password(self.proxy)}"

    @property
    def option(self) -> str:
        """What a user names the venue with."""
        return "--rest-url" if self.url.startswith("http") else "--url"


def is_private_line(url: str) -> bool:
    """Whether nobody else can read what is sent there: TLS, or this very machine."""
    parts = urlsplit(url)
    return parts.scheme in SECURE or is_loopback(parts.hostname or "")


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Trusts the system's authorities, or those of a file. Raises UsageError."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as exc:
        raise UsageError(
            f"--ca-file {ca_file} cannot be used: {exc.strerror or exc}",
            hint="it holds certificates in PEM form",
        ) from exc


def without_password(url: str) -> str:
    """Host and port. All before the last ``@`` may be of a password, whatever characters it has."""
    return re.split("[/?#]", url.rpartition("@")[2].rpartition("://")[2])[0]


def check_proxy(url: str) -> None:
    """Whether it is scheme, host and port, with a user and password or without.

    Raises UsageError, which shows nothing of a password; hence no cause is kept.
    """
    fault = _fault_of_proxy(url)
    if fault:
        raise UsageError(f"{without_password(url)} is no proxy: {fault}", hint=_PROXY_HINT)


def _fault_of_proxy(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return f"its host or port is none{_ENCODE if '@' in url else ''}"
    if parts.scheme not in _PROXY_SCHEMES:
        return f"its scheme is none of {', '.join(_PROXY_SCHEMES)}"
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        return f"it has more than host and port{_ENCODE if '@' in url else ''}"
    if parts.username is not None and parts.password is None:
        return "it has a user without a password (user:password@host:port)"
    return "" if host and port != 0 else "it names no host, or port 0"


_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h", "socks4", "socks4a")
_PROXY_HINT = "e.g. --proxy http://host:3128 or socks5://host:1080"
_ENCODE = "; of a password / ? # [ are written %2F %3F %23 %5B"


def network_failure(exc: Exception, route: Route) -> KfwsError:
    """An error of socket or TLS, renamed. The most special classes come first."""
    match exc:
        case ssl.SSLCertVerificationError():
            return _distrusted(exc, route)
        case ssl.SSLError():
            return _no_tls(f"{route.place} does not speak TLS: {exc.reason or exc}", route)
        case socket.gaierror():
            return NoConnection(
                f"no address for {route.dialled.rpartition(':')[0]}: {exc.strerror}",
                hint="are you online? (--env sim works without a network)",
            )
        case TimeoutError():
            return TimedOut(
                f"{route.dialled} did not answer within {route.open_timeout_s:g} s",
                hint="look at the network, a firewall, or --proxy",
            )
        case ConnectionRefusedError():
            way = "--proxy, or HTTPS_PROXY" if route.proxy else route.option
            return NoConnection(f"nothing is listening at {route.dialled}", hint=f"look at {way}")
        case ConnectionError() if route.is_secure and route.proxy is None:
            return _no_tls(f"{route.place} hung up on the TLS handshake", route)
        case _:
            reason = str(exc) or type(exc).__name__
            return NoConnection(f"no connection to {route.dialled}: {reason}")


def _no_tls(what: str, route: Route) -> NoConnection:
    plain = "http://" if route.url.startswith("https:") else "ws://"
    return NoConnection(what, hint=f"is it a TLS port? A local venue without TLS is {plain}")


def _distrusted(exc: ssl.SSLCertVerificationError, route: Route) -> Unreachable:
    reason = exc.verify_message.rstrip(".")
    hint = "name the authority that signed it with --ca-file"
    if exc.verify_code in WRONG_DATE:
        hint = "look at this machine's date; where that is right, the venue has to renew it"
    elif exc.verify_code in WRONG_HOST:
        hint = f"name the venue in {route.option} as its certificate does"
    elif route.ca_file:
        hint = f"{route.ca_file} holds no authority that signed it"
    return Unreachable(
        f"the certificate of {route.place} is not trusted: {reason}", hint=hint, permanent=True
    )


def status_failure(status: int, wait: str, route: Route) -> KfwsError:
    """An HTTP status that a handshake failed with; ``wait`` is its Retry-After, or empty."""
    said = f"{route.place} answered HTTP {status}"
    if status in (401, 403):
        return Unwelcome(f"{said}: not welcome", hint="is this address allowed to connect?")
    if status == 404:
        return Unreachable(
            f"{said}: no such path", hint="the path of Kraken Futures is /ws/v1", permanent=True
        )
    if 300 <= status < 400:
        return Unreachable(
            f"{said}: a redirect, not followed",
            hint=f"give the final address with {route.option}",
            permanent=True,
        )
    wait = wait if status in (429, 503) else ""
    return Unreachable(said, hint="try again later", retry_after_s=retry_after(wait, time.time()))
