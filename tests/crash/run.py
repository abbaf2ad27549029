"""The recorder, killed again and again, and what its tapes hold against the venue's ledger.

One venue, one recorder after the other on the same tape. Each is a process that SIGKILL ends at
a moment of its own, so each has one connection at most, and what it recorded must be what that
connection was sent: the same frames in the same order, up to some frame that is not older than
the time of a sync.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from kfws.errors import OutputError
from kfws.sim.ledger import read
from kfws.tapes import line
from kfws.tapes.files import read_lines
from tests.chaos.record import Frames
from tests.chaos.run import PRODUCTS, Scenario, venue
from tests.cli.program import KFWS, PATIENCE_S, environment

__all__ = ["RECORDINGS", "Outcome", "Recording", "record"]

FEEDS = frozenset({"book", "trade", "ticker"})

SLACK_S = 1.0
"""How long a frame may take from the venue's ledger into the recorder on a busy machine."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What is recorded how, and how often that ends in a kill."""

    name: str
    """The path of ``-o``, in a folder of its own."""
    options: tuple[str, ...] = ()
    sync_s: float = 1.0
    kills: int = 3
    seed: int = 1

    def __str__(self) -> str:
        return " ".join((self.name, *self.options))


RECORDINGS = (
    Recording("x.ndjson"),
    Recording("x.ndjson.gz"),
    Recording("x.ndjson.zst"),
    Recording("x.ndjson.zst", ("--sync", "always"), sync_s=0.0),
    Recording("x.ndjson.zst", ("--rotate", "1s")),
    Recording("x-{n}.ndjson", ("--rotate", "1s,30kB", "--sync", "always"), sync_s=0.0),
    Recording("{feed}/{product}.ndjson.gz", ("--rotate", "20kB")),
    Recording("{feed}.{product}.ndjson.zst"),
)


@dataclass(slots=True)
class Outcome:
    """What came of a recording."""

    recording: Recording
    problems: list[str] = field(default_factory=list)
    kills: int = 0
    sent: int = 0
    kept: int = 0
    torn: int = 0
    """Files with a torn end that was set aside."""
    lost_s: list[float] = field(default_factory=list)
    """Of each kill that cost something: how long before it the first frame came that is lost."""


@dataclass(slots=True)
class _Life:
    """One recorder, from start to kill."""

    started_ns: int
    ended_ns: int
    readable: int = 0
    """Frames on tape when it was dead, before anything was taken up."""
    sent: Frames = field(default_factory=Frames)
    kept: Frames = field(default_factory=Frames)


def record(recording: Recording, folder: Path) -> Outcome:
    """Records, kills, records on; then compares all that is on tape with the ledger."""
    tapes = folder / "tapes"
    tapes.mkdir()
    outcome = Outcome(recording)
    chance = random.Random(f"{recording} {recording.seed}")
    lives: list[_Life] = []
    with venue(Scenario((), rate=100, seed=recording.seed), folder) as url:
        for _ in range(recording.kills):
            lives.append(_killed(recording, tapes, url, chance, outcome))
            _read_tapes(tapes, lives, outcome)
            lives[-1].readable = len(lives[-1].kept)
        lives.append(_left(recording, tapes, url, outcome))
    _read_ledger(folder / "ledger", lives)
    _read_tapes(tapes, lives, outcome)
    _look_at_end(tapes, outcome)
    for number, life in enumerate(lives, 1):
        _compare(life, f"life {number}", outcome, is_killed=number < len(lives))
    outcome.torn = len([*tapes.rglob("*.torn")])
    return outcome


