"""``kfws subscribe``: the main job."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kfws.cli import options
from kfws.cli.choices import Format, LogFormat, OnDiskFull, OnFull
from kfws.cli.env import Env

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfws.cli.outlet import Outlet, Sink
    from kfws.cli.plan import Output, Plan
    from kfws.cli.stream import Source
    from kfws.cli.talk import Talk
    from kfws.protocol.auth import Credentials
    from kfws.sinks.shelf import Keeping

__all__ = ["subscribe"]

Feeds = Annotated[
    str,
    typer.Argument(
        metavar="FEED[,FEED…]", help="Feeds; `kfws feeds` lists them.", show_default=False
    ),
]
Products = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PRODUCT…]",
        help="Product ids such as PF_XBTUSD; @FILE names them line by line. "
        "With a private feed they filter.",
        show_default=False,
    ),
]


def subscribe(
    context: typer.Context,
    feeds: Feeds,
    products: Products = None,
    env: options.EnvOption = None,
    url: options.Url = None,
    insecure: options.Insecure = False,
    proxy: options.Proxy = None,
    ca_file: options.CaFile = None,
    compression: options.Compression = False,
    force_feed: options.ForceFeed = False,
    credentials: options.CredentialsFile = None,
    credentials_command: options.CredentialsCommand = None,
    attempts: options.Attempts = None,
    redundancy: options.Redundancy = 1,
    renew: options.Renew = None,
    resync: options.Resync = True,
    buffer: options.Buffer = "64MB",
    on_full: options.OnFullOption = OnFull.block,
    format: options.FormatOption = Format.auto,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
    rotate: options.Rotate = None,
    sync: options.Sync = "1s",
    keep: options.Keep = None,
    on_disk_full: options.OnDiskFullOption = OnDiskFull.exit,
    stamp: options.Stamp = False,
    events: options.Events = False,
    fields: options.Fields = None,
    where: options.Where = None,
    snapshots: options.Snapshots = True,
    count: options.Count = None,
    duration: options.Duration = None,
    timeout: options.Timeout = None,
    until: options.Until = None,
    strict: options.Strict = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    log_format: options.LogFormatOption = LogFormat.text,
    debug: options.Debug = False,
) -> None:
    """Stream feeds: to the screen, a pipe, or files.

    Examples:

        kfws subscribe ticker PF_XBTUSD PF_ETHUSD

        kfws subscribe trade PF_XBTUSD --no-snapshots | jq .price

        kfws subscribe book PF_XBTUSD -o book.ndjson.zst --rotate 1h --keep 7d

        kfws subscribe trade PF_XBTUSD --where 'side==buy and qty>=1'

        kfws subscribe ticker PF_XBTUSD --env sim -n 1
    """
    import asyncio

    from kfws.cli.plan import Typed, make_plan

    world: Env = context.obj
    talk = world.speak(verbose=verbose, quiet=quiet, debug=debug, log_format=log_format)
    plan = make_plan(
        Typed(
            feeds=feeds,
            products=products or (),
            force_feed=force_feed,
            env=env,
            url=url,
            insecure=insecure,
            proxy=proxy,
            ca_file=ca_file,
            compression=compression,
            format=format,
            outputs=output or (),
            overwrite=overwrite,
            rotate=rotate,
            sync=sync,
            keep=keep,
            on_disk_full=on_disk_full,
            stamp=stamp,
            events=events,
            fields=fields,
            snapshots=snapshots,
            where=where,
            until=until,
            count=count,
            duration=duration,
            timeout=timeout,
            strict=strict,
            attempts=attempts,
            redundancy=redundancy,
            renew=renew,
            resync=resync,
            buffer=buffer,
            on_full=on_full,
        ),
        stdout_is_terminal=world.stdout_is_terminal,
        read_text=world.read_text,
    )
    for warning in plan.warnings:
        talk.say("warning", "plan", warning)
    key = world.credentials(plan, file=credentials, command=credentials_command)
    asyncio.run(_run(plan, key, world, talk))


async def _run(plan: Plan, key: Credentials | None, env: Env, talk: Talk) -> None:
    import asyncio
    from contextlib import AsyncExitStack

    from kfws.cli.stream import Run
    from kfws.sources.lookup import DaemonThreads

    asyncio.get_running_loop().set_default_executor(DaemonThreads())
    async with AsyncExitStack() as stack:
        # Outputs first: a file that cannot be written is found before the venue is troubled.
        outlets = []
        for output, outlet in _outlets(plan, env, talk):
            stack.callback(outlet.close)
            outlets.append((output, outlet))
        url, header = plan.url, _header(plan, env)
        if plan.venue == "sim":
            from kfws.sim.server import SimOptions, serve

            venue = await stack.enter_async_context(serve(SimOptions(compression=plan.compression)))
            url, header = venue.url, header | {"simulated": True, "seed": 1}
            talk.say("warning", "simulated", "simulated market data: --env sim, not the venue")
        run = Run(plan, outlets, talk, header=header)
        await run.run(_source(plan, url, key, env))


def _source(plan: Plan, url: str, key: Credentials | None, env: Env) -> Source:
    import itertools

    from kfws.protocol.sequence import Sequences
    from kfws.protocol.session import Subscription
    from kfws.sources.arbiter import Arbiter
    from kfws.sources.backoff import DialPace
    from kfws.sources.connection import Target
    from kfws.sources.live import Live, Standing
    from kfws.sources.redundant import Redundant

    target = Target(
        url=url,
        proxy=env.proxy(plan, url),
        allow_plain=plan.insecure,
        ca_file=plan.ca_file,
        compression=plan.compression,
        follow_redirects=not plan.is_private,
        buffer_bytes=plan.buffer_bytes // plan.redundancy,
    )
    wanted = [Subscription(*each) for each in plan.subscriptions]
    pace, numbers, standing = DialPace(), itertools.count(1), Standing()

    def live(*, resync: bool, snapshots_pass: bool) -> Live:
        return Live(
            target,
            wanted,
            key,
            attempts=plan.attempts,
            resync=resync,
            on_full=plan.on_full.value,
            sequences=Sequences(snapshots_pass=snapshots_pass),
            pace=pace,
            numbers=numbers,
            standing=standing,
        )

    if plan.redundancy == 1:
        return live(resync=plan.resync, snapshots_pass=plan.snapshots)
    # Each leg tells all that it saw; what of it is lost is the arbiter's to say.
    return Redundant(
        lambda _: live(resync=False, snapshots_pass=True),
        plan.redundancy,
        renew_s=plan.renew_s,
        arbiter=Arbiter(snapshots_pass=plan.snapshots, resync=plan.resync),
    )


def _outlets(plan: Plan, env: Env, talk: Talk) -> Iterator[tuple[Output, Outlet]]:
    """The outputs, opened. Raises OutputError, and UsageError where two are one by a link."""
    import asyncio
    import time
    from os.path import realpath

    from kfws.cli.outlet import DescriptorOutlet, FileOutlet
    from kfws.errors import UsageError
    from kfws.sinks.shelf import Shelf

    places = [realpath(output.path) for output in plan.outputs if output.path is not None]
    if len(set(places)) < len(places):
        twice = next(each for each in places if places.count(each) > 1)
        raise UsageError(f"two outputs on {twice}", hint="give each -o a path of its own")
    loop = asyncio.get_running_loop()

    def tell(code: str, sentence: str) -> None:
        loop.call_soon_threadsafe(talk.say, "warning", code, sentence)

    for output in plan.outputs:
        encoder = partial(_sink, output, plan, env)
        if output.path is None:
            yield output, DescriptorOutlet(env.stdout, encoder(plan.feeds[0]))
            continue
        shelf = Shelf(_keeping(output, output.path, plan), encoder, tell)
        shelf.open(time.time_ns())
        pipe = shelf.hand_over()
        if pipe is None:
            yield output, FileOutlet(shelf, full_bytes=plan.buffer_bytes, at_once=plan.sync_s == 0)
        else:
            sink = encoder(plan.feeds[0])
            yield output, DescriptorOutlet(pipe, sink, name=output.path, own=True)


def _keeping(output: Output, path: str, plan: Plan) -> Keeping:
    from kfws.sinks.shelf import Keeping
    from kfws.tapes.names import Template

    return Keeping(
        template=Template(path),
        feeds=plan.feeds,
        compression=output.compression,
        overwrite=plan.overwrite,
        is_tape=output.is_tape,
        rotate_ns=_ns(plan.rotate[0]),
        rotate_bytes=plan.rotate[1],
        sync_ns=_ns(plan.sync_s),
        keep_ns=_ns(plan.keep[0]),
        keep_bytes=plan.keep[1],
        on_disk_full=plan.on_disk_full.value,
    )


def _ns(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e9)


def _sink(output: Output, plan: Plan, env: Env, feed: str) -> Sink:
    match output.format:
        case Format.raw:
            from kfws.sinks.raw import Raw

            return Raw()
        case Format.json:
            from kfws.sinks.json import Json

            return Json(stamp=plan.stamp, events=plan.events, fields=plan.fields)
        case Format.csv:
            from kfws.sinks.csv import Csv

            return Csv(feed=feed, fields=plan.fields)
        case Format.table:
            from kfws.sinks.table import Table

            return Table(
                feeds=plan.feeds,
                fields=plan.fields,
                events=plan.events,
                color=env.color,
                width=env.width,
                zone=env.zone,
            )
        case _:
            from kfws.sinks.ndjson import Ndjson

            return Ndjson(
                stamp=plan.stamp or output.is_tape,
                events=plan.events or output.is_tape,
                fields=plan.fields,
            )


def _header(plan: Plan, env: Env) -> dict[str, Any]:
    """What a tape says of itself in its first line."""
    from kfws import __version__
    from kfws.cli.secrets import without_secrets

    header: dict[str, Any] = {
        "version": __version__,
        "command": without_secrets(env.args),
        "venue": plan.venue or plan.url,
        "feeds": plan.feeds,
        "products": plan.products,
    }
    if plan.until is not None:
        header["until"] = plan.until.text
    if plan.where is not None or not plan.snapshots:
        header["filter"] = {
            "where": plan.where.text if plan.where else None,
            "snapshots": plan.snapshots,
        }
    return header
