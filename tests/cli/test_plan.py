from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.cli.choices import Format, VenueName
from kfws.cli.plan import (
    Look,
    Output,
    Plan,
    Typed,
    TypedLook,
    make_plan,
    name_products,
    rest_base,
    size_steps,
)
from kfws.errors import UsageError
from kfws.products_cache import Products, parse
from kfws.protocol.feeds import FEEDS
from kfws.sim.market import Market


def no_file(path: str) -> str:
    raise FileNotFoundError(2, "No such file or directory")


def holds(text: str) -> Callable[[str], str]:
    return lambda path: text


def planned(
    feeds: str = "ticker",
    products: tuple[str, ...] = ("PF_XBTUSD",),
    *,
    terminal: bool = False,
    read: Callable[[str], str] = no_file,
    **options: Any,
) -> Plan:
    typed = Typed(feeds=feeds, products=products, **options)
    return make_plan(typed, stdout_is_terminal=terminal, read_text=read)


def refused(*args: Any, **options: Any) -> str:
    """The sentence that the user reads: what happened, then what to do."""
    with pytest.raises(UsageError) as caught:
        planned(*args, **options)
    assert caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint
    return f"{caught.value.message}; {caught.value.hint}"


# Feeds


@pytest.mark.parametrize("feed", FEEDS)
def test_every_feed_can_be_typed_in_kebab_case(feed: str) -> None:
    products = ("PF_XBTUSD",) if FEEDS[feed].products == "required" else ()
    assert planned(feed.replace("_", "-"), products).feeds == (feed,)
    assert planned(feed, products).feeds == (feed,)


def test_several_feeds_stand_in_the_order_typed_once_each() -> None:
    plan = planned(" trade , ticker-lite,trade,ticker_lite")
    assert plan.feeds == ("trade", "ticker_lite")


@pytest.mark.parametrize("typed", ["", ",", "ticker,", ",ticker", "ticker,,trade", " "])
def test_a_missing_feed_name_is_told(typed: str) -> None:
    assert refused(typed) == f"a feed is missing in {typed!r}; kfws subscribe ticker,trade …"


@pytest.mark.parametrize(
    ("typed", "similar"),
    [
        ("tickr", "; similar: ticker, ticker_lite"),
        ("Ticker", "; similar: ticker, ticker_lite"),
        ("open-order", "; similar: open_orders, open_orders_verbose"),
        ("zzz", ""),
        ("日本", ""),
        ("book\0", "; similar: book"),
    ],
)
def test_an_unknown_feed_is_told_with_the_nearest_names(typed: str, similar: str) -> None:
    assert refused(f"trade,{typed}") == (
        f"no feed {typed}{similar}; "
        "`kfws feeds` lists them; --force-feed asks the venue all the same"
    )


def test_an_unknown_feed_is_sent_when_forced() -> None:
    plan = planned("trade,of-tomorrow", force_feed=True)
    assert plan.subscriptions == (("trade", "PF_XBTUSD"), ("of_tomorrow", "PF_XBTUSD"))
    assert not plan.is_private


def test_a_forced_feed_goes_without_products_where_none_are_named() -> None:
    assert planned("candles", (), force_feed=True).subscriptions == (("candles", None),)


@pytest.mark.parametrize("option", ["feeds", "url", "fields", "where", "until"])
def test_bytes_that_are_no_text_are_refused_where_they_would_be_sent_or_taped(option: str) -> None:
    odd = b"a\xff".decode("utf-8", "surrogateescape")
    assert refused(**{option: odd}, force_feed=True) == r"'a\udcff' is no text; type it in UTF-8"


# Products


@pytest.mark.parametrize("feed", ["trade", "book", "ticker", "ticker_lite"])
def test_a_product_feed_needs_a_product(feed: str) -> None:
    assert refused(feed, ()) == f"{feed} needs a product; kfws subscribe {feed} PF_XBTUSD"


def test_a_product_for_the_heartbeat_alone_makes_no_sense() -> None:
    assert refused("heartbeat") == "heartbeat takes no product; kfws subscribe heartbeat"


def test_products_go_to_the_feeds_that_take_them() -> None:
    plan = planned("heartbeat,trade", ("PF_XBTUSD", "PF_ETHUSD"))
    assert plan.subscriptions == (
        ("heartbeat", None),
        ("trade", "PF_XBTUSD"),
        ("trade", "PF_ETHUSD"),
    )


