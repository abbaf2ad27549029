"""What a venue's certificate can be wrong in, through the whole program."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from tests.cli.inside import beside
from tests.cli.program import run
from tests.loopback import loopback

PAST, SOON, DAY = datetime(2021, 2, 3), datetime(2100, 1, 1), timedelta(1)

DATE = "look at this machine's date; where that is right, the venue has to renew it"
NAME = "name the venue in {option} as its certificate does"


@dataclass(frozen=True)
class Wrong:
    """A certificate, and what is to be said of it."""

    reason: str
    hint: str
    issued_for: str = "127.0.0.1"
    dialled: str = "127.0.0.1"
    dates: tuple[datetime, datetime] | None = None
    is_known: bool = True


WRONG = {
    "expired": Wrong("certificate has expired", DATE, dates=(PAST, PAST + DAY)),
    "early": Wrong("certificate is not yet valid", DATE, dates=(SOON, SOON + DAY)),
    "name": Wrong("not valid for 'localhost'", NAME, "venue.example", "localhost"),
    "address": Wrong("not valid for '127.0.0.1'", NAME, "venue.example"),
    "stranger": Wrong("local issuer", "{ca_file} holds no authority", is_known=False),
}


@pytest.fixture(params=WRONG)
def venue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Wrong, str, Path]]:
    """What is wrong, the place of the venue, and the file that the user trusts."""
    wrong = WRONG[request.param]
    trusted, stranger = trustme.CA(), trustme.CA()
    trusted.cert_pem.write_to_path(str(ca_file := tmp_path / "ca.pem"))
    start, end = wrong.dates or (None, None)
    mine = (trusted if wrong.is_known else stranger).issue_cert(
        wrong.issued_for, not_before=start, not_after=end
    )
    mine.configure_cert(context := ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    with beside(lambda: loopback(tls=context)) as standing:
        yield wrong, f"{wrong.dialled}:{urlsplit(standing.url).port}", ca_file


@pytest.mark.parametrize(
    ("command", "option", "scheme", "path"),
    [
        (("subscribe", "ticker", "PF_XBTUSD", "-n1", "-q"), "--url", "wss", "/ws/v1"),
        (("products", "--refresh"), "--rest-url", "https", ""),
    ],
)
def test_a_wrong_certificate_ends_with_3_and_one_line_that_says_what_is_wrong(
    command: tuple[str, ...], option: str, scheme: str, path: str, venue: tuple[Wrong, str, Path]
) -> None:
    wrong, place, ca_file = venue
    trust = ("--ca-file", str(ca_file), "--proxy", "none")
    done = run(*command, option, f"{scheme}://{place}{path}", *trust)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1
    said, _, hint = done.stderr.partition("; ")
    assert said.startswith(f"kfws: the certificate of {place} is not trusted: ")
    assert wrong.reason in said
    assert hint.startswith(wrong.hint.format(option=option, ca_file=ca_file))
