from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from kfws import errors
from kfws.cli.exits import ExitStatus, status_of
from kfws.errors import Interrupted, KfwsError


def all_errors(root: type[KfwsError] = KfwsError) -> Iterator[type[KfwsError]]:
    for each in root.__subclasses__():
        yield each
        yield from all_errors(each)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.UsageError, 2),
        (errors.MissingExtra, 2),
        (errors.Unreachable, 3),
        (errors.TimedOut, 3),
        (errors.NoConnection, 3),
        (errors.Unwelcome, 4),
        (errors.Refused, 5),
        (errors.ProtocolBroken, 6),
        (errors.Incomplete, 7),
        (errors.OutputError, 8),
        (errors.NothingCame, 9),
    ],
)
def test_each_error_has_the_status_of_the_design(error: type[KfwsError], status: int) -> None:
    assert status_of(error("…")) == status


def test_no_error_of_ours_ends_as_a_bug() -> None:
    for error in all_errors():
        made = error(signal.SIGINT) if error is Interrupted else error("…")
        assert status_of(made) is not ExitStatus.BUG


def test_a_signal_gives_128_and_its_number() -> None:
    assert status_of(Interrupted(signal.SIGHUP)) == ExitStatus.HANGUP
    assert status_of(Interrupted(signal.SIGINT)) == ExitStatus.INTERRUPT
    assert status_of(Interrupted(signal.SIGTERM)) == ExitStatus.TERMINATED


@pytest.mark.parametrize("error", [ValueError("x"), KfwsError("x"), BaseException()])
def test_what_nobody_foresaw_is_a_bug(error: BaseException) -> None:
    assert status_of(error) == 1


def test_every_status_has_a_meaning_of_its_own() -> None:
    meanings = [each.meaning for each in ExitStatus]
    assert len(set(meanings)) == len(meanings) == 13
    assert all("\n" not in each for each in meanings)


def test_the_statuses_are_those_of_the_design() -> None:
    assert [int(each) for each in ExitStatus] == [*range(10), 129, 130, 143]
