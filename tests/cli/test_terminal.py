"""The real program on a real terminal: what a person sees there, and what is left behind."""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyte
import pytest

from kfws.cli.choices import Format
from kfws.cli.plan import Output
from kfws.cli.terminal import TerminalOutlet
from kfws.protocol.events import Event
from kfws.sim.server import SimOptions, serve
from kfws.sinks.display import Display
from kfws.sinks.paint import Paint
from kfws.sinks.screen import Size
from kfws.sinks.status import Status
from tests.cli.inside import beside, signals_kept
from tests.cli.program import KFWS, PATIENCE_S, environment
from tests.cli.test_stream import OPENED, Scripted, Stage
from tests.needs import need

TICKER = ("subscribe", "ticker", "PF_XBTUSD", "PF_ETHUSD", "--env", "sim")
ECHO_FLAGS = 3
CTRL_C, CTRL_Z = "\x03", "\x1a"
BASH = ("bash", "--norc", "--noprofile")


class OnTerminal:
    """A person's terminal, with a program on it."""

    def __init__(self, command: tuple[str, ...], columns: int, lines: int, env: dict[str, str]):
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self._fd, near = os.openpty()
        self._set_size(columns, lines)
        self._program = subprocess.Popen(
            command,
            stdin=near,
            stdout=near,
            stderr=near,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(near, termios.TIOCSCTTY, 0),
            env=environment(TERM="xterm-256color", PYTHONPATH=str(Path.cwd())) | env,
        )
        os.close(near)
        self.raw = b""

    @property
    def seen(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]

    def until(self, fact: Callable[[list[str]], bool]) -> None:
        """Reads until a person sees it."""
        while not fact(self.seen):
            assert self.read(), "\n".join(self.seen)

    def read(self) -> bool:
        """Some of what the program writes; False at its end."""
        ready, _, _ = select.select([self._fd], [], [], PATIENCE_S)
        assert ready, "\n".join(self.seen)
        try:
            piece = os.read(self._fd, 4096)
        except OSError:  # nobody has the terminal open any more
            return False
        self.raw += piece
        self._stream.feed(piece)
        return True

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        self.screen.resize(lines, columns)
        self._set_size(columns, lines)

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self._fd)[ECHO_FLAGS] & termios.ECHO)

    def end(self) -> int:
        """Reads to the end of the program; its status."""
        while self.read():
            pass
        return self._program.wait(PATIENCE_S)

    def close(self) -> None:
        os.close(self._fd)
        self._program.kill()
        self._program.wait(PATIENCE_S)


@contextmanager
def terminal(
    *args: str, command: tuple[str, ...] = KFWS, lines: int = 24, columns: int = 80, **env: str
) -> Iterator[OnTerminal]:
    found = OnTerminal((*command, *args), columns, lines, env)
    try:
        yield found
    finally:
        found.close()


def table_of(seen: list[str]) -> list[str]:
    """The rows from the titles to the status line."""
    starts = [at for at, line in enumerate(seen) if line.startswith("PRODUCT")]
    ends = [at for at, line in enumerate(seen) if line.startswith((" ●", " ○"))]
    return seen[starts[0] : ends[-1] + 1] if len(starts) == len(ends) == 1 else []


def stands(seen: list[str]) -> bool:
    """One whole board: its titles, a row per product, a status line."""
    table = table_of(seen)
    return [line[:9].strip() for line in table[:-1]] == ["PRODUCT", "PF_XBTUSD", "PF_ETHUSD"]


def test_a_board_stands_and_ctrl_c_leaves_a_clean_terminal() -> None:
    with terminal(*TICKER, columns=140) as person:
        assert person.echoes()
        person.until(stands)
        assert person.screen.cursor.hidden
        assert not person.echoes()
        person.type("typed\r\r")
        person.type(CTRL_C)
        assert person.end() == 130
        *_, label, titles, first, second, told = filter(None, person.seen)
        assert label == "kfws: simulated market data: --env sim, not the venue"
        assert (titles[:7], first[:9], second[:9]) == ("PRODUCT", "PF_XBTUSD", "PF_ETHUSD")
        assert told.startswith("kfws: ")
        assert not person.screen.cursor.hidden
        assert pyte.modes.DECAWM in person.screen.mode
        assert b"typed" not in person.raw


def test_echo_is_back_after_the_program_left() -> None:
    need("bash")
    script = f"{' '.join((*KFWS, *TICKER))} -n 2; stty -a; read -r _"
    with terminal("-c", script, command=BASH) as person:
        person.until(lambda seen: any(" echo " in f" {line} " for line in seen))
        assert person.echoes()
        person.type("\r")
        assert person.end() == 0


