"""TAB without the parser: what is offered is what the parser would offer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typer._completion_classes import BashComplete
from typer.main import get_command

from kfws.cli.app import app
from kfws.cli.env import Env
from kfws.cli.tab import TABLE, Row, answer, offered
from kfws.products_cache import keep, kept_at, parse
from kfws.sim.market import Market
from tests.completions import table

ROWS = [Row(*each.split("\t")) for each in TABLE.read_text(encoding="utf-8").splitlines()]
PATHS = sorted({each.path for each in ROWS})


def test_the_table_is_what_the_parser_knows() -> None:
    assert TABLE.read_text(encoding="utf-8") == table(), "`make completions` brings it up to date"


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Env:
    """A world with a list of products and no settings."""
    folder = tmp_path_factory.mktemp("cache")
    keep(parse(Market(1, 0).instruments(), 0), kept_at(folder, "live"))
    keep(parse(Market(1, 0, products=1).instruments(), 0), kept_at(folder, "demo"))
    return Env({}, cache_folder=folder, config_folder=folder)


PARSER = get_command(app)


def without_it(words: list[str], env: Env) -> list[tuple[str, str]] | None:
    found = offered(words, env)
    return None if found is None else sorted(found)


def of_parser(words: list[str], env: Env) -> list[tuple[str, str]]:
    *before, begun = words
    asked: Any = BashComplete(PARSER, {"obj": env}, "kfws", "_KFWS_COMPLETE")
    found = asked.get_completions(before, begun)
    return sorted((each.value, " ".join((each.help or "").split())) for each in found)


@pytest.mark.parametrize("path", PATHS)
def test_every_command_offers_its_options_and_what_may_follow(path: str, env: Env) -> None:
    for begun in ("-", "--", "--s", "", "P", "F"):
        words = [*path.split(), begun]
        assert without_it(words, env) == of_parser(words, env)


@pytest.mark.parametrize("row", [each for each in ROWS if each.kind.startswith("option")])
def test_every_option_offers_its_values(row: Row, env: Env) -> None:
    for name in row.names.split():
        for begun in ("", "l", "--s"):
            words = [*row.path.split(), name, begun]
            assert without_it(words, env) == of_parser(words, env)


WORDS = st.one_of(
    st.sampled_from(["ticker", "trade,book", "PF_XBTUSD", "PF_", "PF_XBTUSD,P", "demo", "x", ""]),
    st.sampled_from(["-", "--", "-n", "5", "--env", "--url", "wss://x", "-f", "json", "-fjson"]),
    st.sampled_from(sorted({name for each in ROWS for name in each.names.split()})),
    st.text("-=sabP_", max_size=4),
)


@given(path=st.sampled_from(PATHS), words=st.lists(WORDS, min_size=1, max_size=6))
@example(path="subscribe", words=["--stamp", "--st"])
@example(path="subscribe", words=["--stamp", "ticker", "--st"])
@example(path="subscribe", words=["-o", "a", "-"])
@example(path="subscribe", words=["ticker", "--env", "demo", "PF_X"])
@example(path="subscribe", words=["ticker", "--env", "moon", "PF_X"])
@example(path="book", words=["PF_XBTUSD", "--fields", "ti"])
def test_where_there_is_an_answer_it_is_the_parsers(path: str, words: list[str], env: Env) -> None:
    found = without_it([*path.split(), *words], env)
    if found is not None:
        assert found == of_parser([*path.split(), *words], env)


@pytest.mark.parametrize(
    "line",
    [
        "ticker 'PF_X",
        "ticker -- PF_X",
        "ticker --env=demo PF_X",
        "ticker --nope PF_X",
        "ticker --env -f PF_X",
        "ticker --env moon PF_X",
        "ticker --config x.toml PF_X",
        "tickér PF_X",
    ],
)
def test_what_the_table_does_not_tell_is_left_to_the_parser(line: str, env: Env) -> None:
    asked = {"_KFWS_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": f"kfws subscribe {line}"}
    assert answer(Env(asked, cache_folder=env.cache, config_folder=env.config)) is None


def test_settings_that_may_name_another_venue_are_left_to_the_parser(
    env: Env, tmp_path: Path
) -> None:
    words = ["subscribe", "ticker", "PF_X"]
    for name in ("KFWS_ENV", "KFWS_URL", "KFWS_CONFIG"):
        set_ = Env({name: "demo"}, cache_folder=env.cache, config_folder=tmp_path)
        assert offered(words, set_) is None
        assert offered(["subscribe", "tra"], set_) == [("trade", "")]
    set_ = Env({}, cache_folder=env.cache, config_folder=tmp_path)
    (tmp_path / "config.toml").write_text('[profiles.x]\nenv = "demo"\n')
    assert offered(words, set_) is None
    for other in (b'on-full = "exit"\n', b"no toml", b"\xff"):
        (tmp_path / "config.toml").write_bytes(other)
        assert without_it(words, set_) == of_parser(words, set_)


def test_powershell_is_left_to_the_parser() -> None:
    asked = {"_KFWS_COMPLETE": "complete_powershell", "_TYPER_COMPLETE_ARGS": "kfws sub"}
    assert answer(Env(asked)) is None
