"""What was typed → a Plan: all that a run needs, checked and complete. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence, Set
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec.structs import replace

from kfws.cli.choices import Color, Format, LoopName, OnDiskFull, OnFull, VenueName
from kfws.cli.jetstream import JetStream, TypedJetStream, check_jetstream
from kfws.cli.quantities import address, duration_s, size_bytes, time_or_size
from kfws.errors import UsageError
from kfws.protocol.auth import as_shown, is_loopback
from kfws.protocol.feeds import FEEDS, nearest, spelled
from kfws.protocol.products import is_glob, is_well_formed, match, spelling
from kfws.sinks.columns import BOARD, csv_columns, named, table_columns
from kfws.tapes.subjects import Address, is_jetstream

if TYPE_CHECKING:
    from kfws.cli.where import Expression
    from kfws.products_cache import Products

__all__ = [
    "Look",
    "Output",
    "Plan",
    "Typed",
    "TypedLook",
    "check_text",
    "make_plan",
    "name_products",
    "rest_base",
    "size_steps",
]


URLS = {
    VenueName.live: "wss://futures.kraken.com/ws/v1",
    VenueName.demo: "wss://demo-futures.kraken.com/ws/v1",
    VenueName.sim: "",
}

RENEWED_AFTER_S = 12 * 3600.0
LEAST_BUFFER = 64_000
COLUMNS_SHOWN = 12


class TypedLook(msgspec.Struct, frozen=True, kw_only=True):
    """The options of ``kfws book`` alone, as they were typed."""

    depth: int | None = None
    group: int | None = None
    tick: str | None = None
    every: str | None = None


class Typed(msgspec.Struct, frozen=True, kw_only=True):
    """The options of ``kfws subscribe`` and its like, as they were typed."""

    feeds: str
    products: Sequence[str] = ()
    recorded: bool = False
    """Whether tapes give what comes: no venue is asked, and products select."""
    known_feeds: Sequence[str] = ()
    """Those of the tapes: feeds, whether kfws knows them or not."""
    force_feed: bool = False
    env: VenueName | None = None
    url: str | None = None
    rest_url: str | None = None
    insecure: bool = False
    proxy: str | None = None
    ca_file: str | None = None
    compression: bool = False
    format: Format = Format.auto
    outputs: Sequence[str] = ()
    overwrite: bool = False
    rotate: str | None = None
    sync: str = "1s"
    keep: str | None = None
    on_disk_full: OnDiskFull = OnDiskFull.exit
    stamp: bool = False
    events: bool = False
    fields: str | None = None
    sort: str | None = None
    utc: bool = False
    color: Color = Color.auto
    snapshots: bool = True
    where: str | None = None
    until: str | None = None
    count: int | None = None
    duration: str | None = None
    timeout: str | None = None
    strict: bool = False
    attempts: int | None = None
    resync: bool = True
    redundancy: int = 1
    renew: str | None = None
    buffer: str = "64MB"
    on_full: OnFull = OnFull.block
    coalesce: str | None = None
    loop: LoopName = LoopName.auto
    stats: str | None = None
    metrics: str | None = None
    look: TypedLook | None = None
    jetstream: TypedJetStream | None = None
    """None: of a command that knows no streams."""

    def __repr__(self) -> str:
        return f"Typed({self.feeds!r}, {self.products!r}, …)"  # a proxy may hold a password


class Look(msgspec.Struct, frozen=True):
    """What is to be seen of books, instead of their messages."""

    depth: int | None = None
    """Levels a side; None: as many as fit on a terminal, 10 elsewhere."""
    group: int | None = None
    """Levels are put together in steps of so many ticks; None: they stand alone."""
    tick: Decimal | None = None
    """Of all products; None: as the products list says."""
    steps: Mapping[str, Decimal] = msgspec.field(default_factory=dict)
    """What comes of it for each product, once ``size_steps`` has said so."""
    every_s: float | None = None
    """Lines at most so often; None: one for each change."""


class Output(msgspec.Struct, frozen=True):
    """Where lines go: stdout (path None), files, whose path may be a template, or a JetStream."""

    path: str | None
    format: Format
    compression: Literal["gz", "zst"] | None = None
    holds_messages: bool = True
    """Whether lines are the venue's messages, not ours about books."""

    @property
    def is_tape(self) -> bool:
        return self.path is not None and self.format is Format.ndjson and self.holds_messages

    @property
    def address(self) -> Address | None:
        """Of a JetStream."""
        is_stream = self.path is not None and is_jetstream(self.path)
        return Address.of(self.path) if is_stream and self.path else None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that a run needs."""

    feeds: tuple[str, ...]
    products: tuple[str, ...]
    """Ids and globs as typed; ``name_products`` makes ids of the globs."""
    venue: VenueName | None
    """None: the venue of ``url``, or none where it is empty."""
    url: str
    rest_base: str
    """Where REST is; empty for the simulator in the process."""
    proxy: str | None
    insecure: bool
    ca_file: str | None
    compression: bool
    outputs: tuple[Output, ...]
    overwrite: bool
    rotate: tuple[float | None, int | None]
    """Seconds and bytes."""
    sync_s: float | None
    """0: always; None: never."""
    keep: tuple[float | None, int | None]
    on_disk_full: OnDiskFull
    stamp: bool
    events: bool
    fields: tuple[str, ...]
    sort: str | None
    """A column's title, with ``-`` in front: the greatest first."""
    utc: bool
    color: Color
    snapshots: bool
    where: Expression | None
    until: Expression | None
    count: int | None
    duration_s: float | None
    timeout_s: float | None
    strict: bool
    attempts: int | None
    resync: bool
    redundancy: int
    renew_s: float
    buffer_bytes: int
    on_full: OnFull
    coalesce_s: float
    loop: LoopName
    stats_s: float | None
    metrics: tuple[str, int] | None = None
    """Host and port where they are to be had."""
    jetstream: JetStream = msgspec.field(default_factory=JetStream)
    look: Look | None = None
    """For lines about books, not their messages."""
    globs: tuple[str, ...] = ()
    """Those that ``name_products`` made ids of; they go on filtering private feeds."""
    warnings: tuple[str, ...] = ()
    odd_keys: tuple[str, ...] = ()
    """Sentences on keys of --where, --until, --fields that are probably mistyped."""

    def __repr__(self) -> str:
        return f"Plan({self.feeds!r}, {self.products!r}, …)"  # a proxy may hold a password

    @property
    def names_products(self) -> bool:
        """Whether ids are sent to the venue; else products only filter what is passed on."""
        return any(_goes_by_product(feed, self.products) for feed in self.feeds)

    @property
    def has_globs(self) -> bool:
        """Whether the products list must say what to ask the venue for."""
        return self.names_products and any(is_glob(name) for name in self.products)

    @property
    def private_feeds(self) -> tuple[str, ...]:
        return tuple(name for name in self.feeds if name in FEEDS and FEEDS[name].private)

    @property
    def is_private(self) -> bool:
        return bool(self.private_feeds)

    @property
    def is_loopback(self) -> bool:
        """Whether the venue is on this machine, where no proxy leads."""
        return self.venue is VenueName.sim or is_loopback(urlsplit(self.url).hostname or "")

    @property
    def subscriptions(self) -> tuple[tuple[str, str | None], ...]:
        """What to ask the venue for, as (feed, product), in the order typed."""
        return tuple(
            (feed, product)
            for feed in self.feeds
            for product in (self.products if _goes_by_product(feed, self.products) else (None,))
        )