@pytest.mark.parametrize("feed", [name for name, feed in FEEDS.items() if feed.private])
def test_products_of_a_private_feed_filter_and_are_not_sent(feed: str) -> None:
    plan = planned(feed)
    assert plan.subscriptions == ((feed, None),)
    assert plan.products == ("PF_XBTUSD",)
    assert plan.private_feeds == (feed,)


def test_products_may_be_separated_by_commas_and_repeated() -> None:
    plan = planned(products=("PF_XBTUSD,PF_ETHUSD", "PF_XBTUSD", "PF_AAPLxUSD"))
    assert plan.products == ("PF_XBTUSD", "PF_ETHUSD", "PF_AAPLxUSD")


@pytest.mark.parametrize(
    "typed",
    ["", ",", "PF_XBTUSD,", "XBTUSD", "PF XBTUSD", "PF_\nXBT", "PF_XBT\0", "PF_ＸＢＴ", "a" * 999],
)
def test_what_is_no_product_id_is_told(typed: str) -> None:
    told = refused(products=(typed,))
    assert told.endswith(" is no product id; an id looks like PF_XBTUSD or FI_XBTUSD_261225")


LISTED = parse(Market(1, 0).instruments(), 0)


def test_globs_become_ids_in_the_order_of_the_list() -> None:
    plan = planned(products=("PI_XBTUSD", "ff_xbt*", "PF_?BTUSD,PI_*"))
    assert plan.has_globs
    named = name_products(plan, LISTED)
    assert not named.has_globs
    assert named.subscriptions == (
        ("ticker", "PI_XBTUSD"),
        ("ticker", "FF_XBTUSD_261127"),
        ("ticker", "FF_XBTUSD_261225"),
        ("ticker", "PF_XBTUSD"),
        ("ticker", "PI_ETHUSD"),
        ("ticker", "PI_LTCUSD"),
        ("ticker", "PI_XRPUSD"),
    )
    assert named.globs == ("ff_xbt*", "PF_?BTUSD", "PI_*")
    assert named.warnings == ()


def test_a_glob_names_no_product_that_has_no_feeds() -> None:
    listed = {"in_xbtusd", "rr_xbtusd", "FI_ETHUSD_210625"}
    assert listed < set(LISTED.ids)
    assert not listed & set(name_products(planned(products=("*",)), LISTED).products)


@pytest.mark.parametrize(
    ("glob", "similar"), [("PF_XTBUSD*", "; similar: PF_XBTUSD"), ("QQ_*", ""), ("in_*", "")]
)
def test_a_glob_that_matches_nothing_is_told_with_what_looks_like_it(
    glob: str, similar: str
) -> None:
    with pytest.raises(UsageError) as caught:
        name_products(planned(products=(glob,)), LISTED)
    assert caught.value.message.startswith(f"no product matches {glob}{similar}")
    assert (";" in caught.value.message) == bool(similar)
    assert caught.value.hint == "`kfws products` lists them"


def test_the_case_of_an_id_is_put_right_with_a_warning() -> None:
    named = name_products(planned(products=("pf_aaplXusd", "PF_NewUSD", "PF_AAPLxUSD")), LISTED)
    assert named.products == ("PF_AAPLxUSD", "PF_NewUSD")
    assert named.warnings == (
        "pf_aaplXusd is spelled PF_AAPLxUSD at the venue; PF_AAPLxUSD is asked for",
    )


def test_a_glob_for_private_feeds_alone_needs_no_list() -> None:
    plan = planned("fills", ("PF_*",))
    assert (plan.has_globs, plan.names_products) == (False, False)
    assert plan.products == ("PF_*",)
    assert planned("fills,trade", ("PF_*",)).has_globs
    assert planned("of_tomorrow", ("PF_*",), force_feed=True).has_globs


def test_a_file_may_hold_globs() -> None:
    plan = planned(products=("@list",), read=holds("FF_XBT*\nPF_XBTUSD"))
    assert name_products(plan, LISTED).products[-1] == "PF_XBTUSD"


