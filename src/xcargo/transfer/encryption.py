"""Encryption of objects: AES-256-GCM over each chunk by itself, so that any part can be read and is verified.

Each object has a key of its own: HKDF-SHA256 of the configured key and a random salt. The nonce of a chunk is its
number, so none is ever used twice. Under the tag, beside the chunk's bytes: the object's key below its root, its
codec, the chunk's number, whether it is the last, the length of its payload and how it is compressed. So a chunk that
was changed, moved, left out, cut off behind, read as something else, or taken from another object does not open. Every
stored chunk is 16 bytes longer than what was encrypted.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xcargo.errors import ConfigurationError, EnvelopeError, IntegrityError, MissingDependencyError
from xcargo.model.keys import KEY_BYTES, Key
from xcargo.types import Buffer

__all__ = ["SUFFIX", "TAG_BYTES", "ChunkContext", "Cipher", "require"]


_ALGORITHM = "aes-256-gcm"
SUFFIX = ".enc"
TAG_BYTES = 16

_SALT_BYTES = 32
_NONCE_BYTES = 12
_INFO = b"xcargo/1 object key"


def require() -> None:
    """Raise MissingDependencyError now, at first use, if the library is not installed."""
    try:
        import cryptography.hazmat.primitives.ciphers.aead  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "Encrypted objects need a package that is not installed here",
            hint="Run: pip install 'airflow-provider-xcargo[encryption]'",
        ) from error


@dataclass(frozen=True)
class ChunkContext:
    """Which chunk it is, and what its bytes are before encryption: ``size_bytes`` of payload, compressed or not."""

    number: int
    last: bool
    size_bytes: int
    compression: str

    @property
    def nonce(self) -> bytes:
        return self.number.to_bytes(_NONCE_BYTES, "big")

    @property
    def told(self) -> bytes:
        return f"{self.number}\0{self.last:d}\0{self.size_bytes}\0{self.compression}".encode()


class Cipher:
    """Encrypts or decrypts the chunks of one object. Methods may be called from many threads."""

    def __init__(self, key: Key, salt: bytes, object_key: str, codec: str) -> None:
        require()
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        self._name = key.name
        self._salt = salt
        self._aead = AESGCM(HKDF(SHA256(), KEY_BYTES, salt, _INFO).derive(key.secret))
        self._about = f"xcargo/1\0{object_key}\0{codec}\0".encode()

    @classmethod
    def fresh(cls, key: Key, object_key: str, codec: str) -> Cipher:
        """For a new object. One that is encrypted again needs a new one: a nonce serves once."""
        return cls(key, secrets.token_bytes(_SALT_BYTES), object_key, codec)

    @classmethod
    def of(cls, encryption: Mapping[str, Any], keys: Sequence[Key], object_key: str, codec: str) -> Cipher:
        """For an object by what its envelope tells. Raises ConfigurationError if its key is not here."""
        if encryption.get("algorithm") != _ALGORITHM:
            raise EnvelopeError(
                "The object is encrypted in a way that this version does not know",
                hint="Run: pip install --upgrade airflow-provider-xcargo",
            )
        name = encryption.get("key")
        try:
            salt = base64.b64decode(encryption["salt"], validate=True)
        except (KeyError, TypeError, ValueError, binascii.Error):
            salt = b""
        if type(name) is not str or len(salt) != _SALT_BYTES:
            raise EnvelopeError("The envelope does not tell how its object is encrypted")
        for key in keys:
            if key.name == name:
                return cls(key, salt, object_key, codec)
        known = ", ".join(repr(key.name) for key in keys)
        raise ConfigurationError(
            f"The object is encrypted with the key {name[:64]!r}, which is not in [xcargo] encryption_keys",
            hint=f"Add it there, behind the one that encrypts. Known here: {known or 'none'}.",
        )

    def to_json(self) -> dict[str, str]:
        """What the envelope tells of it."""
        return {"algorithm": _ALGORITHM, "key": self._name, "salt": base64.b64encode(self._salt).decode()}

    def seal(self, data: Buffer, place: ChunkContext) -> bytes:
        """A chunk, encrypted, with its tag. At most once for each place."""
        return self._aead.encrypt(place.nonce, data, self._about + place.told)

    def open(self, stored: Buffer, place: ChunkContext) -> bytes:
        """A chunk, decrypted. Raises IntegrityError unless it is the one of this place, as it was sealed."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._aead.decrypt(place.nonce, stored, self._about + place.told)
        except InvalidTag:
            raise self._altered() from None

    def open_into(self, view: memoryview, stored: Buffer, place: ChunkContext) -> None:
        """The same into memory that it fills; without a copy where the library can."""
        from cryptography.exceptions import InvalidTag

        into = getattr(self._aead, "decrypt_into", None)
        if into is None:  # cryptography before 47
            view[:] = self.open(stored, place)
            return
        try:
            into(place.nonce, stored, self._about + place.told, view)
        except InvalidTag:
            raise self._altered() from None

    def _altered(self) -> IntegrityError:
        return IntegrityError(
            "The object's bytes do not decrypt",
            hint=f"It was altered or exchanged, or the key {self._name!r} is another here than where it was stored.",
        )
