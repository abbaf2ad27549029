"""The hot way and the library's way are one: any bytes, cut at any place, give the same."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
)
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol
from websockets.uri import parse_uri

from kfws.protocol.events import BinaryFrame
from kfws.sources.connection import MAX_FRAME, Connection

SILENT = logging.Logger("tests.cutting", logging.CRITICAL + 1)


class Wire(asyncio.Transport):
    """What a connection writes, and whether it hung up: a socket without a network."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.written += b"<eof>"

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def head(protocol: Protocol, extension: str) -> bytes:
    """The venue's answer to the handshake that a protocol began."""
    request = protocol.data_to_send()[0].decode()
    key = next(line for line in request.splitlines() if line.startswith("Sec-WebSocket-Key"))
    accept = hashlib.sha1((key.split(": ")[1] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode())  # noqa: S324
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {base64.b64encode(accept.digest()).decode()}",
        *([f"Sec-WebSocket-Extensions: {extension}"] if extension else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def begin(kind: type[ClientConnection], extension: str) -> tuple[Any, Wire]:
    factories = [ClientPerMessageDeflateFactory()] if extension else None
    protocol = ClientProtocol(
        parse_uri("ws://x/ws/v1"), extensions=factories, max_size=MAX_FRAME, logger=SILENT
    )
    connection = kind(protocol, max_queue=None)
    wire = Wire()
    connection.connection_made(wire)
    protocol.send_request(protocol.connect())
    return connection, wire


def ours(pieces: list[bytes], extension: str) -> tuple[Any, ...]:
    connection, wire = begin(Connection, extension)
    feed(connection, [head(connection.protocol, extension), *pieces])
    payloads: list[bytes] = []
    while (read := connection.take()) is not None:
        payloads += read.frames
    messages = [(type(each) is BinaryFrame, bytes(each)) for each in payloads]
    return messages, said(wire.written), *state(connection)


def theirs(pieces: list[bytes], extension: str) -> tuple[Any, ...]:
    """The library's own connection, its frames joined as its documentation says."""
    connection, wire = begin(ClientConnection, extension)
    feed(connection, [head(connection.protocol, extension), *pieces])
    messages: list[tuple[bool, bytes]] = []
    parts: list[bytes] = []
    binary = False
    while connection.recv_messages.frames.queue:
        frame = connection.recv_messages.frames.queue.popleft()
        if frame.opcode is not Opcode.CONT:
            binary = frame.opcode is Opcode.BINARY
        parts.append(bytes(frame.data))
        if frame.fin:
            messages.append((binary, b"".join(parts)))
            parts = []
    return messages, said(wire.written), *state(connection)


def said(written: bytes) -> list[tuple[int, bytes]]:
    """The frames that a client wrote behind its handshake, unmasked: their keys are random."""
    found = []
    while written and written != b"<eof>":
        length, mask = written[1] & 0x7F, written[2:6]
        body = written[6 : 6 + length]
        found.append((written[0], bytes(b ^ mask[at % 4] for at, b in enumerate(body))))
        written = written[6 + length :]
    return [*found, (-1, written)]


def feed(connection: Any, pieces: list[bytes]) -> None:
    for piece in pieces:
        if piece:
            connection.data_received(piece)
    connection.eof_received()


def state(connection: Any) -> tuple[Any, ...]:
    protocol = connection.protocol
    return protocol.state, protocol.close_rcvd, protocol.close_sent, str(protocol.parser_exc)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


text = st.text(max_size=200).map(str.encode)
payloads = st.one_of(text, st.binary(max_size=10), st.integers(0, 70_000).map(lambda n: b"x" * n))
opcodes = st.sampled_from([Opcode.TEXT] * 6 + list(Opcode))


@st.composite
def frames(draw: Any, extension: bool) -> bytes:
    """One frame, mostly as a venue sends it, sometimes as none may."""
    opcode = draw(opcodes)
    payload = draw(payloads if opcode is Opcode.BINARY else text)
    if opcode in (Opcode.PING, Opcode.PONG):
        payload = payload[:125]
    if opcode is Opcode.CLOSE:
        payload = draw(st.sampled_from([b"", b"\x03\xe8", b"\x03\xf4restart", b"\x00\x01", b"x"]))
    is_control = opcode in (Opcode.PING, Opcode.PONG, Opcode.CLOSE)
    frame = Frame(opcode, payload, fin=is_control or draw(st.sampled_from([True] * 5 + [False])))
    deflates = extension and frame.fin and opcode is not Opcode.CONT and draw(st.booleans())
    encoders = [PerMessageDeflate(True, True, 15, 15)] if deflates else []
    return bytes(
        frame.serialize(mask=draw(st.sampled_from([False] * 20 + [True])), extensions=encoders)
    )


streams = st.lists(frames(extension=False), max_size=12).map(b"".join)
compressed = st.lists(frames(extension=True), max_size=8).map(b"".join)
DEFLATE = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


@settings(max_examples=300)
@given(streams, st.lists(st.integers(0, 1 << 20), max_size=6))
async def test_frames_cut_anywhere_give_what_the_library_gives(
    data: bytes, places: list[int]
) -> None:
    pieces = cut(data, places)
    assert ours(pieces, "") == theirs(pieces, "")


@settings(max_examples=150)
@given(compressed, st.lists(st.integers(0, 1 << 20), max_size=6))
async def test_compressed_frames_cut_anywhere_too(data: bytes, places: list[int]) -> None:
    pieces = cut(data, places)
    assert ours(pieces, DEFLATE) == theirs(pieces, DEFLATE)


@settings(max_examples=150)
@given(streams, st.binary(max_size=40), st.lists(st.integers(0, 1 << 20), max_size=4))
async def test_junk_ends_both_in_the_same_way(data: bytes, junk: bytes, places: list[int]) -> None:
    pieces = cut(data + junk, places)
    assert ours(pieces, "") == theirs(pieces, "")


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
async def test_every_form_of_length_is_read_byte_by_byte_and_whole(length: int) -> None:
    data = bytes(Frame(Opcode.TEXT, b"x" * length).serialize(mask=False)) + b"\x81\x01y"
    for pieces in ([data], [data[:1], data[1:2], data[2:3], data[3:9], data[9:]]):
        messages, *_ = ours(pieces, "")
        assert messages == [(False, b"x" * length), (False, b"y")]
        assert ours(pieces, "") == theirs(pieces, "")


async def test_a_frame_that_says_to_be_too_long_is_refused_before_it_comes() -> None:
    header = b"\x81\x7f" + (MAX_FRAME + 1).to_bytes(8)
    messages, answers, *_ = ours([header], "")
    assert messages == []
    assert answers[0][1][:2] == (1009).to_bytes(2)
    assert ours([header], "") == theirs([header], "")
