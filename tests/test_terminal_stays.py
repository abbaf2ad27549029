"""What the venue says cannot touch a terminal: every sink that writes to one, with hostile texts in
every place where the venue can put one. Only sequences of our own get through."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from websockets.asyncio.server import ServerConnection

from kfws.protocol.auth import DEMO
from kfws.protocol.events import Opened
from kfws.protocol.feeds import FEEDS
from kfws.sinks.columns import printable
from tests.cli.inside import Done, beside, run
from tests.fuzz.inputs import FRAMES, MARKS, VENUE_TEXT
from tests.fuzz.targets import AT_NS, events_of, said, shown
from tests.loopback import loopback

EVIL = "".join(MARKS)
# Styles, where the cursor goes and whether it shows, what is wiped, wrapping, drawings at once.
_OURS = re.compile(r"\x1b\[(?:[0-9;]*m|[0-9]*[ABCDGJK]|[0-9;]*H|\?(?:25|7|2026)[hl])|\r|\n")


def harm(text: bytes | str) -> list[str]:
    """What is left of the text that could do something to a terminal."""
    plain = text.decode() if isinstance(text, bytes) else text
    left = _OURS.sub("", plain)
    return sorted({repr(mark) for mark in left if mark != printable(mark)})


def test_harm_is_seen() -> None:
    assert harm("\x1b[1;31mred\x1b[0m\r\n") == []
    assert harm(printable(EVIL)) == []
    for mark in MARKS:
        is_ours = mark in ("\n", "\r", "\x1b[31m", "\x1b[2J")
        assert is_ours or (harm(mark) == []) == (mark == printable(mark))


@given(VENUE_TEXT)
def test_a_text_of_the_venue_is_made_of_marks_that_take_cells(text: str) -> None:
    assert len(printable(text)) == len(text)
    assert harm(printable(text).replace("\n", "")) == []


def frames_with(text: str) -> list[bytes]:
    """A message of every feed, its text wherever the venue has texts, and control messages."""
    found: list[dict[str, Any]] = []
    entry = dict.fromkeys(
        (
            *(
                "uid",
                "side",
                "type",
                "instrument",
                "fill_id",
                "cli_ord_id",
                "reason",
                "pair",
                "asset",
            ),
            *("order_id", "info", "booking_uid", "note", "text", "bid", "price", "qty", "priority"),
            text,
        ),
        text,
    )
    for feed in FEEDS:
        for name in (feed, f"{feed}_snapshot"):
            for product in ("PF_XBTUSD", text):
                message = {"feed": name, "product_id": product, "seq": 1, "time": 1} | entry
                message |= {key: [entry, entry] for key in FEEDS[feed].entries}
                found.append(message | {"holding": {text: 1}, "futures": {text: entry}})
    found.append({"feed": text, "product_id": text})
    events = ("alert", "error", "info", "subscribed_failed", "subscribed", "unsubscribed", text)
    found += [{"event": each, "feed": "book", "message": text, "x": text} for each in events]
    found += [{"event": "subscribed", "feed": text, "product_ids": [text]}]
    found += [{"event": "alert", "message": f"Couldn't subscribe to invalid product `{text}`"}]
    return [json.dumps(each).encode() for each in found] + [text.encode(errors="replace")]


@pytest.mark.parametrize("mark", [EVIL, *MARKS])
def test_no_view_and_no_warning_passes_a_mark_on(mark: str) -> None:
    events = [Opened(received_ns=AT_NS, connection=1, url=f"ws://{mark}")]
    text = f"a{mark}b{mark * 3}"
    everything = [*events, *events_of(frames_with(text))]
    for picture in shown(everything):
        assert harm(picture) == []
    for line in said(everything):
        assert harm(line) == []
        assert "\n" not in line


@given(FRAMES)
def test_no_frame_at_all_passes_one_on(frames: Sequence[bytes]) -> None:
    for picture in shown(events_of(frames)):
        assert harm(picture) == []


# The program, and a venue that means it ill


@asynccontextmanager
async def _rest() -> AsyncIterator[str]:
    """REST whose every answer is full of marks."""
    row = {"symbol": f"PF_{EVIL}", "type": EVIL, "tickSize": EVIL, "tradeable": True}

    async def answer(request: web.Request) -> web.Response:
        if "instruments" in request.path:
            return web.json_response(
                {"result": "success", "instruments": [row, row | {"symbol": EVIL}]}
            )
        if "error" in request.path:
            return web.json_response({"result": "error", "error": EVIL})
        if "text" in request.path:
            return web.Response(text=EVIL, status=503)
        return web.json_response({"result": "success", EVIL: [EVIL], "serverTime": EVIL})

    web_app = web.Application()
    web_app.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(web_app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("args", "written"),
    [
        (("products",), b"PF_"),
        (("products", "PF_Z*"), b""),
        (("request", "GET", "x"), b"success"),
        (("request", "GET", "error"), b""),
        (("request", "GET", "text"), b""),
        (("doctor", "--url", "ws://127.0.0.1:1"), b"versions"),
        (("doctor", "--url", "ws://127.0.0.1:1", "-f", "csv"), b"versions"),
    ],
)
def test_no_answer_of_rest_passes_one_on(args: tuple[str, ...], written: bytes) -> None:
    with beside(_rest) as url:
        done = run(*args, "--rest-url", url, "-v", terminal=True)
    assert done.status != 1
    assert written in done.out
    _assert_harmless(done)


def _assert_harmless(done: Done) -> None:
    assert harm(done.out) == []
    assert harm(done.err) == []


@pytest.mark.parametrize("feeds", ["ticker", "trade", "book", "fills,open_orders", "balances"])
def test_no_stream_passes_one_on(feeds: str, tmp_path: Path) -> None:
    async def say(connection: ServerConnection) -> None:
        for frame in frames_with(EVIL):
            await connection.send(frame.decode())
        await connection.close(1008, "".join(MARKS[:9]))

    tape = tmp_path / "x.ndjson"
    products = ("PF_XBTUSD",) if "," not in feeds and feeds != "balances" else ()
    key = {"KFWS_API_KEY": DEMO.key, "KFWS_API_SECRET": DEMO.secret}
    with beside(lambda: loopback(say)) as venue:
        done = run(
            *("subscribe", feeds, *products, "--url", venue.url, "--events", "-v"),
            *("-o", "-", "-o", str(tape), "--duration", "1s"),
            terminal=True,
            environ=key,
        )
    assert done.status != 1, done.err
    _assert_harmless(done)
    for args in (("verify", str(tape)), ("replay", str(tape), "--speed", "max", "--events")):
        done = run(*args, "-v", terminal=True)
        assert done.status != 1, done.err
        _assert_harmless(done)


def test_csv_is_harmless_on_a_terminal_alone(tmp_path: Path) -> None:
    """A pipe and a file get the venue's texts as they are."""
    tape, evil = tmp_path / "x.ndjson", "\x1b]0;x\a\x9b2J\u202e,\x1b[2J"
    args = ("subscribe", "trade", "PF_XBTUSD", "--env", "sim", "-q", "--no-snapshots", "-n", "1")
    assert run(*args, "-o", str(tape)).status == 0
    text = re.sub(r'"side":"[a-z]+"', lambda _: f'"side":{json.dumps(evil)}', tape.read_text())
    tape.write_text(text)
    replay = ("replay", str(tape), "--speed", "max", "-f", "csv")
    on_terminal, in_pipe = run(*replay, terminal=True), run(*replay)
    assert on_terminal.status == in_pipe.status == 0
    assert evil in in_pipe.out.decode()
    assert printable(evil) in on_terminal.out.decode()
    assert b"\x1b" not in on_terminal.out


