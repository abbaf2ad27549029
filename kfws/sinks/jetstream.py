"""Messages into a JetStream: pipelined, each acknowledged, none lost on the way.

What is on its way is kept until the server says that it has it. While the server is away, or
refuses, all of it goes to the spool, in order, and is published from there when it is back.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson

from kfws.errors import DiskFull, KfwsError, OutputError, UsageError
from kfws.protocol.events import Closed, Data, Event, Opened, describe, restore
from kfws.sinks.spool import Spool
from kfws.tapes.jetstream import (
    FAILURES,
    Client,
    Door,
    JetStreamContext,
    StreamInfo,
    dial,
    hang_up,
    open_stream,
)
from kfws.tapes.subjects import ID, RECEIVED, Filed, Names

__all__ = ["JetStreamOutlet", "read_config"]

# Bounded by what a server may have to be asked for again, far above what a round trip takes.
IN_FLIGHT = 4_000
# An acknowledgement that did not come for so long does not come.
PATIENCE_S = 10.0
# So many events go into the spool at once: no more is tried in vain when there is no room.
PUT_MOST = 4_000
REDIAL_S = 1.0

Say = Callable[..., None]
"""Told a level, a word for machines, a sentence, and facts by name."""


class _Gone(Exception):
    """The connection is no good any more; says why."""


class _Waiting(NamedTuple):
    """What is on its way to the server."""

    event: Event
    since: float


class _Kept(Event):
    """A book's snapshot once more, where readers look for the last one. Nothing is lost with it:
    it is neither counted nor spooled."""

    data: Data


class JetStreamOutlet:
    """A JetStream as an output of a run: see ``cli/outlet.py``'s Outlet.

    ``open`` first; raises Unreachable where the server is away, unless ``patient``. ``waits``:
    when the spool has no room what comes stays in memory, and beyond ``full_bytes`` is not taken,
    until there is room; else the run ends.
    """

    is_gone = False
    unwritten = b""
    stuck_ns = 0

    def __init__(
        self,
        door: Door,
        names: Names,
        spool: Spool,
        say: Say,
        *,
        full_bytes: int,
        patient: bool = False,
        waits: bool = False,
        config: dict[str, Any] | None = None,
    ) -> None:
        self.name = door.address.text
        self._door = door
        self._names = names
        self._spool = spool
        self._say = say
        self._full_bytes = full_bytes
        self._patient = patient
        self._waits = waits
        self._wants_room = False
        """Whether the spool took not all of the queue."""
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._open_connections: set[int] = set()
        self._queue: deque[Event] = deque()
        self._queued_bytes = 0
        self._window: dict[int, _Waiting] = {}
        self._numbers = itertools.count(1)
        self._is_spooling = True
        """Whether all that comes goes to the spool: nothing may overtake what is there."""
        self._is_away = True
        self._why = ""
        self._fault: OutputError | None = None
        self._news = asyncio.Event()
        """Set when there is something to publish, to acknowledge, or an end."""
        self._room = asyncio.Event()
        self._lost: str | None = None
        self._client: Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        self.published = self.acknowledged = self.duplicates = self.skipped = self.too_large = 0

    # As an output

    async def open(self) -> None:
        """Dials, and makes the stream where there is none. Raises KfwsError."""
        self._is_closed = True  # until it stands, there is nothing to close
        self._spool.open()
        try:
            ready = await self._dial()
        except KfwsError as exc:
            if not self._patient:
                self._spool.close()
                raise
            ready = None
            self._tell_away(exc.message)
        self._is_closed = False
        self._is_away = ready is None
        self._is_spooling = ready is None or not self._spool.is_empty
        self._task = asyncio.create_task(self._keep(ready))

    @property
    def pending(self) -> int:
        return self._queued_bytes + sum(_weight(each.event) for each in self._window.values())

    @property
    def pending_lines(self) -> int:
        """Messages that are neither with the server nor in the spool, once it is closed."""
        held = [] if self._is_spooling else [each.event for each in self._window.values()]
        return sum([type(each) is Data for each in (*held, *self._queue)])

    @property
    def is_full(self) -> bool:
        return self._queued_bytes > self._full_bytes

    def write(self, events: Sequence[Event]) -> None:
        if self._fault is not None:
            raise self._fault
        wanted = [each for each in events if self._wants(each)]
        if not wanted:
            return
        self._put(wanted)
        if self._wants_room:
            return  # ``sync`` looks for room now and then
        if self._is_spooling:
            self._to_spool()
        else:
            self.keep([each for each in wanted if type(each) is Data and _is_snapshot(each)])

    def keep(self, snapshots: Sequence[Data]) -> None:
        """Snapshots of books for who begins to read in the middle; none while the server is away,
        since the messages that follow them are not there either."""
        if not (self._is_spooling or self._is_closed) and self._fault is None:
            self._put([_Kept(each) for each in snapshots])

    def _put(self, events: Sequence[Event]) -> None:
        self._queue += events
        self._queued_bytes += sum(map(_weight, events))
        self._news.set()

    def _wants(self, event: Event) -> bool:
        if type(event) is Data:
            return True
        if isinstance(event, Opened):
            self._open_connections.add(event.connection)
        elif isinstance(event, Closed):
            self._open_connections.discard(event.connection)
        return describe(event) is not None

    def sync(self, now_ns: int) -> None:
        if self._fault is not None:
            raise self._fault
        try:
            if self._wants_room:
                self._to_spool()
            self._spool.sync(now_ns)
        except DiskFull as exc:
            self._wait_for_room(exc)

    async def drain(self) -> None:
        while self.is_full and self._fault is None:
            await self._progress()

    async def flush(self) -> None:
        """Until all is acknowledged; what cannot be, since the server is away, is in the spool."""
        while not self._is_away and self._fault is None and self._is_busy:
            await self._progress()

    @property
    def _is_busy(self) -> bool:
        return bool(self._queue or self._window) or not self._spool.is_empty

    async def _progress(self) -> None:
        self._room.clear()
        await self._room.wait()

    def close(self) -> None:
        """What is not acknowledged is kept in the spool for the next run."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._task is not None:
            self._lose("the run is over")  # nats-py may swallow that it is cancelled
            self._task.cancel()
        try:
            self._waits = False  # what finds no place now is lost, and counted
            if self._fault is not None:
                raise self._fault
            self._to_spool()
            self._window.clear()
        finally:
            self._say_totals()
            self._spool.close()

    async def leave(self) -> None:
        """Behind ``close``: until the connection is closed."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        if self._client is not None:
            await hang_up(self._client)  # a task that was cancelled at once never began

    def _say_totals(self) -> None:
        left = 0 if self._spool.is_empty else self._spool.messages
        facts = {
            "published": self.published,
            "acknowledged": self.acknowledged,
            "duplicates": self.duplicates,
            "skipped": self.skipped,
            "too_large": self.too_large,
            "spooled": self._spool.messages,
        }
        words = ", ".join(f"{value:,} {key.replace('_', ' ')}" for key, value in facts.items())
        hint = f"what is left in {self._spool.path} is published at the next start" if left else ""
        if not self._spool.is_empty and not left:
            hint = f"{self._spool.path} is not empty yet: the rest is published at the next start"
        self._say("warning", "jetstream", f"{self.name}: {words}", hint=hint, **facts)

    # The life of its connections

    async def _dial(self) -> tuple[Client, JetStreamContext, StreamInfo]:
        client = await dial(self._door, f"kfws {self._names.recorder}", self._on_closed)
        try:
            stream = self._door.address.stream
            context, info = await open_stream(client, stream, self._config)
            self._look_at(info)
            self._client = client
        except BaseException:
            await hang_up(client)
            raise
        return client, context, info

    def _look_at(self, info: StreamInfo) -> None:
        subjects = info.config.subjects or []
        if f"{self._door.address.stream}.>" not in subjects:
            raise OutputError(
                f"the stream {self._door.address.stream} takes {', '.join(subjects) or 'nothing'}, "
                f"not {self._names.root}.>",
                hint="choose another name: nats://HOST/NAME",
            )

    async def _keep(self, ready: tuple[Client, JetStreamContext, StreamInfo] | None) -> None:
        """Publishes for as long as the run lasts, on one connection after the other."""
        try:
            while not self._is_closed:
                try:
                    ready = ready or await self._dial()
                except KfwsError as exc:
                    self._fall_back(exc.message)
                else:
                    await self._serve_until_lost(*ready)
                ready = None
                await asyncio.sleep(REDIAL_S)
        except OutputError as exc:  # of the spool: nothing is safe any more
            self._fault = exc
            self._room.set()

    async def _serve_until_lost(
        self, client: Client, context: JetStreamContext, info: StreamInfo
    ) -> None:
        try:
            await self._serve(client, context, info)
        except (_Gone, *FAILURES) as exc:
            self._fall_back(str(exc) or type(exc).__name__)

    async def _serve(self, client: Client, context: JetStreamContext, info: StreamInfo) -> None:
        self._lost = None
        self._window.clear()
        inbox = client.new_inbox()
        try:
            await client.subscribe(f"{inbox}.*", cb=self._take_answer)
            if not client.is_connected:
                raise _Gone("the connection was lost")
            self._is_away = False
            await self._publish_spool(client, inbox, context, info)
            self._come_back()
            await self._publish_queue(client, inbox)
        finally:
            await hang_up(client)

    async def _on_closed(self) -> None:
        self._lose("the connection was lost")

    def _lose(self, why: str) -> None:
        self._lost = self._lost or why
        self._news.set()

    def _come_back(self) -> None:
        if self._why:
            self._say("warning", "jetstream-back", f"{self.name} is back, and has all that waited")
        self._why = ""

    def _fall_back(self, why: str) -> None:
        """All that is on its way goes to the spool, and so does what comes from now on."""
        if self._is_closed:
            return  # it is there already
        self._to_spool()
        self._window.clear()
        self._tell_away(why)
        self._room.set()

    def _to_spool(self) -> None:
        """What comes, and unless it is there already, what is on its way."""
        held = [] if self._is_spooling else [each.event for each in self._window.values()]
        events = [each for each in (*held, *self._queue) if not isinstance(each, _Kept)]
        self._is_spooling = True
        self._queue = deque(events)
        self._queued_bytes = sum(map(_weight, events))
        try:
            while self._queue:
                put = [*itertools.islice(self._queue, PUT_MOST)]
                self._spool.put(put)
                self._forget(len(put))
        except OutputError as exc:
            self._forget(len(put) - len(self._spool.unwritten))
            if not isinstance(exc, DiskFull):
                self._fault = exc
                raise
            self._wait_for_room(exc)
        else:
            self._say_room()

    def _forget(self, count: int) -> None:
        """So many of the queue are in the spool."""
        for _ in range(count):
            self._queued_bytes -= _weight(self._queue.popleft())

    def _wait_for_room(self, error: DiskFull) -> None:
        """Raises the error where nothing is to be waited for."""
        if not self._waits:
            self._fault = error
            raise error
        if not self._wants_room:
            what = f"{error.message}; waiting for room (--on-disk-full wait)"
            self._say("warning", "disk-full", what)
        self._wants_room = True

    def _say_room(self) -> None:
        if self._wants_room:
            self._wants_room = False
            what = f"there is room again: {self._spool.path}; nothing was lost"
            self._say("warning", "room", what)
        self._room.set()

    def _tell_away(self, why: str) -> None:
        self._is_away = True
        if why != self._why:
            self._why = why
            what = f"{self.name} takes nothing ({why}): messages go to the spool {self._spool.path}"
            self._say("warning", "jetstream-away", what)

    # Publishing

    async def _publish_spool(
        self, client: Client, inbox: str, context: JetStreamContext, info: StreamInfo
    ) -> None:
        """In order, a chunk at a time; then what comes is published at once."""
        newer = _Newer(context, self._door.address.stream)
        window_ns = (info.config.duplicate_window or 0) * 1e9
        while not self._spool.is_empty:
            chunk, position = self._spool.next()
            for each in chunk:
                event = each if isinstance(each, Data) else restore(orjson.loads(each))
                filed = self._filed(event)
                # Beyond its window the server does not know any more what it has.
                is_old = time.time_ns() - int(filed.headers[RECEIVED]) > window_ns
                if is_old and not await newer.than_stored(filed, event):
                    self.skipped += 1
                    continue
                await self._publish(client, inbox, event, filed)
            await self._until_acknowledged()
            self._spool.published(position)
        self._is_spooling = False
        self._say_room()  # what found none goes out from here

    async def _publish_queue(self, client: Client, inbox: str) -> None:
        while True:
            while self._queue:
                event = self._queue[0]
                # The window has it before the queue loses it, so that it is never in neither.
                await self._publish(client, inbox, event, self._filed(event), queued=True)
            await self._until_news()

    def _filed(self, event: Event) -> Filed:
        if type(event) is Data:
            one = len(self._open_connections) == 1
            return self._names.file(event, next(iter(self._open_connections)) if one else None)
        if isinstance(event, _Kept):
            return self._names.file_kept(event.data)
        own = describe(event) or {}
        return self._names.file_own(orjson.dumps(own), own.get("at_ns", 0))

    async def _publish(
        self, client: Client, inbox: str, event: Event, filed: Filed, *, queued: bool = False
    ) -> None:
        while len(self._window) >= IN_FLIGHT:
            await self._until_news()
        if self._lost is not None:
            raise _Gone(self._lost)
        number = next(self._numbers)
        is_small = len(filed.payload) + _weight_of(filed) <= client.max_payload
        if is_small:
            self._window[number] = _Waiting(event, self._loop.time())
        if queued:
            self._queue.popleft()
            self._queued_bytes -= _weight(event)
            if not self.is_full:
                self._room.set()
        if not is_small:
            if not isinstance(event, _Kept):
                self._set_aside(event, len(filed.payload), client.max_payload)
            return
        self.published += type(event) is Data
        await client.publish(filed.subject, filed.payload, f"{inbox}.{number}", filed.headers)

    def _set_aside(self, event: Event, size: int, most: int) -> None:
        """A message that the server never takes is kept beside the spool."""
        self.too_large += 1
        aside = Spool(self._spool.path.with_name(f"{self._spool.path.name}.too-large"), 1 << 40)
        aside.open()
        aside.put([event])
        aside.close()
        what = f"a message of {size:,} bytes is more than the {most:,} that {self.name} takes"
        self._say("warning", "too-large", f"{what}: it is kept in {aside.path}")

    async def _until_acknowledged(self) -> None:
        while self._window:
            await self._until_news()

    async def _until_news(self) -> None:
        """Waits for something to do. Raises _Gone when the connection is no good any more."""
        self._news.clear()
        oldest = next(iter(self._window.values()), None)
        now = self._loop.time()
        if self._lost is None and oldest is not None and now - oldest.since > PATIENCE_S:
            self._lost = f"no acknowledgement for {PATIENCE_S:g} s"
        if self._lost is None:
            try:
                # Not wait_for: before 3.12 it may swallow that we are cancelled.
                async with asyncio.timeout(PATIENCE_S / 4):
                    await self._news.wait()
            except TimeoutError:
                pass
        if self._lost is not None:
            raise _Gone(self._lost)

    async def _take_answer(self, message: Any) -> None:
        number = int(message.subject.rpartition(".")[2])
        answer = json.loads(message.data) if message.data else {}
        if "error" in answer or "seq" not in answer:
            reason = answer.get("error", {}).get("description")
            self._lose(str(reason or "nobody answers for the stream"))
            return
        first = next(iter(self._window), number)
        waiting = self._window.pop(number, None)
        if waiting is None:
            return
        if first < number and not answer.get("duplicate"):
            # The server answers in its order, but for copies: what is older did not arrive, as
            # when another server of the cluster leads now. It is to follow at once.
            self._lose("a message was lost on the way")
        if type(waiting.event) is Data:
            self.acknowledged += 1
            self.duplicates += answer.get("duplicate", False)
        self._news.set()
        if not self._window and not self._queue:
            self._room.set()


class _Newer:
    """What a stream has of each subject, looked up once."""

    def __init__(self, context: JetStreamContext, stream: str) -> None:
        self._context = context
        self._stream = stream
        self._last: dict[str, dict[str, str]] = {}

    async def than_stored(self, filed: Filed, event: Event) -> bool:
        """Whether a message is newer than the last that is stored under its subject."""
        last = self._last.get(filed.subject)
        if last is None:
            last = self._last[filed.subject] = await self._look_up(filed.subject)
        if not last or last.get(ID) == filed.id:
            return not last
        number, venue_ms = _mark(last.get(ID, ""))
        if type(event) is Data and number is not None and event.seq is not None:
            return event.seq > number or (event.venue_ms or 0) > venue_ms
        if filed.id.count(":") == 2 and last.get(RECEIVED, "").isdigit():
            return int(filed.headers[RECEIVED]) >= int(last[RECEIVED])
        return True

    async def _look_up(self, subject: str) -> dict[str, str]:
        try:
            found = await self._context.get_last_msg(self._stream, subject)
        except FAILURES as exc:
            if getattr(exc, "code", None) == 404:
                return {}
            raise
        return dict(found.headers or {})


def _mark(name: str) -> tuple[int | None, int]:
    """The number and the venue's time that an id tells, where it does."""
    parts = name.split(":")
    if len(parts) == 5 and parts[3].isdigit() and parts[4].isdigit():
        return int(parts[3]), int(parts[4])
    return None, 0


def _weight(event: Event) -> int:
    if isinstance(event, _Kept):
        event = event.data
    return len(event.payload) if type(event) is Data else 0


def _is_snapshot(data: Data) -> bool:
    return data.feed == "book" and data.kind == "snapshot" and data.seq is not None


def _weight_of(filed: Filed) -> int:
    """Bytes that headers take on the wire: the server counts them in."""
    return 12 + sum(len(key) + len(value) + 4 for key, value in filed.headers.items())


def read_config(text: str) -> dict[str, Any]:
    """Settings of a stream from JSON. Raises UsageError."""
    try:
        found = json.loads(text)
    except ValueError as exc:
        raise UsageError(f"--stream-config is no JSON: {exc}") from exc
    if not isinstance(found, dict):
        raise UsageError("--stream-config is no JSON object", hint='e.g. {"num_replicas": 3}')
    config: dict[str, Any] = found.get("config", found)
    return config
