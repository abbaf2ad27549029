"""The hot way and the library's way are one: any bytes, cut at any place, give the same."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import logging
import random
import tracemalloc
import zlib
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.extensions.base import Extension
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Protocol
from websockets.uri import parse_uri

from kfws.protocol.events import BinaryFrame
from kfws.sources.connection import FLUSHED, MAX_FRAME, Connection

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


def ours(pieces: list[bytes], extension: str, leaves: int | None = None) -> tuple[Any, ...]:
    connection, wire = begin(Connection, extension)
    connection.data_received(head(connection.protocol, extension))
    feed(connection, pieces, leaves)
    payloads: list[bytes] = []
    while (read := connection.take()) is not None:
        payloads += read.frames
    messages = [(type(each) is BinaryFrame, bytes(each)) for each in payloads]
    return messages, said(wire.written), *state(connection)


class BeginsAnew(Extension):
    """The library's extension, but behind a message that ends its deflate stream."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        begins = frame.opcode in (Opcode.TEXT, Opcode.BINARY) and frame.rsv1
        if begins and not self.inner.remote_no_context_takeover and self.inner.decoder.eof:
            self.inner.decoder = zlib.decompressobj(-self.inner.remote_max_window_bits)
        found: Frame = self.inner.decode(frame, max_size=max_size)
        return found

    def encode(self, frame: Frame) -> Frame:
        found: Frame = self.inner.encode(frame)
        return found


def theirs(pieces: list[bytes], extension: str, leaves: int | None = None) -> tuple[Any, ...]:
    """The library's own connection, its frames joined as its documentation says."""
    connection, wire = begin(ClientConnection, extension)
    connection.data_received(head(connection.protocol, extension))
    connection.protocol.extensions = [*map(BeginsAnew, connection.protocol.extensions)]
    feed(connection, pieces, leaves)
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


def feed(connection: Any, pieces: list[bytes], leaves: int | None) -> None:
    """``leaves``: ahead of which piece we say that we leave."""
    for number, piece in enumerate(pieces):
        if number == leaves and connection.protocol.state is OPEN:
            connection.protocol.send_close(1000)
            connection.send_data()
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


CONTROLS = [
    *(bytes(Frame(Opcode.PING, each).serialize(mask=False)) for each in (b"", b"x" * 125)),
    bytes(Frame(Opcode.PONG, b"kfws").serialize(mask=False)),
    *(
        bytes(Frame(Opcode.CLOSE, each).serialize(mask=False))
        for each in (b"", b"\x03\xe8", b"\x03\xf4restart", b"\x00\x01", b"x")
    ),
]


@st.composite
def frames(draw: Any) -> bytes:
    """One frame, mostly as a venue sends it, sometimes as none may."""
    opcode = draw(opcodes)
    if opcode in (Opcode.PING, Opcode.PONG, Opcode.CLOSE):
        return bytes(draw(st.sampled_from(CONTROLS)))
    payload = draw(payloads if opcode is Opcode.BINARY else text)
    frame = Frame(opcode, payload, fin=draw(st.sampled_from([True] * 5 + [False])))
    return bytes(frame.serialize(mask=draw(st.sampled_from([False] * 20 + [True]))))


streams = st.lists(frames(), max_size=12).map(b"".join)


@dataclass(frozen=True)
class Message:
    """What a venue that compresses may say at once."""

    payload: bytes
    opcode: Opcode = Opcode.TEXT
    fragments: int = 1
    between: bytes = b""
    """Control frames between the fragments."""
    is_deflated: bool = True
    level: int = 6
    blocks: int = 1
    """So many times, but the last, the compressor is made to end a block."""
    is_last: bool = False
    """Whether the last block says that none follows (RFC 7692, section 7.2.3.4)."""
    damage: int | None = None
    """The byte, counted from the end, that is another one on the wire."""


