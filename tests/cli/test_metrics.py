from __future__ import annotations

import asyncio
import errno
import re
import signal
import socket
from urllib.request import urlopen

import pytest

from kfws.cli.metrics import MOST_VISITORS, Standing, exposition, serve_metrics, why_deaf
from kfws.cli.totals import Totals
from kfws.errors import UsageError
from kfws.protocol.events import Closed, Data, Gap, Opened, Redial
from tests.cli.inside import run
from tests.cli.program import PATIENCE_S, end, start


def came(number: int, delay_ms: int) -> Data:
    return Data(
        payload=b"x" * 10,
        received_ns=1_000_000 * delay_ms,
        feed="book",
        product="PF_XBTUSD",
        seq=number,
        venue_ms=0,
    )


def opened(number: int) -> Opened:
    return Opened(received_ns=1, connection=number, url="ws://x")


def lost(number: int) -> Redial:
    return Redial(received_ns=1, reason="lost", failed=0, delay_s=0.1, connection=number)


def values(page: str) -> dict[str, float]:
    """Each sample of a page by its name and labels, as Prometheus reads it."""
    samples = [line for line in page.splitlines() if not line.startswith("#")]
    found = [re.fullmatch(r"([a-z_]+(?:\{.*\})?) (\S+)", line) for line in samples]
    assert all(found)
    return {each[1]: float(each[2]) for each in found if each}


def test_a_page_gives_what_was_counted() -> None:
    totals = Totals()
    totals.passed_on([came(1, 3), came(2, 3)])
    totals.passed_on([came(5, 7000)])
    totals.see(
        Gap(
            received_ns=1,
            feed="book",
            product="PF_XBTUSD",
            first=3,
            last=4,
            missing=2,
            cause="venue",
            from_ns=0,
            to_ns=1,
        )
    )
    standing = Standing(
        started_at=1000.5,
        buffered=7,
        pending={"stdout": 9},
        output_errors={"disk-full": 1},
        ages_s={("book", "PF_XBTUSD"): 0.25, ("fills", ""): 3.0},
    )
    page = values(exposition(totals, standing))
    assert page["kfws_messages_total"] == 3
    assert page["kfws_bytes_total"] == 30
    assert page["kfws_gaps_total"] == 1
    assert page["kfws_missing_messages_total"] == 2
    assert page["kfws_start_time_seconds"] == 1000.5
    assert page["kfws_buffered_bytes"] == 7
    assert page['kfws_output_pending_bytes{output="stdout"}'] == 9
    assert page['kfws_output_errors_total{kind="disk-full"}'] == 1
    assert page['kfws_last_message_age_seconds{feed="book",product="PF_XBTUSD"}'] == 0.25
    assert page['kfws_last_message_age_seconds{feed="fills",product=""}'] == 3


def test_delays_are_a_histogram_that_adds_up() -> None:
    totals = Totals()
    for number, delay in enumerate((-2, 1, 2, 7, 7000)):
        totals.passed_on([came(number, delay)])
    page = values(exposition(totals, Standing(started_at=0)))
    bounds = [(0.001, 2), (0.002, 3), (0.005, 3), (0.01, 4), (5, 4)]
    for bound, below in bounds:
        assert page[f'kfws_delay_seconds_bucket{{le="{bound:g}"}}'] == below
    assert page['kfws_delay_seconds_bucket{le="+Inf"}'] == 5
    assert page["kfws_delay_seconds_count"] == 5
    assert page["kfws_delay_seconds_sum"] == 7.008


def test_a_connection_that_stands_again_is_a_reconnect_and_a_first_one_is_none() -> None:
    totals = Totals()
    for event in (lost(0), opened(1), lost(1), lost(0), lost(0), opened(2)):
        totals.see(event)
    totals.see(Closed(received_ns=1, connection=1, code=1006, reason=""))
    page = values(exposition(totals, Standing(started_at=0)))
    assert page["kfws_connections_opened_total"] == 2
    assert page["kfws_reconnects_total"] == 1
    assert page["kfws_connections"] == 1


def test_what_stands_in_a_label_cannot_break_the_page() -> None:
    standing = Standing(started_at=0, pending={'a"} 1\n\\': 1})
    page = exposition(Totals(), standing)
    assert 'kfws_output_pending_bytes{output="a\\"} 1\\n\\\\"} 1\n' in page
    assert all(re.match(r"#|kfws_", line) for line in page.splitlines())


