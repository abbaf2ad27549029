"""TAB, as the shells ask for it: a process that prints what goes on from what was typed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kfws.cli.shells import SCRIPTS
from kfws.products_cache import keep, kept_at, parse
from kfws.products_ids import beside
from kfws.sim.market import Market
from tests.cli.program import KFWS, PATIENCE_S, environment
from tests.completions import FOLDER
from tests.needs import need
from tests.test_walls import HEAVY


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of caches with a list of either venue."""
    home = tmp_path_factory.mktemp("cache")
    keep(parse(Market(1, 0).instruments(), 0), kept_at(home / "kfws", "live"))
    keep(parse(Market(1, 0, products=1).instruments(), 0), kept_at(home / "kfws", "demo"))
    return home


def tab(line: str, cache: Path) -> list[str]:
    """What the program offers for the last word of a line."""
    asked = environment(
        XDG_CACHE_HOME=str(cache),
        _KFWS_COMPLETE="complete_bash",
        COMP_WORDS=line,
        COMP_CWORD=str(len(line.split(" ")) - 1),
    )
    done = subprocess.run(
        KFWS, env=asked, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize("command", ["subscribe ticker", "subscribe trade PF_ETHUSD", "products"])
def test_tab_offers_ids_that_go_on_from_what_was_typed(command: str, cache: Path) -> None:
    assert tab(f"kfws {command} PF_X", cache) == ["PF_XBTUSD", "PF_XRPUSD"]


def test_tab_offers_what_is_traded_when_nothing_is_typed(cache: Path) -> None:
    offered = tab("kfws subscribe ticker ", cache)
    assert len(offered) == 31
    assert "in_xbtusd" not in offered


def test_tab_goes_on_behind_a_comma(cache: Path) -> None:
    assert tab("kfws subscribe ticker PF_XBTUSD,PI_X", cache) == [
        "PF_XBTUSD,PI_XBTUSD",
        "PF_XBTUSD,PI_XRPUSD",
    ]


def test_tab_knows_the_venue_that_was_named(cache: Path) -> None:
    assert tab("kfws subscribe --env demo ticker PF_", cache) == ["PF_XBTUSD"]
    assert tab("kfws subscribe --env sim ticker PF_", cache) == []
    assert tab("kfws subscribe --url wss://venue.example ticker PF_", cache) == []


@pytest.mark.parametrize("content", [None, b"", b'{"fetched_ns":1,"instruments":[{}]}'])
def test_tab_is_silent_where_no_sound_list_is_kept(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        path = kept_at(tmp_path / "kfws", "live")
        path.parent.mkdir()
        path.write_bytes(content)
    assert tab("kfws subscribe ticker PF_", tmp_path) == []


@pytest.mark.parametrize("ids", [None, b"PF_$(reboot)\n", b"\xff"])
def test_tab_reads_the_list_itself_where_no_sound_ids_are_beside_it(
    ids: bytes | None, tmp_path: Path
) -> None:
    path = kept_at(tmp_path / "kfws", "live")
    keep(parse(Market(1, 0).instruments(), 0), path)
    beside(path).unlink()
    if ids is not None:
        beside(path).write_bytes(ids)
    assert tab("kfws subscribe ticker PF_X", tmp_path) == ["PF_XBTUSD", "PF_XRPUSD"]


def test_tab_never_offers_what_a_shell_could_misread(tmp_path: Path) -> None:
    rows = b'{"symbol":"PF_$(reboot)","tradeable":true},{"symbol":"PF_XBTUSD","tradeable":true}'
    keep(parse(b'{"instruments":[%b]}' % rows, 0), kept_at(tmp_path / "kfws", "live"))
    assert tab("kfws subscribe ticker PF_", tmp_path) == ["PF_XBTUSD"]


@pytest.mark.parametrize(
    ("word", "offered", "by", "barred"),
    [
        ("PF_X", ["PF_XBTUSD", "PF_XRPUSD"], "tab", {"typer", "msgspec"}),
        ("--overwr", ["--overwrite"], "tab", {"typer", "msgspec"}),
        ('"PF_X', ["PF_XBTUSD", "PF_XRPUSD"], "shells", {"msgspec"}),
    ],
)
@pytest.mark.parametrize("shell", SCRIPTS)
def test_tab_pulls_in_nothing_heavy(
    shell: str, word: str, offered: list[str], by: str, barred: set[str], cache: Path
) -> None:
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: sys.stderr.write(' '.join(sys.modules)))\n"
        "from kfws.__main__ import main\n"
        "sys.argv = ['kfws']\n"
        "main()"
    )
    asked = environment(
        XDG_CACHE_HOME=str(cache),
        _KFWS_COMPLETE=f"complete_{shell}",
        COMP_WORDS=f"kfws subscribe ticker {word}",
        COMP_CWORD="3",
        _TYPER_COMPLETE_ARGS=f"kfws subscribe ticker {word}",
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=asked,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert [re.split(r"[:\t]", each)[0] for each in done.stdout.splitlines()] == offered
    loaded = set(done.stderr.split())
    assert f"kfws.cli.{by}" in loaded
    assert loaded & (HEAVY | barred) == set()


@pytest.mark.parametrize(("shell", "between"), [("zsh", ":"), ("fish", "\t")])
def test_zsh_and_fish_are_told_what_an_option_is(shell: str, between: str, cache: Path) -> None:
    asked = environment(
        XDG_CACHE_HOME=str(cache),
        _KFWS_COMPLETE=f"complete_{shell}",
        _TYPER_COMPLETE_ARGS="kfws --vers",
    )
    done = subprocess.run(
        KFWS, env=asked, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.stdout == f"--version{between}Print the version and leave.\n"
    assert (done.returncode, done.stderr) == (0, "")


def test_powershell_is_answered_by_the_parser(cache: Path) -> None:
    asked = environment(
        XDG_CACHE_HOME=str(cache),
        _KFWS_COMPLETE="complete_powershell",
        _TYPER_COMPLETE_ARGS="kfws subs",
        _TYPER_COMPLETE_WORD_TO_COMPLETE="subs",
    )
    done = subprocess.run(
        KFWS, env=asked, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.stdout.startswith("subscribe:::")
    assert (done.returncode, done.stderr) == (0, "")


def test_bash_itself_completes(cache: Path, tmp_path: Path) -> None:
    program = tmp_path / "kfws"
    program.write_text(f'#!/bin/sh\nexec {" ".join(KFWS)} "$@"\n')
    program.chmod(0o700)
    script = (
        f"source {FOLDER / 'kfws.bash'}\n"
        f'COMP_WORDS=("{program}" subscribe ticker FF_X); COMP_CWORD=3\n'
        f'_kfws_completion "{program}"; echo "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(
        [need("bash"), "-c", script],
        env=environment(XDG_CACHE_HOME=str(cache)),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("FF_XBTUSD_261127 FF_XBTUSD_261225\n", "")


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("kfws sub", ["subscribe"]),
        ("kfws subscribe tra", ["trade"]),
        ("kfws subscribe ticker,tra", ["ticker,trade"]),
        ("kfws subscribe open-", ["open-positions", "open-orders", "open-orders-verbose"]),
        ("kfws replay --feed fil", ["fills"]),
        ("kfws subscribe --on-full ", ["block", "drop-oldest", "exit"]),
        ("kfws subscribe --metr", ["--metrics"]),
        ("kfws subscribe ticker --fields las", ["last"]),
        ("kfws subscribe ticker --fields last,ind", ["last,index"]),
        ("kfws book PF_XBTUSD --fields ti", ["timestamp", "tickSize"]),
        ("kfws subscribe ticker --sort la", ["last"]),
        ("kfws subscribe tikcer --fields la", []),
        ("kfws config show pro", ["products"]),
    ],
)
def test_tab_offers_what_may_stand_there(line: str, offered: list[str], cache: Path) -> None:
    assert tab(line, cache) == offered


def test_tab_follows_the_settings_and_is_silent_where_they_are_broken(
    cache: Path, tmp_path: Path
) -> None:
    path = tmp_path / "x.toml"
    path.write_text('env = "demo"')
    line = f"kfws subscribe --config {path} ticker PF_"
    assert tab(line, cache) == ["PF_XBTUSD"]
    path.write_text("evn = 1")
    assert "PF_ETHUSD" in tab(line, cache)
