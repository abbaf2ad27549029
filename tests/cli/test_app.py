from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from kfws import __version__
from kfws.cli import app
from kfws.cli.env import Env, LineWriter
from kfws.cli.exits import ExitStatus
from kfws.protocol.auth import DEMO
from kfws.protocol.feeds import FEEDS
from tests.cli.inside import Collected, Done, run, run_to, signals_kept
from tests.cli.program import KFWS, PATIENCE_S, environment
from tests.cli.program import run as run_apart
from tests.needs import lacking

# Help


def page(capfd: pytest.CaptureFixture[str], *args: str, terminal: bool = False) -> str:
    """A help page as one text, without frames and line breaks."""
    done = run(*args, terminal=terminal)
    assert (done.status, done.out, done.err) == (0, b"", "")
    out, err = capfd.readouterr()
    assert err == ""
    assert ("╭─" in out) is terminal
    return re.sub(r"[\s│╭╮╰╯─]+", " ", out).replace(", -", " -")


@pytest.mark.parametrize("terminal", [False, True])
def test_help_names_every_command_and_every_exit_status(
    terminal: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    text = page(capfd, "--help", terminal=terminal)
    for command in (
        "subscribe",
        "replay",
        "feeds",
        "products",
        "sim",
        "auth",
        "doctor",
        "--version",
    ):
        assert command in text
    assert "--version" in text
    for status in ExitStatus:
        assert f"{status.value} {status.meaning}" in text
    assert page(capfd, "-h", terminal=terminal) == text


OF_SUBSCRIBE = (
    "--format -f --output -o --stamp --events --fields --where --until --snapshots --no-snapshots "
    "--count -n --duration --timeout --env --url --rest-url --credentials --credentials-command "
    "--profile --strict --verbose -v --quiet -q --log-format --debug "
    "--proxy --ca-file --compression --insecure --force-feed --overwrite --help -h"
)
OF_PRODUCTS = (
    "--type --refresh --format -f --env --url --rest-url --insecure --proxy --ca-file "
    "--verbose -v --quiet -q --log-format --debug --help -h"
)
OF_REQUEST = (
    "--query --field --yes -y --auth --no-auth --timeout --format -f --env --url --rest-url "
    "--insecure --proxy --ca-file --credentials --credentials-command --profile "
    "--verbose -v --quiet -q --log-format --debug --help -h"
)
OF_REPLAY = (
    "--speed --from --to --feed --product --format -f --output -o --overwrite --stamp --events "
    "--fields --where --until --snapshots --no-snapshots --count -n --duration --strict "
    "--verbose -v --quiet -q --log-format --debug --help -h"
)
OF_DOCTOR = (
    "--env --url --rest-url --insecure --proxy --ca-file --credentials --credentials-command "
    "--profile --format -f --verbose -v --quiet -q --log-format --debug --help -h"
)
OF_CHECK = (
    "--env --url --proxy --ca-file --credentials --credentials-command --profile "
    "--format -f --verbose -v --quiet -q --log-format --debug --help -h"
)
OF_SIM = (
    "--host --port --rest-port --seed --start-time --rate --products --tls-cert --tls-key "
    "--compression --tape --tape-speed "
    "--verbose -v --quiet -q --log-format --debug --help -h"
)


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("subscribe", OF_SUBSCRIBE),
        ("products", OF_PRODUCTS),
        ("sim", OF_SIM),
        ("feeds", "--format -f --quiet -q --log-format --help -h"),
        ("request", OF_REQUEST),
        ("replay", OF_REPLAY),
        ("doctor", OF_DOCTOR),
        ("auth check", OF_CHECK),
        ("auth status", "--env --credentials --credentials-command --profile --format -f -h"),
        ("auth sign", "--env --credentials --credentials-command --profile -h"),
        ("auth login", "--profile --overwrite -h"),
        ("auth logout", "--profile -h"),
    ],
)
def test_the_help_of_a_command_names_each_of_its_options(
    command: str, options: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for terminal in (False, True):
        text = page(capfd, *command.split(), "--help", terminal=terminal)
        assert set(options.split()) <= set(text.split())
        assert f"kfws {command}" in text
        assert "Examples:" in text


@pytest.mark.parametrize("terminal", [False, True])
def test_the_help_shows_names_of_tables_as_they_are_written(
    terminal: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    text = page(capfd, "config", "show", "-h", terminal=terminal)
    assert 'env = "demo" [subscribe] on-full = "drop-oldest" [profiles.paper] redund' in text
    assert "defaults of [profiles.NAME] as well" in text


def test_the_plain_help_has_the_sections_of_the_panels() -> None:
    lines = run_apart("subscribe", "--help").stdout.splitlines()
    titles = [line.rstrip(":") for line in lines if line.endswith(":") and line[0] != " "]
    assert titles[:4] == ["Arguments", "Options", "Venue", "Steadiness"]
    assert titles[-1] == "Messages (stderr)"
    assert "      kfws subscribe trade PF_XBTUSD --no-snapshots | jq .price" in lines


def test_no_option_takes_a_secret() -> None:
    for option in ("--api-key", "--api-secret", "--key", "--secret"):
        assert run("subscribe", "fills", option, "x").status == 2


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command.replace("kfws", " ".join(KFWS))],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment(),
        check=False,
    )


