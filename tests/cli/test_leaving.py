"""How the real program leaves: limits, readers, signals, full disks; each in its own process."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.program import KFWS, ON_TERMINAL, PATIENCE_S, end, environment, lines, run, start

SIM = ("--env", "sim")
BOOK = ("subscribe", "book", "PF_XBTUSD", *SIM)
TICKER = ("subscribe", "ticker", "PF_XBTUSD", *SIM)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe as small as the system makes them."""
    reader, writer = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            pass


# Limits


def test_a_count_ends_with_0_after_exactly_so_many_messages() -> None:
    done = run(*BOOK, "-n", "7")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 7
    assert lines(done.stderr) == []


def test_a_duration_ends_with_0_even_if_nothing_came() -> None:
    done = run("subscribe", "deposits_withdrawals", *SIM, "--duration", "300ms")
    assert (done.returncode, done.stdout, lines(done.stderr)) == (0, "", [])


def test_a_timeout_ends_with_9_and_says_so() -> None:
    done = run("subscribe", "deposits_withdrawals", *SIM, "--timeout", "300ms")
    assert done.returncode == 9
    assert lines(done.stderr) == ["kfws: no message came for 0.3 s (--timeout)"]


def test_until_ends_with_0_after_the_first_match() -> None:
    done = run("subscribe", "trade", "PF_XBTUSD", *SIM, "--no-snapshots", "--until", "qty>0")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1


def test_until_that_never_matched_ends_with_9() -> None:
    done = run(*TICKER, "--until", "last<0", "-n", "1")
    assert done.returncode == 9
    assert lines(done.stderr) == ["kfws: no message matched --until 'last<0'"]


# Readers


@pytest.mark.parametrize("format", ["ndjson", "raw", "json", "csv", "table"])
def test_a_reader_that_left_ends_the_run_silently_with_0(format: str) -> None:
    program = start(*BOOK, "-f", format)
    assert program.stdout is not None
    assert program.stdout.readline()
    program.stdout.close()
    _, err = program.communicate(timeout=PATIENCE_S)
    assert (program.returncode, lines(err)) == (0, [])


def test_a_reader_that_left_is_noticed_while_the_market_is_quiet() -> None:
    program = start("subscribe", "deposits_withdrawals", *SIM, "-v")
    assert program.stdout is not None
    assert program.stderr is not None
    while "subscribed to" not in program.stderr.readline():
        pass
    program.stdout.close()
    program.communicate(timeout=PATIENCE_S)
    assert program.returncode == 0


def test_nobody_reading_stderr_either_is_no_fault() -> None:
    program = start(*TICKER, "-v")
    assert program.stdout is not None
    assert program.stderr is not None
    program.stderr.close()
    assert program.stdout.readline()
    program.stdout.close()
    assert program.wait(PATIENCE_S) == 0


def test_a_slow_reader_gets_every_line_whole_and_in_order(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    program = start(*BOOK, "-n", "300", stdout=writer)
    os.close(writer)
    got = bytearray()
    while piece := os.read(reader, 333):
        got += piece
    _, err = program.communicate(timeout=PATIENCE_S)
    numbers = [json.loads(line)["seq"] for line in got.splitlines()]
    assert numbers == list(range(numbers[0], numbers[0] + 300))
    assert (program.returncode, lines(err)) == (0, [])


def test_a_socket_is_a_good_stdout() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        program = start(*BOOK, "-n", "50", stdout=theirs.fileno())
        theirs.close()
        got = b""
        while piece := ours.recv(65536):
            got += piece
        assert program.wait(PATIENCE_S) == 0
        program.communicate()
    assert len(got.splitlines()) == 50


def test_the_shell_sees_0_and_0_behind_head() -> None:
    command = f"{' '.join(KFWS)} {' '.join(TICKER)} | head -1; echo ${{PIPESTATUS[@]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment(),
        check=False,
    )
    first, statuses = done.stdout.splitlines()
    assert json.loads(first)["product_id"] == "PF_XBTUSD"
    assert statuses == "0 0"


def test_a_stdout_that_is_closed_is_said() -> None:
    command = f"{' '.join(KFWS)} {' '.join(TICKER)} -n 1 >&-"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment(),
        check=False,
    )
    assert done.returncode == 8
    assert done.stderr == "kfws: stdout is closed; write to a file with -o PATH\n"


# Signals


@pytest.fixture
def terminal() -> Iterator[str]:
    """The name of a terminal that nobody uses."""
    ours, theirs = os.openpty()
    yield os.ttyname(theirs)
    os.close(theirs)
    os.close(ours)


