from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.bench.load import Load
from tests.bench.measure import ClientFailed, Cost, measure, serving
from tests.needs import lacking

BUSY = "import time\nwhile time.process_time() < 0.3: pass"


def test_a_message_costs_what_many_cost_more_than_one() -> None:
    each = Cost(1.5, 3.0, 40.0).per_message(Cost(0.5, 1.0, 30.0), 100)
    assert each == Cost(0.01, 0.02, 40.0)
    assert each.rate == 50


def test_a_time_that_drowned_in_the_start_up_tells_no_rate() -> None:
    assert Cost(1.0, 1.0).per_message(Cost(1.0, 1.1), 100).rate == 0


def test_a_run_costs_the_time_of_its_client() -> None:
    cost = measure([sys.executable, "-c", "print(sum(range(1000)))"])
    assert cost.cpu_s > 0
    assert cost.wall_s > 0


def test_the_memory_of_a_run_is_its_own_and_not_that_of_who_started_it() -> None:
    if sys.platform != "linux":
        lacking("memory is looked up in /proc")
    weight = bytearray(b"x" * 200_000_000)
    cost = measure([sys.executable, "-c", BUSY])
    assert 5 < cost.peak_mb < len(weight) / 1024 / 1024


def test_what_a_client_used_before_a_moment_does_not_count(tmp_path: Path) -> None:
    if sys.platform != "linux":
        lacking("the time of another process has a clock on Linux only")
    said = tmp_path / "said"
    os.mkfifo(said)
    argv = [sys.executable, "-c", f"{BUSY}\nopen({str(said)!r}, 'w').write('now')"]

    def until_said() -> None:
        assert said.read_text() == "now"

    assert measure(argv, since=until_said).cpu_s < 0.3


def test_a_client_that_fails_is_named_with_its_last_words() -> None:
    with pytest.raises(ClientFailed, match=r"status 3: no venue"):
        measure([sys.executable, "-c", "import sys; sys.stderr.write('no venue'); sys.exit(3)"])


def test_a_served_load_says_where_it_is_and_who_vouches_for_it() -> None:
    plain, secret = Load("book", 1), Load("book", 1, tls=True)
    with serving([plain, secret, plain]) as server:
        assert server.urls[plain].startswith("ws://127.0.0.1:")
        assert server.urls[secret].startswith("wss://127.0.0.1:")
        assert "CERTIFICATE" in server.ca_file.read_text()