def test_a_reader_of_the_help_who_left_is_no_fault() -> None:
    done = shell("kfws subscribe --help | true; echo ${PIPESTATUS[0]}")
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.parametrize("args", [["--help"], ["subscribe", "-h"], ["--version"], ["feeds"]])
def test_what_a_closed_stdout_cannot_show_is_said_and_status_8(args: list[str]) -> None:
    done = shell(f"kfws {' '.join(args)} >&-")
    assert done.stderr == "kfws: stdout is closed; lead it to a file or a pipe\n"
    assert done.returncode == 8


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], ["feeds"], ["products", "--env", "sim", "-q"]]
)
def test_a_full_disk_is_said_by_all_commands_in_the_same_words(args: list[str]) -> None:
    if not Path("/dev/full").exists():
        lacking("/dev/full is not here")
    done = shell(f"kfws {' '.join(args)} >/dev/full")
    assert done.stderr == ("kfws: disk full: stdout takes no more; make room and start again\n")
    assert done.returncode == 8


@pytest.mark.parametrize(
    ("args", "first"), [([], "subscribe"), (["auth"], "login"), (["config"], "show")]
)
def test_no_command_shows_the_help_and_says_so(
    args: list[str], first: str, capfd: pytest.CaptureFixture[str]
) -> None:
    place = " ".join(["kfws", *args])
    for terminal in (False, True):
        done = run(*args, terminal=terminal)
        assert done.status == 2
        assert done.err == f"kfws: no command was named; see `{place} --help`\n"
        shown = capfd.readouterr().out if terminal else done.out.decode()
        assert f"Usage: {place} " in shown
        assert first in shown


# Version


def test_the_version_is_one_line() -> None:
    assert run("--version") == Done(0, f"kfws {__version__}\n".encode(), "")
    assert run("--version", "subscribe", "nonsense").status == 0


def test_a_version_that_nobody_can_read_is_status_8() -> None:
    assert run_to(-1, "--version").status == 8
    if not Path("/dev/full").exists():
        lacking("/dev/full is not here")
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = run_to(full, "feeds")
    finally:
        os.close(full)
    assert (done.status, len(done.said)) == (8, 1)


