"""The way to a JetStream, for who publishes and for who reads: dial, and look at the stream.

Only the jetstream rooms import nats-py, which is an extra.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from kfws.errors import KfwsError, MissingExtra, OutputError, Unreachable, Unwelcome
from kfws.tapes.subjects import Address

try:
    import nats
    import nats.errors
    import nats.js.errors
    import nkeys
    from nats.aio.client import Client
    from nats.js import JetStreamContext
    from nats.js.api import (
        AckPolicy,
        ConsumerConfig,
        ConsumerInfo,
        DeliverPolicy,
        DiscardPolicy,
        StorageType,
        StreamConfig,
        StreamInfo,
    )
except ImportError as exc:  # pragma: no cover  # the tests have all extras
    raise MissingExtra(
        "nats:// needs the package nats-py", hint="pip install 'kfws[nats]'"
    ) from exc

__all__ = [
    "FAILURES",
    "Client",
    "Door",
    "JetStreamContext",
    "StreamInfo",
    "begin_consumer",
    "dial",
    "hang_up",
    "last_of_each",
    "open_stream",
]

FAILURES = (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError, asyncio.TimeoutError)
"""What nats-py raises when the server is away, or does not want."""

DIAL_S = 5
REQUEST_S = 5.0
CLOSE_S = 1.0
# A server that does not answer two pings is away.
PING_S = 5
DUPLICATES_S = 120.0
RESETS_MOST = 3
AGE_S = 7 * 86_400.0
SIZE_BYTES = 10_000_000_000


class Door(NamedTuple):
    """An address and what opens it."""

    address: Address
    creds: str | None = None
    """A credentials file as ``nsc`` writes it."""
    token: str | None = None
    ca_file: str | None = None

    def __repr__(self) -> str:
        return f"Door({self.address.text})"


async def dial(door: Door, name: str, on_closed: Callable[[], Awaitable[None]]) -> Client:
    """A connection to the first server of the cluster that answers; it is not redialled by itself.

    ``on_closed`` is told of its end. Raises Unreachable, or Unwelcome where a server wants other
    credentials.
    """
    if door.creds is not None:
        _check_creds(door.creds)
    fault: KfwsError | None = None
    for server in door.address.servers:
        for _ in range(RESETS_MOST):
            try:
                return await _dial(door, server, name, on_closed)
            except FAILURES as exc:
                fault = _fault(server, exc)
                # A server that wants other credentials says so and hangs up; now and then the
                # second is all that arrives, so that is looked at once more.
                if not isinstance(exc, ConnectionResetError):
                    break
    assert fault is not None  # noqa: S101  # an address has a server
    raise fault


def _check_creds(path: str) -> None:
    """nats-py says of a file that is none what Python says; so it is looked at before."""
    try:
        blocks = _BLOCK.findall(Path(path).read_text())
        if len(blocks) == 2:
            nkeys.from_seed(bytearray(blocks[1].encode()))
            return
    except OSError as exc:
        raise Unwelcome(f"{path} cannot be read: {exc.strerror}") from exc
    except (ValueError, nkeys.NkeysError):
        pass
    raise Unwelcome(
        f"{path} is no credentials file", hint="nsc generate creds, or nsc add user, writes one"
    )


# A JWT, then a seed, each between lines of dashes.
_BLOCK = re.compile(r"-{3,}BEGIN [^\n]*-{3,}\s*([A-Za-z0-9._-]+)\s*-{3,}END ")


async def _dial(
    door: Door, server: str, name: str, on_closed: Callable[[], Awaitable[None]]
) -> Client:
    client = Client()
    errors = _Errors()
    options: dict[str, Any] = {}
    if server.startswith("tls://"):
        logging.getLogger("asyncio").addFilter(_is_news)
        options["tls"] = ssl.create_default_context(cafile=door.ca_file)
    try:
        async with asyncio.timeout(DIAL_S):
            await client.connect(
                server,
                name=name,
                error_cb=errors.take,
                closed_cb=on_closed,
                allow_reconnect=False,
                connect_timeout=DIAL_S,
                ping_interval=PING_S,
                user_credentials=door.creds,
                token=door.token,
                **options,
            )
    except BaseException as exc:
        await hang_up(client)
        # The server may hang up before its word about it is read.
        if isinstance(exc, OSError) and client._server_info.get("auth_required"):
            raise _unwelcome(server) from exc
        raise
    errors.is_dialling = False
    return client


async def hang_up(client: Client) -> None:
    """Closes a connection, and its socket before the loop may end."""
    try:
        async with asyncio.timeout(CLOSE_S):
            await client.close()
    except TimeoutError:
        pass  # nats-py waits for ever for the end of a TLS handshake that failed
    await asyncio.sleep(0)


def _is_news(record: logging.LogRecord) -> bool:
    """asyncio says on stderr, at each end of a connection with TLS, what nobody can act on."""
    return not record.getMessage().startswith("returning true from eof_received()")


class _Errors:
    """nats-py tells of errors here, and by itself dials a server that is away again and again.

    What goes wrong later shows in the connection.
    """

    def __init__(self) -> None:
        self.is_dialling = True

    async def take(self, error: Exception) -> None:
        if self.is_dialling:
            raise error


def _unwelcome(server: str) -> Unwelcome:
    hint = "--nats-creds FILE, or the token in KFWS_NATS_TOKEN"
    return Unwelcome(f"{server} does not let us in", hint=hint)


def _fault(server: str, exc: BaseException) -> KfwsError:
    text = str(exc).strip() or type(exc).__name__
    hint = "start it, or look at the address"
    lower = text.lower()
    if isinstance(exc, nats.errors.AuthorizationError) or "authorization" in lower:
        return Unwelcome(
            f"{server} does not let us in",
            hint="--nats-creds FILE, or the token in KFWS_NATS_TOKEN",
        )
    if isinstance(exc, TimeoutError):
        text = "no answer"
    elif isinstance(exc, ssl.SSLError):
        text = f"TLS failed ({exc.reason or 'no reason given'})"
        hint = "--ca-file names the authority that its certificate is from"
    elif isinstance(exc, OSError) and exc.errno:
        text = os.strerror(exc.errno).lower()
    return Unreachable(f"{server} cannot be reached: {text}", hint=hint)


async def open_stream(
    client: Client, stream: str, config: dict[str, Any] | None = None, *, make: bool = True
) -> tuple[JetStreamContext, StreamInfo]:
    """The stream as it is; made when it is missing, and never changed.

    ``config`` as the server itself writes one (``nats stream info --json``). Raises OutputError
    where there is no JetStream, or no room; Unreachable when the server is gone.
    """
    context = client.jetstream(timeout=REQUEST_S)
    try:
        try:
            return context, await context.stream_info(stream)
        except nats.js.errors.NotFoundError:
            if not make:
                raise Unreachable(
                    f"there is no stream {stream}", hint="record into it first: -o nats://…"
                ) from None
            return context, await context.add_stream(_config(stream, config))
    except (nats.js.errors.ServiceUnavailableError, nats.errors.NoRespondersError) as exc:
        raise OutputError(
            "the server has no JetStream", hint="start it with nats-server -js"
        ) from exc
    except nats.js.errors.APIError as exc:
        raise OutputError(f"the server cannot open the stream {stream}: {exc.description}") from exc
    except FAILURES as exc:
        raise _fault(str(client.connected_url.netloc if client.connected_url else ""), exc) from exc


def _config(stream: str, config: dict[str, Any] | None) -> StreamConfig:
    if config is not None:
        typed: StreamConfig = StreamConfig.from_response(
            {"subjects": [f"{stream}.>"], **config, "name": stream}
        )
        return typed
    return StreamConfig(
        name=stream,
        subjects=[f"{stream}.>"],
        storage=StorageType.FILE,
        discard=DiscardPolicy.OLD,
        duplicate_window=DUPLICATES_S,
        max_age=AGE_S,
        max_bytes=SIZE_BYTES,
    )


# ── reading ──

# What is not acknowledged by then comes again: soon, so that a reader's successor need not wait.
ACK_WAIT_S = 5.0
UNACKNOWLEDGED = 20_000
# A reader that is gone for so long is forgotten, unless it is durable.
FORGET_S = 60.0


class Consumer(NamedTuple):
    """A reader's place in a stream, which the server keeps."""

    name: str
    unacknowledged: bool
    """Whether messages are out that nobody said to be safe."""
    is_taken: bool
    """Whether somebody reads there now."""
    pending: int
    """How many messages it had to give when it began."""
    ack_wait_s: float = ACK_WAIT_S


