from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import traceback
from pathlib import Path

import pytest

from kfws.cli.profiles import IN_KEYRING, Profiles
from kfws.errors import OutputError, Unwelcome, UsageError
from kfws.protocol.auth import DEMO, Credentials
from tests.cli.program import environment, run
from tests.needs import lacking

MINE = Credentials("my-own-key-0001", "bWluZQ==")
KEYS = f"{DEMO.key}\n{DEMO.secret}\n"


def test_a_key_comes_out_as_it_went_in(tmp_path: Path) -> None:
    profiles = Profiles(tmp_path / "new" / "credentials")
    assert profiles.find("default") is None
    assert profiles.names == []
    place = profiles.keep("default", DEMO)
    profiles.keep("paper", MINE)
    assert place == profiles.place("default") == str(tmp_path / "new/credentials/default.json")
    assert (profiles.get("default"), profiles.find("paper")) == (DEMO, MINE)
    assert profiles.names == ["default", "paper"]
    profiles.keep("paper", DEMO)
    assert profiles.get("paper") == DEMO


def test_what_is_kept_is_its_owners_alone_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    Profiles(folder).keep("default", DEMO)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.iterdir()] == ["default.json"]
    assert (folder / "default.json").stat().st_mode & 0o777 == 0o600


def test_a_kept_key_that_others_can_read_is_refused_with_the_line_that_helps(
    tmp_path: Path,
) -> None:
    profiles = Profiles(tmp_path)
    path = Path(profiles.keep("default", DEMO))
    path.chmod(0o644)
    with pytest.raises(Unwelcome, match="can be read by others") as caught:
        profiles.find("default")
    assert caught.value.hint == f"chmod 600 {path}"


def test_a_key_that_is_forgotten_is_gone(tmp_path: Path) -> None:
    profiles = Profiles(tmp_path)
    place = profiles.keep("default", DEMO)
    assert profiles.forget("default") == place
    assert profiles.find("default") is None
    for ask in (profiles.get, profiles.forget):
        with pytest.raises(Unwelcome, match="no profile default is kept") as caught:
            ask("default")
        assert caught.value.hint == "`kfws auth login --profile default` keeps one"


@pytest.mark.parametrize("name", ["", "..", "a/b", "../x", "A", "-a", "a" * 65, "a.b", "é", "a\n"])
def test_a_name_that_is_no_name_of_a_file_everywhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is no name"):
        Profiles(tmp_path).keep(name, DEMO)
    assert [*tmp_path.iterdir()] == []


def test_a_folder_that_cannot_be_made_is_told_without_the_secret() -> None:
    with pytest.raises(OutputError, match="cannot be written") as caught:
        Profiles(Path(os.devnull) / "kfws").keep("default", DEMO)
    assert DEMO.secret[:8] not in "".join(traceback.format_exception(caught.value))


def test_a_damaged_file_is_told_by_its_name(tmp_path: Path) -> None:
    profiles = Profiles(tmp_path)
    path = Path(profiles.keep("default", DEMO))
    path.write_text('{"api_key":')
    with pytest.raises(Unwelcome, match=re.escape(f"{path}: not a JSON object")):
        profiles.find("default")


# The system's keyring


def test_a_key_in_a_keyring_needs_the_extra(tmp_path: Path) -> None:
    (tmp_path / "keyring.py").write_text("raise ImportError\n")  # as where it is not installed
    path = tmp_path / "kfws/credentials/default.json"
    path.parent.mkdir(parents=True)
    path.write_text(IN_KEYRING)
    path.chmod(0o600)
    env = environment(XDG_CONFIG_HOME=str(tmp_path), PYTHONPATH=str(tmp_path))
    done = run("subscribe", "fills", "--url", "ws://127.0.0.1:1/ws/v1", env=env)
    assert done.returncode == 2
    assert done.stderr == (
        "kfws: profile default is kept in the system's keyring, which needs keyring; "
        "install kfws with its extra: 'kfws[keyring]'\n"
    )


@pytest.fixture
def with_keyring(tmp_path: Path) -> dict[str, str]:
    """The environment of a program on a machine with a keyring."""
    if importlib.util.find_spec("keyring") is None:
        lacking("keyring is not installed")
    return environment(
        XDG_CONFIG_HOME=str(tmp_path / "config"),
        PYTHON_KEYRING_BACKEND="tests.cli.keyring_in_a_file.InAFile",
        KFWS_TEST_KEYRING=str(tmp_path / "keyring"),
    )


def auth(env: dict[str, str], *args: str, input: str = "") -> subprocess.CompletedProcess[str]:
    return run("auth", *args, env=env, input=input)


def test_a_key_goes_into_the_systems_keyring_where_there_is_one(
    tmp_path: Path, with_keyring: dict[str, str]
) -> None:
    done = auth(with_keyring, "login", input=KEYS)
    assert "key …3aT+ is kept in the system's keyring" in done.stderr
    kept = tmp_path / "config/kfws/credentials/default.json"
    assert kept.read_text() == IN_KEYRING
    assert DEMO.secret in (tmp_path / "keyring").read_text()
    assert '"source":"profile default","state":"used"' in auth(with_keyring, "status").stdout
    assert auth(with_keyring, "logout").returncode == 0
    assert DEMO.secret not in (tmp_path / "keyring").read_text()
    assert not kept.exists()


def test_a_locked_keyring_is_told_and_a_file_takes_its_place(
    tmp_path: Path, with_keyring: dict[str, str]
) -> None:
    auth(with_keyring, "login", input=KEYS)
    (tmp_path / "keyring").write_text("locked")
    done = run("subscribe", "fills", "--url", "ws://127.0.0.1:1/ws/v1", env=with_keyring)
    assert done.returncode == 4
    assert done.stderr.startswith("kfws: the system's keyring does not give profile default; ")
    assert auth(with_keyring, "logout").returncode == 4
    again = auth(with_keyring, "login", "--overwrite", input=KEYS)
    assert "credentials/default.json" in again.stderr
    assert auth(with_keyring, "status").returncode == 0


def test_a_keyring_that_keeps_nothing_is_not_used(
    tmp_path: Path, with_keyring: dict[str, str]
) -> None:
    nothing = with_keyring | {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
    assert "credentials/default.json" in auth(nothing, "login", input=KEYS).stderr
