"""Single keys of a terminal, for as long as somebody listens."""

from __future__ import annotations

import asyncio
import os
import signal
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["RIGHT", "keys"]

RIGHT = "right"
# Terminals send it in one of two ways, depending on a mode that others may have set.
_NAMES = {b"\x1b[C": RIGHT, b"\x1bOC": RIGHT}


@contextmanager
def keys(fd: int, on_key: Callable[[str], None]) -> Iterator[None]:
    """Tells each key as it is pressed, the right arrow as ``right``; nothing is echoed.

    The terminal is put right again in the end, and after a Ctrl-Z taken anew. Signal keys
    stay what they are. In the background nobody presses keys: then this does nothing.
    """
    if os.tcgetpgrp(fd) != os.getpgrp():
        yield
        return
    loop = asyncio.get_running_loop()
    before = termios.tcgetattr(fd)

    def read() -> None:
        pressed = os.read(fd, 64)
        if not pressed:
            loop.remove_reader(fd)
        elif pressed in _NAMES:
            on_key(_NAMES[pressed])
        else:
            for letter in pressed.decode(errors="replace"):
                on_key(letter)

    def take() -> None:
        tty.setcbreak(fd, termios.TCSADRAIN)

    take()
    loop.add_reader(fd, read)
    loop.add_signal_handler(signal.SIGCONT, take)  # the shell had it meanwhile
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGCONT)
        loop.remove_reader(fd)
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
