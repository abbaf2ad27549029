from __future__ import annotations

import asyncio
import json
import re
import ssl
import tomllib
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme

from kfws.cli.checks import check_venue
from kfws.protocol.auth import DEMO
from kfws.sim.server import SimOptions, serve
from kfws.sources.connection import Target
from tests.cli.inside import beside, run
from tests.loopback import Loopback, loopback
from tests.test_rest import listening

KEY = {"KFWS_API_KEY": DEMO.key, "KFWS_API_SECRET": DEMO.secret}
VENUE = ["name lookup", "tcp", "tls", "websocket", "round trip", "clock", "rest"]


def looked(*args: str, **more: Any) -> tuple[int, dict[str, dict[str, Any]], str]:
    """The exit status, the checks by name, stderr."""
    done = run("doctor", *args, **more)
    found = [json.loads(line) for line in done.out.splitlines()]
    return done.status, {each["check"]: each for each in found}, done.err


def states(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: each["state"] for name, each in found.items()}


def test_all_is_well_with_the_simulator() -> None:
    status, found, err = looked("--env", "sim", "-q")
    assert (status, err) == (0, "")
    assert [*found] == [
        *("versions", "terminal", "proxy"),
        *VENUE,
        *("key", "challenge", "private feed"),
    ]
    assert {name for name, state in states(found).items() if state != "ok"} == {"tls"}
    assert found["round trip"]["pings"] == 20
    assert 0 < found["round trip"]["p50_ms"] <= found["round trip"]["p99_ms"]
    assert abs(found["clock"]["ahead_ms"]) < 1000
    assert found["versions"]["versions"]["websockets"]


def test_without_a_network_what_can_be_told_is_told(unused_tcp_port: int) -> None:
    status, found, err = looked("--url", f"ws://127.0.0.1:{unused_tcp_port}/ws/v1")
    assert status == 3
    assert [states(found)[name] for name in VENUE] == [
        *("ok", "failed", "skipped", "skipped", "skipped", "skipped", "failed")
    ]
    assert found["tcp"]["mend"] == "look at --url"
    assert found["clock"]["found"] == "needs tcp"
    assert states(found)["versions"] == "ok"
    assert found["key"]["state"] == "skipped"
    assert err == (
        f"kfws: 2 of {len(found)} checks failed: tcp, rest; what to do stands beside each\n"
    )


def test_a_name_that_nobody_knows_is_told() -> None:
    status, found, _ = looked("--url", "wss://venue.invalid/ws/v1", environ=KEY)
    assert status == 3
    assert found["name lookup"]["state"] == "failed"
    assert found["name lookup"]["found"].startswith("no address for venue.invalid")
    assert found["private feed"]["state"] == "skipped"


def test_every_failure_has_a_mend(unused_tcp_port: int) -> None:
    proxy = f"http://127.0.0.1:{unused_tcp_port}"
    for args in (["--url", "wss://venue.invalid/ws/v1"], ["--env", "demo", "--proxy", proxy]):
        _, found, _ = looked(*args)
        failures = [each for each in found.values() if each["state"] == "failed"]
        assert failures
        assert all(each["mend"] for each in failures)


def test_a_key_that_the_venue_does_not_take_is_status_4() -> None:
    with beside(lambda: serve(SimOptions())) as venue:
        wrong = {"KFWS_API_KEY": "a-key-of-nobody", "KFWS_API_SECRET": "bm9ib2R5"}
        status, found, err = looked("--url", venue.url, environ=wrong)
    assert status == 4
    assert found["clock"]["state"] == "ok"
    assert (found["challenge"]["state"], found["private feed"]["state"]) == ("ok", "failed")
    assert err.startswith(f"kfws: 1 of {len(found)} checks failed: private feed")


def test_a_broken_source_of_keys_is_status_4() -> None:
    status, found, _ = looked("--env", "sim", "--credentials", "/no/such/file")
    assert (status, found["key"]["state"]) == (4, "failed")


def test_a_clock_that_is_wrong_is_a_warning_with_its_mend() -> None:
    async def beat(connection: Any) -> None:
        await connection.send('{"feed":"heartbeat","time":1534262350627}')

    with beside(lambda: loopback(beat)) as venue:
        _, found, _ = looked("--url", venue.url)
    assert found["clock"]["state"] == "warning"
    assert found["clock"]["ahead_ms"] > 1e11
    assert "timedatectl" in found["clock"]["mend"]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def over_tls(authority: trustme.CA) -> AbstractAsyncContextManager[Loopback]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return loopback(tls=context)