def make_plan(typed: Typed, *, stdout_is_terminal: bool, read_text: Callable[[str], str]) -> Plan:
    """Checks what was typed. Raises UsageError with what to type instead."""
    check_text(typed.feeds, typed.url, typed.fields, typed.where, typed.until)
    feeds = _feeds(typed)
    products = _products(typed.products, read_text)
    if not typed.recorded:
        _match_up(feeds, products)
    outputs = _outputs(typed, feeds, stdout_is_terminal)
    fields = _fields(typed.fields)
    ours = _OF_BOOK_LINES if typed.look else frozenset()
    _check_fields(fields, feeds, outputs, ours)
    _check_sort(typed.sort, feeds, outputs)
    venue, url = _place(typed, feeds)
    return Plan(
        feeds=feeds,
        products=products,
        venue=venue,
        url=url,
        rest_base=rest_base(typed.rest_url, typed.url, typed.env, insecure=typed.insecure),
        proxy=typed.proxy,
        insecure=typed.insecure,
        ca_file=typed.ca_file,
        compression=typed.compression,
        outputs=outputs,
        overwrite=typed.overwrite,
        rotate=_rotate(typed, outputs),
        sync_s=_sync(typed.sync),
        keep=_keep(typed),
        on_disk_full=typed.on_disk_full,
        stamp=typed.stamp,
        events=typed.events,
        fields=fields,
        sort=typed.sort,
        utc=typed.utc,
        color=typed.color,
        snapshots=typed.snapshots,
        where=_expression(typed.where),
        until=_expression(typed.until),
        count=_count(typed.count),
        duration_s=duration_s(typed.duration) if typed.duration is not None else None,
        timeout_s=duration_s(typed.timeout) if typed.timeout is not None else None,
        strict=typed.strict,
        attempts=typed.attempts,
        resync=typed.resync,
        redundancy=typed.redundancy,
        renew_s=_renew_s(typed),
        buffer_bytes=_buffer_bytes(typed.buffer),
        on_full=typed.on_full,
        coalesce_s=duration_s(typed.coalesce) if typed.coalesce is not None else 0.0,
        loop=typed.loop,
        stats_s=duration_s(typed.stats) if typed.stats is not None else None,
        metrics=address(typed.metrics) if typed.metrics is not None else None,
        look=_look(typed.look),
        jetstream=_jetstream(typed, feeds, outputs, read_text),
        warnings=_warnings(typed, outputs),
        odd_keys=_all_odd_keys(typed, feeds, ours),
    )


