"""``make completions``: what a shell loads to complete kfws, made by the program's own parser.

All that is offered is asked of the program at each TAB, so these change with typer alone.
"""

from __future__ import annotations

from pathlib import Path

from typer._completion_shared import get_completion_script

__all__ = ["FOLDER", "SHELLS", "script"]

FOLDER = Path(__file__).parent.parent / "completions"
SHELLS = ("bash", "zsh", "fish")

# From a folder of $fpath zsh loads a file as the function that is to complete, and calls it.
_REGISTERED = "compdef _kfws_completion kfws"
_LOADED = f"""if [[ $funcstack[1] == _kfws ]]; then
  _kfws_completion "$@"
else
  {_REGISTERED}
fi"""


def script(shell: str) -> str:
    """The file of a shell."""
    text = get_completion_script(prog_name="kfws", complete_var="_KFWS_COMPLETE", shell=shell)
    lines = [line.rstrip() for line in text.strip().splitlines()]
    return "\n".join(lines).replace(_REGISTERED, _LOADED) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in SHELLS:
        (FOLDER / f"kfws.{each}").write_text(script(each), encoding="utf-8")
