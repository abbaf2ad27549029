"""Literal frames: what the venue (or a client) said, byte for byte, from ``tests/frames``."""

from __future__ import annotations

from pathlib import Path

import msgspec

FRAMES = Path(__file__).parent / "frames"


class Line(msgspec.Struct):
    """One line of a file of frames; ``frame`` is a slice of it, so its bytes are exact."""

    dir: str
    kind: str
    src: str
    note: str
    frame: msgspec.Raw
    http: dict[str, str | int] | None = None

    @property
    def payload(self) -> bytes:
        return bytes(self.frame)


def lines(name: str) -> list[Line]:
    """Every line of ``tests/frames/<name>.ndjson``."""
    text = (FRAMES / f"{name}.ndjson").read_bytes()
    return [msgspec.json.decode(line, type=Line) for line in text.splitlines()]


def frames(
    name: str, *, kind: str | None = None, direction: str = "s2c", note: str = ""
) -> list[bytes]:
    """Payloads of a file, in its order: of a kind, a direction, with a text in the note."""
    return [
        line.payload
        for line in lines(name)
        if line.dir == direction and kind in (None, line.kind) and note in line.note
    ]


def frame(name: str, note: str) -> bytes:
    """The one frame of a file from the venue whose note holds the text."""
    [only] = frames(name, note=note)
    return only


def names() -> list[str]:
    """The names of all files of WebSocket frames."""
    return sorted(path.stem for path in FRAMES.glob("*.ndjson") if path.stem != "rest")
