"""``kfws doctor``: what works from here, and how to mend what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from kfws.cli import options
from kfws.cli.choices import Format, LogFormat, VenueName
from kfws.cli.env import Env

if TYPE_CHECKING:
    from kfws.cli.checks import Check, Checklist
    from kfws.cli.plan import Plan
    from kfws.cli.secrets import KeySource
    from kfws.sources.connection import Target

__all__ = ["doctor"]


def doctor(
    context: typer.Context,
    env: options.EnvOption = None,
    url: options.Url = None,
    rest_url: options.RestUrl = None,
    insecure: options.Insecure = False,
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
    """Say what works from here, and what to do about what does not.

    Versions, terminal, proxy; then the venue: name lookup, TCP, TLS, WebSocket,
    20 pings, its clock, REST; then the API key, if there is one. What rests on a
    check that failed is skipped. Status 3 where the venue is not reached, 4
    where the key is to blame; no key is no failure.

    Examples:

        kfws doctor

        kfws doctor --env demo --profile paper

        kfws doctor -f ndjson | jq -r 'select(.state=="failed") | .mend'
    """
    import asyncio

    from kfws.cli.checks import Checklist
    from kfws.cli.plan import Typed, make_plan

    world: Env = context.obj
    talk = world.speak(verbose=verbose, quiet=quiet, debug=debug, log_format=log_format)
    if env is VenueName.sim:
        talk.say("warning", "simulated", "simulated venue and account: --env sim")
    typed = Typed(
        feeds="heartbeat",
        env=env,
        url=url,
        rest_url=rest_url,
        insecure=insecure,
        proxy=proxy,
        ca_file=ca_file,
    )
    plan = make_plan(typed, stdout_is_terminal=False, read_text=world.read_text)
    sources = [
        *world.key_sources(
            plan.venue, file=credentials, command=credentials_command, profile=profile
        )
    ]
    checklist = Checklist(world, format)
    asyncio.run(_look_round(plan, sources, world, checklist))
    checklist.end()


async def _look_round(
    plan: Plan, sources: list[KeySource], world: Env, checklist: Checklist
) -> None:
    import asyncio
    from contextlib import AsyncExitStack

    from kfws.cli.checks import check_rest, check_venue
    from kfws.sources.connection import Target
    from kfws.sources.lookup import DaemonThreads

    asyncio.get_running_loop().set_default_executor(DaemonThreads())
    checklist.add(_versions())
    checklist.add(_terminal(world))
    async with AsyncExitStack() as stack:
        url, base = plan.url, plan.rest_base
        if plan.venue is VenueName.sim:
            from kfws.sim.server import SimOptions, serve

            venue = await stack.enter_async_context(serve(SimOptions(rest_port=0)))
            url, base = venue.url, base or venue.rest_url
        target = Target(
            url=url,
            proxy=world.proxy(plan.proxy, url),
            ca_file=plan.ca_file,
            allow_plain=plan.insecure,
            follow_redirects=False,
        )
        checklist.add(_proxy(target))
        is_reached = True
        async for each in check_venue(target):
            is_reached &= each.state != "failed"
            checklist.add(each)
        checklist.add(await check_rest(base, target, world.proxy(plan.proxy, base)))
        await _check_key(target, sources, checklist, is_reached=is_reached)


async def _check_key(
    target: Target, sources: list[KeySource], checklist: Checklist, *, is_reached: bool
) -> None:
    from kfws.cli.checks import Check, check_key
    from kfws.cli.secrets import first_key
    from kfws.errors import KfwsError
    from kfws.sources.failures import is_private_line

    try:
        found = first_key(sources)
    except KfwsError as exc:
        checklist.add(Check.failed("key", exc))
        return
    if found is None:
        mend = "`kfws auth login` keeps one"
        checklist.add(Check("key", "skipped", "none; public feeds need none", mend))
        return
    source, key = found
    checklist.add(Check("key", "ok", f"{key.shown} of {source}"))
    if not is_private_line(target.url):
        said = f"a key never goes over plain ws:// to {target.place}"
        checklist.add(Check("private feed", "skipped", said))
    elif not is_reached:
        checklist.add(Check("private feed", "skipped", "the venue is out of reach"))
    else:
        async for each in check_key(target, key):
            if each.name != "connection" or each.state == "failed":
                checklist.add(each)


def _versions() -> Check:
    import platform
    import ssl
    from importlib.metadata import PackageNotFoundError, version

    from kfws import __version__
    from kfws.cli.checks import Check

    facts = {
        "kfws": __version__,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "openssl": ssl.OPENSSL_VERSION,
    }
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = ""
    extras = ", ".join(each for each in _EXTRAS if facts[each]) or "none"
    said = f"kfws {__version__}, Python {facts['python']}, {facts['system']}; extras: {extras}"
    return Check("versions", "ok", said, facts={"versions": facts})


_EXTRAS = ("uvloop", "python-socks", "pyarrow", "keyring", "nats-py")
_PACKAGES = ("websockets", "msgspec", "rich", "typer", "aiohttp", *_EXTRAS)


def _terminal(world: Env) -> Check:
    from kfws.cli.checks import Check
    from kfws.cli.choices import Color

    columns, lines = world.size
    facts = {
        "is_terminal": world.stdout_is_terminal,
        "columns": columns,
        "lines": lines,
        "draws": world.can_draw,
        "colors": world.color(Color.auto),
        "keys": world.has_keys,
    }
    if not world.stdout_is_terminal:
        said = "stdout is none: lines are written, nothing is drawn"
        return Check("terminal", "ok", said, facts=facts)
    if not world.can_draw:
        said = "stdout is one that cannot be drawn on"
        return Check("terminal", "warning", said, "set TERM, e.g. xterm-256color", facts)
    colors = "in colour" if facts["colors"] else "without colour"
    return Check("terminal", "ok", f"{columns} by {lines}, drawn {colors}", facts=facts)


def _proxy(target: Target) -> Check:
    from kfws.cli.checks import Check
    from kfws.sources.failures import without_password

    if target.proxy is None:
        return Check("proxy", "ok", "none: straight to the venue", facts={"proxy": None})
    shown = without_password(target.proxy)
    return Check("proxy", "ok", f"through {shown}", facts={"proxy": shown})
