"""The venue's refusals of REST requests, by the names that python-kraken-sdk documents.

```
KfwsError
└── Refused ── KrakenError      the venue's answer says no (5)
    ├── Kraken…Error            named for what it says
    ├── … and Unwelcome         about the key, its signature or its rights (4)
    └── … and Unreachable       the venue, or the path, is not there (3)
```

``MaxReconnectError`` is no answer: the stream gave up dialling.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from kfws.errors import Refused, Unreachable, Unwelcome

__all__ = [
    "EXCEPTION_ASSIGNMENT",
    "KrakenApiLimitExceededError",
    "KrakenAuctionNotOwnedByUserError",
    "KrakenAuthenticationError",
    "KrakenAuthenticationFailedError",
    "KrakenBadRequestError",
    "KrakenCannotOpenPositionError",
    "KrakenCostMinimumNotMetError",
    "KrakenDeadlineElapsedError",
    "KrakenEarnAllocationExceededError",
    "KrakenEarnAllocationInProgressError",
    "KrakenEarnDeallocationExceededError",
    "KrakenEarnInsufficientFundsError",
    "KrakenEarnMinimumAllocationError",
    "KrakenEarnStrategyNotFoundError",
    "KrakenEarnTemporaryUnavailableError",
    "KrakenEarnTierVerificationError",
    "KrakenError",
    "KrakenInsufficientAvailableFundsError",
    "KrakenInsufficientFundsError",
    "KrakenInsufficientMarginError",
    "KrakenInvalidAPIKeyError",
    "KrakenInvalidAccountError",
    "KrakenInvalidAmountError",
    "KrakenInvalidArgumentBelowMinError",
    "KrakenInvalidArgumentOfferNotFoundError",
    "KrakenInvalidArgumentsError",
    "KrakenInvalidArgumentsExpireTimeError",
    "KrakenInvalidArgumentsIndexUnavailableError",
    "KrakenInvalidArgumentsStartTimeError",
    "KrakenInvalidNonceError",
    "KrakenInvalidOrderError",
    "KrakenInvalidPriceError",
    "KrakenInvalidReferenceIdError",
    "KrakenInvalidSignatureError",
    "KrakenInvalidStakingMethodError",
    "KrakenInvalidUnitError",
    "KrakenMarginAllowedExceededError",
    "KrakenMarginLevelToLowError",
    "KrakenMarginPositionSizeExceededError",
    "KrakenMarketInOnlyCancelModeError",
    "KrakenMarketInOnlyPostModeError",
    "KrakenMaxFeeExceededError",
    "KrakenNotFoundError",
    "KrakenOrderForEditNotFoundError",
    "KrakenOrderLimitsExceededError",
    "KrakenOrderMinimumNotMetError",
    "KrakenPermissionDeniedError",
    "KrakenPositionLimitExceededError",
    "KrakenRateLimitExceededError",
    "KrakenRequiredArgumentMissingError",
    "KrakenServiceUnavailableError",
    "KrakenTemporaryLockoutError",
    "KrakenTickSizeInvalidCheckError",
    "KrakenToManyAddressesError",
    "KrakenUnavailableError",
    "KrakenUnknownAssetError",
    "KrakenUnknownAssetPairError",
    "KrakenUnknownMethodError",
    "KrakenUnknownOrderError",
    "KrakenUnknownPositionError",
    "KrakenUnknownReferenceIdError",
    "KrakenUnknownWithdrawKeyError",
    "MaxReconnectError",
    "named",
]


def _lower(sentence: str) -> str:
    """As our sentences begin."""
    return sentence[:1].lower() + sentence[1:]


class KrakenError(Refused):
    """The venue refused the request"""

    def __init__(
        self, text: object = "", *, hint: str = "", status: int = 200, body: str = ""
    ) -> None:
        """``text``: the venue's own words; ``status``: of HTTP; ``body``: the whole answer."""
        meaning = _lower(self.__doc__ or type(self).__name__)
        super().__init__(f"{meaning}: {text}" if text else meaning, hint=hint)
        self.text = str(text)
        self.status = status
        self.body = body


class MaxReconnectError(Unreachable):
    """The venue was dialled as often as was allowed, and no connection stood"""

    def __init__(self, text: object = "", *, hint: str = "") -> None:
        super().__init__(str(text) or _lower(self.__doc__ or ""), hint=hint, permanent=True)


