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

from kfws.cli.shells import SCRIPTS
from kfws.products_cache import keep, kept_at, parse
from kfws.sim.market import Market
from tests.cli.program import KFWS, PATIENCE_S, environment
from tests.completions import FOLDER
from tests.needs import need


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_files_are_what_the_program_would_write(shell: str) -> None:
    kept = (FOLDER / f"kfws.{shell}").read_text(encoding="utf-8")
    assert kept == SCRIPTS[shell], "`make completions` brings them up to date"


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
        "termios.tcsetwinsize(0, (24, 200))\n"
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


TABS = (
    ("echo kfws; kfws subs\t", "subscribe "),
    ("tra\t", "trade "),
    ("PF_XB\t", "PF_XBTUSD "),
    ("--overw\t", "--overwrite "),
    ("--format ndj\t", "ndjson "),
    ("--fields product_i\t", "product_id "),
)


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_shell_completes_on_a_terminal(shell: str, home: Path) -> None:
    command, setup = SESSIONS[shell]
    _shell(command[0])
    with terminal(home, *command) as screen:
        screen.type(setup)
        screen.until("ready")
        _try_tabs(screen)


def _try_tabs(screen: Terminal) -> None:
    for typed, completed in TABS:
        screen.shown = b""
        screen.type(typed)
        screen.until(completed)


INSTALLED = {
    "bash": (("bash", "--noprofile", "-i"), "PS1=; echo re''ady\n"),
    "zsh": (("zsh", "-i"), "PROMPT=; echo re''ady\n"),
    "fish": (("fish", "-i"), "function fish_prompt; end; echo re''ady\n"),
}


@pytest.mark.parametrize("shell", SCRIPTS)
def test_what_the_program_installs_completes_in_the_next_shell(shell: str, home: Path) -> None:
    command, setup = INSTALLED[shell]
    path = _shell(shell)
    for _ in range(2):  # the second time changes nothing
        done = subprocess.run(
            [path, "-c", "kfws --install-completion; true"],
            env=variables(home),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.stdout.startswith(f"TAB completes kfws in {shell} from its next start on (")
        assert done.stderr == ""
    for start in (home / ".bashrc", home / ".zshrc"):
        assert not start.exists() or len(start.read_text().splitlines()) == 1
    with terminal(home, *command) as screen:
        screen.type(setup)
        screen.until("ready")
        _try_tabs(screen)


def test_a_line_is_added_behind_one_without_an_end(home: Path, tmp_path: Path) -> None:
    (tmp_path / ".bashrc").write_text("alias k=kfws")
    done = _installed("bash", home, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    script = tmp_path / ".bash_completions" / "kfws.sh"
    assert (tmp_path / ".bashrc").read_text() == f"alias k=kfws\nsource '{script}'\n"


def test_a_script_that_cannot_be_written_is_an_error_of_output(home: Path, tmp_path: Path) -> None:
    (tmp_path / ".bash_completions").write_text("no folder")
    done = _installed("bash", home, tmp_path)
    assert done.returncode == 8
    assert done.stderr.startswith(f"kfws: cannot write {tmp_path / '.bash_completions'}: ")
    assert "--show-completion" in done.stderr


def _installed(shell: str, home: Path, into: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [_shell(shell), "-c", "kfws --install-completion; exit $?"],
        env=variables(home) | {"HOME": str(into)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_program_prints_what_the_shell_is_to_load(shell: str, home: Path) -> None:
    done = subprocess.run(
        [_shell(shell), "-c", "kfws --show-completion; true"],
        env=variables(home),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.stdout == SCRIPTS[shell]


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_shell_offers_files_where_the_program_has_nothing(shell: str, home: Path) -> None:
    (home / "monday.ndjson").touch()
    command, setup = SESSIONS[shell]
    _shell(command[0])
    with terminal(home, *command) as screen:
        screen.type(setup)
        screen.until("ready")
        screen.shown = b""
        screen.type("echo kfws; kfws verify mond\t")
        screen.until("monday.ndjson ")


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
