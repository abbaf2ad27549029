"""What breaks, when, and on which connection: without a socket."""

from __future__ import annotations

import json
from collections.abc import Callable

import orjson
import pytest

from kfws.cli.commands.sim import sim
from kfws.errors import UsageError
from kfws.protocol.venue import Publication
from kfws.sim.faults import (
    KINDS,
    Counters,
    Course,
    Ending,
    Faults,
    Greeting,
    Later,
    Sent,
    Step,
    Struck,
    Withheld,
    parse,
)

ACK = b'{"event":"subscribed","feed":"book","product_ids":["PF_XBTUSD"]}'
SNAPSHOT = b'{"feed":"book_snapshot","product_id":"PF_XBTUSD","seq":9,"bids":[],"asks":[]}'
CHALLENGE = b'{"event":"challenge","message":"c100b894-1729-464d-ace1-52dbce11db42"}'


def book(seq: int, product: str = "PF_XBTUSD") -> Publication:
    payload = b'{"feed":"book","product_id":"%s","seq":%d}' % (product.encode(), seq)
    return Publication("book", product, payload)


def ticker(time: int) -> Publication:
    payload = b'{"feed":"ticker","product_id":"PF_XBTUSD","time":%d}' % time
    return Publication("ticker", "PF_XBTUSD", payload)


def struck(*specs: str) -> Course:
    """A connection that these faults, due at once, have struck."""
    faults = Faults(specs, 1)
    course = faults.course(1)
    for _, fault in faults.aim(0, [course]):
        course.suffer(fault)
    return course


def sent(steps: list[Step]) -> list[bytes]:
    return [step.payload for step in steps if isinstance(step, Sent)]


def withheld(steps: list[Step]) -> list[bytes]:
    return [step.payload for step in steps if isinstance(step, Withheld)]


def payloads(*published: Publication) -> list[bytes]:
    return [each.payload for each in published]


