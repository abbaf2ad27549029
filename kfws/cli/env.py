"""The only door to the outside: streams, terminal, environment, files, clock."""

from __future__ import annotations

import errno
import gc
import os
import select
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import tzinfo

    from kfws.cli.choices import Color, LogFormat, VenueName
    from kfws.cli.plan import Plan
    from kfws.cli.profiles import Profiles
    from kfws.cli.secrets import KeySource
    from kfws.cli.settings import Setting
    from kfws.cli.talk import Level, Talk
    from kfws.errors import KfwsError, OutputError
    from kfws.protocol.auth import Credentials

__all__ = [
    "ASKED",
    "ATOMIC_BYTES",
    "NO_KEY",
    "Env",
    "LineWriter",
    "is_writable",
    "opened_anew",
    "unwritable",
]

ASKED = "_KFWS_COMPLETE"
"""The variable in which a shell asks what TAB offers."""

# More than a person reads; what a standing stderr would hold back is bounded by it.
LINES_KEPT = 1000
# A pipe that is ready takes this much without blocking (PIPE_BUF on Linux, 512 at least).
ATOMIC_BYTES = 512 if not hasattr(os, "fpathconf") else 4096
CLOSED = -1
SIMULATORS_OWN = "the simulator's own"
NO_KEY = "`kfws auth login`, or set KFWS_API_KEY and KFWS_API_SECRET, or give --credentials FILE"