def test_a_list_as_csv_is_harmless_on_a_terminal_alone() -> None:
    with beside(_rest) as url:
        args = ("products", "--rest-url", url, "-f", "csv")
        on_terminal, in_pipe = run(*args, terminal=True), run(*args)
    assert b"PF_" in on_terminal.out
    assert b"\x1b" not in on_terminal.out
    assert harm(on_terminal.out) == []
    assert b"\x1b" in in_pipe.out


@pytest.mark.parametrize(
    "answer",
    [
        f"HTTP/1.1 503 {EVIL}\r\n\r\n",
        f"HTTP/1.1 101 x\r\nUpgrade: {EVIL}\r\n\r\n",
        "HTTP/1.1 302 x\r\nLocation: ws://venue.example/\x1b]0;x\a\u202e\r\n\r\n",
        f"HTTP/1.1 302 x\r\nLocation: {EVIL[20:60]}\r\n\r\n",
        "HTTP/1.1 429 x\r\nRetry-After: \x1b[2J\u202e\r\n\r\n",
        EVIL,
    ],
)
def test_no_handshake_passes_one_on(answer: str) -> None:
    @asynccontextmanager
    async def venue() -> AsyncIterator[str]:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(answer.encode())
            writer.write_eof()
            await reader.read()
            writer.close()

        async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
            yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    with beside(venue) as url:
        for args in (("subscribe", "ticker", "PF_XBTUSD", "--attempts", "1"), ("doctor",)):
            done = run(*args, "--url", url, "--debug", terminal=True)
            assert done.status in (2, 3)
            _assert_harmless(done)


@pytest.mark.parametrize(
    "command",
    [
        "auth status --profile {name}",
        "auth status --credentials {name}",
        "auth logout --profile {name}",
        "verify {name}.ndjson",
        "verify {name}.gone.ndjson",
        "merge {name}.ndjson {name}.ndjson -o out{name}.ndjson",
        "merge {name}.gone.ndjson {name}.ndjson -o out{name}.ndjson",
        "convert {name}.ndjson {name}.csv",
        "convert {name}.gone.ndjson {name}.csv",
        "convert {name}.ndjson {name}",
        "replay {name}.gone.ndjson",
        "config show --config {name}",
    ],
)
def test_no_name_that_was_typed_passes_one_on(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "x" + "".join(mark for mark in MARKS if not {"\0", "/"} & {*mark})[:60]
    tape = Path(f"{name}.ndjson")
    recorded = run("subscribe", "trade", "PF_XBTUSD", "--env", "sim", "-qn2", "-o", "tape.ndjson")
    assert recorded.status == 0
    Path("tape.ndjson").rename(tape)
    done = run(*(each.format(name=name) for each in command.split(" ")), terminal=True)
    assert done.status != 1
    assert done.out or done.err
    _assert_harmless(done)