def check_text(*texts: str | None) -> None:
    """Bytes that are no UTF-8 can name a file, but cannot be said to the venue or a tape.

    Raises UsageError.
    """
    for text in texts:
        if text is not None and any("\ud800" <= mark <= "\udfff" for mark in text):
            raise UsageError(f"{text!r} is no text", hint="type it in UTF-8")


# Feeds and products


def _feeds(typed: Typed) -> tuple[str, ...]:
    names = [each.strip() for each in typed.feeds.split(",")]
    if not all(names):
        raise UsageError(
            f"a feed is missing in {typed.feeds!r}", hint="kfws subscribe ticker,trade …"
        )
    known = {*FEEDS, *typed.known_feeds}
    feeds = tuple(dict.fromkeys(each if each in known else spelled(each) for each in names))
    for typed_name, feed in zip(names, map(spelled, names), strict=True):
        if not ({typed_name, feed} & known or typed.force_feed):
            anew = "" if typed.recorded else "; --force-feed asks the venue all the same"
            raise UsageError(
                f"no feed {typed_name}{_similar(nearest(typed_name))}",
                hint=f"`kfws feeds` lists them{anew}",
            )
    return feeds


def _similar(names: Sequence[str]) -> str:
    return f"; similar: {', '.join(names)}" if names else ""


def _products(typed: Sequence[str], read_text: Callable[[str], str]) -> tuple[str, ...]:
    names: list[str] = []
    for each in typed:
        names += _named_in(each[1:], read_text) if each.startswith("@") else each.split(",")
    for name in names:
        if not is_glob(name) and not is_well_formed(name):
            shown = name if len(name) <= 60 else f"{name[:60]}…"
            raise UsageError(
                f"{shown!r} is no product id", hint="an id looks like PF_XBTUSD or FI_XBTUSD_261225"
            )
    return tuple(dict.fromkeys(names))


def _named_in(path: str, read_text: Callable[[str], str]) -> list[str]:
    try:
        text = read_text(path)
    except (OSError, ValueError) as exc:  # a ValueError: no text, or a NUL in the name
        reason = exc.strerror if isinstance(exc, OSError) else "not text"
        raise UsageError(f"@{path} cannot be read: {reason}", hint="one product a line") from exc
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    names = [line for line in lines if line]
    if not names:
        raise UsageError(f"@{path} names no product", hint="one product a line")
    return names