def test_the_certificate_of_a_venue_is_looked_at(authority: trustme.CA, tmp_path: Path) -> None:
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(trusted)
    with beside(lambda: over_tls(authority)) as venue:
        _, found, _ = looked("--url", venue.url, "--ca-file", str(trusted))
        assert found["tls"]["state"] == "ok"
        assert found["tls"]["version"].startswith("TLSv1.")
        assert found["tls"]["found"].endswith(f"good until {found['tls']['valid_until']}")
        status, distrusted, _ = looked("--url", venue.url)
    assert status == 3
    assert "is not trusted" in distrusted["tls"]["found"]
    assert "--ca-file" in distrusted["tls"]["mend"]
    assert distrusted["websocket"]["found"] == "needs tls"


def test_a_key_is_not_tried_over_plain_text_to_another_machine() -> None:
    _, found, _ = looked("--url", "ws://venue.invalid/ws/v1", "--insecure", environ=KEY)
    assert found["private feed"]["state"] == "skipped"
    assert found["private feed"]["found"].startswith("a key never goes over plain ws://")


def test_the_password_of_a_proxy_is_not_shown(unused_tcp_port: int) -> None:
    proxy = f"http://me:pass1234@127.0.0.1:{unused_tcp_port}"
    done = run("doctor", "--env", "demo", "--proxy", proxy, "--debug", "-v")
    assert done.status == 3
    assert b"pass1234" not in done.out
    assert "pass1234" not in done.err
    assert f"through 127.0.0.1:{unused_tcp_port}" in done.out.decode()


def test_the_checklist_has_the_forms_of_every_list(unused_tcp_port: int) -> None:
    where = ("--url", f"ws://127.0.0.1:{unused_tcp_port}/ws/v1")
    lines = run("doctor", *where, terminal=True).out.decode().splitlines()
    assert "failed   tcp          nothing is listening at 127.0.0.1:" in "\n".join(lines)
    assert f"{'':<21} → look at --url" in lines
    csv = run("doctor", *where, "-f", "csv").out.decode().splitlines()
    assert csv[0] == "check,state,found,mend"
    assert len(csv) == 12
    indented = run("doctor", *where, "-f", "json").out.decode()
    assert '\n  "check": "tcp"' in indented


@pytest.mark.parametrize("status", [401, 403])
def test_no_key_is_blamed_for_what_was_not_signed(status: int) -> None:
    with (
        beside(lambda: serve(SimOptions())) as venue,
        beside(lambda: listening(status=status)) as r,
    ):
        _, found, _ = looked("--url", venue.url, "--rest-url", r.url)
    assert found["rest"]["found"].endswith(f"answered HTTP {status}: not welcome")
    assert found["rest"]["mend"] == "is this address allowed to connect?"


@asynccontextmanager
async def far_away(port: int) -> AsyncIterator[int]:
    """A way to a port on which everything that comes back takes its time."""

    async def pass_on(reader: Reader, writer: Writer, delay_s: float) -> None:
        while data := await reader.read(1 << 16):
            await asyncio.sleep(delay_s)
            writer.write(data)
        writer.close()

    async def join(reader: Reader, writer: Writer) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, back, 0), pass_on(there, writer, 0.05))

    async with await asyncio.start_server(join, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_all_pings_together_are_waited_for_no_longer_than_one_dialling() -> None:
    async with loopback() as venue, far_away(urlsplit(venue.url).port or 0) as port:
        target = Target(f"ws://127.0.0.1:{port}/ws/v1", open_timeout_s=0.5)
        found = {each.name: each async for each in check_venue(target)}
    assert found["websocket"].state == "ok"
    assert found["round trip"].state == "failed"
    assert found["round trip"].found.endswith("did not answer within 0.5 s")


def test_every_extra_is_looked_for() -> None:
    names = tomllib.loads(Path("pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = {re.split(r"[\[<>=;]", each)[0] for extra in names.values() for each in extra}
    _, found, _ = looked("--env", "sim")
    assert wanted <= {*found["versions"]["versions"]}
