"""What works from here, one check after another: for ``kfws auth check`` and ``kfws doctor``.

Rule of this room: a check that fails is a line with what to do, never an exception; what rests
on it is skipped.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal
from urllib.parse import urlsplit

from kfws.cli.choices import Format
from kfws.cli.env import Env
from kfws.cli.rows import as_csv, as_json
from kfws.errors import KfwsError, Unreachable, Unwelcome, UsageError
from kfws.protocol.auth import Credentials
from kfws.protocol.events import Data, Notice, Opened, Redial, Subscribed
from kfws.protocol.session import Session, Subscription
from kfws.sinks.columns import printable, printable_lines
from kfws.sources.connection import Connection, Target, dial
from kfws.sources.failures import (
    Route,
    network_failure,
    status_failure,
    tls_context,
    without_password,
)
from kfws.sources.live import Live

__all__ = ["PRIVATE_FEED", "Check", "Checklist", "check_key", "check_rest", "check_venue"]

PRIVATE_FEED = "open_positions"
"""Any would do; its snapshot is short."""
KEY_WITHIN_S = 25.0
"""A challenge, an answer, and both once more: the session's own deadlines are 10 s each."""
PINGS = 20
BEAT_WITHIN_S = 10.0
CLOCK_MAY_DIFFER_MS = 1000
TICKER = "/derivatives/api/v3/tickers/PF_XBTUSD"

State = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, and what was found."""

    name: str
    state: State
    found: str
    mend: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    """For machines."""
    error: KfwsError | None = None

    @classmethod
    def failed(cls, name: str, error: KfwsError) -> Check:
        mend = error.hint or "try again; --debug shows more"
        return cls(name, "failed", error.message, mend, error=error)


class Checklist:
    """Prints checks as they come, and knows how it went."""

    def __init__(self, env: Env, format: Format) -> None:
        if format is Format.auto:
            format = Format.table if env.stdout_is_terminal else Format.ndjson
        self._env = env
        self._format = format
        self._count = 0
        self._failed: list[Check] = []

    def add(self, check: Check) -> None:
        if self._format is Format.csv and not self._count:
            self._env.print(as_csv(("check", "state", "found", "mend"), []))
        self._count += 1
        if check.state == "failed":
            self._failed.append(check)
        text = _written(check, self._format)
        if self._format is Format.csv and self._env.stdout_is_terminal:
            text = printable_lines(text)
        self._env.print(text)

    def end(self) -> None:
        """Raises Unreachable, Unwelcome or UsageError, as the first that failed."""
        if not self._failed:
            return
        error = self._failed[0].error
        kinds = (kind for kind in (Unwelcome, UsageError) if isinstance(error, kind))
        names = ", ".join(each.name for each in self._failed)
        raise next(kinds, Unreachable)(
            f"{len(self._failed)} of {self._count} checks failed: {names}",
            hint="what to do stands beside each",
        )


def _written(check: Check, format: Format) -> str:
    if format is Format.table:
        lines = [f"{check.state:<8} {check.name:<12} {check.found}"]
        if check.mend:
            lines.append(f"{'':<21} → {check.mend}")
        return "".join(f"{printable(line).rstrip()}\n" for line in lines)
    cells = {
        "check": check.name,
        "state": check.state,
        "found": check.found,
        "mend": check.mend,
    }
    if format is Format.csv:
        return as_csv(list(cells.values()), [])
    return as_json(cells | check.facts, format)


# The key


async def check_key(target: Target, key: Credentials) -> AsyncGenerator[Check]:
    """A dry run of a private feed: a challenge, its signature, and the venue's word on it."""
    live = Live(target, [Subscription(PRIVATE_FEED)], key, attempts=1)
    name = "connection"
    try:
        async with asyncio.timeout(KEY_WITHIN_S), aclosing(live.events()) as batches:
            async for events in batches:
                for event in events:
                    match event:
                        case Opened():
                            yield Check(name, "ok", f"a WebSocket to {target.place}")
                            name = "challenge"
                        # One that comes again, for an answer that was not taken, is no news.
                        case Notice(event="challenge") if name == "challenge":
                            yield Check(name, "ok", "came, and was signed")
                            name = "private feed"
                        case Subscribed(feed=feed) if feed == PRIVATE_FEED:
                            yield Check(name, "ok", f"{feed} acknowledged: the key is good")
                            return
                        case Redial():
                            raise Unreachable(event.reason, hint="try again")
    except TimeoutError:
        yield Check.failed(name, Unreachable(f"{target.place} gave no answer", hint="try again"))
    except KfwsError as exc:
        yield Check.failed(name, exc)


# The way to the venue


async def check_venue(target: Target) -> AsyncGenerator[Check]:
    """From the name of the venue to its clock."""
    visit = _Visit(target)
    steps: tuple[tuple[str, Callable[[], Awaitable[Check]]], ...] = (
        ("name lookup", visit.look_up),
        ("tcp", visit.connect),
        ("tls", visit.shake_hands),
        ("websocket", visit.open),
        ("round trip", visit.ping),
        ("clock", visit.compare_clocks),
    )
    barrier = ""
    try:
        for name, step in steps:
            if barrier:
                yield Check(name, "skipped", f"needs {barrier}")
                continue
            try:
                yield await step()
            except KfwsError as exc:
                barrier = name
                yield Check.failed(name, exc)
            except OSError as exc:  # of sockets, TLS and time
                barrier = name
                yield Check.failed(name, network_failure(exc, target))
    finally:
        await visit.leave()