def test_after_each_new_size_the_board_stands_once_and_fits() -> None:
    with terminal(*TICKER) as person:
        person.until(stands)
        titles = table_of(person.seen)[0]
        for columns, lines in ((60, 24), (140, 24), (140, 8), (70, 30)):
            person.resize(columns, lines)
            before = len(person.raw)
            person.until(
                lambda seen, before=before: stands(seen) and b"PRODUCT" in person.raw[before:]  # type: ignore[misc]
            )
            assert table_of(person.seen)[0] != titles or columns in (80, 70)
        person.type(CTRL_C)
        assert person.end() == 130


def test_an_outage_is_yellow_and_counts_down_and_its_story_stands_above_a_whole_board() -> None:
    asked = ("subscribe", "ticker", "PF_XBTUSD", "PF_ETHUSD", "--url")
    faults = ("drop@1s", "refuse=503@500ms:retry-after=1:times=1")
    with (
        beside(lambda: serve(SimOptions(faults=faults))) as venue,
        terminal(*asked, venue.url, columns=160) as person,
    ):
        person.until(lambda seen: stands(seen) and "1 reconnect" in table_of(seen)[-1])
        assert b"\x1b[30;43m" in person.raw
        assert b"reconnecting in 0." in person.raw
        story = [line for line in person.seen if line and line not in table_of(person.seen)]
        assert all(line.startswith("kfws: ") for line in story)
        words = ["was lost", "answered HTTP 503", "connected to", "gap: ", "gap: "]
        assert all(word in line for word, line in zip(words, story, strict=True))
        person.type(CTRL_C)
        assert person.end() == 130


def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again() -> None:
    need("bash")
    with terminal("-i", command=BASH, PS1="$ ") as person:
        person.until(lambda seen: "$" in seen)
        person.type(f"{' '.join((*KFWS, *TICKER))}\r")
        person.until(stands)
        person.type(CTRL_Z)
        person.until(lambda seen: any("Stopped" in line for line in seen) and seen.count("$") >= 1)
        assert not person.screen.cursor.hidden
        assert not any(line.startswith(" ●") for line in person.seen)
        person.type("bg\r")
        person.until(lambda seen: any(line.endswith("&") for line in seen))
        person.type("sleep 0.5; echo between\r")  # time enough for drawings, were there any
        person.until(lambda seen: "between" in seen)
        assert not any(line.startswith(" ●") for line in person.seen)
        person.type("clear; fg\r")
        person.until(lambda seen: stands(seen) and person.screen.cursor.hidden)
        person.type(CTRL_C)
        person.until(lambda seen: any("on 1 connection" in line for line in seen))
        assert not person.screen.cursor.hidden
        person.type("exit\r")
        person.end()


def test_trades_roll_over_a_board_of_the_same_run() -> None:
    with terminal("subscribe", "trade,ticker", "PF_XBTUSD", "--env", "sim") as person:
        person.until(lambda seen: len(table_of(seen)) == 3 and any("▲ buy" in x for x in seen))
        person.type(CTRL_C)
        assert person.end() == 130


# What is not wanted


def test_no_color_is_a_picture_without_colours() -> None:
    with terminal(*TICKER, NO_COLOR="1") as person:
        person.until(stands)
        person.type(CTRL_C)
        assert person.end() == 130
        assert b"\x1b[?25l" in person.raw
        assert b"m" not in {
            piece[:6].lstrip(b"0123456789;")[:1] for piece in person.raw.split(b"\x1b[")[1:]
        }


@pytest.mark.parametrize("wanted", ["always", "never"])
def test_colours_can_be_had_or_not_whatever_the_environment_says(wanted: str) -> None:
    with terminal(*TICKER, "--color", wanted, "-n", "4", NO_COLOR="1") as person:
        assert person.end() == 0
        assert (b"\x1b[1m" in person.raw) == (wanted == "always")


def test_a_dumb_terminal_gets_plain_rows_and_no_escapes() -> None:
    with terminal(*TICKER, "-n", "2", TERM="dumb") as person:
        assert person.end() == 0
        assert b"\x1b" not in person.raw
        assert b"PRODUCT" in person.raw


def test_what_is_said_elsewhere_is_not_on_the_screen(tmp_path: Path) -> None:
    need("bash")
    log = tmp_path / "log"
    script = f"{' '.join((*KFWS, *TICKER))} -n 2 2>{log}"
    with terminal("-c", script, command=BASH) as person:
        assert person.end() == 0
        assert b"kfws: " not in person.raw
    assert "simulated" in log.read_text()


def test_a_run_that_shows_nothing_else_shows_how_far_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.ndjson"
    with terminal(*TICKER, "-o", str(path)) as person:
        person.until(lambda seen: any(line.startswith("recording: 4 messages, ") for line in seen))
        person.type(CTRL_C)
        assert person.end() == 130
        told = [line for line in person.seen if line]
        assert told[1].startswith("kfws: ")
        assert not any("recording" in line or "^C" in line for line in told)


