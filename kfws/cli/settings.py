"""What stands in for an option that was not typed: a variable KFWS_…, else a line of a file.

Rule of this room: whatever is wrong, the error says where it stands; a setting that does not fit
what was typed gives way. Light: every press of TAB imports this.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from typer.core import TyperOption

from kfws.cli.commands import COMMANDS
from kfws.cli.env import Env
from kfws.cli.pages import Page
from kfws.errors import UsageError

__all__ = ["TYPED", "Command", "Setting", "Tables", "origin_of", "settable", "settings"]

PROFILES = "profiles"
TYPED = "kfws.typed"
"""Under it a context's ``meta`` holds the options that were typed, by name."""
_TALK = "Messages (stderr)"

# To be meant each time, or none of a default.
_TYPED_ONLY = frozenset(
    {
        "config",
        "field",
        "help",
        "install_completion",
        "overwrite",
        "query",
        "show_completion",
        "version",
        "yes",
    }
)
# Of two that exclude each other the one counts that stands higher.
_RIVALS = {
    "credentials": "credentials_command",
    "credentials_command": "credentials",
    "env": "url",
    "url": "env",
}
# A setting that means nothing without another one; in an order that chains go along.
_NEEDS = {
    "rotate": "output",
    "keep": "rotate",
    "tick": "group",
    "renew": "redundancy",
    "spool": "output",
    "recorder": "output",
    "stream_config": "output",
    "since": "source",
    "from_seq": "source",
    "consumer": "source",
}


class Setting(NamedTuple):
    """A value, and where it comes from."""

    value: Any
    origin: str


class Tables(NamedTuple):
    """A file of settings: its path and what stands in it; nothing where there is none."""

    path: str
    content: Mapping[str, Any]


class Command(Page):
    """A command with ``--config`` and ``--profile``, whose settings stand in for what was not
    typed."""

    def __init__(self, *args: Any, **named: Any) -> None:
        params = [*(named.pop("params", None) or ())]
        self.knows_profiles = any(each.name == "profile" for each in params)
        added = [_CONFIG, *(() if self.knows_profiles else (_PROFILE,))]
        params += [TyperOption(expose_value=False, rich_help_panel=_TALK, **x) for x in added]
        super().__init__(*args, params=params, **named)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if ctx.resilient_parsing and args and args[-1].startswith("-"):
            # TAB behind an option that lacks its value, at which the parser would give up.
            args = args[:-1]
        typed, _, _ = self.make_parser(ctx).parse_args(args=[*args])
        ctx.meta[TYPED] = typed
        if not typed.get("help"):
            env: Env = ctx.obj
            env.is_debug = bool(typed.get("debug"))
            try:
                found = settings(self, ctx.find_root().command, env, typed)
                env.settings = _without_idle(found, typed)
                ctx.default_map = {name: each.value for name, each in env.settings.items()}
            except UsageError:
                if not ctx.resilient_parsing:  # TAB has nobody to tell
                    raise
        return super().parse_args(ctx, args)


_CONFIG: dict[str, Any] = {
    "param_decls": ["--config"],
    "metavar": "FILE",
    "help": "A TOML file with defaults for options. (default: your own; see `kfws config show`)",
}
_PROFILE: dict[str, Any] = {
    "param_decls": ["--profile"],
    "metavar": "NAME",
    "help": "Take the defaults of \\[profiles.NAME] as well. (default: none)",
}


def settable(command: Any) -> dict[str, Any]:
    """The options of a command that may be set, by name; of a group those of all its commands."""
    found: dict[str, Any] = {}
    for each in _commands(command).values():
        for name, option in settable(each).items():
            if name not in found or option.multiple:  # what is a list for one may be one
                found[name] = option
    options = [each for each in command.params if each.param_type_name == "option"]
    return found | {each.name: each for each in options if each.name not in _TYPED_ONLY}


def settings(command: Any, root: Any, env: Env, typed: Mapping[str, Any]) -> dict[str, Setting]:
    """What is set for the options of ``command`` and was not ``typed``, idle or not.

    Raises UsageError for a file that cannot be read, and for all in it that is no setting.
    """
    tables = _tables(typed.get("config"), env)
    _check(tables, command, root)
    own = settable(command)
    variables = dict(_of_environment(own, env.environ))
    profile = _profile(command, tables, typed, variables)
    layers = [variables, *_of_file(tables, command.name, profile, own)]
    found: dict[str, Setting] = {}
    taken = {name for name, value in typed.items() if value is not None}
    for layer in layers:
        here = {name: each for name, each in layer.items() if name not in taken}
        here = {name: each for name, each in here.items() if _RIVALS.get(name) not in taken}
        found |= here
        taken |= set(here)
    return found


def _without_idle(found: dict[str, Setting], typed: Mapping[str, Any]) -> dict[str, Setting]:
    """Without what has no meaning beside what was typed; set it was for other times."""
    for name, need in _NEEDS.items():
        if name in found and need not in found and typed.get(need) is None:
            del found[name]
    paths = typed.get("output")
    if paths and "-" not in paths:
        found.pop("format", None)  # stdout is silent
    return found


def origin_of(message: str, found: Mapping[str, Setting]) -> str:
    """Where what an error is about was set, for its hint; empty where it was typed."""
    for name, each in found.items():
        option = name.replace("_", "-")
        if f"--{option} " in f"{message} ".replace("'", " ") or f"'{each.value}'" in message:
            return f"{option} is from {each.origin}"
    return ""


# Variables


def _of_environment(
    own: Mapping[str, Any], environ: Mapping[str, str]
) -> Iterator[tuple[str, Setting]]:
    for name, option in own.items():
        variable = f"KFWS_{name.upper()}"
        if value := environ.get(variable):
            yield name, Setting([value] if option.multiple else value, variable)


