"""Encryption of objects: AES-256-GCM over each chunk by itself, so that any part can be read and is verified.

Each object has a key of its own: HKDF-SHA256 of the configured key and a random salt. The nonce of a chunk is its
number, so none is ever used twice. The tag authenticates, beside the chunk's bytes, the object's key below its root (of
a copy, that of the original, which is of the same Dag), its codec, the chunk's number, whether it is the last, the
length of its payload and how it is compressed. So a chunk that was changed, moved, left out, cut off from the end, read
as something else, or taken from another object does not decrypt. Every stored chunk is 16 bytes longer than what was
encrypted.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xcargo.errors import UPGRADE_HINT, ConfigurationError, EnvelopeError, IntegrityError, MissingDependencyError
from xcargo.model.keys import KEY_BYTES, Key
from xcargo.types import Buffer

__all__ = ["ChunkContext", "Cipher", "encryption_of_copy", "require"]


_ALGORITHM = "aes-256-gcm"
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
    """What a chunk's encryption is bound to: its number, and what its bytes are before they are encrypted."""

    number: int
    last: bool
    size_bytes: int
    compression: str

    @property
    def nonce(self) -> bytes:
        return self.number.to_bytes(_NONCE_BYTES, "big")

    @property
    def associated_data(self) -> bytes:
        return f"{self.number}\0{self.last:d}\0{self.size_bytes}\0{self.compression}".encode("utf-8", "surrogatepass")


def encryption_of_copy(encryption: Mapping[str, Any], source: str, target: str) -> Mapping[str, Any] | None:
    """The envelope's ``encryption`` of a copy of an object; None if the copy could not be decrypted there."""
    original = encryption.get("object_key", source)
    if not encryption:
        return encryption
    return {**encryption, "object_key": original} if _same_dag(original, target) else None


def _same_dag(one: str, other: str) -> bool:
    """Whether two object keys are of one Dag."""
    return one.partition("/")[0] == other.partition("/")[0]


class Cipher:
    """Encrypts or decrypts the chunks of one object. Methods may be called from many threads."""

    tag_bytes = 16
    """By how much encryption makes a chunk longer."""
    context = ChunkContext
    """What `encrypt` and `decrypt` bind a chunk to."""

    def __init__(self, key: Key, salt: bytes, *, object_key: str, codec: str) -> None:
        require()
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        self._name = key.name
        self._salt = salt
        self._aead = AESGCM(HKDF(SHA256(), KEY_BYTES, salt, _INFO).derive(key.secret))
        # A row may say anything: of half a character, too, nothing but a chunk that does not decrypt should come.
        self._context = f"xcargo/1\0{object_key}\0{codec}\0".encode("utf-8", "surrogatepass")

    @classmethod
    def new(cls, key: Key, *, object_key: str, codec: str) -> Cipher:
        """The cipher of a new object. One that is encrypted again needs another: no nonce is used twice."""
        return cls(key, secrets.token_bytes(_SALT_BYTES), object_key=object_key, codec=codec)

    @classmethod
    def from_json(cls, encryption: Mapping[str, Any], keys: Sequence[Key], *, object_key: str, codec: str) -> Cipher:
        """The cipher of an object, by its envelope's ``encryption``.

        Raises:
            ConfigurationError: The object's key is not one of ``keys``.
            EnvelopeError: ``encryption`` is malformed, or of a later version.
        """
        if encryption.get("algorithm") != _ALGORITHM:
            raise EnvelopeError(
                "The object is encrypted in a way that this version does not know",
                hint=UPGRADE_HINT,
            )
        name = encryption.get("key")
        try:
            salt = base64.b64decode(encryption["salt"], validate=True)
        except (KeyError, TypeError, ValueError, binascii.Error):
            salt = b""
        original = encryption.get("object_key", object_key)
        if type(name) is not str or type(original) is not str or len(salt) != _SALT_BYTES:
            raise EnvelopeError("The envelope does not say how its object is encrypted")
        if not _same_dag(original, object_key):
            raise EnvelopeError(
                "The row refers to a copy of an encrypted object of another Dag",
                hint="It was made up; look at who wrote the XCom.",
            )
        for key in keys:
            if key.name == name:
                return cls(key, salt, object_key=original, codec=codec)
        known = ", ".join(repr(key.name) for key in keys)
        raise ConfigurationError(
            f"The object is encrypted with the key {name[:64]!r}, which is not in [xcargo] encryption_keys",
            hint=f"Add it there, behind the one that encrypts. Known here: {known or 'none'}.",
        )

    def to_json(self) -> dict[str, str]:
        """The envelope's ``encryption``."""
        return {"algorithm": _ALGORITHM, "key": self._name, "salt": base64.b64encode(self._salt).decode()}

    def encrypt(self, data: Buffer, context: ChunkContext) -> bytes:
        """A chunk, encrypted, with its tag. At most once for each number."""
        return self._aead.encrypt(context.nonce, data, self._context + context.associated_data)

    def decrypt(self, stored: Buffer, context: ChunkContext) -> bytes:
        """A chunk, decrypted. Raises IntegrityError unless it was encrypted in this very context."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._aead.decrypt(context.nonce, stored, self._context + context.associated_data)
        except InvalidTag:
            raise self._mismatch() from None

    def decrypt_into(self, view: memoryview, stored: Buffer, context: ChunkContext) -> None:
        """The same into ``view``, which the chunk fills exactly; without a copy where the library can."""
        from cryptography.exceptions import InvalidTag

        decrypt_into = getattr(self._aead, "decrypt_into", None)
        if decrypt_into is None:  # cryptography before 47
            view[:] = self.decrypt(stored, context)
            return
        try:
            decrypt_into(context.nonce, stored, self._context + context.associated_data, view)
        except InvalidTag:
            raise self._mismatch() from None

    def _mismatch(self) -> IntegrityError:
        return IntegrityError(
            "The object's bytes do not decrypt",
            hint=f"It was altered or exchanged, or the key {self._name!r} differs from the one of the push.",
        )
