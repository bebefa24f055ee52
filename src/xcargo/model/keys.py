"""Keys: secrets of 32 bytes, each with a name that may be written down."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field

from xcargo.errors import ConfigurationError

__all__ = ["KEY_BYTES", "Key", "parse_keys"]

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
