from __future__ import annotations

import orjson

from kfws.protocol.events import Opened
from kfws.sinks.json import Json
from kfws.sinks.ndjson import Ndjson
from tests.frames_of import frame
from tests.sinks.events import all_data, data

_OPENED = Opened(received_ns=1, connection=1, url="ws://127.0.0.1/")


def test_an_object_is_indented_and_keeps_its_number_tokens() -> None:
    funding = frame("ticker", "key order as on the wire")
    text = Json().encode([data(funding)])
    assert text.startswith(b'{\n  "time": 1786046338005,\n  "product_id": "PF_XBTUSD",\n')
    assert b'"relative_funding_rate": 2.747066666667e-6,' in text
    assert text.endswith(b"}\n")


def test_the_objects_are_those_of_ndjson() -> None:
    events = [_OPENED, *all_data()]
    text = Json(stamp=True, events=True).encode(events).replace(b"\n}\n{", b"\n}\n\0{")
    lines = Ndjson(stamp=True, events=True).encode(events).splitlines()
    assert [orjson.loads(each) for each in text.split(b"\0")] == [orjson.loads(x) for x in lines]


def test_fields_and_an_empty_batch() -> None:
    trade = data(frame("trade", "recording kept only this one"))
    assert Json(fields=("price",)).encode([trade, _OPENED]) == b'{\n  "price": 83994.0\n}\n'
    assert Json().encode([]) == b""
