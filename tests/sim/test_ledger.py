"""The ledger: every byte that was sent can be had back from it."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from kfws.errors import OutputError
from kfws.sim.ledger import Ledger, read


def test_the_exact_bytes_can_be_had_back(tmp_path: Path) -> None:
    text = '{"feed": "book",\n "é": "\\u00e9\\\\" '.encode()
    path = tmp_path / "ledger"
    ledger = Ledger(str(path))
    ledger.note(1, opened=True)
    ledger.sent(1, text)
    ledger.sent(1, b"\x00\xff", is_binary=True)
    ledger.note(1, closed=1006)
    ledger.flush()
    opened, sent, binary, closed = read(path.read_bytes().splitlines(keepends=True))
    ledger.close()
    assert (opened.conn, opened.opened) == (1, True)
    assert (sent.sent or "").encode() == text
    assert base64.b64decode(binary.binary or "") == b"\x00\xff"
    assert (closed.closed, closed.clean) == (1006, False)
    assert opened.at_ns <= sent.at_ns <= closed.at_ns


def test_a_torn_last_line_is_left_out() -> None:
    assert [entry.at_ns for entry in read([b'{"at_ns":1}\n', b'{"at_'])] == [1]


def test_a_ledger_that_cannot_be_written_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere"):
        Ledger(str(tmp_path / "nowhere" / "ledger"))
