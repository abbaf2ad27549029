from __future__ import annotations

import errno
import fcntl
import json
import os
import struct
import termios
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import platformdirs
import pytest

from kfws.cli.choices import Color, LogFormat, VenueName
from kfws.cli.env import CLOSED, LINES_KEPT, Env, LineWriter
from kfws.cli.plan import Plan, Typed, make_plan
from kfws.errors import Interrupted, KfwsError, OutputError, Unwelcome, UsageError
from kfws.protocol.auth import DEMO, Credentials
from tests.cli.inside import Collected
from tests.cli.program import run
from tests.needs import lacking

MINE = Credentials("my-own-key-0001", "bWluZQ==")
OFFICIAL = Credentials("official-key-0002", "b2ZmaWNpYWw=")
FILED = Credentials("filed-key-0003", "ZmlsZWQ=")

MY_VARIABLES = {"KFWS_API_KEY": MINE.key, "KFWS_API_SECRET": MINE.secret}
OFFICIAL_VARIABLES = {
    "KRAKEN_FUTURES_API_KEY": OFFICIAL.key,
    "KRAKEN_FUTURES_API_SECRET": OFFICIAL.secret,
}


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            pass


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The far and the near end of a terminal."""
    far, near = os.openpty()
    yield far, near
    os.close(far)
    os.close(near)


def read_all(fd: int) -> bytes:
    """What stands in a pipe or terminal by now."""
    os.set_blocking(fd, False)
    found = b""
    try:
        while piece := os.read(fd, 65536):
            found += piece
    except BlockingIOError:
        pass
    return found


# Lines that never wait


def test_a_line_is_out_at_once(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    LineWriter(writer).write("größer")
    assert read_all(reader) == "größer\n".encode()


def test_half_a_surrogate_pair_is_no_fault(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    LineWriter(writer).write("a\udcffb")
    assert read_all(reader) == b"a?b\n"


@pytest.mark.parametrize("length", [99, 5000])
def test_a_pipe_that_nobody_reads_does_not_hold_us_up(pipe: tuple[int, int], length: int) -> None:
    reader, writer = pipe
    lines = LineWriter(writer)
    for _ in range(70_000 // length + 10):
        lines.write("x" * length)
    got = b""
    while piece := read_all(reader):
        got += piece
        lines.flush()
    assert set(got.split(b"\n")) == {b"x" * length, b""}
    assert len(got) > 65_000


def test_a_terminal_that_stands_still_does_not_hold_us_up(terminal: tuple[int, int]) -> None:
    far, near = terminal
    lines = LineWriter(near)
    for number in range(1000):
        lines.write(f"{number:099}")
    got = b""
    while piece := read_all(far):
        got += piece
        lines.flush()
    assert [int(line) for line in got.split()] == list(range(1000))


def test_a_line_longer_than_the_pipe_does_not_hold_us_up(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    lines = LineWriter(writer)
    lines.write("x" * 1_000_000)
    lines.write("the next")
    got = b""
    while piece := read_all(reader):
        got += piece
        lines.flush()
    assert got == b"x" * 1_000_000 + b"\nthe next\n"


def test_what_is_kept_is_bounded_and_holds_whole_lines(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    lines = LineWriter(writer)
    lines.write("first " + "x" * 1_000_000)
    for number in range(3 * LINES_KEPT):
        lines.write(f"line {number}")
    got = b""
    while piece := read_all(reader):
        got += piece
        lines.flush()
    first, *more = got.decode().splitlines()
    assert first == "first " + "x" * 1_000_000
    assert more == [f"line {number}" for number in range(2 * LINES_KEPT, 3 * LINES_KEPT)]


def test_a_reader_that_left_is_no_fault(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    lines = LineWriter(writer)
    lines.write("x" * 100_000)
    os.close(reader)
    lines.write("more")
    lines.flush()


@pytest.mark.parametrize("fd", [CLOSED, 999_999])
def test_a_stderr_that_is_closed_is_no_fault(fd: int) -> None:
    lines = LineWriter(fd)
    lines.write("to nobody")
    lines.flush()


def test_nothing_is_made_non_blocking_for_others(pipe: tuple[int, int]) -> None:
    LineWriter(pipe[1]).write("x" * 100_000)
    assert os.get_blocking(pipe[1])


def test_the_program_runs_with_its_stderr_closed() -> None:
    command = ["subscribe", "ticker", "PF_XBTUSD", "--env", "sim", "-n", "1", "-v"]
    done = run(*command, preexec_fn=lambda: os.close(2))
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)


def test_a_fault_with_stderr_closed_has_its_status() -> None:
    assert run("subscribe", "nope", preexec_fn=lambda: os.close(2)).returncode == 2


# What is read


def test_products_come_from_stdin() -> None:
    done = run(
        "subscribe", "ticker", "@-", "--env", "sim", "-n", "1", "--fields", "product_id",
        input="PF_ETHUSD\n",
    )  # fmt: skip
    assert done.stdout == '{"product_id":"PF_ETHUSD"}\n'


def test_a_stdin_that_is_closed_is_said() -> None:
    # Not stdin=DEVNULL: the descriptor is not there.
    done = run("subscribe", "ticker", "@-", preexec_fn=lambda: os.close(0))
    assert done.returncode == 2
    assert done.stderr == "kfws: @- cannot be read: stdin is closed; one product a line\n"


def test_a_file_is_read_as_text(tmp_path: Path) -> None:
    path = tmp_path / "products"
    path.write_bytes("PF_XBTUSD # größer".encode())
    assert Env({}).read_text(str(path)) == "PF_XBTUSD # größer"
    path.write_bytes(b"\xff")
    with pytest.raises(UnicodeDecodeError):
        Env({}).read_text(str(path))
    with pytest.raises(FileNotFoundError):
        Env({}).read_text(str(tmp_path / "no"))


# What is printed


def test_a_short_answer_is_printed_in_one_piece(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    Env({}, stdout=writer).print("ja\udcff\n")
    assert read_all(reader) == b"ja?\n"


def test_a_long_answer_waits_for_its_reader() -> None:
    out = Collected()
    Env({}, stdout=out.writer).print("x" * 1_000_000)
    out.close()
    assert len(out.bytes) == 1_000_000


def test_a_reader_of_an_answer_who_left_is_no_fault(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    Env({}, stdout=writer).print("to nobody\n")


def test_an_answer_that_cannot_be_written_is_an_output_error() -> None:
    with pytest.raises(OutputError, match="stdout is closed"):
        Env({}, stdout=CLOSED).print("x")
    if not Path("/dev/full").exists():
        lacking("/dev/full is not here")
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(OutputError, match="disk full: stdout takes no more"):
            Env({}, stdout=full).print("x")
    finally:
        os.close(full)


# The terminal


@pytest.mark.parametrize(
    ("columns", "width"),
    [
        ("120", 120), ("1", 1), ("", 80), ("0", 80), ("-5", 80), ("wide", 80), ("1e2", 80),
        ("²", 80), ("9" * 5000, 999_999_999),
    ],
)  # fmt: skip
def test_the_width_of_a_pipe_is_what_columns_says_else_80(columns: str, width: int) -> None:
    assert Env({"COLUMNS": columns}, stdout=CLOSED).size == (width, 24)


def test_the_cache_is_where_the_system_has_it_or_where_it_was_put(tmp_path: Path) -> None:
    assert Env({}).cache.name == "kfws"
    assert Env({}, cache_folder=tmp_path).cache == tmp_path


@pytest.mark.parametrize("home", ["/home/somebody", "not/absolute", None])
@pytest.mark.parametrize("given", ["/elsewhere", "/elsewhere/", "not/absolute", "", None])
def test_the_folders_are_those_of_platformdirs(
    given: str | None, home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME")
    for name, value in {**dict.fromkeys(names, given), "HOME": home}.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    env = Env({})
    assert env.cache == platformdirs.user_cache_path("kfws")
    assert env.config == platformdirs.user_config_path("kfws")
    assert env.state == platformdirs.user_state_path("kfws")


@pytest.mark.parametrize(("columns", "width"), [(133, 133), (1, 1), (0, 80)])
def test_the_width_of_a_terminal_is_its_own(
    terminal: tuple[int, int], columns: int, width: int
) -> None:
    _, near = terminal
    fcntl.ioctl(near, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    assert Env({"COLUMNS": "40"}, stdout=near).size == (width, 24)


@pytest.mark.parametrize(
    ("environ", "is_terminal", "color"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True),
    ],
)
def test_colour_is_for_terminals_that_want_it(
    environ: Mapping[str, str], is_terminal: bool, color: bool
) -> None:
    env = Env(environ, stdout_is_terminal=is_terminal)
    assert env.color(Color.auto) is color
    assert env.color(Color.always)
    assert not env.color(Color.never)


@pytest.mark.parametrize("utc", [True, False])
def test_the_zone_is_a_zone(utc: bool) -> None:
    from datetime import UTC, datetime

    zone = Env({}).zone(utc)
    assert datetime.now(zone).tzinfo is not None
    assert not utc or zone is UTC


def test_lines_know_whether_they_go_to_the_terminal_behind_another_descriptor(
    terminal: tuple[int, int], pipe: tuple[int, int]
) -> None:
    _, near = terminal
    other = os.dup(near)
    assert LineWriter(near).is_on(other)
    os.close(other)
    assert not LineWriter(pipe[1]).is_on(near)
    assert not LineWriter(pipe[1]).is_on(pipe[1])
    assert not LineWriter(CLOSED).is_on(near)


def wide(near: int, columns: int) -> LineWriter:
    fcntl.ioctl(near, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    return LineWriter(near)


def test_what_is_drawn_is_cut_where_the_terminal_ends(terminal: tuple[int, int]) -> None:
    far, near = terminal
    lines = wide(near, 10)
    lines.draw("0123456789")
    lines.draw("0123456789a")
    assert read_all(far).decode() == "\r\x1b[K0123456789\r\x1b[K012345678…"


def test_the_echo_of_a_ctrl_c_is_wiped_on_a_terminal_alone(
    terminal: tuple[int, int], pipe: tuple[int, int]
) -> None:
    wide(terminal[1], 80).wipe_echo()
    assert read_all(terminal[0]) == b"\r\x1b[K"
    LineWriter(pipe[1]).wipe_echo()
    assert read_all(pipe[0]) == b""


# What is said


def said(error: KfwsError | None = None, bug: Exception | None = None, **how: bool) -> list[str]:
    err = Collected()
    env = Env({}, stderr=LineWriter(err.writer))
    env.speak(
        verbose=how.get("verbose", False),
        quiet=how.get("quiet", False),
        debug=how.get("debug", False),
        log_format=LogFormat.json if how.get("json") else LogFormat.text,
    )
    if error is not None:
        env.explain(error)
    if bug is not None:
        env.explain_bug(bug)
    err.close()
    return err.bytes.decode().splitlines()


def raised(error: Exception) -> Exception:
    """The error with a traceback of its own."""
    try:
        raise error
    except Exception as exc:
        return exc


@pytest.mark.parametrize("quiet", [True, False])
def test_an_error_is_one_line_however_quiet(quiet: bool) -> None:
    error = UsageError("it cannot be", hint="type another")
    assert said(error, quiet=quiet, verbose=not quiet) == ["kfws: it cannot be; type another"]


def test_a_signal_needs_no_explanation() -> None:
    assert said(Interrupted(2)) == []


def test_an_error_in_json_holds_its_class_and_its_status() -> None:
    [line] = said(UsageError("no", hint="yes"), json=True)
    fields = json.loads(line)
    assert abs(fields.pop("at_ns") - time.time_ns()) < 60e9
    assert fields == {
        "level": "error", "code": "UsageError", "message": "no", "hint": "yes", "status": 2,
    }  # fmt: skip


def test_a_bug_is_one_line() -> None:
    bug = raised(KeyError("a\nb"))
    assert said(bug=bug) == [
        r"kfws: a bug in kfws: KeyError: 'a\nb'; --debug shows where; please report it"
    ]
    assert len(said(bug=raised(ValueError("two\nlines")))) == 1
    assert len(said(bug=raised(ValueError("")))) == 1


def test_debug_shows_the_traceback_of_bugs_and_errors() -> None:
    first, *traceback = said(bug=raised(ValueError("x")), debug=True)
    assert first == "kfws: a bug in kfws: ValueError: x"
    assert traceback[0] == "Traceback (most recent call last):"
    assert traceback[-1] == "ValueError: x"
    assert "Traceback (most recent call last):" in said(
        raised(UsageError("x")),  # type: ignore[arg-type]
        debug=True,
    )


def test_before_a_command_knows_how_loud_it_is_errors_are_said_all_the_same() -> None:
    err = Collected()
    env = Env({}, stderr=LineWriter(err.writer))
    env.explain(UsageError("no such thing"))
    env.explain_bug(ValueError("x"))
    err.close()
    assert len(err.bytes.splitlines()) == 2


# Credentials


def plan(feeds: str = "fills", venue: VenueName = VenueName.live) -> Plan:
    typed = Typed(feeds=feeds, products=["PF_XBTUSD"], env=venue)
    return make_plan(typed, stdout_is_terminal=False, read_text=lambda path: "")


def key_file(folder: Path, key: Credentials = FILED, mode: int = 0o600) -> Path:
    path = folder / "my keys"
    path.write_text(f"api_key = {key.key}\napi_secret = {key.secret}\n")
    path.chmod(mode)
    return path


def found(
    environ: Mapping[str, str],
    file: Path | str | None = None,
    command: str | None = None,
    venue: VenueName = VenueName.live,
) -> Credentials | None:
    return Env(environ).credentials(
        plan(venue=venue), file=str(file) if file is not None else None, command=command
    )


def test_public_feeds_need_no_key_and_nothing_is_read_for_one() -> None:
    env = Env({"KFWS_API_KEY": "half of a pair"})
    assert env.credentials(plan("trade"), file="/no/such/file", command="exit 1") is None


def test_the_first_source_of_credentials_wins(tmp_path: Path) -> None:
    path = key_file(tmp_path)
    command = f"echo {MINE.key}; echo {MINE.secret}"
    both = MY_VARIABLES | OFFICIAL_VARIABLES
    assert found(both, path, command) == FILED
    assert found(OFFICIAL_VARIABLES, None, command) == MINE
    assert found(both) == MINE
    assert found(OFFICIAL_VARIABLES) == OFFICIAL


def test_the_simulator_takes_its_own_key_unless_one_is_named(tmp_path: Path) -> None:
    sim = VenueName.sim
    assert found(MY_VARIABLES, venue=sim) == DEMO
    assert found({}, key_file(tmp_path), venue=sim) == FILED
    assert found({}, None, f"echo {MINE.key}; echo {MINE.secret}", venue=sim) == MINE


def test_no_key_at_all_is_told_with_the_ways_to_give_one() -> None:
    with pytest.raises(Unwelcome) as caught:
        Env({}).credentials(plan("trade,fills,balances"), file=None, command=None)
    assert caught.value.message == "fills, balances needs an API key"
    assert "KFWS_API_KEY" in caught.value.hint
    assert "--credentials FILE" in caught.value.hint


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666, 0o601])
def test_a_file_that_others_can_get_at_is_refused_with_the_line_that_helps(
    tmp_path: Path, mode: int
) -> None:
    path = key_file(tmp_path, mode=mode)
    with pytest.raises(Unwelcome) as caught:
        found({}, path)
    assert caught.value.message == f"{path} can be read by others than you"
    assert caught.value.hint == f"chmod 600 '{path}'"


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_the_owner_alone_is_good(tmp_path: Path, mode: int) -> None:
    assert found({}, key_file(tmp_path, mode=mode)) == FILED


def test_the_file_behind_a_link_is_what_is_looked_at(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(key_file(tmp_path, mode=0o644))
    with pytest.raises(Unwelcome, match="can be read by others"):
        found({}, link)


def test_a_pipe_such_as_the_shells_is_good(tmp_path: Path, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.write(writer, key_file(tmp_path).read_bytes())
    os.close(writer)
    assert found({}, f"/dev/fd/{reader}") == FILED


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unwelcome, match=os.strerror(errno.ENOENT)):
        found({}, tmp_path / "no")
    with pytest.raises(Unwelcome, match=os.strerror(errno.EISDIR)):
        found({}, tmp_path)


def test_a_file_that_is_no_text_is_told_without_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes(b"api_key=\xff")
    path.chmod(0o600)
    with pytest.raises(Unwelcome) as caught:
        found({}, path)
    assert caught.value.message == f"{path} is no text"
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_a_fault_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("api_key = x\n")
    path.chmod(0o600)
    with pytest.raises(Unwelcome, match=f"^{path}: no API secret found"):
        found({}, path)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("exit 3", "--credentials-command ended with status 3"),
        (
            "echo 'no such'; echo ' vault' >&2; exit 1",
            "--credentials-command ended with status 1",
        ),
        ("kill -9 $$", "--credentials-command ended with status -9"),
        ("true", "--credentials-command: no API key and secret found"),
        ("printf '\\377\\376'", "--credentials-command: no API key and secret found"),
        ("echo '{'", "--credentials-command: not a JSON object"),
    ],
)
def test_a_command_that_gives_no_key_is_told(command: str, text: str) -> None:
    with pytest.raises(Unwelcome) as caught:
        found({}, None, command)
    assert caught.value.message.startswith(text)
    assert caught.value.hint


def test_a_command_that_does_not_end_is_told_without_what_it_printed() -> None:
    world = Env({}, patience_s=0.05)
    with pytest.raises(Unwelcome) as caught:
        world.find_credentials(None, file=None, command="echo secret; exec sleep 60")
    assert caught.value.message == "--credentials-command did not end within 0.05 s"
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_a_command_that_failed_is_not_believed() -> None:
    with pytest.raises(Unwelcome, match="status 1"):
        found(MY_VARIABLES, None, f"echo {FILED.key}; echo {FILED.secret}; exit 1")
