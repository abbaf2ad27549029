from __future__ import annotations

import base64
import json
import os
import re
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.cli.env import Env
from kfws.cli.secrets import parse_credentials, without_secrets
from kfws.errors import Unwelcome
from kfws.protocol.auth import DEMO, Credentials

KEY, SECRET = DEMO.key, DEMO.secret


@pytest.mark.parametrize(
    "text",
    [
        f'api_key = "{KEY}"\napi_secret = "{SECRET}"\n',
        f"api_key='{KEY}'\napi_secret='{SECRET}'",
        f"API_SECRET={SECRET}\nAPI_KEY={KEY}",
        f"KEY={KEY}\nSecret={SECRET}",
        f"export KFWS_API_KEY={KEY}\nexport KFWS_API_SECRET={SECRET}",
        f"KRAKEN_FUTURES_API_KEY={KEY}\nKRAKEN_FUTURES_API_SECRET={SECRET}",
        f"# mine\n\n[kfws]\nkey = {KEY}  # read only\nsecret = '{SECRET}' # whole\nurl = x\n",
        f"\ufeffkey={KEY}\r\nsecret={SECRET}\r\n",
        f"{KEY}\n{SECRET}\n",
        f"\n  {KEY}  \n\n# the secret\n  {SECRET}",
        json.dumps({"api_key": KEY, "api_secret": SECRET}),
        json.dumps({"Key": KEY, "SECRET": f" {SECRET} ", "other": [1]}, indent=2),
        json.dumps({"KFWS_API_KEY": KEY, "KFWS_API_SECRET": SECRET}),
    ],
)
def test_credentials_are_read_in_every_accepted_form(text: str) -> None:
    assert parse_credentials(text, "keys.toml") == DEMO


def test_bare_lines_that_end_in_equal_signs_are_no_assignments() -> None:
    assert parse_credentials("abc==\nAAA=", "keys") == Credentials("abc==", "AAA=")


MARK = "c2VjcmV0LW1hcms"  # stands in everything that must never be shown
PARTS = [MARK[at : at + 5] for at in range(len(MARK) - 4)]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no API key and secret found"),
        (MARK, "no API key and secret found"),
        (f"{MARK}\n{MARK}\n{MARK}", "no API key and secret found"),
        (f"# {MARK}", "no API key and secret found"),
        (f"api_key={MARK}", "no API secret found"),
        (f"api_secret={MARK}", "no API key found"),
        (f"key={MARK}\nsecret={MARK}\napi_key={MARK}", "more than one API key found"),
        (f"key={MARK}\nsecret={MARK}\nsecret={MARK}", "more than one API secret found"),
        (f"key={MARK}\nsecret=", "the API key or its secret is empty"),
        (f"key=''\nsecret='{MARK}'", "the API key or its secret is empty"),
        (f"key={MARK}\nsecret='{MARK}", "the API secret is malformed"),
        (f"key={MARK} {MARK}\nsecret={MARK}", "the API key is malformed"),
        (f"key={MARK}\nsecret={MARK}\n{MARK}", "a line that is not name = value"),
        (f"key={MARK}\nsecret={MARK}!", "the API secret is malformed: not base64"),
        (f"key={MARK}\nsecret={MARK}é", "the API secret is malformed: not base64"),
        (f"key={MARK}é\nsecret=AAAA", "the API key holds characters that no key has"),
        (f"{MARK}\n{MARK}!", "the API secret is malformed: not base64"),
        (f'{{"key":"{MARK}","secret":"{MARK}"', "not a JSON object, though it starts like one"),
        (f'{{"key":"{MARK}\ud800"}}', "not a JSON object, though it starts like one"),
        (f'{{"{MARK}":' * 10_000, "not a JSON object, though it starts like one"),
        (f'{{"key":["{MARK}"],"secret":"{MARK}"}}', "the API key is malformed"),
        (f'{{"key":"{MARK}","secret":null}}', "the API secret is malformed"),
        (f'{{"{MARK}":"{MARK}"}}', "no API key found"),
        (f'{{"key":"{MARK}","secret":"{MARK}!"}}', "the API secret is malformed: not base64"),
    ],
)
def test_what_is_wrong_is_said_with_the_source_and_no_part_of_the_content(
    text: str, fault: str
) -> None:
    with pytest.raises(Unwelcome, match=re.escape(f"~/keys.toml: {fault}")) as caught:
        parse_credentials(text, "~/keys.toml")
    assert caught.value.hint
    assert_silent(caught.value)


