"""The sample unit for systemd, and the page about it."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from kfws.cli.exits import ExitStatus
from kfws.cli.metrics import Standing, exposition
from kfws.cli.stream import OUTPUT_ERRORS
from kfws.cli.totals import Totals
from tests.cli.program import PATIENCE_S, run

DOCS = Path(__file__).parent.parent / "docs"
UNIT = DOCS / "kfws.service"


def settings(unit: Path = UNIT) -> ConfigParser:
    parser = ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # case counts
    parser.read(unit)
    return parser


def test_what_the_unit_runs_is_a_command_that_works(tmp_path: Path) -> None:
    program, *args = shlex.split(settings()["Service"]["ExecStart"])
    assert program == "/usr/local/bin/kfws"
    args = [each.replace("/var/lib/kfws", str(tmp_path)) for each in args]
    args[args.index("--metrics") + 1] = "0"
    done = run(*args, "--env", "sim", "-n", "20")
    assert done.returncode == 0, done.stderr
    assert {path.name.split(".")[0] for path in tmp_path.iterdir()} == {"book", "trade"}


def test_the_unit_restarts_only_where_that_may_mend_something() -> None:
    wrong = {ExitStatus.USAGE, ExitStatus.UNWELCOME, ExitStatus.REFUSED}
    service = settings()["Service"]
    assert service["RestartPreventExitStatus"].split() == [str(each.value) for each in wrong]
    assert service["SuccessExitStatus"] == str(ExitStatus.TERMINATED.value)


def verified(unit: Path, folder: Path) -> list[str]:
    """What systemd says of a unit."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed, and comes with no package of its own")
    copy = folder / unit.name
    copy.write_text(unit.read_text().replace("/usr/local/bin/kfws", "/bin/true"))
    done = subprocess.run(
        [program, "verify", str(copy)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return [line for line in done.stderr.splitlines() if unit.name in line]


def test_systemd_itself_has_nothing_to_say_about_the_unit(tmp_path: Path) -> None:
    assert verified(UNIT, tmp_path) == []


def test_the_page_names_every_metric_and_no_other() -> None:
    text = (DOCS / "service.md").read_text()
    page = exposition(Totals(), Standing(started_at=0))
    table = "".join(line for line in text.splitlines() if line.startswith("| `kfws_"))
    assert set(re.findall(r"kfws_\w+", table)) == set(re.findall(r"# TYPE (\w+)", page))
    assert all(f"`{kind}`" in table for kind in OUTPUT_ERRORS)