def test_a_file_names_products_line_by_line() -> None:
    text = "PF_XBTUSD\r\n\n  PF_ETHUSD  # the second\n# PF_NO\nPF_XBTUSD"
    plan = planned(products=("FI_XBTUSD_261225", "@list"), read=holds(text))
    assert plan.products == ("FI_XBTUSD_261225", "PF_XBTUSD", "PF_ETHUSD")


def test_the_name_of_the_file_is_what_stands_behind_the_at_sign() -> None:
    asked: list[str] = []

    def read(path: str) -> str:
        asked.append(path)
        return "PF_XBTUSD"

    planned(products=("@a/b c", "@-"), read=read)
    assert asked == ["a/b c", "-"]


def test_a_list_that_cannot_be_read_is_told() -> None:
    assert refused(products=("@list",)) == (
        "@list cannot be read: No such file or directory; one product a line"
    )


@pytest.mark.parametrize("fault", [b"\xff", b"nul"])
def test_a_list_that_is_no_text_or_has_no_possible_name_is_told(fault: bytes) -> None:
    def read(path: str) -> str:
        if fault == b"nul":
            raise ValueError("embedded null byte")
        return fault.decode()

    assert refused(products=("@x",), read=read) == (
        "@x cannot be read: not text; one product a line"
    )


@pytest.mark.parametrize("text", ["", "\n", "# PF_XBTUSD\n   \n"])
def test_a_list_that_names_nothing_is_told(text: str) -> None:
    assert refused(products=("@x",), read=holds(text)) == (
        "@x names no product; one product a line"
    )


def test_a_list_in_a_list_is_no_product() -> None:
    assert refused(products=("@x",), read=holds("@y")).startswith("'@y' is no product id")


# The venue


def test_the_live_venue_is_the_default() -> None:
    plan = planned()
    assert (plan.venue, plan.url) == (VenueName.live, "wss://futures.kraken.com/ws/v1")
    assert not plan.is_loopback


def test_the_demo_venue_and_the_simulator_have_names() -> None:
    assert planned(env=VenueName.demo).url == "wss://demo-futures.kraken.com/ws/v1"
    plan = planned(env=VenueName.sim)
    assert (plan.venue, plan.url, plan.is_loopback) == (VenueName.sim, "", True)


def test_a_venue_is_named_once() -> None:
    assert refused(url="wss://x", env=VenueName.live) == (
        "--env and --url both name a venue; leave one of them away"
    )


EXAMPLE = "e.g. --url wss://futures.kraken.com/ws/v1"


@pytest.mark.parametrize(
    "url", ["", "futures.kraken.com", "http://x/", "https://x", "ws://", "wss:///ws/v1", "file:x"]
)
def test_what_is_no_websocket_address_is_told(url: str) -> None:
    assert refused(url=url) == f"--url {url} is no WebSocket address; {EXAMPLE}"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("wss://x:99999/", "Port out of range 0-65535"),
        ("wss://x:port/", "Port could not be cast to integer value as 'port'"),
        ("wss://[::1/", "Invalid IPv6 URL"),
    ],
)
def test_an_address_that_cannot_be_read_is_told(url: str, why: str) -> None:
    assert refused(url=url) == f"--url {url}: {why}; {EXAMPLE}"


@pytest.mark.parametrize(
    "url",
    [
        "wss://me:s3cret@x/",
        "http://me:s3cret@x/",
        "wss://me:s3cret@x:99999/",
        "ws://me@127.0.0.1/",
        "wss://@x",
        "wss://x/#s3cret",
    ],
)
def test_a_password_in_the_address_is_refused_and_not_repeated(url: str) -> None:
    assert refused(url=url) == f"--url takes no user, password or fragment; {EXAMPLE}"


LOOPBACK = [
    "ws://127.0.0.1:8765/ws/v1", "ws://127.200.3.4", "ws://[::1]:8765/", "ws://localhost:1",
    "WS://LOCALHOST", "ws://sim.localhost/ws/v1",
]  # fmt: skip
REMOTE = [
    "ws://example.com", "ws://0.0.0.0:8765", "ws://192.168.0.1", "ws://127.0.0.1.example.com",
    "ws://[2001:db8::1]", "ws://localhost.example.com", "ws://notlocalhost", "ws://127.1",
]  # fmt: skip


@pytest.mark.parametrize("url", LOOPBACK)
def test_plain_ws_is_good_on_this_machine_for_private_feeds_too(url: str) -> None:
    plan = planned("trade,fills", url=url)
    assert (plan.venue, plan.url, plan.is_loopback) == (None, url, True)


