"""Where a run goes: the outputs of a plan, opened, and what a tape says of itself first."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from kfws.cli.choices import Format, OnDiskFull
from kfws.cli.env import Env

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kfws.cli.outlet import Outlet, Sink
    from kfws.cli.plan import Output, Plan
    from kfws.cli.products_list import ProductsList
    from kfws.cli.talk import Talk
    from kfws.sinks.shelf import Keeping
    from kfws.tapes.jetstream import Door
    from kfws.tapes.subjects import Address

__all__ = ["door", "header_of", "open_outlets"]


def open_outlets(
    plan: Plan,
    env: Env,
    talk: Talk,
    listed: ProductsList,
    *,
    played: Callable[[], str] | None = None,
) -> Iterator[tuple[Output, Outlet]]:
    """The outputs, opened. Raises OutputError, and UsageError where two are one by a link.

    ``played`` says where a replay stands."""
    import asyncio
    import time
    from os.path import realpath

    from kfws.cli.outlet import DescriptorOutlet, FileOutlet
    from kfws.errors import UsageError

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
            yield output, _on_stdout(output, plan, env, talk, listed, played)
            continue
        if output.address is not None:
            yield output, _into_stream(output.address, plan, env, talk)
            continue
        from kfws.sinks.shelf import Shelf

        shelf = Shelf(_keeping(output, output.path, plan), encoder, tell)
        shelf.open(time.time_ns())
        pipe = shelf.hand_over()
        if pipe is None:
            yield output, FileOutlet(shelf, full_bytes=plan.buffer_bytes, at_once=plan.sync_s == 0)
        else:
            sink = encoder(plan.feeds[0])
            yield output, DescriptorOutlet(pipe, sink, name=output.path, own=True)


def _into_stream(address: Address, plan: Plan, env: Env, talk: Talk) -> Outlet:
    from pathlib import Path

    from kfws.cli.jetstream import venue_name
    from kfws.sinks.jetstream import JetStreamOutlet, read_config
    from kfws.sinks.spool import Spool
    from kfws.tapes.subjects import Names

    typed = plan.jetstream
    names = Names(address.stream, venue_name(plan.venue, plan.url), typed.recorder or env.machine)
    place = env.state / "spool" / f"{names.root}.{names.recorder}.ndjson"
    return JetStreamOutlet(
        door(address, plan, env),
        names,
        Spool(Path(typed.spool) if typed.spool else place, typed.spool_bytes),
        talk.say,
        full_bytes=plan.buffer_bytes,
        patient=typed.spool is not None,
        waits=plan.on_disk_full == OnDiskFull.wait,
        config=read_config(typed.stream_config) if typed.stream_config is not None else None,
    )


def door(address: Address, plan: Plan, env: Env) -> Door:
    from kfws.tapes.jetstream import Door

    return Door(address, plan.jetstream.creds, env.nats_token, plan.ca_file)


def _on_stdout(
    output: Output,
    plan: Plan,
    env: Env,
    talk: Talk,
    listed: ProductsList,
    played: Callable[[], str] | None,
) -> Outlet:
    if output.format is Format.table and env.can_draw:
        from kfws.cli.views import on_terminal, views_of

        return on_terminal(views_of(plan, env, listed.at_hand()), plan, env, talk, played)
    from kfws.cli.outlet import DescriptorOutlet

    return DescriptorOutlet(env.stdout, _sink(output, plan, env, plan.feeds[0]))


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

            is_shown = output.path is None and env.stdout_is_terminal
            return Csv(feed=feed, fields=plan.fields, is_shown=is_shown)
        case Format.table:
            from kfws.sinks.paint import Paint
            from kfws.sinks.table import Table
            from kfws.sinks.tops import Tops

            # A line about a book is no message of one; with --fields it is what was asked for.
            table = Table if plan.look is None or plan.fields else Tops
            return table(
                feeds=plan.feeds,
                fields=plan.fields,
                events=plan.events,
                paint=Paint(env.color(plan.color)),
                width=env.size[0],
                zone=env.zone(plan.utc),
            )
        case _:
            from kfws.sinks.ndjson import Ndjson

            return Ndjson(
                stamp=plan.stamp or output.is_tape,
                events=plan.events or output.is_tape,
                fields=plan.fields,
            )


def header_of(plan: Plan, env: Env) -> dict[str, Any]:
    """What a tape says of itself in its first line."""
    from kfws import __version__
    from kfws.protocol.auth import as_shown

    header: dict[str, Any] = {"version": __version__}
    if any(output.is_tape for output in plan.outputs):
        from kfws.cli.secrets import without_secrets

        header["command"] = without_secrets(env.args)
    header["venue"] = plan.venue or as_shown(plan.url)
    header["feeds"] = plan.feeds
    header["products"] = plan.products
    if plan.until is not None:
        header["until"] = plan.until.text
    if plan.where is not None or not plan.snapshots:
        header["filter"] = {
            "where": plan.where.text if plan.where else None,
            "snapshots": plan.snapshots,
        }
    return header
