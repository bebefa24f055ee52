"""The contract of a codec."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

from xcargo.codecs.source import BytesSource, Source
from xcargo.errors import MissingDependencyError, UnsupportedTypeError
from xcargo.types import Buffer

__all__ = [
    "Buffer",
    "Codec",
    "CodecLookup",
    "Encoded",
    "FinalRefusalError",
    "Handle",
    "SourceCodec",
    "arrow",
    "contiguous",
    "importable",
]


@dataclass(frozen=True)
class Encoded:
    """A payload and what decoding it needs.

    Attributes:
        codec: Id of the codec.
        parts: The payload in order. A payload that is produced while it is stored is an iterator, which is read once.
        params: JSON for the envelope. With an iterator, they may be filled in until its last part is read.
        suffix: End of the object key, for people only.
        expected_bytes: Approximate length of a payload that is an iterator, if known.
        stored: Where the payload is stored already, all of it; ``parts`` are read from there, and need not be.
    """

    codec: str
    parts: Iterable[Buffer]
    params: Mapping[str, Any] = field(default_factory=dict)
    suffix: str = ""
    expected_bytes: int | None = None
    stored: Source | None = None

    @property
    def size_bytes(self) -> int | None:
        """Length of the payload; None if it is an iterator of which that is not known."""
        if self.stored is not None:
            return self.stored.size_bytes
        parts = self.parts
        return sum(map(len, parts)) if type(parts) in (tuple, list) or isinstance(parts, Sequence) else None


class Handle:
    """A stored value that is not loaded. It is pushed as the value that it stands for."""

    def encoded(self) -> Encoded:
        """The payload as it is stored. Makes no request before its parts are taken."""
        raise NotImplementedError

    def load(self) -> Any:
        """The value itself."""
        raise NotImplementedError


@runtime_checkable
class Codec(Protocol):
    """Turns values of some types into a payload and back, equal and of the same type.

    ``id`` is stored in every envelope that the codec wrote and is never reused for another format: every release reads
    what earlier ones wrote. ``decode`` treats the payload as hostile: it allocates no more than the payload justifies,
    and raises DecodeError. It may keep the payload instead of a copy.

    Whatever ``encode`` accepts, ``decode`` restores in another process that has imported nothing yet, given the same
    packages. So the codec knows what it needs to import, and what has to be registered there: its own constants name
    the modules. A payload may pick one of them (as the dtype of a column picks its package), but nothing that is read
    there is ever imported. What such a process could not restore, ``encode`` refuses.

    A codec that reads its payload itself, in part or into its own memory, also has ``open(source, params)``. It returns
    the same value as ``decode``, which may keep the `Source` and read from it later.
    """

    id: str

    def accepts(self, value: object) -> bool:
        """Whether ``encode`` accepts this value. Must be cheap and import nothing: look in ``sys.modules``."""

    def encode(self, value: Any) -> Encoded:
        """The payload. Raises UnsupportedTypeError that names the part of the value that can't be encoded."""

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> Any:
        """The value. Raises DecodeError for bytes it did not write, MissingDependencyError for a missing library."""


class SourceCodec:
    """Base of our codecs that have ``open``."""

    def open(self, source: Source, params: Mapping[str, Any]) -> Any:
        """The value whose payload the source reads."""
        raise NotImplementedError

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> Any:
        """The value of a payload that is in memory."""
        return self.open(BytesSource(payload), params)


class FinalRefusalError(UnsupportedTypeError):
    """Raised for what must not be stored in another form either, such as a secret unencrypted: no codec is asked."""


class CodecLookup(Protocol):
    """The codecs of a process, for a codec whose values hold values of others."""

    def encode_leaf(self, value: object) -> Encoded | None:
        """The value by the codec that takes it; None if that is the tree's, or if none does."""

    def substitute(self, value: object, refusal: UnsupportedTypeError) -> Any:
        """What is stored in place of a value for which every codec raised ``refusal``; raises that if nothing is."""

    def open(self, codec_id: str, source: Source, params: Mapping[str, Any]) -> Any:
        """The value whose payload the source reads, by the codec of this id."""


def importable(library: str, value: str, *, extra: str | None = None, package: str | None = None) -> Any:
    """The library, now that a value needs it.

    Raises MissingDependencyError naming the extra that brings it, or the package where there is no extra.
    """
    try:
        return import_module(library)
    except ImportError as error:
        extra = extra or ("arrow" if library == "pyarrow" else library)
        raise MissingDependencyError(
            f"The value is {value}, and {package or library} is not installed here",
            hint="Run: pip install " + (package or f"'airflow-provider-xcargo[{extra}]'"),
        ) from error


def arrow() -> Any:
    """pyarrow, with its IPC module."""
    pyarrow = importable("pyarrow", "a table")
    import_module("pyarrow.ipc")
    return pyarrow


def contiguous(encoded: Encoded) -> Buffer:
    """The payload as one buffer; copies only when it has several parts."""
    parts = encoded.parts if isinstance(encoded.parts, Sequence) else list(encoded.parts)
    return parts[0] if len(parts) == 1 else b"".join(parts)