@pytest.mark.parametrize("url", REMOTE)
def test_plain_ws_elsewhere_wants_insecure(url: str) -> None:
    told = refused(url=url)
    assert told.endswith(" is not encrypted; use wss://, or --insecure if you mean it")
    assert planned(url=url, insecure=True).url == url


@pytest.mark.parametrize("url", REMOTE)
@pytest.mark.parametrize("insecure", [True, False])
def test_plain_ws_elsewhere_never_carries_credentials(url: str, insecure: bool) -> None:
    told = refused("ticker,fills", url=url, insecure=insecure)
    assert told.startswith("credentials never go over plain ws:// to ")


def test_wss_is_good_everywhere() -> None:
    plan = planned("fills", url="wss://example.com/ws/v1")
    assert (plan.url, plan.is_loopback) == ("wss://example.com/ws/v1", False)


# Outputs


@pytest.mark.parametrize(("terminal", "format"), [(True, Format.table), (False, Format.ndjson)])
def test_auto_is_a_table_on_a_terminal_and_ndjson_in_a_pipe(terminal: bool, format: Format) -> None:
    assert planned(terminal=terminal).outputs == (Output(None, format),)


@pytest.mark.parametrize("format", [each for each in Format if each is not Format.auto])
@pytest.mark.parametrize("terminal", [True, False])
def test_a_format_that_was_asked_for_governs_stdout(format: Format, terminal: bool) -> None:
    assert planned(format=format, terminal=terminal).outputs == (Output(None, format),)


@pytest.mark.parametrize(
    ("path", "format", "compression"),
    [
        ("x.ndjson", Format.ndjson, None),
        ("x.ndjson.gz", Format.ndjson, "gz"),
        ("x.ndjson.zst", Format.ndjson, "zst"),
        ("x.csv", Format.csv, None),
        ("x.csv.gz", Format.csv, "gz"),
        ("x.csv.zst", Format.csv, "zst"),
        ("x.json", Format.json, None),
        ("x.json.gz", Format.json, "gz"),
        ("x.raw", Format.raw, None),
        ("x.raw.zst", Format.raw, "zst"),
        ("x.gz", Format.ndjson, "gz"),
        ("x", Format.ndjson, None),
        ("x.txt", Format.ndjson, None),
        ("my.csv/x", Format.ndjson, None),
        ("x.csv.bak", Format.ndjson, None),
        (".csv", Format.ndjson, None),
        ("日 本\n.csv", Format.csv, None),
        ("\udcff.raw", Format.raw, None),
    ],
)
def test_format_and_compression_come_from_the_name(
    path: str, format: Format, compression: Any
) -> None:
    plan = planned(outputs=[path], format=Format.table)
    assert plan.outputs == (Output(path, format, compression),)
    assert plan.outputs[0].is_tape == (format is Format.ndjson)


def test_stdout_beside_files_is_named_by_a_dash() -> None:
    plan = planned(outputs=["-", "a.csv"], format=Format.raw)
    assert plan.outputs == (Output(None, Format.raw), Output("a.csv", Format.csv))
    assert plan.warnings == ()
    assert not plan.outputs[0].is_tape


def test_a_format_for_a_silent_stdout_is_warned_of() -> None:
    assert planned(outputs=["a.csv"], format=Format.json).warnings == (
        "-f json governs stdout, which is silent beside -o; add -o - for both",
    )
    assert planned(outputs=["a.csv"]).warnings == ()


@pytest.mark.parametrize("path", ["x.xlsx", "y.prquet", "a.csv.bz2", "a.CSV", "a.tsv.gz", "a.ZST"])
def test_an_ending_that_names_another_format_is_warned_of(path: str) -> None:
    plan = planned(outputs=[path])
    assert plan.outputs[0].format is Format.ndjson
    assert plan.warnings == (
        f"{path}: written as NDJSON; .csv, .json and .raw choose otherwise, .gz and .zst compress",
    )


