"""The doors through which other people's bytes come in, each with the errors it may answer with.

A target takes an input and gives a word for what came of it. An exception that is not ``allowed``
is a bug.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

import orjson
from hypothesis import strategies as st

from kfws.cli.app import app
from kfws.cli.booklines import BookLines
from kfws.cli.env import Env, LineWriter
from kfws.cli.narrator import Narrator
from kfws.cli.plan import Look, Typed, make_plan
from kfws.cli.quantities import (
    address,
    duration_s,
    moment_ms,
    moment_of_tape_ns,
    size_bytes,
    time_or_size,
)
from kfws.cli.secrets import parse_credentials
from kfws.cli.settings import settings
from kfws.cli.talk import Talk
from kfws.cli.totals import Totals
from kfws.cli.where import parse as parse_expression
from kfws.errors import OutputError, Unwelcome, UsageError
from kfws.exceptions import KrakenError
from kfws.products_cache import parse as parse_products
from kfws.protocol import products, wire
from kfws.protocol.auth import DEMO
from kfws.protocol.events import Data, Event, Opened, describe, restore
from kfws.protocol.session import Session, Subscription
from kfws.rest import judge
from kfws.sim.faults import parse as parse_fault
from kfws.sinks.board import Board
from kfws.sinks.columns import BOARD
from kfws.sinks.csv import Csv
from kfws.sinks.display import Display, View
from kfws.sinks.json import Json
from kfws.sinks.ladder import Ladder
from kfws.sinks.ndjson import Ndjson
from kfws.sinks.paint import Paint
from kfws.sinks.raw import Raw
from kfws.sinks.roll import Roll
from kfws.sinks.screen import Size
from kfws.sinks.status import Status
from kfws.sinks.table import Table
from kfws.tapes import line
from kfws.tapes.audit import Audit
from kfws.tapes.files import Damage, Reader, check, last_ns, place_of, take_up
from kfws.tapes.names import Template
from kfws.tapes.recordings import Account, header_of, steps
from tests.fuzz.inputs import CREDENTIALS, FRAMES, LISTS, TAPES, TOMLS, typed

__all__ = ["AT_NS", "TARGETS", "Target", "events_of", "shown"]

AT_NS = 1_790_360_004_400_000_001
SECOND_NS = 10**9
SIZE = Size(90, 30)


@dataclass(frozen=True)
class Target:
    """A door: what is put in, what it does with it, and what it may raise."""

    name: str
    inputs: st.SearchStrategy[Any]
    attempt: Callable[[Any], str]
    allowed: tuple[type[Exception], ...] = ()

    def outcome(self, given: Any) -> str:
        """A word for what came of it. Raises what is not allowed."""
        try:
            return self.attempt(given)
        except self.allowed as exc:
            return type(exc).__name__


# The protocol


def _wire(frames: Sequence[bytes]) -> str:
    words = []
    for payload in frames:
        head = wire.read_head(payload)
        assert len(wire.redact(payload)) == len(payload)
        if isinstance(head, str):
            words.append(head)
            continue
        strict = wire.read_typed(payload)
        assert strict is None or strict == head
        words.append("head")
    return " ".join(sorted(set(words)))


WANTED = (
    Subscription("heartbeat", quiet=True),
    *(Subscription(feed, "PF_XBTUSD") for feed in ("book", "trade", "ticker")),
    *(Subscription(feed) for feed in ("fills", "open_orders", "balances", "account_log")),
)


def events_of(frames: Sequence[bytes]) -> list[Event]:
    """What a Session says of frames, while time passes between them."""
    session = Session(WANTED, DEMO)
    events: list[Event] = []
    for step, payload in enumerate(frames):
        now_ns = step * SECOND_NS
        session.outgoing(now_ns)
        events += session.receive([payload], AT_NS + now_ns)
        events += session.tick(now_ns, AT_NS + now_ns)
    events += session.receive(frames, AT_NS + 60 * SECOND_NS)
    for later in (61, 75, 700):
        session.outgoing(later * SECOND_NS)
        events += session.tick(later * SECOND_NS, AT_NS + later * SECOND_NS)
    session.next_at()
    return events


def _session(frames: Sequence[bytes]) -> str:
    events = events_of(frames)
    for event in events:
        own = describe(event)
        if own is not None and event.received_ns >= 0:  # type: ignore[attr-defined]
            restore(orjson.loads(orjson.dumps(own)))
    return _kinds(events)


def _kinds(events: Sequence[Event]) -> str:
    return " ".join(sorted({type(each).__name__ for each in events}))


# Outputs


class Paper(LineWriter):
    """Keeps lines."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        self.lines.append(line)


