"""What breaks, when, and on which connection.

Rule of this room: no socket and no clock. Frames and moments are handed in, and what is to be
done with each frame is handed back; the seed decides what is left to chance.

A fault is written ``NAME[=VALUE][@WHEN][:KEY[=VALUE]]…``, for example ``drop@5s``,
``close=1012@100msgs``, ``gap=3@2s..5s:feed=book:product=PF_XBTUSD``, ``drop:every=20s``.
"""

from __future__ import annotations

import difflib
import math
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, NoReturn

import orjson

from kfws.errors import UsageError
from kfws.protocol.feeds import FEEDS, NUMBERED, base_name, nearest
from kfws.protocol.venue import Publication
from kfws.protocol.wire import Control, read_head

__all__ = [
    "KINDS",
    "Counters",
    "Course",
    "Ending",
    "Fault",
    "Faults",
    "Greeting",
    "Later",
    "Sent",
    "Step",
    "Struck",
    "Withheld",
    "parse",
]

Quantity = Literal["", "count", "code", "status", "duration", "size"]
On = Literal["at once", "handshake", "request", "delta", "data", "snapshot", "subscribed"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to break: a row of the table below."""

    summary: str
    value: Quantity = ""
    default: float = 0
    keys: tuple[str, ...] = ()
    on: On | Literal["challenge"] = "at once"
    """What it befalls: nothing in particular, or the next frames of that sort."""


STREAM = ("feed", "product")

KINDS: dict[str, Kind] = {
    "drop": Kind("the connection is torn (TCP RST)"),
    "close": Kind("a close frame with this code", "code", 1001),
    "stall": Kind("nothing more is sent; pings are still answered"),
    "half-open": Kind("nothing more is sent, read or answered"),
    "restart": Kind("all are torn, and numbers count on from lower ones"),
    "refuse": Kind(
        "an HTTP status instead of a handshake",
        "status",
        503,
        ("retry-after",),
        "handshake",
    ),
    "slow": Kind("the handshake takes so long", "duration", 2, (), "handshake"),
    "gap": Kind("N numbered frames are withheld", "count", 1, STREAM, "delta"),
    "duplicate": Kind("N frames are sent twice", "count", 1, STREAM, "delta"),
    "reorder": Kind("N frames change places with their next", "count", 1, STREAM, "delta"),
    "huge": Kind("a frame is padded to about this size", "size", 1e6, STREAM, "delta"),
    "broken": Kind("N frames more, torn in the middle of their JSON", "count", 1),
    "binary": Kind("N binary frames more", "count", 1),
    "alerts": Kind("N alerts `Trading engine unavailable`", "count", 10),
    "silent": Kind(
        "a feed gives nothing until asked for anew, or `forever`",
        "",
        0,
        (*STREAM, "forever"),
        "data",
    ),
    "no-ack": Kind(
        "N acknowledgements are swallowed, or `no-data`: requests",
        "count",
        1,
        (*STREAM, "no-data"),
        "subscribed",
    ),
    "no-snapshot": Kind("N snapshots are withheld", "count", 1, STREAM, "snapshot"),
    "late-challenge": Kind("the challenge comes so late", "duration", 2, (), "challenge"),
    "wrong-challenge": Kind("a challenge that no signature will fit", "count", 1, (), "challenge"),
    "reject": Kind("a feed is refused on every connection", "", 0, STREAM, "request"),
}

COMMON = ("every", "times", "conn")
FLAGS = ("forever", "no-data")


class Moment(NamedTuple):
    """A length that a fault waits, drawn anew each time where two ends were given."""

    low: float
    high: float
    unit: Literal["s", "msgs"] = "s"

    def draw(self, chance: random.Random) -> float:
        drawn = chance.uniform(self.low, self.high)
        return drawn if self.unit == "s" else round(drawn)


NOW = Moment(0, 0)


@dataclass(frozen=True, slots=True)
class Fault:
    """What was asked for. ``value`` is a count, a code, seconds or bytes, as the kind says."""

    spec: str
    name: str
    value: float = 0
    at: Moment = NOW
    """Seconds since the first client came, or data frames on the connection that it hits."""
    every: Moment | None = None
    times: float = 1
    conn: int | None = None
    """The only connection that it may hit, counted from 1 in the order of their opening."""
    feed: str | None = None
    product: str | None = None
    retry_after: str | None = None
    flags: frozenset[str] = frozenset()

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]

    def suits(self, feed: str, product: str | None) -> bool:
        """Whether a stream is one of those that it may hit."""
        if self.product is not None and self.product.lower() != (product or "").lower():
            return False
        return self.feed in (None, feed)


# What was typed

_SPEC = re.compile(r"([a-z-]+)(?:=([^@:]*))?(?:@([^:]*))?((?::[^:@]*)*)")
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|msgs)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(kB|MB)", re.IGNORECASE)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "msgs": 1.0, "kb": 1e3, "mb": 1e6}


def parse(spec: str) -> Fault:
    """A fault as it was typed. Raises UsageError."""
    found = _SPEC.fullmatch(spec)
    if found is None:
        _refuse(spec, "a fault is written NAME[=VALUE][@WHEN][:KEY[=VALUE]]…, e.g. drop@5s")
    name, value, at, rest = found.groups()
    kind = KINDS.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, KINDS, n=3)
        like = f"similar: {', '.join(near)}" if near else f"there are {', '.join(KINDS)}"
        _refuse(spec, f"there is no fault {name!r}; {like}")
    keys = dict(_keys(spec, kind, rest))
    every = _moment(spec, keys["every"]) if "every" in keys else None
    when = every or NOW if at is None else _moment(spec, at)
    _check(spec, name, keys, when, every)
    forever = every is not None or name == "reject"
    return Fault(
        spec,
        name,
        kind.default if value is None else _value(spec, kind.value, value),
        when,
        every,
        _count(spec, keys["times"]) if "times" in keys else math.inf if forever else 1,
        _count(spec, keys["conn"]) if "conn" in keys else None,
        keys.get("feed"),
        keys.get("product"),
        str(math.ceil(_seconds(spec, keys["retry-after"]))) if "retry-after" in keys else None,
        frozenset(keys) & frozenset(FLAGS),
    )


def _keys(spec: str, kind: Kind, rest: str) -> Iterable[tuple[str, str]]:
    for part in rest.split(":")[1:]:
        key, given, value = part.partition("=")
        if key not in kind.keys + COMMON:
            _refuse(spec, f"it takes {', '.join(kind.keys + COMMON)}, not {key!r}")
        if (key in FLAGS) == bool(given):
            _refuse(spec, f"{key} takes {'no' if given else 'a'} value")
        yield key, value


def _check(spec: str, name: str, keys: dict[str, str], when: Moment, every: Moment | None) -> None:
    """What the parts of a fault must agree on."""
    feed = keys.get("feed")
    if feed is not None and feed not in FEEDS:
        like = (
            f"did you mean {nearest(feed)[0]}?" if nearest(feed) else f"one of {', '.join(FEEDS)}"
        )
        _refuse(spec, f"there is no feed {feed!r}; {like}")
    if name == "gap" and feed not in {None, *NUMBERED}:
        _refuse(spec, f"{feed} has no numbers that could be missing; use book or trade")
    if name in ("silent", "reject") and feed is None:
        _refuse(spec, f"name the feed, e.g. {name}:feed=ticker")
    if every is not None and every.unit != when.unit:
        _refuse(spec, "@ and every are both times or both numbers of messages")
    if KINDS[name].on == "handshake" and when.unit == "msgs":
        _refuse(spec, "there are no messages before a handshake; give a time")


def _value(spec: str, quantity: Quantity, text: str) -> float:
    match quantity:
        case "":
            _refuse(spec, "it takes no value")
        case "duration":
            return _seconds(spec, text)
        case "size":
            found = _SIZE.fullmatch(text)
            if found is None:
                _refuse(spec, f"{text!r} is no size; write it as in 500kB or 8MB")
            return float(found[1]) * _UNITS[found[2].lower()]
    number = _count(spec, text)
    # 1005, 1006 and 1015 never stand in a close frame (RFC 6455, section 7.4.1).
    if quantity == "code" and (not 1000 <= number < 5000 or number in (1004, 1005, 1006, 1015)):
        _refuse(spec, f"{number} is no close code; e.g. 1001 or 1012")
    if quantity == "status" and not 300 <= number < 600:
        _refuse(spec, f"{number} is no HTTP status that refuses; e.g. 503 or 429")
    return number


def _moment(spec: str, text: str) -> Moment:
    """``5s``, ``100msgs``, or between two such: ``2s..5s``, ``10..50msgs``."""
    low, _, high = text.rpartition("..")
    last = _LENGTH.fullmatch(high)
    unit = last[2] if last else ""
    first = _LENGTH.fullmatch(low if not low or low[-1:].isalpha() else low + unit) if low else last
    if last is None or first is None or (first[2] == "msgs") != (unit == "msgs"):
        _refuse(spec, f"{text!r} is no moment; write it as in 5s, 500ms, 100msgs or 2s..5s")
    ends = sorted(float(each[1]) * _UNITS[each[2]] for each in (first, last))
    return Moment(ends[0], ends[1], "msgs" if unit == "msgs" else "s")


def _seconds(spec: str, text: str) -> float:
    found = _LENGTH.fullmatch(text if text[-1:].isalpha() else text + "s")
    if found is None or found[2] == "msgs":
        _refuse(spec, f"{text!r} is no length of time; write it as in 2s or 500ms")
    return float(found[1]) * _UNITS[found[2]]


def _count(spec: str, text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 10**9:
        _refuse(spec, f"{text!r} is no number from 1 on")
    return int(text)


def _refuse(spec: str, why: str) -> NoReturn:
    raise UsageError(f"--fault {spec!r} is not understood: {why}", hint="see `kfws sim --help`")


# What becomes of frames


class Sent(NamedTuple):
    """A frame to be sent."""

    payload: bytes
    is_binary: bool = False


class Withheld(NamedTuple):
    """A frame that the venue had and that is not sent on this connection."""

    payload: bytes
    fault: str


class Struck(NamedTuple):
    """A fault begins here."""

    spec: str


class Ending(NamedTuple):
    """Nothing more is sent on this connection: it is ended, or left as if dead."""

    how: str
    """``drop``, ``close``, ``stall``, ``half-open`` or ``restart``."""
    code: int


class Later(NamedTuple):
    """Frames to be sent after a while."""

    delay_s: float
    payload: bytes


Step = Sent | Withheld | Struck | Ending | Later


class Greeting(NamedTuple):
    """How a handshake is answered: after a while, and with an HTTP status where not with 101."""

    delay_s: float = 0
    status: int | None = None
    retry_after: str | None = None
    struck: tuple[str, ...] = ()
    """The faults that made it so, as they were typed."""


class _Frame(NamedTuple):
    """A frame on its way out. ``sort``: delta, snapshot, or the event of a control message."""

    sort: str
    feed: str
    product: str | None
    payload: bytes


@dataclass(slots=True)
class _Armed:
    """A fault that has not struck as often as it may."""

    fault: Fault
    due: float
    left: float
    struck: set[int] = field(default_factory=set)

    def may_strike(self, number: int) -> bool:
        fault = self.fault
        # Without `every` each connection suffers it once at most.
        again = fault.every is not None or number not in self.struck
        return self.left > 0 and fault.conn in (None, number) and again

    def spend(self, number: int) -> None:
        self.left -= 1
        self.struck.add(number)


@dataclass(slots=True)
class _Effect:
    """A fault at work on the frames of one connection, and how many of them are still to come."""

    fault: Fault
    left: float
    held: _Frame | None = None
    """``reorder``: the frame that waits for the next one of its stream."""
    has_struck: bool = False

    def wants(self, frame: _Frame) -> bool:
        if self.held is not None:
            return (frame.sort, frame.feed, frame.product) == self.held[:3]
        fault, sort = self.fault, frame.sort
        suited = sort == fault.kind.on or (
            fault.kind.on == "data" and sort in ("delta", "snapshot")
        )
        if not suited or (fault.name == "gap" and frame.feed not in NUMBERED):
            return False
        return sort == "challenge" or fault.suits(frame.feed, frame.product)


@dataclass(slots=True)
class _Watch:
    """Counts the data frames of one connection until a fault strikes it."""

    armed: _Armed
    left: float


class Faults:
    """All faults of a run, and when each strikes whom."""

    def __init__(self, specs: Iterable[str], seed: int) -> None:
        self._chance = random.Random(f"{seed}:faults")
        self._armed = [
            _Armed(fault, fault.at.draw(self._chance), fault.times) for fault in map(parse, specs)
        ]

    @property
    def slowest_s(self) -> float:
        """The longest that a handshake is delayed."""
        return sum(each.fault.value for each in self._armed if each.fault.name == "slow")

    def greet(self, number: int, now_s: float) -> Greeting:
        """The answer to the handshake of what would become connection ``number``."""
        greeting = Greeting()
        for armed in self._armed:
            fault = armed.fault
            on_time = now_s >= armed.due and armed.left > 0 and fault.conn in (None, number)
            if fault.kind.on != "handshake" or not on_time:
                continue
            armed.spend(number)
            self._rearm(armed, now_s)
            greeting = greeting._replace(struck=(*greeting.struck, fault.spec))
            if fault.name == "refuse":
                return greeting._replace(status=int(fault.value), retry_after=fault.retry_after)
            greeting = greeting._replace(delay_s=greeting.delay_s + fault.value)
        return greeting

    def course(self, number: int) -> Course:
        """What becomes of the frames of a connection that has just opened."""
        watches = [
            _Watch(armed, armed.fault.at.draw(self._chance))
            for armed in self._armed
            if armed.fault.at.unit == "msgs" and armed.fault.conn in (None, number)
        ]
        return Course(number, watches, self._chance)

    def aim(self, now_s: float, standing: Sequence[Course]) -> list[tuple[Course, Fault]]:
        """Who is struck by what at this moment; chance decides where several could be."""
        struck = []
        for armed in self._armed:
            fault = armed.fault
            if fault.at.unit != "s" or fault.kind.on == "handshake" or now_s < armed.due:
                continue
            could = [
                each for each in standing if not each.is_mute and armed.may_strike(each.number)
            ]
            if could:
                course = self._chance.choice(could)
                armed.spend(course.number)
                self._rearm(armed, now_s)
                struck.append((course, fault))
        return struck

    def _rearm(self, armed: _Armed, now_s: float) -> None:
        if armed.fault.every is not None:
            armed.due = now_s + armed.fault.every.draw(self._chance)


class Course:
    """What becomes of the frames of one connection."""

    def __init__(self, number: int, watches: list[_Watch], chance: random.Random) -> None:
        self.number = number
        self.is_mute = False
        self._muted_by = ""
        self._watches = watches
        self._effects: list[_Effect] = []
        self._chance = chance
        self._last = b'{"feed":"book","product_id":"PF_XBTUSD"}'

    def carry(self, published: Sequence[Publication]) -> list[Step]:
        """Frames of the market that this connection is subscribed to."""
        if not (self.is_mute or self._effects or self._watches):
            if published:
                self._last = published[-1].payload
            return [Sent(each.payload) for each in published]
        frames = [_Frame("delta", each.feed, each.product, each.payload) for each in published]
        return self._pass(frames)

    def answer(self, payloads: Iterable[bytes]) -> list[Step]:
        """Frames that answer a request."""
        return self._pass(map(_read, payloads))

    def request(self, text: str | bytes, receive: Callable[[], list[bytes]]) -> list[Step]:
        """A request of the client, and what ``receive`` makes of it where it is let through."""
        if self.is_mute:
            return []
        asked = _request(text)
        if asked is None:
            return self.answer(receive())
        feed, products = asked
        for effect in tuple(self._effects):
            fault = effect.fault
            if not any(fault.suits(feed, product) for product in products):
                continue
            match fault.name:
                case "reject":
                    return self.answer([_rejection(fault)])
                case "no-ack" if "no-data" in fault.flags:
                    self._use_up(effect)
                    return []
                case "silent" if effect.has_struck and "forever" not in fault.flags:
                    self._effects.remove(effect)
        return self.answer(receive())

    def suffer(self, fault: Fault) -> list[Step]:
        """A fault strikes now."""
        steps: list[Step] = [Struck(fault.spec)]
        count = int(fault.value)
        match fault.name:
            case "drop" | "close" | "stall" | "half-open" | "restart":
                steps += [*self.unsent(), Ending(fault.name, count)]
                self.is_mute, self._muted_by = True, fault.name
            case "broken":
                steps += [Sent(self._last[: len(self._last) // 2])] * count
            case "binary":
                steps += [Sent(self._last, is_binary=True)] * count
            case "alerts":
                alert = {"event": "alert", "message": "Trading engine unavailable"}
                steps += [Sent(orjson.dumps(alert))] * count
            case _:
                left = {"count": fault.value, "": math.inf}.get(fault.kind.value, 1)
                self._effects.append(_Effect(fault, left))
        return steps

    def unsent(self) -> list[Step]:
        """Frames that were still held back when the connection ended."""
        held = [each.held.payload for each in self._effects if each.held is not None]
        self._effects.clear()
        return [Withheld(payload, "reorder") for payload in held]

    def _pass(self, frames: Iterable[_Frame]) -> list[Step]:
        steps: list[Step] = []
        for frame in frames:
            is_data = frame.sort in ("delta", "snapshot")
            if self.is_mute:
                if is_data:
                    steps.append(Withheld(frame.payload, self._muted_by))
                continue
            effect = next((each for each in self._effects if each.wants(frame)), None)
            steps += [Sent(frame.payload)] if effect is None else self._bend(effect, frame)
            if is_data:
                self._last = frame.payload
                steps += self._count(frame)
        return steps

    def _bend(self, effect: _Effect, frame: _Frame) -> list[Step]:
        """What an effect makes of the frame that it waited for."""
        name, payload, held = effect.fault.name, frame.payload, effect.held
        if name == "reorder" and held is None:
            effect.held = frame
            return []
        effect.held = None
        effect.has_struck = True
        self._use_up(effect)
        match name:
            case "reorder" if held is not None:
                return [Sent(payload), Sent(held.payload)]
            case "duplicate":
                return [Sent(payload), Sent(payload)]
            case "huge":
                room = max(0, int(effect.fault.value) - len(payload) - len(b',"padding":""'))
                return [Sent(payload[:-1] + b',"padding":"' + b"x" * room + b'"}')]
            case "late-challenge":
                return [Later(effect.fault.value, payload)]
            case "wrong-challenge":
                return [Sent(_other_challenge(payload))]
            case _:  # gap, silent, no-ack, no-snapshot
                return [Withheld(payload, name)]

    def _use_up(self, effect: _Effect) -> None:
        effect.left -= 1
        if effect.left <= 0:
            self._effects.remove(effect)

    def _count(self, frame: _Frame) -> list[Step]:
        steps: list[Step] = []
        for watch in tuple(self._watches):
            armed = watch.armed
            if not armed.fault.suits(frame.feed, frame.product):
                continue
            watch.left -= 1
            if watch.left > 0:
                continue
            if armed.fault.every is None:
                self._watches.remove(watch)
            else:
                watch.left = armed.fault.every.draw(self._chance)
            if armed.may_strike(self.number):
                armed.spend(self.number)
                steps += self.suffer(armed.fault)
        return steps


def _read(payload: bytes) -> _Frame:
    """A frame as an answer holds it: an acknowledgement, a challenge, a snapshot."""
    head = read_head(payload)
    if isinstance(head, str):
        return _Frame("", "", None, payload)
    if isinstance(head, Control):
        products = head.fields.get("product_ids") or [None]
        return _Frame(head.event, head.fields.get("feed") or "", products[0], payload)
    feed, is_snapshot = base_name(head.feed)
    return _Frame("snapshot" if is_snapshot else "delta", feed, head.product, payload)


def _request(text: str | bytes) -> tuple[str, list[str | None]] | None:
    """Feed and products of a request to subscribe; None for all else."""
    try:
        request = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(request, dict) or request.get("event") != "subscribe":
        return None
    products = request.get("product_ids") or [None]
    if not isinstance(products, list):
        return None
    feed = str(request.get("feed"))
    return feed, [each if isinstance(each, str) else None for each in products]


def _rejection(fault: Fault) -> bytes:
    """The live venue's alerts, protocol page section 6."""
    feed = FEEDS.get(fault.feed or "")
    if feed is not None and feed.private:
        message = "Failed to subscribe to authenticated feed"
    elif fault.product is not None:
        message = f"Couldn't subscribe to invalid product `{fault.product}`"
    else:
        message = "Couldn't subscribe to invalid feed"
    return orjson.dumps({"event": "alert", "message": message})


def _other_challenge(payload: bytes) -> bytes:
    """The same with the digits of its UUID turned round: well-formed, and not the venue's."""
    message: str = orjson.loads(payload)["message"]
    turned = iter(message.replace("-", "")[::-1])
    other = "".join(each if each == "-" else next(turned) for each in message)
    return orjson.dumps({"event": "challenge", "message": other})


class Counters:
    """The numbers of book and trade, which count on lower after each restart of the engine."""

    def __init__(self) -> None:
        self.restarts = 0
        self._lowered: dict[tuple[str, str | None], tuple[int, int]] = {}

    def restart(self) -> None:
        self.restarts += 1

    def renumber(self, published: Publication) -> Publication:
        """The publication with the numbers that it has since the last restart."""
        if not self.restarts or published.feed not in NUMBERED:
            return published
        payload = published.payload
        first = _SEQ.search(payload)
        key = (published.feed, published.product)
        restarts, lowered = self._lowered.get(key, (0, 0))
        if restarts != self.restarts and first is not None:
            # By a tenth: lower without a doubt, and far from running out.
            lowered += (int(first[1]) - lowered) // 10
            self._lowered[key] = (self.restarts, lowered)
        renumbered = _SEQ.sub(lambda seq: b'"seq":%d' % (int(seq[1]) - lowered), payload)
        return Publication(*key, renumbered)


_SEQ = re.compile(rb'"seq":(\d+)')
