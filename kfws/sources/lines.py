"""Messages in the order they came, found by their payload."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from kfws.protocol.events import Data

__all__ = ["Line"]


class Line:
    """A queue of messages that may be equal; at most ``most`` of them, the oldest go first."""

    __slots__ = ("_counts", "_entries", "_most")

    def __init__(self, most: int | None = None) -> None:
        self._entries: deque[Data] = deque()
        # Looked up for each message of each connection, hence by payload.
        self._counts: dict[bytes, int] = {}
        self._most = most

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Data]:
        return iter(self._entries)

    def __getitem__(self, index: int) -> Data:
        return self._entries[index]

    def __contains__(self, payload: bytes) -> bool:
        return payload in self._counts

    def append(self, data: Data) -> None:
        self._entries.append(data)
        self._counts[data.payload] = self._counts.get(data.payload, 0) + 1
        if self._most is not None and len(self._entries) > self._most:
            self.popleft()

    def popleft(self) -> Data:
        data = self._entries.popleft()
        self._forget(data.payload)
        return data

    def take_to(self, is_it: Callable[[Data], bool]) -> list[Data]:
        """Takes out the first that is it, which has to be there, and all before; gives these."""
        before = []
        while not is_it(data := self.popleft()):
            before.append(data)
        return before

    def remove(self, payload: bytes) -> bool:
        """Takes out the first with this payload alone; whether there was one."""
        if payload not in self._counts:
            return False
        place = next(n for n, each in enumerate(self._entries) if each.payload == payload)
        del self._entries[place]
        self._forget(payload)
        return True

    def clear(self) -> None:
        self._entries.clear()
        self._counts.clear()

    def _forget(self, payload: bytes) -> None:
        left = self._counts[payload] - 1
        if left:
            self._counts[payload] = left
        else:
            del self._counts[payload]
