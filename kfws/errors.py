"""Every exception of kfws: the run is over, and why.

```
KfwsError
├── UsageError          what was typed cannot be done (status 2)
│   └── MissingExtra    an optional package is not installed (2)
├── Unreachable         no connection to the venue (3)
│   ├── TimedOut        no answer in time (3); a TimeoutError too
│   └── NoConnection    nothing listens, or the line broke (3); a ConnectionError too
├── Unwelcome           credentials missing, malformed or refused (4)
│   └── MissingCredentials   … for a private feed, in the library (4); an AttributeError too
├── Refused             no subscription is left, or a REST request turned down (5)
├── ProtocolBroken      the venue broke its own protocol, under --strict (6)
├── Incomplete          messages are missing, under --strict (7)
├── OutputError         an output cannot be written (8)
│   ├── DiskFull        there is no room for more (8)
│   ├── InUse           another program writes to the file (8)
│   └── ReaderTooSlow   the buffer is full, and --on-full exit was given (8)
├── NothingCame         --timeout passed, or --until never matched (9)
└── Interrupted         a signal asked to leave (128 + its number)
```

What a stream can live through is no exception but an event (``protocol/events.py``).
"""

from __future__ import annotations

__all__ = [
    "DiskFull",
    "InUse",
    "Incomplete",
    "Interrupted",
    "KfwsError",
    "MissingCredentials",
    "MissingExtra",
    "NoConnection",
    "NothingCame",
    "OutputError",
    "ProtocolBroken",
    "ReaderTooSlow",
    "Refused",
    "TimedOut",
    "Unreachable",
    "Unwelcome",
    "UsageError",
]


class KfwsError(Exception):
    """What happened, in the user's words, and in ``hint`` what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(KfwsError):
    """What was typed cannot be done."""


class MissingExtra(UsageError):
    """A package that kfws offers as an extra is not installed."""


class Unreachable(KfwsError):
    """The venue cannot be reached, or the connection to it was lost.

    ``permanent``: dialling again would give the same. ``retry_after_s``: what the venue asks for.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        permanent: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.permanent = permanent
        self.retry_after_s = retry_after_s


class TimedOut(Unreachable, TimeoutError):
    """No answer came in time; the documented library raises TimeoutError."""


class NoConnection(Unreachable, ConnectionError):
    """No connection stood, or it broke before the whole answer had come."""


class Unwelcome(KfwsError):
    """Credentials are missing, malformed or refused."""


class MissingCredentials(Unwelcome, AttributeError):
    """A private feed needs credentials; the documented library raises AttributeError."""


class Refused(KfwsError):
    """The venue turned down every subscription, or a request."""


class ProtocolBroken(KfwsError):
    """The venue sent what its protocol forbids, and ``--strict`` was given."""


class Incomplete(KfwsError):
    """Messages are missing, and ``--strict`` was given."""


class OutputError(KfwsError):
    """An output cannot be opened or written."""


class DiskFull(OutputError):
    """There is no room for more."""


class InUse(OutputError):
    """Another program writes to the file."""


class ReaderTooSlow(OutputError):
    """The buffer for a slow reader is full, and ``--on-full exit`` was given."""


class NothingCame(KfwsError):
    """No message within ``--timeout``, or none that matched ``--until``."""


class Interrupted(KfwsError):
    """A signal asked the program to leave."""

    def __init__(self, signum: int) -> None:
        super().__init__("interrupted")
        self.signum = signum
