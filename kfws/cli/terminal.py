"""A terminal that a display is drawn on, and that is left as it was found."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from kfws.cli.outlet import DescriptorOutlet
from kfws.cli.talk import Talk
from kfws.sinks.display import Display
from kfws.sinks.screen import Size

try:
    import termios
except ImportError:  # Windows: what is typed is shown
    termios = None  # type: ignore[assignment]

__all__ = ["TerminalOutlet"]

ECHO_FLAGS = 3  # where the settings of a terminal hold its ECHO (termios.tcgetattr)


class TerminalOutlet(DescriptorOutlet):
    """Draws when it is told to, in writes that never block: while the terminal takes nothing the
    picture waits, so a display never delays another output.

    ``talk``: what speaks on the same terminal; its lines stand above the picture.
    """

    def __init__(
        self, fd: int, display: Display, *, size: Callable[[], Size], talk: Talk | None = None
    ) -> None:
        super().__init__(fd, display)
        self._display = display
        self._size = size
        self._talk = talk
        self._terminal = fd
        self._is_ours = False
        self._echo: list[object] | None = None

    @property
    def pending_lines(self) -> int:
        """None: what is lost of a picture is no message."""
        return 0

    def draw(self, now_ns: int, *, buffered: int = 0) -> None:
        """Brings the picture up to date, if the terminal is ours to draw on now."""
        if self.is_gone or self.pending or not self._is_foreground():
            return
        if not self._is_ours:
            self._enter()
        self.put(self._display.draw(now_ns, self._size(), buffered=buffered))

    def leave(self, now_ns: int) -> None:
        """Leaves the last picture behind, and the terminal as it was."""
        if not self._is_ours:
            return
        self._is_ours = False
        if self._talk is not None:
            self._talk.through(None)
        try:
            self.put(self._display.leave(now_ns, self._size()))
        finally:
            self._set_echo_back()

    def close(self) -> None:
        try:
            self.leave(time.time_ns())
        finally:
            super().close()

    def _enter(self) -> None:
        self._is_ours = True
        if self._talk is not None:
            self._talk.through(self._display.say)
        # What is typed meanwhile would be shown where the cursor stands, in the picture.
        if termios is None:
            return
        try:
            self._echo = termios.tcgetattr(self._terminal)
            silent = termios.tcgetattr(self._terminal)
            silent[ECHO_FLAGS] &= ~termios.ECHO
            termios.tcsetattr(self._terminal, termios.TCSANOW, silent)
        except termios.error:
            self._echo = None

    def _set_echo_back(self) -> None:
        if self._echo is None or not self._is_foreground():
            return
        try:
            termios.tcsetattr(self._terminal, termios.TCSANOW, self._echo)  # type: ignore[arg-type]
        except termios.error:
            pass  # the terminal is gone
        self._echo = None

    def _is_foreground(self) -> bool:
        """Whether the terminal is not another job's now, such as the shell's after `bg`."""
        try:
            return os.tcgetpgrp(self._terminal) == os.getpgrp()
        except (OSError, AttributeError):
            return True  # a terminal without jobs, or Windows