def _recorder(recording: Recording, tapes: Path, url: str, *more: str) -> subprocess.Popen[str]:
    output = ("-o", str(tapes / recording.name), *recording.options, *more)
    return subprocess.Popen(
        [
            *(*KFWS, "subscribe", ",".join(sorted(FEEDS)), *PRODUCTS, "--url", url, *output),
            *("-v", "--log-format", "json"),
        ],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def _killed(
    recording: Recording, tapes: Path, url: str, chance: random.Random, outcome: Outcome
) -> _Life:
    """Most are killed while they record, some while they start."""
    started_ns = time.time_ns()
    recorder = _recorder(recording, tapes, url)
    said = ""
    is_starting = chance.random() < 0.2
    if not is_starting:
        assert recorder.stderr is not None
        for sentence in recorder.stderr:
            said += sentence
            if '"opened"' in sentence:
                break
    try:
        recorder.wait(chance.uniform(0.05, 0.8 if is_starting else 2.5))
        outcome.problems.append(f"a recorder ended by itself with status {recorder.returncode}")
    except subprocess.TimeoutExpired:
        pass
    ended_ns = time.time_ns()
    recorder.kill()
    _, rest = recorder.communicate(timeout=PATIENCE_S)
    _look_at_talk(said + rest, outcome)
    outcome.kills += 1
    return _Life(started_ns, ended_ns)


def _left(recording: Recording, tapes: Path, url: str, outcome: Outcome) -> _Life:
    """The last one may end as it should."""
    started_ns = time.time_ns()
    recorder = _recorder(recording, tapes, url, "-n", "300")
    _, said = recorder.communicate(timeout=PATIENCE_S)
    _look_at_talk(said, outcome)
    if recorder.returncode:
        outcome.problems.append(f"the last recorder ended with status {recorder.returncode}")
    return _Life(started_ns, time.time_ns())


def _look_at_talk(said: str, outcome: Outcome) -> None:
    """The sentences of a recorder that is to go on whatever it finds; the last may be torn."""
    *sentences, _ = said.split("\n")
    for sentence in sentences:
        told = orjson.loads(sentence)
        if told["code"] not in ("opened", "subscribed", "taken-up", "torn", "totals", "closed"):
            outcome.problems.append(f"a recorder said: {told['message']}")


def _read_ledger(path: Path, lives: list[_Life]) -> None:
    """What was sent to which recorder. Their connections come one after the other."""
    opened: dict[int, int] = {}
    with path.open("rb") as ledger:
        for entry in read(ledger):
            at_ns = opened.setdefault(entry.conn, entry.at_ns)
            if entry.sent is not None:
                for life in lives:
                    if life.started_ns <= at_ns <= life.ended_ns:
                        life.sent.add(entry.sent.encode(), FEEDS, at_ns=entry.at_ns)


def _read_tapes(tapes: Path, lives: list[_Life], outcome: Outcome) -> None:
    """All that is on tape, each frame to the recorder whose header stands above it."""
    for life in lives:
        life.kept = Frames()
    for path in _in_order(tapes):
        life = lives[0]
        for found in _whole_lines(path, outcome):
            if isinstance(found, line.Frame):
                life.kept.add(found.payload, FEEDS, at_ns=found.received_ns)
            elif found["kfws"] == "header":
                at_ns = found["at_ns"]
                life = next(each for each in reversed(lives) if each.started_ns <= at_ns)


def _in_order(tapes: Path) -> list[Path]:
    """Files that hold lines, in the order in which they were begun."""
    files = [each for each in tapes.rglob("*") if each.is_file() and each.suffix != ".torn"]
    return sorted(files, key=lambda each: (_began_ns(each), each.name))


def _began_ns(path: Path) -> int:
    try:
        header = line.read(next(read_lines(path)))
        return 0 if isinstance(header, line.Frame) else int(header["at_ns"])
    except (StopIteration, ValueError):
        return 0  # killed within its first line


def _whole_lines(path: Path, outcome: Outcome) -> Iterator[line.Frame | dict[str, Any]]:
    """The lines of a file; only the last may be torn, and only while it is not complete."""
    is_complete = path.suffix != ".open"
    try:
        for each in read_lines(path):
            if each.endswith(b"\n"):
                orjson.loads(each)
                yield line.read(each)
    except (OutputError, ValueError) as exc:
        outcome.problems.append(f"{path.name}{'' if is_complete else ' (open)'}: {exc}")


def _look_at_end(tapes: Path, outcome: Outcome) -> None:
    files = _in_order(tapes)
    outcome.problems += [
        f"{each.name} was not taken up" for each in files if each.suffix == ".open"
    ]
    for path in files:
        *_, last = read_lines(path)
        if not last.endswith(b"\n"):
            outcome.problems.append(f"{path.name} ends within a line")
    if files:
        last_read = line.read(last)
        if isinstance(last_read, line.Frame) or last_read["kfws"] != "totals":
            outcome.problems.append(f"{files[-1].name} ends without totals")


def _compare(life: _Life, name: str, outcome: Outcome, *, is_killed: bool) -> None:
    """What was kept are the frames that were sent, up to some that are not older than a sync."""
    sent, kept = life.sent, life.kept
    outcome.sent += len(sent)
    outcome.kept += len(kept)
    if is_killed and len(kept) < life.readable:
        outcome.problems.append(
            f"{name}: {life.readable - len(kept)} frames went at the next start"
        )
    lost_ns: list[int] = []
    for stream in {*sent.streams, *kept.streams}:
        out, had = sent.positions(stream), kept.positions(stream)
        if [sent.digest[at] for at in out[: len(had)]] != [kept.digest[at] for at in had]:
            outcome.problems.append(f"{name}: {stream} is not what was sent")
        lost_ns += [sent.at_ns[at] for at in out[len(had) :]]
    if lost_ns and is_killed:
        lost_s = (life.ended_ns - min(lost_ns)) / 1e9
        outcome.lost_s.append(lost_s)
        if lost_s > outcome.recording.sync_s + SLACK_S:
            outcome.problems.append(f"{name}: what came {lost_s:.2f} s before the kill is lost")