class KrakenInvalidArgumentsError(KrakenError):
    """An argument of the request is invalid"""


class KrakenBadRequestError(KrakenError):
    """The venue could not make sense of the request"""


class KrakenRequiredArgumentMissingError(KrakenError):
    """An argument that the request needs is missing"""


class KrakenInvalidArgumentsIndexUnavailableError(KrakenError):
    """There is no index price for a stop or profit order on this pair"""


class KrakenPermissionDeniedError(KrakenError, Unwelcome):
    """The key lacks the permission for this request"""


class KrakenServiceUnavailableError(KrakenError, Unreachable):
    """The venue is not in service"""


class KrakenMarketInOnlyCancelModeError(KrakenError):
    """The market only takes cancels now"""


class KrakenMarketInOnlyPostModeError(KrakenError):
    """The market only takes post-only orders now"""


class KrakenDeadlineElapsedError(KrakenError):
    """The deadline of the request has passed"""


class KrakenInvalidAPIKeyError(KrakenError, Unwelcome):
    """The venue does not know the API key"""


class KrakenInvalidSignatureError(KrakenError, Unwelcome):
    """The signature does not belong to the API key"""


class KrakenInvalidNonceError(KrakenError, Unwelcome):
    """The nonce was used before, or is too low"""


class KrakenInvalidOrderError(KrakenError):
    """The order is invalid"""


class KrakenInvalidPriceError(KrakenError):
    """The price is invalid"""


class KrakenAuthenticationError(KrakenError, Unwelcome):
    """The venue refused the API key or its signature"""


class KrakenAuthenticationFailedError(KrakenError, Unwelcome):
    """The venue could not authenticate the account"""


class KrakenCannotOpenPositionError(KrakenError):
    """The account may not open this position"""


class KrakenMarginAllowedExceededError(KrakenError):
    """The margin allowance is exceeded"""


class KrakenMarginLevelToLowError(KrakenError):
    """Equity or collateral is too low"""


class KrakenMarginPositionSizeExceededError(KrakenError):
    """The position would be larger than this pair allows"""


class KrakenInsufficientMarginError(KrakenError):
    """The venue has no funds left for this margin trade"""


class KrakenInsufficientFundsError(KrakenError):
    """The funds do not suffice"""


class KrakenInsufficientAvailableFundsError(KrakenError):
    """The available funds do not suffice"""


class KrakenOrderMinimumNotMetError(KrakenError):
    """The order is smaller than the smallest allowed"""


class KrakenCostMinimumNotMetError(KrakenError):
    """Price times volume is less than the least allowed"""


class KrakenTickSizeInvalidCheckError(KrakenError):
    """The price is no multiple of the tick size"""


class KrakenOrderLimitsExceededError(KrakenError):
    """There are too many open orders"""


class KrakenRateLimitExceededError(KrakenError):
    """Orders came faster than the venue allows"""


class KrakenApiLimitExceededError(KrakenError):
    """Requests came faster than the venue allows"""


class KrakenPositionLimitExceededError(KrakenError):
    """The position limit is exceeded"""


class KrakenUnknownOrderError(KrakenError):
    """The venue knows no such order"""


class KrakenUnknownPositionError(KrakenError):
    """The venue knows no such position"""


class KrakenUnknownAssetPairError(KrakenError):
    """The venue knows no such pair"""


class KrakenUnknownAssetError(KrakenError):
    """The venue knows no such asset"""


class KrakenInvalidUnitError(KrakenError):
    """The unit is none that the venue knows"""


class KrakenUnavailableError(KrakenError, Unreachable):
    """What was asked for is not available"""


class KrakenInvalidReferenceIdError(KrakenError):
    """The reference id is malformed"""


class KrakenUnknownReferenceIdError(KrakenError):
    """The venue knows no such reference id"""


class KrakenUnknownWithdrawKeyError(KrakenError):
    """The venue knows no such withdrawal key"""


class KrakenInvalidAmountError(KrakenError):
    """The amount is invalid"""


class KrakenInvalidStakingMethodError(KrakenError):
    """The staking method is invalid"""


