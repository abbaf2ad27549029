"""Moments of the venue as times that a person reads. Pure: zone and arrival are handed in."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo

__all__ = ["moment", "time_left", "time_of_day"]

HALF_A_DAY_MS = int(timedelta(hours=12) / timedelta(milliseconds=1))
MOST_OF_A_YEAR_MS = int(timedelta(days=300) / timedelta(milliseconds=1))


def moment(text: str, received_ns: int, zone: tzinfo) -> str:
    """A time of the venue, in epoch ms or ISO 8601; the text itself where it is none."""
    try:
        if text.isdecimal():
            return time_of_day(int(text), received_ns, zone)
        at = datetime.fromisoformat(text)
        return time_of_day(int(at.timestamp() * 1000), received_ns, zone)
    except (ValueError, OverflowError, OSError):
        return text


def time_of_day(at_ms: int, received_ns: int, zone: tzinfo) -> str:
    """The time of day; the day where it was another, long before or after the arrival."""
    at = datetime.fromtimestamp(at_ms // 1000, zone)
    away = abs(at_ms - received_ns // 1_000_000)
    if away <= HALF_A_DAY_MS:
        return f"{at.hour:02}:{at.minute:02}:{at.second:02}.{at_ms % 1000:03}"
    return f"{at:%m-%d %H:%M}" if away <= MOST_OF_A_YEAR_MS else f"{at:%Y-%m-%d}"


def time_left(text: str, now_ns: int) -> str:
    """Until a moment in epoch ms, such as ``24m31s`` or ``3h05m``; nothing where there is none."""
    if not text.isdecimal() or len(text) > 15 or not int(text):
        return ""
    seconds = max(0, int(text) - now_ns // 1_000_000) // 1000
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    if hours >= 24:
        return f"{hours // 24}d{hours % 24:02}h"
    return f"{hours}h{minute:02}m" if hours else f"{minute}m{second:02}s"
