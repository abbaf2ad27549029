"""A JetStream as a source: what recorders published, as one stream, audited as a live one is.

Each recorder counts as one connection of the arbiter: a copy that the server stored twice is
given once, in the order of the numbers, and what no recorder has is named. The times of gaps
are those of the recorders.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

import orjson

from kfws.errors import InUse, KfwsError, UsageError
from kfws.protocol.events import (
    Closed,
    Data,
    Event,
    Notice,
    Opened,
    Redial,
    Refused,
    Report,
    Subscribed,
    Tick,
    restore,
)
from kfws.protocol.feeds import FEEDS
from kfws.protocol.products import is_glob, match
from kfws.sources.arbiter import Arbiter
from kfws.sources.merging import TapeLeg
from kfws.sources.weaving import Kept, Weaving
from kfws.tapes.jetstream import (
    FAILURES,
    Client,
    Consumer,
    Door,
    JetStreamContext,
    StreamInfo,
    begin_consumer,
    dial,
    hang_up,
    last_of_each,
    open_stream,
)
from kfws.tapes.recordings import Step, data_of
from kfws.tapes.subjects import OWN, RECEIVED, RECORDER, SNAPSHOTS, token

__all__ = ["FromJetStream"]

# So long one recorder may have what another one lacks, before it is missing: they publish apart,
# and what got lost on the way to a server follows when the recorder has dialled again.
WAIT_NS = 5_000_000_000
PULL = 500
PULL_S = 5.0
TICK_S = 0.25
REDIAL_S = 1.0
# What follows a snapshot by number may be stored before it, by a recorder that is ahead; and the
# clocks of recorders and server differ.
AHEAD_S = 10.0
# Who hears nothing for so long may have asked for what nobody records.
QUIET_S = 5.0
# What the arbiter says of recorders' connections is not about ours.
_OF_RECORDERS = (Opened, Closed, Subscribed, Notice, Refused, Report)


class _Gone(Exception):
    """The connection is no good any more; says why."""


class FromJetStream:
    """``root`` is STREAM.VENUE; ``products`` may be globs, none means all.

    Begins now, ``since_s`` seconds ago, at the stream's message ``from_seq``, or where the
    durable ``consumer`` stopped. In the first two cases each book begins with the last snapshot
    that the stream keeps of it, and what followed, unless ``snapshots_pass`` is off or there is
    a ``consumer``. With one, ``acknowledge`` after what was handed out is safe; ``close`` in the
    end. ``say`` is told a code, a sentence and a hint. ``events`` raises Unreachable where the
    server or the stream is not there at the start, InUse where the consumer is another reader's,
    UsageError where ``from_seq`` is beyond the stream's end.
    """

    def __init__(
        self,
        door: Door,
        root: str,
        *,
        feeds: Sequence[str],
        products: Sequence[str] = (),
        since_s: float | None = None,
        from_seq: int | None = None,
        consumer: str | None = None,
        snapshots_pass: bool = True,
        say: Callable[[str, str, str], None] = lambda *_: None,
    ) -> None:
        self.on_failure: Callable[[KfwsError], None] | None = None
        self.acknowledges = consumer is not None
        """Whether someone is to say what is safe."""
        self._door = door
        self._root = root
        self._feeds = frozenset(map(token, feeds))
        self._products = frozenset(token(each) for each in products if not is_glob(each))
        self._globs = [each for each in products if is_glob(each)]
        self._since_s = since_s
        self._from_seq = from_seq
        self._consumer = consumer
        self._weaves = "book" in feeds and snapshots_pass and consumer is None
        self._say = say
        self._arbiter = Arbiter(wait_ns=WAIT_NS, resync=False, snapshots_pass=snapshots_pass)
        self._legs: dict[str, tuple[int, TapeLeg]] = {}
        self._numbers = itertools.count(1)
        self._client: Client | None = None
        self._arrived: deque[Any] = deque()
        self.buffered = 0
        self._news = asyncio.Event()
        self._lost: str | None = None
        self._asked = 0
        """How many of the last pull are still to come."""
        self._heard_at = 0.0
        self._last_seq = 0
        """The stream's number of the message that was taken last."""
        self._begin: tuple[int | None, float | None] | None = None
        """Where to read from, decided once: a number in the stream, or a moment (s)."""
        self._asked_for = 0, 0
        """The number and the moment (ns) of the first message that was asked for; what is read
        of before is for these books alone."""
        self._early: frozenset[str] = frozenset()
        self._newest = 0
        """The last number that the stream had at the beginning; whether it is still to come."""
        self._is_behind = False
        self._weaving = Weaving(())
        self._told_quiet = False
        self._at_ns = 0
        self._heard_ns = time.monotonic_ns()
        """When something came that has a time."""
        self._unsafe: deque[tuple[int, bytes, str]] = deque()
        """Number, payload and where to say so, of what is not acknowledged."""

    # Events

    async def events(self) -> AsyncGenerator[list[Event]]:
        """Batches of the one stream. Redials when the server goes, and goes on where it was."""
        connected = await self._dial()
        for connection in itertools.count(1):
            url = self._door.address.text
            yield [Opened(received_ns=time.time_ns(), connection=connection, url=url)]
            why = ""
            try:
                async with aclosing(self._read(*connected)) as batches:
                    async for batch in batches:
                        yield batch
            except (_Gone, *FAILURES) as exc:
                why = str(exc) or type(exc).__name__
            await hang_up(connected[0])
            now_ns = time.time_ns()
            # First that it is dialled again: what is read goes on behind the last message, so no
            # book is to be distrusted, as it is where a venue's connection was lost.
            yield [
                Redial(
                    received_ns=now_ns,
                    reason=why,
                    failed=0,
                    delay_s=REDIAL_S,
                    connection=connection,
                ),
                Closed(received_ns=now_ns, connection=connection, code=1006, reason=why),
            ]
            connected = await self._redial()

    async def _dial(self) -> tuple[Client, JetStreamContext, Consumer]:
        client = await dial(self._door, "kfws reader", self._on_closed)
        try:
            address = self._door.address
            context, info = await open_stream(client, address.stream, make=False)
            if self._begin is None:
                self._begin = await self._find_begin(client, context, info)
            from_seq, since = self._begin
            consumer = await begin_consumer(
                context,
                address.stream,
                self._filter,
                name=self._consumer,
                from_seq=self._last_seq + 1 if self._last_seq else from_seq,
                since=None if self._last_seq else since,
            )
            if consumer.is_taken and not self._last_seq:
                raise InUse(
                    f"another reader has the consumer {self._consumer}",
                    hint="end it, or choose another name",
                )
        except BaseException:
            await hang_up(client)
            raise
        self._client = client
        return client, context, consumer

    async def _find_begin(
        self, client: Client, context: JetStreamContext, info: StreamInfo
    ) -> tuple[int | None, float | None]:
        """Where to read from: what was asked for, or where the books that are wanted begin."""
        if self._from_seq is not None:
            self._look_at_bounds(self._from_seq, info.state.first_seq, info.state.last_seq)
            return self._from_seq, None
        self._newest = info.state.last_seq
        self._is_behind = True
        asked: tuple[int | None, float | None] = self._newest + 1, None  # whatever comes meanwhile
        if self._since_s is not None:
            asked = None, time.time() - self._since_s
        found = await self._snapshots(client, context) if self._weaves else []
        if not found:
            return asked
        self._asked_for = asked[0] or 0, round((asked[1] or 0) * 1e9)
        kept = [Kept(data, asked[1] is None or at < asked[1]) for data, at in found]
        self._weaving = Weaving(kept)
        self._early = frozenset(token(each.data.product or "") for each in kept if each.is_early)
        first = min(at - AHEAD_S for _, at in found)
        return None, first if asked[1] is None else min(first, asked[1])

    def _look_at_bounds(self, from_seq: int, first: int, last: int) -> None:
        """1 is the beginning, wherever that is; a consumer may be far beyond where it began."""
        stream = self._door.address.stream
        if from_seq > last + 1:
            raise UsageError(
                f"the stream {stream} ends at {last}; --from-seq {from_seq} is beyond it",
                hint="--from-seq is the stream's number, not the venue's seq",
            )
        if 1 < from_seq < first and self._consumer is None:
            what = f"the stream {stream} begins at {first}: what was before is gone"
            self._say("aged-out", what, f"reading from {first} on, not from {from_seq}")

    async def _snapshots(
        self, client: Client, context: JetStreamContext
    ) -> list[tuple[Data, float]]:
        """The last snapshot of each book that is wanted, and when (s) it came into the stream or
        to its recorder."""
        subjects = f"{self._root}.{SNAPSHOTS}.{self._one_product or '*'}"
        found = []
        for each in await last_of_each(client, context, self._door.address.stream, subjects):
            if not self._wants(["book", *each.subject.split(".")[3:]]):
                continue
            stamp = (each.headers or {}).get(RECEIVED, "")
            stored_ns = _Place.of(each.reply).at_ns
            received_ns = int(stamp) if stamp.isdigit() else stored_ns
            data = data_of(each.data, received_ns)
            if data is not None and data.kind == "snapshot" and data.seq is not None:
                found.append((data, min(stored_ns, received_ns) / 1e9))
        return found

    async def _redial(self) -> tuple[Client, JetStreamContext, Consumer]:
        while True:
            await asyncio.sleep(REDIAL_S)
            try:
                return await self._dial()
            except KfwsError:
                continue

    @property
    def _filter(self) -> str:
        """The fewest subjects that one filter can name. What recorders say of themselves is
        needed for feeds without numbers."""
        numbered = all(feed in FEEDS and FEEDS[feed].numbered for feed in self._feeds)
        if not numbered:
            return f"{self._root}.>"
        feed = next(iter(self._feeds)) if len(self._feeds) == 1 else "*"
        return f"{self._root}.{feed}.{self._one_product or '*'}"

    @property
    def _one_product(self) -> str | None:
        """The only one that is wanted."""
        return next(iter(self._products)) if len(self._products) == 1 and not self._globs else None

    async def _read(
        self, client: Client, context: JetStreamContext, consumer: Consumer
    ) -> AsyncGenerator[list[Event]]:
        self._lost, self._asked = None, 0
        self._arrived.clear()
        self.buffered = 0
        if consumer.unacknowledged:
            # What an earlier reader had and did not acknowledge comes again after that time.
            await asyncio.sleep(consumer.ack_wait_s)
        inbox = client.new_inbox()
        await client.subscribe(inbox, cb=self._arrive)
        ask = f"$JS.API.CONSUMER.MSG.NEXT.{self._door.address.stream}.{consumer.name}"
        begun_at = _now()
        if not consumer.pending and self._is_behind:
            yield self._catch_up()
        while True:
            if self._asked <= 0:
                self._asked = PULL
                self._heard_at = _now()  # a slow reader of ours is no silence of the server
                wish = {"batch": PULL, "expires": round(PULL_S * 1e9)}
                await client.publish(ask, json.dumps(wish).encode(), inbox)
            await self._until_news()
            taken, self._arrived = self._arrived, deque()
            self.buffered = 0
            out = self._events_of(taken)
            out = [each for each in out if not isinstance(each, _OF_RECORDERS)]
            out = self._weaving.take(out)
            if taken and self._is_behind and self._has_caught_up(taken[-1].reply):
                out += self._catch_up()
            if taken or out:
                yield out  # nothing, too, is to be acknowledged
            elif not self._last_seq and not self._told_quiet and _now() - begun_at > QUIET_S:
                self._told_quiet = True
                await self._say_what_there_is(context)

    def _catch_up(self) -> list[Event]:
        """All came that there was at the beginning: a Tick says so."""
        self._is_behind = False
        return [*self._weaving.catch_up(), Tick(received_ns=time.time_ns())]

    def _has_caught_up(self, reply: str) -> bool:
        place = _Place.of(reply)
        return place.seq >= self._newest or not place.pending

    async def _say_what_there_is(self, context: JetStreamContext) -> None:
        """Nothing came at all: it may be that the stream never has it."""
        stream = self._door.address.stream
        info = await context.stream_info(stream, subjects_filter=f"{stream}.>")
        named = [each.split(".")[1:] for each in info.state.subjects or {}]
        venue = self._root.partition(".")[2]
        if any(each[0] == venue and self._wants(each[1:]) for each in named if len(each) > 2):
            return
        there: dict[str, set[str]] = {}
        for each in named:
            feeds = there.setdefault(each[0], set())
            feeds |= {".".join(each[1:-1] if each[1] == "private" else each[1:2])}
        has = "; ".join(
            f"{name} ({', '.join(sorted(feeds - {OWN, SNAPSHOTS}))})"
            for name, feeds in sorted(there.items())
        )
        what = f"the stream {stream} holds nothing of what was asked for of {venue}"
        look = "look at --env or --url (as the recorder had it), feeds and products; waiting"
        hint = look if has else "no recorder has published into it"
        self._say("nothing-there", f"{what}; it has {has or 'nothing at all'}", hint)

    async def _until_news(self) -> None:
        if not self._arrived:
            self._news.clear()
            try:
                async with asyncio.timeout(TICK_S):
                    await self._news.wait()
            except TimeoutError:
                pass
        if self._arrived:
            return
        if self._lost is not None or (self._client is not None and self._client.is_closed):
            raise _Gone(self._lost or "the connection was lost")
        if _now() - self._heard_at > 2 * PULL_S:
            raise _Gone("the server does not answer")

    async def _arrive(self, message: Any) -> None:
        self._heard_at = _now()
        if message.headers and "Status" in message.headers:
            self._asked = 0  # a pull that ended, for want of messages or since the server says so
            if message.headers["Status"] not in ("404", "408"):
                text = message.headers.get("Description", "")
                if "MaxAckPending" not in text:
                    self._lost = text or "the server ended the pull"
        else:
            self._asked -= 1
            self._arrived.append(message)
            self.buffered += len(message.data)
        self._news.set()

    async def _on_closed(self) -> None:
        self._lost = self._lost or "the connection was lost"
        self._news.set()

    def rest(self, patience_s: float | None = None) -> Iterator[list[Event]]:
        """What came and was not handed out, at most one pull; a durable consumer gets it again."""
        if not self.acknowledges:
            out = self._events_of(self._arrived)
            out += self._arbiter.end(self._stream_ns)
            yield self._weaving.take([each for each in out if not isinstance(each, _OF_RECORDERS)])

    # Messages

    def _events_of(self, messages: Sequence[Any]) -> list[Event]:
        out: list[Event] = []
        self._arbiter.here_ns = time.monotonic_ns()
        for recorder, moment_ns, what in self._steps(messages):
            if recorder not in self._legs:
                self._legs[recorder] = len(self._legs) + 1, TapeLeg(self._numbers)
            number, leg = self._legs[recorder]
            step = Step(moment_ns, 0, what if isinstance(what, list) else [])
            events = leg.frames(step) if isinstance(what, list) else leg.own(what)
            self._at_ns = max(self._at_ns, moment_ns)
            self._heard_ns = time.monotonic_ns()
            out += self._arbiter.receive(number, events, self._at_ns)
        out += self._arbiter.tick(self._stream_ns)
        return out

    @property
    def _stream_ns(self) -> int:
        """The recorders' time: it goes on with ours while nothing comes."""
        return self._at_ns + time.monotonic_ns() - self._heard_ns

    def _steps(self, messages: Sequence[Any]) -> Iterator[tuple[str, int, list[bytes] | Event]]:
        """Who recorded it, when, and what: frames that came together, or an own event."""
        frames: list[bytes] = []
        from_seq, since_ns = self._asked_for
        before: tuple[str, int] = "", 0
        for message in messages:
            place = _Place.of(message.reply)
            if not self._is_new(message, place.seq):
                continue
            headers = message.headers or {}
            stamp = headers.get(RECEIVED, "")
            begun = headers.get(RECORDER, "?"), int(stamp) if stamp.isdigit() else self._at_ns
            parts = message.subject.split(".")
            own = parts[2] == OWN
            is_early = place.seq < from_seq or place.at_ns < since_ns
            if is_early and (own or parts[2] != "book" or parts[3] not in self._early):
                continue
            if frames and (own or begun != before):
                yield *before, frames
                frames = []
            before = begun
            if own:
                if (event := _own_event(message.data)) is not None and self._is_about_us(event):
                    yield *begun, event
            elif self._wants(parts[2:]):
                frames.append(message.data)
        if frames:
            yield *before, frames

    def _is_new(self, message: Any, seq: int) -> bool:
        if self.acknowledges:
            self._unsafe.append((seq, message.data, message.reply))
        if seq <= self._last_seq:
            return False
        self._last_seq = seq
        return True

    def _wants(self, parts: Sequence[str]) -> bool:
        """Whether a message under FEED.PRODUCT, or private.FEED, was asked for."""
        if parts[0] == "private":
            return parts[1] in self._feeds
        if parts[0] not in self._feeds:
            return False
        takes = parts[0] in FEEDS and FEEDS[parts[0]].products == "required"
        if not takes or not (self._products or self._globs):
            return True
        return parts[1] in self._products or any(match(x, [parts[1]]) for x in self._globs)

    def _is_about_us(self, event: Event) -> bool:
        feed, product = getattr(event, "feed", None), getattr(event, "product", None)
        return feed is None or self._wants([token(feed), token(product or "")])

    # What is safe

    async def acknowledge(self, without: Sequence[Event] = ()) -> None:
        """All that was handed out is safe, but for these events, which come again next time."""
        if not self.acknowledges or self._client is None or self._client.is_closed:
            return
        if self._arbiter.next_at() is not None:
            return  # it holds messages back that nobody has yet
        payloads = {id(each.payload) for each in without if type(each) is Data}
        safe = ""
        while self._unsafe and id(self._unsafe[0][1]) not in payloads:
            safe = self._unsafe.popleft()[2]
        if safe:
            try:
                await self._client.publish(safe, b"+ACK")
            except FAILURES:
                pass  # it comes again, and is known

    async def close(self) -> None:
        """Ends the connection."""
        if self._client is not None:
            try:
                if not self._client.is_closed:
                    await self._client.flush(1)
            except FAILURES:
                pass
            await hang_up(self._client)


def _own_event(payload: bytes) -> Event | None:
    try:
        return restore(orjson.loads(payload))
    except (ValueError, TypeError, AttributeError):
        return None


class _Place(NamedTuple):
    """Where a message stands in its stream."""

    seq: int
    at_ns: int
    """When it was stored."""
    pending: int
    """How many more there were for its reader."""

    @classmethod
    def of(cls, reply: str) -> _Place:
        """From ``$JS.ACK.STREAM.CONSUMER.TIMES.SEQ.SEQ.TIME.PENDING``; newer servers name a
        domain and an account in front."""
        parts = reply.split(".")
        seq, _, at_ns, pending = parts[5:9] if len(parts) == 9 else parts[7:11]
        return cls(int(seq), int(at_ns), int(pending))


def _now() -> float:
    return asyncio.get_running_loop().time()
