"""Real nats-servers with JetStream on free loopback ports, each with a folder of its own."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from tests.needs import need

PATIENCE_S = 30


class NatsServer:
    """``kill`` and ``start`` as often as a test likes: the port and the storage stay."""

    def __init__(self, folder: Path, config: str = "", *, name: str = "", store: str = "") -> None:
        """``store``: further settings of JetStream's storage."""
        self._program = need("nats-server")
        self._folder = folder
        self._config = folder / "server.conf"
        self.name = name
        folder.mkdir(parents=True, exist_ok=True)
        named = f"server_name: {name}\n" if name else ""
        self._config.write_text(
            f'{named}jetstream {{ store_dir: "{folder}/js"\n{store} }}\n{config}\n'
        )
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self.port = -1

    @property
    def host(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"{self.host}/kraken"

    def start(self) -> None:
        """Returns when it is ready."""
        self._process = subprocess.Popen(
            [self._program, "-c", self._config, "-a", "127.0.0.1", "-p", str(self.port)],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        lines = []
        for line in self._process.stderr:
            lines.append(line)
            found = re.search(r"client connections on 127\.0\.0\.1:(\d+)", line)
            self.port = int(found[1]) if found else self.port
            if "Server is ready" in line:
                break
        else:
            raise AssertionError("".join(lines))
        self._reader = threading.Thread(target=_read_on, args=(self._process.stderr,))
        self._reader.start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_up(self) -> bool:
        return self._process is not None

    def pause(self) -> None:
        """It stands still, as one does that is cut off: its sockets stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> None:
        if self._process is None:
            return
        self._process.send_signal(signum)
        self._process.wait(PATIENCE_S)
        assert self._reader is not None
        self._reader.join(PATIENCE_S)
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._process = None


def _read_on(log: IO[str]) -> None:
    """A log that nobody reads would hold the server up."""
    for _ in log:
        pass


@contextmanager
def nats_server(
    folder: Path, config: str = "", *, name: str = "", store: str = ""
) -> Iterator[NatsServer]:
    server = NatsServer(folder, config, name=name, store=store)
    server.start()
    try:
        yield server
    finally:
        server.stop(signal.SIGKILL)


@contextmanager
def nats_cluster(
    folder: Path, members: int = 3, *, store: str = ""
) -> Iterator[Sequence[NatsServer]]:
    """So many servers as one cluster, named n1, n2, …; a cluster of one is a server alone."""
    if members == 1:
        with nats_server(folder / "n1", name="n1", store=store) as server:
            yield [server]
        return
    ports = free_ports(members)
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                nats_server(
                    folder / f"n{number}",
                    f'cluster {{ name: c, listen: "127.0.0.1:{port}", routes: [{routes}] }}',
                    name=f"n{number}",
                    store=store,
                )
            )
            for number, port in enumerate(ports, 1)
        ]


def free_ports(count: int) -> list[int]:
    """Ports that are free now: the members of a cluster have to know each other's beforehand."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
