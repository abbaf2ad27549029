"""Help pages: panels on a terminal, plain text elsewhere. Panels take rich, which is slow to come.

Either has the same sections in the same order, those of the options by ``rich_help_panel``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

from kfws.errors import UsageError

if TYPE_CHECKING:
    from kfws.cli.env import Env

__all__ = ["Group", "Page", "similar"]


class Page(TyperCommand):
    """A command with such a page."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        if _has_panels(ctx):
            super().format_help(ctx, formatter)
        else:
            _write(self, ctx, formatter)


class Group(TyperGroup):
    """A command that has commands, with such a page; who names none of them is shown it."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        if _has_panels(ctx):
            super().format_help(ctx, formatter)
        else:
            _write(self, ctx, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_options(self, ctx, formatter)
        with formatter.section("Commands"):
            formatter.write_dl([(name, _summary(each)) for name, each in self.commands.items()])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            env: Env = ctx.obj
            if text := ctx.get_help():  # panels write themselves
                env.print(f"{text}\n")
            raise UsageError("no command was named", hint=f"see `{ctx.command_path} --help`")
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        is_unknown = args[0] not in self.commands and not args[0].startswith("-")
        if is_unknown and not ctx.resilient_parsing:
            raise self.no_command(args, f"see `{ctx.command_path} --help`")
        return super().resolve_command(ctx, args)

    def no_command(self, args: Sequence[str], hint: str) -> UsageError:
        """What to say where the first word is no command."""
        return UsageError(
            f"no such command {args[0]!r}{similar(args[0], self.commands)}", hint=hint
        )


def similar(typed: str, known: Iterable[str]) -> str:
    """A tail for a sentence with the names that look like what was typed: it begins as they do,
    or nearly. Empty where none does."""
    from difflib import get_close_matches

    names = [*known]
    begun = [each for each in names if typed and (typed.startswith(each) or each.startswith(typed))]
    near = [each for each in get_close_matches(typed, names) if each not in begun]
    return f"; similar: {', '.join([*begun, *near][:3])}" if begun or near else ""


def _has_panels(context: Any) -> bool:
    env: Env = context.obj
    return env.stdout_is_terminal


def _summary(command: Any) -> str:
    """The first paragraph of its help, in one line."""
    return " ".join(command.help.partition("\n\n")[0].split())


def _write(command: Any, context: Any, formatter: Any) -> None:
    command.format_usage(context, formatter)
    formatter.write_paragraph()
    with formatter.indentation():
        _write_text(command.help or "", formatter)
    if isinstance(command, Group):
        command.format_options(context, formatter)
    else:
        _write_options(command, context, formatter)
    if command.epilog:
        title, *lines = command.epilog.split("\n")
        with formatter.section(title.rstrip(":")):
            formatter.write_dl([tuple(line.split(maxsplit=1)) for line in lines])


def _write_text(text: str, formatter: Any) -> None:
    """Paragraphs, wrapped; examples, which are indented, line by line."""
    for number, paragraph in enumerate(_unescaped(text).split("\n\n")):
        if number:
            formatter.write("\n")
        lines = paragraph.strip("\n").split("\n")
        if lines[0].startswith(" "):
            formatter.write("".join(f"{'':{formatter.current_indent}}{line}\n" for line in lines))
        else:
            formatter.write_text(" ".join(lines))


def _unescaped(text: str) -> str:
    """Texts of ours are written for panels, where [word] would be markup."""
    return text.replace("\\[", "[")


def _write_options(command: Any, context: Any, formatter: Any) -> None:
    sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for param in command.get_params(context):
        if (record := param.get_help_record(context)) is not None:
            usual = "Arguments" if param.param_type_name == "argument" else "Options"
            name, text = record
            sections.setdefault(param.rich_help_panel or usual, []).append((name, _unescaped(text)))
    for title, records in sections.items():
        if records:
            with formatter.section(title):
                formatter.write_dl(records)
