"""TAB in bash, zsh and fish: what they load, and what the program answers to them.

Most answers come from tab.py. The others are typer's, the words around them ours: its own take
rich, at 200 ms per TAB, and its script for zsh completes nothing. PowerShell gets typer's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typer import _completion_shared as of_typer

from kfws.cli.env import ASKED, Env
from kfws.cli.tab import LINE, line
from kfws.errors import OutputError, UsageError

__all__ = ["SCRIPTS", "answer", "install_here", "learn_other_shells", "print_script"]

_BASH = f"""_kfws_completion() {{
  local IFS=$'\\n'
  COMPREPLY=( $(env COMP_WORDS="${{COMP_WORDS[*]}}" COMP_CWORD=$COMP_CWORD \\
                    {ASKED}=complete_bash "$1") )
}}

complete -o default -F _kfws_completion kfws
"""

# From a folder of $fpath zsh loads a file as the function that is to complete, and calls it.
_ZSH = f"""#compdef kfws

_kfws_completion() {{
  local -a offered
  offered=( ${{(f)"$({LINE}="${{words[1,$CURRENT]}}" {ASKED}=complete_zsh "${{words[1]}}")"}} )
  if (( $#offered )); then
    _describe kfws offered
  else
    _files
  fi
}}

if [[ $funcstack[1] == _kfws ]]; then
  _kfws_completion "$@"
else
  compdef _kfws_completion kfws
fi
"""

# One start per TAB: files are offered where the program has nothing to offer.
_FISH = f"""function __kfws_completion
    set -l offered (env {ASKED}=complete_fish {LINE}=(commandline -cp | string collect) kfws)
    if set -q offered[1]
        string join \\n -- $offered
    else
        __fish_complete_path (commandline -ct)
    end
end

complete --command kfws --no-files --arguments "(__kfws_completion)"
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
_OF_TYPER = ("powershell", "pwsh")

_ZSH_START = "fpath+=~/.zfunc; autoload -Uz compinit; compinit"


def answer(program: Any, context: dict[str, Any], shell: str) -> str:
    """What goes on from what was typed, a line each; the shell said in variables what that is."""
    from typer import _completion_classes as classes

    known: dict[str, Any] = {
        "bash": classes.BashComplete,
        "zsh": classes.ZshComplete,
        "fish": classes.FishComplete,
    }
    asked = known[shell](program, context, "kfws", ASKED)
    offered = asked.get_completions(*asked.get_completion_args())
    return "".join(f"{line(shell, each.value, each.help)}\n" for each in offered)


def learn_other_shells() -> None:
    """Lets typer answer PowerShell."""
    from typer._completion_classes import completion_init

    completion_init()


def _current() -> str:
    """The shell that the program was called from.

    Raises:
        UsageError: none whose TAB is known.
    """
    name = of_typer._get_shell_name()
    if name in SCRIPTS or name in _OF_TYPER:
        return str(name)
    raise UsageError(
        f"there is no completion for {name or 'this shell'}",
        hint="call it from bash, zsh, fish or PowerShell",
    )


def _script(shell: str) -> str:
    """What a shell is to load."""
    if shell in SCRIPTS:
        return SCRIPTS[shell]
    text = of_typer.get_completion_script(prog_name="kfws", complete_var=ASKED, shell=shell)
    return f"{text}\n"


def _install(shell: str, environ: Mapping[str, str]) -> Path:
    """Puts the script where the shell finds it when it starts; gives the place.

    Raises:
        OutputError: a file cannot be written.
    """
    if shell in _OF_TYPER:
        return of_typer.install(shell=shell, prog_name="kfws", complete_var=ASKED)[1]
    path, start, line = _places(Path.home(), environ)[shell]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SCRIPTS[shell], encoding="utf-8")
        if start is not None:
            _add_line(start, line)
    except OSError as exc:
        raise OutputError(
            f"cannot write {exc.filename}: {exc.strerror}",
            hint="`kfws --show-completion` prints what the shell is to load",
        ) from None
    return path


def _places(home: Path, environ: Mapping[str, str]) -> dict[str, tuple[Path, Path | None, str]]:
    """Of each shell: the script, the file read at the start, and the line there that loads it."""
    bash = home / ".bash_completions" / "kfws.sh"
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    zsh_home = Path(environ.get("ZDOTDIR") or home)
    return {
        "bash": (bash, home / ".bashrc", f"source '{bash}'"),
        "zsh": (home / ".zfunc" / "_kfws", zsh_home / ".zshrc", _ZSH_START),
        "fish": (config / "fish" / "completions" / "kfws.fish", None, ""),
    }


def _add_line(path: Path, line: str) -> None:
    """Appends a line that is not there."""
    with path.open("a+b") as file:
        file.seek(0)
        before = file.read()
        if line.encode() not in before.splitlines():
            file.write(b"\n" * (not before.endswith(b"\n") and bool(before)) + f"{line}\n".encode())


def print_script(env: Env) -> None:
    """Prints what the shell that called is to load."""
    env.print(_script(_current()))


def install_here(env: Env) -> None:
    """Lets TAB complete kfws in the shell that called, and says so."""
    shell = _current()
    path = _install(shell, env.environ)
    env.print(f"TAB completes kfws in {shell} from its next start on ({path}).\n")
