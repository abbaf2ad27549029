"""Messages in the order they came, found by their payload."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator

from kfws.protocol.events import Data

__all__ = ["Line"]


class Line:
    """A queue of messages that may be equal."""

    __slots__ = ("_counts", "_entries")

    def __init__(self) -> None:
        self._entries: deque[Data] = deque()
        # Looked up for each message of each connection, hence by payload.
        self._counts: Counter[bytes] = Counter()

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
        self._counts[data.payload] += 1

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

    def _forget(self, payload: bytes) -> None:
        self._counts[payload] -= 1
        if not self._counts[payload]:
            del self._counts[payload]
