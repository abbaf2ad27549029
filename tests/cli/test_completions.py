"""The files of completions/, in the shells themselves."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kfws.products_cache import keep, kept_at, parse
from kfws.sim.market import Market
from tests.cli.program import KFWS, PATIENCE_S, environment
from tests.completions import FOLDER, SHELLS, script
from tests.needs import need


@pytest.mark.parametrize("shell", SHELLS)
def test_the_files_are_what_the_program_would_write(shell: str) -> None:
    kept = (FOLDER / f"kfws.{shell}").read_text(encoding="utf-8")
    assert kept == script(shell), "`make completions` brings them up to date"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a kept list of products, the program in bin, and the files in their places."""
    home = tmp_path_factory.mktemp("home")
    keep(parse(Market(1, 0).instruments(), 0), kept_at(home / "cache" / "kfws", "live"))
    program = home / "bin" / "kfws"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {" ".join(KFWS)} "$@"\n')
    program.chmod(0o700)
    (home / "zsh").mkdir()
    (home / "zsh" / "_kfws").write_text((FOLDER / "kfws.zsh").read_text())
    return home


def variables(home: Path) -> dict[str, str]:
    path = f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"
    root = str(Path(__file__).parent.parent.parent)
    return environment(
        PATH=path,
        PYTHONPATH=root,
        HOME=str(home),
        ZDOTDIR=str(home),
        TERM="xterm",
        XDG_CACHE_HOME=str(home / "cache"),
        XDG_CONFIG_HOME=str(home / "config"),
        XDG_DATA_HOME=str(home / "data"),
    )


_PAINT = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A shell on a terminal: what is typed, and what is on the screen because of it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.shown = b""

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def until(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while text.encode() not in _PAINT.sub(b"", self.shown):
            ready, _, _ = select.select([self._fd], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not come: {self.shown!r}"
            self.shown += os.read(self._fd, 4096)


@contextmanager
def terminal(home: Path, *command: str) -> Iterator[Terminal]:
    """The shell in a session of its own on a terminal of its own."""
    ours, theirs = os.openpty()
    start = (
        "import os, sys, fcntl, termios\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "os.execvp(sys.argv[1], sys.argv[1:])"
    )
    shell = subprocess.Popen(
        [sys.executable, "-c", start, *command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env=variables(home),
        cwd=home,
    )
    os.close(theirs)
    try:
        yield Terminal(ours)
    finally:
        shell.kill()
        shell.wait(PATIENCE_S)
        os.close(ours)


SESSIONS = {
    "bash": (
        ("bash", "--norc", "--noprofile", "-i"),
        f"PS1=; source {FOLDER / 'kfws.bash'}; echo re''ady\n",
    ),
    "zsh": (
        ("zsh", "-f", "-i"),
        "PROMPT=; fpath=($HOME/zsh $fpath); autoload -U compinit; compinit -u -D; echo re''ady\n",
    ),
    "fish": (
        ("fish", "--no-config", "-i"),
        f"function fish_prompt; end; source {FOLDER / 'kfws.fish'}; echo re''ady\n",
    ),
}


def _shell(name: str) -> str:
    """A shell's path. bash must be there; of the others nobody may say that they were tested
    where they are not."""
    if name == "bash":
        return need(name)
    return shutil.which(name) or pytest.skip(f"{name} is not installed")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_on_a_terminal(shell: str, home: Path) -> None:
    command, setup = SESSIONS[shell]
    _shell(command[0])
    with terminal(home, *command) as screen:
        screen.type(setup)
        screen.until("ready")
        for typed, completed in (
            ("echo kfws; kfws subs\t", "subscribe "),
            ("tra\t", "trade "),
        ):
            screen.shown = b""
            screen.type(typed)
            screen.until(completed)


def test_fish_offers_what_the_program_offers(home: Path) -> None:
    line = "kfws subscribe ticker FF_XBTUSD_2611"
    command = f"source {FOLDER / 'kfws.fish'}; complete -C '{line}'"
    done = subprocess.run(
        [_shell("fish"), "--no-config", "-c", command],
        env=variables(home),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.stdout.split() == ["FF_XBTUSD_261127"]
