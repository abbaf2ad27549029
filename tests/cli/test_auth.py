from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kfws.protocol.auth import DEMO, sign_challenge
from kfws.sim.server import SimOptions, SimulatedVenue, serve
from tests.cli.inside import beside, run
from tests.cli.program import environment
from tests.cli.program import run as run_apart
from tests.cli.test_terminal import CTRL_C, terminal
from tests.loopback import loopback

KEY = {"KFWS_API_KEY": DEMO.key, "KFWS_API_SECRET": DEMO.secret}
WRONG = {"KFWS_API_KEY": "a-key-of-nobody", "KFWS_API_SECRET": "bm9ib2R5"}
OTHER = {"KRAKEN_FUTURES_API_KEY": "another-key-0002", "KRAKEN_FUTURES_API_SECRET": "YW5vdGhlcg=="}
CHALLENGE = "c100b894-1729-464d-ace1-52dbce11db42"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config"


@pytest.fixture
def kept(config: Path) -> Path:
    """A folder where `kfws auth login` has kept the simulator's key."""
    assert login(config).returncode == 0
    return config / "kfws"


def login(config: Path, *args: str, text: str = f"{DEMO.key}\n{DEMO.secret}\n"):  # type: ignore[no-untyped-def]
    env = environment(XDG_CONFIG_HOME=str(config))
    return run_apart("auth", "login", *args, input=text, env=env)


@pytest.fixture(scope="module")
def venue() -> Iterator[SimulatedVenue]:
    with beside(lambda: serve(SimOptions())) as found:
        yield found


# login, logout


def test_a_key_from_stdin_is_kept_and_said_without_being_shown(config: Path) -> None:
    done = login(config)
    path = config / "kfws/credentials/default.json"
    assert done.stdout == ""
    assert done.stderr == (
        f"kfws: profile default: key …3aT+ is kept in {path}; `kfws auth check` tries it\n"
    )
    assert json.loads(path.read_text()) == {"api_key": DEMO.key, "api_secret": DEMO.secret}


def test_the_guide_says_where_a_key_is_kept(tmp_path: Path) -> None:
    home = environment(HOME=str(tmp_path), XDG_CONFIG_HOME="")
    for args in ((), ("--profile", "paper")):
        done = run_apart("auth", "login", *args, input=f"{DEMO.key}\n{DEMO.secret}\n", env=home)
        assert done.returncode == 0, done.stderr
    kept = sorted((tmp_path / ".config").rglob("*.json"))
    assert [path.name for path in kept] == ["default.json", "paper.json"]
    guide = (Path(__file__).parents[2] / "docs" / "guide.md").read_text()
    assert f"`~/{kept[0].relative_to(tmp_path)}`" in guide


def test_a_kept_key_is_not_replaced_by_mistake(kept: Path) -> None:
    before = (kept / "credentials/default.json").read_bytes()
    done = login(kept.parent, text="other-key-00002\nb3RoZXI=\n")
    assert done.returncode == 2
    assert done.stderr == (
        "kfws: profile default holds a key already; --overwrite replaces it, "
        "--profile NAME keeps another\n"
    )
    assert (kept / "credentials/default.json").read_bytes() == before
    assert login(kept.parent, "--overwrite", text="other-key-00002\nb3RoZXI=\n").returncode == 0
    assert login(kept.parent, "--profile", "paper").returncode == 0


@pytest.mark.parametrize("text", ["", "nonsense", "a\nb c!\n", f"{DEMO.key}\n"])
def test_what_is_no_key_is_not_kept(config: Path, text: str) -> None:
    done = login(config, text=text)
    assert done.returncode == 4
    assert done.stderr.startswith("kfws: stdin: ")
    assert not config.exists()


def test_at_a_terminal_a_key_is_asked_for_and_not_echoed(config: Path) -> None:
    with terminal("auth", "login", XDG_CONFIG_HOME=str(config), columns=200) as screen:
        screen.until(lambda seen: any("API key" in line for line in seen))
        screen.type(f"{DEMO.key}\n")
        screen.until(lambda seen: any("API secret" in line for line in seen))
        screen.type(f"{DEMO.secret}\n")
        assert screen.end() == 0
        assert DEMO.key.encode()[:10] not in screen.raw
        assert DEMO.secret.encode()[:10] not in screen.raw
        assert screen.echoes()
    assert (config / "kfws/credentials/default.json").exists()


