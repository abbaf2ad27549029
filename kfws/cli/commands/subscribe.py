"""``kfws subscribe``: the main job."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from kfws.cli import options
from kfws.cli.choices import Color, Format, LogFormat, LoopName, OnDiskFull, OnFull
from kfws.cli.complete import feed_names, product_ids
from kfws.cli.env import Env

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AsyncExitStack

    from kfws import products_cache
    from kfws.cli.outlet import Outlet
    from kfws.cli.plan import Output, Plan, Typed
    from kfws.cli.products_list import ProductsList
    from kfws.cli.stream import Source
    from kfws.cli.talk import Talk
    from kfws.errors import Refused
    from kfws.protocol import events
    from kfws.protocol.auth import Credentials
    from kfws.sources.jetstream import FromJetStream
    from kfws.tapes.subjects import Address

__all__ = ["stream", "subscribe"]

# A run that failed is to end, and who mistyped waits for a word; the venue's list is worth so long.
FETCH_AFTER_REFUSAL_S = 3.0

Feeds = Annotated[
    str,
    typer.Argument(
        metavar="FEED[,FEED…]",
        help="Feeds; `kfws feeds` lists them.",
        show_default=False,
        autocompletion=feed_names,
    ),
]
Products = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PRODUCT…]",
        help="Product ids such as PF_XBTUSD, or globs such as 'PF_*'; @FILE names them line by "
        "line. With a private feed they filter.",
        show_default=False,
        autocompletion=product_ids,
    ),
]


def subscribe(
    context: typer.Context,
    feeds: Feeds,
    products: Products = None,
    env: options.EnvOption = None,
    url: options.Url = None,
    rest_url: options.RestUrl = None,
    insecure: options.Insecure = False,
    proxy: options.Proxy = None,
    ca_file: options.CaFile = None,
    compression: options.Compression = False,
    force_feed: options.ForceFeed = False,
    credentials: options.CredentialsFile = None,
    credentials_command: options.CredentialsCommand = None,
    profile: options.Profile = None,
    attempts: options.Attempts = None,
    redundancy: options.Redundancy = 1,
    renew: options.Renew = None,
    resync: options.Resync = True,
    buffer: options.Buffer = "64MB",
    on_full: options.OnFullOption = OnFull.block,
    coalesce: options.Coalesce = None,
    loop: options.LoopOption = LoopName.auto,
    format: options.FormatOption = Format.auto,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
    rotate: options.Rotate = None,
    sync: options.Sync = "1s",
    keep: options.Keep = None,
    on_disk_full: options.OnDiskFullOption = OnDiskFull.exit,
    spool: options.Spool = None,
    spool_size: options.SpoolSize = "1GB",
    recorder: options.Recorder = None,
    stream_config: options.StreamConfig = None,
    publish_private: options.PublishPrivate = False,
    snapshots_every: options.SnapshotsEvery = None,
    nats_creds: options.NatsCreds = None,
    shard: options.ShardOption = None,
    source: options.SourceOption = None,
    since: options.Since = None,
    from_seq: options.FromSeq = None,
    consumer: options.Consumer = None,
    stamp: options.Stamp = False,
    events: options.Events = False,
    fields: options.Fields = None,
    sort: options.Sort = None,
    utc: options.Utc = False,
    color: options.ColorOption = Color.auto,
    where: options.Where = None,
    snapshots: options.Snapshots = True,
    count: options.Count = None,
    duration: options.Duration = None,
    timeout: options.Timeout = None,
    until: options.Until = None,
    strict: options.Strict = False,
    stats: options.Stats = None,
    metrics: options.Metrics = None,
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

        kfws subscribe ticker 'PF_*' -o tickers.csv.gz

        kfws subscribe book,trade 'PF_*' -o nats://localhost:4222/kraken

        kfws subscribe trade PF_XBTUSD --source nats://localhost/kraken --since 1h

        kfws subscribe ticker PF_XBTUSD --env sim -n 1
    """
    from kfws.cli.jetstream import TypedJetStream
    from kfws.cli.plan import Typed

    world: Env = context.obj
    talk = world.speak(verbose=verbose, quiet=quiet, debug=debug, log_format=log_format)
    stream(
        Typed(
            feeds=feeds,
            products=products or (),
            force_feed=force_feed,
            env=env,
            url=url,
            rest_url=rest_url,
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
            sort=sort,
            utc=utc,
            color=color,
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
            coalesce=coalesce,
            loop=loop,
            stats=stats,
            metrics=metrics,
            jetstream=TypedJetStream(
                spool=spool,
                spool_size=spool_size,
                recorder=recorder,
                stream_config=stream_config,
                publish_private=publish_private,
                snapshots_every=snapshots_every,
                creds=nats_creds,
                shard=shard,
                source=source,
                since=since,
                from_seq=from_seq,
                consumer=consumer,
            ),
        ),
        world,
        talk,
        credentials=credentials,
        credentials_command=credentials_command,
        profile=profile,
    )


