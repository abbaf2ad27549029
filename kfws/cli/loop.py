"""The event loop of a run: asyncio's own, or uvloop where the extra ``fast`` is installed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine

from kfws.cli.choices import LoopName
from kfws.errors import MissingExtra, UsageError

__all__ = ["run"]


def run(coroutine: Coroutine[None, None, None], name: LoopName) -> None:
    """Runs to the end. Raises UsageError where uvloop was asked for and cannot be had."""
    try:
        make = _maker(name)
    except UsageError:
        coroutine.close()
        raise
    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(coroutine)


def _maker(name: LoopName) -> Callable[[], asyncio.AbstractEventLoop] | None:
    # uvloop aborts the process where one of these is missing and a pipe takes its number.
    whole = all(map(_is_open, (0, 1, 2)))
    if name is LoopName.asyncio or (name is LoopName.auto and not whole):
        return None
    if not whole:
        raise UsageError("--loop uvloop needs stdin, stdout and stderr", hint="leave it away")
    try:
        import uvloop
    except ImportError as exc:
        if name is LoopName.auto:
            return None
        raise MissingExtra(
            "--loop uvloop needs uvloop", hint="install kfws with its extra: 'kfws[fast]'"
        ) from exc
    make: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return make


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
