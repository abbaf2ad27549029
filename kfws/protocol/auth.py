"""Who we are to the venue: credentials, and signatures made with them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from ipaddress import ip_address

import msgspec

from kfws.errors import Unwelcome

__all__ = [
    "DEMO",
    "Credentials",
    "Nonces",
    "as_shown",
    "is_loopback",
    "sign_challenge",
    "sign_request",
    "signature",
]


class Credentials(msgspec.Struct, frozen=True):
    """An API key and its secret. Neither is ever shown whole.

    Raises Unwelcome when the key is empty or the secret is not base64.
    """

    key: str
    secret: str

    def __post_init__(self) -> None:
        if not self.key.strip() or not self.secret.strip():
            raise Unwelcome("the API key or its secret is empty", hint="set both")
        if not (self.key.isascii() and self.key.isprintable()):
            raise Unwelcome("the API key holds characters that no key has", hint="copy it again")
        if not _is_base64(self.secret):
            raise Unwelcome(
                "the API secret is malformed: not base64",
                hint="copy it again, whole, as Kraken showed it when the key was made",
            )

    @property
    def shown(self) -> str:
        """What may be seen of the key: its last four characters, if it is long enough."""
        return f"…{self.key[-4:]}" if len(self.key) > 8 else "…"

    def __repr__(self) -> str:
        return f"Credentials(key='{self.shown}')"


def _is_base64(text: str) -> bool:
    # Apart, so that its errors, which may hold the text, are no cause of an error of ours.
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return True


DEMO = Credentials(
    "CMl2SeSn09Tz+2tWuzPiPUjaXEQRGq6qv5UaexXuQ3SnahDQU/gO3aT+",
    "7zxMEF5p/Z8l2p2U7Ghv6x14Af+Fx+92tPgUdVQ748FOIrEoT9bgT+bTRfXc5pz8na+hL/QdrCVG7bh9KpT0eMTm",
)
"""The simulator's account. Both strings are published in the venue's documentation as a test
vector; no account but the simulator's accepts them."""


def is_loopback(host: str) -> bool:
    """Whether a host is this very machine, where credentials may go without TLS."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def as_shown(url: str) -> str:
    """A URL as it may be said or written down.

    Its query may hold a token, and where there is an ``@``, a password may be anywhere in it.
    """
    if "@" in url:
        return re.sub(r"^([a-z+]+:/+)?.*", r"\1***", url, count=1, flags=re.DOTALL)
    return re.sub(r"([?#]).*", r"\1***", url, flags=re.DOTALL)


def sign_challenge(secret: str, challenge: str) -> str:
    """base64(HMAC-SHA512(base64decode(secret), SHA-256(challenge))), as the venue documents it."""
    digest = hashlib.sha256(challenge.encode()).digest()
    mac = hmac.new(base64.b64decode(secret), digest, hashlib.sha512).digest()
    return base64.b64encode(mac).decode()


def signature(credentials: Credentials, challenge: str) -> dict[str, str]:
    """What a private request carries beside its feed."""
    return {
        "api_key": credentials.key,
        "original_challenge": challenge,
        "signed_challenge": sign_challenge(credentials.secret, challenge),
    }


def sign_request(secret: str, data: str, nonce: str, path: str) -> str:
    """``Authent`` of a REST request: what a challenge is signed with, over data, nonce and path.

    ``data`` is the query string and the form body exactly as they are sent, url-encoded; ``nonce``
    is empty where the header is left out. The venue hashes the path from ``/api/…`` on.
    """
    return sign_challenge(secret, data + nonce + path.removeprefix("/derivatives"))


class Nonces:
    """Numbers for the header ``Nonce``: each higher than the one before, whatever the clock does.

    They count 10 ns, as those of python-kraken-sdk do: a key that one has used the other may
    use, and the venue wants every nonce of a key higher than the last.
    """

    def __init__(self) -> None:
        self._last = 0

    def next(self, now_ns: int) -> str:
        """The nonce of a moment, in nanoseconds since the epoch."""
        self._last = max(self._last + 1, now_ns // 10)
        return str(self._last)
