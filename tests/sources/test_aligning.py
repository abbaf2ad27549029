from __future__ import annotations

from collections.abc import Iterable

from msgspec import structs

from kfws.protocol.events import Data, Event, Notice
from kfws.sources.aligning import KEPT_NS, Alignment
from tests.tapes.taping import AT, SECOND_NS, book, ticker


def only(events: Iterable[Event]) -> list[Event]:
    return [*events]


def brought(alignment: Alignment, leg: int, *messages: Data, given: bool = False) -> list[Event]:
    """What is passed on when a recording brings messages; of a leader the arbiter gives all."""
    now_ns = max(each.received_ns for each in messages)
    own = [structs.replace(each) for each in messages]
    return [*alignment.take(leg, own, own if given else [], now_ns)]


def test_what_the_leader_skipped_stands_ahead_of_what_it_has_next() -> None:
    alignment = Alignment()
    first, second, third = (ticker(AT + n) for n in range(3))
    assert brought(alignment, 2, first, second, third) == []
    assert brought(alignment, 1, first, third, given=True) == [first, second, third]
    assert not alignment.left_out


def test_what_comes_later_than_the_leader_stands_behind() -> None:
    alignment = Alignment()
    first, second, third = (ticker(AT + n) for n in range(3))
    assert brought(alignment, 1, first, third, given=True) == [first, third]
    assert brought(alignment, 2, first, second, third) == [second]


def test_what_was_passed_on_of_another_is_not_given_again() -> None:
    alignment = Alignment()
    first, second, third = (ticker(AT + n) for n in range(3))
    brought(alignment, 1, first, third, given=True)
    brought(alignment, 2, first, second, third)
    assert brought(alignment, 3, first, second, third) == []
    assert brought(alignment, 1, second, given=True) == []
    assert not alignment.left_out


def test_what_one_recording_has_twice_stays_twice() -> None:
    alignment, message = Alignment(), ticker(AT)
    again = ticker(AT)
    assert brought(alignment, 1, message, again, given=True) == [message, again]
    assert brought(alignment, 2, message, again) == []
    assert not alignment.left_out


def test_recordings_that_have_nothing_in_common_are_not_mixed() -> None:
    alignment = Alignment()
    for second in range(100):
        at_ns = AT + second * SECOND_NS
        assert brought(alignment, 2, ticker(at_ns + 1)) == []
        leading = ticker(at_ns + 2)
        assert brought(alignment, 1, leading, given=True) == [leading]
    assert 0 < alignment.left_out["ticker"] < 100
    assert only(alignment.end(AT)) == []
    assert alignment.left_out == {"ticker": 100}


def test_what_came_after_all_others_is_passed_on_at_the_end() -> None:
    alignment = Alignment()
    first, last = ticker(AT), ticker(AT + SECOND_NS)
    brought(alignment, 1, first, given=True)
    brought(alignment, 2, first, last)
    assert only(alignment.end(AT + SECOND_NS)) == [last]
    assert not alignment.left_out


def test_a_message_that_is_met_too_late_is_counted_once() -> None:
    alignment = Alignment()
    brought(alignment, 1, ticker(AT), given=True)
    brought(alignment, 2, ticker(AT + 1), ticker(AT + 2))
    late = ticker(AT + 2 * KEPT_NS)
    assert brought(alignment, 1, late, given=True) == [late]
    assert alignment.left_out == {"ticker": 1}
    assert brought(alignment, 2, late) == [ticker(AT + 2)]
    assert only(alignment.end(AT + 2 * KEPT_NS)) == []
    assert alignment.left_out == {"ticker": 1}


def test_streams_with_numbers_and_everything_else_pass_as_they_are() -> None:
    alignment = Alignment()
    notice = Notice(payload=None, received_ns=AT, event="info")
    assert only(alignment.take(1, [book(1)], [notice, book(1)], AT)) == [notice, book(1)]
    assert only(alignment.take(2, [book(1)], [], AT)) == []
    assert only(alignment.end(AT)) == []
    assert not alignment.left_out
