"""Credentials out of a text, a file, or the environment's variables; which of them is used.

Rule of this room: whatever is wrong, an error names the source and never shows any part of
what stands in it, nor holds it in its chain of causes. Hence errors of lower rooms are left
behind before ours is raised.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from kfws.errors import Unwelcome
from kfws.protocol.auth import Credentials, as_shown

__all__ = [
    "VARIABLES",
    "KeySource",
    "first_key",
    "from_variables",
    "parse_credentials",
    "read_private",
    "without_secrets",
]

VARIABLES = (
    ("KFWS_API_KEY", "KFWS_API_SECRET"),
    ("KRAKEN_FUTURES_API_KEY", "KRAKEN_FUTURES_API_SECRET"),
)
"""Pairs of variables, the first complete one wins; the second is what the official CLI reads."""

_KEY = frozenset({"key", "api_key", *(key.lower() for key, _ in VARIABLES)})
_SECRET = frozenset({"secret", "api_secret", *(secret.lower() for _, secret in VARIABLES)})
_FORMS = 'write api_key = "…" and api_secret = "…" on two lines, the same as JSON, or just both'

_HIDDEN = ("--credentials-command", "--proxy")
"""Options whose values may hold a secret."""

_ASSIGNMENT = re.compile(r"(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*)")
_QUOTED = re.compile(r"""(?:"([^"]*)"|'([^']*)')\s*(?:\#.*)?""")
_PLAIN = re.compile(r"""([^\s"'#][^\s"']*)?\s*(?:\s\#.*)?""")


def parse_credentials(text: str, source: str) -> Credentials:
    """Credentials from TOML or dotenv lines, a JSON object, or two bare lines (key, secret).

    ``source`` names the text in errors: a path, or what stands for one. Raises Unwelcome.
    """
    text = text.removeprefix("\ufeff").strip()
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if text.startswith("{"):
        pairs = _json_pairs(text, source)
    elif any(_is_ours(line) for line in lines):
        pairs = _line_pairs(lines, source)
    elif len(lines) == 2:
        return _credentials(lines[0], lines[1], source)
    else:
        raise Unwelcome(f"{source}: no API key and secret found", hint=_FORMS)
    key = _the_one(pairs, _KEY, "API key", source)
    return _credentials(key, _the_one(pairs, _SECRET, "API secret", source), source)


def from_variables(environ: Mapping[str, str], names: tuple[str, str]) -> Credentials | None:
    """Credentials from a pair of variables; None where neither is set.

    An empty variable counts as not set. Raises Unwelcome when half of the pair is missing.
    """
    key, secret = (environ.get(name, "").strip() for name in names)
    if key and secret:
        return _credentials(key, secret, " and ".join(names))
    if key or secret:
        present, missing = names if key else reversed(names)
        raise Unwelcome(f"{present} is set but {missing} is not", hint=f"set {missing} too")
    return None


class KeySource(NamedTuple):
    """Where a key may come from."""

    name: str
    read: Callable[[], Credentials | None]
    """Gives None where there is no key; raises Unwelcome for what is none."""


def first_key(sources: Iterable[KeySource]) -> tuple[str, Credentials] | None:
    """The first key that is found, and where it came from. Raises Unwelcome."""
    for source in sources:
        if key := source.read():
            return source.name, key
    return None


def read_private(path: str) -> str:
    """The text of a file that only its owner can read. Raises Unwelcome."""
    try:
        mode = Path(path).stat().st_mode
        if os.name == "posix" and stat.S_ISREG(mode) and mode & 0o077:
            raise Unwelcome(
                f"{path} can be read by others than you", hint=f"chmod 600 {shlex.quote(path)}"
            )
        return Path(path).read_text(encoding="utf-8")
    except OSError as exc:
        raise Unwelcome(
            f"{path} cannot be read: {exc.strerror}", hint="--credentials names a file"
        ) from exc
    except UnicodeDecodeError:
        pass  # raised below: this error holds the file's bytes
    raise Unwelcome(f"{path} is no text", hint="write api_key = … and api_secret = … into it")


def _credentials(key: str, secret: str, source: str) -> Credentials:
    try:
        return Credentials(key, secret)
    except Unwelcome as error:
        why, hint = error.message, error.hint
    raise Unwelcome(f"{source}: {why}", hint=hint)


def _json_pairs(text: str, source: str) -> list[tuple[str, Any]]:
    fields: dict[str, Any] | None = None
    try:
        fields = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass
    if fields is None:
        raise Unwelcome(f"{source}: not a JSON object, though it starts like one", hint=_FORMS)
    return [(name.lower(), value) for name, value in fields.items()]


def _line_pairs(lines: Iterable[str], source: str) -> list[tuple[str, Any]]:
    pairs = []
    for line in lines:
        name, value = _assigned(line)
        if name is None and not line.startswith("["):  # a [table] of TOML may stand between
            raise Unwelcome(f"{source}: a line that is not name = value", hint=_FORMS)
        if name is not None:
            pairs.append((name, value))
    return pairs


def _assigned(line: str) -> tuple[str | None, str | None]:
    """The name on the line, and its value where the value is well-formed."""
    found = _ASSIGNMENT.fullmatch(line)
    if found is None:
        return None, None
    value = _QUOTED.fullmatch(found[2]) or _PLAIN.fullmatch(found[2])
    return found[1].lower(), value and next(filter(None, value.groups()), "")


def _is_ours(line: str) -> bool:
    # A bare key may end in = and so look like an assignment; only our names make it one.
    return _assigned(line)[0] in _KEY | _SECRET


def _the_one(
    pairs: Iterable[tuple[str, Any]], names: frozenset[str], what: str, source: str
) -> str:
    values = [value for name, value in pairs if name in names]
    if len(values) != 1:
        fault = "no" if not values else "more than one"
        raise Unwelcome(f"{source}: {fault} {what} found", hint=_FORMS)
    if not isinstance(values[0], str):
        raise Unwelcome(f"{source}: the {what} is malformed", hint="put it in quotes, on one line")
    return values[0].strip()


def without_secrets(args: Sequence[str]) -> str:
    """A command line as a tape may show it: whatever may hold a secret is ``***``."""
    shown = ["kfws"]
    for before, arg in zip(["", *args], args, strict=False):
        name, equals, _ = arg.partition("=")
        if before in _HIDDEN:
            arg = "***"
        elif name in _HIDDEN and equals:
            arg = f"{name}=***"
        elif before == "--url" or name == "--url":
            arg = as_shown(arg)
        shown.append(arg)
    return shlex.join(shown).encode(errors="replace").decode()
