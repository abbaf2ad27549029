"""``kfws replay``: tapes through the outputs of ``kfws subscribe``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kfws.cli import options
from kfws.cli.choices import Color, Format, LogFormat
from kfws.cli.complete import feed_names
from kfws.cli.env import Env

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import tzinfo

    from kfws.cli.plan import Plan
    from kfws.cli.talk import Talk
    from kfws.sources.replay import Replay
    from kfws.tapes.tape import Tape

__all__ = ["replay"]

DRAW_EVERY_S = 0.2

_PLAY = "What to play"

Speed = Annotated[
    str,
    typer.Option(
        "--speed",
        metavar="N",
        help="N times as fast as recorded; max: as fast as it goes.",
        rich_help_panel=_PLAY,
    ),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="TIME",
        help="Begin there: 10m (from the start), 16:30, 2026-11-24T16:30 (UTC), epoch. "
        "(default: the beginning)",
        rich_help_panel=_PLAY,
    ),
]
To = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="TIME",
        help="End there: 20m, 16:45, as with --from. (default: the end)",
        rich_help_panel=_PLAY,
    ),
]
Feed = Annotated[
    str | None,
    typer.Option(
        "--feed",
        metavar="FEED[,FEED…]",
        help="Just these feeds. (default: all)",
        rich_help_panel=_PLAY,
        autocompletion=feed_names,
    ),
]
Product = Annotated[
    list[str] | None,
    typer.Option(
        "--product",
        metavar="PRODUCT",
        help="Just these products (repeatable). (default: all)",
        rich_help_panel=_PLAY,
    ),
]


def replay(
    context: typer.Context,
    tapes: options.Tapes,
    speed: Speed = "1",
    from_: From = None,
    to: To = None,
    feed: Feed = None,
    product: Product = None,
    format: options.FormatOption = Format.auto,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
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
    until: options.Until = None,
    strict: options.Strict = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    log_format: options.LogFormatOption = LogFormat.text,
    debug: options.Debug = False,
) -> None:
    """Play tapes again, through the outputs of `kfws subscribe`.

    On a terminal: space pauses, → steps to the next message, q leaves.

    Examples:

        kfws replay book.ndjson.zst

        kfws replay tapes/ --speed 10 --from 16:30 --to 16:45

        kfws replay trades.ndjson --speed max --where 'qty>=10' | jq .price

        kfws replay big.ndjson.zst --speed max --from 10m --to 20m -o part.ndjson
    """
    import asyncio

    from kfws.cli.plan import Typed, make_plan
    from kfws.tapes.tape import tapes_in

    world: Env = context.obj
    talk = world.speak(verbose=verbose, quiet=quiet, debug=debug, log_format=log_format)
    pace = _speed(speed)
    found = tapes_in(tapes)
    feeds = _feeds(feed, found)
    plan = make_plan(
        Typed(
            feeds=feeds,
            products=product or (),
            known_feeds=[each for tape in found for each in tape.feeds],
            recorded=True,
            format=format,
            outputs=output or (),
            overwrite=overwrite,
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
            strict=strict,
        ),
        stdout_is_terminal=world.stdout_is_terminal,
        read_text=world.read_text,
    )
    _keep_apart(plan, found)
    source = _source(plan, found, talk, pace, (from_, to), only=feed is not None)
    for sentence in plan.odd_keys:
        talk.say("warning", "plan", sentence, though_quiet=True)
    for warning in (*plan.warnings, *_doubts(plan, found, feed)):
        talk.say("warning", "plan", warning)
    try:
        asyncio.run(_run(plan, source, _header(plan, found, world), world, talk))
    finally:
        for name, messages in source.left_out.items() if feed is None else ():
            what = f"{messages:,} message{'s' if messages > 1 else ''} of {name}"
            talk.say("warning", "left-out", f"left out: {what}", hint="see --feed")


def _speed(typed: str) -> float | None:
    from kfws.errors import UsageError

    if typed == "max":
        return None
    try:
        speed = float(typed.removesuffix("x").removesuffix("×"))
    except ValueError:
        speed = 0.0
    if not 0.001 <= speed <= 1e6:
        raise UsageError(f"--speed {typed} is no speed", hint="1, 10, 0.5 or max")
    return speed


def _feeds(typed: str | None, tapes: Sequence[Tape]) -> str:
    from kfws.errors import UsageError

    if typed is not None:
        return typed
    feeds = dict.fromkeys(feed for tape in tapes for feed in tape.feeds)
    if not feeds:
        raise UsageError(f"{tapes[0].path} does not say what it holds", hint="--feed FEED")
    return ",".join(feeds)


def _doubts(plan: Plan, tapes: Sequence[Tape], feed: str | None) -> list[str]:
    """What may be meant otherwise; a tape may hold more than its first line names."""
    found = []
    for what, wanted, held in (
        ("--feed", plan.feeds if feed else (), {each for tape in tapes for each in tape.feeds}),
        ("--product", plan.products, {each for tape in tapes for each in tape.products}),
    ):
        known = {each.lower() for each in held}
        unknown = [each for each in wanted if each.lower() not in known]
        if unknown and held:
            named = ", ".join(sorted(held))
            found.append(f"{what}: no tape begins with {', '.join(unknown)}; they name {named}")
    if any(tape.is_simulated for tape in tapes):
        found.append("simulated market data: recorded from the simulator, not from the venue")
    return found


def _keep_apart(plan: Plan, tapes: Sequence[Tape]) -> None:
    """Before anything is opened to be written."""
    from os.path import realpath

    from kfws.errors import UsageError

    played = {realpath(tape.path) for tape in tapes}
    for output in plan.outputs:
        if output.path is not None and realpath(output.path) in played:
            raise UsageError(
                f"{output.path} cannot be played and written at once", hint="give -o another path"
            )


def _source(
    plan: Plan,
    tapes: Sequence[Tape],
    talk: Talk,
    speed: float | None,
    span: tuple[str | None, str | None],
    *,
    only: bool,
) -> Replay:
    from kfws.cli.quantities import moment_of_tape_ns
    from kfws.errors import UsageError
    from kfws.sources.replay import Pace, Replay

    start_ns = min(tape.first_ns for tape in tapes)
    from_ns, to_ns = (None if each is None else moment_of_tape_ns(each, start_ns) for each in span)
    if to_ns is not None and to_ns <= max(start_ns, from_ns or 0):
        raise UsageError(f"--to {span[1]} is not behind the beginning", hint="look at --from, --to")
    if from_ns is not None:
        _check_end(tapes, str(span[0]), from_ns, start_ns)
    holds_one = any(output.format is Format.csv for output in plan.outputs)
    return Replay(
        tapes,
        say=lambda code, sentence: talk.say("warning", code, sentence),
        pace=Pace(speed),
        feeds=plan.feeds if only or holds_one else (),
        products=plan.products,
        from_ns=from_ns,
        to_ns=to_ns,
    )


def _check_end(tapes: Sequence[Tape], typed: str, from_ns: int, start_ns: int) -> None:
    """Raises UsageError where all tapes end before --from, as far as they tell it in short."""
    from datetime import UTC, datetime

    from kfws.cli.quantities import length
    from kfws.errors import UsageError
    from kfws.tapes.files import last_ns

    if any(tape.first_ns >= from_ns for tape in tapes):
        return
    ends = [last_ns(tape.path) for tape in tapes]
    known = [end for end in ends if end is not None]
    if len(known) < len(ends) or max(known) >= from_ns:
        return
    end = datetime.fromtimestamp(max(known) / 1e9, UTC)
    raise UsageError(
        f"nothing from {typed} on: the tape ends at {length((max(known) - start_ns) / 1e9)} "
        f"({end:%Y-%m-%d %H:%M:%S} UTC)",
        hint="look at --from",
    )


def _header(plan: Plan, tapes: Sequence[Tape], env: Env) -> dict[str, Any]:
    """What a tape that is written says of itself: where it comes from, as the played ones do."""
    from kfws.cli.outlets import header_of

    header = header_of(plan, env)
    first = tapes[0].header
    header["venue"] = first.get("venue")
    if not plan.products:
        header["products"] = list(dict.fromkeys(each for tape in tapes for each in tape.products))
    for key in ("simulated", "seed"):
        if key in first:
            header[key] = first[key]
    filters = [tape.header["filter"] for tape in tapes if tape.is_filtered]
    if filters:
        header.setdefault("filter", filters[0])
    return header | {"played": [tape.path.name for tape in tapes]}


async def _run(plan: Plan, source: Replay, header: dict[str, Any], env: Env, talk: Talk) -> None:
    import asyncio
    from contextlib import AsyncExitStack

    from kfws.cli.outlets import open_outlets
    from kfws.cli.products_list import open_list
    from kfws.cli.stream import Run

    zone = env.zone(plan.utc)
    async with AsyncExitStack() as stack:
        outlets = []
        played = partial(_where, source, zone, keys=env.has_keys)
        listed = open_list(plan.rest_base, env, talk, proxy=None, ca_file=None)
        for output, outlet in open_outlets(plan, env, talk, listed, played=played):
            stack.callback(outlet.close)
            outlets.append((output, outlet))
        if env.has_keys:
            from kfws.cli.keys import keys

            stack.enter_context(keys(env.stdin, lambda key: _obey(key, source)))
        # What reads a pipe may well write to the same terminal.
        if env.stderr_is_terminal and env.stdout_is_kept:
            drawing = asyncio.create_task(_draw(env, lambda: _where(source, zone)))
            stack.callback(env.stderr.draw, "")
            stack.callback(drawing.cancel)
        run = Run(plan, outlets, talk, header=header, now_ns=source.now_ns)
        env.settle()
        await run.run(source)


async def _draw(env: Env, played: Callable[[], str]) -> None:
    """How far it is, where stdout is not the terminal that shows it."""
    import asyncio

    while True:
        env.stderr.draw(played())
        await asyncio.sleep(DRAW_EVERY_S)


def _where(source: Replay, zone: tzinfo, *, keys: bool = False) -> str:
    """``● playing 2026-11-24 16:03:12 ×10 34%``; keys last, where a narrow terminal cuts."""
    from datetime import datetime

    pace = source.pace
    at = datetime.fromtimestamp(source.now_ns() / 1e9, zone)
    speed = "max" if pace.speed is None else f"×{pace.speed:g}"
    state, hint = "● playing", ""
    if pace.is_paused:
        state, hint = "○ paused", " · space plays, → steps, q leaves" if keys else ""
    return f"{state} {at:%Y-%m-%d %H:%M:%S} {speed} {source.share:.0%}{hint}"


def _obey(key: str, source: Replay) -> None:
    match key:
        case " ":
            source.toggle()
        case "right":
            source.step()
        case "q":
            source.leave()
