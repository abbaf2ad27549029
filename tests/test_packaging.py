"""The package as pip sees it. What is marked ``dist`` runs in ``make dist``, on what was built."""

from __future__ import annotations

import os
import re
import shutil
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
from tests.needs import need

ROOT = Path(__file__).parent.parent
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"].values()
NEEDS = [*PROJECT["dependencies"], *(each for extra in EXTRAS for each in extra)]


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
    assert [each for each in NEEDS if not re.match(r"[\w.-]+(\[\w+\])?>=", each)] == []


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


AUDITOR = """#!/bin/sh
case "$*" in
    *known.txt*) {known} ;;
    *--strict*needs.txt*) cat .audit-venv/needs.txt; {ours} ;;
esac
"""
KNOWS = "echo CVE-2024-23334; exit 1"
KNOWS_NOTHING = "echo 'No known vulnerabilities found' >&2"


@pytest.mark.parametrize(
    ("known", "ours", "status", "said"),
    [
        (KNOWS, "exit 0", 0, ""),
        (KNOWS, "echo a hole >&2; exit 1", 2, "a hole\n"),
        (KNOWS_NOTHING, "exit 0", 2, "pip-audit has no data about vulnerabilities from here"),
        ("echo no network >&2; exit 1", "exit 0", 2, "no network\npip-audit has no data"),
    ],
)
def test_an_audit_passes_only_where_holes_are_known(
    tmp_path: Path, known: str, ours: str, status: int, said: str
) -> None:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/bin").symlink_to(Path(sys.executable).parent)
    auditor = tmp_path / ".audit-venv/bin/pip-audit"
    auditor.parent.mkdir(parents=True)
    auditor.write_text(AUDITOR.format(known=known, ours=ours))
    auditor.chmod(0o755)
    for stamp in (".venv/kfws.stamp", ".audit-venv/pip-audit.stamp"):
        (tmp_path / stamp).touch()
    # Nothing of a `make test ARGS=…` around us.
    here = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        [need("make"), "audit"], cwd=tmp_path, env=here, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.startswith(said)) == (status, True)
    assert done.stdout.splitlines() == (NEEDS if known == KNOWS else [])


def built(pattern: str) -> Path:
    [path] = (ROOT / "dist").glob(pattern)
    return path