@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_leaves_with_its_status_and_whole_lines(
    signum: signal.Signals, status: int, terminal: str
) -> None:
    program = subprocess.Popen(
        [*ON_TERMINAL, terminal, *KFWS, *BOOK],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert program.stdout is not None
    assert program.stdout.readline()
    program.send_signal(signum)
    out, err = program.communicate(timeout=PATIENCE_S)
    assert program.returncode == status
    assert lines(err) == []
    for line in out.splitlines():
        json.loads(line)
    assert out.endswith("\n") or not out


def until(path: Path, lines: int) -> list[dict[str, object]]:
    """The objects of a file that is being written, once there are so many."""
    while not path.exists() or path.read_bytes().count(b"\n") < lines:
        time.sleep(0.02)  # the program forces to disk what it has, and says nothing
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_a_hangup_without_a_terminal_opens_files_anew(tmp_path: Path) -> None:
    tape, moved, csv = tmp_path / "a.ndjson", tmp_path / "a.ndjson.1", tmp_path / "a.csv"
    program = start(*BOOK, "-o", str(tape), "-o", str(csv), start_new_session=True)
    until(tape, 8)
    before = csv.stat().st_ino
    tape.rename(moved)
    program.send_signal(signal.SIGHUP)
    until(tape, 8)
    err, status = end(program, signal.SIGTERM)
    assert (status, lines(err)) == (143, [])
    first, second = until(moved, 8), until(tape, 8)
    assert first[-1]["kfws"] == "continued"
    assert (second[0]["kfws"], second[0]["continues"]) == ("header", "a.ndjson")
    assert second[-1]["kfws"] == "totals"
    assert csv.stat().st_ino == before  # where it was, and not emptied
    assert csv.read_text().startswith("received_ns,")
    verified = run("verify", str(moved), str(tape))
    assert (verified.returncode, json.loads(verified.stdout)["gaps"]) == (0, [])


def test_a_hangup_without_a_terminal_begins_the_next_file_of_a_rotation(tmp_path: Path) -> None:
    tape = tmp_path / "{n}.ndjson"
    program = start(*BOOK, "-o", str(tape), "--rotate", "1d", start_new_session=True)
    until(tmp_path / "1.ndjson.open", 8)
    program.send_signal(signal.SIGHUP)
    until(tmp_path / "2.ndjson.open", 2)
    err, status = end(program, signal.SIGTERM)
    assert (status, lines(err)) == (143, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.ndjson", "2.ndjson"]
    assert until(tmp_path / "2.ndjson", 1)[0]["continues"] == "1.ndjson"


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_while_the_reader_stands_still_and_says_what_is_lost(
    signum: signal.Signals, status: int, pipe: tuple[int, int]
) -> None:
    _, writer = pipe
    program = start("subscribe", "book", "PF_XBTUSD,PF_ETHUSD", *SIM, "-v", stdout=writer)
    assert program.stderr is not None
    while "subscribed to book PF_ETHUSD" not in program.stderr.readline():
        pass  # a snapshot is larger than the pipe, so it stands by now
    err, returncode = end(program, signum)
    assert returncode == status
    assert "not written to stdout" in err
    assert "messages missing (slow-reader)" in err or "message missing (slow-reader)" in err
    assert "Traceback" not in err


def test_a_signal_leaves_during_the_handshake() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        program = start("subscribe", "ticker", "PF_XBTUSD", "--url", f"ws://127.0.0.1:{port}/ws/v1")
        peer, _ = mute.accept()
        with peer:
            assert peer.recv(10)
            err, status = end(program, signal.SIGINT)
    assert (status, lines(err)) == (130, [])


def test_a_signal_leaves_while_a_name_is_looked_up() -> None:
    # A resolver that never answers, in place of the system's, in the program's own process.
    program = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import socket, sys, threading\n"
            "def hang(*args, **kwargs):\n"
            "    print('looking', flush=True)\n"
            "    threading.Event().wait()\n"
            "socket.getaddrinfo = hang\n"
            "sys.argv[1:] = ['subscribe', 'ticker', 'PF_XBTUSD', '--proxy', 'none']\n"
            "from kfws.__main__ import main\n"
            "main()\n",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "looking\n"
    err, status = end(program, signal.SIGINT)
    assert (status, lines(err)) == (130, [])


def test_the_websocket_is_closed_properly_on_a_signal() -> None:
    closes: list[bytes] = []
    ready = threading.Event()

    def serve(server: socket.socket) -> None:
        from websockets.sync.server import Server, ServerConnection
        from websockets.sync.server import serve as listen

        def talk(connection: ServerConnection) -> None:
            connection.send('{"event":"info","version":1}')
            connection.recv()
            ready.set()
            for _ in connection:
                pass
            closes.append(str(connection.close_code).encode())
            threading.Thread(target=listening.shutdown).start()

        listening: Server
        with listen(talk, sock=server) as listening:
            listening.serve_forever()

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        program = start("subscribe", "ticker", "PF_XBTUSD", "--url", f"ws://127.0.0.1:{port}/ws/v1")
        assert ready.wait(PATIENCE_S)
        _, status = end(program, signal.SIGINT)
        thread.join(PATIENCE_S)
    assert status == 130
    assert closes == [b"1000"]


# Full disks


def test_a_full_device_on_stdout_is_one_line_and_8() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("w") as full:
        program = start(*TICKER, stdout=full)
        _, err = program.communicate(timeout=PATIENCE_S)
    assert program.returncode == 8
    assert lines(err) == [
        "kfws: disk full: stdout takes no more (1 line not written to stdout); "
        "make room and start again"
    ]


@pytest.mark.parametrize("to_stdout", [True, False])
def test_a_file_size_limit_is_one_line_and_8_and_leaves_whole_lines(
    to_stdout: bool, tmp_path: Path
) -> None:
    path = tmp_path / "book.ndjson"
    target = f"> {path}" if to_stdout else f"-o {path}"
    command = f"ulimit -f 64; exec {' '.join(KFWS)} {' '.join(BOOK)} {target}"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment(),
        check=False,
    )
    assert done.returncode == 8
    assert len(lines(done.stderr)) == 1
    text = path.read_bytes()
    assert text.endswith(b"\n")
    assert len(text) > 30_000
    for line in text.splitlines():
        json.loads(line)


def test_a_file_that_cannot_be_written_is_found_before_connecting(tmp_path: Path) -> None:
    done = run(
        "subscribe", "ticker", "PF_XBTUSD", "--url", "ws://127.0.0.1:1/ws/v1",
        "-o", str(tmp_path / "no" / "x.ndjson"),
    )  # fmt: skip
    assert done.returncode == 8
    [line] = done.stderr.splitlines()
    assert f"mkdir -p {tmp_path / 'no'}" in line


# Bugs


def test_python_m_kfws_is_the_program() -> None:
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("kfws ")