@pytest.mark.parametrize(
    "path",
    [
        "x",
        "a.ndjson",
        "a.NDJSON.zst",
        "a.jsonl",
        "a.json",
        "a.log",
        "a.txt.gz",
        "a.{date}",
        "a.2026-11-25",
        "a.1",
        ".x",
    ],
)
def test_endings_of_lines_and_of_dates_are_as_meant(path: str) -> None:
    assert planned(outputs=[path]).warnings == ()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a", "a"),
        ("a", "./a"),
        ("./a", "a"),
        ("a", "b/../a"),
        ("d/a", "d//a"),
        ("d/a", "d/./a"),
        ("/d/a", "/d/../d/a"),
        ("-", "-"),
    ],
)
def test_two_outputs_on_one_path_are_refused(first: str, second: str) -> None:
    assert refused(outputs=[first, "z", second]) == (
        f"two outputs on {second}; give each -o a path of its own"
    )


def test_outputs_that_only_look_alike_are_two() -> None:
    assert len(planned(outputs=["a.csv", "a.csv.gz", "A.csv", "d/a.csv"]).outputs) == 4


@pytest.mark.parametrize("path", ["", "/", "d/", "./", "a\0b"])
def test_an_output_that_names_no_file_is_told(path: str) -> None:
    assert refused(outputs=[path]) == f"-o {path!r} names no file; e.g. -o trades.ndjson.zst"


@pytest.mark.parametrize("path", ["a.parquet", "d/{feed}.PARQUET", "a.parquet.zst"])
def test_what_only_convert_writes_is_said_so(path: str) -> None:
    assert refused(outputs=[path]) == (
        f"-o {path}: no stream is written as Parquet; "
        "record to NAME.ndjson.zst, then `kfws convert`"
    )


@pytest.mark.parametrize("path", ["nats://host/stream", "s3://x", "://"])
def test_an_output_of_a_later_version_is_told(path: str) -> None:
    kind = path.split("://")[0]
    assert refused(outputs=[path]) == f"{kind}:// is no output of this version; -o PATH"


@pytest.mark.parametrize(
    ("how", "hint"),
    [
        ({"format": Format.csv}, "run one command per feed, or use ndjson"),
        ({"outputs": ["-", "x.csv.gz"]}, "put {feed} into the path of -o, or use ndjson"),
    ],
)
def test_csv_holds_one_feed(how: dict[str, Any], hint: str) -> None:
    assert refused("trade,book", **how) == f"csv holds one feed, not 2 (trade, book); {hint}"


@pytest.mark.parametrize(
    ("options", "rotate", "sync_s", "keep"),
    [
        ({}, (None, None), 1.0, (None, None)),
        ({"rotate": "1h", "sync": "always"}, (3600.0, None), 0.0, (None, None)),
        (
            {"rotate": "256MB", "sync": "never", "keep": "7d"},
            (None, 256_000_000),
            None,
            (604800.0, None),
        ),
        (
            {"rotate": "1h,1k", "sync": "5s", "keep": "50GB,1d"},
            (3600.0, 1000),
            5.0,
            (86400.0, 50 * 10**9),
        ),
    ],
)
def test_how_files_are_kept_is_read(
    options: dict[str, Any], rotate: object, sync_s: float | None, keep: object
) -> None:
    plan = planned(outputs=["x.ndjson"], **options)
    assert (plan.rotate, plan.sync_s, plan.keep) == (rotate, sync_s, keep)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rotate": "1h"}, "--rotate is for files; add -o PATH"),
        ({"rotate": "1h", "outputs": ["-"]}, "--rotate is for files; add -o PATH"),
        ({"rotate": "10ms", "outputs": ["x"]}, "--rotate 10ms is too often; 1s or more"),
        (
            {"keep": "1d", "outputs": ["x"]},
            "--keep deletes files that --rotate completed; e.g. --rotate 1h",
        ),
        (
            {"sync": "often", "outputs": ["x"]},
            "--sync: 'often' is not a duration; e.g. 1s, always or never",
        ),
    ],
)
def test_what_cannot_be_kept_so_is_said(options: dict[str, Any], sentence: str) -> None:
    assert refused(**options) == sentence


def test_a_rotated_file_has_its_moment_in_its_name() -> None:
    plan = planned(outputs=["a/x.ndjson.zst"], rotate="1h")
    [output] = plan.outputs
    assert output.path == "a/x.{date}T{time}Z.ndjson.zst"


def test_a_csv_for_each_feed_holds_one() -> None:
    plan = planned("trade,book", outputs=["{feed}.csv"])
    assert plan.outputs == (Output("{feed}.csv", Format.csv),)


