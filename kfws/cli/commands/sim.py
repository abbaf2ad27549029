"""``kfws sim``: a local venue that speaks the protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kfws.cli import options
from kfws.cli.choices import LogFormat
from kfws.cli.env import Env

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kfws.cli.talk import Talk
    from kfws.sim.server import SimOptions
    from kfws.tapes.tape import Tape

__all__ = ["sim"]

_SERVER = "The server"
_MARKET = "The market"
_FAULTS = "Faults"


def sim(
    context: typer.Context,
    host: Annotated[
        str,
        typer.Option(
            "--host", metavar="HOST", help="Address to listen at.", rich_help_panel=_SERVER
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            "--port",
            metavar="PORT",
            min=0,
            max=65535,
            help="Port to listen at; 0: any free one.",
            rich_help_panel=_SERVER,
        ),
    ] = 8765,
    seed: Annotated[
        int,
        typer.Option(
            "--seed", metavar="N", help="Same seed, same market.", rich_help_panel=_MARKET
        ),
    ] = 1,
    start_time: Annotated[
        str | None,
        typer.Option(
            "--start-time",
            metavar="TIME",
            help="The market's first moment, ISO 8601 (UTC) or epoch ms. (default: now)",
            show_default=False,
            rich_help_panel=_MARKET,
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            min=0.1,
            max=100_000,
            metavar="N",
            help="Book deltas a second for each product. (default: like the market's)",
            show_default=False,
            rich_help_panel=_MARKET,
        ),
    ] = None,
    products: Annotated[
        int | None,
        typer.Option(
            "--products",
            min=1,
            max=5000,
            metavar="N",
            help="How many products. (default: those of the kept list)",
            show_default=False,
            rich_help_panel=_MARKET,
        ),
    ] = None,
    tls_cert: Annotated[
        str | None,
        typer.Option(
            "--tls-cert",
            metavar="FILE",
            help="Certificate chain (PEM). (default: no TLS)",
            rich_help_panel=_SERVER,
        ),
    ] = None,
    tls_key: Annotated[
        str | None,
        typer.Option(
            "--tls-key",
            metavar="FILE",
            help="Its private key (PEM). (default: no TLS)",
            rich_help_panel=_SERVER,
        ),
    ] = None,
    rest_port: Annotated[
        int | None,
        typer.Option(
            "--rest-port",
            metavar="PORT",
            min=0,
            max=65535,
            help="Answer the whole of REST there, orders too; 0: any free port. (default: what "
            "is public alone, on --port)",
            show_default=False,
            rich_help_panel=_SERVER,
        ),
    ] = None,
    compression: Annotated[
        bool,
        typer.Option(
            "--compression",
            help="Take permessage-deflate where it is offered.",
            rich_help_panel=_SERVER,
        ),
    ] = False,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            "--fault",
            metavar="SPEC",
            help="Break something (repeatable), as listed above. (default: none)",
            show_default=False,
            rich_help_panel=_FAULTS,
        ),
    ] = None,
    ledger: Annotated[
        str | None,
        typer.Option(
            "--ledger",
            metavar="PATH",
            help="Write what was sent on which connection, and what was not, line by line. "
            "(default: nowhere)",
            rich_help_panel=_FAULTS,
        ),
    ] = None,
    tape: Annotated[
        list[str] | None,
        typer.Option(
            "--tape",
            metavar="TAPE",
            help="Play what was recorded instead of a market (repeatable; folders, globs). "
            "(default: none)",
            show_default=False,
            rich_help_panel=_MARKET,
        ),
    ] = None,
    tape_speed: Annotated[
        float,
        typer.Option(
            "--tape-speed",
            min=0.001,
            max=10_000,
            metavar="N",
            help="N times as fast as recorded.",
            rich_help_panel=_MARKET,
        ),
    ] = 1.0,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    log_format: options.LogFormatOption = LogFormat.text,
    debug: options.Debug = False,
) -> None:
    """Run a local venue with a simulated market, to try out and test.

    Examples:

        kfws sim

        kfws sim --port 9000 --seed 7 --rate 500

    Then, in another terminal:

        kfws subscribe book PF_XBTUSD --url ws://127.0.0.1:9000/ws/v1

    With REST, orders can be placed; their fills are on the private feeds:

        kfws sim --rest-port 8766

        kfws request GET openorders --rest-url http://127.0.0.1:8766

    Faults, at a time since the first client came, after so many data frames
    of a connection, or again and again; between two ends the seed decides:

        kfws sim --fault drop@5s --fault close=1012@100msgs

        kfws sim --fault drop:every=20s

        kfws sim --fault gap=3@2s..5s:feed=book:product=PF_XBTUSD:conn=2

        kfws sim --fault refuse=503:retry-after=2:times=3

    All but the name may be left out. Each takes every=WHEN, times=N and
    conn=N (the only connection it may hit, in the order of opening), those
    of frames and feeds feed=FEED and product=PRODUCT:

        drop: the connection is torn (TCP RST)
        close=CODE: a close frame with this code
        stall: nothing more is sent; pings are still answered
        half-open: nothing more is sent, read or answered
        restart: all are torn, and numbers count on from lower ones
        refuse=STATUS: an HTTP status instead of a handshake
        slow=TIME: the handshake takes so long
        gap=N: N numbered frames are withheld
        duplicate=N: N frames are sent twice
        reorder=N: N frames change places with their next
        huge=SIZE: a frame is padded to about this size
        broken=N: N frames more, torn in the middle of their JSON
        binary=N: N binary frames more
        alerts=N: N alerts `Trading engine unavailable`
        silent: a feed gives nothing until asked for anew, or `forever`
        no-ack=N: N acknowledgements are swallowed, or `no-data`: requests
        no-snapshot=N: N snapshots are withheld
        late-challenge=TIME: the challenge comes so late
        wrong-challenge=N: a challenge that no signature will fit
        reject: a feed is refused on every connection

    A recording as a venue, from its beginning on when the first client has
    subscribed; at its end connections are closed (1000), and kfws leaves:

        kfws sim --tape book.ndjson.zst --tape-speed 10
    """
    import asyncio

    from kfws.cli.quantities import moment_ms
    from kfws.errors import UsageError
    from kfws.sim.server import SimOptions
    from kfws.tapes.tape import tapes_in

    if (tls_cert is None) != (tls_key is None):
        raise UsageError("TLS takes two files", hint="--tls-cert FILE --tls-key FILE")
    if tape and (start_time is not None or rate is not None or products is not None):
        raise UsageError(
            "a tape has its own time, rate and products",
            hint="--start-time, --rate and --products are for the simulated market",
        )
    env: Env = context.obj
    talk = env.speak(verbose=verbose, quiet=quiet, debug=debug, log_format=log_format)
    options_ = SimOptions(
        host=host,
        port=port,
        seed=seed,
        start_ms=moment_ms(start_time) if start_time is not None else None,
        rate=rate,
        products=products,
        tls_cert=tls_cert,
        tls_key=tls_key,
        rest_port=rest_port,
        compression=compression,
        faults=fault or (),
        ledger=ledger,
        tapes=tapes_in(tape) if tape else (),
        tape_speed=tape_speed,
    )
    asyncio.run(_serve(options_, talk))


async def _serve(options_: SimOptions, talk: Talk) -> None:
    import asyncio
    import signal

    from kfws.cli.signals import leaving_signals
    from kfws.errors import Interrupted, UsageError
    from kfws.protocol.auth import DEMO
    from kfws.sim.server import serve

    loop = asyncio.get_running_loop()
    left: asyncio.Future[int] = loop.create_future()

    def leave(signum: int) -> None:
        if not left.done():
            left.set_result(signum)

    for each in leaving_signals():
        try:
            loop.add_signal_handler(each, leave, each)
        except NotImplementedError:  # Windows
            signal.signal(each, lambda signum, _: loop.call_soon_threadsafe(leave, signum))
    try:
        async with serve(options_) as venue:
            where: dict[str, Any] = {"url": venue.url}
            place = venue.url
            if options_.rest_port is not None:
                where["rest_url"] = venue.rest_url
                place += f", REST at {venue.rest_url}"
            talk.say("warning", "simulated", _what(options_.tapes, place), **where)
            listed = f"{venue.rest_url}/derivatives/api/v3/instruments"
            talk.say("warning", "rest", f"products list at {listed}")
            talk.say(
                "warning",
                "demo-key",
                "for private feeds, good at this venue alone:",
                api_key=DEMO.key,
                api_secret=DEMO.secret,
            )
            talk.plain(f"export KFWS_API_KEY='{DEMO.key}'")
            talk.plain(f"export KFWS_API_SECRET='{DEMO.secret}'")
            ended = asyncio.create_task(venue.ended.wait())
            ended.add_done_callback(lambda _: leave(0))
            if signum := await left:
                if signum == signal.SIGINT:
                    talk.wipe_echo()
                raise Interrupted(signum)
            talk.say("warning", "ended", "the tape is at its end; connections were closed (1000)")
    except OSError as exc:
        from kfws.cli.metrics import why_deaf

        raise UsageError(
            f"cannot listen at {_places(options_)}: {why_deaf(exc)}",
            hint="another --port or --rest-port, e.g. 0 for any free one",
        ) from exc


def _places(options_: SimOptions) -> str:
    ports = [each for each in (options_.port, options_.rest_port) if each is not None]
    return " and ".join(f"{options_.host}:{port}" for port in ports)


def _what(tapes: Sequence[Tape], place: str) -> str:
    """What there is to be had, and that it is not the venue's."""
    if not tapes:
        return f"simulated venue at {place}"
    from datetime import UTC, datetime

    feeds = ", ".join(dict.fromkeys(feed for tape in tapes for feed in tape.feeds))
    names = ", ".join(tape.path.name for tape in tapes[:3])
    more = f" and {len(tapes) - 3} more" if len(tapes) > 3 else ""
    since = datetime.fromtimestamp(min(tape.first_ns for tape in tapes) // 10**9, UTC)
    source = " of a simulated market" if any(tape.is_simulated for tape in tapes) else ""
    recorded = f"{feeds} recorded{source} from {since:%Y-%m-%d %H:%M:%S} UTC on"
    return f"replayed venue at {place}: {recorded}, from {names}{more}"
