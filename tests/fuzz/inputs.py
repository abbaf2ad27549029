"""What nobody sends, and somebody may: inputs made by hypothesis.

Half of them are spoilt truths (a recorded frame with a piece cut out, doubled, or replaced by a
hostile one), half are made of words of the grammar; a few are nothing but noise.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from typing import Any

from hypothesis import strategies as st

from kfws.protocol.feeds import FEEDS
from kfws.tapes.files import seal
from tests.frames_of import frames, names

__all__ = ["CREDENTIALS", "FRAMES", "LISTS", "MARKS", "TAPES", "TOMLS", "VENUE_TEXT", "typed"]

MARKS = (
    *("\0", "\a", "\b", "\t", "\n", "\v", "\f", "\r", "\x1b", "\x7f", "\x85", "\x9b", "\x9d"),
    *("\x1b[2J", "\x1b[31m", "\x1b]0;owned\a", "\x1b]52;c;b3duZWQ=\x1b\\", "\x9b6n", "\x90q\x9c"),
    *("\x1bP+q\x1b\\", "\x1b[?1049h", "\x1bc", "\x0e", "\u202e", "\u2066", "\u2069", "\u200b"),
    *("\u200d", "\u2028", "\u2029", "\ufeff", "\u0301", "\u20dd", "\ufe0f", "\u115f", "\u1160"),
    *("日", "\U0001f600", "\U0001f469\u200d\U0001f680", "\u0e33", "\U000e0041", "\ufff9", "\xad"),
)
"""Controls, sequences, marks of direction, of no width, of two cells."""

VENUE_TEXT = st.lists(st.sampled_from(MARKS) | st.text(max_size=4), max_size=12).map("".join)

_HOSTILE_NUMBERS = st.sampled_from(
    [
        *(b"0", b"-0", b"-1", b"1e999", b"-1e999", b"1e-999", b"1e300", b"9" * 30, b"9" * 400),
        *(b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809", b"1.5"),
        *(b"18446744073709551615", b"18446744073709551616", b"1790360004400", b"1E2", b"007"),
        *(b"NaN", b"Infinity", b"null", b"true", b'"1"', b"[]", b"{}", b'"\\ud800"', b"1.7e7"),
    ]
)
_PIECES = (
    st.binary(max_size=6)
    | _HOSTILE_NUMBERS
    | VENUE_TEXT.map(lambda text: json.dumps(text).encode())
    | st.sampled_from([b"{", b"[" * 600, b'{"a":' * 600, b'"', b"\\", b",", b":", b"\n", b"\xff"])
)


@cache
def _recorded() -> tuple[bytes, ...]:
    return tuple(each for name in names() for each in frames(name))


@st.composite
def _spoilt(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    found = draw(whole)[:4000]
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(found)))
        to = min(len(found), at + draw(st.sampled_from([0, 0, 1, 2, 8, 60, 4000])))
        found = found[:at] + draw(_PIECES) + found[to:]
    return found


_KEYS = (
    *("event", "feed", "product_id", "product_ids", "seq", "time", "timestamp", "side", "price"),
    *("qty", "message", "bids", "asks", "trades", "fills", "fill_id", "orders", "order", "logs"),
    *("id", "new_entry", "positions", "account", "api_key", "signed_challenge", "uid", "greeks"),
    *("balances", "holding", "futures", "flex_futures", "bid", "ask", "funding_rate", "kfws"),
)
_TEXTS = st.sampled_from(
    [
        *FEEDS,
        *(f"{feed}_snapshot" for feed in FEEDS),
        *("subscribed", "unsubscribed", "subscribed_failed", "challenge", "alert", "error", "info"),
        *("PF_XBTUSD", "pf_xbtusd", "PF_ETHUSD", "buy", "sell", "", "subscribed "),
        *("Invalid product id", "Couldn't subscribe to invalid product `PF_XBTUSD`", "`", "``"),
        *("Failed to subscribe to authenticated feed", "Already subscribed to feed, re-requesting"),
        *("Trading engine unavailable", "Not subscribed to feed", "Couldn't subscribe to invalid"),
    ]
)
_NUMBERS = st.integers(-2, 12) | st.sampled_from([1.5, 1e17, 2**53, 2**63 - 1, 2**64, 10**30])
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXTS | VENUE_TEXT,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=5)
    ),
    max_leaves=8,
)
_WORDED = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("seq", "time", "price", "qty"), _NUMBERS)
    | dict.fromkeys(("event", "feed", "product_id", "side"), _TEXTS)
    | {key: _VALUES for key in _KEYS if key not in ("seq", "time", "feed", "product_id")},
).map(lambda fields: json.dumps(fields).encode())


@st.composite
def _counted(draw: st.DrawFn) -> list[bytes]:
    """Messages of one stream whose numbers are nearly in order."""
    feed, seq = draw(st.sampled_from(["book", "trade"])), 5
    found = []
    for _ in range(draw(st.integers(1, 12))):
        seq += draw(st.sampled_from([1, 1, 1, 2, -1, 0, 4000, -5000]))
        fields = {"feed": feed, "product_id": "PF_XBTUSD", "seq": seq, "time": seq * 100}
        fields |= {"side": "buy", "price": draw(_NUMBERS), "qty": draw(st.integers(0, 2))}
        if draw(st.integers(0, 5)) == 0:
            fields |= {"feed": f"{feed}_snapshot", feed + "s": [], "bids": [], "asks": []}
        found.append(json.dumps(fields).encode())
    return found


_FRAME = _spoilt(st.deferred(lambda: st.sampled_from(_recorded()))) | _WORDED
FRAMES = st.lists(_FRAME | st.binary(max_size=40), max_size=6) | _counted()
"""Frames of one connection."""

# Tapes

_OWN_KEYS = (
    *("feed", "product_id", "product_ids", "message", "reason", "payload", "encoding", "first"),
    *("last", "missing", "cause", "healed", "healed_by", "from_ns", "to_ns", "seq", "stale_ns"),
    *("event", "failed", "delay_s", "connection", "url", "code", "filter", "feeds", "products"),
    *("venue", "version", "continues", "messages", "command"),
)
_OWN_NAMES = (
    *("header", "opened", "closed", "subscribed", "refused", "stale", "silent", "resync", "gap"),
    *("restart", "duplicate", "broken", "notice", "stats", "totals", "continued", "tomorrow", ""),
)
_MOMENTS = st.integers(0, 40).map(lambda step: 1_790_360_000_000_000_000 + step * 10**9) | (
    st.sampled_from([0, -1, 10**18, 9_999_999_999_999_999_999, 2**63, 2**64, 1.5, None, "x"])
)
_CAUSES = ["venue", "outage", "takeover", "resync", "slow-reader", "suspended", "disk-full", "x"]


@st.composite
def _own(draw: st.DrawFn) -> bytes:
    fields: dict[str, Any] = {"kfws": draw(st.sampled_from(_OWN_NAMES)), "at_ns": draw(_MOMENTS)}
    likely: dict[str, st.SearchStrategy[Any]] = {
        "cause": st.sampled_from(_CAUSES),
        "feed": _TEXTS,
        "product_id": _TEXTS,
        "from_ns": _MOMENTS,
        "to_ns": _MOMENTS,
        "delay_s": st.sampled_from([0, 0.5, 1e300, -1e300, 10**30]),
        "connection": st.integers(-1, 3),
        "event": st.sampled_from(["redial", "alert", "info"]),
    }
    for key in draw(st.lists(st.sampled_from(_OWN_KEYS), max_size=9)):
        fields[key] = draw(likely.get(key, _VALUES) if draw(st.integers(0, 6)) else _VALUES)
    return json.dumps(fields, separators=(",", ":")).encode()


@st.composite
def _line(draw: st.DrawFn) -> bytes:
    if draw(st.integers(0, 2)) == 0:
        return draw(_own() | _spoilt(_own()))
    frame = draw(_FRAME).replace(b"\n", b" ")
    stamp = b'{"received_ns":%b,' % json.dumps(draw(_MOMENTS)).encode()
    return stamp + frame[1:] if frame[:1] == b"{" else stamp + frame


_TEXT_OF_TAPE = st.lists(_line(), max_size=8).map(b"\n".join)


@st.composite
def _packed(draw: st.DrawFn) -> bytes:
    """Compressed in one or several frames, and spoilt perhaps."""
    text = draw(_TEXT_OF_TAPE)
    if draw(st.booleans()):
        at = draw(st.integers(0, len(text)))
        whole = b"".join(seal(part, "zst") for part in (text[:at], text[at:]))
    else:
        whole = b"".join(gzip.compress(part, mtime=0) for part in text.split(b"\n"))
    return draw(_spoilt(st.just(whole)) if draw(st.booleans()) else st.just(whole))


TAPES = _TEXT_OF_TAPE | _TEXT_OF_TAPE.map(lambda text: text + b"\n") | _packed() | st.binary()
"""Files that are tapes, nearly."""

# What people type


def typed(*words: str) -> st.SearchStrategy[str]:
    """Texts of these words and of anything else, with or without spaces between."""
    pieces = st.sampled_from(words) | VENUE_TEXT | st.text(max_size=3)
    listed = st.lists(pieces, max_size=10)
    plain = st.lists(st.sampled_from(words), max_size=5).map("".join)
    return plain | listed.map("".join) | listed.map(" ".join)


_TOML_WORDS = (
    *("[", "]", "[[", "]]", "{", "}", "=", " = ", "\n", '"', "'", '"""', "'''", "#", ".", ","),
    *("env", "demo", "format", "csv", "subscribe", "book", "profiles", "profiles.x", "profile"),
    *("output", "on-full", "on_full", "stats", "redundancy", "depth", "true", "false", "1", "1.5"),
    *("1979-05-27", "07:32:00", "inf", "nan", "0x1", "1_0", "config", "yes", "credentials", "auth"),
    *("[subscribe]\n", "[profiles.x]\n", 'env = "demo"\n', 'output = ["a"]\n', "a = [" * 400),
)
TOMLS = typed(*_TOML_WORDS)
_A_KEY = typed("").map(lambda text: f"api_key = k{text}\napi_secret = QUJD")
CREDENTIALS = _A_KEY | typed(
    *("api_key", "api_secret", "key", "secret", "=", " = ", '"', "'", "\n", "# x", "export ", "{"),
    *(
        "}",
        ":",
        ",",
        "[table]",
        "QUJD",
        "c2VjcmV0",
        "KFWS_API_KEY",
        "\ufeff",
        '{"a":' * 600,
        "null",
    ),
)
LISTS = st.one_of(
    _spoilt(
        st.just(
            b'{"result":"success","instruments":[{"symbol":"PF_XBTUSD","type":"flexible_futures",'
            b'"tickSize":0.5,"contractSize":1,"tradeable":true},{"symbol":"FI_X","tickSize":1e-5}]}'
        )
    ),
    st.dictionaries(
        st.sampled_from(["error", "errors", "result", "sendStatus", "batchStatus", "instruments"]),
        _VALUES,
    ).map(lambda fields: json.dumps(fields).encode()),
)
"""Answers of REST."""
