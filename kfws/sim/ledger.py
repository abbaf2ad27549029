"""What the simulated venue sent, line by line, so that a run can be checked against it.

NDJSON. Every line has ``at_ns`` (wall clock) and, where it concerns one, ``conn`` (from 1, in
the order of opening). Beside these it has one of:

``opened``    true; ``closed``: the close code (1006: torn), with ``clean`` true where the
              venue closed and the client answered, so that all before it has certainly come
``sent``      the exact text of a frame handed to the socket; ``binary``: the same in base64
``withheld``  the text of a frame that a fault kept from this connection; ``by`` names the fault
``unheard``   the text of a frame of a stream that had been subscribed to, and now is by nobody
``struck``    the fault that begins here, as it was typed
``refused``   the HTTP status that a handshake was answered with
``restart``   true: the engine restarted; numbers of later lines count on from a lower one

A frame stands here before it goes to the socket. What was sent last on a connection that was
torn may never have reached the client.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from kfws.errors import OutputError

__all__ = ["Entry", "Ledger", "read"]


class Entry(msgspec.Struct, omit_defaults=True, gc=False):
    """One line of a ledger."""

    at_ns: int
    conn: int = 0
    opened: bool = False
    closed: int | None = None
    clean: bool = False
    sent: str | None = None
    binary: str | None = None
    withheld: str | None = None
    by: str | None = None
    unheard: str | None = None
    struck: str | None = None
    refused: int | None = None
    restart: bool = False


class Ledger:
    """A ledger being written. Raises OutputError where it cannot be."""

    def __init__(self, path: str) -> None:
        try:
            self._file = Path(path).open("wb")  # noqa: SIM115  # closed by close()
        except OSError as exc:
            raise OutputError(
                f"the ledger {path} cannot be written: {exc.strerror or exc}",
                hint="give another path with --ledger",
            ) from exc
        self._encode = msgspec.json.Encoder().encode

    def note(self, conn: int = 0, **what: bool | int | str | None) -> None:
        """A line; ``what`` are fields of ``Entry``."""
        entry = Entry(time.time_ns(), conn, **what)  # type: ignore[arg-type]  # checked by tests
        self._file.write(self._encode(entry) + b"\n")

    def sent(self, conn: int, payload: bytes, *, is_binary: bool = False) -> None:
        if is_binary:
            self.note(conn, binary=base64.b64encode(payload).decode())
        else:
            self.note(conn, sent=payload.decode())

    def flush(self) -> None:
        """Hands all lines to the system, where they survive the end of this process."""
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read(lines: Iterable[bytes]) -> Iterator[Entry]:
    """The entries of a ledger; a torn last line, as a kill leaves it, is left out."""
    decode = msgspec.json.Decoder(Entry).decode
    for line in lines:
        if line.endswith(b"\n"):
            yield decode(line)