def name_products(plan: Plan, products: Products) -> Plan:
    """The plan with ids instead of globs, in the order of the list, and the venue's spelling of
    ids whose case it knows better (a warning each). Raises UsageError for a glob without a match.
    """
    names: list[str] = []
    warnings: list[str] = []
    for typed in plan.products:
        if is_glob(typed):
            names += _matching(typed, products)
            continue
        known = spelling(typed, products.ids)
        names.append(known)
        if known != typed:
            warnings.append(f"{typed} is spelled {known} at the venue; {known} is asked for")
    return replace(
        plan,
        products=tuple(dict.fromkeys(names)),
        globs=tuple(filter(is_glob, plan.products)),
        warnings=(*plan.warnings, *warnings),
    )


def _matching(glob: str, products: Products) -> list[str]:
    found = match(glob, products.tradeable)
    if not found:
        raise UsageError(
            f"no product matches {glob}{products.similar(glob)}", hint="`kfws products` lists them"
        )
    return found


def _goes_by_product(feed: str, products: Sequence[str]) -> bool:
    """Whether a feed is asked for once per product; a feed that we do not know, if any is named."""
    known = FEEDS.get(feed)
    return known.products == "required" if known else bool(products)


def _match_up(feeds: Sequence[str], products: Sequence[str]) -> None:
    for feed in feeds:
        if _goes_by_product(feed, products) and not products:
            raise UsageError(f"{feed} needs a product", hint=f"kfws subscribe {feed} PF_XBTUSD")
    private = any(feed in FEEDS and FEEDS[feed].private for feed in feeds)
    if products and not private and not any(_goes_by_product(feed, products) for feed in feeds):
        raise UsageError(
            f"{', '.join(feeds)} takes no product", hint=f"kfws subscribe {','.join(feeds)}"
        )


# Books


def _look(typed: TypedLook | None) -> Look | None:
    if typed is None:
        return None
    if typed.tick is not None and typed.group is None:
        raise UsageError("--tick is the size of a step of --group", hint="add --group 10")
    return Look(
        depth=typed.depth,
        group=typed.group,
        tick=_tick(typed.tick) if typed.tick is not None else None,
        every_s=duration_s(typed.every) if typed.every is not None else None,
    )


def _tick(typed: str) -> Decimal:
    try:
        tick = Decimal(typed)
        if _SMALLEST_TICK <= tick <= _LARGEST_TICK:
            return tick
    except InvalidOperation:  # no number, or nan
        pass
    raise UsageError(f"--tick {typed} is no tick size", hint="e.g. 0.5")


_SMALLEST_TICK, _LARGEST_TICK = Decimal("1e-15"), Decimal("1e15")


def size_steps(plan: Plan, products: Products | None) -> Plan:
    """The plan with the steps of ``--group``, so many times the tick size that was typed, or else
    the one that the list knows. Raises UsageError where there is neither."""
    look = plan.look
    if look is None or look.group is None:
        return plan
    from kfws.products_cache import tick_size

    listed = {product.id: tick_size(product) for product, _ in products.rows} if products else {}
    steps = {}
    for name in plan.products:
        tick = look.tick or listed.get(name)
        if tick is None:
            raise UsageError(
                f"the tick size of {name} is not known",
                hint="give it with --tick, e.g. 0.5, or let `kfws products` fetch the list",
            )
        steps[name] = tick * look.group
    return replace(plan, look=replace(look, steps=steps))


# Outputs

_FORMATS = {".csv": Format.csv, ".json": Format.json, ".raw": Format.raw}
_COMPRESSIONS: dict[str, Literal["gz", "zst"]] = {".gz": "gz", ".zst": "zst"}


def _outputs(typed: Typed, feeds: Sequence[str], is_terminal: bool) -> tuple[Output, ...]:
    on_stdout = typed.format
    if on_stdout is Format.auto:
        on_stdout = Format.table if is_terminal else Format.ndjson
    outputs = [
        Output(None, on_stdout) if path == "-" else _elsewhere(path, typed)
        for path in typed.outputs or ["-"]
    ]
    if typed.look is not None:
        outputs = [replace(each, holds_messages=False) for each in outputs]
        if any(each.format is Format.raw for each in outputs):
            raise UsageError("raw is every frame as it came", hint="kfws subscribe book … -f raw")
    seen: set[str | None] = set()
    for output in outputs:
        name = posixpath.normpath(output.path) if output.path else None
        if name in seen:
            shown = output.path or "-"
            raise UsageError(f"two outputs on {shown}", hint="give each -o a path of its own")
        seen.add(name)
        apart = output.path is not None and "{feed}" in output.path
        if output.format is Format.csv and len(feeds) > 1 and not apart:
            raise UsageError(
                f"csv holds one feed, not {len(feeds)} ({', '.join(feeds)})",
                hint="put {feed} into the path of -o, or use ndjson"
                if output.path
                else "run one command per feed, or use ndjson",
            )
    return tuple(outputs)