async def begin_consumer(
    context: JetStreamContext,
    stream: str,
    subjects: str,
    *,
    name: str | None,
    from_seq: int | None,
    since: float | None,
) -> Consumer:
    """A place from a number or a time (s since the epoch) on; a durable one of that name is where
    it stopped.

    Raises OutputError where the consumer reads something else, Unreachable without an answer.
    """
    try:
        info = await _known(context, stream, name) if name is not None else None
        if info is None:
            info = await context.add_consumer(stream, _consumer(subjects, name, from_seq, since))
        elif info.config.filter_subject != subjects:
            raise OutputError(
                f"the consumer {name} reads {info.config.filter_subject}, not {subjects}",
                hint="choose another name, or the same feeds and products",
            )
    except nats.js.errors.APIError as exc:
        raise OutputError(f"the server refuses to read {stream}: {exc.description}") from exc
    except FAILURES as exc:
        raise _fault(stream, exc) from exc
    return Consumer(
        info.name, bool(info.num_ack_pending), bool(info.num_waiting), info.num_pending or 0
    )


async def _known(context: JetStreamContext, stream: str, name: str) -> ConsumerInfo | None:
    try:
        info: ConsumerInfo = await context.consumer_info(stream, name)
        return info
    except nats.js.errors.NotFoundError:
        return None


