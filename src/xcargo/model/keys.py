"""Keys, each with a name that may be written down, and the signatures of envelopes that are made with them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from xcargo.errors import UPGRADE_HINT, ConfigurationError, SignatureError
from xcargo.model.envelope import upgrade_hint
from xcargo.types import Json

__all__ = [
    "KEY_BYTES",
    "Key",
    "Signer",
    "parse_keys",
]


KEY_BYTES = 32

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True)
class Key:
    """A secret key. Envelopes hold its name, which says nothing of the secret, so that readers know which they need."""

    name: str
    secret: bytes = field(repr=False)


def parse_keys(text: str) -> tuple[Key, ...]:
    """Keys out of ``name=base64, base64, ...``, each of 32 bytes; one without a name is named by a digest of it.

    Raises ConfigurationError, which never shows the text.
    """
    keys = [_parse(item.strip(), number) for number, item in enumerate(text.split(","), 1) if item.strip()]
    names = [key.name for key in keys]
    if len(set(names)) < len(names):
        raise ConfigurationError("Two keys have the same name", hint="Give each key a name of its own.")
    return tuple(keys)


def _parse(item: str, number: int) -> Key:
    wrong = ConfigurationError(
        f"Key {number} is not the base64 of {KEY_BYTES} bytes",
        hint=f"Make one with: openssl rand -base64 {KEY_BYTES}",
    )
    name, named, encoded = item.partition("=")
    if not named or not encoded.strip("="):  # base64 itself ends in '='
        name, encoded = "", item
    try:
        secret = base64.b64decode(encoded.strip().replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        raise wrong from None
    if len(secret) != KEY_BYTES:
        raise wrong
    if len(set(secret)) < KEY_BYTES // 4:
        raise ConfigurationError(f"Key {number} is not random", hint=wrong.hint)
    name = name.strip() or hashlib.sha256(b"xcargo key name" + secret).hexdigest()[:8]
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"The name of key {number} has other characters than are allowed", hint="Use letters, digits, _ . and -."
        )
    return Key(name, secret)


_FIELD = "signature"
_CONTEXT = b"xcargo envelope\0"
_HINT = (
    "Look at who wrote the XCom. If it was stored before the key was set or changed: [xcargo] unsigned_until, or name "
    "the former key behind the new one in signing_key."
)


class Signer:
    """Signs rows with the first key, and verifies those that any of the keys signed. Without keys it does nothing.

    So nobody without a key can write or change an envelope. What is signed is the whole row but for the signature, as
    JSON with sorted keys: URI (root and object key, which begins with the Dag), codec and its params, compression,
    sizes, checksum or table of chunks, inline data, and whatever fields a later version adds. An envelope without a URI
    names its Dag in a field of its own.

    Until ``unsigned_until`` it lets rows without any signature pass, but never one with a wrong signature.
    """

    def __init__(self, keys: Sequence[Key], unsigned_until: datetime | None = None) -> None:
        self._keys = {key.name: key for key in keys}
        self._first = keys[0] if keys else None
        self._unsigned_until = unsigned_until

    @property
    def signs(self) -> bool:
        """Whether there is a key."""
        return self._first is not None

    def signed(self, row: dict[str, Json]) -> dict[str, Json]:
        """The row with its signature, which replaces one that it may have."""
        if self._first is None:
            return row
        return {**row, _FIELD: f"hmac-sha256:{self._first.name}:{_digest(self._first, row)}"}

    def verify(self, row: Mapping[str, Any]) -> None:
        """Raise SignatureError unless one of the keys signed the row as it is. Needs no key if there is none."""
        if self._first is None:
            return
        signature = row.get(_FIELD)
        if signature is None:
            if self._unsigned_until is not None and datetime.now(timezone.utc) < self._unsigned_until:
                return
            raise SignatureError("The envelope is not signed, and [xcargo] signing_key is set", hint=_HINT)
        algorithm, _, rest = str(signature).partition(":")
        name, _, digest = rest.partition(":")
        if algorithm != "hmac-sha256":
            hint = upgrade_hint(row.get("created_by")) or UPGRADE_HINT
            raise SignatureError("The envelope is signed in a way that this version does not know", hint=hint)
        if name not in self._keys:
            raise SignatureError(
                f"The envelope is signed with the key {name[:64]!r}, which is not in [xcargo] signing_key", hint=_HINT
            )
        if not hmac.compare_digest(digest.encode("utf-8", "surrogatepass"), _digest(self._keys[name], row).encode()):
            raise SignatureError("The envelope's signature does not fit: it was changed, or made up", hint=_HINT)


def _digest(key: Key, row: Mapping[str, Any]) -> str:
    try:
        text = json.dumps({name: value for name, value in row.items() if name != _FIELD}, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        raise SignatureError("The envelope is not JSON that xcargo writes", hint=_HINT) from None
    return hmac.new(key.secret, _CONTEXT + text.encode("ascii"), hashlib.sha256).hexdigest()