def test_every_family_says_what_it_is_and_comes_once() -> None:
    page = exposition(Totals(), Standing(started_at=0))
    named = re.findall(r"^# TYPE (\w+) (?:counter|gauge|histogram)$", page, re.MULTILINE)
    helped = re.findall(r"^# HELP (\w+) .+\.$", page, re.MULTILINE)
    assert named == helped
    assert len(set(named)) == len(named)


# HTTP


async def ask(port: int, request: bytes) -> tuple[bytes, bytes]:
    """Head and body of what is answered, up to the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


def port_of(url: str) -> int:
    return int(url.split(":")[2].split("/")[0])


@pytest.mark.parametrize(
    ("request_line", "status", "body"),
    [
        (b"GET /metrics HTTP/1.1", b"200 OK", b"a 1\n"),
        (b"GET /metrics?x=1 HTTP/1.0", b"200 OK", b"a 1\n"),
        (b"HEAD /metrics HTTP/1.1", b"200 OK", b""),
        (b"GET / HTTP/1.1", b"404 Not Found", b"it is at /metrics\n"),
        (b"POST /metrics HTTP/1.1", b"405 Method Not Allowed", b"only GET\n"),
        (b"\xff\x00", b"405 Method Not Allowed", b"only GET\n"),
    ],
)
async def test_a_request_gets_one_answer_and_the_end(
    request_line: bytes, status: bytes, body: bytes
) -> None:
    async with serve_metrics("127.0.0.1", 0, lambda: "a 1\n") as url:
        head, got = await ask(port_of(url), request_line + b"\r\nHost: x\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert b"Content-Type: text/plain; version=0.0.4; charset=utf-8" in head
    assert got == body


async def test_a_request_without_an_end_is_cut_off() -> None:
    async with serve_metrics("127.0.0.1", 0, lambda: "a 1\n") as url:
        assert await ask(port_of(url), b"GET /" + b"x" * 40_000) == (b"", b"")


async def test_who_asks_nothing_keeps_nobody_from_leaving() -> None:
    async with serve_metrics("127.0.0.1", 0, lambda: "a 1\n") as url:
        idle = [
            await asyncio.open_connection("127.0.0.1", port_of(url)) for _ in range(MOST_VISITORS)
        ]
        head, _ = await ask(port_of(url), b"")  # one too many
        assert head == b""
    for reader, writer in idle:
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass  # so an abort looks from here
        writer.close()


async def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError) as told:
            async with serve_metrics("127.0.0.1", port, str):
                pass
    assert told.value.message == (
        f"--metrics cannot listen at 127.0.0.1:{port}: something else listens there already"
    )


def test_why_nothing_can_listen_is_said_in_the_words_of_the_system() -> None:
    loop_says = "error while attempting to bind on address ('127.0.0.1', 80): permission denied"
    assert why_deaf(OSError(errno.EACCES, loop_says)) == "permission denied"
    assert why_deaf(OSError(-2, "Name or service not known")) == "Name or service not known"


# The program


@pytest.mark.parametrize("odd", ["", "x", "localhost", "1:2:3", "99999", "a b:1", "-1", ":"])
def test_an_address_that_is_none_is_refused(odd: str) -> None:
    done = run("subscribe", "trade", "PF_XBTUSD", f"--metrics={odd}")
    assert done.status == 2
    assert "is not an address to listen at; type it as in 127.0.0.1:9464 or 9464" in done.err


@pytest.mark.parametrize("command", ["subscribe book,trade", "book"])
def test_a_run_answers_while_it_streams(command: str) -> None:
    program = start(*command.split(), "PF_XBTUSD", "--env", "sim", "--metrics", "0", "-v")
    assert program.stdout is not None
    assert program.stderr is not None
    told = None
    while told is None:
        told = re.search(r"metrics at (http://127\.0\.0\.1:\d+/metrics)", program.stderr.readline())
    for _ in range(5):
        assert program.stdout.readline()
    with urlopen(told[1], timeout=PATIENCE_S) as answer:
        page = values(answer.read().decode())
    assert page["kfws_messages_total"] >= 5
    assert page["kfws_connections"] == 1
    assert page["kfws_reconnects_total"] == 0
    assert page['kfws_output_errors_total{kind="failed"}'] == 0
    assert 0 <= page['kfws_last_message_age_seconds{feed="book",product="PF_XBTUSD"}'] < PATIENCE_S
    _, status = end(program, signal.SIGTERM)
    assert status == 143
