"""``kfws request``: one REST call."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kfws.cli import options
from kfws.cli.choices import Format, LogFormat, VenueName
from kfws.cli.env import Env

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kfws.cli.talk import Talk
    from kfws.protocol.auth import Credentials

__all__ = ["request"]

API = "/derivatives/api/v3/"
_CALL = "The call"


class Method(StrEnum):
    """What the venue's REST takes."""

    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    DELETE = "DELETE"


def _method(typed: str) -> Method:
    """In any case. A choice of typer's would list the others in lower case."""
    try:
        return Method(typed.upper())
    except ValueError:
        raise typer.BadParameter(f"{typed!r} is not one of {', '.join(Method)}") from None


def _methods() -> list[str]:
    return [*Method]


def request(
    context: typer.Context,
    method: Annotated[
        Method,
        typer.Argument(
            parser=_method,
            metavar="METHOD",
            help="GET, POST, PUT or DELETE.",
            show_default=False,
            autocompletion=_methods,
        ),
    ],
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="Such as /derivatives/api/v3/tickers; without a / in front it is below "
            "/derivatives/api/v3.",
            show_default=False,
        ),
    ],
    query: Annotated[
        list[str] | None,
        typer.Option(
            "--query",
            metavar="KEY=VALUE",
            help="A parameter behind the ? of the path (repeatable). (default: none)",
            show_default=False,
            rich_help_panel=_CALL,
        ),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            "--field",
            metavar="KEY=VALUE",
            help="A field of the form that POST sends; with PUT and DELETE a parameter "
            "(repeatable). (default: none)",
            show_default=False,
            rich_help_panel=_CALL,
        ),
    ] = None,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes", "-y", help="Send POST, PUT and DELETE without asking.", rich_help_panel=_CALL
        ),
    ] = False,
    auth: Annotated[
        bool,
        typer.Option(
            "--auth/--no-auth", help="Sign, if there is an API key.", rich_help_panel=_CALL
        ),
    ] = True,
    timeout: Annotated[
        str,
        typer.Option(
            "--timeout", metavar="TIME", help="Give up after this time.", rich_help_panel=_CALL
        ),
    ] = "10s",
    format: Annotated[
        Format,
        typer.Option(
            "-f",
            "--format",
            help="json: indented; ndjson: on one line; raw: every byte as it came; "
            "auto: json on a terminal, ndjson in a pipe.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = Format.auto,
    env: options.EnvOption = None,
    url: options.Url = None,
    rest_url: options.RestUrl = None,
    insecure: options.Insecure = False,
    proxy: options.Proxy = None,
    ca_file: options.CaFile = None,
    credentials: options.CredentialsFile = None,
    credentials_command: options.CredentialsCommand = None,
    profile: options.Profile = None,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    log_format: options.LogFormatOption = LogFormat.text,
    debug: options.Debug = False,
) -> None:
    """Make one REST call, signed if there is a key; print the answer.

    POST, PUT and DELETE can place orders and move money: they ask first (but
    not with --env sim, where nothing is at stake), and where nobody can be
    asked they need --yes. The answer is printed even where
    the venue says no; why it does is on stderr, and in the exit status: 3 not
    reached, or no such path; 4 the key; 5 turned down, an order too.

    Examples:

        kfws request GET tickers/PF_XBTUSD

        kfws request GET history --query symbol=PF_XBTUSD | jq '.history[0]'

        kfws request GET openpositions

        kfws request POST cancelorder --field order_id=c18f0c17-9971 --yes

        kfws request GET /api/history/v2/account-log --env demo
    """
    import asyncio

    from kfws.cli.plan import check_text, rest_base
    from kfws.cli.quantities import duration_s
    from kfws.errors import UsageError

    world: Env = context.obj
    talk = world.speak(verbose=verbose, quiet=quiet, debug=debug, log_format=log_format)
    check_text(path, url, rest_url, *(query or ()), *(field or ()))
    base = rest_base(rest_url, url, env, insecure=insecure)
    if format in (Format.table, Format.csv):
        raise UsageError(f"an answer has no {format} form", hint="-f json, ndjson or raw")
    if field and method is Method.GET:
        raise UsageError("GET sends no fields", hint="--query KEY=VALUE, or another method")
    call = _Call(
        method=method.value,
        path=path if path.startswith("/") or "://" in path else API + path,
        query=_pairs("--query", query or ()),
        fields=_pairs("--field", field or ()),
        timeout_s=duration_s(timeout),
    )
    venue = VenueName.sim if not base else None
    key = None
    if auth:
        key = world.find_credentials(
            venue, file=credentials, command=credentials_command, profile=profile
        )
    if method is not Method.GET and not yes and venue is None:
        _ask_first(world, call, base)
    route = _Route(base, key, world.proxy(proxy, base) if base else None, ca_file)
    status, body = asyncio.run(_fetch(call, route, talk))
    world.write(_formatted(body, format, is_terminal=world.stdout_is_terminal))
    _check(status, body.decode(errors="replace"), is_signed=key is not None)


@dataclass(frozen=True, slots=True)
class _Call:
    """What is to be asked."""

    method: str
    path: str
    query: Mapping[str, Sequence[str]]
    fields: Mapping[str, Sequence[str]]
    timeout_s: float

    def __str__(self) -> str:
        pairs = [
            f" {key}={value}"
            for params in (self.query, self.fields)
            for key, values in params.items()
            for value in values
        ]
        return f"{self.method} {self.path}{''.join(pairs)}"


@dataclass(frozen=True, slots=True)
class _Route:
    """Whom, as whom, and which way; no base is the simulator in the process."""

    base: str
    key: Credentials | None
    proxy: str | None = field(repr=False)
    ca_file: str | None


def _pairs(option: str, typed: Sequence[str]) -> dict[str, list[str]]:
    """``key=value`` taken apart. Raises UsageError."""
    from kfws.errors import UsageError

    pairs: dict[str, list[str]] = {}
    for each in typed:
        key, equals, value = each.partition("=")
        if not key or not equals:
            raise UsageError(f"{option} {each!r} is no pair", hint=f"{option} symbol=PF_XBTUSD")
        pairs.setdefault(key, []).append(value)
    return pairs


def _ask_first(world: Env, call: _Call, base: str) -> None:
    """Whether a call that changes something is meant. Raises UsageError if not."""
    from kfws.errors import UsageError
    from kfws.sinks.columns import printable

    if not world.stdin_is_terminal:
        raise UsageError(
            f"{call.method} may change something, and nobody can be asked", hint="give --yes"
        )
    if not world.confirms(printable(f"kfws: {call} at {base}: send it? (y/N)")):
        raise UsageError("not sent", hint="answer y, or give --yes")


async def _fetch(call: _Call, route: _Route, talk: Talk) -> tuple[int, bytes]:
    import asyncio
    from contextlib import AsyncExitStack

    from kfws.errors import UsageError
    from kfws.rest import Rest
    from kfws.sources.lookup import DaemonThreads

    asyncio.get_running_loop().set_default_executor(DaemonThreads())
    async with AsyncExitStack() as stack:
        base = route.base
        if not base:
            from kfws.sim.server import SimOptions, serve

            venue = await stack.enter_async_context(serve(SimOptions(rest_port=0)))
            base = venue.rest_url
            talk.say("warning", "simulated", "simulated venue and account: --env sim")
        rest = Rest(base, route.key, proxy=route.proxy, ca_file=route.ca_file)
        await stack.enter_async_context(rest)
        try:
            return await rest.fetch(
                call.method,
                call.path,
                call.fields,
                call.query,
                call.timeout_s,
                auth=route.key is not None,
            )
        except ValueError as exc:  # of the path
            raise UsageError(str(exc)) from exc


def _formatted(body: bytes, format: Format, *, is_terminal: bool) -> bytes:
    """The answer as it is printed. Digits stay the venue's own; what is no JSON stays as it is."""
    import msgspec

    from kfws.sinks.columns import printable

    if format is Format.raw:
        return body
    indented = format is Format.json or (format is Format.auto and is_terminal)
    try:
        # Valid, though format() alone would take more than that for JSON.
        msgspec.json.decode(body, type=msgspec.Raw)
        body = msgspec.json.format(body, indent=2 if indented else -1)
    except (msgspec.DecodeError, RecursionError):
        pass
    if is_terminal:
        lines = body.decode(errors="replace").splitlines()
        body = "\n".join(map(printable, lines)).encode()
    return body if not body or body.endswith(b"\n") else body + b"\n"


def _check(status: int, text: str, *, is_signed: bool) -> None:
    """Raises KrakenError for an answer that says no, an order that was not taken among them."""
    from kfws.cli.env import NO_KEY
    from kfws.errors import Unwelcome
    from kfws.exceptions import KrakenError, named
    from kfws.rest import judge

    try:
        answer = judge(status, text)
    except KrakenError as exc:
        if isinstance(exc, Unwelcome):
            exc.hint = "look at the key and what it may do" if is_signed else NO_KEY
        raise
    for word in _not_taken(answer):
        raise (named(word) or KrakenError)(word)


def _not_taken(answer: Any) -> list[str]:
    """What became of orders, where it is not what was asked for."""
    words = []
    for key, taken in _TAKEN.items():
        told = answer.get(key) if isinstance(answer, dict) else None
        for entry in told if isinstance(told, list) else [told]:
            word = entry.get("status") if isinstance(entry, dict) else None
            if isinstance(word, str) and word not in taken:
                words.append(word)
    return words


# As the venue documents them; it has many words for no, and adds some.
_TAKEN = {
    "sendStatus": ("placed", "partiallyFilled", "filled", "cancelled", "attempted"),
    "editStatus": ("edited",),
    "cancelStatus": ("cancelled", "noOrdersToCancel"),
    "batchStatus": ("placed", "edited", "cancelled", "attempted"),
}
