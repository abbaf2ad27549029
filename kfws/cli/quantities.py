"""Lengths of time and sizes as people type them: ``1m30s``, ``250ms``, ``64MB``, ``1GiB``."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, time, timedelta
from typing import NoReturn

from kfws.errors import UsageError

__all__ = [
    "address",
    "age",
    "duration_s",
    "length",
    "moment_ms",
    "moment_of_tape_ns",
    "size_bytes",
    "size_text",
    "time_or_size",
]

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_POWERS = {"": 0.0, "k": 1.0, "m": 2.0, "g": 3.0, "t": 4.0}

_UNITS = ("B", "kB", "MB", "GB", "TB")

_HOST = r"(?a:[\w.-]*|\[[0-9A-Fa-f:.]+\])"
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_FRACTION = r"[.,]([0-9]+)"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PART = rf"({_NUMBER})(ms|s|m|h|d)"
_DURATION = rf"(?:{_NUMBER}(?:ms|s|m|h|d))+"
_SIZE = rf"(?i:({_NUMBER})([kmgt]?)(i?)b?)"


def duration_s(typed: str) -> float:
    """Seconds; a bare number is seconds already. Positive and finite, else UsageError."""
    text = typed.strip()
    if re.fullmatch(_NUMBER, text):
        text += "s"
    if not re.fullmatch(_DURATION, text):
        _refuse(typed, "a duration", "30s, 250ms, 5m, 1h, 2d or 1m30s")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in re.findall(_PART, text))
    if not 0 < seconds < math.inf:
        _refuse(typed, "a duration above zero", "30s, 250ms, 5m, 1h, 2d or 1m30s")
    return seconds


def age(seconds: float) -> str:
    """A length of time in its largest unit, rounded down: ``3 h``."""
    for unit in ("d", "h", "m"):
        if seconds >= _SECONDS[unit]:
            return f"{int(seconds / _SECONDS[unit])} {'min' if unit == 'm' else unit}"
    return f"{max(0, int(seconds))} s"


def length(seconds: float) -> str:
    """A length of time in its two largest units: ``3 h 20 min``, ``12 s``, ``0.5 s``."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def moment_ms(typed: str) -> int:
    """Epoch milliseconds of an ISO 8601 time (UTC where no zone is named), or of such a number."""
    text = typed.strip()
    if _is_epoch_ms(text):
        return int(text)
    try:
        return _iso_ns(text) // 10**6
    except ValueError:
        _refuse(typed, "a moment", "2026-11-24T16:00:00Z or epoch milliseconds")


def _iso_ns(text: str) -> int:
    """Nanoseconds since the epoch of an ISO 8601 time, cut there. Raises ValueError."""
    text, fraction_ns = _without_fraction(text)
    moment = datetime.fromisoformat(text)
    return _epoch_ns(moment if moment.tzinfo else moment.replace(tzinfo=UTC)) + fraction_ns


def _without_fraction(text: str) -> tuple[str, int]:
    """A time in whole seconds, and the rest in nanoseconds: datetime knows microseconds only."""
    found = re.search(_FRACTION, text)
    if found is None:
        return text, 0
    return re.sub(_FRACTION, ".0", text, count=1), int(found[1][:9].ljust(9, "0"))


def _epoch_ns(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def _is_epoch_ms(text: str) -> bool:
    return text.isdecimal() and len(text) <= 15


def moment_of_tape_ns(typed: str, start_ns: int) -> int:
    """Nanoseconds since the epoch of a moment on a tape that starts at ``start_ns``.

    An offset from the start (``10m``, ``90``: seconds), a time of day (the first one later than
    an hour before the start), ISO 8601 (both UTC where no zone is named), or a number of
    seconds, ms, µs or ns since the epoch, told by its 10, 13, 16 or 19 digits.
    """
    text = typed.strip()
    if text.isdecimal() and len(text) in (10, 13, 16, 19):
        return int(text.ljust(19, "0"))
    if re.fullmatch(_NUMBER, text) or re.fullmatch(_DURATION, text):
        offset_s = 0.0 if re.fullmatch(r"0+(ms|s|m|h|d)?", text) else duration_s(text)
        return start_ns + round(offset_s * 1e9)
    start = datetime.fromtimestamp(start_ns // 10**9, UTC)
    whole, fraction_ns = _without_fraction(text)
    moment = _time_of_day(whole, start)
    if moment is None:
        try:
            return int(text) * 10**6 if _is_epoch_ms(text) else _iso_ns(text)
        except ValueError:
            _refuse(typed, "a moment", "10m (from the start), 16:30, 2026-11-24T16:30 (UTC)")
    # A tape that begins a moment after the full hour is meant to begin at it.
    while moment <= start - timedelta(hours=1):
        moment += timedelta(days=1)
    return _epoch_ns(moment) + fraction_ns


def _time_of_day(text: str, start: datetime) -> datetime | None:
    """That time on the day before the start, so that none is passed over in any zone."""
    if ":" not in text[:3]:
        return None
    try:
        at = time.fromisoformat(text.zfill(5) if len(text) == 4 else text)
    except ValueError:
        return None
    return datetime.combine(start.date() - timedelta(days=1), at, at.tzinfo or UTC)


def address(typed: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, ``[::1]:PORT``, ``:PORT`` or ``PORT``; without a host it is
    this machine alone. Else UsageError."""
    host, _, port = typed.strip().rpartition(":")
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535 or not re.fullmatch(_HOST, host):
        _refuse(typed, "an address to listen at", "127.0.0.1:9464 or 9464")
    return host.strip("[]") or "127.0.0.1", int(port)


def size_bytes(typed: str) -> int:
    """Bytes: k, M, G, T are powers of 1000, Ki, Mi, Gi, Ti of 1024, a ``B`` behind is optional.

    At least one byte, else UsageError.
    """
    found = re.fullmatch(_SIZE, typed.strip())
    if found is None or (found[3] and not found[2]):
        _refuse(typed, "a size", "64MB, 512k or 1GiB")
    thousand = 1024.0 if found[3] else 1000.0
    size: float = float(found[1]) * thousand ** _POWERS[found[2].lower()]
    if not 1 <= size < math.inf:
        _refuse(typed, "a size of at least one byte", "64MB, 512k or 1GiB")
    return round(size)


def size_text(size: float) -> str:
    """A size in bytes for people: ``640 B``, ``1.2 MB``, ``35 GB``; powers of 1000."""
    power = 0
    while size >= 1000 and power < len(_UNITS) - 1:
        size, power = size / 1000, power + 1
    return f"{size:.1f} {_UNITS[power]}" if power and size < 10 else f"{size:.0f} {_UNITS[power]}"


def time_or_size(typed: str) -> tuple[float | None, int | None]:
    """Seconds, bytes, or both: ``1h``, ``256MB``, ``1h,256MB``; else UsageError.

    ``5m`` are minutes, ``5M`` is a size; a bare number could be either and is refused.
    """
    seconds: float | None = None
    size: int | None = None
    for part in typed.split(","):
        text = part.strip()
        if re.fullmatch(_DURATION, text) and seconds is None:
            seconds = duration_s(text)
        elif not re.fullmatch(_NUMBER, text) and re.fullmatch(_SIZE, text) and size is None:
            size = size_bytes(text)
        else:
            _refuse(typed, "a time, a size or one of each", "1h, 256MB or 1h,256MB")
    return seconds, size


def _refuse(typed: str, what: str, examples: str) -> NoReturn:
    shown = typed if len(typed) <= 40 else typed[:40] + "…"
    raise UsageError(f"{shown!r} is not {what}", hint=f"type it as in {examples}")
