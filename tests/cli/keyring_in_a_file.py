"""A system's keyring for tests: PYTHON_KEYRING_BACKEND names it, KFWS_TEST_KEYRING its file.

A file that says ``locked`` gives and takes nothing.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordDeleteError


class InAFile:
    priority = 5.0

    def __init__(self) -> None:
        self._path = Path(os.environ["KFWS_TEST_KEYRING"])

    def _read(self) -> dict[str, str]:
        text = self._path.read_text() if self._path.exists() else "{}"
        if text == "locked":
            raise KeyringLocked("locked")
        found: dict[str, str] = json.loads(text)
        return found

    def get_password(self, service: str, name: str) -> str | None:
        return self._read().get(f"{service}/{name}")

    def set_password(self, service: str, name: str, password: str) -> None:
        self._path.write_text(json.dumps(self._read() | {f"{service}/{name}": password}))

    def delete_password(self, service: str, name: str) -> None:
        kept = self._read()
        if kept.pop(f"{service}/{name}", None) is None:
            raise PasswordDeleteError("not there")
        self._path.write_text(json.dumps(kept))


KeyringBackend.register(InAFile)
