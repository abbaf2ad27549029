from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfws.cli.env import LineWriter
from kfws.cli.talk import Level, Talk

LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error")


class Paper(LineWriter):
    """A writer whose lines a test can read."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        self.lines.append(line)


def test_a_line_says_what_happened_then_what_to_do() -> None:
    paper = Paper()
    Talk(paper).say("warning", "torn", "the file was torn", hint="look at it")
    Talk(paper).say("error", "gone", "it is gone")
    assert paper.lines == ["kfws: the file was torn; look at it", "kfws: it is gone"]


@pytest.mark.parametrize("least", LEVELS)
def test_what_is_not_loud_enough_is_not_said(least: Level) -> None:
    paper = Paper()
    talk = Talk(paper, least=least)
    for level in LEVELS:
        talk.say(level, "code", level)
    loud = LEVELS[LEVELS.index(least) :]
    assert paper.lines == [f"kfws: {level}" for level in loud]


def test_json_lines_hold_level_code_message_hint_and_facts() -> None:
    paper = Paper()
    Talk(paper, as_json=True, now_ns=lambda: 7).say(
        "warning", "torn", "it was\ntorn", hint="Müll", bytes=3
    )
    [line] = paper.lines
    assert "\n" not in line
    assert json.loads(line) == {
        "at_ns": 7,
        "level": "warning",
        "code": "torn",
        "message": "it was\ntorn",
        "hint": "Müll",
        "bytes": 3,
    }


@given(st.text())
def test_whatever_the_venue_says_is_one_harmless_line(text: str) -> None:
    paper = Paper()
    Talk(paper).say("warning", "alert", f"the venue says: {text}", hint=text)
    [line] = paper.lines
    assert line.isprintable()


@given(st.text(alphabet=st.characters(codec=None, exclude_categories=[])))
def test_json_lines_can_be_read_whatever_the_venue_says(text: str) -> None:
    paper = Paper()
    Talk(paper, as_json=True).say("warning", "alert", text)
    [line] = paper.lines
    assert json.loads(line.encode(errors="replace"))["code"] == "alert"
    assert "\n" not in line


def test_a_thing_is_said_once_and_counted() -> None:
    paper = Paper()
    talk = Talk(paper)
    for _ in range(3):
        talk.once("warning", "broken", "a broken frame: empty")
    talk.once("warning", "broken", "a broken frame: not JSON")
    assert paper.lines == [
        "kfws: a broken frame: empty",
        "kfws: a broken frame: not JSON",
    ]
    paper.lines.clear()
    talk.say_counts()
    assert paper.lines == ["kfws: a broken frame: empty (so 3 times in all)"]
    paper.lines.clear()
    talk.say_counts()
    assert paper.lines == []


def test_what_was_counted_quietly_stays_quiet() -> None:
    paper = Paper()
    talk = Talk(paper, least="error")
    for _ in range(2):
        talk.once("warning", "broken", "a broken frame")
    talk.say_counts()
    assert paper.lines == []


class Narrow(Paper):
    """The same on a terminal of 30 columns."""

    @property
    def columns(self) -> int:
        return 30


def test_on_a_terminal_a_long_line_is_broken_at_words() -> None:
    paper = Narrow()
    talk = Talk(paper)
    talk.say("warning", "x", "the connection was lost", hint="look at https://status.example/of-it")
    talk.say("warning", "x", "a short one")
    assert paper.lines == [
        "kfws: the connection was lost;",
        "      look at",
        "      https://status.example/of-it",
        "kfws: a short one",
    ]


def test_lines_for_machines_stay_whole_on_a_terminal() -> None:
    paper = Narrow()
    Talk(paper, as_json=True).say("warning", "x", "word " * 20)
    [line] = paper.lines
    assert json.loads(line)["message"] == "word " * 20


def test_lines_reach_a_file(tmp_path: Path) -> None:
    with (tmp_path / "err").open("w+b") as file:
        talk = Talk(LineWriter(file.fileno()))
        talk.say("error", "x", "größer\x1b[31m")
        talk.flush()
        assert (tmp_path / "err").read_text() == "kfws: größer·[31m\n"
