"""``--metrics``: what a run adds up to, for Prometheus, over a tiny HTTP answer.

Rule of this room: nothing is counted here. A page is made of what the run knows when one is
asked for; who does not ask costs nothing.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import accumulate

from kfws import __version__
from kfws.cli.totals import DELAY_BOUNDS_MS, Totals
from kfws.errors import UsageError

__all__ = ["Standing", "exposition", "serve_metrics", "why_deaf"]

# A page is asked for every few seconds by one program, or by somebody with a browser.
MOST_VISITORS = 16
PATIENCE_S = 5.0
MOST_REQUEST_BYTES = 16_384

Samples = Iterable[tuple[Mapping[str, str], float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a run stands at a moment, beside its totals. Moments in seconds since the epoch."""

    started_at: float
    buffered: int = 0
    """Bytes that came and were not taken yet."""
    pending: Mapping[str, int] = field(default_factory=dict)
    """Bytes that are not out yet, by the name of the output."""
    output_errors: Mapping[str, int] = field(default_factory=dict)
    """How often each thing went wrong at an output."""
    ages_s: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """Since the last message of a feed and product (empty: none), or since the start."""


def exposition(totals: Totals, standing: Standing) -> str:
    """A page in the text format of Prometheus, version 0.0.4."""
    return "".join(line + "\n" for each in _families(totals, standing) for line in each)


def _families(totals: Totals, standing: Standing) -> Iterator[Iterator[str]]:
    info = {"version": __version__}
    yield _family("kfws_info", "gauge", "The program.", [(info, 1)])
    yield _one("kfws_start_time_seconds", "gauge", "When the run began.", standing.started_at)
    for name, what, value in (
        ("messages", "Messages that were passed on.", totals.messages),
        ("bytes", "Bytes of these messages, as they came.", totals.bytes),
        ("gaps", "Gaps: what is missing, healed or cannot be proven.", totals.gaps),
        ("missing_messages", "Messages that never came.", totals.missing),
        ("healed_messages", "Messages that a snapshot or another connection had.", totals.healed),
        ("unprovable_intervals", "Outages of feeds without numbers.", totals.unprovable),
        ("dropped_messages", "Messages dropped for a slow reader.", totals.dropped),
        ("restarts", "Counters of the venue that began anew.", totals.restarts),
        ("duplicates", "Messages that came twice and were left out.", totals.duplicates),
        ("broken_frames", "Frames that are no JSON object.", totals.broken),
        ("refused_subscriptions", "Subscriptions that the venue turned down.", totals.refused),
        ("connections_opened", "Connections that stood.", totals.connections),
        ("reconnects", "Connections that stood again after one was lost.", totals.reconnects),
    ):
        yield _one(f"kfws_{name}_total", "counter", what, value)
    standing_now = totals.connections - totals.closed
    yield _one("kfws_connections", "gauge", "Connections that stand.", standing_now)
    yield _histogram(totals)
    waits = "Bytes that came and wait to be taken."
    yield _one("kfws_buffered_bytes", "gauge", waits, standing.buffered)
    pending = [({"output": name}, size) for name, size in standing.pending.items()]
    yield _family("kfws_output_pending_bytes", "gauge", "Bytes that wait for an output.", pending)
    errors = [({"kind": kind}, times) for kind, times in standing.output_errors.items()]
    yield _family("kfws_output_errors_total", "counter", "What went wrong at outputs.", errors)
    ages = [
        ({"feed": feed, "product": product}, age)
        for (feed, product), age in standing.ages_s.items()
    ]
    since = "Since the last message, or the start."
    yield _family("kfws_last_message_age_seconds", "gauge", since, ages)


def _one(name: str, kind: str, what: str, value: float) -> Iterator[str]:
    return _family(name, kind, what, [({}, value)])


def _family(name: str, kind: str, what: str, samples: Samples) -> Iterator[str]:
    yield f"# HELP {name} {what}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        yield f"{name}{_labels(labels)} {_number(value)}"


def _histogram(totals: Totals) -> Iterator[str]:
    name = "kfws_delay_seconds"
    bounds = [f"{bound / 1000:g}" for bound in DELAY_BOUNDS_MS] + ["+Inf"]
    counts, sum_ms = totals.delays_by_class()
    below = list(accumulate(counts))
    yield f"# HELP {name} From the venue's time to here, sampled once per batch."
    yield f"# TYPE {name} histogram"
    for bound, count in zip(bounds, below, strict=True):
        yield f'{name}_bucket{{le="{bound}"}} {count}'
    yield f"{name}_sum {_number(sum_ms / 1000)}"
    yield f"{name}_count {below[-1]}"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(round(value, 3))


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


# HTTP


@asynccontextmanager
async def serve_metrics(host: str, port: int, page: Callable[[], str]) -> AsyncIterator[str]:
    """Answers GET /metrics with the page of that moment; gives the address of it.

    Raises UsageError where nothing can listen there.
    """
    visits: set[asyncio.Task[None]] = set()

    def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(visits) >= MOST_VISITORS:
            writer.close()
            return
        visit = asyncio.create_task(_answer(reader, writer, page))
        visits.add(visit)
        visit.add_done_callback(visits.discard)

    try:
        server = await asyncio.start_server(welcome, host, port, limit=MOST_REQUEST_BYTES)
    except OSError as exc:
        raise UsageError(
            f"--metrics cannot listen at {host}:{port}: {why_deaf(exc)}",
            hint="another port, e.g. 0 for any free one",
        ) from exc
    try:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"
    finally:
        server.close()
        for visit in visits:
            visit.cancel()
        await asyncio.gather(*visits, return_exceptions=True)


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, page: Callable[[], str]
) -> None:
    """One request, one answer, and the connection is closed."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            request = await reader.readuntil(b"\r\n\r\n")
            writer.write(_response(request, page))
            await writer.drain()
            writer.close()
            await writer.wait_closed()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass  # whoever asked is gone, or never asked anything
    finally:
        writer.transport.abort()


def _response(request: bytes, page: Callable[[], str]) -> bytes:
    method, _, rest = request.split(b"\r\n")[0].partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if method not in (b"GET", b"HEAD"):
        status, text = "405 Method Not Allowed", "only GET\n"
    elif path != b"/metrics":
        status, text = "404 Not Found", "it is at /metrics\n"
    else:
        status, text = "200 OK", page()
    body = text.encode(errors="replace")
    head = (
        f"HTTP/1.1 {status}\r\n"
        "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + (b"" if method == b"HEAD" else body)


def why_deaf(error: OSError) -> str:
    """Why nothing can listen at a place; the loop's own sentence names the place once more."""
    if error.errno == errno.EADDRINUSE:
        return "something else listens there already"
    known = error.errno in errno.errorcode
    return os.strerror(error.errno or 0).lower() if known else error.strerror or str(error)