messages = st.builds(
    Message,
    payload=st.one_of(text, text, st.integers(0, 9000).map(lambda n: b"z%d" % n * (n // 4))),
    opcode=st.sampled_from([Opcode.TEXT] * 5 + [Opcode.BINARY]),
    fragments=st.sampled_from([1] * 4 + [2, 3]),
    between=st.sampled_from([b""] * 6 + CONTROLS),
    is_deflated=st.sampled_from([True] * 4 + [False]),
    level=st.sampled_from([0, 1, 6, 9]),
    blocks=st.sampled_from([1] * 4 + [2, 5]),
    is_last=st.sampled_from([False] * 9 + [True]),
    damage=st.sampled_from([None] * 15 + [0, 1, 7]),
)


def on_the_wire(sent: list[Message], takeover: bool, bits: int) -> bytes:
    """Compressed with one window over all messages, or with one for each."""
    data, window, is_ended = b"", compressor(bits, 6), False
    for each in sent:
        if not takeover or each.is_last or is_ended:
            window = compressor(bits, each.level)
            is_ended = False
        is_ended |= each.is_last and each.is_deflated
        packed = squeezed(each, window) if each.is_deflated else each.payload
        data += fragmented(each, packed)
    return data


def compressor(bits: int, level: int) -> Any:
    return zlib.compressobj(level, wbits=-bits)


def squeezed(message: Message, window: Any) -> bytes:
    step = len(message.payload) // message.blocks + 1
    packed: bytes = b""
    for at in range(0, step * message.blocks, step):
        packed += window.compress(message.payload[at : at + step])
        if at + step < step * message.blocks:
            packed += window.flush(zlib.Z_FULL_FLUSH if message.level % 2 else zlib.Z_SYNC_FLUSH)
    if message.is_last:
        packed += window.copy().flush(zlib.Z_FINISH) + b"\0"
    else:
        packed = (packed + window.flush(zlib.Z_SYNC_FLUSH)).removesuffix(FLUSHED)
    if message.damage is not None and message.damage < len(packed):
        place = len(packed) - 1 - message.damage
        packed = packed[:place] + bytes([packed[place] ^ 0xFF]) + packed[place + 1 :]
    return packed


def fragmented(message: Message, payload: bytes) -> bytes:
    step = len(payload) // message.fragments + 1
    parts = [payload[at * step : (at + 1) * step] for at in range(message.fragments)]
    found = b""
    for number, part in enumerate(parts):
        fin = 0x80 if number == len(parts) - 1 else 0
        rsv1 = 0x40 if message.is_deflated and number == 0 else 0
        opcode = message.opcode if number == 0 else Opcode.CONT
        found += (message.between if number else b"") + wired(fin | rsv1 | opcode, part)
    return found


def wired(first: int, payload: bytes) -> bytes:
    """One frame, not masked, whatever its first byte means."""
    plain = bytes(Frame(Opcode.BINARY, payload).serialize(mask=False))
    return bytes([first]) + plain[1:]


def negotiated(takeover: bool, bits: int) -> str:
    own_window = "" if takeover else "; server_no_context_takeover"
    return f"permessage-deflate; server_max_window_bits={bits}{own_window}"


departures = st.none() | st.integers(0, 6)
windows = st.tuples(st.booleans(), st.sampled_from([9, 12, 15]))


@settings(max_examples=300)
@given(streams, st.lists(st.integers(0, 1 << 20), max_size=6), departures)
async def test_frames_cut_anywhere_give_what_the_library_gives(
    data: bytes, places: list[int], leaves: int | None
) -> None:
    pieces = cut(data, places)
    assert ours(pieces, "", leaves) == theirs(pieces, "", leaves)


@settings(max_examples=200)
@given(
    st.lists(messages, max_size=8),
    windows,
    st.binary(max_size=20),
    st.lists(st.integers(0, 1 << 20), max_size=6),
    departures,
)
async def test_compressed_messages_too_whatever_their_window_and_whatever_is_wrong_with_them(
    sent: list[Message],
    window: tuple[bool, int],
    junk: bytes,
    places: list[int],
    leaves: int | None,
) -> None:
    pieces = cut(on_the_wire(sent, *window) + junk, places)
    extension = negotiated(*window)
    found, expected = ours(pieces, extension, leaves), theirs(pieces, extension, leaves)
    # The library looks at a text when somebody takes it, we when it comes.
    odd = next((n for n, each in enumerate(expected[0], 1) if is_odd(*each)), None)
    if odd is None and leaves is None:
        assert found == expected
    elif odd is None:
        assert but_for_our_close(found) == but_for_our_close(expected)
    else:
        assert found[0] == expected[0][:odd]
        # Who has left already has said so, and does not close twice.
        has_left = leaves is not None and (0x88, b"\x03\xe8") in found[1]
        assert has_left or (0x88, b"\x03\xefinvalid UTF-8") in found[1]


def but_for_our_close(told: tuple[Any, ...]) -> tuple[Any, ...]:
    """Who leaves between the head of a frame that is none and its end closes with 1000, not with
    1002: we look at it when it is whole."""
    messages, answers, state, received, _, fault = told
    return messages, [each for each in answers if each[0] != 0x88], state, received, fault


def is_odd(binary: bool, payload: bytes) -> bool:
    """Whether it says to be a text, and is no UTF-8."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return not binary
    return False


@pytest.mark.parametrize("takeover", [False, True])
async def test_fragmented_and_long_messages_share_one_window_with_the_short_ones(
    takeover: bool,
) -> None:
    # What each says is a piece of what was said before, so without that it makes no sense.
    text = random.Random(7).randbytes(5000).hex().encode()
    sent = [
        *(Message(text[:999]), Message(text), Message(text[:700])),
        *(
            Message(text[500:1500], fragments=3),
            Message(text[900:2000]),
            Message(text[::-1]),
            Message(b""),
            Message(text[-90:]),
        ),
    ]
    data, extension = on_the_wire(sent, takeover, 15), negotiated(takeover, 15)
    assert (len(data) < 13_000) == takeover
    messages, *_ = ours([data], extension)
    assert messages == [(False, each.payload) for each in sent]
    assert ours([data], extension) == theirs([data], extension)


@pytest.mark.parametrize("behind", [Message(b"two"), Message(b"two" * 9, fragments=3)])
async def test_a_message_may_end_its_deflate_stream_and_the_next_begins_another(
    behind: Message,
) -> None:
    short = Message(b"one", is_last=True)
    ended = replace(short, payload=b"one" * 50, fragments=2)
    long = Message(random.Random(7).randbytes(3000).hex().encode())
    sent = [short, behind, Message(b"two"), ended, behind, short, long, short, short, behind]
    messages, *_ = ours([on_the_wire(sent, True, 15)], negotiated(True, 15))
    assert messages == [(False, each.payload) for each in sent]


@pytest.mark.parametrize("fragments", [1, 5])
@pytest.mark.parametrize("takeover", [False, True])
@pytest.mark.parametrize("beyond", [0, 1, MAX_FRAME])
async def test_a_bomb_is_refused_and_not_inflated_to_its_end(
    beyond: int, takeover: bool, fragments: int
) -> None:
    sent = [Message(b"x"), Message(b"0" * (MAX_FRAME + beyond), fragments=fragments)]
    pieces, extension = [on_the_wire(sent, takeover, 15)], negotiated(takeover, 15)
    messages, answers, *_ = ours(pieces, extension)
    assert len(messages) == (1 if beyond else 2)
    assert (answers[0][1][:2] == (1009).to_bytes(2)) == (beyond > 0)
    assert ours(pieces, extension) == theirs(pieces, extension)


async def test_the_first_text_that_is_no_utf8_ends_it_and_nothing_behind_it_counts() -> None:
    sent = [Message(each) for each in (b"{}", b"\xff{", b"[]")]
    for is_deflated in (False, True):
        data = on_the_wire([replace(each, is_deflated=is_deflated) for each in sent], True, 15)
        for pieces in ([data], cut(data, [*range(len(data))])):
            messages, answers, *_ = ours(pieces, negotiated(True, 15))
            assert messages == [(False, b"{}"), (False, b"\xff{")]
            assert answers[0][1][:2] == (1007).to_bytes(2)


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


async def test_a_long_frame_that_trickles_in_is_not_copied_at_each_read() -> None:
    length = 2_000_000
    data = bytes(Frame(Opcode.TEXT, b"x" * length).serialize(mask=False)) + b"\x81\x01y"
    connection, _ = begin(Connection, "")
    connection.data_received(head(connection.protocol, ""))
    connection.data_received(data[: length // 2])
    tracemalloc.start()
    try:
        for at in range(length // 2, length, 4096):
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            connection.data_received(data[at : min(at + 4096, length)])
            assert tracemalloc.get_traced_memory()[1] - before < length // 4
    finally:
        tracemalloc.stop()
    connection.data_received(data[length:])
    assert connection.take().frames == [b"x" * length, b"y"]