def _elsewhere(path: str, typed: Typed) -> Output:
    # What `kfws book` says of a book is no message that a stream is to hold.
    if typed.jetstream is None or typed.look is not None or not is_jetstream(path):
        return _file(path, rotates=typed.rotate is not None)
    Address.of(path)  # checked here, and quoted without a password
    if typed.where is not None:
        raise UsageError(
            f"--where would thin out the stream {path}",
            hint="a stream holds all that came; choose where it is read",
        )
    return Output(path, Format.ndjson)


def _jetstream(
    typed: Typed,
    feeds: Sequence[str],
    outputs: Sequence[Output],
    read_text: Callable[[str], str],
) -> JetStream:
    if typed.jetstream is None:
        return JetStream()
    if typed.jetstream.source is not None and typed.redundancy > 1:
        raise UsageError(
            "--redundancy is for the venue; --source reads what recorders published",
            hint="leave it away",
        )
    addresses = [each.address for each in outputs if each.address is not None]
    return check_jetstream(typed.jetstream, addresses, feeds, read_text)


def _file(path: str, *, rotates: bool) -> Output:
    if "://" in path or is_jetstream(path):
        raise UsageError(
            f"{path.partition(':')[0]}:// is no output of this version", hint="-o PATH"
        )
    if not path or path.endswith("/") or "\0" in path:
        raise UsageError(f"-o {path!r} names no file", hint="e.g. -o trades.ndjson.zst")
    stem, ending = posixpath.splitext(path)
    compression = _COMPRESSIONS.get(ending)
    if compression:
        ending = posixpath.splitext(stem)[1]
    if ending.lower() == ".parquet":
        raise UsageError(
            f"-o {path}: no stream is written as Parquet",
            hint="record to NAME.ndjson.zst, then `kfws convert`",
        )
    from kfws.tapes.names import Template

    template = Template.of(path, rotates=rotates)
    return Output(template.text, _FORMATS.get(ending, Format.ndjson), compression)


def _rotate(typed: Typed, outputs: Sequence[Output]) -> tuple[float | None, int | None]:
    if typed.rotate is None:
        return None, None
    if not any(output.path and not output.address for output in outputs):
        raise UsageError("--rotate is for files", hint="add -o PATH")
    seconds, size = time_or_size(typed.rotate)
    if seconds is not None and seconds < 1:
        raise UsageError(f"--rotate {typed.rotate} is too often", hint="1s or more")
    return seconds, size


def _sync(typed: str) -> float | None:
    if typed in _SYNCS:
        return _SYNCS[typed]
    try:
        return duration_s(typed)
    except UsageError as exc:
        raise UsageError(f"--sync: {exc.message}", hint="e.g. 1s, always or never") from exc


# With the usual one, which then takes no pattern to read it.
_SYNCS = {"1s": 1.0, "always": 0.0, "never": None}


def _keep(typed: Typed) -> tuple[float | None, int | None]:
    if typed.keep is None:
        return None, None
    if typed.rotate is None:
        raise UsageError("--keep deletes files that --rotate completed", hint="e.g. --rotate 1h")
    return time_or_size(typed.keep)


def _fields(typed: str | None) -> tuple[str, ...]:
    if typed is None:
        return ()
    names = tuple(each.strip() for each in typed.split(","))
    if not all(names):
        raise UsageError(f"a name is missing in --fields {typed!r}", hint="--fields price,qty")
    return names


def _check_fields(
    fields: Sequence[str], feeds: Sequence[str], outputs: Sequence[Output], ours: Set[str]
) -> None:
    for output in outputs if fields else ():
        if output.is_tape:
            raise UsageError(
                f"--fields would thin out the tape {output.path}",
                hint="a tape keeps messages whole; leave --fields away, or write .csv",
            )
        if output.format is Format.raw:
            raise UsageError("raw is every frame as it came", hint="leave --fields away")
        if output.format in (Format.csv, Format.table):
            _check_columns(fields, feeds, output.format, ours)


