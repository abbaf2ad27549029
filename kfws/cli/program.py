"""The commands of the program, each imported when it is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from inspect import get_annotations
from itertools import takewhile
from typing import Any

import typer
from typer.core import TyperCommand

from kfws.cli.commands import COMMANDS, GROUPS
from kfws.cli.env import ASKED, Env
from kfws.cli.pages import Group
from kfws.errors import UsageError

__all__ = ["Program"]


class Program(Group):
    """The group of all commands: summaries, but for those that were asked for."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        summaries = COMMANDS | GROUPS
        self.commands = {name: _Summary(name, help=text) for name, text in summaries.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and self.load(str(name)), rest

    def no_command(self, args: Sequence[str], hint: str) -> UsageError:
        from shlex import join

        from kfws.protocol.feeds import FEEDS, spelled
        from kfws.protocol.products import is_well_formed

        feeds, typed = args[0].split(","), f"no such command {args[0]!r}"
        words = [*takewhile(lambda each: not each.startswith("-"), args)]
        if all(spelled(each) in FEEDS for each in feeds):
            what = "it is a feed" if len(feeds) == 1 else "they are feeds"
            return UsageError(f"{typed}, {what}", hint=f"kfws subscribe {join(words)}")
        if is_well_formed(args[0]):
            return UsageError(
                f"{typed}, it looks like a product", hint=f"kfws subscribe ticker {join(words)}"
            )
        return super().no_command(args, hint)

    def _main_shell_completion(
        self, ctx_args: Any, prog_name: str, complete_var: str | None = None
    ) -> None:
        env: Env = ctx_args["obj"]
        if asked := env.environ.get(ASKED):
            from kfws.cli.shells import SCRIPTS, answer, learn_other_shells

            shell = asked.removeprefix("complete_")
            if shell in SCRIPTS:
                env.print(answer(self, ctx_args, shell))
                sys.exit()
            learn_other_shells()
            super()._main_shell_completion(ctx_args, prog_name, complete_var)

    def load(self, name: str) -> Any:
        """The command itself."""
        if isinstance(self.commands[name], _Summary):
            self.commands[name] = _imported(name)
        return self.commands[name]

    def load_all(self) -> dict[str, Any]:
        return {name: self.load(name) for name in self.commands}


class _Summary(TyperCommand):
    """Stands on the help page for a command that is not imported."""


def _imported(name: str) -> Any:
    found = getattr(import_module(f"kfws.cli.commands.{name}"), name)
    if isinstance(found, typer.Typer):
        return typer.main.get_group(found)
    from kfws.cli.settings import Command

    # Typer reads them four times over, and from text each time.
    found.__annotations__ = get_annotations(found, eval_str=True)
    alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
    alone.command(name, cls=Command)(found)
    return typer.main.get_command(alone)
