"""Which views a plan has on a terminal, and the outlet that shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from kfws.cli.env import Env
from kfws.cli.plan import Look, Plan
from kfws.cli.talk import Talk
from kfws.cli.terminal import TerminalOutlet
from kfws.products_cache import Products, decimals
from kfws.sinks.columns import BOARD
from kfws.sinks.display import Display, View
from kfws.sinks.paint import Paint
from kfws.sinks.screen import Size
from kfws.sinks.status import Status

__all__ = ["on_terminal", "views_of"]


def views_of(plan: Plan, env: Env, listed: Products | None) -> list[View]:
    """Feeds whose messages say what is stand as boards, books as ladders; all others roll above
    them, and so do the messages of books where not all of them are wanted.

    ``listed``: what is known of products without asking the venue.
    """
    from kfws.sinks.board import Board
    from kfws.sinks.ladder import Ladder
    from kfws.sinks.roll import Roll

    paint, zone = Paint(env.color(plan.color)), env.zone(plan.utc)
    rows = listed.rows if listed else ()
    places = {each.id: found for each, _ in rows if (found := decimals(each)) is not None}
    views: list[View] = []
    standing = {*BOARD, "book"} if _shows_books(plan) else {*BOARD}
    rolling = tuple(feed for feed in plan.feeds if feed not in standing)
    if rolling or plan.events:
        views.append(
            Roll(
                rolling,
                paint=paint,
                zone=zone,
                products=plan.products,
                fields=plan.fields,
                events=plan.events,
            )
        )
    for feed in plan.feeds:
        if feed == "book" and feed in standing:
            look = plan.look or Look()
            views.append(
                Ladder(
                    plan.products,
                    paint=paint,
                    depth=look.depth,
                    steps=look.steps,
                    # Ends of groups have digits of their own.
                    places={} if look.steps else places,
                )
            )
        elif feed in BOARD:
            views.append(
                Board(
                    feed,
                    paint=paint,
                    zone=zone,
                    order=plan.products,
                    sort=plan.sort,
                    fields=plan.fields,
                    places=places,
                )
            )
    return views


def _shows_books(plan: Plan) -> bool:
    """Whether a book can be made of what is passed on."""
    whole = plan.where is None and plan.snapshots and not plan.fields
    return plan.look is not None or whole


def on_terminal(
    views: Sequence[View],
    plan: Plan,
    env: Env,
    talk: Talk,
    played: Callable[[], str] | None = None,
) -> TerminalOutlet:
    """The views on stdout, with a status line, and what is said above them.

    ``played`` says where a replay stands."""
    status = Status(
        venue=plan.venue or urlsplit(plan.url).netloc,
        asked=_asked(plan),
        paint=Paint(env.color(plan.color)),
        played=played,
    )
    return TerminalOutlet(
        env.stdout,
        Display(views, status),
        size=lambda: Size(*env.size),
        talk=talk if env.talks_on_stdout else None,
    )


def _asked(plan: Plan) -> str:
    """The feeds, and the products by name where they are few."""
    feeds = ",".join(plan.feeds)
    if not plan.products:
        return feeds
    if len(plan.products) > 1:
        return f"{feeds} {len(plan.products)} products"
    return f"{feeds} {plan.products[0]}"
