from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.protocol.events import Data, Opened, describe
from kfws.tapes import line
from kfws.tapes.line import Frame
from tests.sinks.events import all_data

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


def _written(payload: bytes, received_ns: int) -> bytes:
    return line.write(Data(payload=payload, received_ns=received_ns, feed="book"))


def test_the_stamp_is_the_first_key_and_the_payload_follows_untouched() -> None:
    payload = b'{"feed":"heartbeat","time":1534262350627}'
    assert _written(payload, 7) == b'{"received_ns":7,"feed":"heartbeat","time":1534262350627}'


def test_every_frame_comes_back_byte_for_byte() -> None:
    for event in all_data():
        assert line.read(line.write(event)) == Frame(event.payload, event.received_ns)


@pytest.mark.parametrize(
    "payload", [b"{}", b"{ }", b" { } ", b'  { "a" : 1 }\t', b'{"received_ns":1}']
)
def test_odd_but_legal_spacing_comes_back_too(payload: bytes) -> None:
    written = _written(payload, 12)
    assert orjson.loads(written)["received_ns"] is not None
    assert line.read(written + b"\n") == Frame(payload, 12)


@given(
    fields=st.dictionaries(st.text(max_size=4), _VALUES, max_size=4),
    received_ns=st.integers(0, 2**63 - 1),
    indented=st.booleans(),
)
def test_a_line_is_one_line_and_gives_back_payload_and_time(
    fields: dict[str, object], received_ns: int, indented: bool
) -> None:
    try:
        payload = orjson.dumps(fields, option=orjson.OPT_INDENT_2 if indented else None)
    except TypeError:  # integers beyond 64 bits are no fault of ours
        return
    written = _written(payload, received_ns)
    assert b"\n" not in written
    assert line.read(written) == Frame(payload.replace(b"\n", b" "), received_ns)


def test_line_breaks_between_tokens_become_spaces() -> None:
    payload = b'{\r\n"feed":"heartbeat",\n"time":1}'
    assert _written(payload, 1) == b'{"received_ns":1,  "feed":"heartbeat", "time":1}'


_MOMENTS = st.integers(0, 3) | st.integers(0, 2**63 - 1)
_USUAL = st.sampled_from([*(event.payload for event in all_data()), b'{"":"%b%d%%"}'])
_ODD = st.binary(max_size=5) | st.sampled_from(
    [b"{", b'{"', b"{#}", b"{}", b'{ "a":1}', b' {"a":1}', b'{"a":\n1}', b'{"a":1}\r\n']
)


@given(
    st.lists(st.tuples(_USUAL, _MOMENTS), min_size=1) | st.lists(st.tuples(_USUAL | _ODD, _MOMENTS))
)
def test_a_batch_gives_the_lines_that_its_messages_give_one_by_one(
    batch: list[tuple[bytes, int]],
) -> None:
    payloads, moments = [payload for payload, _ in batch], [at_ns for _, at_ns in batch]
    one_by_one = [_written(payload, at_ns) + b"\n" for payload, at_ns in batch]
    assert line.stamped(payloads, moments) == b"".join(one_by_one)


def test_an_own_event_comes_back_as_its_object() -> None:
    own = describe(Opened(received_ns=1, connection=1, url="wss://example.org/"))
    assert line.read(orjson.dumps(own) + b"\n") == own


@pytest.mark.parametrize(
    "text", [b"", b"\n", b'{"feed":"heartbeat"}', b"[1]", b'{"kfws":"gap"', b'{"received_ns":"x"}']
)
def test_what_is_no_line_of_a_tape_is_said_so(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        line.read(text)


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        (b'{"received_ns":17,"feed":"book"}', 17),
        (b' {"received_ns":17}', 17),
        (b'{"kfws":"header","at_ns":9}', 9),
        (b'{"feed":"book"}', None),
        (b"", None),
    ],
)
def test_the_moment_of_a_line_is_read_from_its_beginning(
    written: bytes, moment: int | None
) -> None:
    assert line.moment_of(written) == moment


@pytest.mark.parametrize("text", [b"", b'{"kf', b'{"kfws":"head', b'{"received_ns":17'])
def test_a_torn_line_is_told_by_its_beginning(text: bytes) -> None:
    assert line.is_begun(text)
    assert not line.is_begun(b"#" + text)