def stream(
    typed: Typed,
    env: Env,
    talk: Talk,
    *,
    credentials: str | None = None,
    credentials_command: str | None = None,
    profile: str | None = None,
) -> None:
    """Makes the plan of what was typed, and runs it to its end."""
    from kfws.cli import loop
    from kfws.cli.plan import make_plan

    plan = make_plan(typed, stdout_is_terminal=env.stdout_is_terminal, read_text=env.read_text)
    for sentence in plan.odd_keys:
        talk.say("warning", "plan", sentence, though_quiet=True)
    for warning in plan.warnings:
        talk.say("warning", "plan", warning)
    key = None
    if plan.jetstream.source is None:
        key = env.credentials(plan, file=credentials, command=credentials_command, profile=profile)
    loop.run(_run(plan, key, env, talk), plan.loop)


async def _run(plan: Plan, key: Credentials | None, env: Env, talk: Talk) -> None:
    import asyncio
    from contextlib import AsyncExitStack

    from kfws.cli.outlet import Dialled
    from kfws.cli.outlets import header_of, open_outlets
    from kfws.cli.plan import size_steps
    from kfws.cli.products_list import open_list
    from kfws.cli.stream import Run
    from kfws.errors import Refused
    from kfws.sources.lookup import DaemonThreads

    asyncio.get_running_loop().set_default_executor(DaemonThreads())
    listed = open_list(plan.rest_base, env, talk, proxy=plan.proxy, ca_file=plan.ca_file)
    if plan.jetstream.source is None:
        plan = _shared(await _named(plan, listed, talk))
    else:
        plan = size_steps(plan, listed.at_hand())
    async with AsyncExitStack() as stack:
        # Outputs first: a file that cannot be written is found before the venue is troubled.
        outlets = []
        for output, outlet in open_outlets(plan, env, talk, listed):
            if isinstance(outlet, Dialled):
                stack.push_async_callback(outlet.leave)
            stack.callback(outlet.close)
            if isinstance(outlet, Dialled):
                await outlet.open()
            outlets.append((output, outlet))
        url, header = plan.url, header_of(plan, env)
        if plan.venue == "sim" and plan.jetstream.source is None:
            from kfws.sim.server import SimOptions, serve

            venue = await stack.enter_async_context(serve(SimOptions(compression=plan.compression)))
            url, header = venue.url, header | {"simulated": True, "seed": 1}
            talk.say("warning", "simulated", "simulated market data: --env sim, not the venue")
        unseen = env.stderr_is_terminal and all(output.path for output in plan.outputs)
        run = Run(
            plan,
            outlets,
            talk,
            header=header,
            fault=listed.fault,
            reopens=not env.has_controlling_terminal,
            learn=partial(_looked_up, listed),
            progress=env.stderr.draw if unseen and talk.is_for_people else None,
        )
        source: Source
        if plan.jetstream.source is not None:
            source = stream = _from_stream(plan.jetstream.source, plan, env, talk)
            stack.push_async_callback(stream.close)
        else:
            source = _source(plan, url, key, env)
            _keep_snapshots(plan, url, env, talk, outlets, stack)
        if plan.metrics is not None:
            from kfws.cli.metrics import serve_metrics

            page = partial(run.metrics, source)
            where = await stack.enter_async_context(serve_metrics(*plan.metrics, page))
            talk.say("info", "metrics", f"metrics at {where}")
        env.settle()
        try:
            await run.run(source)
        except Refused as exc:
            raise await _explained(exc, run.refused, listed) from exc


