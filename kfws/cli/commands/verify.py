"""``kfws verify``: what is on tapes, and what is missing there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kfws.cli import options
from kfws.cli.choices import Format, LogFormat
from kfws.cli.env import Env
from kfws.cli.rows import Column, as_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kfws.errors import OutputError
    from kfws.tapes.audit import Audit, Stream, Tape

__all__ = ["verify"]

GAPS_SHOWN = 20
NO_CLEAN_END = "it is being written, or its recorder was killed, or its disk was full"

_Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Status 7 also for duplicates, a torn tail, no clean end.",
        rich_help_panel=options.OUTPUT,
    ),
]
_Format = Annotated[
    Format,
    typer.Option(
        "-f",
        "--format",
        help="table, json, ndjson (all in one line); auto: table on a terminal.",
        rich_help_panel=options.OUTPUT,
    ),
]


def verify(
    context: typer.Context,
    tapes: options.Tapes,
    format: _Format = Format.auto,
    strict: _Strict = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    log_format: options.LogFormatOption = LogFormat.text,
    debug: options.Debug = False,
) -> None:
    """Say what is on tapes and what is missing, number by number.

    Status 7 when messages are missing that no snapshot lists, or lines were lost inside; 8 for
    what cannot be read, is no tape or holds no message (the rest is audited all the same). What
    nobody can prove is listed, status 0. Tapes that follow each other are one recording, tapes
    that overlap are several: `kfws merge` makes one of them.

    Examples:

        kfws verify book.ndjson.zst

        kfws verify tapes/ -f json | jq '.gaps[] | select(.healed | not)'
    """
    from kfws.cli.progress import Progress
    from kfws.errors import UsageError
    from kfws.tapes.audit import Audit
    from kfws.tapes.files import find

    env: Env = context.obj
    talk = env.speak(verbose=verbose, quiet=quiet, debug=debug, log_format=log_format)
    if format is Format.auto:
        format = Format.table if env.stdout_is_terminal else Format.ndjson
    if format not in (Format.table, Format.json, Format.ndjson):
        raise UsageError(
            f"verify has no -f {format.value}", hint="there are table, json and ndjson"
        )
    faults: list[OutputError] = []
    audit = Audit(find(tapes, faults=faults), faults)
    with Progress(env, "verifying", sum(each.bytes for each in audit.tapes)) as progress:
        for done in audit.run():
            progress.show(done, audit.messages)
    if not audit.tapes and len(audit.faults) == 1:
        raise audit.faults[0]
    for fault in audit.faults:
        talk.say("warning", "unread", fault.message, hint=fault.hint)
    env.print(_as_table(audit, env.columns) if format is Format.table else _as_json(audit, format))
    doubts = [doubt for tape in audit.tapes for doubt in _doubts(tape)]
    doubts += [doubt for stream in audit.streams for doubt in _doubts_of_stream(stream)]
    for doubt in doubts:
        talk.say("warning", "doubt", doubt)
    _judge(audit, doubts if strict else [])


def _judge(audit: Audit, doubts: Sequence[str]) -> None:
    """Raises OutputError where not all could be read, or there is nothing; Incomplete where
    something is missing, or doubtful under --strict."""
    from kfws.errors import Incomplete, OutputError

    faults = []
    if audit.missing:
        faults.append(f"{_count(audit.missing, 'message')} missing")
    if audit.lost_inside:
        fewer = f" ({_count(audit.lost, 'message')} fewer than recorded)" if audit.lost else ""
        faults.append(f"lines lost inside{fewer}")
    if audit.faults:
        rest = f", and of the rest: {', '.join(faults)}" if faults else ""
        raise OutputError(f"{_count(len(audit.faults), 'path')} not audited{rest}")
    if faults:
        raise Incomplete(
            f"not complete: {', '.join(faults)}",
            hint="another recording of the same time may have them: `kfws merge`",
        )
    if not audit.messages:
        if any(tape.is_torn for tape in audit.tapes):
            raise Incomplete("nothing to audit: what is torn holds no message that can be read")
        raise OutputError("nothing to audit: no message was recorded")
    if doubts:
        raise Incomplete(f"{_count(len(doubts), 'doubt')}, and --strict was given")


def _doubts(tape: Tape) -> Iterator[str]:
    """What is odd about a file though nothing that was written is missing."""
    if tape.is_torn:
        what = (
            f"it ends with {_count(tape.torn_bytes, 'byte')} of an unfinished line"
            if tape.torn_bytes
            else ("it ends within a compressed frame")
        )
        yield f"{tape.path} is torn: {what}"
    elif _is_empty(tape):
        yield f"{tape.path} is empty: it is no tape, or its recorder was killed as it began"
    elif not tape.ended:
        yield f"{tape.path} has no clean end: {NO_CLEAN_END}"
    if tape.set_back:
        yield f"{tape.path}: the clock went back {_count(tape.set_back, 'time')}"


def _is_empty(tape: Tape) -> bool:
    return not tape.bytes and not tape.lines


def _doubts_of_stream(stream: Stream) -> Iterator[str]:
    name = f"{stream.feed} {stream.product or ''}".rstrip()
    if not stream.messages:
        yield f"{name}: subscribed to, but no message of it was recorded"
    if stream.duplicates:
        yield f"{name}: {_count(stream.duplicates, 'message')} twice"
    if stream.untold:
        yield f"{name}: of {stream.untold:,} missing the recorder said nothing"


# ── for machines ──


def _as_json(audit: Audit, format: Format) -> str:
    import json

    indent = 2 if format is Format.json else None
    return json.dumps(audit.report(), indent=indent) + "\n"


# ── for people ──


def _as_table(audit: Audit, width: int | None) -> str:
    tables = [_table_of_tapes(audit.tapes, width)] if audit.tapes else []
    if audit.streams:
        tables.append(_table_of_streams(audit.streams, width))
    if lines := [*_gap_lines(audit.streams)]:
        tables.append("".join(_wrapped(line, width) + "\n" for line in lines))
    return "\n".join([*tables, _wrapped(_sum(audit), width)]) + "\n"


def _wrapped(line: str, width: int | None) -> str:
    """Broken between words where a terminal would break it anywhere."""
    from textwrap import fill

    if width is None:
        return line
    return fill(line, width, subsequent_indent="  ", break_on_hyphens=False)


def _gap_lines(streams: Sequence[Stream]) -> Iterator[str]:
    """The worst first; what is proven to be nothing is left out."""
    from kfws.cli.narrator import gap_in_words

    found = [
        (gap.healed, gap.missing is None, stream.recording, gap)
        for stream in streams
        for gap in stream.gaps
        if gap.missing != 0
    ]
    found.sort(key=lambda each: each[:2])
    several = _are_several(streams)
    for _, _, recording, gap in found[:GAPS_SHOWN]:
        words = _shown(gap_in_words(gap))
        yield f"recording {recording}: {words}" if several else words
    more = sum(stream.gaps_more for stream in streams) + len(found[GAPS_SHOWN:])
    if more:
        yield f"… and {_count(more, 'gap')} more; -f json lists them"


def _are_several(streams: Sequence[Stream]) -> bool:
    return len({stream.recording for stream in streams}) > 1


def _verdict(audit: Audit) -> str:
    """Nobody knows what a tape without a clean end would have held."""
    is_cut = any(tape.is_torn or not tape.ended for tape in audit.tapes)
    if is_cut and audit.verdict in ("complete", "no outage"):
        return f"{audit.verdict} up to an end that is no clean one"
    return audit.verdict


def _sum(audit: Audit) -> str:
    streams = audit.streams
    parts = [f"{_verdict(audit)}: {_count(audit.messages, 'message')}"]
    for name in ("missing", "healed"):
        number = sum(getattr(each, name) for each in streams)
        parts += [f"{number:,} {name}"] if number else []
    unprovable = sum(each.unprovable for each in streams)
    parts += [f"{_count(unprovable, 'interval')} unprovable"] if unprovable else []
    parts += [f"{_count(len(audit.faults), 'path')} not read"] if audit.faults else []
    return ", ".join(parts)


def _table_of_tapes(tapes: Sequence[Tape], width: int | None) -> str:
    several = len({tape.recording for tape in tapes}) > 1
    columns = [
        Column("TAPE", cut="start"),
        *([Column("REC", right=True)] if several else []),
        Column("LINES", right=True, spare=1),
        Column("MESSAGES", right=True),
        Column("CONNECTIONS", right=True, spare=1),
        Column("FRAMES", right=True, spare=1),
        Column("STATE", cut="end"),
    ]
    rows = []
    for tape in tapes:
        frames = f"{tape.frames:,}" if tape.compression else "-"
        counts = [f"{each:,}" for each in (tape.lines, tape.messages, tape.connections)]
        recording = [str(tape.recording)] if several else []
        rows.append([_shown(tape.path), *recording, *counts, frames, _state(tape)])
    return as_table(columns, rows, width=width)


def _state(tape: Tape) -> str:
    parts = []
    if tape.damages:
        start = tape.damages[0].start
        parts.append(f"damaged: {_count(len(tape.damages), 'frame')}, the first at byte {start:,}")
    if tape.broken:
        first = f", the first is {tape.broken_lines[0]:,}" if tape.broken_lines else ""
        parts.append(f"{_count(tape.broken, 'broken line')}{first}")
    if tape.lost:
        parts.append(f"{_count(tape.lost, 'message')} fewer than recorded")
    if tape.is_torn:
        parts.append("torn")
    elif _is_empty(tape):
        parts.append("empty")
    elif not tape.ended:
        parts.append("no clean end")
    return "; ".join(parts) or "whole"


def _table_of_streams(streams: Sequence[Stream], width: int | None) -> str:
    """Columns that say nothing of any stream are left out."""
    counts = [
        (title, name) for title, name in _COUNTS if any(getattr(stream, name) for stream in streams)
    ]
    several = _are_several(streams)
    columns = [
        Column("FEED", cut="end"),
        Column("PRODUCT", cut="end"),
        *([Column("REC", right=True)] if several else []),
        Column("MESSAGES", right=True),
        Column("FIRST (UTC)", spare=2),
        Column("LAST", spare=3),
        Column("NUMBERS", spare=4),
        *(Column(title, right=True, spare=title != "MISSING") for title, _ in counts),
        Column("DELAY", right=True, spare=5),
        Column("VERDICT"),
    ]
    rows = []
    for stream in streams:
        row = [_shown(stream.feed), _shown(stream.product or "-")]
        row += [str(stream.recording)] if several else []
        row += [f"{stream.messages:,}", _clock(stream.first_ns, "%Y-%m-%d ")]
        row += [_clock(stream.last_ns), _numbers(stream)]
        row += [f"{getattr(stream, name):,}" for _, name in counts]
        rows.append([*row, _delay(stream), stream.verdict])
    return as_table(columns, rows, width=width)


def _shown(text: str) -> str:
    from kfws.sinks.columns import printable

    return printable(text)


_COUNTS = (
    ("MISSING", "missing"),
    ("HEALED", "healed"),
    ("UNPROVABLE", "unprovable"),
    ("TWICE", "duplicates"),
    ("BACK", "steps_back"),
    ("RESTARTS", "restarts"),
)


def _clock(moment_ns: int, date: str = "") -> str:
    from datetime import UTC, datetime

    if not moment_ns:
        return "-"
    moment = datetime.fromtimestamp(min(moment_ns // 1_000_000, 10**14) / 1000, UTC)
    return moment.strftime(f"{date}%H:%M:%S")


def _numbers(stream: Stream) -> str:
    if stream.first_seq is None or not stream.is_numbered:
        return "-"
    return f"{stream.first_seq}–{stream.last_seq}"


def _delay(stream: Stream) -> str:
    """Half of the messages took less than the first, all but 1 % less than the second."""
    if stream.delay_p50_ms is None:
        return "-"
    return f"{stream.delay_p50_ms}/{stream.delay_p99_ms} ms"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"
