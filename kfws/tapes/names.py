"""What the files of one output are called: a template, and which names are of it.

A template is a path with fields in braces. A file that is being written has ``.open`` behind
its name; one whose name was taken already has a number ahead of its suffixes.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from kfws.errors import OutputError, UsageError

__all__ = ["OPEN", "Template", "free", "opened", "torn"]

OPEN = ".open"
"""Behind the name of a file that is being written, or was when a crash came."""

_FIELD = re.compile(r"\{([^{}]*)\}")
_SHAPES = {
    "feed": r"[\w-]+",
    "product": r"[\w-]+",
    "date": r"[0-9]{8}",
    "time": r"[0-9]{6}",
    "n": r"[0-9]+",
}
_SUFFIXES = re.compile(r"(\.[A-Za-z][^./{}]*)?(\.gz|\.zst)?$", re.IGNORECASE)
_UNSAFE = re.compile(r"[^\w-]", re.ASCII)


class Template(msgspec.Struct, frozen=True):
    """A path with any of ``{feed} {product} {date} {time} {n}`` in it: moments are UTC,
    ``{n}`` counts from 1, and from the files that are there."""

    text: str

    @classmethod
    def of(cls, path: str, *, rotates: bool) -> Template:
        """What was typed, with the moment ahead of the suffixes where files of a rotation would
        be called the same. Raises UsageError, and OutputError for what names no file."""
        if path.rpartition("/")[2] in ("", ".", ".."):
            raise OutputError(f"cannot write {path}: is a directory", hint="name a file in it")
        fields = _FIELD.findall(path)
        for name in fields:
            if name not in _SHAPES:
                known = " ".join(f"{{{each}}}" for each in _SHAPES)
                raise UsageError(f"-o {path}: there is no {{{name}}}", hint=f"there are {known}")
        if rotates and not {"time", "n"} & set(fields):
            stem, suffixes = _parted(path)
            moment = ".{time}Z" if "date" in fields else ".{date}T{time}Z"
            path = f"{stem}{moment}{suffixes}"
        return cls(path)

    @property
    def fields(self) -> frozenset[str]:
        return frozenset(_FIELD.findall(self.text))

    @property
    def folder(self) -> Path:
        """The last folder that is there whatever the fields say."""
        return Path(self.text[: (self.text + "{").index("{")] + "x").parent

    def path(self, feed: str, product: str, at_ns: int, number: int) -> Path:
        """The name of a file that begins at this moment."""
        moment = datetime.fromtimestamp(at_ns // 1_000_000_000, UTC)
        values = {
            # From the wire, so they shall lead nowhere.
            "feed": _UNSAFE.sub("_", feed),
            "product": _UNSAFE.sub("_", product),
            "date": f"{moment:%Y%m%d}",
            "time": f"{moment:%H%M%S}",
            "n": str(number),
        }
        return Path(_FIELD.sub(lambda found: values[found[1]], self.text))

    def found(self, feeds: Sequence[str], *, product: str = "", ending: str = "") -> Iterator[Path]:
        """The files there are of these feeds (and this product), in the order of their names;
        with the ending ``.open`` those that are not complete."""
        pattern = self._pattern(feeds, product, ending)
        stem, suffixes = _parted(self.text)
        wild = "*".join(glob.escape(part) for part in _FIELD.split(stem)[::2])
        names = glob.glob(f"{wild}*{glob.escape(suffixes + ending)}")  # noqa: PTH207  # absolute too
        yield from (Path(name) for name in sorted(names) if pattern.fullmatch(name))

    def highest(self, feed: str, product: str) -> int:
        """The highest ``{n}`` of the files of this feed and product, complete or not; else 0."""
        numbers = [0]
        for ending in ("", OPEN) if "n" in self.fields else ():
            pattern = self._pattern([feed], product, ending)
            for path in self.found([feed], product=product, ending=ending):
                found = pattern.fullmatch(str(path))
                numbers.append(int(found["n"]) if found else 0)
        return max(numbers)

    def _pattern(self, feeds: Sequence[str], product: str, ending: str) -> re.Pattern[str]:
        shapes = _SHAPES | {"feed": "|".join(map(re.escape, feeds))}
        if product:
            shapes["product"] = re.escape(_UNSAFE.sub("_", product))
        stem, suffixes = _parted(self.text)
        # As glob gives the name: Path would have normalised it.
        parts = _FIELD.split(stem)
        seen: set[str] = set()
        pattern = ""
        for literal, name in zip(parts[::2], [*parts[1::2], ""], strict=True):
            pattern += re.escape(literal)
            if name:
                pattern += f"(?P={name})" if name in seen else f"(?P<{name}>{shapes[name]})"
                seen.add(name)
        return re.compile(f"{pattern}(_[0-9]{{3}})?{re.escape(suffixes + ending)}", re.ASCII)


def free(path: Path, *, own: Path | None = None) -> Path:
    """The path, or where that is taken the first of ``NAME_001.ndjson``, ``NAME_002.ndjson`` …

    A file that is being written under that name has taken it too, unless it is our ``own``.
    """
    stem, suffixes = _parted(str(path))
    again = 0
    while path.exists() or (opened(path) != own and opened(path).exists()):
        again += 1
        path = Path(f"{stem}_{again:03}{suffixes}")
    return path


def opened(path: Path) -> Path:
    """What the file is called as long as it is not complete."""
    return path.with_name(path.name + OPEN)


def torn(path: Path) -> Path:
    """Where the torn end of a file is kept."""
    return path.with_name(path.name.removesuffix(OPEN) + ".torn")


def _parted(path: str) -> tuple[str, str]:
    """A path and its suffixes, such as ``.ndjson.zst``."""
    found = _SUFFIXES.search(path)
    at = found.start() if found else len(path)
    return path[:at], path[at:]