def _keep_snapshots(
    plan: Plan,
    url: str,
    env: Env,
    talk: Talk,
    outlets: Sequence[tuple[Output, Outlet]],
    stack: AsyncExitStack,
) -> None:
    """Beside a run that publishes books, until it ends."""
    import asyncio

    every_s = plan.jetstream.snapshots_every_s
    if every_s is None or "book" not in plan.feeds:
        return
    if all(output.address is None for output, _ in outlets):
        return
    from msgspec.structs import replace

    from kfws.cli.snapshots import keep_snapshots
    from kfws.sinks.jetstream import JetStreamOutlet

    alone = replace(plan, feeds=("book",), redundancy=1, attempts=1, resync=False, snapshots=True)
    streams = [each for _, each in outlets if isinstance(each, JetStreamOutlet)]
    keeping = asyncio.create_task(
        keep_snapshots(
            lambda: _source(alone, url, None, env), plan.products, streams, every_s, talk
        )
    )

    async def end() -> None:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    stack.push_async_callback(end)


async def _named(plan: Plan, listed: ProductsList, talk: Talk) -> Plan:
    """The plan with the venue's own ids. Raises KfwsError where globs need a list that is nowhere.

    The venue is asked only for globs; ids that no list knows are sent as they were typed.
    """
    from kfws.cli.plan import name_products, size_steps

    if not plan.names_products:
        return plan
    costs_nothing = plan.rest_base == ""
    products = await listed.get() if plan.has_globs or costs_nothing else listed.at_hand()
    if products is None:
        return size_steps(plan, None)
    named = name_products(plan, products)
    for warning in named.warnings[len(plan.warnings) :]:
        talk.say("warning", "plan", warning)
    return size_steps(named, products)


def _shared(plan: Plan) -> Plan:
    """The plan with our part of the products."""
    from msgspec.structs import replace

    from kfws.cli.jetstream import share

    shard = plan.jetstream.shard
    return plan if shard is None else replace(plan, products=share(plan.products, shard))


async def _explained(
    error: Refused, refused: list[events.Refused], listed: ProductsList
) -> Refused:
    """The same refusal with ids that look like those that the venue does not know; the error as it
    is where there is no list."""
    from kfws.cli.narrator import is_unknown
    from kfws.errors import Refused

    products = await _looked_up(listed) if all(map(is_unknown, refused)) else None
    if products is None:
        return error
    faults = [*dict.fromkeys(products.fault(each.product or "") for each in refused)]
    if not all(faults) or not faults:
        return error
    more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
    return Refused("; ".join(faults[:3]) + more, hint="`kfws products` lists them")


async def _looked_up(listed: ProductsList) -> products_cache.Products | None:
    """The list at hand, else the venue's: after a refusal it is asked, if it answers soon."""
    import asyncio

    from kfws.errors import KfwsError
    from kfws.rest import load

    try:
        if listed.at_hand() is None:
            await asyncio.to_thread(load)  # a stream may be going on
        return listed.at_hand() or await listed.get(timeout_s=FETCH_AFTER_REFUSAL_S)
    except KfwsError:
        return None


def _source(plan: Plan, url: str, key: Credentials | None, env: Env) -> Source:
    from kfws.cli.plan import LEAST_BUFFER
    from kfws.protocol.session import Subscription
    from kfws.sources.connection import Target
    from kfws.sources.redundant import open_source

    target = Target(
        url=url,
        proxy=env.proxy(plan.proxy, url),
        allow_plain=plan.insecure,
        ca_file=plan.ca_file,
        compression=plan.compression,
        follow_redirects=not plan.is_private,
        buffer_bytes=max(LEAST_BUFFER, plan.buffer_bytes // plan.redundancy),
        coalesce_s=plan.coalesce_s,
    )
    return open_source(
        target,
        [Subscription(*each) for each in plan.subscriptions],
        key,
        redundancy=plan.redundancy,
        renew_s=plan.renew_s,
        attempts=plan.attempts,
        resync=plan.resync,
        on_full=plan.on_full.value,
        snapshots_pass=plan.snapshots,
    )


def _from_stream(address: Address, plan: Plan, env: Env, talk: Talk) -> FromJetStream:
    from kfws.cli.jetstream import venue_name
    from kfws.cli.outlets import door
    from kfws.sources.jetstream import FromJetStream
    from kfws.tapes.subjects import token

    def say(code: str, what: str, hint: str) -> None:
        talk.say("warning", code, what, hint=hint)

    return FromJetStream(
        door(address, plan, env),
        f"{address.stream}.{token(venue_name(plan.venue, plan.url))}",
        feeds=plan.feeds,
        products=plan.products,
        since_s=plan.jetstream.since_s,
        from_seq=plan.jetstream.from_seq,
        consumer=plan.jetstream.consumer,
        snapshots_pass=plan.snapshots,
        say=say,
    )