class _Visit:
    """One look at a venue. Each step gives what it found, or raises KfwsError or OSError."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connection: Connection | None = None
        self._round_trip_ms = 0.0
        # Behind a proxy the venue's name is the proxy's affair.
        parts = urlsplit(target.proxy or target.url)
        self._host = parts.hostname or ""
        self._port = parts.port or _PORTS.get(parts.scheme, 1080)

    async def look_up(self) -> Check:
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._target.open_timeout_s):
            found = await loop.getaddrinfo(self._host, self._port)
        took_ms = _ms_since(began)
        addresses = [*dict.fromkeys(str(each[4][0]) for each in found)]
        more = f" and {len(addresses) - 1} more" if len(addresses) > 1 else ""
        said = f"{self._host} is {addresses[0]}{more}, in {took_ms} ms"
        return Check("name lookup", "ok", said, facts={"addresses": addresses, "ms": took_ms})

    async def connect(self) -> Check:
        began = time.monotonic()
        async with asyncio.timeout(self._target.open_timeout_s):
            _, writer = await asyncio.open_connection(self._host, self._port)
        took_ms = _ms_since(began)
        writer.close()
        said = f"{self._target.dialled} took the connection, in {took_ms} ms"
        return Check("tcp", "ok", said, facts={"ms": took_ms})

    async def shake_hands(self) -> Check:
        target = self._target
        if not target.is_secure:
            return Check("tls", "skipped", f"{target.place} is spoken to without TLS")
        if target.proxy is not None:
            return Check("tls", "skipped", "inside the proxy's tunnel; see websocket")
        context = tls_context(target.ca_file)
        async with asyncio.timeout(target.open_timeout_s):
            _, writer = await asyncio.open_connection(self._host, self._port, ssl=context)
        found: ssl.SSLObject = writer.get_extra_info("ssl_object")
        version, certificate = found.version() or "", found.getpeercert() or {}
        writer.transport.abort()
        until = str(certificate.get("notAfter", ""))
        facts = {"version": version, "cipher": (found.cipher() or [""])[0], "valid_until": until}
        return Check("tls", "ok", f"{version}, certificate good until {until}", facts=facts)

    async def open(self) -> Check:
        began = time.monotonic()
        self._connection = await dial(self._target)
        took_ms = _ms_since(began)
        said = f"{self._target.place} speaks WebSocket, after {took_ms} ms"
        return Check("websocket", "ok", said, facts={"ms": took_ms})

    async def ping(self) -> Check:
        took = []
        async with asyncio.timeout(self._target.open_timeout_s):  # all of them
            for _ in range(PINGS):
                took.append(1000 * await self._standing.round_trip_s())
        p50, p99 = round(median(took), 2), round(max(took), 2)
        self._round_trip_ms = p50
        facts = {"pings": PINGS, "p50_ms": p50, "p99_ms": p99}
        return Check("round trip", "ok", f"{PINGS} pings: p50 {p50} ms, p99 {p99} ms", facts=facts)

    async def compare_clocks(self) -> Check:
        """By a heartbeat, which takes half a round trip to come here."""
        async with asyncio.timeout(BEAT_WITHIN_S):
            beat = await _first_beat(self._standing)
        assert beat.venue_ms is not None  # noqa: S101  # _first_beat sees to it
        ahead_ms = round(beat.received_ns / 1e6 - beat.venue_ms - self._round_trip_ms / 2)
        said = f"{abs(ahead_ms)} ms {'ahead of' if ahead_ms > 0 else 'behind'} the venue's"
        if abs(ahead_ms) < CLOCK_MAY_DIFFER_MS:
            return Check("clock", "ok", said, facts={"ahead_ms": ahead_ms})
        mend = "set the clock by the network's time, e.g. `timedatectl set-ntp true`"
        return Check("clock", "warning", said, mend, {"ahead_ms": ahead_ms})

    @property
    def _standing(self) -> Connection:
        assert self._connection is not None  # noqa: S101  # a step of its own opens it
        return self._connection

    async def leave(self) -> None:
        if self._connection is not None:
            await self._connection.leave()


_PORTS = {"wss": 443, "ws": 80, "https": 443, "http": 80}


def _ms_since(began: float) -> float:
    return round(1000 * (time.monotonic() - began), 1)


async def _first_beat(connection: Connection) -> Data:
    session = Session([Subscription("heartbeat")])
    while not connection.ended:
        for request in session.outgoing(time.monotonic_ns()):
            connection.say(request)
        await connection.wait()
        while read := connection.take():
            for event in session.receive(read.frames, read.received_ns):
                if isinstance(event, Data) and event.venue_ms is not None:
                    return event
    raise Unreachable("the connection was lost", hint="try again")


async def check_rest(base: str, target: Target, proxy: str | None) -> Check:
    """Whether REST answers, with a public ticker."""
    from kfws.rest import Rest, judge

    began = time.monotonic()
    try:
        async with Rest(base, proxy=proxy, ca_file=target.ca_file) as rest:
            status, body = await rest.fetch("GET", TICKER, auth=False)
        if status in (401, 403):  # it was not signed, so no key is to blame
            raise status_failure(status, "", Route(base, proxy, target.ca_file))
        judge(status, body.decode(errors="replace"))
    except KfwsError as exc:
        return Check.failed("rest", exc)
    took_ms = _ms_since(began)
    place = without_password(base)
    return Check("rest", "ok", f"{place} answers, in {took_ms} ms", facts={"ms": took_ms})
