"""The expressions of ``--where`` and ``--until``: ``side==buy and qty>=10``.

A comparison has a key on its left (dotted into objects) and a value on its right. The whole
expression is about one entry: of a message that lists trades, levels or orders it is true
when it is true of any of them; a key that the entry lacks is looked up in the message itself.
A key found in neither makes a comparison false, also ``!=``.

Compiled once into nested functions; nothing of the text is ever run.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

from kfws.errors import UsageError
from kfws.protocol.feeds import FEEDS

__all__ = ["Expression", "entries", "parse"]

Message = dict[str, Any]
Test = Callable[[Message, Message], bool]
"""Of an entry and the message it stands in."""

EXAMPLE = "for example: side==buy and qty>=10"
DEEPEST = 32  # parentheses in parentheses; far below where Python's stack would end

_ENTRY_KEYS = frozenset(key for feed in FEEDS.values() for key in feed.entries)
_SIDES = {"bids": {"side": "buy"}, "asks": {"side": "sell"}}
_MISSING = object()


class Expression:
    """A condition on messages; ``text`` is as it was typed."""

    __slots__ = ("_test", "text")

    def __init__(self, text: str, test: Test) -> None:
        self.text = text
        self._test = test

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def matches(self, message: Message) -> bool:
        """Whether any entry of the message fulfils the condition; without entries, the message."""
        listed = entries(message)
        if not listed:
            return self._test(message, message)
        return any(self._test(entry, message) for entry in listed)


def entries(message: Message) -> list[Message]:
    """The objects that a message lists, or carries under a key such as ``order``.

    Levels of a book get the ``side`` that the list they stand in says.
    """
    found: list[Message] = []
    for key, value in message.items():
        kind = type(value)
        if kind is list:
            side = _SIDES.get(key, {})
            found += [side | entry for entry in value if type(entry) is dict]
        elif kind is dict and key in _ENTRY_KEYS:
            found.append(value)
    return found


def parse(text: str) -> Expression:
    """Raises UsageError, which says where the text stops making sense and what was expected."""
    return Expression(text, _Parser(text).whole())


class _Token(NamedTuple):
    kind: str
    """The name of the group in ``_TOKEN`` that matched, or ``end``."""
    text: str
    at: int


_TOKEN = re.compile(
    r"""\s*(?:
        (?P<quoted>"(?:[^"\\]++|\\.)*+"|'(?:[^'\\]++|\\.)*+')
      | (?P<compare>==|!=|<=|>=|<(?!>)|>)
      | (?P<paren>[()])
      | (?P<word>[^\s()=!<>&|"']++)
      | (?P<odd><>|&&|\|\||.)
      | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_RESERVED = frozenset({"and", "or", "not"})
# What people type who come from another language.
_MEANT = {
    "=": "==", "<>": "!=", "!": "not", "&&": "and", "&": "and", "||": "or", "|": "or",
    "AND": "and", "OR": "or", "NOT": "not",
}  # fmt: skip


def _tokens(text: str) -> Iterator[_Token]:
    for found in _TOKEN.finditer(text):
        kind = found.lastgroup or "end"
        yield _Token(kind, found[kind], found.start(kind))


class _Parser:
    """Reads an expression from left to right, one token ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._depth = 0
        self._token = next(self._tokens)

    def whole(self) -> Test:
        if self._token.kind == "end":
            raise UsageError("the expression is empty", hint=EXAMPLE)
        test = self._either()
        if self._token.kind != "end":
            self._expected("'and', 'or' or the end")
        return test

    def _either(self) -> Test:
        tests = [self._both()]
        while self._took("word", "or"):
            tests.append(self._both())
        return tests[0] if len(tests) == 1 else _any(tuple(tests))

    def _both(self) -> Test:
        tests = [self._one()]
        while self._took("word", "and"):
            tests.append(self._one())
        return tests[0] if len(tests) == 1 else _all(tuple(tests))

    def _one(self) -> Test:
        negated = False
        while self._took("word", "not"):
            negated = not negated
        test = self._group() if self._took("paren", "(") else self._comparison()
        return _not(test) if negated else test

    def _group(self) -> Test:
        self._depth += 1
        if self._depth > DEEPEST:
            self._wrong(f"more than {DEEPEST} parentheses inside each other", "use fewer")
        test = self._either()
        if not self._took("paren", ")"):
            self._expected("'and', 'or' or ')'")
        self._depth -= 1
        return test

    def _comparison(self) -> Test:
        path = self._path()
        if self._token.kind != "compare":
            self._expected("one of == != < <= > >=")
        sign = self._take().text
        if self._token.text in _CONSTANTS and sign not in _EQUALITIES:
            self._expected(f"a number or a text after {sign}")
        return _compare(path, sign, self._value())

    def _path(self) -> list[str]:
        word = self._token
        keys = word.text.removeprefix(".").split(".")
        odd = word.text in _RESERVED or word.text in _CONSTANTS or _NUMBER.fullmatch(word.text)
        if word.kind != "word" or odd or word.text in _MEANT or "" in keys:
            self._expected("a key such as price or order.qty")
        self._take()
        return keys

    def _value(self) -> object:
        token = self._token
        if token.kind not in ("word", "quoted") or token.text in _RESERVED:
            self._expected("a value: a number, a text, true, false or null")
        self._take()
        if token.kind == "quoted":
            return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[1]), token.text[1:-1])
        if token.text in _CONSTANTS:
            return _CONSTANTS[token.text]
        number = _number(token.text)
        return token.text if number is None else number

    def _took(self, kind: str, text: str) -> bool:
        if self._token.kind != kind or self._token.text != text:
            return False
        self._take()
        return True

    def _take(self) -> _Token:
        taken, self._token = self._token, next(self._tokens)
        return taken

    def _expected(self, what: str) -> NoReturn:
        token = self._token
        if token.text in _MEANT:
            self._wrong(f"found {token.text!r}", f"type {_MEANT[token.text]} instead")
        if token.text in ("'", '"'):
            self._wrong("a quote is not closed", f"close it with {token.text}")
        found = "the end" if token.kind == "end" else _shortened(token.text, 0)
        self._wrong(f"expected {what}, found {found}", EXAMPLE)

    def _wrong(self, why: str, hint: str) -> NoReturn:
        at = self._token.at
        quoted = _shortened(self._text, at)
        raise UsageError(f"expression {quoted}: at character {at + 1}, {why}", hint=hint)


def _shortened(text: str, at: int) -> str:
    """The text in quotes, on one line; of a long one what stands around the place."""
    first, last = max(0, at - 60), at + 60
    before, after = "…" if first else "", "…" if last < len(text) else ""
    return repr(f"{before}{text[first:last]}{after}")


def _any(tests: tuple[Test, ...]) -> Test:
    def test(entry: Message, message: Message) -> bool:
        for one in tests:  # noqa: SIM110 - any() with a generator takes twice as long
            if one(entry, message):
                return True
        return False

    return test


def _all(tests: tuple[Test, ...]) -> Test:
    def test(entry: Message, message: Message) -> bool:
        for one in tests:  # noqa: SIM110 - likewise
            if not one(entry, message):
                return False
        return True

    return test


def _not(inner: Test) -> Test:
    return lambda entry, message: not inner(entry, message)


_EQUALITIES: dict[str, Callable[[Any, Any], bool]] = {"==": operator.eq, "!=": operator.ne}
_COMPARES: dict[str, Callable[[Any, Any], bool]] = {
    **_EQUALITIES,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _compare(path: list[str], sign: str, wanted: object) -> Test:
    compare, when_unlike = _COMPARES[sign], sign == "!="
    # Exact types: to Python a bool is a number, to the venue it is not.
    alike = (int, float) if type(wanted) in (int, float) else (type(wanted),)
    number_wanted = float in alike
    find = _find(path)

    def test(entry: Message, message: Message) -> bool:
        value = find(entry)
        if value is _MISSING:
            value = find(message)
            if value is _MISSING:
                return False
        if number_wanted and type(value) is str:  # candles carry their numbers as text
            value = _number(value)
        return compare(value, wanted) if type(value) in alike else when_unlike

    return test


def _find(path: list[str]) -> Callable[[Message], Any]:
    """What looks a path up in an object: its value, or ``_MISSING``."""
    if len(path) == 1:
        [only] = path
        return lambda found: found.get(only, _MISSING)

    def find(found: Any) -> Any:
        for key in path:
            if type(found) is not dict or key not in found:
                return _MISSING
            found = found[key]
        return found

    return find


def _number(text: str) -> int | float | None:
    """The number that a text reads as, or None."""
    if not _NUMBER.fullmatch(text):
        return None
    # Python refuses to read integers of many thousand digits; as a float they are infinite.
    return int(text) if len(text) < 100 and text.lstrip("+-").isdigit() else float(text)