def test_a_quiet_run_shows_nothing(tmp_path: Path) -> None:
    with terminal(*TICKER, "-q", "-n", "2", "-o", str(tmp_path / "x.ndjson")) as person:
        assert person.end() == 0
        assert person.raw == b""


def test_the_sum_after_ctrl_c_begins_on_a_line_of_its_own() -> None:
    with terminal(*TICKER, "-f", "ndjson", "--fields", "feed") as person:
        person.until(lambda seen: any("ticker" in line for line in seen))
        person.type(CTRL_C)
        assert person.end() == 130
        assert not any("^C" in line for line in person.seen)
        assert any(line.startswith("kfws: ") and "message" in line for line in person.seen)


@pytest.mark.parametrize(
    ("args", "sign"),
    [
        (("sim", "--port", "0"), "KFWS_API_SECRET="),
        ((*TICKER, "-q", "-f", "ndjson", "--fields", "feed"), "ticker"),
    ],
)
def test_no_ctrl_c_is_left_in_front_of_the_next_prompt(args: tuple[str, ...], sign: str) -> None:
    with terminal(*args, columns=120) as person:
        person.until(lambda seen: any(sign in line for line in seen))
        person.type(CTRL_C)
        assert person.end() == 130
        assert not any("^C" in line for line in person.seen)
        assert person.screen.cursor.x == 0


def test_a_picture_beside_a_file_leaves_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.ndjson"
    with terminal(*TICKER, "-n", "6", "-o", "-", "-o", str(path)) as person:
        assert person.end() == 0
        assert b"PRODUCT" in person.raw
    messages = [line for line in path.read_bytes().splitlines() if b'"kfws"' not in line]
    assert len(messages) == 6


# The outlet alone


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """The far and the near end of a terminal that nobody has for his own."""
    far, near = os.openpty()
    yield far, near
    os.close(far)
    os.close(near)


class Busy:
    """A view that shows something else each time, and much of it."""

    def take(self, events: Sequence[Event]) -> None:
        pass

    def above(self, now_ns: int, size: Size) -> list[str]:
        return []

    def rows(self, now_ns: int, size: Size) -> list[str]:
        return [f"{now_ns:0{size.columns}}"] * size.lines


def outlet(near: int, stage: Stage, *, columns: int = 80) -> TerminalOutlet:
    status = Status(venue="sim", asked="ticker", paint=Paint(False))
    found = TerminalOutlet(
        near, Display([Busy()], status), size=lambda: Size(columns, 24), talk=stage.talk
    )
    stage.pairs.append((Output(None, Format.table), found))
    return found


def all_of(far: int) -> bytes:
    os.set_blocking(far, False)
    found = b""
    try:
        while piece := os.read(far, 65536):
            found += piece
    except BlockingIOError:
        pass
    return found


async def flushed(shown: TerminalOutlet, far: int) -> bytes:
    flushing, found = asyncio.create_task(shown.flush()), b""
    while not flushing.done():
        found += all_of(far)
        await asyncio.sleep(0)
    return found + all_of(far)


async def test_a_crash_gives_the_terminal_back(ends: tuple[int, int]) -> None:
    far, near = ends
    stage = Stage()
    outlet(near, stage).draw(1)
    stage.talk.say("warning", "x", "said above the picture")
    assert stage.paper.lines == []
    with signals_kept(), pytest.raises(ZeroDivisionError):
        await stage.run(Scripted([OPENED], error=ZeroDivisionError("a bug")))
    left = all_of(far)
    assert left.startswith(b"\x1b[?25l")
    assert b"kfws: said above the picture" in left
    assert left.endswith(b"\x1b[?25h")
    assert termios.tcgetattr(near)[ECHO_FLAGS] & termios.ECHO
    stage.talk.say("warning", "x", "said behind it")
    assert stage.paper.lines == ["kfws: said behind it"]


async def test_while_a_terminal_takes_nothing_the_picture_waits(ends: tuple[int, int]) -> None:
    far, near = ends
    shown = outlet(near, Stage(), columns=1000)
    drawings = 0
    while not shown.pending:
        drawings += 1
        shown.draw(drawings)
    waiting = shown.pending
    shown.draw(drawings + 1)
    assert (shown.pending, shown.pending_lines, shown.is_full) == (waiting, 0, False)
    await flushed(shown, far)
    shown.draw(7777)
    assert (await flushed(shown, far)).count(b"7777") == 22
    shown.close()
    shown.close()


async def test_what_was_never_drawn_is_left_as_it_was(ends: tuple[int, int]) -> None:
    far, near = ends
    outlet(near, Stage()).close()
    assert all_of(far) == b""
