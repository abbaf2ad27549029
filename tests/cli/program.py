"""The real program in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import IO, Any

KFWS = (sys.executable, "-m", "kfws")
PATIENCE_S = 30


def environment(**more: str) -> dict[str, str]:
    """The environment without what a developer's shell may hold."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("KFWS_", "KRAKEN_")) and name.lower() not in _PROXIES
    }
    # Lists and keys that the developer keeps are none of a test's affair either.
    return kept | {"XDG_CACHE_HOME": os.devnull, "XDG_CONFIG_HOME": os.devnull} | more


_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "socks_proxy", "wss_proxy", "ws_proxy")


def run(*args: str, input: str = "", **more: Any) -> subprocess.CompletedProcess[str]:
    """Runs the program to its end."""
    return subprocess.run(
        [*KFWS, *args],
        input=input,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=more.pop("env", None) or environment(),
        check=False,
        **more,
    )


def start(
    *args: str, stdout: int | IO[Any] = subprocess.PIPE, **more: Any
) -> subprocess.Popen[str]:
    """Starts the program; its stderr is a pipe of text."""
    return subprocess.Popen(
        [*KFWS, *args],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=more.pop("env", None) or environment(),
        **more,
    )


ON_TERMINAL = (
    sys.executable,
    "-c",
    "import os, sys\n"
    "os.setsid(); os.open(sys.argv[1], os.O_RDWR); os.execv(sys.argv[2], sys.argv[2:])",
)
"""A program in a session of its own whose controlling terminal is the first argument."""


def end(program: subprocess.Popen[str], signum: signal.Signals) -> tuple[str, int]:
    """Sends a signal and waits: stderr to its end, and the exit status."""
    program.send_signal(signum)
    _, err = program.communicate(timeout=PATIENCE_S)
    return err, program.returncode


def lines(text: str) -> Sequence[str]:
    """Lines but for the label of the simulator and the sum at the end."""
    return [line for line in text.splitlines() if not _EXPECTED.search(line)]


_EXPECTED = re.compile(r"simulated market data|messages?, [\d,]+ bytes in .* on \d+ connections?; ")