def assert_silent(error: BaseException) -> None:
    """Nothing that an error report may print holds a part of the mark."""
    reports = "".join(traceback.format_exception(error))
    cause: BaseException | None = error
    while cause is not None:
        # vars: some errors of Python carry the text they failed on as an attribute.
        reports += f"{cause}{cause!r}{cause.args}{vars(cause)}{getattr(cause, 'object', '')}"
        cause = cause.__cause__ or cause.__context__
    assert not any(part in reports for part in PARTS)


def test_an_error_of_ours_has_no_cause_that_could_hold_the_text() -> None:
    for text in (f"key={MARK}\nsecret={MARK}é", f'{{"key":"{MARK}'):
        with pytest.raises(Unwelcome) as caught:
            parse_credentials(text, "keys")
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


def test_credentials_that_are_right_show_nothing_either() -> None:
    found = parse_credentials(f"key=…\nsecret={MARK}+".replace("…", "k" * 20), "keys")
    assert not any(part in f"{found}{found!r}" for part in PARTS)


@given(st.text())
def test_any_text_is_credentials_or_unwelcome(text: str) -> None:
    for given_text in (text, f"key={text}\nsecret={text}", "{" + text):
        try:
            found = parse_credentials(given_text, "keys")
        except Unwelcome as error:
            assert error.message.startswith("keys: ")  # noqa: PT017 - either outcome is right
            assert error.hint  # noqa: PT017
        else:
            assert base64.b64decode(found.secret)


@given(
    st.text("ABCDEFGHabcdefgh0123456789+/=", min_size=1).map(str.strip),
    st.binary(min_size=1).map(lambda raw: base64.b64encode(raw).decode()),
    st.sampled_from(["{0}\n{1}", "key={0}\nsecret={1}", '{{"key":"{0}","secret":"{1}"}}']),
)
def test_any_key_and_secret_come_out_as_they_went_in(key: str, secret: str, form: str) -> None:
    text = form.format(key, secret)
    assert parse_credentials(text, "keys") == Credentials(key, secret)


# The environment


def from_environment(environ: dict[str, str]) -> Credentials | None:
    env = Env(environ, config_folder=Path(os.devnull))
    return env.find_credentials(None, file=None, command=None)


OURS = {"KFWS_API_KEY": KEY, "KFWS_API_SECRET": SECRET}
OFFICIAL = {"KRAKEN_FUTURES_API_KEY": "official", "KRAKEN_FUTURES_API_SECRET": "AAAA"}


def test_an_environment_without_credentials_has_none() -> None:
    assert from_environment({}) is None
    assert from_environment({"KFWS_API_KEY": "", "KFWS_API_SECRET": " "}) is None


def test_our_variables_win_over_those_of_the_official_cli() -> None:
    assert from_environment(OFFICIAL | OURS) == DEMO
    assert from_environment(OFFICIAL) == Credentials("official", "AAAA")
    assert from_environment(OFFICIAL | {"KFWS_API_KEY": ""}) == Credentials("official", "AAAA")


@pytest.mark.parametrize("missing", [*OURS, *OFFICIAL])
def test_half_a_pair_is_unwelcome_and_the_missing_variable_is_named(missing: str) -> None:
    pair = dict(OURS if missing in OURS else OFFICIAL)
    pair[missing] = ""
    with pytest.raises(Unwelcome, match=f"but {missing} is not") as caught:
        from_environment(pair)
    assert caught.value.hint == f"set {missing} too"


def test_half_of_our_pair_is_unwelcome_even_where_the_official_one_is_whole() -> None:
    with pytest.raises(Unwelcome, match="KFWS_API_SECRET is not"):
        from_environment(OFFICIAL | {"KFWS_API_KEY": KEY})


def test_a_malformed_secret_in_the_environment_is_not_shown() -> None:
    with pytest.raises(Unwelcome, match=r"KFWS_API_KEY and .*not base64") as caught:
        from_environment({"KFWS_API_KEY": MARK, "KFWS_API_SECRET": MARK + "é"})
    assert_silent(caught.value)


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        (["subscribe", "book", "-o", "a b"], "kfws subscribe book -o 'a b'"),
        (["--credentials-command", "echo key"], "kfws --credentials-command '***'"),
        (["--credentials-command=echo key"], "kfws '--credentials-command=***'"),
        (["--proxy", "http://me:pass@x", "x"], "kfws --proxy '***' x"),
        (["--url", "wss://x/ws?token=secret"], "kfws --url 'wss://x/ws?***'"),
        (["--url=wss://x/ws?token=secret"], "kfws '--url=wss://x/ws?***'"),
        (["-o", "\udcff"], "kfws -o '?'"),
    ],
)
def test_a_command_line_is_shown_without_what_may_be_secret(args: list[str], shown: str) -> None:
    assert without_secrets(args) == shown
