"""Signatures of envelopes: who has no key can neither write one nor change one.

What is signed is the whole row but for the signature, as JSON with sorted keys: URI (root and object key, which
begins with the Dag), codec and its params, compression, sizes, checksum or table of chunks, inline data, and whatever
fields a later version adds. An envelope without a URI names its Dag in a field of its own.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from xcargo.errors import SignatureError
from xcargo.model.keys import Key
from xcargo.types import Json

__all__ = ["Signer"]

_FIELD = "signature"
_CONTEXT = b"xcargo envelope\0"
_HINT = (
    "Look at who wrote the XCom. If it was stored before the key was set or changed: [xcargo] unsigned_until, or name "
    "the former key behind the new one in signing_key."
)


class Signer:
    """Signs rows with the first key, and verifies those that any of the keys signed. Without keys it does nothing.

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
        if algorithm != "hmac-sha256" or name not in self._keys:
            raise SignatureError("The envelope is signed with a key that is not in [xcargo] signing_key", hint=_HINT)
        if not hmac.compare_digest(digest.encode(), _digest(self._keys[name], row).encode()):
            raise SignatureError("The envelope's signature does not fit: it was changed, or made up", hint=_HINT)


def _digest(key: Key, row: Mapping[str, Any]) -> str:
    try:
        text = json.dumps({name: value for name, value in row.items() if name != _FIELD}, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        raise SignatureError("The envelope is not JSON that xcargo writes", hint=_HINT) from None
    return hmac.new(key.secret, _CONTEXT + text.encode("ascii"), hashlib.sha256).hexdigest()