def _check_columns(
    fields: Sequence[str], feeds: Sequence[str], format: Format, ours: Set[str]
) -> None:
    columns = csv_columns if format is Format.csv else table_columns
    known = {name for feed in feeds for name in columns(feed)} | ours
    for name in fields if known else ():
        if name not in known:
            raise UsageError(
                f"{', '.join(feeds)} has no column {name}",
                hint=_columns_like(name, known),
            )


def _columns_like(name: str, known: Set[str]) -> str:
    """Those that look like it, else the first of all, in few words."""
    if near := get_close_matches(name, known):
        return f"similar: {', '.join(near)}"
    some = ",".join(sorted(known)[:COLUMNS_SHOWN])
    return f"columns: {some}" + (",…" if len(known) > COLUMNS_SHOWN else "")


def _check_sort(typed: str | None, feeds: Sequence[str], outputs: Sequence[Output]) -> None:
    if typed is None:
        return
    boards = [BOARD[feed] for feed in feeds if feed in BOARD]
    if not boards or all(output.format is not Format.table for output in outputs):
        raise UsageError(
            "--sort orders the rows of a live table; there is none",
            hint="it is for feeds such as ticker on a terminal",
        )
    if not any(named(typed.removeprefix("-"), board) for board in boards):
        titles = [column.title.lower() for board in boards for column in board]
        raise UsageError(
            f"--sort {typed}: there is no such column",
            hint=f"columns: {', '.join(dict.fromkeys(titles))}",
        )


def _warnings(typed: Typed, outputs: Sequence[Output]) -> tuple[str, ...]:
    found = []
    if typed.format is not Format.auto and all(output.path for output in outputs):
        found.append(
            f"-f {typed.format} governs stdout, which is silent beside -o; add -o - for both"
        )
    found += [
        f"{output.path}: written as NDJSON; .csv, .json and .raw choose otherwise, .gz and .zst "
        "compress"
        for output in outputs
        if output.path and output.address is None and _has_odd_ending(output.path)
    ]
    return tuple(found)


def _has_odd_ending(path: str) -> bool:
    """Whether a name ends as if its format were another one. Dates and numbers do not."""
    stem, ending = posixpath.splitext(path)
    if ending in _COMPRESSIONS:
        ending = posixpath.splitext(stem)[1]
    is_word = ending[1:].isalnum() and not ending[1:].isdecimal()
    return is_word and ending not in _FORMATS and ending.lower() not in _OF_LINES


_OF_LINES = frozenset({".ndjson", ".jsonl", ".log", ".txt"})


def _expression(typed: str | None) -> Expression | None:
    if typed is None:
        return None
    from kfws.cli.where import parse

    return parse(typed)


def _all_odd_keys(typed: Typed, feeds: Sequence[str], ours: Set[str]) -> tuple[str, ...]:
    found = []
    for option, text in (("--where", typed.where), ("--until", typed.until)):
        if text is not None:
            found += _odd_keys(option, re.findall(_COMPARED, text), feeds, ours)
    if typed.fields is not None:
        found += _odd_keys("--fields", typed.fields.split(","), feeds, ours)
    return tuple(found)


_COMPARED = r"([A-Za-z_][\w.]*)\s*[=!<>]"


def _odd_keys(option: str, names: Sequence[str], feeds: Sequence[str], ours: Set[str]) -> list[str]:
    """Keys that no message of the feeds is known to have. The venue may add some: no error."""
    columns = [csv_columns(feed) for feed in feeds if feed in FEEDS]
    if len(columns) < len(feeds):
        return []
    known = {name.split(".")[0] for each in columns for name in each} | _OF_ALL | ours
    for feed in feeds:
        known |= set(FEEDS[feed].entries)
    return [
        f"{option}: no message of {', '.join(feeds)} is known to have a key {name}"
        f"{_similar(get_close_matches(name, known))}"
        for name in dict.fromkeys(names)
        if name and name.split(".")[0] not in known
    ]


# Keys that lines about books have and their messages have not.
_OF_BOOK_LINES = frozenset({"spread", "mid", "stale"})
# Keys of every message, and of balances, which the columns spell otherwise.
_OF_ALL = frozenset({"feed", "received_ns", "account", "holding", "futures", "flex_futures"})


