"""Every option that commands share, defined once."""

from __future__ import annotations

from typing import Annotated

import typer

from kfws.cli.choices import Color, Format, LogFormat, LoopName, OnDiskFull, OnFull, VenueName
from kfws.cli.complete import field_names, sort_titles

__all__ = [
    "OUTPUT",
    "SELECT",
    "VENUE",
    "Attempts",
    "Buffer",
    "CaFile",
    "Coalesce",
    "ColorOption",
    "Compression",
    "Consumer",
    "Count",
    "CredentialsCommand",
    "CredentialsFile",
    "Debug",
    "Depth",
    "Duration",
    "EnvOption",
    "Events",
    "Every",
    "Fields",
    "ForceFeed",
    "FormatOption",
    "FromSeq",
    "Group",
    "Insecure",
    "Keep",
    "LogFormatOption",
    "LoopOption",
    "Metrics",
    "NatsCreds",
    "OnDiskFullOption",
    "OnFullOption",
    "Output",
    "Overwrite",
    "Profile",
    "Proxy",
    "PublishPrivate",
    "Quiet",
    "Recorder",
    "Redundancy",
    "Renew",
    "RestUrl",
    "Resync",
    "Rotate",
    "ShardOption",
    "Since",
    "Snapshots",
    "SnapshotsEvery",
    "Sort",
    "SourceOption",
    "Spool",
    "SpoolSize",
    "Stamp",
    "Stats",
    "StreamConfig",
    "Strict",
    "Sync",
    "Tapes",
    "Tick",
    "Timeout",
    "Until",
    "Url",
    "Utc",
    "Verbose",
    "Where",
]

VENUE = "Venue"
_STEADY = "Steadiness"
OUTPUT = "Output"
_FILES = "Files of -o"
SELECT = "Selection"
_BOOK = "Book"
_STREAM = "JetStream"
_END = "When to end"
_TALK = "Messages (stderr)"


