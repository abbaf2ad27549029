"""No secret gets out: every command and many faults, with marked secrets, and a look at all that
was written. The one exception is what `kfws auth sign` is asked for.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
from websockets.asyncio.server import ServerConnection

from kfws import FuturesWSClient
from kfws.cli.app import app
from kfws.cli.commands import COMMANDS, GROUPS
from kfws.cli.env import Env
from kfws.cli.plan import Typed, make_plan
from kfws.cli.program import Program
from kfws.errors import KfwsError
from kfws.protocol.auth import DEMO, Credentials, sign_challenge
from kfws.protocol.session import Session, Subscription
from kfws.rest import Rest
from kfws.sim.faults import KINDS
from kfws.sim.faults import parse as parse_fault
from kfws.sim.server import SimOptions, serve
from kfws.sources.connection import Target, dial
from kfws.sources.live import Live
from tests.cli.inside import beside, run
from tests.cli.program import end, environment, start
from tests.cli.program import run as run_apart
from tests.loopback import Loopback, loopback
from tests.nats_server import nats_server
from tests.test_rest import listening

WRONG = Credentials("marked-key-of-nobody-0001", "bWFya2VkLXNlY3JldC1vZi1ub2JvZHk=")
PASSWORD = "marked-word-of-a-relay"
LOUD = ("--debug", "-v")
# Shorter pieces may be there by chance; the last four characters of a key may be shown.
PIECE = 8


def variables(key: Credentials) -> dict[str, str]:
    return {"KFWS_API_KEY": key.key, "KFWS_API_SECRET": key.secret}


def secrets_in(text: bytes | str, marks: Iterable[str]) -> list[str]:
    """Each mark of which a piece stands in the text, however JSON spells it, and where."""
    found = text.decode(errors="replace") if isinstance(text, bytes) else text
    plain = found.replace("\\/", "/")
    return [
        f"{mark}: {plain[max(0, plain.index(piece) - 80) :][:200]}"
        for mark in marks
        if (piece := next((each for each in _pieces(mark) if each in plain), None))
    ]


def _pieces(mark: str) -> Iterator[str]:
    for at in range(len(mark) - PIECE + 1):
        yield mark[at : at + PIECE]


def marks_of(*keys: Credentials) -> list[str]:
    return [mark for key in keys for mark in (key.key, key.secret)]


def all_written(folder: Path) -> bytes:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return b"\n".join(
        gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for path in files
    )


def test_a_secret_that_gets_out_is_seen() -> None:
    assert len(secrets_in(f"x{DEMO.secret[20:28]}x", marks_of(DEMO))) == 1
    assert len(secrets_in(DEMO.secret.replace("/", "\\/"), marks_of(DEMO))) == 1
    assert not secrets_in(f"…{DEMO.key[-4:]}", marks_of(DEMO))


FAULTS = (
    *("", "drop@100ms", "close=1008@3msgs", "restart@100ms", "refuse=503:times=1"),
    *("alerts=1", "no-ack=1", "late-challenge=100ms", "wrong-challenge=1", "wrong-challenge=9"),
    *("reject:feed=fills", "broken=1@2msgs", "binary=1@2msgs", "duplicate=1@2msgs"),
    *(
        "gap=1@2msgs",
        "reorder=1@2msgs",
        "silent@2msgs:feed=ticker",
        "no-snapshot=1",
        "no-ack:no-data",
        "slow=10ms",
    ),
    *("half-open@3msgs", "stall@3msgs", "huge=1MB@2msgs"),
)
FORMATS = ("ndjson", "raw", "json", "table")


def test_there_is_a_case_of_every_fault() -> None:
    assert {parse_fault(each).name for each in FAULTS if each} == {*KINDS}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_brings_a_secret_into_an_output_or_a_log(fault: str, tmp_path: Path) -> None:
    place = FAULTS.index(fault)
    options = SimOptions(faults=[fault] if fault else ())
    with beside(lambda: serve(options)) as venue:
        done = run(
            *("subscribe", "fills,open_orders,ticker", "PF_XBTUSD", "--url", venue.url, *LOUD),
            *("--duration", "700ms", "--events", "-f", FORMATS[place % len(FORMATS)]),
            *("-o", "-", "-o", str(tmp_path / "tape.ndjson"), "-o", str(tmp_path / "{feed}.csv")),
            *("--log-format", ("text", "json")[place % 2]),
            environ=variables(DEMO),
        )
        asked = [json.loads(each) for each in venue.received]
    assert done.status in (0, 4, 5), done.err
    signed = {str(each[k]) for each in asked for k in _OF_REQUESTS if k in each}
    marks = {*marks_of(DEMO), *signed}
    assert len(signed) >= 1
    for written in (done.out, done.err, all_written(tmp_path)):
        assert secrets_in(written, marks) == []


# A challenge without its signature is worth nothing; the venue's message with it stays as it is.
_OF_REQUESTS = ("api_key", "signed_challenge")


@contextmanager
def echoing() -> Iterator[str]:
    """A venue that repeats all it was told, in acknowledgements and in places of its own."""
    venues: list[Loopback] = []

    async def repeat(connection: ServerConnection) -> None:
        venue = venues[0]
        await venue.until(lambda seen: any("api_key" in each for each in seen.requests))
        await connection.send(json.dumps({"event": "challenge", "message": CHALLENGE}))
        await venues[0].until(
            lambda seen: any("signed_challenge" in each for each in seen.requests)
        )
        for event in ("subscribed", "alert", "info"):
            echo = {"event": event, "feed": "fills", "message": DEMO.secret, **ECHO}
            await connection.send(json.dumps(echo))
        await connection.send(json.dumps({"feed": "fills", "fills": [], "x": ECHO}))

    with beside(lambda: loopback(repeat)) as venue:
        venues.append(venue)
        yield venue.url


@pytest.mark.parametrize("format", FORMATS)
def test_what_a_venue_echoes_is_overwritten(format: str, tmp_path: Path) -> None:
    with echoing() as url:
        done = run(
            *("subscribe", "fills", "--url", url, *LOUD, "-n", "1", "--timeout", "10s"),
            *("-f", format, "--events", "-o", "-", "-o", str(tmp_path / "tape.ndjson.gz")),
            environ=variables(DEMO),
        )
    assert done.status == 0, done.err
    marks = [*marks_of(DEMO), ECHO["signed_challenge"]]
    assert b"****" in all_written(tmp_path)
    for written in (done.out, done.err, all_written(tmp_path)):
        assert secrets_in(written, marks) == []


def test_it_is_overwritten_in_what_jetstream_keeps_too(tmp_path: Path) -> None:
    with nats_server(tmp_path / "server") as server:
        with echoing() as url:
            done = run(
                *("subscribe", "fills", "--url", url, *LOUD, "-n", "1", "--timeout", "10s"),
                *(
                    "--events",
                    "--publish-private",
                    "-o",
                    server.address,
                    "--spool",
                    str(tmp_path / "spool"),
                ),
                environ=variables(DEMO),
            )
        assert done.status == 0, done.err
        server.stop()
        kept = all_written(tmp_path / "server")
    assert b'"fills": []' in kept
    assert b"****" in kept
    for written in (done.out, done.err, kept):
        assert secrets_in(written, [*marks_of(DEMO), ECHO["signed_challenge"]]) == []


def test_it_is_overwritten_in_what_waits_for_jetstream(tmp_path: Path) -> None:
    with nats_server(tmp_path / "server") as server, echoing() as url:
        server.stop()
        spool = tmp_path / "spool"
        done = run(
            *("subscribe", "fills", "--url", url, *LOUD, "-n", "1", "--timeout", "10s"),
            *(
                "--events",
                "--publish-private",
                "-o",
                server.address,
                "-o",
                "-",
                "--spool",
                str(spool),
            ),
            environ=variables(DEMO),
        )
        kept = spool.read_bytes()
    assert b'"fills": []' in kept
    assert b"****" in kept
    for written in (done.out, done.err, kept):
        assert secrets_in(written, [*marks_of(DEMO), ECHO["signed_challenge"]]) == []


CHALLENGE = "226aee50-88fc-4618-a42a-34f7709570b2"
ECHO = {
    "api_key": DEMO.key,
    "original_challenge": CHALLENGE,
    "signed_challenge": sign_challenge(DEMO.secret, CHALLENGE),
}


def commands() -> set[str]:
    """Every command that there is."""
    program = typer.main.get_group(app)
    assert isinstance(program, Program)
    loaded = program.load_all()
    return {*COMMANDS} | {name for group in GROUPS for name in loaded[group].commands}


def test_no_command_writes_a_secret(tmp_path: Path) -> None:
    """The good key in the environment, a wrong one kept and in a file."""
    config, file = tmp_path / "config", tmp_path / "keys"
    out = tmp_path / "out"
    out.mkdir()
    file.write_text(f"api_key = {WRONG.key}\napi_secret = {WRONG.secret}\n")
    file.chmod(0o600)
    tape = str(out / "tape.ndjson")
    prints = f"printf '{WRONG.key}\\n{WRONG.secret}\\n'"
    proxy = f"http://me:{PASSWORD}@127.0.0.1:1"
    with beside(lambda: serve(SimOptions(rest_port=0))) as venue, beside(listening) as rest:
        ws = ("--url", venue.url)
        lines: list[tuple[str, ...]] = [
            ("subscribe", "fills", *ws, "-n", "1", "-o", tape, "--credentials-command", prints),
            ("subscribe", "open_orders,fills", *ws, "-n", "2", "-o", tape),
            ("subscribe", "fills", *ws, "--profile", "marked"),
            ("subscribe", "fills", *ws, "--credentials", str(file), "-f", "raw"),
            (
                *("subscribe", "ticker", "PF_XBTUSD", "--env", "demo", "--proxy", proxy),
                *("--attempts", "1", "-o", str(out / "proxied.ndjson")),
            ),
            ("book", "PF_XBTUSD", *ws, "-n", "1"),
            ("feeds",),
            ("products", "--rest-url", venue.rest_url),
            ("request", "GET", "openorders", "--rest-url", venue.rest_url),
            ("request", "GET", "openorders", "--rest-url", rest.url),
            ("request", "GET", "openorders", "--rest-url", rest.url, "--proxy", proxy),
            ("request", "POST", "x", "--rest-url", venue.rest_url, "-y", "--profile", "marked"),
            ("request", "GET", "x", "--rest-url", "http://venue.example", "--insecure"),
            ("replay", tape, "--speed", "max", "--events"),
            ("verify", tape),
            ("merge", tape, "-o", str(out / "merged.ndjson")),
            ("convert", tape, str(out / "fills.csv"), "--feed", "fills"),
            ("auth", "status", "--credentials", str(file), "--profile", "marked"),
            ("auth", "check", *ws),
            ("auth", "check", *ws, "--profile", "marked"),
            ("auth", "check", "--env", "demo", "--proxy", proxy),
            ("auth", "sign", "x", "--profile", "no"),
            ("doctor", *ws, "--rest-url", venue.rest_url),
            ("doctor", *ws, "--profile", "marked"),
            ("doctor", "--env", "demo", "--proxy", proxy),
            ("auth", "logout", "--profile", "marked"),
            ("config", "show", "request"),
        ]
        logged_in = run_apart(
            *("auth", "login", "--profile", "marked", *LOUD),
            input=f"{WRONG.key}\n{WRONG.secret}\n",
            env=environment(XDG_CONFIG_HOME=str(config)),
        )
        written = [logged_in.stdout, logged_in.stderr]
        for args in lines:
            loud = () if args[0] in ("feeds", "config") else LOUD
            more = {"KFWS_PROXY": proxy} if args[0] == "config" else {}
            done = run(*args, *loud, environ=variables(DEMO) | more, config=config / "kfws")
            assert done.status != 1, (args, done.err)
            written += [done.out.decode(), done.err]
        asked = [json.loads(each) for each in venue.received]
        signatures = [seen.headers["Authent"] for seen in rest.seen]
    program = start("sim", "--port", "0", *LOUD, env=environment(**variables(WRONG)))
    assert program.stderr is not None
    written.append(program.stderr.readline())
    assert program.poll() is None
    ours, _ = end(program, signal.SIGTERM)  # it publishes a key of its own
    assert secrets_in(ours, marks_of(WRONG)) == []
    typed = {arg for args in lines for arg in args[:2]} | {"sim", "login"}
    assert commands() <= typed
    signed = {str(each[k]) for each in asked for k in _OF_REQUESTS if k in each}
    assert len(signed) > 4
    assert signatures
    marks = {*marks_of(DEMO, WRONG), PASSWORD, *signed, *signatures}
    for text in (*written, all_written(out).decode(errors="replace")):
        assert secrets_in(text, marks) == []


def test_a_token_in_the_url_of_a_venue_is_not_shown(tmp_path: Path) -> None:
    tape = tmp_path / "tape.ndjson"
    with beside(lambda: serve(SimOptions(rest_port=0))) as venue:
        url = f"{venue.url}?token={PASSWORD}"
        lines: list[tuple[int, tuple[str, ...]]] = [
            (0, ("subscribe", "ticker", "PF_XBTUSD", "--url", url, "-n", "1", "-o", str(tape))),
            (0, ("subscribe", "ticker", "PF_XBTUSD", "--url", url, "-n", "1", "--events")),
            (0, ("replay", str(tape), "--speed", "max", "--events")),
            (0, ("doctor", "--url", url, "--rest-url", venue.rest_url)),
            (0, ("config", "show", "subscribe")),
        ]
        told = list(_of_each(lines, {"KFWS_URL": url}))
    assert '"url":"ws://127.0.0.1' in told[1]
    assert "?***" in tape.read_text()
    assert secrets_in("".join(told) + tape.read_text(), [PASSWORD]) == []


def _of_each(lines: Iterable[tuple[int, tuple[str, ...]]], more: dict[str, str]) -> Iterator[str]:
    for status, args in lines:
        loud = () if args[0] == "config" else LOUD
        done = run(*args, *loud, environ=more if args[0] == "config" else {})
        assert done.status == status, (args, done.err)
        yield done.out.decode() + done.err


def test_nor_in_an_address_that_is_none() -> None:
    query = f"?token={PASSWORD}"
    ticker = ("subscribe", "ticker", "PF_XBTUSD")
    lines: list[tuple[int, tuple[str, ...]]] = [
        *((2, (*ticker, "--url", f"{url}{query}")) for url in ("ws://h:port/", "foo://h/")),
        (2, ("doctor", "--url", f"wss://h:port/{query}")),
        *((2, ("products", "--rest-url", f"{url}{query}")) for url in ("foo://h/", "https://h/")),
        *((2, (*ticker, "-o", out)) for out in (f"nats://h/kraken{query}", f"nats://h{query}/x")),
        *((2, (*ticker, "-o", f"{url}{PASSWORD}@h/x")) for url in ("nats:/me:", "tls:me:")),
        (2, (*ticker, "--source", f"nats:/me:{PASSWORD}@h/x")),
        (2, (*ticker, "--source", f"me:{PASSWORD}@h/x?y")),
        (2, ("book", "PF_XBTUSD", "-o", f"nats:/me:{PASSWORD}@h/x")),
        *((8, ("replay", f"nats:{url}")) for url in (f"/me:{PASSWORD}@h/x", f"//h/x{query}")),
    ]
    assert secrets_in("".join(_of_each(lines, {})), [PASSWORD]) == []


@pytest.mark.parametrize(
    "proxy",
    [
        *(f"http://me:{at}{PASSWORD}@127.0.0.1:1" for at in ("x/", "x?", "x#", "x@", "/", "x[")),
        f"http://{PASSWORD}@127.0.0.1:1",
        f"http://me:{PASSWORD}/x@127.0.0.1:1",
        f"http://me:{PASSWORD}@127.0.0.1:port",
        f"http://me:{PASSWORD}@127.0.0.1:123456",
        f"http://me:{PASSWORD}@[127.0.0.1:1",
        f"http://me:{PASSWORD}@127.0.0.1:1/path",
        f"http://me:{PASSWORD}@:1",
        f"foo://me:{PASSWORD}@[127.0.0.1:1",
        f"me:{PASSWORD}@127.0.0.1:1",
        "http://127.0.0.1:port",
    ],
)
def test_no_spelling_of_a_proxy_shows_its_password(proxy: str) -> None:
    lines = (
        ("doctor", "--env", "demo"),
        ("subscribe", "ticker", "PF_XBTUSD", "--env", "demo", "--attempts", "1"),
        ("request", "GET", "/derivatives/api/v3/tickers", "--env", "demo"),
        ("products", "--refresh", "--env", "demo"),
        ("auth", "check", "--env", "demo"),
    )
    is_dead = f"x@{PASSWORD}" in proxy  # it is one, and nothing listens there
    for args in lines:
        done = run(*args, "--proxy", proxy, *LOUD, environ=variables(WRONG))
        assert done.status == (3 if is_dead else 2), (args, done.err)
        assert is_dead or " is no proxy: " in done.err
        assert secrets_in(done.out + done.err.encode(), [PASSWORD]) == []
    with pytest.raises(KfwsError) as caught:
        asyncio.run(_dialled(proxy))
    assert secrets_in(f"{caught.value}{caught.value.hint}", [PASSWORD]) == []


async def _dialled(proxy: str) -> None:
    await dial(Target(url="wss://venue.invalid/ws/v1", proxy=proxy))


def test_no_proxy_of_the_environment_shows_its_password() -> None:
    for proxy in (f"http://me:{PASSWORD}/x@127.0.0.1:1", f"foo://me:{PASSWORD}@[127.0.0.1:1"):
        env = environment(https_proxy=proxy, all_proxy=proxy)
        done = run_apart("doctor", "--env", "demo", *LOUD, env=env)
        assert done.returncode == 2
        assert "127.0.0.1:1 is no proxy: " in done.stderr
        assert secrets_in(done.stdout + done.stderr, [PASSWORD]) == []


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no /proc to look into")
def test_a_list_of_processes_shows_no_secret(tmp_path: Path) -> None:
    """What everybody sees of a process (`ps`), of ours and of the command that prints the key."""
    file = tmp_path / "keys"
    file.write_text(f"{DEMO.key}\n{DEMO.secret}\n")
    seen = tmp_path / "seen"
    prints = f"cat /proc/self/cmdline /proc/$PPID/cmdline > {seen}; cat {file}"
    with beside(lambda: serve(SimOptions())) as venue:
        done = run_apart(
            *("subscribe", "fills", "--url", venue.url, "-n", "1", *LOUD),
            *("--credentials-command", prints),
        )
    assert done.returncode == 0, done.stderr
    assert b"subscribe" in seen.read_bytes()
    assert secrets_in(seen.read_bytes(), marks_of(DEMO)) == []


def test_what_a_command_says_beside_the_key_is_not_told() -> None:
    prints = f"set -x; echo {WRONG.key}; echo {WRONG.secret}; exit 3"
    for args in (("subscribe", "fills"), ("auth", "check"), ("doctor", "--env", "sim")):
        done = run(*args, "--credentials-command", prints, *LOUD)
        assert done.status == 4
        assert "ended with status 3" in f"{done.out.decode()}{done.err}"
        assert secrets_in(done.out + done.err.encode(), marks_of(WRONG)) == []


@pytest.mark.parametrize(
    "text",
    [
        f"{WRONG.key}",
        f"{WRONG.key}\n{WRONG.secret}!\n",
        f'{{"api_key":"{WRONG.key}","api_secret":["{WRONG.secret}"]}}',
        f"api_key = {WRONG.key}\n{WRONG.secret}\n",
        f"api_key={WRONG.key}\napi_secret={WRONG.secret}\xff",
    ],
)
def test_a_malformed_key_is_not_shown_either(text: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(text.encode("latin-1"))
    file.chmod(0o600)
    for args in (
        ("subscribe", "fills"),
        ("auth", "status"),
        ("auth", "check"),
        ("auth", "sign", "x"),
    ):
        done = run(*args, "--credentials", str(file), *LOUD)
        assert done.status == 4
        assert secrets_in(done.out + done.err.encode(), marks_of(WRONG)) == []
    env = environment(XDG_CONFIG_HOME=str(tmp_path / "config"))
    with file.open() as stdin:
        program = start("auth", "login", *LOUD, stdin=stdin, env=env)
        out, err = program.communicate()
    assert program.returncode == 4
    assert "Traceback" in err
    assert secrets_in(out + err, marks_of(WRONG)) == []


async def test_what_stands_in_memory_does_not_tell_when_it_is_printed() -> None:
    proxy = f"http://me:{PASSWORD}@127.0.0.1:1"
    typed = Typed(feeds="fills", proxy=proxy)
    wanted = [Subscription("fills")]
    target = Target(url="wss://venue.example/ws/v1", proxy=proxy)
    things = (
        *(DEMO, typed, target, Env(variables(DEMO), args=["--proxy", proxy])),
        make_plan(typed, stdout_is_terminal=False, read_text=str),
        Session(wanted, DEMO),
        Live(target, wanted, DEMO),
        Rest("https://venue.example", DEMO, proxy=proxy),
        FuturesWSClient(DEMO.key, DEMO.secret, proxy=proxy),
    )
    for each in things:
        assert secrets_in(f"{each}{each!r}", [*marks_of(DEMO), PASSWORD]) == []
