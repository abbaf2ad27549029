"""The page about JetStream: its compose file and its units run as they stand there."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.program import KFWS, PATIENCE_S, environment, run
from tests.nats_server import free_ports, nats_server
from tests.needs import need
from tests.test_service import settings, verified

DOCS = Path(__file__).parent.parent / "docs"
UNITS = ("kfws-recorder@.service", "kfws-reader.service")


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCS / "compose.yaml").read_text())["services"]
    return found


def test_the_compose_file_has_all_that_the_page_draws() -> None:
    found = services()
    kinds = [each.get("image") or each["build"]["dockerfile"] for each in found.values()]
    assert kinds.count("nats:2.10") == 3
    assert kinds.count("docs/Dockerfile") == len(found) - 3
    assert {"venue", "west", "east", "desk"} < found.keys()
    for each in found.values():
        assert all(other in found for other in each.get("depends_on", ()))
        for volume in each.get("volumes", ()):
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (DOCS / source).exists()


class Composed:
    """The services as processes on loopback: every address of the file has a port here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._services = services()
        texts = " ".join(each["command"] for each in self._services.values())
        places = sorted(set(re.findall(r"\b(?:nats-\d|venue):\d+", texts)))
        self._ports = dict(zip(places, free_ports(len(places)), strict=True))

    def command(self, name: str) -> list[str]:
        (self.folder / name).mkdir(exist_ok=True)
        service = self._services[name]
        text = service["command"]
        for place, port in self._ports.items():
            host, number = place.split(":")
            text = text.replace(place, f"127.0.0.1:{port}")
            if host == name:
                text = text.replace(f"0.0.0.0:{number}", f"127.0.0.1:{port}")
                text = re.sub(rf"(-p|--port) {number}\b", rf"\1 {port}", text)
        text = re.sub(r"\b0\.0\.0\.0\b", "127.0.0.1", text)
        text = text.replace("/data", f"{self.folder}/{name}")
        text = text.replace("/var/lib/kfws", f"{self.folder}/{name}")
        text = text.replace("/etc/kfws/stream.json", f"{DOCS}/stream.json")
        program = [need("nats-server"), "-a", "127.0.0.1"] if "image" in service else [*KFWS]
        return [*program, *shlex.split(text)]

    @contextmanager
    def up(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        with (self.folder / f"{name}.err").open("wb") as err:
            process = subprocess.Popen(self.command(name), stderr=err, env=environment())
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE_S)
            finally:
                process.kill()


@pytest.mark.timeout(120)
def test_what_the_compose_file_starts_records_and_is_read(tmp_path: Path) -> None:
    composed = Composed(tmp_path)
    with ExitStack() as stack:
        for name in ("nats-1", "nats-2", "nats-3", "venue", "west", "east"):
            stack.enter_context(composed.up(name))
        desk = [*composed.command("desk"), "-n", "300"]
        for _ in range(PATIENCE_S):  # until a recorder has made the stream it ends with 3
            done = subprocess.run(desk, capture_output=True, text=True, env=environment())
            if done.returncode != 3:
                break
        assert done.returncode == 0, done.stderr
    kept = {path.name for path in (tmp_path / "desk").iterdir()}
    assert {"book", "trade"} >= {name.partition(".")[0] for name in kept} > set()
    for name in ("west", "east"):
        assert "Traceback" not in (tmp_path / f"{name}.err").read_text()


def unit_command(name: str, folder: Path, address: str) -> list[str]:
    """What a unit starts, with folders and server of this test."""
    text = settings(DOCS / name)["Service"]["ExecStart"].replace("%i", "1")
    text = re.sub(r"/var/lib/kfws[^/ ]*", str(folder), text)
    program, *args = shlex.split(text.replace("nats://localhost:4222/kraken", address))
    assert program == "/usr/local/bin/kfws"
    return args


def test_what_the_units_run_are_commands_that_work(tmp_path: Path) -> None:
    with nats_server(tmp_path / "server") as server:
        for name in UNITS:
            args = unit_command(name, tmp_path, server.address)
            more = ("--from-seq", "1", "-n", "20") if "reader" in name else ("-n", "1000")
            done = run(*args, *more, "--env", "sim")
            assert done.returncode == 0, done.stderr
    assert not (tmp_path / "spool.ndjson").exists()
    assert [*tmp_path.glob("*.ndjson.zst")]


@pytest.mark.parametrize("name", UNITS)
def test_systemd_itself_has_nothing_to_say_about_the_units(name: str, tmp_path: Path) -> None:
    assert verified(DOCS / name, tmp_path) == []