def lines_of(events: Sequence[Event]) -> Iterator[bytes]:
    """The events as every format writes them."""
    for stamp in (False, True):
        yield Ndjson(stamp=stamp, events=True).encode(events)
    yield Ndjson(fields=("seq", "a.b", "price")).encode(events)
    yield Json(events=True).encode(events)
    yield Raw().encode(events)
    for feed in {each.feed for each in events if isinstance(each, Data)}:
        own = [each for each in events if isinstance(each, Data) and each.feed == feed]
        yield Csv(feed=feed).encode(own)
    books = BookLines(Look(depth=3))
    yield Ndjson().encode(books.fold([*events]))


def shown(events: Sequence[Event]) -> Iterator[bytes]:
    """The events as every view of a terminal shows them."""
    paint = Paint(True)
    feeds = tuple({each.feed: None for each in events if isinstance(each, Data)})
    for width in (40, 200):
        table = Table(feeds=feeds, paint=paint, width=width, zone=UTC, events=True)
        yield table.encode(events)
    for views in _views(feeds, paint):
        display = Display(views, Status(venue="sim", asked="all", paint=paint))
        display.encode(events)
        yield display.draw(AT_NS, SIZE)
        display.encode(events)
        yield display.leave(AT_NS + SECOND_NS, SIZE)


def _views(feeds: Sequence[str], paint: Paint) -> Iterator[list[View]]:
    yield [Roll((*feeds,), paint=paint, zone=UTC, events=True)]
    yield [Ladder(("PF_XBTUSD",), paint=paint)]
    for feed in BOARD:
        yield [Board(feed, paint=paint, zone=UTC)]


def said(events: Sequence[Event]) -> list[str]:
    """What is said of the events on stderr, as text."""
    paper = Paper()
    narrator, totals = Narrator(Talk(paper, least="debug")), Totals()
    narrator.tell([*events])
    for event in events:
        if isinstance(event, Data):
            totals.passed_on([event])
        else:
            totals.see(event)
    narrator.sum_up(totals, 1.0, None)
    return paper.lines


def _formats(frames: Sequence[bytes]) -> str:
    events = events_of(frames)
    for text in lines_of(events):
        assert text == b"" or text.endswith(b"\n")
    return _kinds(events)


def _terminal(frames: Sequence[bytes]) -> str:
    events: list[Event] = [Opened(received_ns=AT_NS, connection=1, url="ws://x")]
    events += events_of(frames)
    for text in shown(events):
        text.decode()
    for each in said(events):
        assert each.isprintable()
    return _kinds(events)


# Tapes


def _tape(content: bytes) -> str:
    with _file(content) as path:
        whole = [each for batch in Reader(path).batches() for each in batch]
    return "lines" if whole else "nothing"


def _damaged(content: bytes) -> str:
    """Read in spite of damage, asked for moments, audited, and taken up as after a crash."""
    with _file(content) as path:
        damages: list[Damage] = []
        for batch in Reader(path, damages=damages).batches():
            for each in batch:
                line.moment_of(each)
        last_ns(path)
        place_of(path, AT_NS)
        header_of(path)
        audit = Audit([path])
        for _ in audit.run():
            pass
        for compression in (None, "gz", "zst"):
            with contextlib.suppress(OutputError), path.open("r+b", buffering=0) as file:
                take_up(file, path, compression)
        check(path)
        return f"{len(damages) > 0} {audit.messages > 0} {len(audit.streams)} {audit.missing > 0}"


def _replayed(content: bytes) -> str:
    """A tape's own words, as replay and convert take and show them."""
    account, events = Account(), list[Event]()
    with _file(content) as path:
        for step in steps(Reader(path, damages=[])):
            if step.frames:
                events += account.frames(step.frames, step.at_ns)
            elif step.event is not None:
                events += [*account.own(step.event), step.event]
    events += account.lost(account.at_ns)
    for _ in (*lines_of(events), *shown(events)):
        pass
    assert all(each.isprintable() for each in said(events))
    return _kinds(events)


@contextlib.contextmanager
def _file(content: bytes) -> Iterator[Path]:
    # In memory where the system has such a place: tens of thousands are written.
    shelf = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: PTH112, S108
    with tempfile.TemporaryDirectory(dir=shelf) as folder:
        path = Path(folder, "x.ndjson")
        path.write_bytes(content)
        yield path


# What people type


