"""Files that appear under their name when they are complete, and not before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kfws.errors import OutputError
from kfws.sinks.file import cannot_open

__all__ = ["appearing"]


@contextmanager
def appearing(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A path beside it to write to, which becomes ``path`` in the end; gone where an error came.

    Raises OutputError when there is something under that name already, or no folder for it.
    """
    partial = path.with_name(f"{path.name}.part")
    try:
        if not overwrite and path.exists() and path.stat().st_size:
            raise OutputError(
                f"{path} exists and is not empty",
                hint="choose another name, or replace it with --overwrite",
            )
        partial.touch()  # now, since later it would be called by a name that nobody typed
    except OSError as exc:
        raise cannot_open(path, exc) from exc
    try:
        yield partial
        try:
            partial.replace(path)
            _sync(path.parent)
        except OSError as exc:
            raise OutputError(f"cannot write {path}: {exc.strerror}") from exc
    except OutputError as exc:
        # Who writes knows the other name alone.
        raise type(exc)(exc.message.replace(str(partial), str(path)), hint=exc.hint) from exc
    finally:
        partial.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Makes the new name last beyond a power cut, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
