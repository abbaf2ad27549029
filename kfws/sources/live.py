"""One supervised life of a connection: dial, pump, watch.

Gives batches of Events and decides nothing about them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Sequence

from kfws.errors import Unreachable
from kfws.protocol.auth import Credentials
from kfws.protocol.events import Closed, Event, Opened, Tick
from kfws.protocol.session import Session, Subscription
from kfws.sources.connection import Connection, Target, dial

__all__ = ["HEARTBEAT", "Live"]

HEARTBEAT = Subscription("heartbeat", quiet=True)
# The venue wants a sign of life every 60 s.
PING_EVERY_S = 30.0
# A wake-up without cause now and then, so that deadlines are looked at; no timer per frame.
TICK_S = 0.5


class Live:
    """The venue's feeds, live. ``events`` may be iterated once; ``rest`` is for afterwards."""

    def __init__(
        self,
        target: Target,
        wanted: Sequence[Subscription],
        credentials: Credentials | None = None,
        *,
        ping_every_s: float = PING_EVERY_S,
    ) -> None:
        if not any(each.feed == HEARTBEAT.feed for each in wanted):
            wanted = (*wanted, HEARTBEAT)
        self._target = target
        self._session = Session(wanted, credentials)
        self._ping_every_s = ping_every_s
        self._connection: Connection | None = None

    async def events(self) -> AsyncGenerator[list[Event]]:
        """Batches of events, from Opened to Closed.

        Raises what ``dial`` raises, Unreachable when the connection is lost, and what the
        Session finds against going on: Unwelcome, Refused, Unreachable. Closing the generator
        closes the connection.
        """
        session = self._session
        connection = self._connection = await dial(self._target)
        pulse = _Pulse(connection, session, self._ping_every_s)
        try:
            yield [Opened(received_ns=connection.opened_ns, connection=1, url=self._target.url)]
            while True:
                pulse.say_what_is_due()
                await connection.wait()
                reads = connection.take()
                for read in reads:
                    yield session.receive(read.frames, read.received_ns)
                if session.verdict is not None:
                    raise session.verdict
                if connection.ended and not reads:
                    break
                if not reads:
                    yield [Tick(received_ns=time.time_ns())]
            yield [self._closed(connection)]
            code, reason = connection.ending
            raise Unreachable(
                f"the connection to {self._target.place} was lost: {_in_words(code, reason)}",
                hint="start again",
            )
        finally:
            pulse.stop()
            await connection.leave()

    def rest(self) -> Iterator[list[Event]]:
        """What came and was not handed out before ``events`` was closed, then Closed."""
        connection = self._connection
        if connection is not None:
            for read in connection.take():
                yield self._session.receive(read.frames, read.received_ns)
            yield [self._closed(connection)]

    def _closed(self, connection: Connection) -> Closed:
        code, reason = connection.ending
        return Closed(received_ns=time.time_ns(), connection=1, code=code, reason=reason)


class _Pulse:
    """Sends what is due, and wakes the pump when time alone is a reason to.

    It beats by a timer of its own, so that the venue sees signs of life while nobody takes
    our batches.
    """

    def __init__(self, connection: Connection, session: Session, ping_every_s: float) -> None:
        self._connection = connection
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._ping_every_s = ping_every_s
        self._ping_at = self._loop.time() + ping_every_s
        self._timer: asyncio.Handle = self._loop.call_soon(self._on_time)

    def say_what_is_due(self) -> None:
        """After each batch: an answer may have made a request possible."""
        for request in self._session.outgoing(time.monotonic_ns()):
            self._connection.say(request)

    def _on_time(self) -> None:
        now_ns = time.monotonic_ns()
        self._session.tick(now_ns)
        self.say_what_is_due()
        if self._loop.time() >= self._ping_at:
            self._ping_at = self._loop.time() + self._ping_every_s
            self._connection.ping_unheeded()
        self._connection.wake()
        next_at = self._session.next_at()
        delay = TICK_S if next_at is None else min(TICK_S, max(0.001, (next_at - now_ns) / 1e9))
        self._timer = self._loop.call_later(delay, self._on_time)

    def stop(self) -> None:
        self._timer.cancel()


def _in_words(code: int, reason: str) -> str:
    if code == 1006:
        return reason or "it broke off without a word"
    return f"it was closed ({code}{' ' + reason if reason else ''})"