# What was typed


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("Drop", "NAME"),
        ("drip", "there is no fault 'drip'; similar: drop"),
        ("dorp@2s", "there is no fault 'dorp'; similar: drop"),
        ("zzz", "there is no fault 'zzz'; there are drop, close"),
        ("drop=1", "takes no value"),
        ("drop@", "'' is no moment"),
        ("drop@5", "'5' is no moment"),
        ("drop@1s..5msgs", "no moment"),
        ("drop@5s:every=10msgs", "both"),
        ("drop:feed=book", "not 'feed'"),
        ("gap:feed=book@5s", "NAME"),
        ("drop:times", "times takes a value"),
        ("drop:times=0", "'0' is no number"),
        ("drop:conn=x", "'x' is no number"),
        ("close=999", "no close code"),
        ("close=1006", "no close code"),
        ("refuse=200", "no HTTP status"),
        ("refuse@3msgs", "before a handshake"),
        ("refuse:retry-after=x", "no length of time"),
        ("slow=3msgs", "no length of time"),
        ("huge=3", "no size"),
        ("gap:feed=ticker", "ticker has no numbers"),
        ("gap:feed=bok", "did you mean book"),
        ("gap:feed=zzz", "one of trade, book"),
        ("silent", "name the feed"),
        ("silent:feed=ticker:forever=yes", "forever takes no value"),
    ],
)
def test_what_cannot_be_understood_is_said_in_one_line(spec: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(spec)
    assert sentence in refused.value.message
    assert spec in refused.value.message
    assert "\n" not in refused.value.message


def test_a_fault_has_all_that_was_typed() -> None:
    fault = parse("gap=3@500ms..2s:every=20s:feed=book:product=PF_XBTUSD:conn=2:times=4")
    assert (fault.name, fault.value, fault.at, fault.conn) == ("gap", 3, (0.5, 2, "s"), 2)
    assert (fault.every, fault.times) == ((20, 20, "s"), 4)
    assert (fault.feed, fault.product) == ("book", "PF_XBTUSD")
    assert parse("drop@10..50msgs").at == (10, 50, "msgs")
    assert parse("huge=1.5MB").value == 1_500_000
    assert parse("refuse:retry-after=1.5").retry_after == "2"


def test_without_a_number_of_times_a_fault_strikes_once_and_every_goes_on() -> None:
    assert parse("drop@5s").times == 1
    assert parse("drop:every=5s").times == float("inf")
    assert parse("drop:every=5s").at == (5, 5, "s")


def test_the_help_of_the_command_lists_every_fault() -> None:
    lines = [line.strip() for line in (sim.__doc__ or "").splitlines()]
    for name, kind in KINDS.items():
        [line] = [line for line in lines if line.startswith((f"{name}:", f"{name}="))]
        assert line.endswith(f": {kind.summary}")
        assert ("=" in line) is bool(kind.value)


# When and whom


def test_a_fault_waits_for_its_time_and_strikes_once() -> None:
    faults = Faults(["drop@5s"], 1)
    course = faults.course(1)
    assert faults.aim(4.9, [course]) == []
    assert faults.aim(5.0, []) == []
    [(hit, fault)] = faults.aim(6.0, [course])
    assert (hit, fault.name) == (course, "drop")
    assert faults.aim(60.0, [faults.course(2)]) == []


def test_a_fault_of_one_connection_waits_for_that_one() -> None:
    faults = Faults(["drop@5s:conn=2"], 1)
    first, second = faults.course(1), faults.course(2)
    assert faults.aim(6.0, [first]) == []
    assert [hit for hit, _ in faults.aim(7.0, [first, second])] == [second]


def test_every_strikes_again_and_again_one_connection_at_a_time() -> None:
    faults = Faults(["broken:every=10s"], 1)
    courses = [faults.course(number) for number in (1, 2, 3)]
    assert faults.aim(9.0, courses) == []
    hit = [course.number for at in range(10, 300, 10) for course, _ in faults.aim(at, courses)]
    assert len(hit) == 29
    assert set(hit) == {1, 2, 3}


def test_the_seed_decides_where_chance_does() -> None:
    def moments(seed: int) -> list[int]:
        faults = Faults(["broken@1s..9s:every=1s..9s"], seed)
        course = faults.course(1)
        return [at for at in range(100) if faults.aim(at, [course])]

    assert moments(1) == moments(1) != moments(2)


def test_a_number_of_messages_counts_those_of_the_stream_on_one_connection() -> None:
    faults = Faults(["alerts=1@2msgs:times=2"], 1)
    for number in (1, 2, 3):
        steps = faults.course(number).carry([book(1), ticker(1), book(2)])
        assert len(sent(steps)) == (3 if number == 3 else 4)
    gap = Faults(["gap@2msgs:feed=book"], 1).course(1)
    steps = gap.carry([book(1), ticker(1), ticker(2), book(2), ticker(3), book(3), book(4)])
    assert withheld(steps) == payloads(book(3))


def test_every_so_many_messages() -> None:
    course = Faults(["alerts=1:every=10msgs"], 1).course(1)
    steps = course.carry([book(number) for number in range(1, 101)])
    assert steps.count(Struck("alerts=1:every=10msgs")) == 10


def test_handshakes_are_refused_and_delayed_as_often_as_asked() -> None:
    faults = Faults(["refuse=429:retry-after=2:times=2", "slow=3s@5s"], 1)
    refused = Greeting(0, 429, "2", ("refuse=429:retry-after=2:times=2",))
    assert [faults.greet(1, 0.0) for _ in range(3)] == [refused, refused, Greeting()]
    slow = Greeting(3, struck=("slow=3s@5s",))
    assert [faults.greet(2, 5.0) for _ in range(2)] == [slow, Greeting()]
    assert faults.slowest_s == 3


def test_without_faults_frames_pass_as_they_are() -> None:
    course = Faults([], 1).course(1)
    assert sent(course.answer([ACK, SNAPSHOT])) == [ACK, SNAPSHOT]
    assert sent(course.carry([book(10), ticker(1)])) == payloads(book(10), ticker(1))


# What becomes of frames


@pytest.mark.parametrize("name", ["drop", "close", "stall", "half-open", "restart"])
def test_after_an_end_nothing_is_sent(name: str) -> None:
    course = Faults([f"{name}@2msgs"], 1).course(1)
    steps = course.carry([book(1), book(2), book(3)])
    [ending] = [step for step in steps if isinstance(step, Ending)]
    assert ending.how == name
    assert sent(steps) == payloads(book(1), book(2))
    assert withheld(steps) == payloads(book(3))
    assert course.request(b'{"event":"subscribe","feed":"heartbeat"}', lambda: [ACK]) == []


def test_a_gap_withholds_numbered_frames_of_its_stream_only() -> None:
    course = struck("gap=2:feed=book:product=pf_xbtusd")
    other = book(1, "PF_ETHUSD")
    steps = course.answer([SNAPSHOT]) + course.carry(
        [book(10), other, ticker(1), book(11), book(12)]
    )
    assert withheld(steps) == payloads(book(10), book(11))
    assert sent(steps) == [SNAPSHOT, *payloads(other, ticker(1), book(12))]


def test_a_duplicate_is_the_same_frame_twice() -> None:
    steps = struck("duplicate").carry([book(1), book(2)])
    assert sent(steps) == payloads(book(1), book(1), book(2))


def test_a_reorder_swaps_a_frame_with_the_next_of_its_product() -> None:
    other = book(1, "PF_ETHUSD")
    steps = struck("reorder").carry([book(1), other, book(2), book(3)])
    assert sent(steps) == payloads(other, book(2), book(1), book(3))


def test_a_frame_that_waited_in_vain_is_withheld() -> None:
    course = struck("reorder")
    assert course.carry([book(1)]) == []
    assert course.unsent() == [Withheld(book(1).payload, "reorder")]
    ended = struck("reorder")
    ended.carry([book(1)])
    assert withheld(ended.suffer(parse("drop"))) == payloads(book(1))


def test_a_huge_frame_is_the_same_message_padded() -> None:
    [frame, after] = sent(struck("huge=2MB").carry([book(1), book(2)]))
    assert len(frame) == 2_000_000
    assert orjson.loads(frame) | {"padding": ""} == orjson.loads(book(1).payload) | {"padding": ""}
    assert after == book(2).payload


def test_broken_and_binary_frames_come_besides() -> None:
    course = Faults(["broken@1msgs", "binary=2@1msgs"], 1).course(1)
    steps = [step for step in course.carry([book(1), book(2)]) if isinstance(step, Sent)]
    assert [step.is_binary for step in steps] == [False, False, True, True, False]
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(steps[1].payload)


def test_a_storm_of_alerts_has_the_venues_words() -> None:
    [alert, *others] = sent(Faults([], 1).course(1).suffer(parse("alerts=20")))
    assert json.loads(alert) == {"event": "alert", "message": "Trading engine unavailable"}
    assert others == [alert] * 19


def asked(course: Course, feed: str = "book", product: str = "PF_XBTUSD") -> list[Step]:
    return course.request(subscribe(feed, product), answers([ACK, SNAPSHOT]))


def answers(frames: list[bytes]) -> Callable[[], list[bytes]]:
    return lambda: frames


def subscribe(feed: str, product: str) -> bytes:
    return orjson.dumps({"event": "subscribe", "feed": feed, "product_ids": [product]})


def test_an_acknowledgement_is_swallowed_with_or_without_what_follows() -> None:
    assert sent(asked(struck("no-ack"))) == [SNAPSHOT]
    course = struck("no-ack:no-data")
    assert asked(course) == []
    assert sent(asked(course)) == [ACK, SNAPSHOT]
    assert sent(asked(struck("no-ack:feed=trade"))) == [ACK, SNAPSHOT]


def test_a_snapshot_is_withheld() -> None:
    course = struck("no-snapshot:feed=book")
    steps = asked(course)
    assert (sent(steps), withheld(steps)) == ([ACK], [SNAPSHOT])
    assert sent(asked(course)) == [ACK, SNAPSHOT]


@pytest.mark.parametrize("lasting", ["", ":forever"])
def test_a_silent_stream_speaks_when_asked_for_anew_unless_it_never_does(lasting: str) -> None:
    course = struck(f"silent:feed=book{lasting}")
    assert sent(course.carry([book(1), ticker(1)])) == payloads(ticker(1))
    assert sent(asked(course, "ticker")) == [ACK]
    asked(course)
    assert sent(course.carry([book(2)])) == ([] if lasting else payloads(book(2)))


@pytest.mark.parametrize(
    ("spec", "alert"),
    [
        ("reject:feed=book", "Couldn't subscribe to invalid feed"),
        ("reject:feed=book:product=PF_XBTUSD", "Couldn't subscribe to invalid product `PF_XBTUSD`"),
        ("reject:feed=fills", "Failed to subscribe to authenticated feed"),
    ],
)
def test_a_rejected_feed_gets_the_venues_alert_on_every_connection(spec: str, alert: str) -> None:
    faults = Faults([spec], 1)
    for number in (1, 2):
        course = faults.course(number)
        [(_, fault)] = faults.aim(0, [course])
        course.suffer(fault)
        for _ in range(2):
            [answer] = sent(asked(course, fault.feed or ""))
            assert json.loads(answer) == {"event": "alert", "message": alert}
    assert sent(asked(course, "trade", "PF_ETHUSD")) == [ACK, SNAPSHOT]


def test_a_challenge_comes_late() -> None:
    course = struck("late-challenge=3s")
    assert course.answer([CHALLENGE]) == [Later(3, CHALLENGE)]
    assert course.answer([CHALLENGE]) == [Sent(CHALLENGE)]


def test_a_wrong_challenge_looks_like_a_right_one() -> None:
    [wrong] = sent(struck("wrong-challenge").answer([CHALLENGE]))
    assert len(wrong) == len(CHALLENGE)
    assert wrong != CHALLENGE


@pytest.mark.parametrize(
    "text",
    [b"no json", b"[]", b'{"event":"challenge"}', b'{"event":"subscribe","product_ids":7}'],
)
def test_any_request_reaches_the_venue(text: bytes) -> None:
    course = struck("reject:feed=book", "no-ack")
    assert course.request(text, answers([CHALLENGE])) == [Sent(CHALLENGE)]


def test_an_answer_that_is_no_object_passes() -> None:
    assert struck("no-ack").answer([b"[]"]) == [Sent(b"[]")]


# The numbers after a restart


def test_numbers_count_on_lower_after_each_restart() -> None:
    counters = Counters()
    assert counters.renumber(book(1000)) == book(1000)
    counters.restart()
    assert [counters.renumber(book(number)) for number in (1000, 1001)] == [book(900), book(901)]
    counters.restart()
    assert counters.renumber(book(1002)) == book(812)
    assert counters.renumber(ticker(5)) == ticker(5)


def test_the_trades_of_a_snapshot_are_renumbered_alike() -> None:
    counters = Counters()
    counters.restart()
    listed = Publication("trade", "PF_XBTUSD", b'{"trades":[{"seq":1000},{"seq":999}]}')
    assert counters.renumber(listed).payload == b'{"trades":[{"seq":900},{"seq":899}]}'
