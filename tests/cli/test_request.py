"""``kfws request``: what it sends, what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import pty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kfws.cli.commands.request import API
from kfws.protocol.auth import DEMO
from kfws.sim.server import SimOptions, SimulatedVenue, serve
from tests.cli.inside import Done, beside, run
from tests.cli.program import PATIENCE_S, environment, start
from tests.cli.program import run as run_apart
from tests.test_rest import Venue, listening

KEY = {"KFWS_API_KEY": DEMO.key, "KFWS_API_SECRET": DEMO.secret}
BUY = (
    *("--field", "orderType=mkt", "--field", "symbol=PF_XBTUSD"),
    *("--field", "side=buy", "--field", "size=0.01"),
)


@pytest.fixture(name="venue")
def _venue() -> Iterator[Venue]:
    with beside(listening) as venue:
        yield venue


@pytest.fixture(name="sim", scope="module")
def _sim() -> Iterator[SimulatedVenue]:
    with beside(lambda: serve(SimOptions(products=2, rest_port=0))) as venue:
        yield venue


def ask(url: str, *args: str, **more: Any) -> Done:
    return run("request", *args, "--rest-url", url, **more)


def refusal(*args: str, **more: Any) -> str:
    """The one line of a call that is not made, of status 2."""
    done = run("request", *args, **more)
    assert (done.status, done.out) == (2, b"")
    [line] = done.said
    return line


# What is sent


def test_a_name_is_below_the_api_and_a_path_is_itself(venue: Venue) -> None:
    ask(venue.url, "GET", "tickers/PF_XBTUSD")
    ask(venue.url, "get", "/api/history/v2/account-log?count=1")
    assert [seen.target for seen in venue.seen] == [
        f"{API}tickers/PF_XBTUSD",
        "/api/history/v2/account-log?count=1",
    ]


def test_queries_and_fields_go_where_they_belong(venue: Venue) -> None:
    params = ("--query", "a=1", "--query", "b=x=y", "--field", "c=ä", "--field", "c=2")
    ask(venue.url, "POST", "x", *params, "--yes")
    ask(venue.url, "PUT", "x", *params, "--yes")
    post, put = venue.seen
    assert (post.query, post.body) == ("a=1&b=x%3Dy", "c=%C3%A4&c=2")
    assert (put.query, put.body) == ("a=1&b=x%3Dy&c=%C3%A4&c=2", "")


def test_a_key_that_is_there_signs_unless_it_may_not(venue: Venue) -> None:
    ask(venue.url, "GET", "x", environ=KEY)
    ask(venue.url, "GET", "x", "--no-auth", environ=KEY)
    ask(venue.url, "GET", "x")
    assert ["Authent" in seen.headers for seen in venue.seen] == [True, False, False]


def test_a_file_of_credentials_is_good_too(venue: Venue, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"api_key = {DEMO.key}\napi_secret = {DEMO.secret}\n")
    path.chmod(0o600)
    ask(venue.url, "GET", "x", "--credentials", str(path))
    assert venue.seen[0].headers["APIKey"] == DEMO.key


# What is printed


NUMBERS = '{"a": 1.50, "b": [1e-7, 12345678901234567890], "c": "\\u00e4"}'


def test_in_a_pipe_an_answer_is_one_line_with_its_own_digits(venue: Venue) -> None:
    venue.answer = NUMBERS
    done = ask(venue.url, "GET", "x")
    line = b'{"a":1.50,"b":[1e-7,12345678901234567890],"c":"\\u00e4"}\n'
    assert done == Done(0, line, "")
    assert ask(venue.url, "GET", "x", "-f", "ndjson") == done


def test_for_people_it_is_indented(venue: Venue) -> None:
    venue.answer = NUMBERS
    asked = ask(venue.url, "GET", "x", "-f", "json")
    assert asked.out.startswith(b'{\n  "a": 1.50,\n  "b": [\n    1e-7,')
    assert json.loads(asked.out) == json.loads(NUMBERS)
    assert ask(venue.url, "GET", "x", terminal=True) == asked


def test_raw_is_every_byte_as_it_came(venue: Venue) -> None:
    venue.answer = NUMBERS + "  "
    assert ask(venue.url, "GET", "x", "-f", "raw").out == venue.answer.encode()


def test_what_is_no_json_is_printed_as_it_is_and_is_no_answer(venue: Venue) -> None:
    venue.answer = "<html>down</html>"
    done = ask(venue.url, "GET", "x")
    assert (done.status, done.out) == (3, b"<html>down</html>\n")
    assert done.said == ["kfws: the venue is not in service: no JSON: <html>down</html>"]


def test_on_a_terminal_an_answer_does_no_harm(venue: Venue) -> None:
    venue.answer = '{"a":"\x9b2J\u202e"}'
    assert ask(venue.url, "GET", "x", terminal=True).out.decode() == '{\n  "a": "·2J·"\n}\n'
    venue.answer = "\x1b[2J"
    assert "\x1b" not in ask(venue.url, "GET", "x", terminal=True).out.decode()


# How it ends


@pytest.mark.parametrize(
    ("status", "answer", "ended", "sentence"),
    [
        (200, '{"error":"apiLimitExceeded"}', 5, "apiLimitExceeded"),
        (200, '{"result":"error","serverTime":"x"}', 5, "it gives no reason"),
        (400, '{"errors":[{"code":1,"message":"Argument invalid: symbol"}]}', 5, "symbol"),
        (404, "{}", 3, "no such path"),
        (503, "", 3, "not in service"),
        (403, "", 4, "lacks the permission"),
        (200, '{"sendStatus":{"status":"postWouldExecute"}}', 5, "postWouldExecute"),
        (200, '{"editStatus":{"status":"orderForEditNotFound"}}', 5, "does not exist"),
        (200, '{"cancelStatus":{"status":"notFound"}}', 5, "found no such thing"),
        (200, '{"batchStatus":[{"status":"placed"},{"status":"invalidSize"}]}', 5, "invalidSize"),
        (200, '{"sendStatus":{"status":"placed"}}', 0, ""),
        (200, '{"cancelStatus":{"status":"noOrdersToCancel"}}', 0, ""),
        (200, '{"batchStatus":[{"status":"placed"},{"status":"cancelled"}]}', 0, ""),
        (200, '{"status":{"currentTime":"x"},"sendStatus":[1]}', 0, ""),
        (200, "[1]", 0, ""),
    ],
)
def test_the_status_is_the_outcome_and_the_answer_is_printed_all_the_same(
    venue: Venue, status: int, answer: str, ended: int, sentence: str
) -> None:
    venue.status, venue.answer = status, answer
    done = ask(venue.url, "GET", "x")
    assert (done.status, done.out.decode().strip()) == (ended, answer)
    assert len(done.said) == (1 if ended else 0)
    assert sentence in done.err


def test_who_has_no_key_is_told_where_to_put_one(sim: SimulatedVenue) -> None:
    done = ask(sim.rest_url, "GET", "openorders")
    assert done.status == 4
    assert done.said[0].endswith("set KFWS_API_KEY and KFWS_API_SECRET, or give --credentials FILE")


def test_whose_key_is_refused_is_told_to_look_at_it(sim: SimulatedVenue) -> None:
    wrong = {"KFWS_API_KEY": "key", "KFWS_API_SECRET": "AAAA"}
    done = ask(sim.rest_url, "GET", "openorders", environ=wrong)
    assert done.status == 4
    assert done.said[0].endswith("look at the key and what it may do")


def test_an_order_is_placed_seen_and_cancelled(sim: SimulatedVenue) -> None:
    limit = [each.replace("mkt", "lmt") for each in BUY] + ["--field", "limitPrice=1000"]
    placed = ask(sim.rest_url, "POST", "sendorder", *limit, "--yes", environ=KEY)
    id = json.loads(placed.out)["sendStatus"]["order_id"]
    orders = ask(sim.rest_url, "GET", "openorders", environ=KEY)
    assert id in orders.out.decode()
    gone = ask(sim.rest_url, "POST", "cancelorder", "--field", f"order_id={id}", "-y", environ=KEY)
    assert (placed.status, orders.status, gone.status) == (0, 0, 0)
    again = ask(sim.rest_url, "POST", "cancelorder", "--field", f"order_id={id}", "-y", environ=KEY)
    assert again.status == 5


def test_the_simulator_in_the_process_needs_neither_key_nor_yes() -> None:
    done = run("request", "POST", "sendorder", *BUY, "--env", "sim")
    assert done.status == 0
    assert json.loads(done.out)["sendStatus"]["status"] == "placed"
    assert done.err == "kfws: simulated venue and account: --env sim\n"


def test_nothing_listening_is_status_3(unused_tcp_port: int) -> None:
    url = f"ws://127.0.0.1:{unused_tcp_port}/ws/v1"
    done = run("request", "GET", "tickers", "--url", url)
    assert (done.status, done.out) == (3, b"")
    assert done.said == [
        f"kfws: nothing is listening at 127.0.0.1:{unused_tcp_port}; look at --rest-url"
    ]


def test_a_proxy_of_the_environment_is_asked_but_for_this_machine(venue: Venue) -> None:
    venue.status = 502
    env = environment(https_proxy=venue.url, http_proxy=venue.url, socks_proxy="socks5://a:1")
    done = run_apart("request", "GET", "x", "--rest-url", "https://venue.example", env=env)
    assert done.returncode == 3
    place = venue.url.removeprefix("http://")
    assert done.stderr.startswith(f"kfws: the proxy {place} refused: HTTP 502")
    assert [seen.method for seen in venue.seen] == ["CONNECT"]
    with beside(listening) as here:
        direct = run_apart("request", "GET", "x", "--rest-url", here.url, env=env)
        assert (direct.returncode, len(here.seen)) == (0, 1)


def test_an_answer_nested_beyond_measure_is_one_line(venue: Venue) -> None:
    venue.answer = "[" * 100_000 + "]" * 100_000
    done = ask(venue.url, "GET", "x", "-f", "json")
    assert done.status == 3
    [line] = done.said
    assert line.startswith("kfws: the venue is not in service: no JSON: [[[")


# What is refused before anything is sent


def test_what_was_typed_wrong_is_told() -> None:
    assert "--query 'symbol' is no pair" in refusal("GET", "x", "--query", "symbol")
    assert "--field '=1' is no pair" in refusal("POST", "x", "--field", "=1")
    assert "GET sends no fields; --query" in refusal("GET", "x", "--field", "a=1")
    assert "no table form; -f json" in refusal("GET", "x", "-f", "table")
    assert "no csv form" in refusal("GET", "x", "-f", "csv")
    assert "is no path of the venue" in refusal("GET", "https://evil.example/x", "--env", "live")
    assert "not a duration" in refusal("GET", "x", "--timeout", "soon")
    assert "is no text; type it in UTF-8" in refusal("GET", "x", "--query", "a=\udcff")
    assert "both name a venue" in refusal("GET", "x", "--env", "demo", "--url", "wss://a/ws/v1")
    assert "not encrypted" in refusal("GET", "x", "--rest-url", "http://venue.example")


def test_credentials_never_go_over_plain_http() -> None:
    line = refusal("GET", "x", "--rest-url", "http://venue.example", "--insecure", environ=KEY)
    assert "credentials never go over plain http" in line


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_where_nobody_can_be_asked_a_change_needs_yes(venue: Venue, method: str) -> None:
    line = refusal(method, "x", "--rest-url", venue.url)
    assert line == f"kfws: {method} may change something, and nobody can be asked; give --yes"
    assert not venue.seen


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("yes", 0), ("n", 2), ("", 2)])
def test_at_a_terminal_a_change_is_asked_about(venue: Venue, answer: str, status: int) -> None:
    mine, theirs = pty.openpty()
    os.write(mine, f"{answer}\n".encode())
    program = start(
        "request", "DELETE", "x", "--field", "a=1", "--rest-url", venue.url, stdin=theirs
    )
    out, err = program.communicate(timeout=PATIENCE_S)
    for fd in (mine, theirs):
        os.close(fd)
    assert program.returncode == status
    assert err.splitlines()[0] == f"kfws: DELETE {API}x a=1 at {venue.url}: send it? (y/N)"
    assert (len(venue.seen), bool(out)) == ((1, True) if status == 0 else (0, False))