# Fields


def test_fields_are_names_between_commas() -> None:
    assert planned(fields="last, greeks.iv").fields == ("last", "greeks.iv")
    assert planned().fields == ()


@pytest.mark.parametrize("typed", ["", ",", "last,", " ,last"])
def test_a_missing_field_name_is_told(typed: str) -> None:
    assert refused(fields=typed) == (f"a name is missing in --fields {typed!r}; --fields price,qty")


@pytest.mark.parametrize("path", ["x.ndjson", "x.zst", "x"])
def test_a_tape_is_never_thinned_out(path: str) -> None:
    assert refused(outputs=["-", path], fields="last") == (
        f"--fields would thin out the tape {path}; "
        "a tape keeps messages whole; leave --fields away, or write .csv"
    )


@pytest.mark.parametrize("how", [{"format": Format.raw}, {"outputs": ["x.raw"]}])
def test_raw_has_no_fields(how: dict[str, Any]) -> None:
    assert refused(fields="last", **how) == ("raw is every frame as it came; leave --fields away")


@pytest.mark.parametrize("format", [Format.csv, Format.table])
def test_a_column_that_a_feed_lacks_is_told_with_those_it_has(format: Format) -> None:
    told = refused("trade", fields="price,zzz", format=format)
    assert told.startswith("trade has no column zzz; columns: ")
    assert "price,product_id,qty" in told
    told = refused("trade", fields="prize", format=format)
    assert told == "trade has no column prize; similar: price"
    assert len(refused("ticker", fields="zzz", format=format)) < 160
    assert planned("trade", fields="price,qty", format=format).fields == ("price", "qty")


def test_a_table_of_several_feeds_takes_the_columns_of_any_of_them() -> None:
    assert planned("trade,ticker", fields="price,bid", format=Format.table).fields
    told = refused("trade,ticker", fields="nope", format=Format.table)
    assert told.startswith("trade, ticker has no column nope")


@pytest.mark.parametrize("format", [Format.ndjson, Format.json])
def test_any_key_may_be_asked_for_in_json(format: Format) -> None:
    assert planned(fields="of_tomorrow,a.b", format=format).fields == ("of_tomorrow", "a.b")


def test_a_feed_without_a_table_of_its_own_shows_any_key() -> None:
    plan = planned("of_tomorrow", force_feed=True, fields="any", format=Format.table)
    assert plan.fields == ("any",)


# When to end


@pytest.mark.parametrize("count", [0, -1, -(10**30)])
def test_a_count_below_one_is_told(count: int) -> None:
    assert refused(count=count) == f"-n {count}: nothing to wait for; -n 1 or more"


def test_any_count_from_one_on_is_good() -> None:
    assert planned(count=1).count == 1
    assert planned(count=10**30).count == 10**30


@pytest.mark.parametrize("option", ["duration", "timeout"])
@pytest.mark.parametrize("typed", ["", "-5s", "soon", "1e5", "5 s", "٣s", "\0", "9" * 400 + "d"])
def test_a_bad_duration_is_told_with_good_ones(option: str, typed: str) -> None:
    told = refused(**{option: typed})
    assert " is not a duration" in told
    assert told.endswith("; type it as in 30s, 250ms, 5m, 1h, 2d or 1m30s")
    assert len(told) < 150


def test_durations_are_seconds_in_the_plan() -> None:
    plan = planned(duration="1m30s", timeout="250ms")
    assert (plan.duration_s, plan.timeout_s) == (90.0, 0.25)


@pytest.mark.parametrize("option", ["where", "until"])
def test_a_bad_expression_is_told_with_a_good_one(option: str) -> None:
    assert refused(**{option: ""}) == (
        "the expression is empty; for example: side==buy and qty>=10"
    )
    assert refused(**{option: "side = buy"}) == (
        "expression 'side = buy': at character 6, found '='; type == instead"
    )


def test_expressions_are_ready_in_the_plan() -> None:
    plan = planned(where="last>1", until="last>2")
    assert plan.where is not None
    assert plan.where.matches({"last": 2})
    assert plan.until is not None
    assert not plan.until.matches({"last": 2})


