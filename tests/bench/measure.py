"""What one run of a client costs, end to end to ``| cat >/dev/null``.

The client runs alone on one core; the server and the reader of its pipe share the other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.bench.load import Load

__all__ = ["CLIENT_CORE", "OTHER_CORE", "ClientFailed", "Cost", "measure", "pinned", "serving"]

# None where the system cannot pin, or has one core: the numbers then swing more.
CLIENT_CORE: int | None = None
OTHER_CORE: int | None = None
if sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1:
    OTHER_CORE, CLIENT_CORE, *_ = sorted(os.sched_getaffinity(0))

# A client that hangs must not hang the whole run; the slowest known needs 50 µs a message.
LIMIT_S = 120.0


class ClientFailed(Exception):
    """A client ended with another status than 0; the text says which, and its last words."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one run, or per message: CPU (user and system) of the client alone, and wall time."""

    cpu_s: float
    wall_s: float

    def per_message(self, start_up: Cost, messages: int) -> Cost:
        """The cost of each of ``messages`` more messages than the start-up run had."""
        return Cost(
            (self.cpu_s - start_up.cpu_s) / messages, (self.wall_s - start_up.wall_s) / messages
        )


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Processes started inside run on this core; a child inherits the mask of its parent."""
    if core is None or sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def serving(loads: list[Load]) -> Iterator[dict[Load, str]]:
    """The load server in its own process; gives the URL of each load."""
    command = [sys.executable, "-m", "tests.bench.load"]
    with pinned(OTHER_CORE):
        server = subprocess.Popen(
            [*command, *map(str, loads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    with server:  # leaving closes its stdin, on which it ends
        assert server.stdout is not None
        ports = json.loads(server.stdout.readline())
        yield {
            load: f"ws://127.0.0.1:{port}/ws/v1" for load, port in zip(loads, ports, strict=True)
        }


def measure(argv: list[str]) -> Cost:
    """Runs a client to its end; raises ClientFailed if that is no good one."""
    read_end, write_end = os.pipe()
    with pinned(OTHER_CORE):
        cat = subprocess.Popen(["cat"], stdin=read_end, stdout=subprocess.DEVNULL)
    os.close(read_end)
    with cat:
        try:
            return run_to_end(argv, write_end)
        finally:
            os.close(write_end)


def run_to_end(argv: list[str], stdout: int) -> Cost:
    with tempfile.TemporaryFile() as stderr:
        started_at = time.perf_counter()
        with pinned(CLIENT_CORE):
            client = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
        watchdog = threading.Timer(LIMIT_S, client.kill)
        watchdog.start()
        _, status, usage = os.wait4(client.pid, 0)
        wall_s = time.perf_counter() - started_at
        watchdog.cancel()
        client.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait again
        if client.returncode:
            stderr.seek(0)
            words = stderr.read().decode(errors="replace").strip()[-400:]
            raise ClientFailed(f"status {client.returncode}: {words}")
    return Cost(usage.ru_utime + usage.ru_stime, wall_s)
