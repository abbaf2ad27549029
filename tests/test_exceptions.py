"""The venue's refusals: their names, what they say, and which status they end with."""

from __future__ import annotations

import pytest

from kfws import exceptions
from kfws.cli.exits import ExitStatus, status_of
from kfws.errors import KfwsError
from kfws.exceptions import (
    EXCEPTION_ASSIGNMENT,
    KrakenApiLimitExceededError,
    KrakenAuthenticationError,
    KrakenEarnAllocationInProgressError,
    KrakenEarnTemporaryUnavailableError,
    KrakenError,
    KrakenInvalidNonceError,
    KrakenServiceUnavailableError,
    MaxReconnectError,
    named,
)
from tests.frames_of import frames

# Names that python-kraken-sdk exports, as its documentation lists them.
DOCUMENTED = """
    KrakenApiLimitExceededError KrakenAuthenticationError KrakenAuthenticationFailedError
    KrakenBadRequestError KrakenCannotOpenPositionError KrakenCostMinimumNotMetError
    KrakenDeadlineElapsedError KrakenInsufficientAvailableFundsError
    KrakenInsufficientFundsError KrakenInsufficientMarginError KrakenInvalidAccountError
    KrakenInvalidAmountError KrakenInvalidAPIKeyError KrakenInvalidArgumentsError
    KrakenInvalidArgumentsIndexUnavailableError KrakenInvalidNonceError KrakenInvalidOrderError
    KrakenInvalidPriceError KrakenInvalidReferenceIdError KrakenInvalidSignatureError
    KrakenInvalidStakingMethodError KrakenInvalidUnitError KrakenMarginAllowedExceededError
    KrakenMarginLevelToLowError KrakenMarginPositionSizeExceededError
    KrakenMarketInOnlyCancelModeError KrakenMarketInOnlyPostModeError KrakenMaxFeeExceededError
    KrakenNotFoundError KrakenOrderForEditNotFoundError KrakenOrderLimitsExceededError
    KrakenOrderMinimumNotMetError KrakenPermissionDeniedError KrakenPositionLimitExceededError
    KrakenRateLimitExceededError KrakenRequiredArgumentMissingError
    KrakenServiceUnavailableError KrakenTemporaryLockoutError KrakenTickSizeInvalidCheckError
    KrakenToManyAddressesError KrakenUnavailableError KrakenUnknownAssetError
    KrakenUnknownAssetPairError KrakenUnknownMethodError KrakenUnknownOrderError
    KrakenUnknownPositionError KrakenUnknownReferenceIdError KrakenUnknownWithdrawKeyError
    MaxReconnectError
"""


@pytest.mark.parametrize("name", DOCUMENTED.split())
def test_each_documented_name_is_an_error_of_ours_that_says_something(name: str) -> None:
    error = getattr(exceptions, name)()
    assert isinstance(error, KfwsError)
    assert name in exceptions.__all__
    assert str(error).lower() == str(type(error).__doc__).lower()
    assert "\n" not in str(error)


def test_an_error_holds_the_venues_own_text() -> None:
    error = KrakenAuthenticationError("authenticationError", body="{}")
    assert str(error) == "the venue refused the API key or its signature: authenticationError"
    assert (error.text, error.status, error.body) == ("authenticationError", 200, "{}")


def test_no_two_exceptions_say_the_same() -> None:
    said = [kind.__doc__ for kind in set(EXCEPTION_ASSIGNMENT.values())]
    assert len(set(said)) == len(said)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KrakenError(), ExitStatus.REFUSED),
        (KrakenApiLimitExceededError(), ExitStatus.REFUSED),
        (KrakenAuthenticationError(), ExitStatus.UNWELCOME),
        (KrakenInvalidNonceError(), ExitStatus.UNWELCOME),
        (KrakenServiceUnavailableError(), ExitStatus.UNREACHABLE),
        (MaxReconnectError(), ExitStatus.UNREACHABLE),
    ],
)
def test_the_exit_status_is_that_of_the_kind(error: KfwsError, status: ExitStatus) -> None:
    assert status_of(error) == status


def test_a_text_is_named_whole_or_by_the_longest_that_begins_it() -> None:
    assert named("EEarnings:Busy") is KrakenEarnTemporaryUnavailableError
    longer = "EEarnings:Busy:Another (de)allocation for the same strategy is in progress"
    assert named(longer) is KrakenEarnAllocationInProgressError
    assert named(f"{longer}:x") is KrakenEarnAllocationInProgressError
    assert named("EEarnings:Busy:else") is KrakenEarnTemporaryUnavailableError
    assert named("EEarnings:Busyness") is None
    assert named("") is None


def test_the_words_of_recorded_failures_are_known() -> None:
    words = [each for each in frames("rest", kind="failure") if b'"error":"' in each]
    assert len(words) == 2
    for payload in words:
        assert any(f'"error":"{word}"'.encode() in payload for word in EXCEPTION_ASSIGNMENT)