def test_all_else_is_passed_on_as_typed() -> None:
    plan = planned(
        proxy="none", ca_file="ca.pem", compression=True, overwrite=True, stamp=True, events=True,
        snapshots=False, strict=True,
    )  # fmt: skip
    assert (plan.proxy, plan.ca_file) == ("none", "ca.pem")
    assert plan.compression
    assert plan.overwrite
    assert plan.stamp
    assert plan.events
    assert plan.strict
    assert not plan.snapshots


@given(
    feeds=st.text(),
    products=st.lists(st.text(), max_size=3),
    outputs=st.lists(st.text(), max_size=3),
    url=st.none() | st.text() | st.text().map(lambda text: f"ws://{text}"),
    fields=st.none() | st.text(),
    count=st.none() | st.integers(),
    duration=st.none() | st.text(),
    force=st.booleans(),
)
def test_anything_typed_gives_a_plan_or_one_sentence(
    feeds: str,
    products: list[str],
    outputs: list[str],
    url: str | None,
    fields: str | None,
    count: int | None,
    duration: str | None,
    force: bool,
) -> None:
    typed = Typed(
        feeds=feeds,
        products=products,
        outputs=outputs,
        url=url,
        fields=fields,
        count=count,
        duration=duration,
        force_feed=force,
    )
    with suppress(UsageError):
        make_plan(typed, stdout_is_terminal=False, read_text=no_file)


# Where REST is


@pytest.mark.parametrize(
    ("rest_url", "url", "env", "base"),
    [
        (None, None, None, "https://futures.kraken.com"),
        (None, None, VenueName.demo, "https://demo-futures.kraken.com"),
        (None, None, VenueName.sim, ""),
        (None, "wss://venue.example/ws/v1", None, "https://venue.example"),
        (None, "wss://venue.example:8443/ws/v1", None, "https://venue.example:8443"),
        (None, "ws://127.0.0.1:8765/ws/v1", None, "http://127.0.0.1:8765"),
        (None, "ws://[::1]:8765/ws/v1", None, "http://[::1]:8765"),
        ("https://rest.example/", "wss://venue.example/ws/v1", None, "https://rest.example"),
        ("http://localhost:9000", None, VenueName.sim, "http://localhost:9000"),
    ],
)
def test_rest_is_where_it_is_named_else_where_the_stream_is(
    rest_url: str | None, url: str | None, env: VenueName | None, base: str
) -> None:
    assert rest_base(rest_url, url, env) == base


