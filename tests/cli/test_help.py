"""What every page of help has: a summary in a line, options in groups with default and unit."""

from __future__ import annotations

import re

import pytest

from kfws.cli.commands import COMMANDS, GROUPS
from kfws.cli.exits import ExitStatus
from tests.cli.inside import run
from tests.commands import Entry, commands, default, every, leaves

LEAVES = [*leaves(commands())]
WITHOUT_GROUP = {"--help"}
# A length of time or of bytes, a clock's time, the word for none of either.
UNIT = re.compile(r"\b\d+(ms|s|m|h|d|B|kB|MB|GB)\b|\b\d\d:\d\d\b|ISO 8601|\d{4}-\d\d-\d\d")

EVERY = [*every(commands())]

each_command = pytest.mark.parametrize("entry", LEAVES, ids=lambda each: each.path)


@each_command
def test_a_command_begins_with_a_sentence_that_fits_a_line(entry: Entry) -> None:
    assert re.fullmatch(r"[A-Z].{5,90}\.", entry.summary)


@each_command
def test_a_command_has_examples_of_itself(entry: Entry) -> None:
    assert any(re.search(rf"(^|\| *){entry.path}\b", each) for each in entry.examples)


@each_command
def test_every_option_stands_in_a_group(entry: Entry) -> None:
    loose = {name for each in entry.options if not each.rich_help_panel for name in each.opts}
    assert {name for name in loose if name.startswith("--")} == WITHOUT_GROUP


@each_command
def test_every_command_can_be_told_how_loud_it_is_to_be(entry: Entry) -> None:
    names = {name for each in entry.options for name in each.opts}
    assert {"--verbose", "-v", "--quiet", "-q", "--log-format", "--debug"} <= names


@each_command
def test_every_option_with_a_value_says_what_holds_without_it(entry: Entry) -> None:
    silent = [
        each.opts[-1]
        for each in entry.options
        if not each.is_flag
        and not default(each)
        and not re.search(r"\((default: .|req)", each.help)
    ]
    assert silent == []


@each_command
def test_no_default_is_told_twice(entry: Entry) -> None:
    assert [x.opts[-1] for x in entry.options if default(x) and "(default" in x.help] == []


@each_command
def test_every_time_and_size_shows_its_unit(entry: Entry) -> None:
    silent = [
        each.opts[-1]
        for each in entry.options
        if re.search("TIME|SIZE", entry.metavar(each))
        and not UNIT.search(f"{each.help} {default(each)}")
    ]
    assert silent == []


@each_command
def test_a_value_has_a_name_or_choices(entry: Entry) -> None:
    for each in (*entry.options, *entry.arguments):
        assert not re.fullmatch(r"(str|int|float|text|integer)( range)?", entry.metavar(each))


@each_command
def test_every_text_is_whole_sentences(entry: Entry) -> None:
    for each in (*entry.options, *entry.arguments):
        assert re.search(r"[.)]$", each.help), each.name


@pytest.mark.parametrize("entry", EVERY, ids=lambda each: each.path)
def test_no_line_is_wider_than_80_columns(
    entry: Entry, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(*entry.path.split()[1:], "--help").status == 0
    lines = capfd.readouterr().out.splitlines()
    assert [each for each in lines if len(each) > 80] == []
    assert len(lines) > 5


def test_the_help_of_the_program_is_a_page_with_a_line_for_each_command_and_status(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for terminal in (False, True):
        assert run("--help", terminal=terminal).status == 0
        text = capfd.readouterr().out
        assert len(text.splitlines()) <= 56
        for command, summary in (COMMANDS | GROUPS).items():
            assert re.search(rf"^[│ ] *{command} +{re.escape(summary)} *│?$", text, re.MULTILINE)
        for status in ExitStatus:
            row = rf"^ +{status.value} +{re.escape(status.meaning)} *$"
            assert re.search(row, text, re.MULTILINE)
        assert "kfws subscribe ticker PF_XBTUSD" in text
