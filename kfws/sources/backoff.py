"""How long to wait before the venue is dialled again.

Rule of this room: pure. Randomness and time are handed in; lengths and moments are seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime

__all__ = ["DialPace", "delays", "retry_after"]

AT_ONCE_S = 0.25
SHORTEST_S = 0.5
LONGEST_S = 30.0

DIALS_PER_MINUTE = 20
MINUTE_S = 60.0

# A venue that asks for more is asked again after this; nobody wants a run that sleeps for a day.
LONGEST_RETRY_AFTER_S = 600.0


def delays(random: Callable[[], float]) -> Iterator[float]:
    """How long to wait before each redial, without end. Whoever starts afresh takes a new one.

    ``random`` gives a number from 0 to 1. The first redial comes at once, but for a jitter, so
    that the clients which one restart of the venue threw out do not come back as one crowd. The
    following ones are spread evenly between 0.5 s and a limit that doubles from 0.5 s to 30 s.
    """
    yield AT_ONCE_S * random()
    limit = SHORTEST_S
    while True:
        yield SHORTEST_S + (limit - SHORTEST_S) * random()
        limit = min(2 * limit, LONGEST_S)


class DialPace:
    """Keeps dials apart: at most one in half a second, and 20 in any minute.

    All connections to one venue share it. Ask ``wait`` again after waiting, and call
    ``dialled`` when it says 0, without letting anybody else run between the two.
    """

    def __init__(self) -> None:
        self._dialled_at: deque[float] = deque(maxlen=DIALS_PER_MINUTE)
        self._not_before = float("-inf")

    def wait(self, now: float) -> float:
        """How long until a dial is allowed; 0 when it is. ``now`` is on a clock that only rises."""
        recent = self._dialled_at
        allowed_at = max(self._not_before, recent[-1] + SHORTEST_S if recent else now)
        if len(recent) == DIALS_PER_MINUTE:
            allowed_at = max(allowed_at, recent[0] + MINUTE_S)
        return max(0.0, allowed_at - now)

    def dialled(self, now: float) -> None:
        """A dial begins."""
        self._dialled_at.append(now)

    def hold_until(self, moment: float) -> None:
        """The venue asked to be left alone until then (``Retry-After``): all hold back."""
        self._not_before = max(self._not_before, moment)


def retry_after(value: str, now: float) -> float | None:
    """How long an HTTP ``Retry-After`` asks to wait, 600 s at most; None if it makes no sense.

    ``value`` is a number of seconds or an HTTP date (RFC 9110, section 10.2.3); ``now`` is in
    seconds since the epoch, since the date is on the wall clock.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value), LONGEST_RETRY_AFTER_S)
    try:
        moment = parsedate_to_datetime(value)
        # An HTTP date is UTC; the parser gives one without a zone where "-0000" stands for it.
        until = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        # All of these come out of the parser of the standard library, by the kind of nonsense.
        return None
    return min(max(0.0, until - now), LONGEST_RETRY_AFTER_S)