# Usage


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["nonsense"], "no such command 'nonsense'; see `kfws --help`"),
        (["sub", "trade"], "no such command 'sub'; similar: subscribe; see `kfws --help`"),
        (["veryfi", "x"], "no such command 'veryfi'; similar: verify; see `kfws --help`"),
        (
            ["auth", "logn"],
            "no such command 'logn'; similar: login, logout; see `kfws auth --help`",
        ),
        (
            ["ticker", "PF_XBTUSD", "--url", "wss://host?token=x"],
            "no such command 'ticker', it is a feed; kfws subscribe ticker PF_XBTUSD",
        ),
        (
            ["trade,open-orders", "PF_*"],
            "no such command 'trade,open-orders', they are feeds; "
            "kfws subscribe trade,open-orders 'PF_*'",
        ),
        (
            ["PF_XBTUSD"],
            "no such command 'PF_XBTUSD', it looks like a product; kfws subscribe ticker PF_XBTUSD",
        ),
        (["--nonsense"], "no such option: --nonsense; see `kfws --help`"),
        (
            ["subscribe"],
            "missing argument 'FEED[,FEED…]'; see `kfws subscribe --help`",
        ),
        (
            ["subscribe", "trade", "PF_XBTUSD", "--nope"],
            "no such option: --nope; similar: --loop, --since; see `kfws subscribe --help`",
        ),
        (
            ["subscribe", "trade", "PF_XBTUSD", "-n"],
            "option '-n' requires an argument; see `kfws subscribe --help`",
        ),
        (
            ["subscribe", "trade", "PF_XBTUSD", "--enviroment", "sim"],
            "no such option: --enviroment; similar: --env, --events; see `kfws subscribe --help`",
        ),
        (
            ["feeds", "--zzz"],
            "no such option: --zzz; see `kfws feeds --help`",
        ),
        (
            ["request", "FETCH", "tickers"],
            "invalid value for 'METHOD': 'FETCH' is not one of GET, POST, PUT, DELETE; "
            "see `kfws request --help`",
        ),
        (
            ["subscribe", "trade", "PF_XBTUSD", "-n", "many"],
            "invalid value for '-n' / '--count': 'many' is no whole number; "
            "see `kfws subscribe --help`",
        ),
        (
            ["subscribe", "trade", "PF_XBTUSD", "-n", "1e99"],
            "invalid value for '-n' / '--count': '1e99' is no whole number; "
            "see `kfws subscribe --help`",
        ),
        (
            ["book", "PF_XBTUSD", "--group", "abc"],
            "invalid value for '--group': 'abc' is no whole number; see `kfws book --help`",
        ),
        (
            ["feeds", "-f", "nope"],
            "invalid value for '-f' / '--format': 'nope' is not one of 'auto', 'table', 'ndjson', "
            "'json', 'csv', 'raw'; see `kfws feeds --help`",
        ),
        (
            ["feeds", "trade"],
            "got unexpected extra argument(s) (trade); see `kfws feeds --help`",
        ),
        (["sim", "--tls-cert", "x"], "TLS takes two files; --tls-cert FILE --tls-key FILE"),
        (
            ["sim", "--start-time", "soon"],
            "'soon' is not a moment; type it as in 2026-11-24T16:00:00Z or epoch milliseconds",
        ),
        (
            ["subscribe", "trade", "PF_XBTUSD", "--duration", "-5s"],
            "'-5s' is not a duration; type it as in 30s, 250ms, 5m, 1h, 2d or 1m30s",
        ),
    ],
)
def test_what_was_typed_wrong_is_one_line_and_status_2(args: list[str], line: str) -> None:
    assert run(*args) == Done(2, b"", f"kfws: {line}\n")


ODD = ["", " ", "-", "--", "\0", "\n", "\x1b[31m", "é" * 300, "\udcff", "@", "@\0", "-1", "9" * 40]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "args",
    [
        ["ODD"],
        ["subscribe", "ODD"],
        ["subscribe", "trade", "ODD"],
        ["subscribe", "trade", "PF_XBTUSD", "--url", "ODD"],
        ["subscribe", "trade", "PF_XBTUSD", "--where", "ODD"],
        ["subscribe", "trade", "PF_XBTUSD", "--env", "ODD"],
        ["subscribe", "trade", "PF_XBTUSD", "-f", "ODD"],
        ["subscribe", "trade", "PF_XBTUSD", "-n", "ODD", "--timeout", ""],
        ["feeds", "ODD"],
        ["feeds", "-f", "ODD"],
        ["sim", "--port", "ODD", "--start-time", ""],
        ["sim", "ODD"],
        ["replay", "x.ndjson", "--speed", "ODD"],
        ["auth", "ODD"],
        ["doctor", "--url", "ODD"],
    ],
)
def test_odd_things_typed_are_one_harmless_line_and_status_2(args: list[str], odd: str) -> None:
    if odd == "--" and args in (["ODD"], ["feeds", "ODD"], ["sim", "ODD"], ["auth", "ODD"]):
        return  # the end of the options, and so nothing at all
    done = run(*[odd if each == "ODD" else each for each in args])
    assert (done.status, done.out) == (2, b"")
    [line] = done.err.splitlines()
    assert line.startswith("kfws: ")
    assert line.isprintable()


def test_usage_errors_of_ours_are_objects_for_machines() -> None:
    done = run("subscribe", "tickr", "PF_XBTUSD", "--log-format", "json")
    assert done.status == 2
    fields = json.loads(done.err)
    assert fields["level"] == "error"
    assert fields["code"] == "UsageError"
    assert fields["message"] == "no feed tickr; similar: ticker, ticker_lite"
    assert fields["hint"].startswith("`kfws feeds` lists them")


# Bugs


class Unforeseen(dict[str, str]):
    """An environment in which keys cannot be looked for."""

    def get(self, name: str, default: Any = None) -> Any:
        if name.startswith("KFWS_API"):
            raise AttributeError("nobody foresaw this")
        return default


