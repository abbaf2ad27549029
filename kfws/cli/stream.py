"""The loop: take a batch, select, write, enough?

Here a run begins and ends. What was asked for stands in the Plan, what comes are batches of
Events, where they go are Outlets.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from kfws.cli.choices import Format
from kfws.cli.narrator import Narrator
from kfws.cli.outlet import Drawn, FileOutlet, Outlet
from kfws.cli.plan import Output, Plan
from kfws.cli.select import Selection
from kfws.cli.signals import leave_on_signals, leaving_signals
from kfws.cli.talk import Talk
from kfws.cli.totals import Totals, stats_in_words
from kfws.cli.unwritten import Unwritten
from kfws.errors import (
    Interrupted,
    KfwsError,
    NothingCame,
    OutputError,
    ReaderTooSlow,
)
from kfws.protocol.events import Beat, Closed, Data, Event, Gap, Refused, Report
from kfws.protocol.sequence import gap_of
from kfws.protocol.strict import judge_strictly

if TYPE_CHECKING:
    from kfws.cli.booklines import BookLines
    from kfws.sources.live import Taker

__all__ = ["Run"]

LOOK_EVERY_S = 1.0
# A reader that was behind at so many looks is stuck, and whoever looks at stderr may wonder.
STUCK_AFTER = 5
# As often as an eye can follow.
DRAW_EVERY_S = 0.1
# What can go wrong at an output while the run goes on, by the code that it is said with.
OUTPUT_ERRORS = ("reader-left", "slow-reader", "disk-full", "not-deleted")
PROGRESS_EVERY_S = 0.2
# What is held back when a signal comes gets this long; then the connection is closed (0.4 s).
FLUSH_ON_SIGNAL_S = 0.25
# And what was not even taken out of the buffer; the rest of it is named.
REST_ON_SIGNAL_S = 0.15


class Source(Protocol):
    """Where batches of events come from."""

    on_failure: Callable[[KfwsError], None] | None
    """Whom to tell at once of what ends the run while nobody takes batches."""

    @property
    def buffered(self) -> int:
        """Bytes that came and were not handed out yet."""
        ...

    def events(self) -> AsyncGenerator[list[Event]]: ...

    def rest(self, patience_s: float | None = None) -> Iterable[list[Event]]:
        """What came and was not handed out before ``events`` was closed; after ``patience_s``
        only the names of what is left."""
        ...


@runtime_checkable
class Acknowledging(Protocol):
    """A source that is told what is safe, so that it need not come again."""

    acknowledges: bool

    async def acknowledge(self, without: Sequence[Event]) -> None:
        """All that was handed out is with its readers, but for these events."""
        ...


@runtime_checkable
class Prompt(Protocol):
    """A source that hands batches over in the same breath as they come, while nobody holds any
    up: no task is woken for them."""

    taker: Taker | None


class Run:
    """One run of the stream, from the first batch to the last flush.

    ``fault`` says what is wrong with a product id, or nothing where it does not know, and
    ``learn`` has it know more, once and in its own time: the stream does not wait for it.
    ``reopens``: SIGHUP means to open files anew, not to leave.
    ``now_ns`` is the clock of what comes: a tape's, when one is played.
    ``progress`` shows how far it is, where nothing else does.
    """

    def __init__(
        self,
        plan: Plan,
        outlets: Sequence[tuple[Output, Outlet]],
        talk: Talk,
        *,
        header: dict[str, Any],
        fault: Callable[[str], str] = lambda _: "",
        reopens: bool = False,
        learn: Callable[[], Awaitable[object]] | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        progress: Callable[[str], None] | None = None,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._plan = plan
        self._now_ns = now_ns
        self._reopens = reopens
        self._outlets = list(outlets)
        self._drawn = [outlet for _, outlet in outlets if isinstance(outlet, Drawn)]
        self._failed: list[tuple[Outlet, OutputError]] = []
        self._told_failures = 0
        self._talk = talk
        self._header = header
        self._progress = progress
        self._look_every_s = look_every_s
        self._narrator = Narrator(talk, fault)
        self._learn = learn
        self._wonders = asyncio.Event()
        self._selection = Selection(
            where=plan.where,
            snapshots=plan.snapshots,
            products=frozenset((*plan.products, *plan.globs)),
            asked=frozenset(plan.feeds),
        )
        self._passes_all = self._selection.trivial
        self._lines = self._book_lines()
        self._loop = asyncio.get_running_loop()
        self._started_at = self._last_at = self._loop.time()
        self._times_out = plan.timeout_s is not None
        self._went_by = False
        """Whether messages came since then of which ``--where`` took none."""
        self._at_work: asyncio.Task[None] | None = None
        self._is_over = False
        self._bug: BaseException | None = None
        self._ending: KfwsError | None = None
        self._source: Acknowledging | None = None
        self._beyond: list[Event] = []
        """What came behind a limit and is not passed on."""
        self._left = plan.count
        self._matched = False
        self._totals = Totals()
        self._started_wall = time.time()
        # By feed and product; only where somebody may ask.
        self._heard_at: dict[tuple[str, str | None], float] | None = None
        if plan.metrics is not None:
            self._heard_at = dict.fromkeys(plan.subscriptions, self._started_at)

    def _book_lines(self) -> BookLines | None:
        """Where somebody gets lines about books, or they are counted or looked at."""
        plan = self._plan
        wanted = plan.count is not None or plan.until is not None or plan.where is not None
        if plan.look is None or (len(self._drawn) == len(self._outlets) and not wanted):
            return None
        stream = plan.jetstream
        from_now = stream.source is not None and stream.since_s is None and stream.from_seq is None
        from kfws.cli.booklines import BookLines

        return BookLines(plan.look, is_catching_up=from_now)

    @property
    def refused(self) -> list[Refused]:
        """All that the venue turned down."""
        return [*self._narrator.refused.values()]

    async def run(self, source: Source) -> None:
        """Streams until a limit, a signal, or an error; then flushes and closes all outputs.

        Raises KfwsError when the run did not end as the user wished.
        """
        self._take_signals()
        if isinstance(source, Acknowledging) and source.acknowledges:
            self._source = source
        elif isinstance(source, Prompt):
            source.taker = self
        try:
            error = await self._stream(source)
            error = await self._flush(error)
            await self._acknowledge_last(error)
            error = self._close(error)
        finally:
            self._give_signals_back()
        if error is not None:
            raise error

    async def _acknowledge_last(self, error: KfwsError | None) -> None:
        """What every output has, where none failed or was left by its reader."""
        has_all = self._outlets and not any(each.pending for _, each in self._outlets)
        if self._source is not None and has_all and not isinstance(error, OutputError):
            await self._source.acknowledge(self._beyond)

    async def _stream(self, source: Source) -> KfwsError | None:
        source.on_failure = self._end
        self._at_work = asyncio.create_task(self._take_all(source.events()))
        watchers = [asyncio.create_task(each) for each in self._watchers(source)]
        for each in watchers:
            each.add_done_callback(self._look_at_watcher)
        try:
            await self._at_work
        except asyncio.CancelledError:
            if self._bug is not None:
                raise self._bug from None
            if not self._is_over:
                raise
        except KfwsError as exc:
            self._fail(exc)
        finally:
            for each in watchers:
                each.cancel()
        self._take_rest(source)
        unmatched = self._plan.until is not None and not self._matched
        if unmatched and self._ending is None and self._outlets:
            return NothingCame(f"no message matched --until {self._header['until']!r}")
        return self._ending

    def _fail(self, error: KfwsError) -> None:
        """The run is over; after any error but that of an output what came is not passed on."""
        self._is_over, self._ending = True, error
        if not isinstance(error, OutputError):
            self._left = 0

    def _look_at_watcher(self, watcher: asyncio.Task[None]) -> None:
        """A fault of what runs beside the pump ends the run at once, not when somebody looks."""
        if not watcher.cancelled() and (exc := watcher.exception()) is not None:
            self._bug = exc
            if self._at_work is not None:
                self._at_work.cancel()

    def _take_rest(self, source: Source) -> None:
        """What came before the run was ended is passed on all the same, but beyond a limit.

        Who wants to leave does not wait until a full buffer is read for nobody.
        """
        hurried = isinstance(self._ending, (Interrupted, ReaderTooSlow))
        try:
            for events in source.rest(REST_ON_SIGNAL_S if hurried else None):
                if self._left == 0 or self._matched:
                    events = [each for each in events if isinstance(each, Closed)]
                self._take(events)
            if self._lines is not None and self._left != 0 and not self._matched:
                self._pass_on(self._lines.sample(), [])
        except KfwsError as exc:
            self._ending = self._ending or exc

    async def _take_all(self, source: AsyncGenerator[list[Event]]) -> None:
        for _, outlet in self._outlets:
            self._put(outlet, [])  # a csv begins with its header, also an empty one
        self._raise_failure()
        self._report("header", self._header)
        async with aclosing(source) as batches:
            async for events in batches:
                self._take(events)
                if self._is_over:
                    return
                if self._source is not None:
                    for _, outlet in self._outlets:
                        await outlet.flush()
                    await self._source.acknowledge(())
                for _, outlet in self._outlets:
                    if outlet.is_full:
                        await outlet.drain()
                self._drop_those_gone()

    # One batch

    @property
    def has_room(self) -> bool:
        """Whether a batch can go out now."""
        for _, outlet in self._outlets:
            if outlet.is_full:
                return False
        return not self._is_over

    def take(self, events: list[Event]) -> None:
        """A batch in the same breath as it came, while the pump waits."""
        try:
            self._take(events)
        except KfwsError as exc:
            self._fail(exc)
        if self._is_over and self._at_work is not None:
            self._at_work.cancel()

    def _take(self, events: list[Event]) -> None:
        self._pass_on(events if self._lines is None else self._lines.fold(events), events)

    def _pass_on(self, events: list[Event], came: list[Event]) -> None:
        messages = [each for each in events if type(each) is Data]
        # On the hot way a batch is nothing but messages that somebody asked for.
        is_plain = self._passes_all and len(messages) == len(events)
        chosen = events if is_plain else self._selection.choose(events)
        if is_plain and self._is_within_limits(len(messages)):
            pass
        elif self._left is not None or self._plan.until is not None:
            events, chosen = self._cut(events, chosen)
            is_plain = is_plain and len(messages) == len(events)
        if not is_plain:
            messages = [each for each in chosen if type(each) is Data]
        if self._narrator.waits and self._ending is None and any(map(_goes_on, came)):
            self._go_on()
        if messages:
            if self._times_out:
                self._last_at = self._loop.time()
            self._went_by = False
            self._totals.passed_on(messages)
            if self._heard_at is not None:
                heard = [(each.feed, each.product) for each in messages]
                self._heard_at |= dict.fromkeys(heard, self._loop.time())
        elif self._plan.where is not None and not self._went_by:
            self._went_by = any(type(each) is Data for each in came)
        if len(messages) < len(events):
            self._look_at(events)
        self._write(events, chosen, came)
        self._drop_those_gone()
        if self._plan.strict:
            judge_strictly(events, hint="--strict was given")

    def _go_on(self) -> None:
        """What was refused is said now, or once it is known what the venue has instead."""
        if self._learn is not None and (self._wonders.is_set() or self._narrator.wonders):
            self._wonders.set()
        else:
            self._narrator.go_on()

    def _write(self, events: list[Event], chosen: list[Event], came: list[Event]) -> None:
        """To every output, whatever becomes of one of them."""
        for output, outlet in self._outlets:
            if self._lines is not None and isinstance(outlet, Drawn):
                batch = came  # a ladder shows as many levels as fit
            else:
                batch = _for_raw(events, chosen) if output.format == "raw" else chosen
            self._put(outlet, batch)
        self._raise_failure()

    def _put(self, outlet: Outlet, batch: list[Event]) -> None:
        try:
            outlet.write(batch)
        except OutputError as exc:
            self._failed.append((outlet, exc))

    def _raise_failure(self) -> None:
        """One output failed: the others go on until all have what came so far."""
        if len(self._failed) == self._told_failures:
            return
        failed = [outlet for outlet, _ in self._failed]
        self._outlets = [pair for pair in self._outlets if pair[1] not in failed]
        self._told_failures = len(self._failed)
        raise self._failed[-1][1]

    def _is_within_limits(self, messages: int) -> bool:
        """Whether so many messages leave the limit far; they are counted then."""
        if self._plan.until is not None or self._left is None or self._left <= messages:
            return False
        self._left -= messages
        return True

    def _cut(self, events: list[Event], chosen: list[Event]) -> tuple[list[Event], list[Event]]:
        """What is left of a batch when a limit falls into it: of all of it, and of the chosen."""
        at = self._place_of_limit(chosen)
        if at is None:
            return events, chosen
        self._is_over = True
        self._beyond = chosen[at + 1 :]
        place = next(n for n, each in enumerate(events) if each is chosen[at])
        return events[: place + 1], chosen[: at + 1]

    def _place_of_limit(self, chosen: list[Event]) -> int | None:
        """Where the last message stands that is passed on; None: there may be more."""
        places = [at for at, each in enumerate(chosen) if type(each) is Data]
        last = None
        if self._left is not None:
            if 0 < self._left <= len(places):
                places = places[: self._left]
                last = places[-1]
            self._left -= len(places)
        if (until := self._plan.until) is not None:
            for nth, at in enumerate(places, 1):
                message = chosen[at]
                if isinstance(message, Data) and until.matches(message.message):
                    self._matched = True
                    if self._left is not None:
                        self._left += len(places) - nth
                    return at
        return last

    def _look_at(self, events: list[Event]) -> None:
        others = [each for each in events if type(each) is not Data]
        for event in others:
            self._totals.see(event)
        self._narrator.tell(others)

    def _drop_those_gone(self) -> None:
        for _, outlet in self._outlets:
            if outlet.is_gone:
                break
        else:
            return
        gone = [pair for pair in self._outlets if pair[1].is_gone]
        self._outlets = [pair for pair in self._outlets if not pair[1].is_gone]
        for _, outlet in gone:
            outlet.close()
            if self._outlets:
                self._talk.say("warning", "reader-left", f"the reader of {outlet.name} left")
        if not self._outlets:
            self._end(None)

    # The stream's own words

    def _report(self, name: str, fields: dict[str, Any]) -> None:
        """A header opens every tape; totals end every output that carries our events."""
        report: list[Event] = [Report(received_ns=self._now_ns(), name=name, fields=fields)]
        for output, outlet in self._outlets:
            if output.is_tape or name != "header":
                self._put(outlet, report)
        self._raise_failure()

    def metrics(self, source: Source) -> str:
        """How the run stands, as a page for Prometheus."""
        from kfws.cli.metrics import Standing, exposition

        now, told = self._loop.time(), self._talk.told
        heard_at = self._heard_at or {}
        standing = Standing(
            started_at=self._started_wall,
            buffered=source.buffered,
            pending={outlet.name: outlet.pending for _, outlet in self._outlets},
            output_errors={"failed": len(self._failed)} | {k: told[k] for k in OUTPUT_ERRORS},
            ages_s={(feed, product or ""): now - at for (feed, product), at in heard_at.items()},
        )
        return exposition(self._totals, standing)

    @property
    def _duration_s(self) -> float:
        return self._loop.time() - self._started_at

    # When to end

    def _end(self, ending: KfwsError | None) -> None:
        """Ends the run from outside the pump; the first reason counts, but for a signal."""
        if self._is_over and not isinstance(ending, Interrupted):
            return
        if isinstance(ending, Interrupted) and ending.signum == signal.SIGINT:
            self._talk.wipe_echo()
        self._is_over = True
        self._ending = ending
        # The pump itself finds that the last reader left: it closes its source and returns.
        if self._at_work is not None and asyncio.current_task() is not self._at_work:
            self._at_work.cancel()

    def _watchers(self, source: Source) -> Iterator[Coroutine[None, None, None]]:
        yield self._each_second()
        if self._learn is not None:
            yield self._learn_once(self._learn)
        if self._drawn:
            yield self._draw(source)
        if self._progress is not None:
            yield self._show_progress(self._progress)
        if self._lines is not None and self._lines.every_s is not None:
            yield self._sample(self._lines, self._lines.every_s)
        if self._plan.stats_s is not None:
            yield self._say_stats(source, self._plan.stats_s)
        if self._plan.duration_s is not None:
            yield self._end_after(self._plan.duration_s)
        if self._plan.timeout_s is not None:
            yield self._end_when_silent(self._plan.timeout_s)

    async def _each_second(self) -> None:
        stood_still = 0
        while True:
            await asyncio.sleep(self._look_every_s)
            full = [outlet for _, outlet in self._outlets if outlet.is_full]
            stood_still = stood_still + 1 if full else 0
            if stood_still == STUCK_AFTER:
                self._say_stuck(full[0])
            try:
                for _, outlet in self._outlets:
                    outlet.sync(time.time_ns())
            except OutputError as exc:
                self._end(exc)

    async def _learn_once(self, learn: Callable[[], Awaitable[object]]) -> None:
        await self._wonders.wait()
        await learn()
        self._learn = None
        self._narrator.go_on()

    def _say_stuck(self, outlet: Outlet) -> None:
        why = "the disk is too slow for" if isinstance(outlet, FileOutlet) else "nobody reads"
        what = f"{why} {outlet.name}: its output waits"
        self._talk.say("warning", "slow-reader", what, hint="--on-full says what then happens")

    async def _say_stats(self, source: Source, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            stats = self._totals.stats(self._duration_s, source.buffered)
            if not self._plan.events:
                self._talk.say("warning", "stats", stats_in_words(stats), **stats)
                continue
            try:
                self._report("stats", stats)
            except OutputError as exc:
                self._end(exc)

    async def _draw(self, source: Source) -> None:
        while True:
            try:
                for outlet in self._drawn:
                    outlet.draw(self._now_ns(), buffered=source.buffered)
            except OutputError as exc:
                self._end(exc)
            await asyncio.sleep(DRAW_EVERY_S)

    async def _show_progress(self, show: Callable[[str], None]) -> None:
        try:
            while True:
                show(self._totals.so_far())
                await asyncio.sleep(PROGRESS_EVERY_S)
        finally:
            show("")

    async def _sample(self, lines: BookLines, every_s: float) -> None:
        while not self._is_over:
            await asyncio.sleep(every_s)
            try:
                if told := lines.sample():
                    self._pass_on(told, [])
            except KfwsError as exc:
                self._end(exc)
        # The limit was reached here, and the pump does not know of it.
        if self._at_work is not None:
            self._at_work.cancel()

    async def _end_after(self, duration_s: float) -> None:
        await asyncio.sleep(duration_s)
        self._end(None)

    async def _end_when_silent(self, timeout_s: float) -> None:
        while True:
            await asyncio.sleep(max(0.001, self._last_at + timeout_s - self._loop.time()))
            if any(outlet.is_full for _, outlet in self._outlets):
                self._last_at = self._loop.time()  # our reader is slow, the venue is not silent
            elif self._loop.time() >= self._last_at + timeout_s:
                what = "matched --where" if self._went_by else "came"
                self._end(NothingCame(f"no message {what} for {timeout_s:g} s (--timeout)"))

    def _take_signals(self) -> None:
        for each in leaving_signals():
            try:
                if self._reopens and each.name == "SIGHUP":
                    self._loop.add_signal_handler(each, self._reopen)
                else:
                    self._loop.add_signal_handler(each, self._end, Interrupted(each))
            except NotImplementedError:  # Windows
                signal.signal(each, self._on_signal)

        if self._is_suspendable() and signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
            self._loop.add_signal_handler(signal.SIGTSTP, self._suspend)

    def _reopen(self) -> None:
        """SIGHUP where no terminal could hang up: log rotation, ``systemctl reload``."""
        files = [outlet for _, outlet in self._outlets if isinstance(outlet, FileOutlet)]
        for outlet in files:
            outlet.reopen()
        what = ", ".join(outlet.name for outlet in files) or "there are no files to open anew"
        self._talk.say("info", "hangup", f"SIGHUP: {what}")

    def _is_suspendable(self) -> bool:
        """Whether there is a picture, and a Ctrl-Z that would leave it standing."""
        return bool(self._drawn) and hasattr(signal, "SIGTSTP")

    def _suspend(self) -> None:
        """Ctrl-Z: the terminal is given back first; the next drawing takes it again."""
        for outlet in self._drawn:
            outlet.leave(self._now_ns())
        self._loop.remove_signal_handler(signal.SIGTSTP)
        os.kill(os.getpid(), signal.SIGTSTP)
        self._loop.add_signal_handler(signal.SIGTSTP, self._suspend)  # here we are again

    def _on_signal(self, signum: int, _frame: object) -> None:
        self._loop.call_soon_threadsafe(self._end, Interrupted(signum))

    def _give_signals_back(self) -> None:
        for each in leaving_signals():
            try:
                self._loop.remove_signal_handler(each)
            except NotImplementedError:
                pass
        if self._is_suspendable():
            self._loop.remove_signal_handler(signal.SIGTSTP)
        leave_on_signals()

    # Leaving

    async def _flush(self, error: KfwsError | None) -> KfwsError | None:
        """All that came goes out; a slow reader is waited for, unless a signal came."""
        self._at_work = asyncio.create_task(self._flush_all())
        hurried = isinstance(error, (Interrupted, ReaderTooSlow))
        patience = FLUSH_ON_SIGNAL_S if hurried else None
        try:
            await asyncio.wait_for(self._at_work, patience)
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            error = self._ending
        except OutputError as exc:
            error = error or exc
        return error

    async def _flush_all(self) -> None:
        try:
            self._report("totals", self._totals.fields(self._duration_s))
            for drawn in self._drawn:
                drawn.draw(self._now_ns())
                drawn.leave(self._now_ns())
        finally:
            for _, outlet in self._outlets:
                await outlet.flush()

    def _close(self, error: KfwsError | None) -> KfwsError | None:
        outlets = [outlet for _, outlet in self._outlets] + [each for each, _ in self._failed]
        for outlet in outlets:
            try:
                outlet.close()
            except OutputError as exc:
                error = error or exc
        for outlet in outlets:
            if outlet.pending_lines:
                error = self._name_what_is_lost(outlet, error)
        if self._outlets or error is not None:  # behind `| head -1` there is nothing to add
            self._narrator.sum_up(self._totals, self._duration_s, error)
        return error

    def _name_what_is_lost(self, outlet: Outlet, error: KfwsError | None) -> KfwsError | None:
        lines = outlet.pending_lines
        lost = f"{lines} line{'s' if lines != 1 else ''} not written to {outlet.name}"
        if isinstance(error, OutputError):
            error.message += f" ({lost})"
        else:
            self._talk.say("warning", "not-written", lost, lines=lines)
        if not isinstance(error, OutputError) or isinstance(error, ReaderTooSlow):
            self._look_at([*self._unwritten(outlet)])
        return error

    def _unwritten(self, outlet: Outlet) -> list[Gap]:
        """Which messages its reader did not get; where its lines do not tell, since when."""
        now_ns = time.time_ns()
        output = next((each for each, other in self._outlets if other is outlet), None)
        if output is None or not outlet.unwritten:
            return []
        if output.format not in (Format.ndjson, Format.raw) or self._plan.fields:
            streams = self._plan.subscriptions
            return [
                gap_of(each, now_ns, None, None, None, "slow-reader", outlet.stuck_ns, now_ns)
                for each in streams
            ]
        unwritten = Unwritten(now_ns)
        unwritten.take_lines(outlet.unwritten.splitlines())
        return unwritten.gaps()


def _goes_on(event: Event) -> bool:
    """Whether there is more to the stream than what was refused, and its end."""
    return not isinstance(event, (Beat, Closed, Refused)) and not getattr(event, "quiet", False)


def _for_raw(events: list[Event], chosen: list[Event]) -> list[Event]:
    """Every frame as it came, but for the messages that were filtered out."""
    if chosen is events:
        return events
    kept = {id(each) for each in chosen}
    return [each for each in events if id(each) in kept or type(each) is Beat]