class KrakenInvalidAccountError(KrakenError):
    """The account is invalid"""


class KrakenNotFoundError(KrakenError):
    """The venue found no such thing"""


class KrakenOrderForEditNotFoundError(KrakenError):
    """The order that was to be edited does not exist"""


class KrakenToManyAddressesError(KrakenError):
    """There are too many addresses"""


class KrakenUnknownMethodError(KrakenError, Unreachable):
    """The venue knows no such path or method"""


class KrakenTemporaryLockoutError(KrakenError, Unwelcome):
    """The account is locked for a while"""


class KrakenEarnMinimumAllocationError(KrakenError):
    """The allocation is less than the least allowed"""


class KrakenEarnAllocationInProgressError(KrakenError):
    """Another allocation to this strategy is under way"""


class KrakenEarnTemporaryUnavailableError(KrakenError):
    """Earn is not available for a few minutes"""


class KrakenEarnTierVerificationError(KrakenError):
    """The tier of the account is too low"""


class KrakenEarnStrategyNotFoundError(KrakenError):
    """The venue knows no such strategy"""


class KrakenEarnInsufficientFundsError(KrakenError):
    """The funds do not suffice for this allocation"""


class KrakenEarnAllocationExceededError(KrakenError):
    """The allocation exceeds the account's limit for the strategy"""


class KrakenEarnDeallocationExceededError(KrakenError):
    """The allocation exceeds the strategy's limit"""


class KrakenMaxFeeExceededError(KrakenError):
    """The fee is above the highest that was allowed"""


class KrakenInvalidArgumentsStartTimeError(KrakenError):
    """The start time is not before the expiry"""


class KrakenInvalidArgumentsExpireTimeError(KrakenError):
    """The expiry is too far away"""


class KrakenAuctionNotOwnedByUserError(KrakenError):
    """The auction belongs to somebody else"""


class KrakenInvalidArgumentBelowMinError(KrakenError):
    """The price is below the lowest allowed"""


class KrakenInvalidArgumentOfferNotFoundError(KrakenError):
    """The venue knows no such offer"""


