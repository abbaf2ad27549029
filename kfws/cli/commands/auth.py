"""``kfws auth``: API keys that are kept, tried out and used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kfws.cli import options
from kfws.cli.choices import Format, LogFormat, VenueName
from kfws.cli.commands import GROUPS
from kfws.cli.env import Env
from kfws.cli.pages import Group
from kfws.cli.rows import Column, Row, as_rows, as_table
from kfws.cli.settings import Command

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kfws.cli.checks import Checklist
    from kfws.cli.plan import Plan
    from kfws.cli.secrets import KeySource
    from kfws.protocol.auth import Credentials

__all__ = ["auth"]

auth = typer.Typer(
    name="auth",
    cls=Group,
    help=GROUPS["auth"],
    add_completion=False,
    rich_markup_mode="rich",
)

_KEY = "The key"

Kept = Annotated[
    str,
    typer.Option(
        "--profile",
        metavar="NAME",
        help="Of several keys that are kept, this one.",
        rich_help_panel=_KEY,
    ),
]


@auth.command(cls=Command)
def login(
    context: typer.Context,
    profile: Kept = "default",
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace the key that the profile holds.", rich_help_panel=_KEY
        ),
    ] = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    log_format: options.LogFormatOption = LogFormat.text,
    debug: options.Debug = False,
) -> None:
    """Keep an API key: typed without echo, or from stdin.

    It goes into the system's keyring where the extra `keyring` is installed and
    finds one, else into a file that you alone can read. On stdin: api_key = …
    and api_secret = …, JSON with the same names, or just both on two lines.

    Examples:

        kfws auth login

        kfws auth login --profile paper

        pass show kraken | kfws auth login --overwrite
    """
    from kfws.cli.secrets import parse_credentials
    from kfws.errors import UsageError
    from kfws.protocol.auth import Credentials

    world: Env = context.obj
    talk = world.speak(verbose=verbose, quiet=quiet, debug=debug, log_format=log_format)
    if world.profiles.is_kept(profile) and not overwrite:
        raise UsageError(
            f"profile {profile} holds a key already",
            hint="--overwrite replaces it, --profile NAME keeps another",
        )
    if world.stdin_is_terminal:
        key = Credentials(
            world.ask_secret("API key (not shown): "), world.ask_secret("API secret (not shown): ")
        )
    else:
        key = parse_credentials(world.read_secret(), "stdin")
    place = world.profiles.keep(profile, key)
    talk.say(
        "warning",
        "kept",
        f"profile {profile}: key {key.shown} is kept in {place}",
        hint="`kfws auth check` tries it",
    )


@auth.command(cls=Command)
def logout(
    context: typer.Context,
    profile: Kept = "default",
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    log_format: options.LogFormatOption = LogFormat.text,
    debug: options.Debug = False,
) -> None:
    """Forget a key that is kept here. The venue knows it until it is deleted there.

    Examples:

        kfws auth logout --profile paper
    """
    world: Env = context.obj
    talk = world.speak(verbose=verbose, quiet=quiet, debug=debug, log_format=log_format)
    place = world.profiles.forget(profile)
    talk.say("warning", "forgotten", f"profile {profile} is gone from {place}")


@auth.command(cls=Command)
def status(
    context: typer.Context,
    env: options.EnvOption = None,
    credentials: options.CredentialsFile = None,
    credentials_command: options.CredentialsCommand = None,
    profile: options.Profile = None,
    format: options.FormatOption = Format.auto,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    log_format: options.LogFormatOption = LogFormat.text,
    debug: options.Debug = False,
) -> None:
    """Say where a key would be taken from, in the order of asking. Nothing is sent.

    Of keys no more than the last four characters are shown. Status 4 when there
    is none to use.

    Examples:

        kfws auth status

        kfws auth status -f ndjson | jq -r 'select(.state=="used").source'
    """
    from kfws.cli.env import NO_KEY
    from kfws.errors import Unwelcome

    world: Env = context.obj
    world.speak(verbose=verbose, quiet=quiet, debug=debug, log_format=log_format)
    sources = world.key_sources(env, file=credentials, command=credentials_command, profile=profile)
    rows = [*_rows(world, [*sources])]
    world.print(as_rows(rows, format, _table, is_terminal=world.stdout_is_terminal))
    used = next((row for row in rows if row["state"] in ("used", "wrong")), None)
    if used is None:
        raise Unwelcome("there is no API key", hint=NO_KEY)
    if used["state"] == "wrong":
        raise Unwelcome(f"{used['source']} comes first, and is wrong", hint="mend it")


def _rows(world: Env, sources: list[KeySource]) -> Iterator[dict[str, str]]:
    """Sources in the order of asking, then profiles that are kept beside them."""
    from functools import partial

    from kfws.cli.secrets import KeySource
    from kfws.errors import KfwsError

    profiles = world.profiles
    asked = len(sources)
    names = {source.name for source in sources}
    kept = [KeySource(f"profile {name}", partial(profiles.find, name)) for name in profiles.names]
    decided = False
    for place, source in enumerate([*sources, *(each for each in kept if each.name not in names)]):
        state, shown, fault = "none", "", ""
        try:
            if key := source.read():
                state, shown = ("kept" if decided or place >= asked else "used"), key.shown
        except KfwsError as exc:
            state, fault = ("kept" if place >= asked else "wrong"), f"{exc.message}; {exc.hint}"
        decided |= state in ("used", "wrong")
        yield {"source": source.name, "state": state, "key": shown, "fault": fault}


def _table(rows: Sequence[Row]) -> str:
    from kfws.sinks.columns import printable

    cells = [[printable(str(cell)) for cell in row.values()] for row in rows]
    columns = [Column("SOURCE"), Column("STATE"), Column("KEY"), Column("FAULT", cut="end")]
    return as_table(columns, cells)


@auth.command(cls=Command)
def check(
    context: typer.Context,
    env: options.EnvOption = None,
    url: options.Url = None,
    proxy: options.Proxy = None,
    ca_file: options.CaFile = None,
    credentials: options.CredentialsFile = None,
    credentials_command: options.CredentialsCommand = None,
    profile: options.Profile = None,
    format: options.FormatOption = Format.auto,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    log_format: options.LogFormatOption = LogFormat.text,
    debug: options.Debug = False,
) -> None:
    """Try a key: ask for a challenge, sign it, subscribe to a private feed.

    Says what works. Status 0, 3 where the venue is not reached, 4 where there is
    no key or the venue does not take it.

    Examples:

        kfws auth check --env demo

        kfws auth check --profile paper -f json
    """
    import asyncio

    from kfws.cli.checks import PRIVATE_FEED, Checklist
    from kfws.cli.plan import Typed, make_plan

    world: Env = context.obj
    talk = world.speak(verbose=verbose, quiet=quiet, debug=debug, log_format=log_format)
    if env is VenueName.sim:
        talk.say("warning", "simulated", "simulated venue and account: --env sim")
    typed = Typed(feeds=PRIVATE_FEED, env=env, url=url, proxy=proxy, ca_file=ca_file)
    plan = make_plan(typed, stdout_is_terminal=False, read_text=world.read_text)
    source, key = _the_key(world, plan, credentials, credentials_command, profile)
    checklist = Checklist(world, format)
    asyncio.run(_check(plan, source, key, world, checklist))
    checklist.end()


def _the_key(
    world: Env, plan: Plan, file: str | None, command: str | None, profile: str | None
) -> tuple[str, Credentials]:
    """Where a key was found, and the key. Raises Unwelcome."""
    from kfws.cli.env import NO_KEY
    from kfws.errors import Unwelcome

    found = world.find_key(plan.venue, file=file, command=command, profile=profile)
    if found is None:
        raise Unwelcome("there is no API key to try", hint=NO_KEY)
    return found


async def _check(
    plan: Plan, source: str, key: Credentials, world: Env, checklist: Checklist
) -> None:
    import asyncio
    from contextlib import AsyncExitStack

    from kfws.cli.checks import Check, check_key
    from kfws.sources.connection import Target
    from kfws.sources.lookup import DaemonThreads

    asyncio.get_running_loop().set_default_executor(DaemonThreads())
    checklist.add(Check("key", "ok", f"{key.shown} of {source}"))
    async with AsyncExitStack() as stack:
        url = plan.url
        if plan.venue is VenueName.sim:
            from kfws.sim.server import SimOptions, serve

            url = (await stack.enter_async_context(serve(SimOptions()))).url
        proxy = world.proxy(plan.proxy, url)
        target = Target(url=url, proxy=proxy, ca_file=plan.ca_file, follow_redirects=False)
        async for each in check_key(target, key):
            checklist.add(each)


@auth.command(cls=Command)
def sign(
    context: typer.Context,
    challenge: Annotated[
        str, typer.Argument(metavar="CHALLENGE", help="As the venue sent it.", show_default=False)
    ],
    env: options.EnvOption = None,
    credentials: options.CredentialsFile = None,
    credentials_command: options.CredentialsCommand = None,
    profile: options.Profile = None,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    log_format: options.LogFormatOption = LogFormat.text,
    debug: options.Debug = False,
) -> None:
    """Sign a challenge and print the signature, for a client of your own.

    With the signature and the key that connection can read your account: show
    it to nobody.

    Examples:

        kfws auth sign c100b894-1729-464d-ace1-52dbce11db42 --env sim
    """
    from kfws.cli.env import NO_KEY
    from kfws.cli.plan import check_text
    from kfws.errors import Unwelcome
    from kfws.protocol.auth import sign_challenge

    world: Env = context.obj
    world.speak(verbose=verbose, quiet=quiet, debug=debug, log_format=log_format)
    check_text(challenge)
    key = world.find_credentials(
        env, file=credentials, command=credentials_command, profile=profile
    )
    if key is None:
        raise Unwelcome("there is no API key to sign with", hint=NO_KEY)
    world.print(sign_challenge(key.secret, challenge) + "\n")
