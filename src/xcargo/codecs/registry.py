"""Registry: which codec takes a value, and which codec an id means."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from xcargo.codecs.arrow import ArrowCodec
from xcargo.codecs.arrow_stream import ArrowStreamCodec
from xcargo.codecs.base import Codec, Encoded
from xcargo.codecs.bytes import BytesCodec
from xcargo.codecs.files import FileCodec
from xcargo.codecs.numpy import NumpyCodec
from xcargo.codecs.objects import ObjectCodec
from xcargo.codecs.pandas import PandasCodec
from xcargo.codecs.place import TooDeepError, too_deep
from xcargo.codecs.source import BytesSource, Source, read_all
from xcargo.codecs.stream import StreamCodec
from xcargo.codecs.tree import TreeCodec
from xcargo.errors import MissingDependencyError, UnsupportedTypeError, XCargoError
from xcargo.types import Buffer

__all__ = ["ENTRY_POINT_GROUP", "Registry"]

ENTRY_POINT_GROUP = "xcargo.codecs"

_PACKAGE = "xcargo:package"
"""Param that names the package of a codec that is not ours. No codec sees it."""

_PACKAGE_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")

_ALWAYS_TREE = frozenset((dict, list, str, int, float, bool, type(None), tuple))


class Registry:
    """The codecs of this process.

    Order of choice: built-in types go to the tree codec; then our own codecs, then those that other packages registered
    under the entry point group ``xcargo.codecs``, then ``fallbacks``; the tree codec takes the rest or refuses it. The
    tree codec hands what it does not know itself back to the registry, so that every codec works at any depth.
    ``last_resort``, if it accepts the value, encodes what the codec so chosen refuses.
    """

    def __init__(
        self, *, fallbacks: Iterable[Codec] = (), last_resort: Codec | None = None, entry_points: bool = True
    ) -> None:
        self._tree = TreeCodec(self)
        self._own: tuple[Codec, ...] = (
            BytesCodec(),
            NumpyCodec(self),
            PandasCodec(self),
            ArrowCodec(),
            ArrowStreamCodec(),
            FileCodec(),
            StreamCodec(),
        )
        self._fallbacks = tuple(fallbacks)
        self._last_resort = last_resort
        for codec in self._fallbacks:
            if isinstance(codec, ObjectCodec):
                codec.registry = self
        self._plugins: dict[str, tuple[Codec, str]] | None = None if entry_points else {}

    def encode(self, value: object) -> Encoded:
        """Encode with the codec that takes the value. Raises UnsupportedTypeError when none does."""
        codec = None if type(value) in _ALWAYS_TREE else self.leaf(value)
        try:
            return (codec or self._tree).encode(value)
        except (RecursionError, TooDeepError):
            raise too_deep(value) from None

    def decode(self, codec_id: str, payload: Buffer, params: Mapping[str, Any]) -> Any:
        """Decode with the codec that an envelope names."""
        return self.open(codec_id, BytesSource(payload), params)

    def open(self, codec_id: str, source: Source, params: Mapping[str, Any]) -> Any:
        """The value whose payload the source reads, by the codec that an envelope names."""
        package = params.get(_PACKAGE)
        codec: Any = self.codec(codec_id, package=package)
        if package is not None:
            params = {name: value for name, value in params.items() if name != _PACKAGE}
        # Not isinstance of a protocol: that alone takes as long as a tenth of a request.
        if hasattr(codec, "open"):
            return codec.open(source, params)
        return codec.decode(read_all(source), params)

    def pack(self, value: object) -> bytes:
        """A value in one piece, for a codec that puts it into its own payload."""
        return self._tree.pack(value)

    def unpack(self, data: Buffer) -> Any:
        """Undo :meth:`pack`."""
        return self._tree.decode(data, {})

    def leaf(self, value: object) -> Codec | None:
        """The codec other than the tree's that takes the value. Plug-ins are looked up only once ours have declined."""
        codec = self._first(value)
        if codec is None and self._tree.accepts(value):
            return None
        last: Codec | None = self._last_resort
        if last is None or not last.accepts(value):
            return codec
        return last if codec is None else _OrElse(codec, last)

    def _first(self, value: object) -> Codec | None:
        for codec in self._own:
            if codec.accepts(value):
                return codec
        if self._tree.accepts(value):
            return None
        for codec, package in self._load_plugins().values():
            if codec.accepts(value):
                return _Named(codec, package)
        for codec in self._fallbacks:
            if codec.accepts(value):
                return codec
        return None

    def codec(self, codec_id: str, *, package: object = None) -> Codec:
        """The codec of an id. Raises MissingDependencyError, naming the package that wrote it, if it is not here."""
        last: tuple[Codec, ...] = () if self._last_resort is None else (self._last_resort,)
        for codec in (self._tree, *self._own, *self._fallbacks, *last):
            if codec.id == codec_id:
                return codec
        plugin = self._load_plugins().get(codec_id)
        if plugin is not None:
            return plugin[0]
        if isinstance(package, str) and _PACKAGE_NAME.fullmatch(package):
            raise MissingDependencyError(
                f"The value was written by codec {codec_id!r} of the package {package}, which is not installed here",
                hint=f"Run: pip install {package} (where this task runs)",
            )
        raise MissingDependencyError(
            f"The value was written by codec {codec_id!r}, which is not installed here",
            hint=f"Install the package that registers it under the entry point group {ENTRY_POINT_GROUP!r} "
            "(or a newer airflow-provider-xcargo) where this task runs.",
        )

    def _load_plugins(self) -> dict[str, tuple[Codec, str]]:
        """Codec id -> codec and the name of its package."""
        if self._plugins is None:
            from importlib.metadata import entry_points

            found: dict[str, tuple[Codec, str]] = {}
            for point in entry_points(group=ENTRY_POINT_GROUP):
                codec = _instance(point)
                found.setdefault(codec.id, (codec, point.dist.name if point.dist is not None else ""))
            self._plugins = found
        return self._plugins


