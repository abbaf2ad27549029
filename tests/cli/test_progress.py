from __future__ import annotations

import os
import pty

import pytest

from kfws.cli.env import Env, LineWriter
from kfws.cli.progress import Progress, line


@pytest.mark.parametrize(
    ("done", "elapsed_s", "messages", "shown"),
    [
        (0, 0.0, None, "reading ──────────────────── 0 %"),
        (50_000_000, 2.0, None, "reading ━━━━━━━━━━────────── 50 %, 25 MB/s, 2 s left"),
        (
            1_000_000,
            2.0,
            900,
            "reading ──────────────────── 1 %, 500 kB/s, 450 messages/s, 3 min 18 s left",
        ),
        (20_000, 2.0, None, "reading ──────────────────── 0 %, 10 kB/s, 2 h 46 min left"),
        (100_000_000, 8.0, None, "reading ━━━━━━━━━━━━━━━━━━━━ 100 %, 12 MB/s, 0 s left"),
    ],
)
def test_progress_says_how_far_how_fast_and_how_long(
    done: int, elapsed_s: float, messages: int | None, shown: str
) -> None:
    assert line("reading", done, 100_000_000, elapsed_s, messages) == shown


def test_the_line_is_drawn_over_itself_and_gone_in_the_end() -> None:
    reader, terminal = pty.openpty()
    try:
        env = Env(environ={}, stderr=LineWriter(terminal), stderr_is_terminal=True)
        now = iter([0.0, 0.05, 1.0, 2.0])
        with Progress(env, "reading", 100, clock=lambda: next(now)) as progress:
            progress.show(10)  # too soon after the beginning
            progress.show(50)
            env.stderr.write("a warning")
            progress.show(80)
        os.write(terminal, b"$")
        shown = b""
        while not shown.endswith(b"$"):  # a terminal hands on as much as it likes at once
            shown += os.read(reader, 65536)
    finally:
        os.close(terminal)
        os.close(reader)
    pieces = [piece.partition("━")[0] for piece in shown.decode().split("\r\x1b[K")]
    assert pieces == ["", "reading ", "a warning\r\n", "reading ", "$"]


def test_where_stderr_is_no_terminal_nothing_is_drawn() -> None:
    reader, writer = os.pipe()
    env = Env(environ={}, stderr=LineWriter(writer))
    with Progress(env, "reading", 100, clock=lambda: 9.0) as progress:
        progress.show(50)
    os.close(writer)
    assert os.read(reader, 100) == b""
    os.close(reader)
