"""Every target that kfws has set itself, with what a run found: met or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from tests.bench import growth
from tests.bench.figures import Figures, ratios, spread, table

__all__ = ["TARGETS", "Target", "report"]

Found = Callable[[Figures], list[float]]
"""The figure that a target is about, round by round; empty where it was not measured."""

PLAIN, OURS, FLOOR = "plain client", "kfws", "C floor"


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on the median of a figure."""

    words: str
    found: Found
    limit: float
    is_least: bool = False
    """Whether more is better."""
    form: str = ".2f"

    def row(self, figures: Figures) -> tuple[str, ...]:
        values = self.found(figures)
        bound = f"{'≥' if self.is_least else '≤'} {self.limit:.3g}"
        return self.words, bound, spread(values, self.form), self.verdict(values)

    def verdict(self, values: list[float]) -> str:
        if not values:
            return "not measured"
        middle = median(values)
        kept = middle >= self.limit if self.is_least else middle <= self.limit
        return "met" if kept else "**not met**"


def ratio(above: str, below: str) -> Found:
    return lambda figures: ratios(figures, above, below)


def value(name: str) -> Found:
    return lambda figures: figures.get(name, [])


def beyond(name: str, floor: str, times: float) -> Found:
    """What is left when the floor's own figure is taken away."""

    def found(figures: Figures) -> list[float]:
        pairs = zip(figures.get(name, []), figures.get(floor, []), strict=False)
        return [ours - times * least for ours, least in pairs]

    return found


def unevenness(start: str) -> Found:
    """The largest of the figures for each number of products over the smallest."""

    def found(figures: Figures) -> list[float]:
        rows = [figures.get(f"{start} {each} cpu", []) for each in growth.PRODUCTS]
        return [max(turn) / min(turn) for turn in zip(*rows, strict=False)]

    return found


def most(ending: str) -> Found:
    """The largest of all figures whose names end so."""

    def found(figures: Figures) -> list[float]:
        values = [max(each) for name, each in figures.items() if name.endswith(ending)]
        return [max(values)] if values else []

    return found


def throughput(feed: str) -> Iterable[Target]:
    ours = f"{feed} {OURS} cpu"

    def against(name: str, limit: float) -> Target:
        words = f"1 · {feed}: CPU a message, of {name}"
        return Target(words, ratio(ours, f"{feed} {name} cpu"), limit, form=".3f")

    yield against("websocat", 0.8)
    yield against(PLAIN, 1 / 7)
    rates = ratio(f"{feed} {OURS} rate", f"{feed} websocat rate")
    yield Target(f"1 · {feed}: messages a second, of websocat", rates, 1.2, is_least=True)
    yield against("ccxt", 0.1)
    if feed == "book":
        yield against("cryptofeed", 0.1)
    yield against("python-kraken-sdk", 0.1)
    for variant, limit in VARIANTS:
        found = ratio(f"{feed} {variant} cpu", ours)
        yield Target(f"1 · {feed}: CPU of `{variant}`, of without", found, limit)
    compressed = value(f"{feed} kfws --compression cpu")
    yield Target(f"1 · {feed}: compressed, µs a message", compressed, 2.5)


VARIANTS = (
    *(("kfws --stamp", 1.8), ("kfws -f csv", 4), ("kfws -o x.ndjson.zst", 1.5)),
    *(("kfws --where", 3), ("kfws --redundancy 2", 2.3), ("kfws, TLS", 1.5)),
)


def latencies() -> Iterable[Target]:
    for rate in (1_000, 10_000):
        for client in (OURS, "kfws --loop uvloop"):
            ours, floor = f"latency {rate} {client}", f"latency {rate} {FLOOR}"
            at = f"at {rate:,} a second, `{client}`"
            half = beyond(f"{ours} p50", f"{floor} p50", 1)
            yield Target(f"4 · p50 {at}, µs above the C floor's", half, 100, form=".0f")
            tail = beyond(f"{ours} p99", f"{floor} p99", 2)
            yield Target(f"4 · p99 {at}, µs above twice the C floor's", tail, 1000, form=".0f")
            yield Target(f"4 · longest pause {at}, ms", value(f"{ours} max"), 20, form=".1f")
    for client in (OURS, "kfws --loop uvloop"):
        ours, at = f"latency 50000 {client}", f"50,000 a second, `{client}`"
        yield Target(f"4 · {at}: % of a core", value(f"{ours} core"), 85, form=".0f")
        yield Target(f"4 · {at}: last line after the last write, ms", value(f"{ours} tail"), 20)


def starts() -> Iterable[Target]:
    typer, script = "start import typer", "start bare script, first line"
    for what, limit in (("--version", 1.2), ("completion", 1.2), ("--help, plain", 1.2)):
        yield Target(f"5 · `{what}`, of `import typer`", ratio(f"start {what}", typer), limit)
    panels = ratio("start --help, panels", typer)
    yield Target("5 · `--help` with panels, of `import typer`", panels, 2.3)
    for what in ("kfws, first line", "kfws, first line, asyncio"):
        yield Target(f"5 · {what}, of the bare script", ratio(f"start {what}", script), 1.35)


def grown() -> Iterable[Target]:
    for feed in growth.FEEDS:
        for connections in growth.CONNECTIONS:
            start = f"growth {feed} x{connections}"
            words = f"7 · {feed}, {growth.in_words(connections)}"
            uneven = unevenness(start)
            yield Target(f"{words}: dearest over cheapest, 1 to 350 products", uneven, 1.2)
            if feed != "book":
                more = beyond(f"{start} 350 peak", f"{start} 1 peak", 1)
                yield Target(
                    f"{words}: MiB more with 350 products than with 1", more, 5, form=".1f"
                )


TARGETS: tuple[Target, ...] = (
    *(target for feed in ("book", "ticker") for target in throughput(feed)),
    Target("3 · paced, asyncio, of the plain client", ratio("paced kfws", f"paced {PLAIN}"), 0.75),
    Target(
        "3 · paced, uvloop, of the plain client",
        ratio("paced kfws --loop uvloop", f"paced {PLAIN}"),
        0.5,
    ),
    Target(
        "3 · paced, `--coalesce 5ms`, of the plain client",
        ratio("paced kfws --coalesce 5ms", f"paced {PLAIN}"),
        0.25,
    ),
    *latencies(),
    *starts(),
    Target("6 · streaming, MiB resident, one product", most(f" {OURS} peak"), 35, form=".0f"),
    *(
        Target(
            f"6 · streaming, MiB resident, {feed}, 350 products",
            value(f"growth {feed} x1 350 peak"),
            35,
            form=".0f",
        )
        for feed in growth.FEEDS
    ),
    Target("6 · live table, MiB resident", value("memory table"), 60, form=".0f"),
    *grown(),
)


def report(figures: Figures) -> str:
    rows = [target.row(figures) for target in TARGETS]
    met = sum(row[-1] == "met" for row in rows)
    measured = sum(row[-1] != "not measured" for row in rows)
    told = f"{met} of {measured} that were measured are met; the median decides."
    return f"{told}\n\n{table(('target', 'bound', 'found', 'verdict'), rows)}"
