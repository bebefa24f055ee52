"""The error tree: what went wrong, where, and what to do next.

Every error that xcargo raises on purpose is an `XCargoError`. ``kind`` is a stable identifier for logs, metrics and
tests. Most errors are also the matching built-in exception (``FileNotFoundError``, ``PermissionError``, ``ValueError``
...).

A message names the XCom or URI and the next step. It never contains a value, a credential or a signed URL.
"""

from __future__ import annotations

import re
from enum import Enum

__all__ = [
    "AccessDeniedError",
    "CodecError",
    "ConfigurationError",
    "DecodeError",
    "EnvelopeError",
    "ErrorKind",
    "IntegrityError",
    "MissingDependencyError",
    "ObjectExistsError",
    "ObjectExpiredError",
    "ObjectNotFoundError",
    "ReferencesUnavailableError",
    "RootNotFoundError",
    "SignatureError",
    "SizeLimitError",
    "StorageFullError",
    "StoreError",
    "StoreUnavailableError",
    "SweepRefusedError",
    "UnsupportedTypeError",
    "XCargoError",
]


UPGRADE_HINT = "A newer xcargo may have stored it: run pip install --upgrade airflow-provider-xcargo on this worker."
"""What to do about something stored in a form that this release does not know."""


class ErrorKind(str, Enum):
    """Stable identifiers of what went wrong. Append-only: once released, an identifier keeps its meaning."""

    CONFIGURATION = "configuration"
    UNSUPPORTED_TYPE = "unsupported_type"
    DECODE = "decode"
    MISSING_DEPENDENCY = "missing_dependency"
    ENVELOPE = "envelope"
    STORE = "store"
    OBJECT_NOT_FOUND = "object_not_found"
    ROOT_NOT_FOUND = "root_not_found"
    OBJECT_EXISTS = "object_exists"
    ACCESS_DENIED = "access_denied"
    STORE_UNAVAILABLE = "store_unavailable"
    STORAGE_FULL = "storage_full"
    INTEGRITY = "integrity"
    SWEEP_REFUSED = "sweep_refused"
    SIGNATURE = "signature"
    SIZE_LIMIT = "size_limit"
    OBJECT_EXPIRED = "object_expired"
    CODEC = "codec"
    REFERENCES_UNAVAILABLE = "references_unavailable"
    OTHER = "other"

    def __str__(self) -> str:
        return self.value


# Control characters, those of C1 too, and what turns the direction of text.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, *, keep: str = "") -> str:
    """The text with every character escaped that a terminal might act upon, or that begins a line of a log."""
    if text.isprintable():
        return text
    return _UNSAFE.sub(lambda match: match[0] if match[0] in keep else _escaped(match[0]), text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode()


class XCargoError(Exception):
    """Base class of all errors of xcargo.

    Args:
        what: One sentence on what went wrong.
        where: The coordinate or URI that it concerns. Callers further up add theirs with `at`.
        hint: One sentence on what to do next.
    """

    kind: ErrorKind = ErrorKind.OTHER

    def __init__(self, what: str, *, where: object = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def at(self, where: object) -> XCargoError:
        """Add a coordinate or URI to those that the error already names. Returns the error itself."""
        if self.where is None:
            self.where = where
        elif str(where) not in str(self.where):
            self.where = f"{self.where} ({where})"
        return self

    def __str__(self) -> str:
        text = self.what.rstrip(".")
        if self.where is not None:
            text = f"{text} [{self.where}]"
        return printable(f"{text}. {self.hint}" if self.hint else f"{text}.")

    def __reduce__(self) -> tuple[object, ...]:
        # Airflow and multiprocessing pickle exceptions; keyword arguments and attributes would be lost without this.
        where = str(self.where) if self.where is not None else None
        attributes = {name: value for name, value in vars(self).items() if name not in ("what", "where", "hint")}
        return _rebuild, (type(self), self.what, where, self.hint), attributes


def _rebuild(cls: type[XCargoError], what: str, where: str | None, hint: str | None) -> XCargoError:
    return cls(what, where=where, hint=hint)


class ConfigurationError(XCargoError, ValueError):
    """A setting or connection is missing, unknown or unusable. Not worth a retry."""

    kind = ErrorKind.CONFIGURATION


class CodecError(XCargoError):
    """A value could not be converted to bytes or back."""

    kind = ErrorKind.CODEC


class UnsupportedTypeError(CodecError, TypeError):
    """No codec accepts this value. The message gives the path inside the value and the type found there."""

    kind = ErrorKind.UNSUPPORTED_TYPE


class DecodeError(CodecError, ValueError):
    """Stored bytes do not decode to a value."""

    kind = ErrorKind.DECODE


class MissingDependencyError(CodecError, ImportError):
    """An optional package is needed. The message contains the ``pip install`` command."""

    kind = ErrorKind.MISSING_DEPENDENCY


class EnvelopeError(XCargoError, ValueError):
    """A row claims to be an envelope of xcargo, but can't be followed."""

    kind = ErrorKind.ENVELOPE


class SignatureError(EnvelopeError):
    """A row claims to be an envelope of xcargo, but was not signed with the signing key."""

    kind = ErrorKind.SIGNATURE


class SizeLimitError(XCargoError, ValueError):
    """A value is larger than ``max_size_bytes``. The message names its largest parts. Not worth a retry."""

    kind = ErrorKind.SIZE_LIMIT


class StoreError(XCargoError):
    """The store failed the request."""

    kind = ErrorKind.STORE


class ObjectNotFoundError(StoreError, FileNotFoundError):
    """The object that a row refers to does not exist."""

    kind = ErrorKind.OBJECT_NOT_FOUND


class ObjectExpiredError(StoreError, FileNotFoundError):
    """A retention rule has deleted the value that a row refers to."""

    kind = ErrorKind.OBJECT_EXPIRED


class RootNotFoundError(StoreError, FileNotFoundError):
    """The bucket or container itself does not exist. It is never created implicitly."""

    kind = ErrorKind.ROOT_NOT_FOUND


class ObjectExistsError(StoreError, FileExistsError):
    """A put that must not replace anything found an object under the same key."""

    kind = ErrorKind.OBJECT_EXISTS


class AccessDeniedError(StoreError, PermissionError):
    """The store refused the credentials, or they lack a permission."""

    kind = ErrorKind.ACCESS_DENIED


class StoreUnavailableError(StoreError, ConnectionError):
    """The store did not answer in time, or answered that it is busy. A later retry may succeed."""

    kind = ErrorKind.STORE_UNAVAILABLE
    busy = False
    """Whether the store said that it is overloaded."""
    retry_after_seconds: float | None = None
    """How long the store asked clients to wait, if it did."""
    lost = False
    """Whether no answer came, so that the request may have been carried out."""
    final = False
    """Whether a retry is pointless."""


class StorageFullError(StoreError):
    """No space is left for the object. No half-written file remains."""

    kind = ErrorKind.STORAGE_FULL


class IntegrityError(XCargoError, ValueError):
    """The bytes of an object are not the bytes that were stored."""

    kind = ErrorKind.INTEGRITY


class ReferencesUnavailableError(XCargoError):
    """The metadata database or the REST API could not say which objects are referred to. Nothing was changed."""

    kind = ErrorKind.REFERENCES_UNAVAILABLE


class SweepRefusedError(XCargoError):
    """It would not be safe to delete or move anything, so nothing was."""

    kind = ErrorKind.SWEEP_REFUSED
