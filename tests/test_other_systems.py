"""Windows has neither these modules nor these names, and its loop watches no descriptors.

What can be seen of that from here: the program in a process that lacks all of them.
"""

from __future__ import annotations

import ast
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kfws import __version__
from tests.cli.program import PATIENCE_S, environment

ROOT = Path(__file__).parent.parent
MODULES = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty")

# Hidden from our modules alone: the library's own know what system this is.
LACKING = f"""
import asyncio, builtins, os, select, selectors, shutil, signal, socket, subprocess, sys

found = builtins.__import__

def is_ours(globals):
    return (globals or {{}}).get("__name__", "").startswith("kfws")

def importing(name, globals=None, locals=None, fromlist=(), level=0):
    if name in {MODULES!r} and is_ours(globals):
        raise ImportError(f"no module named {{name}}")
    return found(name, globals, locals, fromlist, level)

def unwatched(known):
    def refuse(*args):
        if is_ours(sys._getframe(1).f_globals):
            raise NotImplementedError
        return known(*args)
    return refuse

builtins.__import__ = importing
for where, names in (
    (os, "O_DIRECTORY O_NOCTTY O_NONBLOCK fchmod fdatasync fpathconf getpgrp getuid geteuid"
         " statvfs tcgetpgrp uname"),
    (signal, "SIGALRM SIGCONT SIGHUP SIGPIPE SIGQUIT SIGTSTP SIGUSR1 SIGWINCH"),
    (select, "poll"),
    (socket, "MSG_DONTWAIT"),
):
    for name in names.split():
        if hasattr(where, name):
            delattr(where, name)
Loop = asyncio.SelectorEventLoop
for name in ("reader", "writer", "signal_handler"):
    for name in (f"add_{{name}}", f"remove_{{name}}"):
        setattr(Loop, name, unwatched(getattr(Loop, name)))
sys.argv[0] = "kfws"
from kfws.__main__ import main
main()
"""


def run(*args: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LACKING, *args],
        cwd=cwd,
        env=environment(PYTHONPATH=str(ROOT), KFWS_LOOP="asyncio"),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_the_version_and_the_help_are_told() -> None:
    done = run("--version")
    assert (done.stdout, done.stderr) == (f"kfws {__version__}\n", "")
    done = run("subscribe", "--help")
    assert "--redundancy" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("feed", ["ticker", "book", "trade"])
def test_a_feed_is_streamed_into_a_pipe(feed: str) -> None:
    done = run("subscribe", feed, "PF_XBTUSD", "--env", "sim", "-n", "3", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line)["product_id"] for line in done.stdout.splitlines()] == [
        "PF_XBTUSD"
    ] * 3


def test_files_are_written_turned_over_and_played(tmp_path: Path) -> None:
    asked = ("subscribe", "book", "PF_XBTUSD", "--env", "sim", "-n", "5", "-q")
    outputs = ("-o", "x.ndjson.zst", "-o", "x.csv.gz", "-o", "r-{n}.ndjson", "--rotate", "1h")
    done = run(*asked, *outputs, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    made = sorted(each.name for each in tmp_path.iterdir())
    [table] = [name for name in made if name.endswith(".csv.gz")]
    assert gzip.decompress((tmp_path / table).read_bytes()).startswith(b"received_ns,")
    tapes = [name for name in made if ".ndjson" in name]
    for tape in tapes:
        played = run("replay", tape, "--speed", "max", cwd=tmp_path)
        assert (played.returncode, len(played.stdout.splitlines())) == (0, 5), played.stderr
    assert len(tapes) == 2
    assert run("verify", *tapes, cwd=tmp_path).returncode == 0
    assert run("merge", *tapes, "-o", "one.ndjson", cwd=tmp_path).returncode == 0
    assert run("convert", "one.ndjson", "one.csv", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("args", [("feeds",), ("doctor",), ("products",), ("config", "show")])
def test_the_other_commands_work(args: tuple[str, ...]) -> None:
    sim = () if args[0] in ("feeds", "config") else ("--env", "sim")
    done = run(*args, *sim)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize(
    "args",
    [
        ("subscribe", "ticker", "PF_XBTUSD", "--env", "sim", "-n", "3"),
        ("book", "PF_XBTUSD", "--env", "sim", "-n", "3"),
    ],
)
def test_a_terminal_is_drawn_on(args: tuple[str, ...]) -> None:
    ours, theirs = os.openpty()
    program = subprocess.Popen(
        [sys.executable, "-c", LACKING, *args],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env=environment(PYTHONPATH=str(ROOT), KFWS_LOOP="asyncio", TERM="xterm"),
        cwd=ROOT,
        text=True,
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:
        pass  # so Linux says that the other end was closed
    os.close(ours)
    _, err = program.communicate(timeout=PATIENCE_S)
    assert program.returncode == 0, err
    assert b"PF_XBTUSD" in shown
    assert "Error" not in err


@pytest.mark.parametrize("path", sorted((ROOT / "kfws").rglob("*.py")), ids=lambda each: each.name)
def test_no_room_needs_what_another_system_lacks(path: Path) -> None:
    """Such an import stands in a ``try``, or in a function, or in a room of its own."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [
        alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names
    ]
    assert path.name == "keys.py" or not {*names} & {*MODULES}
