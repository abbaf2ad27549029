"""``kfws config show``: each setting, its value, and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from kfws.cli import options
from kfws.cli.choices import Format, LogFormat
from kfws.cli.commands import COMMANDS, GROUPS
from kfws.cli.complete import commands
from kfws.cli.env import Env
from kfws.cli.pages import Group
from kfws.cli.rows import Column, Row, as_rows, as_table
from kfws.cli.settings import TYPED, Command, Setting, settable, settings
from kfws.protocol.auth import as_shown

__all__ = ["config"]

config = typer.Typer(
    name="config",
    cls=Group,
    help=GROUPS["config"],
    add_completion=False,
    rich_markup_mode="rich",
)

# What may hold a secret is not shown.
_HIDDEN = ("credentials_command", "proxy")


@config.command(cls=Command)
def show(
    context: typer.Context,
    command: Annotated[
        str,
        typer.Argument(metavar="[COMMAND]", help="Of which command.", autocompletion=commands),
    ] = "subscribe",
    format: options.FormatOption = Format.auto,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    log_format: options.LogFormatOption = LogFormat.text,
    debug: options.Debug = False,
) -> None:
    """Show each setting of a command, its value, and where it comes from.

    A flag wins over a variable (KFWS_ENV for --env), that over the file: there a profile over the
    table of a command over the top. The file is --config, else KFWS_CONFIG, else your own
    (~/.config/kfws/config.toml on Linux). Its keys are the names of options:

        env = "demo"

        \\[subscribe]
        on-full = "drop-oldest"

        \\[profiles.paper]
        redundancy = 2

    Examples:

        kfws config show

        kfws config show book --profile paper -f ndjson
    """
    from kfws.errors import UsageError

    env: Env = context.obj
    env.speak(verbose=verbose, quiet=quiet, debug=debug, log_format=log_format)
    root: Any = context.find_root().command
    if command not in COMMANDS:
        raise UsageError(f"no command {command}", hint=f"there are {', '.join(COMMANDS)}")
    chosen = root.load(command)
    typed = {name: context.meta[TYPED].get(name) for name in ("config", "profile")}
    found = settings(chosen, root, env, typed)
    if typed["profile"] is not None:
        found["profile"] = Setting(typed["profile"], "--profile")
    rows: list[dict[str, object]] = []
    for name, option in sorted(settable(chosen).items()):
        value, origin = found.get(name, (option.default, "default"))
        shown = _shown(name, value)
        rows.append({"setting": name.replace("_", "-"), "value": shown, "from": origin})
    env.print(as_rows(rows, format, _table, is_terminal=env.stdout_is_terminal, is_ascii=True))


def _shown(name: str, value: Any) -> Any:
    if value is not None and name in _HIDDEN:
        return "***"
    if isinstance(value, str) and name in ("url", "rest_url"):
        return as_shown(value)
    return value


def _table(rows: Sequence[Row]) -> str:
    cells = [[str(row["setting"]), _text(row["value"]), str(row["from"])] for row in rows]
    # Never cut: where a value comes from is what people want to know here.
    return as_table([Column("SETTING"), Column("VALUE"), Column("FROM")], cells)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return "-" if value is None else str(value)