# Where


def _place(typed: Typed, feeds: Sequence[str]) -> tuple[VenueName | None, str]:
    if typed.recorded:
        return None, ""
    if typed.url is None:
        venue = typed.env or VenueName.live
        return venue, URLS[venue]
    _check_one_venue(typed.env, typed.url)
    parts = _address("--url", typed.url, ("wss", "ws"), _URL_HINT)
    private = any(feed in FEEDS and FEEDS[feed].private for feed in feeds)
    _check_line(parts, is_private=private, insecure=typed.insecure)
    return None, typed.url


def rest_base(
    rest_url: str | None, url: str | None, env: VenueName | None, *, insecure: bool = False
) -> str:
    """Where REST is, as scheme, host and port: ``--rest-url``, else of ``--url``, else of the
    environment; empty for the simulator in the process, which says so itself.

    Raises UsageError for what is no address, and for plain http:// to another machine unless
    that is ``insecure`` on purpose.
    """
    _check_one_venue(env, url)
    if rest_url is not None:
        parts = _address("--rest-url", rest_url, ("https", "http"), _REST_HINT)
        if parts.path not in ("", "/") or parts.query:
            raise UsageError(f"--rest-url {as_shown(rest_url)} has a path", hint=_REST_HINT)
    elif url is not None:
        parts = _address("--url", url, ("wss", "ws"), _URL_HINT)
    else:
        parts = urlsplit(URLS[env or VenueName.live])
        if not parts.netloc:
            return ""
    _check_line(parts, is_private=False, insecure=insecure)
    return f"{'https' if parts.scheme in ('wss', 'https') else 'http'}://{parts.netloc}"


def _check_one_venue(env: VenueName | None, url: str | None) -> None:
    if env is not None and url is not None:
        raise UsageError("--env and --url both name a venue", hint="leave one of them away")


def _address(option: str, typed: str, schemes: tuple[str, str], hint: str) -> SplitResult:
    """An address, taken apart. Raises UsageError."""
    # First of all, since what is wrong is quoted: a password is not shown.
    if "@" in typed or "#" in typed:
        raise UsageError(f"{option} takes no user, password or fragment", hint=hint)
    try:
        parts = urlsplit(typed)
        _ = parts.port
    except ValueError as exc:
        raise UsageError(f"{option} {as_shown(typed)}: {exc}", hint=hint) from exc
    if parts.scheme not in schemes or not parts.hostname:
        kind = "WebSocket" if "wss" in schemes else "REST"
        raise UsageError(f"{option} {as_shown(typed)} is no {kind} address", hint=hint)
    return parts


def _check_line(parts: SplitResult, *, is_private: bool, insecure: bool) -> None:
    """Whether the user may, or wants to, go there without TLS. Raises UsageError."""
    host = parts.hostname or ""
    if parts.scheme in ("wss", "https") or is_loopback(host):
        return
    secure = "wss" if parts.scheme == "ws" else "https"
    if is_private:
        raise UsageError(
            f"credentials never go over plain {parts.scheme}:// to {host}",
            hint=f"{secure}://{host}…",
        )
    if not insecure:
        raise UsageError(
            f"{parts.scheme}:// to {host} is not encrypted",
            hint=f"use {secure}://, or --insecure if you mean it",
        )


_URL_HINT = "e.g. --url wss://futures.kraken.com/ws/v1"
_REST_HINT = "e.g. --rest-url https://futures.kraken.com"


def _renew_s(typed: Typed) -> float:
    if typed.renew is not None and typed.redundancy == 1:
        raise UsageError(
            "--renew replaces one of several connections", hint="add --redundancy 2, or 3"
        )
    return RENEWED_AFTER_S if typed.renew is None else duration_s(typed.renew)


def _buffer_bytes(typed: str) -> int:
    size = size_bytes(typed)
    if size < LEAST_BUFFER:
        raise UsageError(
            f"--buffer {typed} is {size:,} bytes, less than one frame may have",
            hint="64MB is the default, 64kB the least",
        )
    return size


def _count(typed: int | None) -> int | None:
    if typed is not None and typed < 1:
        raise UsageError(f"-n {typed}: nothing to wait for", hint="-n 1 or more")
    return typed
