"""``make completions``: what a shell loads to complete kfws, as the program prints it.

All that is offered is asked of the program at each TAB: these change with kfws/cli/shells.py.
"""

from __future__ import annotations

from pathlib import Path

from kfws.cli.shells import SCRIPTS

__all__ = ["FOLDER"]

FOLDER = Path(__file__).parent.parent / "completions"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for shell, script in SCRIPTS.items():
        (FOLDER / f"kfws.{shell}").write_text(script, encoding="utf-8")
