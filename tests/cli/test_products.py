"""``kfws products`` and what ``kfws subscribe`` makes of the list, at venues on loopback.

The live venue is a simulator with a certificate in its name, behind a proxy of the test's own.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from kfws.products_cache import keep, kept, kept_at, parse
from kfws.sim.market import Market
from kfws.sim.server import SimOptions, SimulatedVenue, serve
from tests.cli.inside import Done, beside, run
from tests.loopback import loopback

SIM = ("--env", "sim")
WHOLE = Market(1, 0).instruments()
DEAD = ("--proxy", "http://127.0.0.1:1")
SAID_OF_DEAD = "kfws: nothing is listening at the proxy 127.0.0.1:1"


def rows(done: Done) -> list[dict[str, object]]:
    assert done.status == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def ids(done: Done) -> list[object]:
    return [row["symbol"] for row in rows(done)]


# The list


def test_a_pipe_gets_the_venues_own_rows() -> None:
    done = run("products", *SIM)
    assert done.out == b"".join(row + b"\n" for _, row in parse(WHOLE, 0).rows)
    assert done.err == "kfws: simulated products: --env sim, not the venue\n"


def test_a_terminal_gets_a_table() -> None:
    done = run("products", "PF_PEPE*", "FF_XBTUSD_2611*", "in_xbt*", *SIM, terminal=True)
    assert done.out.decode() == (
        "PRODUCT           TYPE               TICK  CONTRACT  TRADED  EXPIRY UTC\n"
        "FF_XBTUSD_261127  flexible_futures      1         1  yes     2026-11-27 08:00\n"
        "PF_PEPEUSD        flexible_futures  1e-10         1  yes\n"
        "in_xbtusd         spot index                         no\n"
    )


@pytest.mark.parametrize(
    ("columns", "titles"),
    [
        (80, "PRODUCT TYPE TICK CONTRACT TRADED EXPIRY UTC"),
        (60, "PRODUCT TICK TRADED EXPIRY UTC"),
    ],
)
def test_the_table_fits_a_terminal(columns: int, titles: str) -> None:
    done = run("products", *SIM, terminal=True, environ={"COLUMNS": str(columns)})
    lines = done.out.decode().splitlines()
    assert len(lines) == 37
    assert max(map(len, lines)) <= columns
    assert " ".join(lines[0].split()) == titles
    assert not any("…" in line for line in lines)


def test_csv_has_the_venues_names_and_digits() -> None:
    done = run("products", "FI_*", *SIM, "-f", "csv")
    assert next(csv.DictReader(io.StringIO(done.out.decode()))) == {
        "symbol": "FI_ETHUSD_210625",
        "type": "futures_inverse",
        "tickSize": "0.05",
        "contractSize": "1",
        "tradeable": "false",
        "lastTradingTime": "2021-06-25T15:00:00Z",
    }


def test_json_is_the_same_indented() -> None:
    compact, indented = (run("products", "PF_XBTUSD", *SIM, "-f", each) for each in ("raw", "json"))
    assert indented.out.count(b"\n") > 10
    assert [json.loads(indented.out)] == rows(compact)


def test_globs_and_a_type_choose_in_any_case() -> None:
    assert ids(run("products", "p?_xbtusd", *SIM)) == ["PF_XBTUSD", "PI_XBTUSD"]
    assert ids(run("products", "--type", "FUTURES_*", *SIM))[0] == "FI_ETHUSD_210625"
    assert ids(run("products", "*xbt*", "--type", "spot index", *SIM)) == ["in_xbtusd", "rr_xbtusd"]


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (("PF_XBTUS",), "no product matches PF_XBTUS; similar: PF_XBTUSD, PI_XBTUSD; "),
        (("PF_*", "QQ_*"), "no product matches QQ_*; `kfws products` lists them"),
        (("PI_*", "--type", "flexible*"), "no product of type flexible*; types: futures_inverse"),
    ],
)
def test_what_matches_nothing_is_told(args: tuple[str, ...], line: str) -> None:
    done = run("products", *args, *SIM, "-q")
    assert (done.status, done.out) == (2, b"")
    assert done.err.startswith(f"kfws: {line}")


def test_the_url_of_a_simulator_says_where_rest_is(venue: SimulatedVenue) -> None:
    done = run("products", "--url", venue.url)
    assert (len(rows(done)), done.err) == (36, "")
    base = venue.url.replace("ws", "http", 1).removesuffix("/ws/v1")
    assert run("products", "--rest-url", base).out == done.out


def test_the_list_of_a_venue_without_a_name_is_not_kept(
    venue: SimulatedVenue, tmp_path: Path
) -> None:
    assert run("products", "--url", venue.url, cache=tmp_path / "kfws").status == 0
    assert not (tmp_path / "kfws").exists()


def test_a_venue_that_has_no_list_is_out_of_reach() -> None:
    with beside(lambda: loopback(status=404)) as venue:
        done = run("products", "--url", venue.url)
    assert (done.status, done.out) == (3, b"")
    assert "404" in done.err


# A venue with a name, where its list is kept


@pytest.fixture(scope="module")
def venue() -> Iterator[SimulatedVenue]:
    with beside(lambda: serve(SimOptions())) as found:
        yield found


@dataclass(frozen=True)
class Live:
    """Options that lead to the live venue of the test."""

    options: tuple[str, ...]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    mine = authority.issue_cert("futures.kraken.com")
    mine.private_key_pem.write_to_path(str(folder / "key.pem"))
    mine.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    tls = SimOptions(tls_cert=str(folder / "cert.pem"), tls_key=str(folder / "key.pem"))
    with beside(lambda: serve(tls)) as venue, beside(lambda: proxy(venue.port)) as port:
        ca_file = str(folder / "ca.pem")
        yield Live(("--proxy", f"http://127.0.0.1:{port}", "--ca-file", ca_file))


@asynccontextmanager
async def proxy(port: int) -> AsyncIterator[int]:
    """An HTTP proxy whose every way leads to one port of this machine."""
    open_ones: set[asyncio.Task[None]] = set()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(65536):
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        there = await asyncio.open_connection("127.0.0.1", port)
        for pair in ((reader, there[1]), (there[0], writer)):
            task = asyncio.create_task(pass_on(*pair))
            open_ones.add(task)
            task.add_done_callback(open_ones.discard)

    server = await asyncio.start_server(attend, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
    await asyncio.gather(*open_ones)


def test_the_list_is_kept_for_a_day_and_serves_offline(live: Live, tmp_path: Path) -> None:
    first = run("products", *live.options, cache=tmp_path)
    assert (len(rows(first)), first.err) == (36, "")
    assert kept_at(tmp_path, "live").exists()
    offline = run("products", *DEAD, cache=tmp_path)
    assert offline.out == first.out
    assert offline.err.startswith("kfws: the products list is ")
    refreshed = run("products", "--refresh", *DEAD, cache=tmp_path)
    assert (refreshed.status, refreshed.out) == (0, first.out)
    assert refreshed.err.startswith(f"{SAID_OF_DEAD}; the products list kept before serves, ")
    assert run("products", "-q", *DEAD, cache=tmp_path).err == ""


def test_without_a_network_and_a_kept_list_there_is_nothing(live: Live, tmp_path: Path) -> None:
    run("products", *live.options, cache=tmp_path)
    done = run("products", "--env", "demo", *DEAD, cache=tmp_path)
    assert (done.status, done.out) == (3, b"")
    assert done.err.startswith(SAID_OF_DEAD)


def listed(folder: Path) -> Path:
    """Keeps a list of the live venue, of just now."""
    keep(parse(WHOLE, time.time_ns()), kept_at(folder, "live"))
    return folder


# What subscribe makes of it


def test_a_glob_subscribes_to_what_it_matches(venue: SimulatedVenue) -> None:
    args = ("subscribe", "ticker", "FF_*", "PF_XBTUSD", "--url", venue.url)
    done = run(*args, "-n", "5", "--events")
    said = [row for row in rows(done) if row.get("kfws") == "subscribed"]
    assert [row["product_ids"] for row in said] == [
        *(["FF_ETHUSD_261225"], ["FF_SOLUSD_261225"], ["FF_XBTUSD_261127"]),
        *(["FF_XBTUSD_261225"], ["PF_XBTUSD"]),
    ]


def test_a_tape_names_the_products_of_its_globs(tmp_path: Path) -> None:
    tape = tmp_path / "x.ndjson"
    args = ("subscribe", "ticker,fills", "PI_[XE]*", *SIM, "-n", "1", "-o", str(tape))
    assert run(*args).status == 0
    header = json.loads(tape.read_text().splitlines()[0])
    assert header["products"] == ["PI_ETHUSD", "PI_XBTUSD", "PI_XRPUSD"]


def test_a_glob_that_matches_nothing_opens_no_file(tmp_path: Path) -> None:
    tape = tmp_path / "x.ndjson"
    done = run("subscribe", "ticker", "PF_XBTX*", *SIM, "-o", str(tape))
    assert (done.status, done.err) == (
        2,
        "kfws: no product matches PF_XBTX*; similar: PF_XBTUSD; `kfws products` lists them\n",
    )
    assert not tape.exists()


def test_a_glob_on_private_feeds_alone_filters_and_asks_for_no_list() -> None:
    done = run("subscribe", "fills", "PF_*", *SIM, "-n", "1")
    assert [row["feed"] for row in rows(done)] == ["fills_snapshot"]


def test_a_glob_without_a_list_is_out_of_reach(tmp_path: Path) -> None:
    done = run("subscribe", "ticker", "PF_*", *DEAD, cache=tmp_path)
    assert (done.status, done.out) == (3, b"")
    assert done.err.startswith(SAID_OF_DEAD)


def test_all_products_of_the_venue_can_be_subscribed_to() -> None:
    # A snapshot comes once per product, so that many of them are all of them.
    snapshots = ("--where", "trades!=null", "-n", "350", "--timeout", "20s")
    with beside(lambda: serve(SimOptions(products=350, rate=0.1))) as venue:
        done = run("subscribe", "trade", "*", "--url", venue.url, *snapshots, "--events")
    lines = rows(done)
    assert len({row["product_id"] for row in lines if "kfws" not in row}) == 350
    assert not [row for row in lines if row.get("kfws") in ("refused", "gap", "redial")]


def test_a_live_glob_is_made_of_the_kept_list(live: Live, tmp_path: Path) -> None:
    args = ("subscribe", "ticker", "PI_X*", *live.options, "-n", "2")
    done = run(*args, cache=listed(tmp_path))
    assert {row["product_id"] for row in rows(done)} == {"PI_XBTUSD", "PI_XRPUSD"}


def test_the_case_of_an_id_is_put_right_by_the_kept_list(live: Live, tmp_path: Path) -> None:
    args = ("subscribe", "ticker", "pf_aaplxusd", *live.options, "-n", "1")
    done = run(*args, cache=listed(tmp_path))
    assert [row["product_id"] for row in rows(done)] == ["PF_AAPLxUSD"]
    said = "pf_aaplxusd is spelled PF_AAPLxUSD at the venue; PF_AAPLxUSD is asked for"
    assert done.err.startswith(f"kfws: {said}\n")


def test_a_plain_id_asks_for_no_list_and_needs_none(live: Live, tmp_path: Path) -> None:
    done = run("subscribe", "ticker", "PF_XBTUSD", *live.options, "-n", "1", cache=tmp_path)
    assert len(rows(done)) == 1
    assert not kept_at(tmp_path, "live").exists()


def test_a_damaged_list_is_told_once_and_ignored(live: Live, tmp_path: Path) -> None:
    path = kept_at(tmp_path, "live")
    path.write_bytes(b"{")
    done = run("subscribe", "ticker", "PF_XBTUSD", *live.options, "-n", "1", cache=tmp_path)
    assert len(rows(done)) == 1
    assert done.err.startswith(f"kfws: the products list kept in {path} is damaged")
    assert done.err.count("is damaged") == 1


# Near misses


def test_a_refused_product_is_told_with_its_near_misses_from_the_kept_list(
    live: Live, tmp_path: Path
) -> None:
    args = ("subscribe", "ticker", "PF_XBTUS", "PF_XBTUSD", *live.options, "-n", "1")
    done = run(*args, cache=listed(tmp_path))
    assert done.said == [
        "kfws: the venue refused ticker PF_XBTUS: no product PF_XBTUS; "
        "similar: PF_XBTUSD, PI_XBTUSD; going on without it"
    ]


def test_when_nothing_is_left_the_list_is_fetched_for_the_near_misses(
    live: Live, tmp_path: Path
) -> None:
    done = run("subscribe", "ticker,trade", "PF_XBTUS", *live.options, cache=tmp_path)
    assert (done.status, done.said) == (
        5,
        ["kfws: no product PF_XBTUS; similar: PF_XBTUSD, PI_XBTUSD; `kfws products` lists them"],
    )
    assert kept(kept_at(tmp_path, "live")) is not None


def test_many_refused_products_are_one_line() -> None:
    args = ("PF_A1USD", "PF_B2USD", "PF_C3USD", "in_xbtusd", "rr_xbtusd")
    done = run("subscribe", "ticker", *args, *SIM)
    [line] = done.said
    assert line.startswith("kfws: no product PF_A1USD; similar: ")
    assert line.endswith("; and 2 more; `kfws products` lists them")


def test_a_product_that_is_not_traded_is_told_so() -> None:
    done = run("subscribe", "ticker", "in_xbtusd", *SIM)
    assert done.status == 5
    assert done.said == [
        "kfws: in_xbtusd is not tradeable, so it has no feeds; `kfws products` lists them"
    ]


def test_without_any_list_a_refusal_is_told_in_the_venues_words(venue: SimulatedVenue) -> None:
    where = ("--url", venue.url, "--rest-url", "http://127.0.0.1:1")
    done = run("subscribe", "ticker", "PF_XBTUS", *where)
    assert done.status == 5
    assert done.said == [
        "kfws: the venue refused ticker PF_XBTUS: Couldn't subscribe to invalid product "
        "`PF_XBTUS`; look at the spelling"
    ]


def test_under_strict_the_first_refusal_is_told_the_same_way() -> None:
    done = run("subscribe", "ticker", "PF_XBTUS", "PF_XBTUSD", "--strict", *SIM)
    assert done.status == 5
    assert done.said[-1].startswith("kfws: no product PF_XBTUS; similar: PF_XBTUSD, PI_XBTUSD")