class LineWriter:
    """Lines to a descriptor, without ever waiting for who reads it.

    What does not fit is kept, up to 1000 lines, and tried again with the next line. A reader
    that left is no fault.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._begun = memoryview(b"")
        """What is left of a line of which a part is out."""
        self._waiting: deque[bytes] = deque(maxlen=LINES_KEPT)
        self._is_drawn = False

    def write(self, line: str) -> None:
        if self._fd == CLOSED:
            return
        self.draw("")
        self._waiting.append(line.encode(errors="replace") + b"\n")
        self.flush()

    def is_on(self, fd: int) -> bool:
        """Whether the lines go to the terminal behind another descriptor."""
        try:
            return os.isatty(fd) and os.path.sameopenfile(self._fd, fd)
        except OSError:
            return False

    @property
    def columns(self) -> int:
        """How wide the terminal is; 0 where the lines go elsewhere, or nobody knows."""
        try:
            return os.get_terminal_size(self._fd).columns
        except (OSError, OverflowError):
            return 0

    def draw(self, line: str) -> None:
        """Shows a line on a terminal until the next one comes; where it does not go now, not.

        What is wider than the terminal is cut: what wraps cannot be wiped away.
        """
        if (line or self._is_drawn) and not self._waiting and not self._begun:
            self._is_drawn = bool(line)
            columns = self.columns
            if 0 < columns < len(line):
                line = f"{line[: columns - 1]}…"
            self._wipe(line)

    def wipe_echo(self) -> None:
        """After a Ctrl-C: the ``^C`` that a terminal shows is not in front of what comes next."""
        if self.columns and not self._waiting and not self._begun:
            self._is_drawn = False
            self._wipe("")

    def _wipe(self, line: str) -> None:
        self._waiting.append(b"\r\x1b[K" + line.encode(errors="replace"))
        self.flush()

    def flush(self) -> None:
        """Writes what can be written now."""
        if not self._begun and not self._waiting:
            return
        own = opened_anew(self._fd)
        try:
            self._write_to(self._fd if own is None else own)
        except BlockingIOError:
            pass
        except OSError:
            self._begun = memoryview(b"")
            self._waiting.clear()
        finally:
            if own is not None:
                os.close(own)

    def _write_to(self, fd: int) -> None:
        while (self._begun or self._waiting) and is_writable(fd):
            self._begun = self._begun or memoryview(self._waiting.popleft())
            self._begun = self._begun[os.write(fd, self._begun[:ATOMIC_BYTES]) :]


# Each start pays for what a dataclass is given; and what an Env holds is not for a repr.
@dataclass(slots=True, eq=False, repr=False, match_args=False)
class Env:
    """What one run of the program sees of the world around it."""

    environ: Mapping[str, str]
    stdout: int = 1
    stderr: LineWriter = field(default_factory=lambda: LineWriter(2))
    stdout_is_terminal: bool = False
    stdin: int = 0
    stderr_is_terminal: bool = False
    stdin_is_terminal: bool = False
    talk: Talk | None = None
    """Set by the command once it knows how loud it may be."""
    is_debug: bool = False
    cache_folder: Path | None = None
    """Where lists are kept; None: where the system has it."""
    config_folder: Path | None = None
    """Where keys are kept; None: where the system has it."""
    args: Sequence[str] = ()
    """What was typed behind the program's name."""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    """What stands in for options that were not typed."""
    patience_s: float = 60.0
    """How long a command that prints a key may take; who unlocks a store types a passphrase."""
    has_process: bool = False
    """Whether the process is there for this run alone."""

    @classmethod
    def of_process(cls) -> Env:
        # A descriptor that was closed when we started may be any file's by now.
        return cls(
            environ=os.environ,
            stdout=CLOSED if sys.stdout is None else 1,
            stderr=LineWriter(CLOSED if sys.stderr is None else 2),
            stdout_is_terminal=sys.stdout is not None and os.isatty(1),
            stderr_is_terminal=sys.stderr is not None and os.isatty(2),
            stdin_is_terminal=sys.stdin is not None and os.isatty(0),
            has_process=True,
        )

    def settle(self) -> None:
        """A long run begins: what is there stays, and its garbage is sought among what comes.

        To look through all that was imported takes 20 ms and more, in which nothing is read.
        """
        if self.has_process:
            gc.freeze()
            gc.set_threshold(*_GARBAGE)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines of the terminal that stdout is; 80 by 24 where nobody says."""
        try:
            columns, lines = os.get_terminal_size(self.stdout)
        except OSError:
            columns, lines = self._said("COLUMNS"), self._said("LINES")
        return columns or 80, lines or 24

    @property
    def columns(self) -> int | None:
        """How wide a line on stdout may be; None where it is no terminal."""
        return self.size[0] if self.stdout_is_terminal else None

    @property
    def stdout_is_kept(self) -> bool:
        """Whether stdout is a file or the null device, so that nobody reads it meanwhile."""
        try:
            found, null = os.fstat(self.stdout), Path(os.devnull).stat()
        except OSError:
            return False
        return stat.S_ISREG(found.st_mode) or os.path.samestat(found, null)

    def _said(self, name: str) -> int:
        text = self.environ.get(name, "")[:9]
        return int(text) if text.isdecimal() else 0

    def color(self, wanted: Color) -> bool:
        """Whether colours are welcome on stdout (https://no-color.org)."""
        if wanted != "auto":
            return wanted == "always"
        return self.can_draw and not self.environ.get("NO_COLOR")

    @property
    def cache(self) -> Path:
        """The folder of lists that are kept between runs; it may not be there."""
        if self.cache_folder is not None:
            return self.cache_folder
        return _own_folder("cache")

    @property
    def state(self) -> Path:
        """The folder of what a run leaves for the next one; it may not be there."""
        if self.cache_folder is not None:
            return self.cache_folder
        return _own_folder("state")

    @property
    def machine(self) -> str:
        """Its name, without a domain."""
        import socket

        return socket.gethostname().partition(".")[0] or "unnamed"

    @property
    def nats_token(self) -> str | None:
        return self.environ.get("KFWS_NATS_TOKEN") or None

    @property
    def config(self) -> Path:
        """The user's folder of what is ours and lasts; it may not be there."""
        if self.config_folder is not None:
            return self.config_folder
        return _own_folder("config")

    @property
    def can_draw(self) -> bool:
        """Whether stdout is a terminal that a picture can be drawn on."""
        dumb = self.environ.get("TERM", "") in ("", "dumb")
        return self.stdout_is_terminal and not dumb

    @property
    def has_keys(self) -> bool:
        """Whether somebody at a terminal types, and sees what comes of it."""
        takes_keys = hasattr(os, "tcgetpgrp")  # not on Windows
        return takes_keys and self.stdin_is_terminal and self.stdout_is_terminal

    @property
    def has_controlling_terminal(self) -> bool:
        """Whether SIGHUP means that the terminal is gone. To be asked early: then it is gone."""
        try:
            os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
        except (OSError, AttributeError):  # none, or Windows
            return False
        return True

    @property
    def talks_on_stdout(self) -> bool:
        """Whether stderr is the very terminal that stdout is."""
        return self.stderr.is_on(self.stdout)

    def zone(self, utc: bool) -> tzinfo:
        """The zone of the person at the terminal, or UTC."""
        from datetime import UTC, datetime

        if utc:
            return UTC
        zone = datetime.now().astimezone().tzinfo
        assert zone is not None  # noqa: S101  # astimezone always sets one
        return zone

    # What is said

    def speak(self, *, verbose: bool, quiet: bool, debug: bool, log_format: LogFormat) -> Talk:
        """Sets how loud stderr is; gives what talks on it."""
        from kfws.cli.talk import Talk

        least: Level = "warning"
        if debug:
            least = "debug"
        elif quiet:
            least = "error"
        elif verbose:
            least = "info"
        self.is_debug = debug
        self.talk = Talk(self.stderr, least=least, as_json=log_format == "json")
        return self.talk

    def explain(self, error: KfwsError) -> None:
        """Why the run is over, in one line; a signal needs no explanation."""
        from kfws.cli.exits import status_of
        from kfws.cli.talk import Talk
        from kfws.errors import Interrupted

        talk = self.talk or Talk(self.stderr)
        if not isinstance(error, Interrupted):
            code = type(error).__name__
            talk.say("error", code, error.message, hint=error.hint, status=int(status_of(error)))
        self._show_traceback(error)

    def explain_bug(self, error: BaseException) -> None:
        """The one line of an error that nobody foresaw."""
        from kfws.cli.talk import Talk

        talk = self.talk or Talk(self.stderr)
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        hint = "" if self.is_debug else "--debug shows where; please report it"
        talk.say("error", "bug", f"a bug in kfws: {what}", hint=hint)
        self._show_traceback(error)

    def _show_traceback(self, error: BaseException) -> None:
        if self.is_debug:
            import traceback

            from kfws.sinks.columns import printable

            for line in "".join(traceback.format_exception(error)).splitlines():
                self.stderr.write(printable(line))

    def proxy(self, typed: str | None, url: str) -> str | None:
        """The proxy to take: the one that was typed, else the environment's; never to loopback.

        ``wss_proxy``, ``socks_proxy``, ``https_proxy``, ``all_proxy`` in this order (of these REST
        takes the last two), unless ``no_proxy`` names the host; on macOS and Windows the system's
        settings as well. Raises UsageError for one that is none.
        """
        from kfws.sources.failures import check_proxy

        found = typed if typed is not None else _proxy_around(url)
        if found is None or typed == "none":
            return None
        check_proxy(found)
        return found

    # What is read

    def credentials(
        self, plan: Plan, *, file: str | None, command: str | None, profile: str | None = None
    ) -> Credentials | None:
        """The key for private feeds, first found wins; None where only public ones are asked for.

        Raises Unwelcome.
        """
        from kfws.errors import Unwelcome

        if not plan.is_private:
            return None
        found = self.find_credentials(plan.venue, file=file, command=command, profile=profile)
        if found is None:
            raise Unwelcome(f"{', '.join(plan.private_feeds)} needs an API key", hint=NO_KEY)
        return found

    def find_credentials(
        self,
        venue: VenueName | None,
        *,
        file: str | None,
        command: str | None,
        profile: str | None = None,
    ) -> Credentials | None:
        """The first key that is found, or None. Raises Unwelcome for one that is none."""
        found = self.find_key(venue, file=file, command=command, profile=profile)
        return found and found[1]

    def find_key(
        self,
        venue: VenueName | None,
        *,
        file: str | None,
        command: str | None,
        profile: str | None = None,
    ) -> tuple[str, Credentials] | None:
        """The same, behind the name of where it came from. That variables hold another key than
        the simulator's is said."""
        from kfws.cli.secrets import VARIABLES, first_key

        found = first_key(self.key_sources(venue, file=file, command=command, profile=profile))
        if found is None or found[0] != SIMULATORS_OWN or self.talk is None:
            return found
        set_to = [(name, self.environ.get(name, "").strip()) for name, _ in VARIABLES]
        unused = [name for name, value in set_to if value not in ("", found[1].key)]
        if unused:
            what = f"the key in {' and '.join(unused)} is not used with --env sim"
            hint = "the simulator in the process has its own"
            self.talk.say("warning", "key-unused", what, hint=hint)
        return found

    def key_sources(
        self,
        venue: VenueName | None,
        *,
        file: str | None,
        command: str | None,
        profile: str | None = None,
    ) -> Iterator[KeySource]:
        """Where a key may come from, in the order of asking. What was typed comes first.

        The simulator in the process takes its own key unless one was typed.
        """
        from kfws.cli.profiles import DEFAULT
        from kfws.cli.secrets import (
            VARIABLES,
            KeySource,
            from_variables,
            parse_credentials,
            read_private,
        )
        from kfws.protocol.auth import DEMO

        if file is not None:
            yield KeySource(file, lambda: parse_credentials(read_private(file), file))
        if command is not None:
            name = "--credentials-command"
            yield KeySource(name, lambda: parse_credentials(self._output_of(command), name))
        profiles = self.profiles
        if profile is not None:
            # A profile may be one of settings alone (kfws/cli/settings.py).
            is_of_settings = any(f"[profiles.{profile}" in x.origin for x in self.settings.values())
            read = profiles.find if is_of_settings else profiles.get
            yield KeySource(f"profile {profile}", partial(read, profile))
        if venue == "sim":
            yield KeySource(SIMULATORS_OWN, lambda: DEMO)
            return
        for pair in VARIABLES:
            yield KeySource(" and ".join(pair), partial(from_variables, self.environ, pair))
        if profile is None:
            yield KeySource(f"profile {DEFAULT}", partial(profiles.find, DEFAULT))

    def _output_of(self, command: str) -> str:
        """What a command such as `pass show kraken` prints. Its stderr may hold the key (`set -x`),
        so it is not told. Raises Unwelcome."""
        import subprocess

        from kfws.errors import Unwelcome

        done = None
        try:
            # A shell on purpose: the user typed a command line.
            done = subprocess.run(  # noqa: S602
                command, shell=True, capture_output=True, timeout=self.patience_s, check=False
            )
        except subprocess.TimeoutExpired:
            pass  # raised below: this error holds the command and what it printed
        if done is None:
            raise Unwelcome(
                f"--credentials-command did not end within {self.patience_s:g} s",
                hint="run it yourself to see what it waits for",
            )
        if done.returncode:
            raise Unwelcome(
                f"--credentials-command ended with status {done.returncode}",
                hint="run it yourself to see why; it must print api_key = … and api_secret = …",
            )
        return done.stdout.decode(errors="replace")

    @property
    def profiles(self) -> Profiles:
        """The keys that `kfws auth login` keeps."""
        from kfws.cli.profiles import Profiles

        return Profiles(self.config / "credentials")

    def read_text(self, path: str) -> str:
        """A file's text, or stdin's for ``-``; OSError or UnicodeDecodeError as open gives."""
        if path != "-":
            return Path(path).read_text(encoding="utf-8")
        if sys.stdin is None:
            raise OSError(errno.EBADF, "stdin is closed")
        return sys.stdin.read()

    def ask_secret(self, prompt: str) -> str:
        """Asks the person at the terminal; what is typed is not shown. Raises UsageError."""
        from getpass import getpass

        from kfws.errors import UsageError

        try:
            return self._typed(lambda: getpass(prompt)).strip()
        except EOFError:
            pass
        raise UsageError("nothing was typed", hint="paste it, and press Enter")

    def read_secret(self) -> str:
        """Stdin's text to its end. Raises Unwelcome, without what was read."""
        from kfws.errors import Unwelcome

        try:
            return self.read_text("-")
        except OSError as exc:
            raise Unwelcome(f"stdin cannot be read: {exc.strerror}") from exc
        except UnicodeDecodeError:
            pass  # raised below: this error holds the bytes
        raise Unwelcome("stdin is no text", hint="api_key = … and api_secret = …")

    def confirms(self, question: str) -> bool:
        """Asks the person at the terminal; only y or yes is one. False without a terminal."""
        if not self.stdin_is_terminal:
            return False
        self.stderr.write(question)
        return self._typed(sys.stdin.readline).strip().lower() in ("y", "yes")

    def _typed(self, read: Callable[[], str]) -> str:
        """What the person types. Who leaves instead finds the terminal as it was, and the prompt of
        the shell on a line of its own."""
        from kfws.cli.signals import leave_on_signals, raise_on_signals
        from kfws.errors import Interrupted

        raise_on_signals()
        try:
            return read()
        except Interrupted:
            if self.stderr_is_terminal:
                self.stderr.write("")
            raise
        finally:
            leave_on_signals()

    def print(self, text: str) -> None:
        """A short answer on stdout, in one piece; a reader that left is no fault."""
        self.write(text.encode(errors="replace"))

    def write(self, data: bytes) -> None:
        """The same of bytes."""
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self.stdout, rest) :]
        except BrokenPipeError:
            pass
        except OSError as exc:
            raise unwritable(exc) from exc


