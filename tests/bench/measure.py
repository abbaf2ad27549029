"""What one run of a client costs, end to end to ``| cat >/dev/null``.

The client runs alone on one core; the server and the reader of its pipe share the other.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import trustme

from tests.bench.load import Load

__all__ = [
    *("CLIENT_CORE", "OTHER_CORE", "ClientFailed", "Cost", "Server"),
    *("cpu_of", "measure", "pinned", "run_to_end", "serving", "silent_stdin"),
]

# None where the system cannot pin, or has one core: the numbers then swing more.
CLIENT_CORE: int | None = None
OTHER_CORE: int | None = None
if sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1:
    OTHER_CORE, CLIENT_CORE, *_ = sorted(os.sched_getaffinity(0))

# A client that hangs must not hang the whole run; the slowest known needs 50 µs a message.
LIMIT_S = 60.0
LOOK_EVERY_S = 0.03


class ClientFailed(Exception):
    """A client ended with another status than 0; the text says which, and its last words."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one run, or per message: CPU (user and system) of the client alone, and wall time."""

    cpu_s: float
    wall_s: float
    peak_mb: float = 0.0
    """The most memory that was resident, MiB; of a message: of the run that had it."""

    @property
    def rate(self) -> float:
        """So many a second; 0 where the time drowned in that of the start-up."""
        return 1 / self.wall_s if self.wall_s > 0 else 0.0

    def per_message(self, start_up: Cost, messages: int) -> Cost:
        """The cost of each of ``messages`` more messages than the start-up run had."""
        return Cost(
            (self.cpu_s - start_up.cpu_s) / messages,
            (self.wall_s - start_up.wall_s) / messages,
            self.peak_mb,
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


@dataclass(frozen=True, slots=True)
class Server:
    """A load server that runs: where its loads are, and when one begins."""

    urls: dict[Load, str]
    ca_file: Path
    told: IO[bytes]

    def wait_for_start(self) -> None:
        """Until the load of the client that runs now begins to leave."""
        if not select.select([self.told], [], [], LIMIT_S)[0]:
            raise ClientFailed(f"it did not subscribe within {LIMIT_S:g} s")
        self.told.readline()


@contextmanager
def serving(loads: Iterable[Load]) -> Iterator[Server]:
    """The load server in its own process."""
    loads = [*dict.fromkeys(loads)]
    with tempfile.TemporaryDirectory() as folder:
        certificate, ca_file = Path(folder, "server.pem"), Path(folder, "ca.pem")
        issue(certificate, ca_file)
        command = [sys.executable, "-m", "tests.bench.load", str(certificate)]
        with pinned(OTHER_CORE):
            server = subprocess.Popen(
                [*command, *map(str, loads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        with server:  # leaving closes its stdin, on which it ends
            assert server.stdout is not None
            ports = json.loads(server.stdout.readline())
            urls = {
                load: f"{'wss' if load.tls else 'ws'}://127.0.0.1:{port}/ws/v1"
                for load, port in zip(loads, ports, strict=True)
            }
            yield Server(urls, ca_file, server.stdout)


def issue(certificate: Path, ca_file: Path) -> None:
    """A certificate for 127.0.0.1, and who vouches for it."""
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    authority.cert_pem.write_to_path(ca_file)


def measure(argv: Sequence[str], *, since: Callable[[], None] | None = None) -> Cost:
    """Runs a client to its end; raises ClientFailed if that is no good one.

    ``since`` waits for the moment from which on the cost counts.
    """
    read_end, write_end = os.pipe()
    with pinned(OTHER_CORE):
        cat = subprocess.Popen(["cat"], stdin=read_end, stdout=subprocess.DEVNULL)
    os.close(read_end)
    with cat:
        try:
            return run_to_end(argv, write_end, since=since)
        finally:
            os.close(write_end)


def run_to_end(
    argv: Sequence[str], stdout: int, *, since: Callable[[], None] | None = None
) -> Cost:
    with tempfile.TemporaryFile() as stderr, silent_stdin() as stdin:
        started_at, spent_s = time.perf_counter(), 0.0
        with pinned(CLIENT_CORE):
            client = subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=stderr)
        watchdog = threading.Timer(LIMIT_S, client.kill)
        watchdog.start()
        if since is not None:
            since()
            started_at, spent_s = time.perf_counter(), cpu_of(client.pid)
        with peak_of(client.pid) as peak:
            _, status, usage = os.wait4(client.pid, 0)
            wall_s = time.perf_counter() - started_at
        watchdog.cancel()
        client.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait again
        if client.returncode:
            stderr.seek(0)
            words = stderr.read().decode(errors="replace").strip()[-400:]
            raise ClientFailed(f"status {client.returncode}: {words}")
    return Cost(usage.ru_utime + usage.ru_stime - spent_s, wall_s, peak())


@contextmanager
def silent_stdin() -> Iterator[int]:
    """For clients that leave at the end of their stdin: nothing comes from it, and no end."""
    read_end, write_end = os.pipe()
    try:
        yield read_end
    finally:
        os.close(read_end)
        os.close(write_end)


@contextmanager
def peak_of(pid: int) -> Iterator[Callable[[], float]]:
    """The most memory that was resident in a process of ours, MiB; Linux only, else 0.

    Looked up while it lives: what the system tells at its end holds its parent's memory as well.
    """
    status, peak_mb, ended = Path(f"/proc/{pid}/status"), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak_mb
        while not ended.wait(LOOK_EVERY_S):
            with suppress(OSError):
                for line in status.read_bytes().splitlines():
                    if line.startswith(b"VmHWM:"):
                        peak_mb = int(line.split()[1]) / 1024

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: peak_mb
    finally:
        ended.set()
        watcher.join()


def cpu_of(pid: int) -> float:
    """CPU seconds that a process of ours has had, all its threads; Linux only."""
    return time.clock_gettime((~pid << 3) | 2)  # CPUCLOCK_SCHED, as clock_getcpuclockid(3) makes it