def _where(text: str) -> str:
    expression = parse_expression(text)
    found = [expression.matches(each) for each in _MESSAGES]
    return str(found)


_MESSAGES: tuple[dict[str, Any], ...] = (
    {"feed": "trade", "side": "buy", "qty": 5, "price": 1.5, "order": {"qty": 1}},
    {"feed": "fills", "fills": [{"side": "sell", "price": "1e5", "x": None}, 7]},
)


def _products(text: str) -> str:
    if products.is_glob(text):
        products.match(text, ("PF_XBTUSD", "FI_XBTUSD_261225", "in_xbtusd"))
    products.spelling(text, ("PF_XBTUSD",))
    products.nearest(text, ("PF_XBTUSD", "PF_ETHUSD"))
    plan = make_plan(
        Typed(feeds="ticker", products=[text]), stdout_is_terminal=False, read_text=lambda _: text
    )
    return f"{len(plan.products)} {plan.has_globs}"


def _quantities(text: str) -> str:
    words = []
    for read in (
        *(address, duration_s, moment_ms, size_bytes, time_or_size),
        lambda each: moment_of_tape_ns(each, AT_NS),
    ):
        try:
            read(text)
            words.append("1")
        except UsageError:
            words.append("0")
    return "".join(words)


def _templates(text: str) -> str:
    template = Template.of(text, rotates=True)
    path = template.path("book", "PF_../x", AT_NS, 1)
    assert "/../x" not in str(path)
    return " ".join(sorted(template.fields))


def _settings(text: str) -> str:
    from typer.main import get_command

    root: Any = get_command(app)
    with _file(text.encode(errors="replace")) as path:
        env = Env({}, config_folder=path.parent)
        words = []
        for name in ("subscribe", "book", "replay"):
            command = root.commands[name]
            found = settings(command, root, env, {"config": str(path), "profile": None})
            words.append(f"{name} {len(found)}")
    return " ".join(words)


def _credentials(text: str) -> str:
    parse_credentials(text, "a file")
    return "key"


def _faults(text: str) -> str:
    return type(parse_fault(text)).__name__


def _rest(body: bytes) -> str:
    words = []
    for status in (200, 400, 503):
        try:
            words.append(type(judge(status, body.decode(errors="replace"))).__name__)
        except KrakenError as exc:
            words.append(type(exc).__name__)
    with contextlib.suppress(ValueError):
        words.append(str(len(parse_products(body, AT_NS).ids)))
    return " ".join(words)


_COMPARED = ("==", "!=", "<", "<=", ">", ">=", "(", ")", "and", "or", "not", "'", '"', "\\")
_FAULT_WORDS = (
    *("drop", "gap", "close", "@", "=", ":", "..", "1s", "5msgs", "feed", "book", "every", "times"),
    *("refuse", "429", "huge", "5MB", "silent", "product", "PF_XBTUSD", "retry-after", ",", "1"),
)

TARGETS = (
    Target("wire", FRAMES, _wire),
    Target("session", FRAMES, _session),
    Target("formats (csv, json, …)", FRAMES, _formats),
    Target("terminal", FRAMES, _terminal),
    Target("tape, whole", TAPES, _tape, (OutputError,)),
    Target("tape, damaged", TAPES, _damaged, (OutputError,)),
    Target("tape, played", TAPES, _replayed),
    Target(
        "--where",
        typed(
            "a",
            "order.qty",
            "a==1",
            "side==buy",
            "qty>=2",
            " and ",
            " or not ",
            "1",
            "-1e3",
            "true",
            *_COMPARED,
        ),
        _where,
        (UsageError,),
    ),
    Target(
        "products",
        typed("PF_XBTUSD", "PF_", "PF_*", "XBT", "USD", "*", "?", "[", "]", "!", ",", "@"),
        _products,
        (UsageError,),
    ),
    Target(
        "quantities",
        typed("1", "0", ".", "ms", "s", "h", "d", "kB", "GiB", ":", "-", "T", "Z", "[", "]"),
        _quantities,
    ),
    Target(
        "templates",
        typed("{", "}", "{feed}", "{n}", "{date}", "/", ".", "..", ".gz", ".ndjson"),
        _templates,
        (UsageError, OutputError),
    ),
    Target("settings (TOML)", TOMLS, _settings, (UsageError,)),
    Target("credentials", CREDENTIALS, _credentials, (Unwelcome,)),
    Target("REST answers", LISTS, _rest),
    Target("sim --fault", typed(*_FAULT_WORDS), _faults, (UsageError,)),
)