class _Named:
    """A codec of another package, which what it encodes is to name."""

    def __init__(self, codec: Codec, package: str) -> None:
        self.id = codec.id
        self._codec = codec
        self._package = package

    def accepts(self, value: object) -> bool:
        return self._codec.accepts(value)

    def encode(self, value: Any) -> Encoded:
        encoded = self._codec.encode(value)
        params = encoded.params
        if encoded.size_bytes is not None or not isinstance(params, dict):  # else it may be filled in as it is stored
            params = dict(params)
        if self._package:
            params[_PACKAGE] = self._package
        return replace(encoded, params=params)

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> Any:
        return self._codec.decode(payload, params)


class _OrElse:
    """Encodes with the first codec and, what that refuses, with the second."""

    def __init__(self, first: Codec, second: Codec) -> None:
        self.id = first.id
        self._first = first
        self._second = second

    def accepts(self, value: object) -> bool:
        return True

    def encode(self, value: Any) -> Encoded:
        try:
            return self._first.encode(value)
        except UnsupportedTypeError as refusal:
            try:
                return self._second.encode(value)
            except UnsupportedTypeError:
                raise refusal from None

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> Any:
        return self._first.decode(payload, params)


def _instance(point: Any) -> Codec:
    try:
        loaded = point.load()
        codec = loaded() if isinstance(loaded, type) else loaded
    except Exception as error:
        raise MissingDependencyError(
            f"The codec {point.name!r} ({point.value}) could not be loaded: {type(error).__name__}: {error}",
            hint="Repair or uninstall the package that registers it.",
        ) from error
    if not isinstance(codec, Codec):
        raise XCargoError(f"{point.value} does not follow the codec protocol (id, accepts, encode, decode)")
    return codec
