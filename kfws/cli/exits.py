"""How the program ends: exit statuses, and which error means which."""

from __future__ import annotations

from enum import IntEnum

from kfws import errors

__all__ = ["ExitStatus", "status_of"]


class ExitStatus(IntEnum):
    """What the exit status says. The README and ``--help`` print these texts."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> ExitStatus:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = 0, "a limit was reached, a replay ended, or the last reader left"
    BUG = 1, "a bug in kfws: one line, a traceback only with --debug"
    USAGE = 2, "what was typed cannot be done, or an extra is not installed"
    UNREACHABLE = 3, "no connection, or it was lost; HTTP 404; certificate not trusted"
    UNWELCOME = 4, "credentials missing, malformed or refused; HTTP 401 and 403"
    REFUSED = 5, "a request or every subscription was turned down, or one under --strict"
    PROTOCOL = 6, "the venue broke its own protocol, under --strict"
    INCOMPLETE = 7, "messages are missing: --strict, verify; or convert could not read all"
    OUTPUT = 8, "an output failed: disk full, not writable, another writer, not a tape"
    NOTHING = 9, "--timeout passed with no message, or --until never matched"
    HANGUP = 129, "SIGHUP: outputs flushed and closed first"
    INTERRUPT = 130, "SIGINT (Ctrl-C): outputs flushed and closed first"
    TERMINATED = 143, "SIGTERM: outputs flushed and closed first"


_STATUS = {
    errors.UsageError: ExitStatus.USAGE,
    errors.Unreachable: ExitStatus.UNREACHABLE,
    errors.Unwelcome: ExitStatus.UNWELCOME,
    errors.Refused: ExitStatus.REFUSED,
    errors.ProtocolBroken: ExitStatus.PROTOCOL,
    errors.Incomplete: ExitStatus.INCOMPLETE,
    errors.OutputError: ExitStatus.OUTPUT,
    errors.NothingCame: ExitStatus.NOTHING,
}


def status_of(error: BaseException) -> int:
    """The exit status of an error; anything that is no KfwsError is a bug."""
    if isinstance(error, errors.Interrupted):
        return 128 + error.signum
    for kind, status in _STATUS.items():
        if isinstance(error, kind):
            return status
    return ExitStatus.BUG
