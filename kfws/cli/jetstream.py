"""What was typed about JetStreams → what a run needs of them, checked. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from kfws.cli.quantities import duration_s, size_bytes
from kfws.errors import UsageError
from kfws.protocol.auth import as_shown
from kfws.protocol.feeds import FEEDS
from kfws.tapes.subjects import Address

__all__ = ["JetStream", "Shard", "TypedJetStream", "check_jetstream", "share", "venue_name"]

LEAST_SPOOL = 1_000_000
# A reader that begins now folds what came since: of a busy book 300,000 messages at most.
SNAPSHOTS_EVERY_S = 600.0


class Shard(NamedTuple):
    """One part of all products: the first of three, say."""

    part: int
    of: int


class TypedJetStream(msgspec.Struct, frozen=True, kw_only=True):
    """The options about JetStreams, as they were typed."""

    spool: str | None = None
    spool_size: str = "1GB"
    recorder: str | None = None
    stream_config: str | None = None
    publish_private: bool = False
    snapshots_every: str | None = None
    creds: str | None = None
    source: str | None = None
    since: str | None = None
    from_seq: int | None = None
    consumer: str | None = None
    shard: str | None = None


class JetStream(msgspec.Struct, frozen=True, kw_only=True):
    """What a run needs to publish into streams, or to read from one."""

    spool: str | None = None
    """None: a place that is made of the stream's and the recorder's name."""
    spool_bytes: int = 1_000_000_000
    recorder: str | None = None
    """None: the name of the machine."""
    stream_config: str | None = None
    """The text of that file."""
    snapshots_every_s: float | None = SNAPSHOTS_EVERY_S
    """None: never."""
    creds: str | None = None
    source: Address | None = None
    since_s: float | None = None
    from_seq: int | None = None
    consumer: str | None = None
    shard: Shard | None = None
    """None: all products."""


def check_jetstream(
    typed: TypedJetStream,
    addresses: Sequence[Address],
    feeds: Sequence[str],
    read_text: Callable[[str], str],
) -> JetStream:
    """``addresses`` are those of outputs. Raises UsageError."""
    _check_for_outputs(typed, addresses)
    private = [feed for feed in feeds if feed in FEEDS and FEEDS[feed].private]
    if addresses and private and not typed.publish_private:
        raise UsageError(
            f"{', '.join(private)} is about your account, and {addresses[0].text} is for many",
            hint="--publish-private if you mean it",
        )
    spool_bytes = size_bytes(typed.spool_size)
    if spool_bytes < LEAST_SPOOL:
        raise UsageError(f"--spool-size {typed.spool_size} is too small", hint="1MB or more")
    return JetStream(
        spool=typed.spool,
        spool_bytes=spool_bytes,
        recorder=_name("--recorder", typed.recorder),
        stream_config=_text(typed.stream_config, read_text),
        snapshots_every_s=_snapshots_every(typed.snapshots_every),
        creds=typed.creds,
        source=_source(typed),
        since_s=duration_s(typed.since) if typed.since is not None else None,
        from_seq=typed.from_seq,
        consumer=_name("--consumer", typed.consumer),
        shard=_shard(typed.shard, typed.source),
    )


def _check_for_outputs(typed: TypedJetStream, addresses: Sequence[Address]) -> None:
    options = {
        "--spool": typed.spool,
        "--recorder": typed.recorder,
        "--stream-config": typed.stream_config,
        "--snapshots-every": typed.snapshots_every,
    }
    for option, value in options.items():
        if value is not None and not addresses:
            raise UsageError(f"{option} is for a JetStream", hint="add -o nats://HOST/STREAM")
    if len(addresses) > 1 and typed.spool is not None:
        raise UsageError("two streams cannot share a --spool", hint="leave it away")
    if typed.creds is not None and not addresses and typed.source is None:
        raise UsageError("--nats-creds is for a JetStream", hint="add -o nats://HOST/STREAM")


def _snapshots_every(typed: str | None) -> float | None:
    if typed is None:
        return SNAPSHOTS_EVERY_S
    if typed == "never":
        return None
    try:
        every_s = duration_s(typed)
    except UsageError as exc:
        raise UsageError(f"--snapshots-every: {exc.message}", hint="e.g. 10m, or never") from exc
    if every_s < 1:
        raise UsageError(f"--snapshots-every {typed} is too often", hint="1s or more, e.g. 10m")
    return every_s


def _source(typed: TypedJetStream) -> Address | None:
    begins = {
        "--since": typed.since,
        "--from-seq": typed.from_seq,
        "--consumer": typed.consumer,
    }
    given = [option for option, value in begins.items() if value is not None]
    if typed.source is None:
        if given:
            raise UsageError(f"{given[0]} is for --source", hint="add --source nats://HOST/STREAM")
        return None
    if typed.since is not None and typed.from_seq is not None:
        raise UsageError("--since and --from-seq both say where to begin", hint="leave one away")
    if not typed.source.startswith(("nats://", "tls://")):
        raise UsageError(
            f"--source {as_shown(typed.source)} is no JetStream",
            hint="nats://HOST/STREAM; tapes are for `kfws replay`",
        )
    return Address.of(typed.source)


def _shard(typed: str | None, source: str | None) -> Shard | None:
    if typed is None:
        return None
    if source is not None:
        raise UsageError("--shard shares the venue's work", hint="leave it away, or --source")
    found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", typed)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(f"--shard {typed} is no part", hint="1/3 is the first of three")
    return Shard(int(found[1]), int(found[2]))


def share(products: Sequence[str], shard: Shard) -> tuple[str, ...]:
    """The products of a part, by rendezvous hashing: the same on every machine, and another
    number of parts moves no more products than it must. Raises UsageError where none is left."""
    ours = tuple(each for each in products if _part_of(each, shard.of) == shard.part)
    if products and not ours:
        raise UsageError(
            f"no product falls into --shard {shard.part}/{shard.of}", hint="take fewer parts"
        )
    return ours


def _part_of(product: str, parts: int) -> int:
    def weight(part: int) -> bytes:
        return blake2b(f"{part}:{product}".encode(), digest_size=8).digest()

    return max(range(1, parts + 1), key=weight)


def _name(option: str, typed: str | None) -> str | None:
    if typed is not None and not re.fullmatch(r"[\w-]+", typed):
        raise UsageError(
            f"{option} {typed!r} is no name",
            hint="letters, digits, - and _, without blanks or dots",
        )
    return typed


def _text(path: str | None, read_text: Callable[[str], str]) -> str | None:
    if path is None:
        return None
    try:
        return read_text(path)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not text"
        raise UsageError(f"--stream-config {path} cannot be read: {reason}") from exc


def venue_name(venue: str | None, url: str) -> str:
    """How a venue is called in subjects: by its environment, else by where it is."""
    return venue or urlsplit(url).netloc