EXCEPTION_ASSIGNMENT: Mapping[str, type[KrakenError]] = MappingProxyType(
    {
        "EGeneral:Invalid arguments": KrakenInvalidArgumentsError,
        "EGeneral:Invalid arguments:Index unavailable": KrakenInvalidArgumentsIndexUnavailableError,
        "EGeneral:Permission denied": KrakenPermissionDeniedError,
        "EGeneral:Unknown method": KrakenUnknownMethodError,
        "EGeneral:Temporary lockout": KrakenTemporaryLockoutError,
        "EGeneral:Invalid User:auction owned by someone else": KrakenAuctionNotOwnedByUserError,
        "EFunding:Max fee exceeded": KrakenMaxFeeExceededError,
        "EService:Unavailable": KrakenServiceUnavailableError,
        "EService:Market in cancel_only mode": KrakenMarketInOnlyCancelModeError,
        "EService:Market in post_only mode": KrakenMarketInOnlyPostModeError,
        "EService:Deadline elapsed": KrakenDeadlineElapsedError,
        "EAuth:Failed": KrakenAuthenticationFailedError,
        "EAPI:Invalid key": KrakenInvalidAPIKeyError,
        "EAPI:Invalid signature": KrakenInvalidSignatureError,
        "EAPI:Invalid nonce": KrakenInvalidNonceError,
        "EAPI:Invalid arguments:start_time must be < expire_time": KrakenInvalidArgumentsStartTimeError,
        "EAPI:Invalid arguments:expire_time above max": KrakenInvalidArgumentsExpireTimeError,
        "EAPI:Invalid arguments:price below min": KrakenInvalidArgumentBelowMinError,
        "EAPI:Invalid arguments:offer not found": KrakenInvalidArgumentOfferNotFoundError,
        "EAPI:Rate limit exceeded": KrakenApiLimitExceededError,
        "EAPI:Bad request": KrakenBadRequestError,
        "EOrder:Invalid order": KrakenInvalidOrderError,
        "EOrder:Invalid price": KrakenInvalidPriceError,
        "EOrder:Cannot open position": KrakenCannotOpenPositionError,
        "EOrder:Margin allowance exceeded": KrakenMarginAllowedExceededError,
        "EOrder:Margin level too low": KrakenMarginLevelToLowError,
        "EOrder:Margin position size exceeded": KrakenMarginPositionSizeExceededError,
        "EOrder:Insufficient margin": KrakenInsufficientMarginError,
        "EOrder:Insufficient funds": KrakenInsufficientFundsError,
        "EOrder:Order minimum not met": KrakenOrderMinimumNotMetError,
        "EOrder:Cost minimum not met": KrakenCostMinimumNotMetError,
        "EOrder:Tick size check failed": KrakenTickSizeInvalidCheckError,
        "EOrder:Orders limit exceeded": KrakenOrderLimitsExceededError,
        "EOrder:Rate limit exceeded": KrakenRateLimitExceededError,
        "EOrder:Positions limit exceeded": KrakenPositionLimitExceededError,
        "EOrder:Unknown order": KrakenUnknownOrderError,
        "EOrder:Unknown position": KrakenUnknownPositionError,
        "EFunding:Invalid reference id": KrakenInvalidReferenceIdError,
        "EFunding:Unknown reference id": KrakenUnknownReferenceIdError,
        "EFunding:Unknown withdraw key": KrakenUnknownWithdrawKeyError,
        "EFunding:Invalid amount": KrakenInvalidAmountError,
        "EFunding:Invalid staking method": KrakenInvalidStakingMethodError,
        "EFunding:Too many addresses": KrakenToManyAddressesError,
        "EFunding:Unknown asset": KrakenUnknownAssetError,
        "EQuery:Unknown asset": KrakenUnknownAssetError,
        "EQuery:Unknown asset pair": KrakenUnknownAssetPairError,
        "EEarnings:Below min:(De)allocation operation amount less than minimum": KrakenEarnMinimumAllocationError,
        "EEarnings:Busy:Another (de)allocation for the same strategy is in progress": KrakenEarnAllocationInProgressError,
        "EEarnings:Busy": KrakenEarnTemporaryUnavailableError,
        "EEarnings:Permission denied:The user's tier is not high enough": KrakenEarnTierVerificationError,
        "EGeneral:Invalid arguments:Invalid strategy ID": KrakenEarnStrategyNotFoundError,
        "EEarnings:Insufficient funds:Insufficient funds to complete the (de)allocation request": KrakenEarnInsufficientFundsError,
        "EEarnings:Above max:The allocation exceeds user limit for the strategy": KrakenEarnAllocationExceededError,
        "EEarnings:Above max:The allocation exceeds the total strategy limit": KrakenEarnDeallocationExceededError,
        "authenticationError": KrakenAuthenticationError,
        "insufficientAvailableFunds": KrakenInsufficientAvailableFundsError,
        "requiredArgumentMissing": KrakenRequiredArgumentMissingError,
        "apiLimitExceeded": KrakenApiLimitExceededError,
        "invalidUnit": KrakenInvalidUnitError,
        "Unavailable": KrakenUnavailableError,
        "invalidAccount": KrakenInvalidAccountError,
        "notFound": KrakenNotFoundError,
        "orderForEditNotFound": KrakenOrderForEditNotFoundError,
        # Words of Kraken Futures beyond those that python-kraken-sdk assigns.
        "insufficientFunds": KrakenInsufficientFundsError,
        "invalidAmount": KrakenInvalidAmountError,
        "invalidArgument": KrakenInvalidArgumentsError,
        "marketUnavailable": KrakenUnavailableError,
        "nonceBelowThreshold": KrakenInvalidNonceError,
        "nonceDuplicate": KrakenInvalidNonceError,
        "Json Parse Error": KrakenBadRequestError,
        "Server Error": KrakenServiceUnavailableError,
    }
)
"""What the venue says, word for word, and the exception of it. Spot's texts begin with E."""


def named(text: str) -> type[KrakenError] | None:
    """The exception of what the venue says: of the whole text, else of the longest that begins it;
    None where nobody has named it."""
    if text in EXCEPTION_ASSIGNMENT:
        return EXCEPTION_ASSIGNMENT[text]
    begins = [known for known in EXCEPTION_ASSIGNMENT if text.startswith(f"{known}:")]
    return EXCEPTION_ASSIGNMENT[max(begins, key=len)] if begins else None
