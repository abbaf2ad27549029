"""The examples of ``--help``, typed as they stand: they do what is said, at the simulator."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from kfws.protocol.auth import DEMO
from kfws.sim.server import SimOptions, SimulatedVenue, serve
from tests.cli.inside import beside, run
from tests.cli.program import PATIENCE_S, environment
from tests.commands import commands, leaves
from tests.nats_server import nats_server
from tests.needs import need

LEAVES = {each.path: each for each in leaves(commands())}
# The market of that tape began so; it is half an hour long.
BEGAN = datetime(2026, 11, 24, 16, 15, tzinfo=UTC)
LINES = 60
# What ends otherwise than with 0, and why that is what the example shows.
ENDS = {
    "--until 'spread>20'": (0, 9),  # whatever the market does
    "order_id=c18f0c17-9971": (5,),  # no such order
}
PROFILE = "[profiles.paper]\nredundancy = 2\n"


@pytest.fixture(scope="module")
def tapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all recordings that examples name."""
    folder = tmp_path_factory.mktemp("tapes")
    with beside(lambda: serve(SimOptions(rate=2000))) as venue:
        asked = ("subscribe", "book,trade", "PF_XBTUSD", "--url", venue.url, "-n", str(LINES))
        assert run(*asked, "-q", "-o", str(folder / "both.ndjson")).status == 0
    both = spread((folder / "both.ndjson").read_text(encoding="utf-8"))
    (folder / "tapes").mkdir()
    for name, others in {
        "book": '.*"feed":"trade',
        "trades": '.*"feed":"book',
        "tapes/1": "$",
        "left": "$",
    }.items():
        kept = [line for line in both.splitlines(True) if not re.match(others, line)]
        (folder / f"{name}.ndjson").write_text("".join(kept), encoding="utf-8")
    for name, copy in {"book": "big", "left": "right"}.items():
        packed = folder / f"{name}.ndjson.zst"
        assert run("merge", str(folder / f"{name}.ndjson"), "-o", str(packed)).status == 0
        shutil.copy(packed, folder / f"{copy}.ndjson.zst")
        (folder / f"{name}.ndjson").unlink()
    shutil.copy(folder / "right.ndjson.zst", folder / "tapes" / "2.ndjson.zst")
    return folder


def spread(text: str) -> str:
    """The lines of a tape, at even distances over half an hour."""
    first, step = int(BEGAN.timestamp()) * 10**9, 1800 * 10**9 // LINES
    moments = count(first, step)
    return re.sub(r'"(received_ns|at_ns)":\d+', lambda found: f'"{found[1]}":{next(moments)}', text)


@pytest.fixture
def folder(tapes: Path, tmp_path: Path) -> Path:
    """A folder of a test's own: the recordings, kept keys, settings, and a `pass`."""
    folder = tmp_path / "here"
    shutil.copytree(tapes, folder)
    kept = tmp_path / "config" / "kfws" / "credentials"
    kept.mkdir(parents=True)
    key = kept / "paper.json"
    key.write_text(f'{{"api_key":"{DEMO.key}","api_secret":"{DEMO.secret}"}}')
    key.chmod(0o600)
    (kept.parent / "config.toml").write_text(PROFILE)
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "kfws").write_text(f'#!/bin/sh\nexec {sys.executable} -m kfws "$@"\n')
    (tools / "pass").write_text(f"#!/bin/sh\nprintf '%s\\n' '{DEMO.key}' '{DEMO.secret}'\n")
    for each in tools.iterdir():
        each.chmod(0o700)
    return folder


def around(folder: Path, **more: str) -> dict[str, str]:
    """The variables: the simulator for the venue, and an end for what would have none."""
    return environment(
        PATH=f"{folder.parent / 'bin'}{os.pathsep}{os.environ['PATH']}",
        PYTHONPATH=str(Path(__file__).parent.parent.parent),
        XDG_CONFIG_HOME=str(folder.parent / "config"),
        XDG_CACHE_HOME=str(folder.parent / "cache"),
        XDG_STATE_HOME=str(folder.parent / "state"),
        PYTHON_KEYRING_BACKEND="keyring.backends.fail.Keyring",
        KFWS_ENV="sim",
        KFWS_COUNT="3",
        KFWS_DURATION="3s",
        KFWS_SPEED="max",
        KFWS_PORT="0",
        **more,
    )


def type_in(command: str, folder: Path, **more: str) -> None:
    """A line in bash, as it stands but for the venue; it says no bug, and ends as it should."""
    line = command.replace("--env demo", "--env sim")
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        input=f"{DEMO.key}\n{DEMO.secret}\n",
        cwd=folder,
        env=around(folder, **more),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    wanted = next((ends for part, ends in ENDS.items() if part in command), (0,))
    assert done.returncode in wanted, f"{command}: {done.stderr}"
    assert "Traceback" not in done.stderr


ALL = [each for entry in (commands(), *LEAVES.values()) for each in entry.examples]
SIM = LEAVES["kfws sim"].examples
NATS = [each for each in ALL if "nats://" in each]


@pytest.mark.parametrize("command", [each for each in ALL if each not in {*SIM, *NATS}])
def test_an_example_does_what_it_says(command: str, folder: Path) -> None:
    if "jq" in command:
        need("jq")
    if "auth login" in command:
        (folder.parent / "config/kfws/credentials/paper.json").unlink()
    type_in(command, folder)


def test_the_examples_with_a_jetstream_do_what_they_say(folder: Path, tmp_path: Path) -> None:
    assert len(NATS) == 3
    with nats_server(tmp_path / "nats") as server:
        for each in NATS:
            here = re.sub("nats://localhost(:4222)?", server.host, each)
            type_in(here.replace(" -o ", " -n 100 -o "), folder)


# The simulator


@pytest.fixture(scope="module")
def venue() -> Iterator[SimulatedVenue]:
    with beside(lambda: serve(SimOptions(rest_port=0))) as found:
        yield found


@pytest.mark.parametrize("command", [each for each in SIM if each.startswith("kfws sim")])
def test_the_simulator_starts_as_the_examples_say(command: str, folder: Path) -> None:
    line = re.sub(r"-port \d+", "-port 0", command)
    program = subprocess.Popen(
        ["bash", "-c", f"exec {line}"],
        cwd=folder,
        env=around(folder),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stderr is not None
    said = ""
    while "ws://127.0.0.1:" not in said and (line := program.stderr.readline()):
        said += line
    program.send_signal(signal.SIGTERM)
    _, rest = program.communicate(timeout=PATIENCE_S)
    assert "ws://127.0.0.1:" in said, said + rest
    assert program.returncode == 143


def test_what_is_to_be_typed_in_another_terminal_reaches_it(
    folder: Path, venue: SimulatedVenue
) -> None:
    others = [each for each in SIM if not each.startswith("kfws sim")]
    assert len(others) == 2
    key = {"KFWS_API_KEY": DEMO.key, "KFWS_API_SECRET": DEMO.secret}
    for each in others:
        here = each.replace("ws://127.0.0.1:9000/ws/v1", venue.url)
        type_in(here.replace("http://127.0.0.1:8766", str(venue.rest_url)), folder, **key)


def test_there_are_examples() -> None:
    assert len(ALL) > 50
    assert len(set(ALL)) == len(ALL)