def _consumer(
    subjects: str, name: str | None, from_seq: int | None, since: float | None
) -> ConsumerConfig:
    config = ConsumerConfig(
        filter_subject=subjects,
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.NONE,
        inactive_threshold=FORGET_S,
    )
    if name is not None:
        config = config.evolve(
            durable_name=name,
            ack_policy=AckPolicy.ALL,
            ack_wait=ACK_WAIT_S,
            max_ack_pending=UNACKNOWLEDGED,
            inactive_threshold=None,
        )
    if from_seq is not None:
        by = DeliverPolicy.BY_START_SEQUENCE
        config = config.evolve(deliver_policy=by, opt_start_seq=from_seq)
    elif since is not None:
        start = datetime.fromtimestamp(since, UTC)
        by = DeliverPolicy.BY_START_TIME
        config = config.evolve(deliver_policy=by, opt_start_time=start)
    return config


async def last_of_each(
    client: Client, context: JetStreamContext, stream: str, subjects: str
) -> list[Any]:
    """The last message of each subject, as far as the server gives them without a pause.

    Raises OutputError where it refuses, Unreachable without an answer.
    """
    found: list[Any] = []
    arrived: asyncio.Queue[Any] = asyncio.Queue()
    config = ConsumerConfig(
        filter_subject=subjects,
        deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
        ack_policy=AckPolicy.NONE,
        inactive_threshold=FORGET_S,
    )
    try:
        info = await context.add_consumer(stream, config)
        inbox = client.new_inbox()
        taking = await client.subscribe(inbox, cb=arrived.put)
        left = info.num_pending or 0
        ask = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{info.name}"
        if left:
            await client.publish(ask, json.dumps({"batch": left, "no_wait": True}).encode(), inbox)
        while left:
            async with asyncio.timeout(REQUEST_S):
                message = await arrived.get()
            if message.headers and "Status" in message.headers:
                break
            found.append(message)
            left -= 1
        await taking.unsubscribe()
        await context.delete_consumer(stream, info.name)
    except nats.js.errors.APIError as exc:
        raise OutputError(f"the server refuses to read {stream}: {exc.description}") from exc
    except FAILURES as exc:
        raise _fault(stream, exc) from exc
    return found
