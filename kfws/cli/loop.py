"""The event loop of a run: asyncio's own, or uvloop where the extra ``fast`` is installed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from kfws.cli.choices import LoopName
from kfws.errors import MissingExtra

__all__ = ["run"]


def run(coroutine: Coroutine[None, None, None], name: LoopName) -> None:
    """Runs to the end. Raises MissingExtra where uvloop was asked for and is not there."""
    try:
        make = _maker(name)
    except MissingExtra:
        coroutine.close()
        raise
    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(coroutine)


def _maker(name: LoopName) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if name is LoopName.asyncio:
        return None
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
