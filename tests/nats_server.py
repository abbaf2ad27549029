"""A real nats-server with JetStream on a free loopback port, its storage in a folder of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.needs import need

PATIENCE_S = 30


class NatsServer:
    """``kill`` and ``start`` as often as a test likes: the port and the storage stay."""

    def __init__(self, folder: Path, config: str = "") -> None:
        self._program = need("nats-server")
        self._folder = folder
        self._config = folder / "server.conf"
        folder.mkdir(parents=True, exist_ok=True)
        self._config.write_text(f'jetstream {{ store_dir: "{folder}/js" }}\n{config}\n')
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
def nats_server(folder: Path, config: str = "") -> Iterator[NatsServer]:
    server = NatsServer(folder, config)
    server.start()
    try:
        yield server
    finally:
        server.stop(signal.SIGKILL)