def test_who_leaves_instead_finds_the_terminal_as_it_was(config: Path) -> None:
    with terminal("auth", "login", XDG_CONFIG_HOME=str(config)) as screen:
        screen.until(lambda seen: any("API key" in line for line in seen))
        screen.type(f"{DEMO.key}\n")
        screen.until(lambda seen: any("API secret" in line for line in seen))
        screen.type(CTRL_C)
        assert screen.end() == 130
        assert screen.raw.endswith(b"\n")
        assert screen.echoes()
    assert not config.exists()


def test_a_key_that_is_forgotten_is_used_no_more(kept: Path) -> None:
    done = run("auth", "logout", config=kept)
    path = kept / "credentials/default.json"
    assert (done.status, done.err) == (0, f"kfws: profile default is gone from {path}\n")
    assert run("auth", "status", config=kept).status == 4
    assert run("auth", "logout", config=kept).status == 4


# Which key is used


def rows(*args: str, **more: object) -> list[tuple[str, str, str]]:
    done = run("auth", "status", "-f", "ndjson", *args, **more)  # type: ignore[arg-type]
    found = [json.loads(line) for line in done.out.splitlines()]
    return [(each["source"], each["state"], each["key"]) for each in found]


def test_status_lists_sources_in_the_order_of_asking(kept: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("filed-key-0003\nZmlsZWQ=\n")
    file.chmod(0o600)
    login(kept.parent, "--profile", "paper", text="paper-key-0004\ncGFwZXI=\n")
    variables = ("KFWS_API_KEY and KFWS_API_SECRET", "used", "…3aT+")
    official = "KRAKEN_FUTURES_API_KEY and KRAKEN_FUTURES_API_SECRET"
    paper = ("profile paper", "kept", "…0004")
    default = ("profile default", "kept", "…3aT+")
    both = KEY | OTHER
    assert rows(environ=both, config=kept) == [
        variables,
        (official, "kept", "…0002"),
        default,
        paper,
    ]
    assert rows(config=kept)[2:] == [("profile default", "used", "…3aT+"), paper]
    typed = rows("--profile", "paper", "--credentials", str(file), environ=both, config=kept)
    assert typed[0] == (str(file), "used", "…0003")
    assert typed[1] == paper
    assert rows("--profile", "paper", environ=both, config=kept)[0] == (
        "profile paper",
        "used",
        "…0004",
    )
    assert rows("--env", "sim", config=kept)[0] == ("the simulator's own", "used", "…3aT+")


def test_a_source_that_is_wrong_stops_there(kept: Path) -> None:
    done = run("auth", "status", environ={"KFWS_API_KEY": DEMO.key}, config=kept)
    assert done.status == 4
    first, _, last = (json.loads(line) for line in done.out.splitlines())
    assert first["state"] == "wrong"
    assert first["fault"].startswith("KFWS_API_KEY is set but KFWS_API_SECRET is not; ")
    assert last["state"] == "kept"
    assert done.err.startswith("kfws: KFWS_API_KEY and KFWS_API_SECRET comes first, and is wrong")


def test_status_has_the_forms_of_every_list(kept: Path) -> None:
    table = run("auth", "status", terminal=True, config=kept).out.decode().splitlines()
    assert table[0].split() == ["SOURCE", "STATE", "KEY", "FAULT"]
    csv = run("auth", "status", "-f", "csv", config=kept).out.decode().splitlines()
    assert csv[0] == "source,state,key,fault"
    assert csv[-1] == "profile default,used,…3aT+,"
    indented = run("auth", "status", "-f", "json", config=kept).out.decode()
    assert '\n  "source": "profile default"' in indented


def test_a_private_feed_and_a_request_take_the_profile(kept: Path, venue: SimulatedVenue) -> None:
    args = ("subscribe", "open_positions", "--url", venue.url, "-n", "1", "-q")
    assert run(*args, config=kept).status == 0
    assert run(*args, "--profile", "default", environ=WRONG, config=kept).status == 0
    assert run(*args, "--profile", "paper", config=kept).said == [
        "kfws: no profile paper is kept; `kfws auth login --profile paper` keeps one"
    ]
    assert run(*args, environ=WRONG, config=kept).status == 4
    asked = run("request", "GET", "openorders", "--env", "sim", "--profile", "no", config=kept)
    assert asked.status == 4


def test_a_profile_of_settings_alone_needs_no_key_of_its_own(
    tmp_path: Path, venue: SimulatedVenue
) -> None:
    (tmp_path / "config.toml").write_text('[profiles.record]\nformat = "raw"\n')
    args = ("subscribe", "open_positions", "--url", venue.url, "-n", "1", "-q")
    done = run(*args, "--profile", "record", environ=KEY, config=tmp_path)
    assert (done.status, done.err) == (0, "")


# check


def checked(*args: str, **more: object) -> tuple[int, list[tuple[str, str]], str]:
    done = run("auth", "check", *args, **more)  # type: ignore[arg-type]
    found = [json.loads(line) for line in done.out.splitlines()]
    return done.status, [(each["check"], each["state"]) for each in found], done.err


GOOD = [("key", "ok"), ("connection", "ok"), ("challenge", "ok"), ("private feed", "ok")]


def test_a_good_key_is_said_to_be_good(venue: SimulatedVenue) -> None:
    assert checked("--url", venue.url, environ=KEY) == (0, GOOD, "")
    status, found, _ = checked("--env", "sim")
    assert (status, found) == (0, GOOD)
    assert any('"signed_challenge"' in str(each) for each in venue.received)


def test_a_key_that_the_venue_does_not_take_is_status_4(venue: SimulatedVenue) -> None:
    status, found, err = checked("--url", venue.url, environ=WRONG)
    assert (status, found[-1][1]) == (4, "failed")
    [line] = err.splitlines()
    assert line.startswith(f"kfws: 1 of {len(found)} checks failed: ")
    assert line.endswith("what to do stands beside each")


def test_a_venue_that_is_away_is_status_3(unused_tcp_port: int) -> None:
    status, found, _ = checked("--url", f"ws://127.0.0.1:{unused_tcp_port}/ws/v1", environ=KEY)
    assert (status, found) == (3, [("key", "ok"), ("connection", "failed")])


def test_a_venue_that_hangs_up_is_status_3() -> None:
    with beside(lambda: loopback(lambda connection: connection.close())) as closing:
        status, found, _ = checked("--url", closing.url, environ=KEY)
    assert (status, found[-1]) == (3, ("challenge", "failed"))


def test_without_a_key_there_is_nothing_to_try(venue: SimulatedVenue) -> None:
    status, found, err = checked("--url", venue.url)
    assert (status, found) == (4, [])
    assert err.startswith("kfws: there is no API key to try; `kfws auth login`")


def test_a_key_is_not_tried_over_plain_text() -> None:
    status, _, err = checked("--url", "ws://venue.example/ws/v1", environ=KEY)
    assert status == 2
    assert "credentials never go over plain ws://" in err


# sign


def test_a_challenge_is_signed_as_the_venue_documents_it() -> None:
    done = run("auth", "sign", CHALLENGE, "--env", "sim")
    assert done.out.decode() == (
        "4JEpF3ix66GA2B+ooK128Ift4XQVtc137N9yeg4Kqsn9PI0Kpzbysl9M1IeCEdjg0zl00wkVqcsnG4bmnlMb3A==\n"
    )
    assert (done.status, done.err) == (0, "")
    mine = run("auth", "sign", "abc", environ=KEY)
    assert mine.out.decode() == sign_challenge(DEMO.secret, "abc") + "\n"
    assert run("auth", "sign", "abc").status == 4


def test_a_key_that_the_simulator_in_the_process_does_not_look_at_is_named() -> None:
    note = (
        "kfws: the key in KFWS_API_KEY is not used with --env sim; "
        "the simulator in the process has its own"
    )
    done = run("auth", "check", "--env", "sim", "-f", "ndjson", environ=WRONG)
    assert (done.status, done.said[1:]) == (0, [note])
    first = json.loads(done.out.splitlines()[0])
    assert first["found"] == "…3aT+ of the simulator's own"
    fills = ("subscribe", "fills", "--env", "sim", "-n", "1")
    assert note in run(*fills, environ=WRONG).said
    assert run(*fills, "-q", environ=WRONG).said == []
    assert note not in run(*fills, environ=KEY).said
    assert note not in run("subscribe", "trade", "PF_XBTUSD", "--env", "sim", "-n", "1").said
