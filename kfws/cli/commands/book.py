"""``kfws book``: the order book as it stands, instead of the messages that change it."""

from __future__ import annotations

from typing import Annotated

import typer

from kfws.cli import options
from kfws.cli.choices import Color, Format, LogFormat, LoopName, OnDiskFull, OnFull
from kfws.cli.commands.subscribe import stream
from kfws.cli.complete import product_ids
from kfws.cli.env import Env

__all__ = ["book"]

Products = Annotated[
    list[str],
    typer.Argument(
        metavar="PRODUCT…",
        help="Product ids such as PF_XBTUSD, or globs such as 'PF_*'; @FILE names them line by "
        "line.",
        show_default=False,
        autocompletion=product_ids,
    ),
]


def book(
    context: typer.Context,
    products: Products,
    depth: options.Depth = None,
    group: options.Group = None,
    tick: options.Tick = None,
    every: options.Every = None,
    env: options.EnvOption = None,
    url: options.Url = None,
    rest_url: options.RestUrl = None,
    insecure: options.Insecure = False,
    proxy: options.Proxy = None,
    ca_file: options.CaFile = None,
    compression: options.Compression = False,
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
    nats_creds: options.NatsCreds = None,
    source: options.SourceOption = None,
    since: options.Since = None,
    from_seq: options.FromSeq = None,
    stamp: options.Stamp = False,
    events: options.Events = False,
    fields: options.Fields = None,
    color: options.ColorOption = Color.auto,
    where: options.Where = None,
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
    """Show order books: a ladder on a terminal, lines in a pipe.

    What counts as a message here (-n, --where, --until) is such a line: product_id, seq,
    timestamp, bids, asks, spread, mid, stale. A stale book is not to be trusted: messages are
    missing, and a new snapshot was asked for.

    Examples:

        kfws book PF_XBTUSD

        kfws book PF_XBTUSD PF_ETHUSD --depth 1 | jq -c '[.product_id, .mid]'

        kfws book PF_XBTUSD --depth 5 --every 1s -o book.ndjson

        kfws book PF_XBTUSD --group 10 --until 'spread>20'

        kfws book PF_XBTUSD --source nats://localhost:4222/kraken
    """
    from kfws.cli.jetstream import TypedJetStream
    from kfws.cli.plan import Typed, TypedLook

    world: Env = context.obj
    talk = world.speak(verbose=verbose, quiet=quiet, debug=debug, log_format=log_format)
    stream(
        Typed(
            feeds="book",
            products=products,
            look=TypedLook(depth=depth, group=group, tick=tick, every=every),
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
            color=color,
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
                creds=nats_creds, source=source, since=since, from_seq=from_seq
            ),
        ),
        world,
        talk,
    )
