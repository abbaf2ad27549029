"""The Typer app, and the one place where an error becomes a sentence and a status."""

from __future__ import annotations

import errno
import re
import sys
from typing import Annotated, Any

import typer

from kfws import __version__
from kfws.cli.commands import COMMANDS, GROUPS
from kfws.cli.env import CLOSED, Env, unwritable
from kfws.cli.exits import ExitStatus, status_of
from kfws.cli.pages import similar
from kfws.cli.program import Program
from kfws.errors import KfwsError, UsageError

__all__ = ["app", "main", "run"]

_HELP = """Stream Kraken Futures feeds to the terminal, a pipe or files; every message is
accounted for.

Examples:

    kfws subscribe ticker PF_XBTUSD PF_SOLUSD
    kfws subscribe trade PF_XBTUSD -f csv > trades.csv
    kfws book PF_XBTUSD PF_ETHUSD --depth 5
"""
_STATUSES = "".join(f"\n{each.value:<3} {each.meaning}" for each in ExitStatus)

_NO_NUMBER = r"is not a valid int(?:eger)?(?: range)?$"
"""The parser's words for it."""

app = typer.Typer(
    name="kfws",
    cls=Program,
    help=_HELP,
    epilog=f"Exit status:{_STATUSES}",
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(context: typer.Context, wanted: bool) -> None:
    if wanted:
        context.obj.print(f"kfws {__version__}\n")
        raise typer.Exit


def _install_completion(context: typer.Context, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from kfws.cli.shells import install_here

        install_here(context.obj)
        raise typer.Exit


def _show_completion(context: typer.Context, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from kfws.cli.shells import print_script

        print_script(context.obj)
        raise typer.Exit


@app.callback()
def _options_of_all(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version and leave.",
        ),
    ] = False,
    install_completion: Annotated[
        bool,
        typer.Option(
            "--install-completion",
            callback=_install_completion,
            is_eager=True,
            help="Let TAB complete kfws in the shell you call this from.",
        ),
    ] = False,
    show_completion: Annotated[
        bool,
        typer.Option(
            "--show-completion",
            callback=_show_completion,
            is_eager=True,
            help="Print what that shell is to load for it.",
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """The program: ends the process with an exit status."""
    sys.exit(run(sys.argv[1:], Env.of_process()))


def run(args: list[str], env: Env) -> int:
    """Runs the command that ``args`` name; gives the exit status."""
    env.args = args
    try:
        if env.stdout == CLOSED and not {"-h", "--help"}.isdisjoint(args):
            # Typer would print its page to nobody, without a word.
            raise unwritable(OSError(errno.EBADF, ""))
        # Without standalone mode the parser raises its errors instead of printing them.
        status = app(args, obj=env, prog_name="kfws", standalone_mode=False)
        return status if isinstance(status, int) else ExitStatus.OK
    except KfwsError as exc:
        env.explain(_with_origin(exc, env))
        return status_of(exc)
    except (KeyboardInterrupt, typer.Abort):
        return ExitStatus.INTERRUPT
    except SystemExit as exc:
        # So typer ends when the reader of a help page left.
        if isinstance(exc.__context__, BrokenPipeError):
            return ExitStatus.OK
        raise
    except OSError as exc:
        # Of typer printing a help page; whatever else writes or reads names its own errors.
        if exc.errno in (errno.ENOSPC, errno.EIO):
            env.explain(unwritable(exc))
            return ExitStatus.OUTPUT
        env.explain_bug(exc)
        return ExitStatus.BUG
    except Exception as exc:
        usage = _usage_error(exc, args)
        if usage is None:
            env.explain_bug(exc)
            return ExitStatus.BUG
        env.explain(_with_origin(usage, env))
        return ExitStatus.USAGE


def _with_origin(error: KfwsError, env: Env) -> KfwsError:
    """What was wrong may stand in a variable or a file that the user does not think of."""
    from kfws.cli.settings import origin_of

    if isinstance(error, UsageError) and (origin := origin_of(error.message, env.settings)):
        error.hint = f"{origin}; {error.hint}" if error.hint else origin
    return error


def _usage_error(exc: Any, args: list[str]) -> KfwsError | None:
    """The parser's error as one of ours; its classes are private to typer."""
    if not hasattr(exc, "format_message"):
        return None
    context = getattr(exc, "ctx", None)
    command = context.command_path if context else _command_in(args)
    if hasattr(exc, "option_name") and hasattr(exc, "possibilities"):
        opts = [name for each in context.command.params for name in each.opts] if context else []
        known = [each for each in opts if each.startswith("--")]
        message = f"no such option: {exc.option_name}{similar(exc.option_name, known)}"
    else:
        message = str(exc.format_message()).replace("\n", " ").rstrip(".")
        message = re.sub(_NO_NUMBER, "is no whole number", message)
    return UsageError(message[:1].lower() + message[1:], hint=f"see `{command} --help`")


def _command_in(args: list[str]) -> str:
    """What was typed up to the command, for an error of the parser that does not know it."""
    return next((f"kfws {each}" for each in args if each in COMMANDS | GROUPS), "kfws")
