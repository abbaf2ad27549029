"""How a message is filed in a JetStream: address, subject, id, headers. Pure.

Who publishes and who reads agree here, and nowhere else.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import NamedTuple
from urllib.parse import urlsplit

from kfws.errors import UsageError
from kfws.protocol.auth import as_shown
from kfws.protocol.events import Data
from kfws.protocol.feeds import FEEDS

__all__ = [
    "ID",
    "OWN",
    "RECEIVED",
    "RECORDER",
    "SNAPSHOTS",
    "Address",
    "Filed",
    "Names",
    "is_jetstream",
]

ID = "Nats-Msg-Id"
RECEIVED = "Kfws-Received"
RECORDER = "Kfws-Recorder"
CONNECTION = "Kfws-Connection"
OWN = "kfws"
"""In the place of the feed: what a recorder says of itself."""
SNAPSHOTS = "book_snapshot"
"""In the place of the feed, as the venue calls it: copies of snapshots, for who begins to read in
the middle. Apart from ``book``, so that the last one of each product is found by its subject."""

_HINT = "e.g. nats://localhost:4222/kraken"


def is_jetstream(text: str) -> bool:
    """Whether an output or a source is a JetStream's address."""
    return text.startswith(("nats:", "tls:"))


class Address(NamedTuple):
    """A stream and where it is: ``nats://HOST[:PORT][,HOST…]/STREAM``, ``tls://`` with TLS."""

    text: str
    servers: tuple[str, ...]
    """As URLs; the members of one cluster."""
    stream: str

    @classmethod
    def of(cls, text: str) -> Address:
        """Raises UsageError; what is quoted holds no password."""
        scheme, _, rest = text.partition("://")
        if "@" in text:
            scheme = scheme.partition(":")[0]
            raise UsageError(
                f"{scheme}://…: an address takes no user, password or token",
                hint="--nats-creds FILE, or the token in KFWS_NATS_TOKEN",
            )
        hosts, _, stream = rest.partition("/")
        servers = tuple(f"{scheme}://{host}" for host in hosts.split(","))
        if not re.fullmatch(r"[\w-]+", stream):
            raise UsageError(f"{as_shown(text)} names no stream", hint=_HINT)
        for each in servers:
            _check_server(each)
        return cls(text, servers, stream)


def _check_server(url: str) -> None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as exc:
        raise UsageError(f"{as_shown(url)}: {exc}", hint=_HINT) from exc
    if not parts.hostname or parts.query or parts.fragment:
        raise UsageError(f"{as_shown(url)} is no address of a server", hint=_HINT)


class Filed(NamedTuple):
    """One message as it goes into a stream."""

    subject: str
    id: str
    headers: dict[str, str]
    payload: bytes


class Names:
    """Subjects and ids of one recorder in one stream: ``STREAM.VENUE.FEED.PRODUCT``.

    A message with a number has the same id whoever recorded it, so the server stores it once.
    Those without are filed per recorder, since nobody can tell copies from repetitions.
    """

    def __init__(self, stream: str, venue: str, recorder: str) -> None:
        self.root = f"{stream}.{token(venue)}"
        self.recorder = token(recorder)
        self._subjects: dict[tuple[str, str | None], str] = {}
        self._last = ("", 0)
        """The last id of a message without number, and how often it came in a row."""

    def subject(self, feed: str, product: str | None) -> str:
        """Where messages of a feed and product are filed."""
        found = self._subjects.get((feed, product))
        if found is None:
            found = self._subjects[feed, product] = self._made(feed, product)
        return found

    def _made(self, feed: str, product: str | None) -> str:
        known = FEEDS.get(feed)
        names = ["private", feed] if known is not None and known.private else [feed]
        names += [product] if product is not None else []
        names += [] if known is not None and known.numbered else [self.recorder]
        return ".".join([self.root, *map(token, names)])

    def file(self, data: Data, connection: int | None = None) -> Filed:
        """A message; ``connection``: which one brought it, where that is known."""
        headers = {
            ID: self._id(data),
            RECEIVED: str(data.received_ns),
            RECORDER: self.recorder,
        }
        if connection is not None:
            headers[CONNECTION] = str(connection)
        subject = self.subject(data.feed, data.product)
        return Filed(subject, headers[ID], headers, data.payload)

    def _id(self, data: Data) -> str:
        known = FEEDS.get(data.feed)
        if known is None or not known.numbered:
            return self._told_apart(f"{self.recorder}:{data.received_ns}:{_digest(data.payload)}")
        number = _digest(data.payload) if data.seq is None else data.seq
        return f"{data.kind}:{data.feed}:{data.product}:{number}:{data.venue_ms or ''}"

    def _told_apart(self, name: str) -> str:
        """The same words twice in one read are two messages; they follow each other."""
        before, times = self._last
        self._last = name, times + 1 if name == before else 0
        return name if name != before else f"{name}:{times + 1}"

    def file_kept(self, snapshot: Data) -> Filed:
        """A book's snapshot where readers look for the last one."""
        filed = self.file(snapshot)
        name = f"kept:{filed.id}"
        subject = f"{self.root}.{SNAPSHOTS}.{token(snapshot.product or '')}"
        return Filed(subject, name, filed.headers | {ID: name}, filed.payload)

    def file_own(self, payload: bytes, at_ns: int) -> Filed:
        """One of the stream's own events, as JSON: outages of this recorder, and the like."""
        name = f"{self.recorder}:{at_ns}:{_digest(payload)}"
        headers = {ID: name, RECEIVED: str(at_ns), RECORDER: self.recorder}
        return Filed(f"{self.root}.{OWN}.{self.recorder}", name, headers, payload)


def token(name: str) -> str:
    """A name as one part of a subject, where dots, blanks and wildcards have a meaning."""
    return re.sub(r"[^\w-]", "_", name) or "_"


def _digest(payload: bytes) -> str:
    return blake2b(payload, digest_size=8).hexdigest()
