"""README and docs, read for what can be run: sections, their commands, their files.

How a page is written, so that all of it can be tried:

* In a ```console block each line that begins with ``$ `` is a command (a ``\\`` at its end
  continues it), and what stands below it is its output, with ``…`` for what moves, never
  for a row more in a list of rows; a line that is ``…`` alone stands for any number of lines.
* Another block whose first line is a comment with a name, ``# alert.sh``, is that file.
* ``<!-- not run: WHY -->`` above a block keeps it from being run.
* What stands above a page's first ``##`` is run ahead of each section.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.cli.program import environment

__all__ = ["PAGES", "ROOT", "Command", "Section", "matches", "printed", "sections"]

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PATIENCE_S = 150

_BLOCK = re.compile(r"^(<!-- not run: [^>]+ -->\n+)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"[#;/ ]+(?:<!-- )?([\w.@-]+\.\w+)(?: -->)?$")
_PORT = re.compile(r"\b(?:8765|8766|9464|4222|8080)\b")
_BETWEEN = "\x1e\n"


@dataclass(frozen=True, slots=True)
class Command:
    """What is typed, and the lines that stand below it."""

    typed: str
    shown: str


@dataclass(slots=True)
class Section:
    """What stands below one heading."""

    page: Path
    heading: str
    commands: list[Command] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    programs: list[str] = field(default_factory=list)
    """Blocks of Python that are no file."""
    untried: list[str] = field(default_factory=list)
    """Commands of ours that are not run, but have to be understood."""

    def __str__(self) -> str:
        return f"{self.page.name}: {self.heading}"


def sections(page: Path) -> list[Section]:
    """The parts of a page, the first of which stands above all headings but the title."""
    text = page.read_text(encoding="utf-8")
    headings = [("", 0)] + [
        (m[1], m.start()) for m in re.finditer(r"^##+ (.*)$", _bare(text), re.M)
    ]
    ends = [start for _, start in headings[1:]] + [len(text)]
    return [
        _section(Section(page, heading), text[start:end])
        for (heading, start), end in zip(headings, ends, strict=True)
    ]


def _bare(text: str) -> str:
    """The text with blocks blanked: a comment in one is no heading."""
    return re.sub(r"^```.*?^```$", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.M | re.S)


def _section(section: Section, text: str) -> Section:
    for not_run, language, block in _BLOCK.findall(text):
        name = _FILE.match(block.split("\n", 1)[0])
        if language == "console" and not not_run:
            section.commands += _commands(block)
        elif name is not None:
            section.files[name[1]] = block
        elif language == "python" and not not_run:
            section.programs.append(block)
        elif language in ("console", "sh"):
            section.untried += re.findall(r"^(?:\$ )?(kfws .*)", _joined(block), re.MULTILINE)
    section.untried += re.findall(r"^\| .* \| `(kfws .*)` \|$", text, re.MULTILINE)
    return section


def _joined(block: str) -> str:
    return re.sub(r"\\\n\s*", "", block)


def _commands(block: str) -> list[Command]:
    parts = re.split(r"^\$ ", _joined(block), flags=re.MULTILINE)[1:]
    pairs = (part.rstrip("\n").partition("\n") for part in parts)
    return [Command(typed, shown) for typed, _, shown in pairs]


def printed(commands: Sequence[Command], folder: Path) -> list[str]:
    """What each of the commands prints, typed one after the other into one shell in the folder.

    Ports that the pages name are replaced by free ones, and put back in what is printed.
    """
    typed = "\n".join(_line(each.typed) for each in commands)
    free = {port: str(_free_port()) for port in sorted(set(_PORT.findall(typed)))}
    script = _PORT.sub(lambda found: free[found[0]], "mark() { printf '\\036\\n'; }\n" + typed)
    _write_ports(folder, free)
    output = folder / ".printed"
    with output.open("wb") as file:
        shell = subprocess.Popen(
            ["bash", "-c", script],
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            shell.wait(PATIENCE_S)
        finally:
            _end_group(shell.pid)
            shell.wait()
    text = output.read_text(encoding="utf-8", errors="replace")
    for port, taken in free.items():
        text = re.sub(rf"\b{taken}\b", port, text)
    return [each.rstrip("\n") for each in text.split(_BETWEEN)[: len(commands)]]


def _line(typed: str) -> str:
    """A server is up before the next command is typed."""
    port = re.search(r"(?:--port|--metrics|-p|\.py) (\d+)", typed)
    if typed.endswith("&") and port is not None:
        typed += f"\nuntil (: <>/dev/tcp/127.0.0.1/{port[1]}) 2>/dev/null; do sleep 0.02; done"
    return f"{typed}\nmark"


def _write_ports(folder: Path, free: dict[str, str]) -> None:
    for path in folder.iterdir():
        if path.suffix in (".py", ".sh", ".toml", ".yml", ".yaml"):
            text = path.read_text(encoding="utf-8")
            path.write_text(_PORT.sub(lambda found: free.get(found[0], found[0]), text))


def _environment(folder: Path) -> dict[str, str]:
    programs = Path(sys.executable).parent
    return environment(
        PATH=f"{programs}{os.pathsep}{os.environ['PATH']}",
        PYTHONPATH=str(ROOT),
        XDG_STATE_HOME=str(folder / ".state"),
    )


def _end_group(group: int) -> None:
    """What a page leaves running is ended."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def matches(shown: str, got: str) -> bool:
    """Whether what was printed is what is shown."""
    pattern = "".join(
        r"(?:.*\n)*?" if line == "…" else _pattern(line) + "\n" for line in shown.splitlines()
    )
    return re.fullmatch(pattern, got + "\n" if got else "") is not None


def _pattern(line: str) -> str:
    return r"(?:(?!\), ?\(|\], ?\[|\}, ?\{).)*?".join(re.escape(piece) for piece in line.split("…"))