@pytest.mark.parametrize(
    ("rest_url", "sentence"),
    [
        ("futures.kraken.com", "--rest-url futures.kraken.com is no REST address"),
        ("wss://futures.kraken.com", "--rest-url wss://futures.kraken.com is no REST address"),
        ("https://", "--rest-url https:// is no REST address"),
        ("https://a:x", "Port could not be cast"),
        ("https://a/derivatives/api/v3", "--rest-url https://a/derivatives/api/v3 has a path"),
        ("https://a?b=c", "--rest-url https://a?*** has a path"),
        ("http://venue.example", "http:// to venue.example is not encrypted"),
    ],
)
def test_what_is_no_rest_address_is_told(rest_url: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        rest_base(rest_url, None, None)
    assert sentence in caught.value.message
    assert caught.value.hint


def test_a_password_in_the_rest_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        rest_base("https://me:hunter2@venue.example", None, None)
    assert "hunter2" not in f"{caught.value.message}{caught.value.hint}"


def test_plain_http_elsewhere_wants_insecure() -> None:
    url = "ws://venue.example/ws/v1"
    with pytest.raises(UsageError, match="not encrypted"):
        rest_base(None, url, None)
    assert rest_base(None, url, None, insecure=True) == "http://venue.example"


def test_rest_of_two_venues_is_of_none() -> None:
    with pytest.raises(UsageError, match="both name a venue"):
        rest_base(None, "wss://venue.example/ws/v1", VenueName.demo)


def test_renewal_is_for_connections_side_by_side() -> None:
    assert planned(renew="1h", redundancy=2).renew_s == 3600
    assert planned(redundancy=2).renew_s == 12 * 3600
    assert "--renew replaces one of several connections" in refused(renew="1h")


def test_a_buffer_holds_a_frame_at_least() -> None:
    assert planned(buffer="64kB").buffer_bytes == 64_000
    assert "--buffer 64 is 64 bytes" in refused(buffer="64")


# How it looks


@pytest.mark.parametrize("sort", ["last", "-24h", "24H", "change", "-openInterest", "open int"])
def test_rows_can_be_sorted_by_a_title_or_a_key(sort: str) -> None:
    assert planned(sort=sort, terminal=True).sort == sort


@pytest.mark.parametrize(
    "options",
    [
        {"terminal": False},
        {"terminal": True, "format": Format.csv},
        {"terminal": True, "feeds": "trade"},
        {"terminal": True, "outputs": ["x.csv"]},
    ],
)
def test_only_a_live_table_can_be_sorted(options: dict[str, Any]) -> None:
    assert refused(sort="last", **options).startswith("--sort orders the rows of a live table")


def test_an_unknown_column_to_sort_by_is_named_with_those_that_are() -> None:
    sentence = refused(sort="-colour", terminal=True)
    assert sentence.startswith("--sort -colour: there is no such column; columns: product, last,")


# Books


def looked(products: tuple[str, ...] = ("PF_XBTUSD",), **typed: Any) -> Look:
    look = planned("book", products, look=TypedLook(**typed)).look
    assert look is not None
    return look


def test_only_the_book_command_looks_at_books() -> None:
    assert planned("book").look is None
    assert looked() == Look()


def test_a_look_has_depth_and_rhythm() -> None:
    assert looked(depth=1, every="100ms") == Look(depth=1, every_s=0.1)


LISTED = parse(Market(1, 0).instruments(), 0)


def steps(products: tuple[str, ...], listed: Products | None, **typed: Any) -> dict[str, Decimal]:
    sized = size_steps(planned("book", products, look=TypedLook(**typed)), listed).look
    assert sized is not None
    return {**sized.steps}


def test_groups_are_so_many_ticks_of_each_product() -> None:
    known = {"PF_XBTUSD": Decimal(10), "PF_ETHUSD": Decimal("1.0")}
    assert steps((*known,), LISTED, group=10) == known
    assert steps((*known,), LISTED, group=10, tick="0.5") == dict.fromkeys(known, Decimal("5.0"))
    assert steps(("PF_NEWUSD",), None, group=10, tick="0.5") == {"PF_NEWUSD": Decimal("5.0")}


def test_without_groups_nobody_needs_a_tick() -> None:
    assert steps(("PF_NEWUSD",), None) == {}
    plain = planned("ticker")
    assert size_steps(plain, None) is plain


@pytest.mark.parametrize("listed", [None, LISTED])
def test_groups_of_a_product_of_unknown_tick_are_refused(listed: Products | None) -> None:
    with pytest.raises(UsageError, match="the tick size of PF_NEWUSD is not known") as caught:
        steps(("PF_NEWUSD",), listed, group=10)
    assert "--tick" in caught.value.hint


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"tick": "0.5"}, "--tick is the size of a step of --group"),
        *(
            ({"group": 10, "tick": tick}, f"--tick {tick} is no tick size")
            for tick in ("", "x", "0", "-1", "nan", "inf", "1e-40", "1e40")
        ),
        ({"every": "soon"}, "'soon' is not a duration"),
    ],
)
def test_a_look_that_cannot_be_is_refused(typed: dict[str, Any], said: str) -> None:
    assert said in refused("book", look=TypedLook(**typed))


def test_lines_about_books_are_no_tape_and_no_frames() -> None:
    plan = planned("book", look=TypedLook(), outputs=["a.ndjson", "-"])
    assert not any(output.is_tape for output in plan.outputs)
    for options in ({"outputs": ["a.raw"]}, {"format": Format.raw}):
        assert "kfws subscribe book" in refused("book", look=TypedLook(), **options)


def test_lines_about_books_have_keys_of_their_own() -> None:
    options: dict[str, Any] = {"where": "mid>1", "fields": "spread,stale", "format": Format.csv}
    assert planned("book", look=TypedLook(), **options).odd_keys == ()
    assert "mid" in planned("book", where="mid>1").odd_keys[0]


def test_reads_are_kept_apart_and_stats_are_said_only_where_that_was_asked_for() -> None:
    assert (planned().coalesce_s, planned().stats_s) == (0.0, None)
    asked = planned(coalesce="5ms", stats="10s")
    assert (asked.coalesce_s, asked.stats_s) == (0.005, 10.0)
