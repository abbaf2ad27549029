"""Decentralized authentication of NATS as ``nsc`` sets it up: operator, accounts, a user.

JWTs are as NATS writes them: base64url without padding, algorithm ``ed25519-nkey``, signed by
who stands above (https://docs.nats.io/running-a-nats-service/nats_admin/security/jwt).
"""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path
from typing import Any, NamedTuple

import nkeys

__all__ = ["Operator", "creds_file"]

LIMITS = dict.fromkeys(
    ("subs", "data", "payload", "imports", "exports", "conn", "leaf", "mem_storage", "disk_storage",
     "streams", "consumer"),
    -1,
) | {"wildcards": True}  # fmt: skip


class Key(NamedTuple):
    """A pair of keys and its name."""

    pair: nkeys.KeyPair
    seed: str
    name: str

    @classmethod
    def new(cls, kind: int) -> Key:
        seed = nkeys.encode_seed(secrets.token_bytes(32), kind)
        pair = nkeys.from_seed(bytearray(seed))
        return cls(pair, seed.decode(), pair.public_key.decode())


class Operator:
    """Who a server trusts, with one account that may use JetStream."""

    def __init__(self) -> None:
        self._key = Key.new(nkeys.PREFIX_BYTE_OPERATOR)
        self._account = Key.new(nkeys.PREFIX_BYTE_ACCOUNT)
        self._system = Key.new(nkeys.PREFIX_BYTE_ACCOUNT)

    @property
    def config(self) -> str:
        """For a server's configuration."""
        itself = _signed(self._key, self._key.name, "operator", {})
        account = _signed(self._key, self._account.name, "account", {"limits": LIMITS})
        limits = {"limits": LIMITS | {"mem_storage": 0, "disk_storage": 0}}
        system = _signed(self._key, self._system.name, "account", limits)
        known = f"{self._account.name}: {account}, {self._system.name}: {system}"
        return (
            f"operator: {itself}\nsystem_account: {self._system.name}\nresolver: MEMORY\n"
            f"resolver_preload: {{ {known} }}"
        )

    def user(self) -> tuple[str, str]:
        """A new user of the account: JWT and seed."""
        key = Key.new(nkeys.PREFIX_BYTE_USER)
        limits = {"subs": -1, "data": -1, "payload": -1}
        return _signed(self._account, key.name, "user", limits), key.seed


def creds_file(path: Path, user: tuple[str, str]) -> Path:
    """A file as ``nsc generate creds`` writes it."""
    jwt, seed = user
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
    return path


def _signed(by: Key, subject: str, kind: str, nats: dict[str, Any]) -> str:
    claims = {
        "jti": secrets.token_hex(16),
        "iat": 1_790_000_000,
        "iss": by.name,
        "name": kind,
        "sub": subject,
        "nats": nats | {"type": kind, "version": 2},
    }
    head = _coded({"typ": "JWT", "alg": "ed25519-nkey"})
    text = f"{head}.{_coded(claims)}"
    return f"{text}.{_base64(by.pair.sign(text.encode()))}"


def _coded(value: dict[str, Any]) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
