"""``kfws convert``: tapes as Parquet or csv."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from kfws.cli import options
from kfws.cli.choices import LogFormat
from kfws.cli.env import Env

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from kfws.protocol.events import Data
    from kfws.tapes.files import Reader

__all__ = ["convert"]

BATCH = 512

# One argument, since the parser would take a tape that stands alone for OUT.
_Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="TAPE… OUT",
        help="Recordings: files (.ndjson, .gz, .zst), folders with such files, globs. Last the "
        "file to write: NAME.parquet, NAME.csv, .csv.gz or .csv.zst; {feed} in it stands for "
        "the feed.",
        show_default=False,
    ),
]


def convert(
    context: typer.Context,
    paths: _Paths,
    overwrite: options.Overwrite = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    log_format: options.LogFormatOption = LogFormat.text,
    debug: options.Debug = False,
) -> None:
    """Convert tapes to Parquet or csv, one feed a file.

    A row for each message; one for each entry of a nested one (the levels of a book snapshot),
    all with the same message_no. Keys without a column stand in `extra` as JSON. Parquet has
    typed columns, their units in the metadata, and needs the extra `parquet`. Status 7 when a
    part of the tapes could not be read; the rest is converted.

    Examples:

        kfws convert book.ndjson.zst book.parquet

        kfws convert tapes/ '{feed}.parquet'

        kfws convert trades.ndjson trades.csv.gz
    """

    from kfws.cli.progress import Progress
    from kfws.cli.signals import raise_on_signals
    from kfws.errors import Incomplete, OutputError
    from kfws.tapes.files import Damage, Reader, find

    env: Env = context.obj
    talk = env.speak(verbose=verbose, quiet=quiet, debug=debug, log_format=log_format)
    *tapes, output = paths
    make = _maker(output, is_alone=not tapes)
    found = find(tapes)
    damages: list[Damage] = []
    readers = [Reader(path, damages=damages) for path in found]
    raise_on_signals()
    size = sum(path.stat().st_size for path in found)
    with ExitStack() as stack, Progress(env, "converting", size) as progress:
        files = _Files(output, make, stack, found, overwrite=overwrite)
        read = broken = 0
        for data in _messages(readers):
            if data is None:
                broken += 1
                continue
            read += 1
            files.write(data)
            if read % BATCH == 0:
                progress.show(sum(each.position for each in readers), read)
        if not read:
            raise OutputError(f"no message in {' '.join(tapes)}", hint="`kfws verify` says more")
        written = files.close()
        if sum(written.values()) != read:
            raise OutputError(f"{read:,} messages on the tapes, but {written} in the files")
    for path, count in written.items():
        what = f"{count:,} messages in {path}, {files.rows[path]:,} rows"
        talk.say("warning", "converted", what, messages=count, rows=files.rows[path])
    lost = [_count(broken, "broken line")] if broken else []
    lost += [_count(len(damages), "damaged frame")] if damages else []
    where = "read" if lost else "on the tapes"
    what = f"{_count(read, 'message')} {where}, {read:,} converted"
    talk.say("warning", "totals", what, messages=read, broken=broken, damaged=len(damages))
    if lost:
        raise Incomplete(
            f"not all could be read: {', '.join(lost)}", hint="`kfws verify` says where"
        )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def _messages(readers: Sequence[Reader]) -> Iterator[Data | None]:
    """The messages of all tapes by time; None of a line that is neither that nor an event."""
    from kfws.tapes.recordings import data_of, interleave

    for _, _, step in interleave(readers):
        if step.event is None and not step.frames:
            yield None
        for payload in step.frames:
            yield data_of(payload, step.at_ns)


class _File(Protocol):
    """One file in the making: messages of one feed."""

    rows: int

    def write(self, messages: Sequence[Data]) -> None: ...

    def close(self) -> None: ...

    def count(self) -> int:
        """How many messages the complete file holds, read back from it."""
        ...


class _Maker(Protocol):
    """Makes the file at ``partial`` that will be called ``path``."""

    def __call__(self, partial: Path, path: Path, feed: str) -> _File: ...


def _maker(output: str, *, is_alone: bool = False) -> _Maker:
    """What writes files of this name; ``is_alone``: no tape stands ahead of it.

    Raises UsageError, MissingExtra."""
    from kfws.errors import UsageError

    name = output.lower()
    is_csv = name.removesuffix(".gz").removesuffix(".zst").endswith(".csv")
    if is_alone and (is_csv or name.endswith(".parquet")):
        raise UsageError("TAPE is missing", hint=f"kfws convert NAME.ndjson.zst {output}")
    if is_alone:
        raise UsageError("OUT is missing", hint=f"kfws convert {output} NAME.parquet, or NAME.csv")
    if name.endswith(".parquet"):
        from kfws.sinks.parquet import Parquet

        return lambda partial, path, feed: Parquet(partial, feed=feed)
    if is_csv:
        return _CsvFile
    raise UsageError(
        f"{output} is no name for Parquet or csv",
        hint="OUT stands last, and ends in .parquet, .csv, .csv.gz or .csv.zst",
    )


class _CsvFile:
    def __init__(self, partial: Path, path: Path, feed: str) -> None:
        from kfws.sinks.csv import Csv
        from kfws.sinks.file import FileSink
        from kfws.tapes.files import compression_of

        self.rows = 0
        self._path = partial
        self._sink = Csv(feed=feed)
        self._file = FileSink(partial, compression=compression_of(path), overwrite=True)
        self._file.open()

    def write(self, messages: Sequence[Data]) -> None:
        self._file.write(self._sink.encode(messages), messages[-1].received_ns)

    def close(self) -> None:
        self._file.close()

    def count(self) -> int:
        import re

        from kfws.tapes.files import read_lines

        row = re.compile(rb"\d+,(?:snapshot|delta),(\d+),")
        found = 0
        for line in read_lines(self._path):
            number = row.match(line)
            self.rows += number is not None
            # They count from 1 on, so a text of several lines that looks like a row counts not.
            found += number is not None and int(number[1]) == found + 1
        return found


class _Files:
    """The files, one for each feed; under their names when ``stack`` ends without an error."""

    def __init__(
        self,
        output: str,
        make: _Maker,
        stack: ExitStack,
        tapes: Sequence[Path],
        *,
        overwrite: bool = False,
    ) -> None:
        self._tapes = tapes
        self._output = output
        self._make = make
        self._stack = stack
        self._overwrite = overwrite
        self._files: dict[str, _File] = {}
        self._waiting: dict[str, list[Data]] = {}
        self.rows: dict[str, int] = {}
        """Of each complete file."""

    def write(self, data: Data) -> None:
        if data.feed not in self._files:
            self._open(data.feed)
        waiting = self._waiting[data.feed]
        waiting.append(data)
        if len(waiting) >= BATCH:
            self._files[data.feed].write(waiting)
            waiting.clear()

    def _open(self, feed: str) -> None:
        from pathlib import Path

        from kfws.errors import UsageError
        from kfws.sinks.whole import appearing
        from kfws.tapes.recordings import header_of
        from kfws.tapes.tape import texts

        if self._files and "{feed}" not in self._output:
            named = [each for path in self._tapes for each in texts(header_of(path).get("feeds"))]
            *feeds, last = dict.fromkeys([*self._files, feed, *named])
            raise UsageError(
                f"the tapes hold {', '.join(feeds)} and {last}, and a file holds one feed",
                hint="put {feed} into the name: '{feed}" + Path(self._output).suffix + "'",
            )
        path = Path(self._path(feed))
        partial = self._stack.enter_context(appearing(path, overwrite=self._overwrite))
        self._files[feed] = self._make(partial, path, feed)
        self._waiting[feed] = []

    def _path(self, feed: str) -> str:
        # The name comes from the wire, so it shall lead nowhere.
        return self._output.replace("{feed}", "".join(c if c.isalnum() else "_" for c in feed))

    def close(self) -> dict[str, int]:
        """Completes the files; how many messages each holds, by its name."""
        counts = {}
        for feed, file in self._files.items():
            if self._waiting[feed]:
                file.write(self._waiting[feed])
            file.close()
            path = self._path(feed)
            counts[path] = file.count()
            self.rows[path] = file.rows
        return counts
