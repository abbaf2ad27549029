"""The program inside the test's own process: the world around it is an Env over pipes."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kfws.cli.app import run as run_program
from kfws.cli.env import Env, LineWriter
from tests.cli.program import lines

T = TypeVar("T")
PATIENCE_S = 30
# Nothing can be kept there: lists and keys that the developer keeps are none of a test's affair.
NOWHERE = Path(os.devnull) / "kfws"


class Collected:
    """The write end of a pipe, and all that its reader has read so far."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.bytes = bytearray()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while piece := os.read(self.reader, 65536):
            with self._changed:
                self.bytes += piece
                self._changed.notify_all()

    def until(self, text: bytes) -> None:
        """Waits until the text came."""
        with self._changed:
            assert self._changed.wait_for(lambda: text in self.bytes, PATIENCE_S)

    def close(self) -> None:
        os.close(self.writer)
        self._thread.join(PATIENCE_S)
        os.close(self.reader)


@dataclass(frozen=True)
class Done:
    """How a run of the program ended, and what it left on its streams."""

    status: int
    out: bytes
    err: str

    @property
    def said(self) -> list[str]:
        """Lines of stderr without the one that says that the market is simulated."""
        return [*lines(self.err)]


@contextmanager
def signals_kept() -> Iterator[None]:
    """Puts the signals back that a run takes in hand and leaves for the end of the process."""
    signums = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(each) for each in signums]
    try:
        yield
    finally:
        for signum, what in zip(signums, before, strict=True):
            signal.signal(signum, what)


def run(
    *args: str,
    environ: Mapping[str, str] | None = None,
    terminal: bool = False,
    cache: Path = NOWHERE,
    config: Path = NOWHERE,
) -> Done:
    """Runs the program to its end; ``terminal``: it takes its stdout for one."""
    out, err = Collected(), Collected()
    try:
        status = _run(args, out.writer, err.writer, environ or {}, terminal, cache, config)
    finally:
        out.close()
        err.close()
    return Done(status, bytes(out.bytes), err.bytes.decode())


def run_to(stdout: int, *args: str, environ: Mapping[str, str] | None = None) -> Done:
    """The same with a stdout of the test's own, taken for a terminal if it is one."""
    err = Collected()
    try:
        status = _run(args, stdout, err.writer, environ or {}, os.isatty(stdout))
    finally:
        err.close()
    return Done(status, b"", err.bytes.decode())


def _run(
    args: tuple[str, ...],
    stdout: int,
    stderr: int,
    environ: Mapping[str, str],
    terminal: bool,
    cache: Path = NOWHERE,
    config: Path = NOWHERE,
) -> int:
    with signals_kept():
        env = Env(
            environ=environ,
            stdout=stdout,
            stderr=LineWriter(stderr),
            stdout_is_terminal=terminal,
            cache_folder=cache,
            config_folder=config,
        )
        return run_program(list(args), env)


@contextmanager
def beside(context: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """Keeps an async context, such as a venue, open in a loop beside the program's own."""
    entered: Future[tuple[T, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def keep() -> None:
        leave = asyncio.Event()
        try:
            async with context() as value:
                entered.set_result((value, asyncio.get_running_loop(), leave))
                await leave.wait()
        except BaseException as exc:
            if entered.done():
                raise
            entered.set_exception(exc)

    thread = threading.Thread(target=lambda: asyncio.run(keep()))
    thread.start()
    value, loop, leave = entered.result(PATIENCE_S)
    try:
        yield value
    finally:
        loop.call_soon_threadsafe(leave.set)
        thread.join(PATIENCE_S)
