"""API keys that ``kfws auth login`` keeps, each under the name of a profile.

Rule of this room: each profile has a file that only its owner can read. It holds the key, or says
that the system's keyring does; so the keyring, which may ask for a password, is asked for nothing
that it does not hold. Nobody else imports keyring.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from kfws.cli.secrets import parse_credentials, read_private
from kfws.errors import MissingExtra, OutputError, Unwelcome, UsageError
from kfws.products_cache import put
from kfws.protocol.auth import Credentials

__all__ = ["DEFAULT", "Profiles"]

DEFAULT = "default"
SERVICE = "kfws"
IN_KEYRING = '{"kept_in":"keyring"}'
# It names a file, also where the case of letters makes no other.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class Profiles:
    """The keys in a folder, which may not be there yet, and in the system's keyring."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def names(self) -> list[str]:
        """Of all that are kept."""
        found = (path.stem for path in self._folder.glob("*.json"))
        return sorted(name for name in found if _NAME.fullmatch(name))

    def is_kept(self, name: str) -> bool:
        """Whether there is a key of that name, good or not. Raises UsageError for no name."""
        return self._path(name).exists()

    def find(self, name: str) -> Credentials | None:
        """The key of a profile; None where none is kept.

        Raises Unwelcome, MissingExtra, and UsageError for a name that cannot be one.
        """
        path = self._path(name)
        if not self.is_kept(name):
            return None
        text = read_private(str(path))
        if text != IN_KEYRING:
            return parse_credentials(text, str(path))
        return parse_credentials(_ask(name), f"profile {name} in the system's keyring")

    def get(self, name: str) -> Credentials:
        """The key of a profile. Raises the same, and Unwelcome where none is kept."""
        found = self.find(name)
        if found is None:
            raise Unwelcome(
                f"no profile {name} is kept", hint=f"`kfws auth login --profile {name}` keeps one"
            )
        return found

    def place(self, name: str) -> str:
        """Where a profile that is kept is."""
        path = self._path(name)
        return "the system's keyring" if read_private(str(path)) == IN_KEYRING else str(path)

    def keep(self, name: str, key: Credentials) -> str:
        """Keeps a key, in place of the one before; gives where. Raises OutputError, UsageError."""
        path = self._path(name)
        text = msgspec.json.encode({"api_key": key.key, "api_secret": key.secret}).decode()
        in_keyring = _hand_over(name, text)
        try:
            put((IN_KEYRING if in_keyring else text).encode(), path)
        except OSError as exc:
            raise OutputError(f"{path} cannot be written: {exc.strerror}") from exc
        return self.place(name)

    def forget(self, name: str) -> str:
        """Forgets a key; gives where it was. Raises the same as ``get``, and OutputError."""
        path = self._path(name)
        if not path.exists():
            self.get(name)
        place = self.place(name)
        if place != str(path):
            _take_back(name)
        try:
            path.unlink(missing_ok=True)
        except OSError as exc:
            raise OutputError(f"{path} cannot be deleted: {exc.strerror}") from exc
        return place

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"--profile {name!r} is no name", hint="small letters, digits, - and _, e.g. paper"
            )
        return self._folder / f"{name}.json"


# The keyring's errors are left behind before ours are raised: nobody knows what they hold.


def _keyring() -> Any | None:
    """The system's keyring; None where there is none that keeps secrets."""
    try:
        import keyring
    except ImportError:
        return None
    found = keyring.get_keyring()
    # By keyring's own rule: what is below 1 keeps nothing, or in plain text.
    return found if found.priority >= 1 else None


def _opened(name: str) -> Any:
    """The keyring that holds a profile. Raises MissingExtra or Unwelcome where it is away."""
    try:
        import keyring  # noqa: F401
    except ImportError as exc:
        raise MissingExtra(
            f"profile {name} is kept in the system's keyring, which needs keyring",
            hint="install kfws with its extra: 'kfws[keyring]'",
        ) from exc
    found = _keyring()
    if found is None:
        raise Unwelcome(f"profile {name} is kept in a keyring that is not here", hint=_AGAIN)
    return found


_AGAIN = "unlock the keyring, or `kfws auth login --overwrite` anew"


def _hand_over(name: str, text: str) -> bool:
    """Whether the keyring took it."""
    found = _keyring()
    if found is None:
        return False
    from keyring.errors import KeyringError

    try:
        found.set_password(SERVICE, name, text)
    except KeyringError:
        return False
    return True


def _ask(name: str) -> str:
    found = _opened(name)
    from keyring.errors import KeyringError

    text: str | None = None
    try:
        text = found.get_password(SERVICE, name)
    except KeyringError:
        pass
    if text is None:
        raise Unwelcome(f"the system's keyring does not give profile {name}", hint=_AGAIN)
    return text


def _take_back(name: str) -> None:
    found = _opened(name)
    from keyring.errors import KeyringError, PasswordDeleteError

    is_locked = False
    try:
        found.delete_password(SERVICE, name)
    except PasswordDeleteError:
        pass  # somebody else deleted it
    except KeyringError:
        is_locked = True
    if is_locked:
        raise Unwelcome(f"the system's keyring does not let go of profile {name}", hint=_AGAIN)
