"""Signals that ask to leave. The first thing that the program imports, so it imports little."""

import os
import signal

__all__ = ["leave_on_signals", "leaving_signals", "raise_on_signals"]


def leaving_signals() -> list[signal.Signals]:
    """SIGINT, SIGTERM and SIGHUP, but for those that our parent told us to ignore."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    found = [signal.Signals[name] for name in names if hasattr(signal, name)]
    return [each for each in found if signal.getsignal(each) is not signal.SIG_IGN]


def leave_on_signals() -> None:
    """Leaves at once on each of them, while there is nothing to flush."""
    for each in leaving_signals():
        signal.signal(each, lambda signum, _frame: os._exit(128 + signum))


def raise_on_signals() -> None:
    """Raises Interrupted on each of them, for a job that has something to clear away."""
    from kfws.errors import Interrupted

    def leave(signum: int, frame: object) -> None:
        raise Interrupted(signum)

    for each in leaving_signals():
        signal.signal(each, leave)