# The file


def _tables(typed: str | None, env: Env) -> Tables:
    named = typed or env.environ.get("KFWS_CONFIG")
    path = Path(named) if named else env.config / "config.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        if not named and isinstance(exc, (FileNotFoundError, NotADirectoryError)):
            return Tables(str(path), {})
        reason = exc.strerror if isinstance(exc, OSError) else "no text"
        raise UsageError(f"{path} cannot be read: {reason}", hint="--config names a file") from exc
    import tomllib

    try:
        return Tables(str(path), tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        why = "nested too deeply" if isinstance(exc, RecursionError) else exc
        hint = 'lines look like env = "demo"'
        raise UsageError(f"{path} is no TOML: {why}", hint=hint) from exc


def _check(tables: Tables, command: Any, root: Any) -> None:
    """Every key names an option, of a command where it stands in that command's table."""
    if not tables.content:
        return
    # The other commands would have to be imported, which takes longer than many a run.
    if not _is_all_of(command, tables):
        commands = {name: each for name, each in _commands(root).items() if name in COMMANDS}
        _check_against(tables, commands, settable(root))


def _is_all_of(command: Any, tables: Tables) -> bool:
    """Whether nothing is set but options of this one command, each as it should be."""
    try:
        own = {command.name: command} if command.name in COMMANDS else {}
        _check_against(tables, own, settable(command))
    except UsageError:
        return False
    return True


def _check_against(tables: Tables, commands: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    content = dict(tables.content)
    profiles = content.pop(PROFILES, {})
    _check_level(content, tables.path, "", commands, options, {PROFILES})
    for name, table in _tables_in(profiles, tables.path, PROFILES).items():
        where = f"[{PROFILES}.{name}] "
        _check_level(table, tables.path, where, commands, options, set())


def _commands(command: Any) -> Mapping[str, Any]:
    if hasattr(command, "load_all"):
        found: Mapping[str, Any] = command.load_all()
        return found
    return getattr(command, "commands", {})


def _check_level(
    content: Mapping[str, Any],
    path: str,
    where: str,
    commands: Mapping[str, Any],
    options: Mapping[str, Any],
    more: Collection[str],
) -> None:
    for key, value in content.items():
        if key in commands and isinstance(value, dict):
            own = settable(commands[key])
            inner = f"{where}[{key}] " if where else f"[{key}] "
            for name, each in value.items():
                _check_setting(name, each, own, own, f"{path}: {inner}")
        else:
            _check_setting(key, value, options, {*options, *commands, *more}, f"{path}: {where}")


def _check_setting(
    key: str, value: Any, options: Mapping[str, Any], known: Collection[str], where: str
) -> None:
    name = key.replace("-", "_")
    if name in _TYPED_ONLY:
        raise UsageError(f"{where}{key} cannot be set", hint=f"type --{key} where you mean it")
    if name not in options:
        from difflib import get_close_matches

        near = get_close_matches(name, sorted({*known} - {name}), n=1)
        similar = f"; similar: {near[0].replace('_', '-')}" if near else ""
        raise UsageError(f"{where}no setting {key}{similar}", hint="`kfws config show` lists them")
    option = options[name]
    values = value if option.multiple and isinstance(value, list) else [value]
    if not all(_fits(each, option.is_flag) for each in values):
        what = "true or false" if option.is_flag else "text or a number"
        example = "true" if option.is_flag else '"…"'
        raise UsageError(f"{where}{key} is to be {what}", hint=f"e.g. {key} = {example}")


def _fits(value: object, is_flag: bool) -> bool:
    if is_flag:
        return isinstance(value, bool)
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def _profile(
    command: Any, tables: Tables, typed: Mapping[str, Any], variables: Mapping[str, Setting]
) -> str | None:
    """The profile that was chosen. Raises UsageError for one that is none."""
    chosen = typed.get("profile")
    if chosen is None and "profile" in variables:
        chosen = variables["profile"].value
    if chosen is None:
        chosen = tables.content.get("profile")
    profiles = tables.content.get(PROFILES, {})
    # A command that signs takes a profile for the name of a key too, and says itself what is wrong.
    if chosen is None or chosen in profiles or command.knows_profiles:
        return chosen
    from difflib import get_close_matches

    near = get_close_matches(str(chosen), profiles, n=1)
    similar = f"; similar: {near[0]}" if near else ""
    raise UsageError(
        f"no profile {chosen} in {tables.path}{similar}", hint=f"it is a table [profiles.{chosen}]"
    )


def _of_file(
    tables: Tables, command: str, profile: str | None, own: Mapping[str, Any]
) -> Iterator[dict[str, Setting]]:
    """What the file says, the more special first."""
    chosen = tables.content.get(PROFILES, {}).get(profile, {})
    for where, table in (
        (f" [{PROFILES}.{profile}.{command}]", chosen.get(command, {})),
        (f" [{PROFILES}.{profile}]", chosen),
        (f" [{command}]", tables.content.get(command, {})),
        ("", tables.content),
    ):
        yield {
            name: Setting(_as_option(value, own[name]), f"{tables.path}{where}")
            for name, value in ((key.replace("-", "_"), value) for key, value in table.items())
            if name in own and (own[name].multiple or not isinstance(value, list))
        }


def _as_option(value: Any, option: Any) -> Any:
    if option.multiple:
        return [str(each) for each in (value if isinstance(value, list) else [value])]
    return value if option.is_flag else str(value)


def _tables_in(value: Any, path: str, name: str) -> dict[str, dict[str, Any]]:
    if isinstance(value, dict) and all(isinstance(each, dict) for each in value.values()):
        return value
    raise UsageError(f"{path}: {name} are tables", hint=f"e.g. [{name}.paper]")
