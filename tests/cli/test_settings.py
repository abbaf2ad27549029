"""What stands in for an option that was not typed, and who wins."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.inside import Done, run

TRADES = ("subscribe", "trade", "PF_XBTUSD", "-q", "-n", "1")
FILE = """
env = "sim"
format = "raw"

[subscribe]
format = "csv"
output = ["-"]

[book]
depth = 3

[profiles.paper]
format = "json"
fields = "seq"

[profiles.paper.subscribe]
stamp = true
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.toml").write_text(FILE)
    return tmp_path


def shown(
    *args: str, environ: dict[str, str] | None = None, config: Path
) -> dict[str, list[object]]:
    """What `kfws config show` says: value and origin of each setting."""
    done = run("config", "show", *args, "-f", "ndjson", environ=environ, config=config)
    assert (done.status, done.err) == (0, "")
    rows = [json.loads(line) for line in done.out.splitlines()]
    return {row["setting"]: [row["value"], row["from"]] for row in rows}


def test_a_flag_wins_over_a_variable_and_that_over_the_file(folder: Path) -> None:
    of_file = run(*TRADES, config=folder)
    assert of_file.out.startswith(b"received_ns,kind,")
    of_variable = run(*TRADES, environ={"KFWS_FORMAT": "json"}, config=folder)
    assert of_variable.out.startswith(b"{\n")
    typed = run(*TRADES, "-f", "ndjson", environ={"KFWS_FORMAT": "json"}, config=folder)
    assert typed.out.startswith(b'{"feed":')
    assert {each.status for each in (of_file, of_variable, typed)} == {0}


def test_a_table_of_a_command_wins_over_the_top_and_a_profile_over_both(folder: Path) -> None:
    path = folder / "config.toml"
    plain, book = shown(config=folder), shown("book", config=folder)
    assert plain["format"] == ["csv", f"{path} [subscribe]"]
    assert plain["env"] == ["sim", str(path)]
    assert plain["stamp"] == [False, "default"]
    assert book["format"] == ["raw", str(path)]
    assert book["depth"] == ["3", f"{path} [book]"]
    paper = shown("--profile", "paper", config=folder)
    assert paper["format"] == ["json", f"{path} [profiles.paper]"]
    assert paper["stamp"] == [True, f"{path} [profiles.paper.subscribe]"]
    assert paper["profile"] == ["paper", "--profile"]
    assert shown(environ={"KFWS_PROFILE": "paper"}, config=folder)["format"] == paper["format"]


