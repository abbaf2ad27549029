"""The package as pip sees it. What is marked ``dist`` runs in ``make dist``, on what was built."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from importlib import metadata
from pathlib import Path

import pytest

import kfws

ROOT = Path(__file__).parent.parent
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_version_stands_in_one_place() -> None:
    assert "version" not in PROJECT
    assert "version" in PROJECT["dynamic"]
    holders = [p for p in (ROOT / "kfws").rglob("*.py") if kfws.__version__ in p.read_text()]
    assert holders == [ROOT / "kfws" / "__init__.py"]


def test_what_is_installed_is_what_is_imported() -> None:
    assert metadata.version("kfws") == kfws.__version__


def test_the_command_kfws_is_installed() -> None:
    [script] = metadata.entry_points(group="console_scripts", name="kfws")
    assert callable(script.load())
    assert script.value == "kfws.__main__:main"


def test_every_dependency_has_a_lower_bound() -> None:
    wanted = [*PROJECT["dependencies"]]
    for extra in PROJECT["optional-dependencies"].values():
        wanted += extra
    assert [need for need in wanted if not re.match(r"[\w.-]+(\[\w+\])?>=", need)] == []


def test_the_author_is_who_the_licence_names() -> None:
    [author] = PROJECT["authors"]
    assert f" {author['name']}\n" in (ROOT / "LICENSE").read_text()


def test_the_oldest_python_promised_is_the_one_of_the_checkers() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert PROJECT["requires-python"] == ">=3.11"
    assert tools["mypy"]["python_version"] == "3.11"
    assert tools["ruff"]["target-version"] == "py311"


@pytest.mark.dist
def test_the_wheel_holds_the_package_its_types_and_its_products() -> None:
    names = set(zipfile.ZipFile(built("kfws-*.whl")).namelist())
    assert {"kfws/py.typed", "kfws/sim/products.json", "kfws/cli/app.py"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    for place in ("bash-completion/completions/kfws", "zsh/site-functions/_kfws"):
        assert any(name.endswith(f".data/data/share/{place}") for name in names)
    assert any(name.endswith("share/fish/vendor_completions.d/kfws.fish") for name in names)
    pages = {each.name for each in (ROOT / "docs" / "man").iterdir()}
    assert {name.rpartition("/")[2] for name in names if "/share/man/man1/" in name} == pages
    assert {name.split("/")[0].split("-")[0] for name in names} == {"kfws"}


@pytest.mark.dist
def test_the_wheel_says_what_it_is() -> None:
    with zipfile.ZipFile(built("kfws-*.whl")) as wheel:
        [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        said = message_from_string(wheel.read(name).decode())
    for key, value in (
        ("Version", kfws.__version__),
        ("Summary", PROJECT["description"]),
        ("Author", PROJECT["authors"][0]["name"]),
        ("License-Expression", PROJECT["license"]),
        ("Requires-Python", PROJECT["requires-python"]),
        ("Description-Content-Type", "text/markdown"),
    ):
        assert said[key] == value
    assert said.get_all("Classifier") == PROJECT["classifiers"]
    assert said.get_all("Provides-Extra") == sorted(PROJECT["optional-dependencies"])
    assert said.get_payload() == (ROOT / "README.md").read_text()


@pytest.mark.dist
def test_the_sdist_holds_what_the_tests_need() -> None:
    with tarfile.open(built("kfws-*.tar.gz")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"LICENSE", "Makefile", "README.md", "CHANGELOG.md", "pyproject.toml"}
    assert wanted | {"tests/frames/book.ndjson", "tests/test_walls.py"} <= names
    assert tracked() - {".gitignore", ".ci/run"} <= names


def tracked() -> set[str]:
    """What git knows, where this is a clone."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=False
    )
    return set(listed.stdout.split("\n")) - {""}


@pytest.mark.dist
def test_the_wheel_of_the_sdist_is_the_wheel(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PIP, "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, built("kfws-*.tar.gz")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [path] = tmp_path.glob("*.whl")
    assert contents(path) == contents(built("kfws-*.whl"))


def contents(wheel: Path) -> dict[str, int]:
    """The checksum of each file."""
    return {each.filename: each.CRC for each in zipfile.ZipFile(wheel).infolist()}


def test_the_classifiers_are_those_that_hold() -> None:
    found = PROJECT["classifiers"]
    assert sorted(found) == found
    pythons = [each.rpartition(" ")[2] for each in found if re.search(r":: 3\.\d+$", each)]
    assert pythons[0] == PROJECT["requires-python"].removeprefix(">=")
    assert pythons == [f"3.{minor}" for minor in range(11, 11 + len(pythons))]


def built(pattern: str) -> Path:
    [path] = (ROOT / "dist").glob(pattern)
    return path
