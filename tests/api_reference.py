"""docs/api.md, made of the docstrings: ``make docs`` writes it, a test compares it.

Read from the source text, not from what it makes when run, so that every Python version gives
the same page.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "api.md"

# What a user of the library meets: room, then classes in the order of the page.
ROOMS = {
    "kfws/client.py": ("FuturesWSClient", "Stream"),
    "kfws/protocol/book.py": ("Book", "Level"),
    "kfws/protocol/events.py": (
        *("Data", "Gap", "Opened", "Closed", "Redial", "Subscribed", "Refused", "Notice"),
        *("Stale", "Resync", "Restart", "Duplicate", "Silent", "Broken"),
    ),
}
HEADINGS = {
    "kfws/client.py": "The client",
    "kfws/protocol/book.py": "The order book",
    "kfws/protocol/events.py": "Events",
}
OURS = frozenset({"put", "end", "is_full", "apply", "distrust"})
"""Public to the other rooms, not to users."""

HEAD = """\
# The library

<!-- Made of the docstrings by `make docs`; a test compares it. Edit them, not this page. -->

How to use it stands in the [guide](guide.md#from-python). Public names are imported from
`kfws` or from the room that a heading names.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for room, names in ROOMS.items():
        module = ast.parse((ROOT / room).read_text(encoding="utf-8"))
        classes = {each.name: each for each in module.body if isinstance(each, ast.ClassDef)}
        parts.append(f"## {HEADINGS[room]} (`{room[:-3].replace('/', '.')}`)\n")
        for name in names:
            parts += described(classes[name])
    parts += ["## Exceptions (`kfws.errors`, `kfws.exceptions`)\n", *errors()]
    return "\n".join(parts)


def described(found: ast.ClassDef) -> Iterator[str]:
    """A class: what it is, how it is made, its fields, its methods."""
    yield f"### {found.name}\n"
    yield f"{text_of(found)}\n"
    for each in found.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            if found.name == "FuturesWSClient":
                yield signature(found.name, each)
            yield from listed(fields_of(each.body, "self."))
    yield from listed(fields_of(found.body))
    for each in found.body:
        match each:
            case ast.FunctionDef() | ast.AsyncFunctionDef() if is_for_users(each.name):
                yield from method(each)


def is_for_users(name: str) -> bool:
    return not name.startswith("_") and name not in OURS


def method(found: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    kinds = {each.id for each in found.decorator_list if isinstance(each, ast.Name)}
    returns = f" -> {ast.unparse(found.returns)}" if found.returns else ""
    if "property" in kinds:
        yield f"#### `{found.name}{returns.replace(' ->', ':')}`\n"
    else:
        kind = "await " if isinstance(found, ast.AsyncFunctionDef) else ""
        yield f"#### `{kind}{found.name}({arguments(found)}){returns}`\n"
    yield f"{text_of(found)}\n"


def arguments(found: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return re.sub(r"^self(, |$)", "", ast.unparse(found.args))


def signature(name: str, init: ast.FunctionDef) -> str:
    """How it is made, one argument a line."""
    split = re.sub(r", (?=\w+: |\*, )", ",\n    ", arguments(init))
    return f"```python\n{name}(\n    {split},\n)\n```\n"


def fields_of(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Each public field as it is declared, and what its docstring says."""
    for each, behind in zip(body, [*body[1:], None], strict=True):
        match each:
            case ast.AnnAssign(target=target, annotation=kind):
                declared = f"{ast.unparse(target)}: {ast.unparse(bare(kind))}"
            case ast.Assign(targets=[ast.Attribute() as target], value=ast.Constant(value=value)):
                declared = f"{ast.unparse(target)}: {type(value).__name__}"
            case _:
                continue
        said = ""
        if isinstance(behind, ast.Expr) and isinstance(behind.value, ast.Constant):
            said = cleandoc(str(behind.value.value))
        declared = declared.removeprefix(prefix)
        if not declared.startswith("_") and (said or not prefix):
            yield declared, said


def bare(kind: ast.expr) -> ast.expr:
    """A type without what only the decoder of tapes needs to know of it."""
    match kind:
        case ast.Subscript(value=ast.Name("Annotated"), slice=ast.Tuple(elts=[first, *_])):
            return first
    return kind


def listed(fields: Iterator[tuple[str, str]]) -> Iterator[str]:
    rows = [
        f"* `{declared}`" + (f": {plain(' '.join(said.split()))}" if said else "")
        for declared, said in fields
    ]
    if rows:
        yield "\n".join(rows) + "\n"


def errors() -> Iterator[str]:
    module = ast.parse((ROOT / "kfws/errors.py").read_text(encoding="utf-8"))
    yield f"{plain(ast.get_docstring(module) or '')}\n"
    module = ast.parse((ROOT / "kfws/exceptions.py").read_text(encoding="utf-8"))
    yield f"{plain(ast.get_docstring(module) or '')}\n"
    for each in module.body:
        if isinstance(each, ast.ClassDef):
            yield f"* `{each.name}`: {text_of(each).splitlines()[0].rstrip('.')}"
    yield ""


def text_of(found: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return plain(ast.get_docstring(found) or "")


def plain(text: str) -> str:
    """Double backticks, as in our docstrings, are single ones in Markdown; fences stay."""
    return re.sub(r"(?<!`)``(?!`)", "`", text)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {len(page().splitlines())} lines", file=sys.stderr)