def test_a_profile_may_be_chosen_by_the_file_itself(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('profile = "a"\n[profiles.a]\nredundancy = 2\n')
    assert shown(config=tmp_path)["redundancy"][0] == "2"


def test_a_profile_sets_what_a_run_does(folder: Path) -> None:
    done = run(*TRADES, "--no-snapshots", "--profile", "paper", config=folder)
    assert done.status == 0
    assert [*json.loads(done.out)] == ["received_ns", "seq"]


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_another_file_may_be_named(how: str, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('env = "demo"')
    args = ("--config", str(other)) if how == "flag" else ()
    environ = {} if how == "flag" else {"KFWS_CONFIG": str(other)}
    assert shown(*args, environ=environ, config=folder)["env"] == ["demo", str(other)]
    assert shown(*args, environ=environ, config=folder)["format"] == ["auto", "default"]


def test_without_a_file_of_ones_own_all_is_as_ever(tmp_path: Path) -> None:
    assert {origin for _, origin in shown(config=tmp_path).values()} == {"default"}


def test_a_table_is_shown_on_a_terminal(folder: Path) -> None:
    done = run("config", "show", "-f", "auto", terminal=True, config=folder)
    header, *rows = done.out.decode().splitlines()
    assert header.split() == ["SETTING", "VALUE", "FROM"]
    assert f"{folder / 'config.toml'} [subscribe]" in "\n".join(rows)


def test_no_secret_is_shown(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        'proxy = "http://me:hunter2@proxy"\ncredentials-command = "echo hunter2"\n'
        'url = "wss://x/ws?token=hunter2"\n'
    )
    done = run("config", "show", config=tmp_path)
    assert b"hunter2" not in done.out
    assert done.out.count(b"***") == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "redundacy = 2",
            "no setting redundacy; similar: redundancy; `kfws config show` lists them",
        ),
        ("[subscrib]", "no setting subscrib; similar: subscribe; `kfws config show` lists them"),
        (
            "[subscribe]\non_ful = 1",
            "[subscribe] no setting on_ful; similar: on-full; `kfws config show` lists them",
        ),
        ("[book]\nutc = true", "[book] no setting utc; `kfws config show` lists them"),
        (
            "[profiles.a]\nstrct = true",
            "[profiles.a] no setting strct; similar: strict; `kfws config show` lists them",
        ),
        (
            "[profiles.a.book]\nx = 1",
            "[profiles.a] [book] no setting x; `kfws config show` lists them",
        ),
        ("profiles = 1", "profiles are tables; e.g. [profiles.paper]"),
        ("yes = true", "yes cannot be set; type --yes where you mean it"),
        ("overwrite = true", "overwrite cannot be set; type --overwrite where you mean it"),
        ("stamp = 1", "stamp is to be true or false; e.g. stamp = true"),
        ("env = true", 'env is to be text or a number; e.g. env = "…"'),
        ("count = 1979-05-27", 'count is to be text or a number; e.g. count = "…"'),
        ("output = [true]", 'output is to be text or a number; e.g. output = "…"'),
    ],
)
def test_what_is_no_setting_is_an_error_with_the_nearest_name(
    text: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(text)
    done = run("feeds", config=tmp_path)
    assert done == Done(2, b"", f"kfws: {tmp_path / 'config.toml'}: {said}\n")


@pytest.mark.parametrize("content", [b"env = ", b"\xff", None])
def test_a_file_that_cannot_be_read_is_told(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    if content is not None:
        path.write_bytes(content)
    done = run("feeds", "--config", str(path))
    assert (done.status, done.out) == (2, b"")
    assert done.err.startswith(f"kfws: {path} ")
    assert len(done.err.splitlines()) == 1


def test_help_works_beside_a_file_that_does_not(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("evn = 1")
    assert run("feeds", "--help", config=tmp_path).status == 0


def test_a_profile_that_is_none_is_told(folder: Path) -> None:
    done = run("feeds", "--profile", "papr", config=folder)
    path = folder / "config.toml"
    said = f"no profile papr in {path}; similar: paper; it is a table [profiles.papr]"
    assert done == Done(2, b"", f"kfws: {said}\n")


def test_what_is_wrong_with_a_setting_says_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('env = "mars"')
    done = run(*TRADES, config=tmp_path)
    assert done.status == 2
    assert f"'mars' is not one of 'live', 'demo', 'sim'; env is from {path}; " in done.err
    done = run(*TRADES, "--env", "sim", environ={"KFWS_STATS": "5x"})
    assert done.err.startswith("kfws: '5x' is not a duration; stats is from KFWS_STATS; ")


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ('env = "sim"', ["--url", "ws://127.0.0.1:1/ws/v1", "--attempts", "1"]),
        ('url = "ws://127.0.0.1:1/ws/v1"\nattempts = 1', []),
    ],
)
def test_a_venue_that_was_typed_replaces_the_one_that_is_set(
    text: str, args: list[str], tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(text)
    assert run(*TRADES, *args, config=tmp_path).status == 3
    assert run(*TRADES, "--env", "sim", config=tmp_path).status == 0


def test_what_means_nothing_beside_what_was_typed_gives_way(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        'env = "sim"\nrotate = "1h"\nkeep = "7d"\nrenew = "1h"\nformat = "csv"\n'
    )
    done = run(*TRADES, config=tmp_path)
    assert (done.status, done.err) == (0, "")
    done = run(*TRADES[:3], "-n", "1", "-o", str(tmp_path / "{n}.ndjson"), config=tmp_path)
    assert (done.status, done.said) == (0, [])  # -f governs stdout, which is silent
    assert (tmp_path / "1.ndjson").exists()


def test_several_outputs_may_be_set(tmp_path: Path) -> None:
    out = tmp_path / "a.ndjson"
    (tmp_path / "config.toml").write_text(f'env = "sim"\noutput = ["-", "{out}"]\n')
    done = run(*TRADES, config=tmp_path)
    assert (done.status, len(done.out.splitlines())) == (0, 1)
    assert out.exists()


def test_a_flag_in_a_variable_is_true_or_false(tmp_path: Path) -> None:
    done = run(*TRADES, "--env", "sim", environ={"KFWS_STAMP": "yes", "KFWS_SNAPSHOTS": "0"})
    assert json.loads(done.out)["received_ns"]
    assert json.loads(done.out)["feed"] == "trade"
    done = run(*TRADES, environ={"KFWS_STAMP": "perhaps"})
    assert done.status == 2
    assert "stamp is from KFWS_STAMP" in done.err


def test_the_file_of_the_docs_is_one(tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent.parent / "docs" / "config.md").read_text()
    [shown_file] = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "config.toml").write_text(shown_file)
    path = f"{tmp_path / 'config.toml'}"
    found = shown("--profile", "record", config=tmp_path)
    assert found["env"] == ["demo", path]
    assert found["metrics"] == ["9464", f"{path} [subscribe]"]
    assert found["sync"] == ["always", f"{path} [profiles.record]"]
    assert found["output"] == [["{feed}.ndjson.zst"], f"{path} [profiles.record.subscribe]"]


def test_an_unknown_command_has_no_settings() -> None:
    done = run("config", "show", "tikcer")
    assert done.status == 2
    assert done.err.startswith("kfws: no command tikcer; there are subscribe, book, ")
