"""What was typed about JetStreams → what a run needs of them, checked. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from kfws.cli.quantities import duration_s, size_bytes
from kfws.errors import UsageError
from kfws.protocol.feeds import FEEDS
from kfws.tapes.subjects import Address

__all__ = ["JetStream", "TypedJetStream", "check_jetstream", "venue_name"]

LEAST_SPOOL = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedJetStream:
    """The options about JetStreams, as they were typed."""

    spool: str | None = None
    spool_size: str = "1GB"
    recorder: str | None = None
    stream_config: str | None = None
    publish_private: bool = False
    creds: str | None = None
    source: str | None = None
    since: str | None = None
    from_seq: int | None = None
    consumer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JetStream:
    """What a run needs to publish into streams, or to read from one."""

    spool: str | None = None
    """None: a place that is made of the stream's and the recorder's name."""
    spool_bytes: int = 1_000_000_000
    recorder: str | None = None
    """None: the name of the machine."""
    stream_config: str | None = None
    """The text of that file."""
    creds: str | None = None
    source: Address | None = None
    since_s: float | None = None
    from_seq: int | None = None
    consumer: str | None = None


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
        creds=typed.creds,
        source=_source(typed),
        since_s=duration_s(typed.since) if typed.since is not None else None,
        from_seq=typed.from_seq,
        consumer=_name("--consumer", typed.consumer),
    )


def _check_for_outputs(typed: TypedJetStream, addresses: Sequence[Address]) -> None:
    options = {
        "--spool": typed.spool,
        "--recorder": typed.recorder,
        "--stream-config": typed.stream_config,
    }
    for option, value in options.items():
        if value is not None and not addresses:
            raise UsageError(f"{option} is for a JetStream", hint="add -o nats://HOST/STREAM")
    if len(addresses) > 1 and typed.spool is not None:
        raise UsageError("two streams cannot share a --spool", hint="leave it away")
    if typed.creds is not None and not addresses and typed.source is None:
        raise UsageError("--nats-creds is for a JetStream", hint="add -o nats://HOST/STREAM")


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
            f"--source {typed.source.split('@')[-1]} is no JetStream",
            hint="nats://HOST/STREAM; tapes are for `kfws replay`",
        )
    return Address.of(typed.source)


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