def run_with_a_bug(*args: str) -> Done:
    err = Collected()
    env = Env(Unforeseen(), stderr=LineWriter(err.writer))
    with signals_kept():
        status = app.run(["subscribe", "fills", *args], env)
    err.close()
    return Done(status, b"", err.bytes.decode())


def test_a_bug_is_one_line_and_status_1() -> None:
    done = run_with_a_bug()
    assert done.status == 1
    [line] = done.said
    assert line.startswith("kfws: a bug in kfws: AttributeError: ")
    assert line.endswith("; --debug shows where; please report it")


def test_a_bug_shows_its_traceback_with_debug_only() -> None:
    done = run_with_a_bug("--debug")
    assert done.status == 1
    assert "Traceback (most recent call last):" in done.said


# Feeds


def test_feeds_are_a_table_on_a_terminal() -> None:
    done = run("feeds", terminal=True)
    header, *rows = done.out.decode().splitlines()
    assert header.split() == ["FEED", "ACCESS", "PRODUCTS", "CARRIES"]
    assert [row.split()[0] for row in rows] == list(FEEDS)
    assert rows[0].split()[1:3] == ["public", "named"]
    filtered = [row.split()[0] for row in rows if row.split()[2] == "filter"]
    assert filtered == [
        "fills", "open_positions", "open_orders", "open_orders_verbose", "account_log",
    ]  # fmt: skip
    assert max(map(len, rows)) <= 80
    assert run("feeds", "-f", "table").out == done.out


def test_on_a_narrow_terminal_the_feeds_are_named_whole() -> None:
    done = run("feeds", terminal=True, environ={"COLUMNS": "60"})
    header, *rows = done.out.decode().splitlines()
    assert header.split() == ["FEED", "ACCESS", "CARRIES"]
    assert [row.split()[0] for row in rows] == list(FEEDS)
    assert max(map(len, rows)) <= 60
    assert rows[0].endswith("executed trades, las…")


@pytest.mark.parametrize("format", [[], ["-f", "auto"], ["-f", "ndjson"], ["-f", "raw"]])
def test_feeds_are_objects_in_a_pipe(format: list[str]) -> None:
    done = run("feeds", *format)
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["feed"] for row in rows] == list(FEEDS)
    assert [row["private"] for row in rows] == [feed.private for feed in FEEDS.values()]
    assert (done.status, done.err) == (0, "")


def test_feeds_as_indented_json_are_one_object_after_another() -> None:
    text = run("feeds", "-f", "json").out.decode()
    decoder, at, names = json.JSONDecoder(), 0, []
    while at < len(text):
        row, end = decoder.raw_decode(text, at)
        names.append(row["feed"])
        at = end + 1
    assert names == list(FEEDS)


def test_feeds_as_csv_have_a_header() -> None:
    rows = list(csv.DictReader(io.StringIO(run("feeds", "-f", "csv").out.decode())))
    assert [row["feed"] for row in rows] == list(FEEDS)
    assert list(rows[0]) == ["feed", "private", "products", "summary"]


def test_a_reader_of_the_feeds_who_left_is_no_fault() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert run_to(writer, "feeds") == Done(0, b"", "")
    finally:
        os.close(writer)


# The simulator


def test_the_simulator_says_where_it_is_serves_and_leaves_on_a_signal() -> None:
    err = Collected()
    greeted: list[str] = []

    def visit() -> None:
        try:
            err.until(b"KFWS_API_SECRET=")
            [url] = re.findall(r"simulated venue at (ws://127\.0\.0\.1:\d+/ws/v1)", said())
            with connect(url) as connection:
                greeted.append(str(connection.recv()))
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    def said() -> str:
        return err.bytes.decode()

    visitor = threading.Thread(target=visit)
    visitor.start()
    with signals_kept():
        status = app.run(["sim", "--port", "0"], Env({}, stderr=LineWriter(err.writer)))
    visitor.join(PATIENCE_S)
    err.close()
    assert status == 143
    assert greeted == ['{"event":"info","version":1}']
    assert len(said().splitlines()) == 5
    assert f"export KFWS_API_KEY='{DEMO.key}'" in said()
    assert "/derivatives/api/v3/instruments" in said()


def test_a_port_that_is_taken_is_told() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("sim", "--port", str(port))
    assert done.status == 2
    [line] = done.said
    assert line == (
        f"kfws: cannot listen at 127.0.0.1:{port}: something else listens there already; "
        "another --port or --rest-port, e.g. 0 for any free one"
    )