_GARBAGE = (10_000, 10, 10)
"""Objects more than before that have it looked for; ten times as many for what is older."""
_PROXIES = {
    "wss": ("wss", "socks", "https", "all"),
    "ws": ("ws", "socks", "http", "all"),
    "https": ("https", "all"),
    "http": ("http", "all"),
}


def _proxy_around(url: str) -> str | None:
    """The proxy that the environment names for a URL."""
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass

    from kfws.protocol.auth import is_loopback

    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or proxy_bypass(host):
        return None
    found = getproxies()
    return next((found[name] for name in _PROXIES[parts.scheme] if found.get(name)), None)


def unwritable(
    exc: OSError, name: str = "stdout", *, hint: str = "lead it to a file or a pipe"
) -> OutputError:
    """Why a descriptor takes nothing; ``hint``: what to do where another one may."""
    from kfws.errors import DiskFull, OutputError

    if exc.errno == errno.EBADF:
        return OutputError(f"{name} is closed", hint=hint)
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"disk full: {name} takes no more", hint="make room and start again")
    if exc.errno == errno.EFBIG:
        return OutputError(f"{name} reached the file size limit", hint="look at `ulimit -f`")
    return OutputError(f"{name} cannot be written: {exc.strerror}", hint=hint)


def opened_anew(fd: int) -> int | None:
    """A pipe or terminal as a description of our own that does not block; None: there is none.

    O_NONBLOCK belongs to the description, which a terminal shares with the shell and a pipe
    with other writers. Linux opens a new one of the same pipe or terminal for us.
    """
    try:
        if not (stat.S_ISFIFO(os.fstat(fd).st_mode) or os.isatty(fd)):
            return None
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, AttributeError):
        return None


def is_writable(fd: int) -> bool:
    """Whether a write would not block; True where the system cannot tell."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(0))


def _own_folder(kind: Literal["cache", "config", "state"]) -> Path:
    """Where the system has it, as platformdirs says; where that is plain, without importing it:
    every command and every press of TAB asks for the config."""
    if sys.platform == "linux" and "ANDROID_ROOT" not in os.environ:
        given, home = os.environ.get(f"XDG_{kind.upper()}_HOME", ""), os.environ.get("HOME", "")
        if given.startswith("/"):
            return Path(given, "kfws")
        if home.startswith("/"):
            return Path(home, _BELOW_HOME[kind], "kfws")
    import platformdirs

    named = {
        "cache": platformdirs.user_cache_path,
        "config": platformdirs.user_config_path,
        "state": platformdirs.user_state_path,
    }
    return named[kind]("kfws")


# https://specifications.freedesktop.org/basedir-spec/latest/
_BELOW_HOME = {"cache": ".cache", "config": ".config", "state": ".local/state"}
