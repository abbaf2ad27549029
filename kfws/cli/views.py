"""Which views a plan has on a terminal, and the outlet that shows them."""

from __future__ import annotations

from collections.abc import Sequence

from kfws.cli.env import Env
from kfws.cli.plan import Look, Plan
from kfws.cli.talk import Talk
from kfws.cli.terminal import TerminalOutlet
from kfws.sinks.display import Display, View
from kfws.sinks.paint import Paint
from kfws.sinks.screen import Size
from kfws.sinks.status import Status

__all__ = ["on_terminal", "views_of"]


def views_of(plan: Plan, env: Env) -> list[View]:
    """Feeds whose messages replace each other stand; all others roll above them."""
    from kfws.sinks.ladder import Ladder
    from kfws.sinks.roll import Roll

    if plan.feeds == ("book",):
        look = plan.look or Look()
        paint = Paint(env.color(plan.color))
        return [Ladder(plan.products, paint=paint, depth=look.depth, steps=look.steps)]
    return [Roll(plan.feeds, paint=Paint(env.color(plan.color)), zone=env.zone(plan.utc))]


def on_terminal(views: Sequence[View], plan: Plan, env: Env, talk: Talk) -> TerminalOutlet:
    """The views on stdout, with a status line, and what is said above them."""
    status = Status(
        venue=plan.venue or plan.url, asked=_asked(plan), paint=Paint(env.color(plan.color))
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
