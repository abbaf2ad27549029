"""``kfws merge``: one tape out of several of the same feeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kfws.cli import options
from kfws.cli.choices import LogFormat
from kfws.cli.env import Env

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kfws.cli.progress import Progress
    from kfws.cli.totals import Totals
    from kfws.protocol.events import Event, Gap
    from kfws.sources.merging import Merging

__all__ = ["merge"]

# The end line lists so many ranges of what is missing on all tapes; the gaps stand in between.
RANGES_MOST = 1000

_Out = Annotated[
    str,
    typer.Option(
        "-o",
        "--output",
        metavar="OUT",
        help="The tape to write: .ndjson, or with .gz or .zst behind. (required)",
        rich_help_panel=options.OUTPUT,
        show_default=False,
    ),
]
_Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Status 7 when messages are missing on all tapes or left out.",
        rich_help_panel=options.OUTPUT,
    ),
]


def merge(
    context: typer.Context,
    tapes: options.Tapes,
    output: _Out,
    overwrite: options.Overwrite = False,
    strict: _Strict = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    log_format: options.LogFormatOption = LogFormat.text,
    debug: options.Debug = False,
) -> None:
    """Make one tape out of several of the same feeds.

    The first copy of each message wins, by its time of arrival; what one tape lacks comes from
    the others. What is missing on all of them stands in the last line of OUT, and what of feeds
    without numbers was left out though it is no copy.

    Examples:

        kfws merge left.ndjson.zst right.ndjson.zst -o both.ndjson.zst

        kfws merge tapes/ -o all.ndjson.zst && kfws verify all.ndjson.zst
    """
    from pathlib import Path

    from kfws.cli.progress import Progress
    from kfws.cli.signals import raise_on_signals
    from kfws.errors import Incomplete, OutputError
    from kfws.sinks.whole import appearing
    from kfws.sources.merging import Merging
    from kfws.tapes.files import Damage, Reader, check, find

    env: Env = context.obj
    talk = env.speak(verbose=verbose, quiet=quiet, debug=debug, log_format=log_format)
    _check_name(output)
    paths = find(tapes)
    for path in paths:
        check(path)
    damages: list[Damage] = []
    merging = Merging([Reader(path, damages=damages) for path in paths])
    raise_on_signals()
    size = sum(path.stat().st_size for path in paths)
    with (
        appearing(Path(output), overwrite=overwrite) as partial,
        Progress(env, "merging", size) as progress,
    ):
        totals, duration_s = _write(merging, _header(paths), paths, Path(output), partial, progress)
        if not totals.messages:
            raise OutputError(f"no message in {' '.join(tapes)}", hint="`kfws verify` says more")
    if damages or merging.broken:
        what = f"{len(damages)} damaged frames, {merging.broken} broken lines"
        talk.say("warning", "damage", f"not all could be read: {what}; kfws verify says where")
    for sentence in merging.absent:
        talk.say("warning", "absent", sentence)
    left_out = merging.left_out
    if left_out:
        feeds = ", ".join(f"{count:,} of {feed}" for feed, count in sorted(left_out.items()))
        what = f"left out: {feeds}; only one tape has them, and nothing says where they belong"
        talk.say("warning", "left-out", what, left_out=left_out)
    facts = totals.fields(duration_s) | {"copies": merging.copies, "left_out": left_out}
    what = "copy or snapshot" if merging.copies == 1 else "copies and snapshots"
    copies = f"{merging.copies:,} {what}"
    sentence = f"{totals.sentence(duration_s)}; {copies} left out"
    talk.say("warning", "totals", sentence, totals=facts)
    if strict and totals.missing + totals.dropped:
        raise Incomplete(f"{totals.missing + totals.dropped:,} messages are missing on all tapes")
    if strict and left_out:
        raise Incomplete(f"{left_out.total():,} messages that only one tape has were left out")


def _check_name(output: str) -> None:
    from kfws.errors import UsageError

    if "://" in output or output == "-":
        raise UsageError(
            f"-o {output}: merge writes a file", hint="name one, as in -o all.ndjson.zst"
        )
    if not output.lower().removesuffix(".gz").removesuffix(".zst").endswith(".ndjson"):
        raise UsageError(f"-o {output} is no name of a tape", hint="call it NAME.ndjson.zst")


def _write(
    merging: Merging,
    header: dict[str, Any],
    paths: Sequence[Path],
    path: Path,
    partial: Path,
    progress: Progress,
) -> tuple[Totals, float]:
    """The merged tape; gives what it adds up to, and how long a time it holds."""
    from kfws.cli.totals import Totals
    from kfws.protocol.events import Data, Gap, Report
    from kfws.sinks.file import FileSink
    from kfws.sinks.ndjson import Ndjson
    from kfws.tapes.files import compression_of, first_ns
    from kfws.tapes.line import MESSAGES_HERE

    sink, totals = Ndjson(stamp=True, events=True), Totals()
    file = FileSink(partial, compression=compression_of(path), overwrite=True)
    missing: list[Gap] = []
    # Not the moment of the first batch: who reads the tape later goes by what its header says.
    began_ns = min([moment for moment in map(first_ns, paths) if moment is not None], default=0)
    is_begun = False

    def put(events: Sequence[Event]) -> None:
        file.write(sink.encode(events), merging.at_ns)

    file.open()
    try:
        for done, events in merging.batches():
            if not is_begun:
                is_begun = True
                put([Report(received_ns=began_ns, name="header", fields=header)])
            put(events)
            messages = [each for each in events if type(each) is Data]
            if messages:
                totals.passed_on(messages)
            for event in events:
                if type(event) is not Data:
                    totals.see(event)
                if isinstance(event, Gap) and event.missing and not event.healed:
                    missing += [event] if len(missing) < RANGES_MOST else []
            progress.show(done, totals.messages)
        duration_s = (merging.at_ns - began_ns) / 1e9
        fields = totals.fields(duration_s) | {
            "missing_on_all": [_range(gap) for gap in missing],
            "left_out": merging.left_out,
            MESSAGES_HERE: totals.messages,
        }
        put([Report(received_ns=merging.at_ns, name="totals", fields=fields)])
    finally:
        file.close()
    return totals, duration_s


def _range(gap: Gap) -> dict[str, Any]:
    return {
        "feed": gap.feed,
        "product_id": gap.product,
        "first": gap.first,
        "last": gap.last,
        "missing": gap.missing,
    }


def _header(paths: Sequence[Path]) -> dict[str, Any]:
    """What the tapes say of themselves, as one."""
    from kfws import __version__
    from kfws.tapes.recordings import header_of

    headers = [header_of(path) for path in paths]

    def united(key: str) -> list[str]:
        lists = [header.get(key) for header in headers]
        return sorted(
            {each for found in lists if isinstance(found, list) for each in map(str, found)}
        )

    venues = sorted({str(header["venue"]) for header in headers if "venue" in header})
    found: dict[str, Any] = {
        "version": __version__,
        "venue": venues[0] if len(venues) == 1 else venues,
        "feeds": united("feeds"),
        "products": united("products"),
        "merged": [str(path) for path in paths],
    }
    if any(header.get("simulated") for header in headers):
        found["simulated"] = True
    filters = [header["filter"] for header in headers if header.get("filter")]
    if filters:
        found["filter"] = filters[0]
    return found
