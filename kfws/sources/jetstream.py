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
from typing import Any

import orjson

from kfws.errors import InUse, KfwsError
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
    restore,
)
from kfws.protocol.feeds import FEEDS
from kfws.protocol.products import is_glob, match
from kfws.sources.arbiter import Arbiter
from kfws.sources.merging import TapeLeg
from kfws.tapes.jetstream import (
    FAILURES,
    Client,
    Consumer,
    Door,
    JetStreamContext,
    begin_consumer,
    dial,
    hang_up,
    open_stream,
)
from kfws.tapes.recordings import Step
from kfws.tapes.subjects import OWN, RECEIVED, RECORDER, token

__all__ = ["FromJetStream"]

# So long one recorder may have what another one lacks, before it is missing: they publish apart,
# and what got lost on the way to a server follows when the recorder has dialled again.
WAIT_NS = 5_000_000_000
PULL = 500
PULL_S = 5.0
TICK_S = 0.25
REDIAL_S = 1.0
# What the arbiter says of recorders' connections is not about ours.
_OF_RECORDERS = (Opened, Closed, Subscribed, Notice, Refused, Report)


class _Gone(Exception):
    """The connection is no good any more; says why."""


class FromJetStream:
    """``root`` is STREAM.VENUE; ``products`` may be globs, none means all.

    Begins now, ``since_s`` seconds ago, at the stream's message ``from_seq``, or where the
    durable ``consumer`` stopped. With one, ``acknowledge`` after what was handed out is safe;
    ``close`` in the end. ``events`` raises Unreachable where the server or the stream is not
    there at the start, InUse where the consumer is another reader's.
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
            yield [
                Closed(received_ns=now_ns, connection=connection, code=1006, reason=why),
                Redial(
                    received_ns=now_ns,
                    reason=why,
                    failed=0,
                    delay_s=REDIAL_S,
                    connection=connection,
                ),
            ]
            connected = await self._redial()

    async def _dial(self) -> tuple[Client, JetStreamContext, Consumer]:
        client = await dial(self._door, "kfws reader", self._on_closed)
        try:
            address = self._door.address
            context, info = await open_stream(client, address.stream, make=False)
            begin = self._last_seq + 1 if self._last_seq else self._from_seq
            if begin is None and self._since_s is None:
                begin = info.state.last_seq + 1  # now, whatever comes in between
            consumer = await begin_consumer(
                context,
                address.stream,
                self._filter,
                name=self._consumer,
                from_seq=begin,
                since_s=None if begin else self._since_s,
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
        one = len(self._products) == 1 and not self._globs
        return f"{self._root}.{feed}.{next(iter(self._products)) if one else '*'}"

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
            if taken or out:
                yield out  # nothing, too, is to be acknowledged

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
            yield [each for each in out if not isinstance(each, _OF_RECORDERS)]

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
        before: tuple[str, int] = "", 0
        for message in messages:
            if not self._is_new(message):
                continue
            headers = message.headers or {}
            stamp = headers.get(RECEIVED, "")
            begun = headers.get(RECORDER, "?"), int(stamp) if stamp.isdigit() else self._at_ns
            parts = message.subject.split(".")
            own = parts[2] == OWN
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

    def _is_new(self, message: Any) -> bool:
        seq = _seq_of(message.reply)
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


def _seq_of(reply: str) -> int:
    """The number in the stream: ``$JS.ACK.STREAM.CONSUMER.TIMES.SEQ.…``; newer servers name a
    domain and an account in front."""
    parts = reply.split(".")
    return int(parts[5] if len(parts) == 9 else parts[7])


def _now() -> float:
    return asyncio.get_running_loop().time()
