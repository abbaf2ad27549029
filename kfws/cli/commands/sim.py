"""``kfws sim``: a local venue that speaks the protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kfws.cli import options
from kfws.cli.choices import LogFormat
from kfws.cli.env import Env

if TYPE_CHECKING:
    from kfws.cli.talk import Talk
    from kfws.sim.server import SimOptions

__all__ = ["sim"]


def sim(
    context: typer.Context,
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free port.")] = 8765,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same market.")] = 1,
    start_time: Annotated[
        str | None,
        typer.Option(
            "--start-time",
            metavar="TIME",
            help="The market's first moment, ISO 8601 (UTC) or epoch ms. [default: now]",
            show_default=False,
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            min=0.1,
            max=100_000,
            metavar="N",
            help="Book deltas a second for each product. [default: like the market's]",
            show_default=False,
        ),
    ] = None,
    products: Annotated[
        int | None,
        typer.Option(
            "--products",
            min=1,
            max=5000,
            metavar="N",
            help="How many products. [default: those of the kept list]",
            show_default=False,
        ),
    ] = None,
    tls_cert: Annotated[
        str | None, typer.Option("--tls-cert", metavar="FILE", help="Certificate chain (PEM).")
    ] = None,
    tls_key: Annotated[
        str | None, typer.Option("--tls-key", metavar="FILE", help="Its private key (PEM).")
    ] = None,
    compression: Annotated[
        bool, typer.Option("--compression", help="Take permessage-deflate where it is offered.")
    ] = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    log_format: options.LogFormatOption = LogFormat.text,
    debug: options.Debug = False,
) -> None:
    """Run a local venue with a simulated market, for trying out and for tests.

    Examples:

        kfws sim

        kfws sim --port 9000 --seed 7 --rate 500

    Then, in another terminal:

        kfws subscribe book PF_XBTUSD --url ws://127.0.0.1:9000/ws/v1
    """
    import asyncio

    from kfws.cli.quantities import moment_ms
    from kfws.errors import UsageError
    from kfws.sim.server import SimOptions

    if (tls_cert is None) != (tls_key is None):
        raise UsageError("TLS takes two files", hint="--tls-cert FILE --tls-key FILE")
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
        compression=compression,
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
            rest = venue.url.replace("ws", "http", 1).removesuffix("/ws/v1")
            talk.say("warning", "simulated", f"simulated venue at {venue.url}", url=venue.url)
            talk.say("warning", "rest", f"products list at {rest}/derivatives/api/v3/instruments")
            talk.say(
                "warning",
                "demo-key",
                f"demo key for private feeds, good here alone: "
                f"KFWS_API_KEY={DEMO.key} KFWS_API_SECRET={DEMO.secret}",
            )
            raise Interrupted(await left)
    except OSError as exc:
        raise UsageError(
            f"cannot listen at {options_.host}:{options_.port}: {exc.strerror or exc}",
            hint="another --port, e.g. --port 0 for any free one",
        ) from exc