Tapes = Annotated[
    list[str],
    typer.Argument(
        metavar="TAPE…",
        help="Recordings: files (.ndjson, .gz, .zst), folders with such files, globs.",
        show_default=False,
    ),
]
EnvOption = Annotated[
    VenueName | None,
    typer.Option(
        "--env",
        help="The venue; sim runs a simulated one in the process. (default: live)",
        rich_help_panel=VENUE,
        show_default=False,
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="Another venue: wss://HOST/ws/v1. (default: that of --env)",
        rich_help_panel=VENUE,
    ),
]
RestUrl = Annotated[
    str | None,
    typer.Option(
        "--rest-url",
        metavar="URL",
        help="Where REST is: https://HOST. (default: host and port of --url, else of --env)",
        rich_help_panel=VENUE,
        show_default=False,
    ),
]
Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure",
        help="Allow ws:// and http:// to other hosts than this one (never with credentials).",
        rich_help_panel=VENUE,
    ),
]
Proxy = Annotated[
    str | None,
    typer.Option(
        "--proxy",
        metavar="URL",
        help="HTTP or SOCKS proxy; `none`: no proxy. (default: https_proxy, all_proxy …)",
        rich_help_panel=VENUE,
        show_default=False,
    ),
]
CaFile = Annotated[
    str | None,
    typer.Option(
        "--ca-file",
        metavar="FILE",
        help="Trust these authorities (PEM). (default: the system's)",
        rich_help_panel=VENUE,
    ),
]
Compression = Annotated[
    bool,
    typer.Option(
        "--compression",
        help="Offer permessage-deflate: less network, more CPU.",
        rich_help_panel=VENUE,
    ),
]
ForceFeed = Annotated[
    bool,
    typer.Option(
        "--force-feed",
        help="Ask for feeds that kfws does not know.",
        rich_help_panel=VENUE,
    ),
]
CredentialsFile = Annotated[
    str | None,
    typer.Option(
        "--credentials",
        metavar="FILE",
        help="A file with api_key and api_secret, readable by you alone. "
        "(default: see `kfws auth status`)",
        rich_help_panel=VENUE,
    ),
]
CredentialsCommand = Annotated[
    str | None,
    typer.Option(
        "--credentials-command",
        metavar="CMD",
        help="A command that prints api_key and api_secret within 60 s. (default: none)",
        rich_help_panel=VENUE,
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        help="A key that `kfws auth login` keeps, also where the environment names another. "
        "(default: the environment's, else `default`)",
        rich_help_panel=VENUE,
        show_default=False,
    ),
]
Attempts = Annotated[
    int | None,
    typer.Option(
        "--attempts",
        metavar="N",
        min=0,
        help="Give up after N failed dials in a row; 0: never. "
        "(default: 5 until a connection stood, then never)",
        rich_help_panel=_STEADY,
        show_default=False,
    ),
]
Redundancy = Annotated[
    int,
    typer.Option(
        "--redundancy",
        metavar="N",
        min=1,
        max=3,
        help="N connections at once, one stream: the first copy of a message wins.",
        rich_help_panel=_STEADY,
    ),
]
Renew = Annotated[
    str | None,
    typer.Option(
        "--renew",
        metavar="TIME",
        help="With --redundancy: replace a connection of this age, the new one first. "
        "(default: 12h)",
        rich_help_panel=_STEADY,
    ),
]
Resync = Annotated[
    bool,
    typer.Option(
        "--resync/--no-resync",
        help="Ask for a new snapshot of a book with a gap.",
        rich_help_panel=_STEADY,
    ),
]
Buffer = Annotated[
    str,
    typer.Option(
        "--buffer",
        metavar="SIZE",
        help="How much may wait for a slow reader.",
        rich_help_panel=_STEADY,
    ),
]
Coalesce = Annotated[
    str | None,
    typer.Option(
        "--coalesce",
        metavar="TIME",
        help="Wait so long after a read before the next, e.g. 5ms: less CPU, later lines. "
        "(default: 0)",
        rich_help_panel=_STEADY,
        show_default=False,
    ),
]
LoopOption = Annotated[
    LoopName,
    typer.Option(
        "--loop",
        help="The event loop; auto: uvloop where the extra 'fast' is installed.",
        rich_help_panel=_STEADY,
    ),
]
OnFullOption = Annotated[
    OnFull,
    typer.Option(
        "--on-full",
        help="When that is full: stop reading the venue, drop the oldest and name it, or leave.",
        rich_help_panel=_STEADY,
    ),
]
FormatOption = Annotated[
    Format,
    typer.Option(
        "-f",
        "--format",
        help="Format on stdout; auto: table on a terminal, ndjson in a pipe.",
        rich_help_panel=OUTPUT,
    ),
]
Output = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--output",
        metavar="PATH",
        help="Write a file instead of stdout (repeatable; - is stdout), or publish into a "
        "JetStream: nats://HOST/STREAM. "
        "The suffix decides: .csv .json .raw, else ndjson; then .gz or .zst. "
        "{feed} {product} {date} {time} {n} in it are filled in, in UTC. (default: stdout)",
        rich_help_panel=OUTPUT,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace a file that exists (a tape is appended to otherwise).",
        rich_help_panel=_FILES,
    ),
]
Rotate = Annotated[
    str | None,
    typer.Option(
        "--rotate",
        metavar="TIME|SIZE",
        help="A new file at each full 1h (UTC), after 256MB on disk, or 1h,256MB. The one being "
        "written ends in .open; each has its moment in its name unless {time} or {n} is there. "
        "(default: one file)",
        rich_help_panel=_FILES,
    ),
]
Sync = Annotated[
    str,
    typer.Option(
        "--sync",
        metavar="TIME|always|never",
        help="Force lines to disk at least so often: a crash loses no more than that.",
        rich_help_panel=_FILES,
    ),
]
Keep = Annotated[
    str | None,
    typer.Option(
        "--keep",
        metavar="TIME|SIZE",
        help="With --rotate: delete complete files of this output that are older than 7d, the "
        "oldest while there are more than 50GB, or 7d,50GB. (default: all are kept)",
        rich_help_panel=_FILES,
    ),
]
OnDiskFullOption = Annotated[
    OnDiskFull,
    typer.Option(
        "--on-disk-full",
        help="End with status 8, or wait for room, for --spool too; what a tape loses meanwhile is "
        "named on it.",
        rich_help_panel=_FILES,
    ),
]
Stamp = Annotated[
    bool,
    typer.Option(
        "--stamp",
        help="Put received_ns (wall clock, ns) first in each line.",
        rich_help_panel=OUTPUT,
    ),
]
Events = Annotated[
    bool,
    typer.Option(
        "--events",
        help="The stream's own events as objects with a kfws key.",
        rich_help_panel=OUTPUT,
    ),
]
Fields = Annotated[
    str | None,
    typer.Option(
        "--fields",
        metavar="A,B",
        help="Just these columns (csv, table) or keys (ndjson, json). (default: all)",
        autocompletion=field_names,
        rich_help_panel=OUTPUT,
    ),
]
Sort = Annotated[
    str | None,
    typer.Option(
        "--sort",
        metavar="COLUMN",
        help="Order the rows of a live table by a column, e.g. change; -change: the greatest "
        "first. (default: as asked for)",
        autocompletion=sort_titles,
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
]
Utc = Annotated[
    bool,
    typer.Option("--utc", help="Times in UTC, not in your own zone.", rich_help_panel=OUTPUT),
]
ColorOption = Annotated[
    Color,
    typer.Option(
        "--color",
        help="Colours on stdout; auto: on a terminal, unless NO_COLOR is set.",
        rich_help_panel=OUTPUT,
    ),
]
Depth = Annotated[
    int | None,
    typer.Option(
        "--depth",
        metavar="N",
        min=1,
        help="Levels a side; 1: the top of the book. (default: 10; on a terminal as many as fit)",
        rich_help_panel=_BOOK,
        show_default=False,
    ),
]
Group = Annotated[
    int | None,
    typer.Option(
        "--group",
        metavar="TICKS",
        min=1,
        help="Put levels together in steps of so many ticks, quantities summed. "
        "(default: as they are)",
        rich_help_panel=_BOOK,
    ),
]
Tick = Annotated[
    str | None,
    typer.Option(
        "--tick",
        metavar="PRICE",
        help="The tick size, in the price's own unit. (default: as `kfws products` knows it)",
        rich_help_panel=_BOOK,
        show_default=False,
    ),
]
Every = Annotated[
    str | None,
    typer.Option(
        "--every",
        metavar="TIME",
        help="Lines at most so often (100ms), each with the book of that moment. "
        "(default: one for each visible change)",
        rich_help_panel=_BOOK,
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="EXPR",
        help="Pass on what matches: KEY OP VALUE with and, or, not, ( ), e.g. "
        "'side==buy and qty>=10'. A snapshot passes whole when any of its entries matches. "
        "(default: all)",
        rich_help_panel=SELECT,
    ),
]
Snapshots = Annotated[
    bool,
    typer.Option(
        "--snapshots/--no-snapshots",
        help="Pass on snapshot messages.",
        rich_help_panel=SELECT,
    ),
]
Until = Annotated[
    str | None,
    typer.Option(
        "--until",
        metavar="EXPR",
        help="End after the first message that matches, e.g. 'last>50000'. (default: never)",
        rich_help_panel=_END,
    ),
]
Count = Annotated[
    int | None,
    typer.Option(
        "-n",
        "--count",
        metavar="N",
        help="End after N messages; a snapshot is one. (default: never)",
        rich_help_panel=_END,
    ),
]
Duration = Annotated[
    str | None,
    typer.Option(
        "--duration",
        metavar="TIME",
        help="End after this time: 250ms, 30s, 5m, 1h30m, 2d. (default: never)",
        rich_help_panel=_END,
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option(
        "--timeout",
        metavar="TIME",
        help="End (status 9) when no message came for so long, e.g. 30s. (default: never)",
        rich_help_panel=_END,
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="End on a refused subscription (5), a broken frame (6), an unhealed gap (7).",
        rich_help_panel=_END,
    ),
]
Stats = Annotated[
    str | None,
    typer.Option(
        "--stats",
        metavar="TIME",
        help="Say how it goes every so often, e.g. 10s: rate, delay, gaps, buffer; with "
        "--events in the stream. (default: never)",
        rich_help_panel=_TALK,
        show_default=False,
    ),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="[HOST:]PORT",
        help="Answer http://HOST:PORT/metrics for Prometheus; without a host on this machine "
        "alone. Port 0: any free one, told with -v. (default: nowhere)",
        rich_help_panel=_TALK,
        show_default=False,
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "-v", "--verbose", help="Print what happens on the connection.", rich_help_panel=_TALK
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "-q",
        "--quiet",
        help="Print nothing but errors, and keys that are probably mistyped.",
        rich_help_panel=_TALK,
    ),
]
LogFormatOption = Annotated[
    LogFormat,
    typer.Option("--log-format", help="Lines for people or objects.", rich_help_panel=_TALK),
]
Debug = Annotated[
    bool,
    typer.Option("--debug", help="Print everything, and tracebacks.", rich_help_panel=_TALK),
]
Spool = Annotated[
    str | None,
    typer.Option(
        "--spool",
        metavar="PATH",
        help="Where messages wait while the server of -o nats://… is away; with it, a run may "
        "begin without the server. (default: a file in the user's state folder)",
        rich_help_panel=_STREAM,
        show_default=False,
    ),
]
SpoolSize = Annotated[
    str,
    typer.Option(
        "--spool-size",
        metavar="SIZE",
        help="How much may wait there; then the run ends.",
        rich_help_panel=_STREAM,
    ),
]
SnapshotsEvery = Annotated[
    str | None,
    typer.Option(
        "--snapshots-every",
        metavar="TIME",
        help="How often a short connection of its own asks for fresh snapshots of books, for those "
        "who begin to read later; or never. (default: 10m)",
        rich_help_panel=_STREAM,
        show_default=False,
    ),
]
Recorder = Annotated[
    str | None,
    typer.Option(
        "--recorder",
        metavar="NAME",
        help="The name of this recorder in the stream. (default: the machine's)",
        rich_help_panel=_STREAM,
        show_default=False,
    ),
]
StreamConfig = Annotated[
    str | None,
    typer.Option(
        "--stream-config",
        metavar="FILE",
        help="Settings as JSON for a stream that is made; one that is there is never changed. "
        "(default: seven days in files)",
        rich_help_panel=_STREAM,
        show_default=False,
    ),
]
PublishPrivate = Annotated[
    bool,
    typer.Option(
        "--publish-private",
        help="Publish feeds about your account, too.",
        rich_help_panel=_STREAM,
    ),
]
NatsCreds = Annotated[
    str | None,
    typer.Option(
        "--nats-creds",
        metavar="FILE",
        help="Credentials for the NATS server (a token goes into KFWS_NATS_TOKEN). (default: none)",
        rich_help_panel=_STREAM,
        show_default=False,
    ),
]
SourceOption = Annotated[
    str | None,
    typer.Option(
        "--source",
        metavar="nats://…",
        help="Read from a JetStream (nats://HOST/STREAM) instead of the venue. "
        "(default: the venue)",
        rich_help_panel=_STREAM,
        show_default=False,
    ),
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        help="Begin with what was stored so long ago, e.g. 10m. (default: now)",
        rich_help_panel=_STREAM,
        show_default=False,
    ),
]
FromSeq = Annotated[
    int | None,
    typer.Option(
        "--from-seq",
        metavar="N",
        min=1,
        help="Begin with that message of the stream. (default: the next one)",
        rich_help_panel=_STREAM,
        show_default=False,
    ),
]
Consumer = Annotated[
    str | None,
    typer.Option(
        "--consumer",
        metavar="NAME",
        help="Go on where the last run with this name stopped. (default: none)",
        rich_help_panel=_STREAM,
        show_default=False,
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="N/M",
        help="Take the Nth of M parts of the products; every machine shares them alike. "
        "(default: all)",
        rich_help_panel=_STREAM,
        show_default=False,
    ),
]
