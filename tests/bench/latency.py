"""From the venue's write to the line that is read, message by message.

One process is venue and reader, and spins, so no scheduler stands between: whenever a message is
due it is written, else what the client has printed is read. Each message carries the moment of its
own write in a key that nobody looks at (``sent_ns``, of a clock that only goes forward).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from tests.bench import yard
from tests.bench.clients import OURS, PLAIN, Client, Place, floor, kfws
from tests.bench.figures import Bench, spread, table
from tests.bench.load import CLOSE, TEXT, Load, accept, acknowledgement, encode, payloads
from tests.bench.measure import CLIENT_CORE, LIMIT_S, OTHER_CORE, ClientFailed, cpu_of, pinned

__all__ = ["RATES", "latency"]

RATES = (1_000, 10_000, 50_000)
SECONDS = 2
MOST_ROUNDS, ALL_SECONDS = 3, 80
# What a client still holds when the last message was written must come within this.
TAIL_S = 2
CLIENTS = (
    Client("C floor", floor, needs=yard.FLOOR),
    OURS,
    Client("kfws --loop uvloop", kfws("--loop", "uvloop")),
    PLAIN,
)
MARK = b'"sent_ns":'
DIGITS = 19


@dataclass(frozen=True, slots=True)
class Seen:
    """Of one run: delays in µs, in order; the share of a core; and how long the last line took
    to come after the last message was written, in ms."""

    delays_us: list[float]
    share: float
    tail_ms: float


def latency(bench: Bench) -> str:
    seconds = min(SECONDS, bench.messages / max(RATES))
    for _ in bench.turns(MOST_ROUNDS, ALL_SECONDS, "latency"):
        for rate in RATES:
            for client in CLIENTS:
                if not client.is_there or (client is PLAIN and rate > RATES[1]):
                    continue  # the plain client cannot hold that
                try:
                    keep(bench, f"{rate} {client.name}", seen_by(client, rate, seconds))
                except ClientFailed as failure:
                    bench.say(f"latency at {rate:,} a second: {failure}")
    return shown(bench)


def keep(bench: Bench, name: str, seen: Seen) -> None:
    cuts = quantiles(seen.delays_us, n=100)
    bench.add(f"latency {name} p50", cuts[49])
    bench.add(f"latency {name} p99", cuts[98])
    bench.add(f"latency {name} max", max(seen.delays_us) / 1000)
    bench.add(f"latency {name} core", seen.share * 100)
    bench.add(f"latency {name} tail", seen.tail_ms)


def shown(bench: Bench) -> str:
    header = ("a second", "client", "p50 µs", "p99 µs", "max ms", "% of a core", "last line ms")
    rows = []
    for rate in RATES:
        for client in CLIENTS:
            name = f"latency {rate} {client.name}"
            if f"{name} p50" in bench.figures:
                kinds = (
                    ("p50", ".0f"),
                    ("p99", ".0f"),
                    ("max", ".1f"),
                    ("core", ".0f"),
                    ("tail", ".1f"),
                )
                cells = [spread(bench.figures[f"{name} {kind}"], form) for kind, form in kinds]
                rows.append((f"{rate:,}", client.name, *cells))
    return table(header, rows)


def seen_by(client: Client, rate: int, seconds: float) -> Seen:
    """Raises ClientFailed where not every message came out."""
    load = Load("book", int(rate * seconds))
    with socket.create_server(("127.0.0.1", 0)) as listening, tempfile.TemporaryFile() as stderr:
        url = f"ws://127.0.0.1:{listening.getsockname()[1]}/ws/v1"
        argv = client.command(Place(url, load, Path(), Path()))
        with pinned(CLIENT_CORE):
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr
            )
        try:
            with pinned(OTHER_CORE):
                listening.settimeout(LIMIT_S)
                venue, _ = listening.accept()
                with venue:
                    greet(venue, load)
                    return converse(client, process, venue, load, rate)
        except OSError as exc:
            raise ClientFailed(f"{client.name}: {exc}") from exc
        finally:
            process.kill()
            process.communicate()


def greet(venue: socket.socket, load: Load) -> None:
    """Handshake and acknowledgements, until the load was asked for."""
    venue.settimeout(LIMIT_S)
    venue.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with venue.makefile("rb") as stream:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += stream.readline()
        venue.sendall(accept(head) + encode(TEXT, b'{"event":"info","version":1}'))
        asked = ""
        while asked != load.feed:
            first, second = stream.read(2)
            size = second & 0x7F
            if size == 126:
                size = int.from_bytes(stream.read(2))
            mask, masked = stream.read(4), stream.read(size)
            text = bytes(byte ^ mask[i % 4] for i, byte in enumerate(masked))
            if first & 0x0F == TEXT:
                request = json.loads(text)
                asked = request["feed"]
                venue.sendall(encode(TEXT, acknowledgement(request)))


def marked(load: Load) -> Iterator[tuple[bytes, bytes]]:
    """The frames of a load, in front of their moment and behind it."""
    for payload in payloads(load):
        frame = encode(TEXT, payload[:-1] + b"," + MARK + b" " * DIGITS + b"}")
        yield frame[: -DIGITS - 1], b"}"


def converse(
    client: Client, process: subprocess.Popen[bytes], venue: socket.socket, load: Load, rate: int
) -> Seen:
    assert process.stdout is not None
    out = process.stdout.fileno()
    os.set_blocking(out, False)
    frames = [*marked(load)]
    reads: list[tuple[int, bytes]] = []
    now, send, read = time.monotonic_ns, venue.sendall, os.read
    step, spent_s = 1_000_000_000 // rate, cpu_of(process.pid)
    began = due = now()
    missing = len(frames)
    for before, behind in frames:
        while (moment := now()) < due:
            try:
                piece = read(out, 1 << 20)
            except BlockingIOError:
                continue
            reads.append((now(), piece))
            missing -= piece.count(b"\n")  # here: to count them all in the end takes many ms
        send(before + b"%*d" % (DIGITS, moment) + behind)
        due += step
    sent = now()
    share = (cpu_of(process.pid) - spent_s) / ((sent - began) / 1e9)
    while missing > 0 and now() < sent + TAIL_S * 1_000_000_000:
        try:
            piece = read(out, 1 << 20)
        except BlockingIOError:
            continue
        if not piece:
            break
        reads.append((now(), piece))
        missing -= piece.count(b"\n")
    send(encode(CLOSE, b"\x03\xe8"))
    if missing > 0:
        raise ClientFailed(f"{client.name}: {missing} of {len(frames)} lines did not come")
    return Seen([*delays(reads)], share, (reads[-1][0] - sent) / 1e6)


def delays(reads: list[tuple[int, bytes]]) -> Iterator[float]:
    """Of each line, from its write to the read that brought its end; in µs."""
    rest = b""
    for came, piece in reads:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield (came - int(line[-DIGITS - 1 : -1])) / 1000
