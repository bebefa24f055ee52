"""Registry: which codec takes a value, and which codec an id means."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property, lru_cache
from importlib import import_module
from typing import Any

from xcargo.codecs.base import Codec, Encoded, FinalRefusalError, Handle
from xcargo.codecs.class_names import ClassNames, are_joined, joining_refusals
from xcargo.codecs.source import BytesSource, Source, read_all
from xcargo.codecs.substitutes import CURRENT, Push, current_push
from xcargo.codecs.tree import TreeCodec
from xcargo.codecs.value_path import TooDeepError, too_deep
from xcargo.errors import UPGRADE_HINT, MissingDependencyError, UnsupportedTypeError, XCargoError
from xcargo.model.settings import Settings
from xcargo.model.version import __version__
from xcargo.types import Buffer

__all__ = ["ENTRY_POINT_GROUP", "Registry"]

ENTRY_POINT_GROUP = "xcargo.codecs"

_PACKAGE = "xcargo:package"
"""Param that names the package of a codec that is not ours. No codec sees it."""

_PACKAGE_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")

_OWN = {
    "bytes": ("stream", "BytesCodec", "builtins"),
    "numpy": ("numpy", "NumpyCodec", "numpy"),
    "pandas": ("pandas", "PandasCodec", "pandas"),
    "rows": ("rows", "RowsCodec", "asyncpg google psycopg2 pyodbc pyspark sqlalchemy sqlite3"),
    "arrow": ("arrow", "ArrowCodec", "polars pyarrow"),
    "arrow-stream": ("arrow", "ArrowStreamCodec", "polars pyarrow"),
    "pydantic": ("pydantic", "PydanticCodec", "pydantic pydantic_core"),
    "file": ("files", "FileCodec", "xcargo"),
    "stream": ("stream", "StreamCodec", "builtins xcargo"),
    "library": ("libraries", "LibraryCodec", "numpy pandas scipy torch xarray"),
    "image": ("images", "ImageCodec", "PIL"),
    "memory-file": ("stream", "MemoryFileCodec", "_io"),
}
"""Id of each codec of ours -> module and class, and the libraries one of which defines the value's class or a base of
it. A codec is imported when a value may need it, and is asked only then."""

_BY_LIBRARY = {
    library: [codec_id for codec_id, (_, _, libraries) in _OWN.items() if library in libraries.split()]
    for library in {library for _, _, libraries in _OWN.values() for library in libraries.split()}
}

_ALWAYS_TREE = frozenset((dict, list, str, int, float, bool, type(None), tuple))


class Registry:
    """The codecs of this process.

    Built-in types go to the tree codec. For anything else the order is: our own codecs, those that other packages
    registered under the entry point group ``xcargo.codecs``, instances of users' classes, ``fallbacks``. What none of
    them takes may be stored as a built-in value that it equals (``substitutes.py``). The tree codec asks the registry
    for what it does not know itself, so that every codec works at any depth.

    Args:
        classes: Names users' classes and finds them again; without it their instances have no codec.
        fallbacks: Each makes a codec for what none of the above accepts, when that may be needed.
        last_resort: Makes the one that encodes what the codec so chosen refuses, if it accepts the value.
        entry_points: Whether codecs of other packages are looked up. They are loaded at first need.
        mask: Hides secrets in what the log shows of a value.
    """

    def __init__(
        self,
        *,
        classes: ClassNames | None = None,
        fallbacks: Iterable[Callable[[], Codec]] = (),
        last_resort: Callable[[], Codec] | None = None,
        entry_points: bool = True,
        mask: Callable[[str], str] = str,
    ) -> None:
        self.tree = TreeCodec(self)
        nesting = ("image", "library", "memory-file", "numpy", "pandas", "pydantic")
        self._arguments = {**dict.fromkeys(nesting, (self.tree,)), "rows": (self.tree, classes)}
        self._loaded: dict[str, Codec] = {}
        self._classes = classes
        self._make_fallbacks = tuple(fallbacks)
        self._make_last_resort = last_resort
        self._mask = mask
        self._plugins: dict[str, tuple[Codec, str]] | None = None if entry_points else {}

    @cached_property
    def _objects(self) -> Codec | None:
        if self._classes is None:
            return None
        from xcargo.codecs.objects import ObjectCodec

        return ObjectCodec(self._classes, self.tree)

    @cached_property
    def _fallbacks(self) -> tuple[Codec, ...]:
        more = [make() for make in self._make_fallbacks]
        if self._classes is None or self._objects is None:
            return tuple(more)
        from xcargo.codecs.skops import SkopsCodec

        return (self._objects, SkopsCodec(self._classes), *more)

    @cached_property
    def _last_resort(self) -> Codec | None:
        return None if self._make_last_resort is None else self._make_last_resort()

    @property
    def codecs(self) -> tuple[Codec, ...]:
        """All codecs but those of other packages."""
        last = () if self._last_resort is None else (self._last_resort,)
        return (self.tree, *map(self._own, _OWN), *self._fallbacks, *last)

    def encode(self, value: object, settings: Settings | None = None, *, for_digest: bool = False) -> Encoded:
        """Encode with the codec that takes the value. Raises UnsupportedTypeError when none does.

        Settings that apply to the value say whether it may be stored as what it equals, and whether it is encrypted.
        With ``for_digest`` equal values have equal payloads, and what can be read only once is refused.
        """
        push = Push()
        push.settings, push.mask, push.for_digest = settings, self._mask, for_digest
        token = CURRENT.set(push)
        try:
            # A list may hold rows, which are stored by column.
            is_tree = type(value) in _ALWAYS_TREE and (type(value) is not list or _begins_plain(value))
            if isinstance(value, Handle):
                encoded = value.encoded()
            else:
                encoded = self.tree.encode(value) if is_tree else self._encode(value)
        except (RecursionError, TooDeepError):
            raise too_deep(value) from None
        except Exception as error:
            ours = push.as_ours(error)
            if ours is error:
                raise
            raise ours from error
        finally:
            CURRENT.reset(token)
        if type(encoded.parts) not in (tuple, list) and encoded.size_bytes is None:
            return replace(encoded, parts=push.resumed(encoded.parts, value))
        if push.first and not for_digest:
            push.report(value)
        return encoded

    def _encode(self, value: object) -> Encoded:
        try:
            encoded = self.encode_leaf(value)
        except UnsupportedTypeError as refusal:
            value = self.substitute(value, refusal)
            cls: Any = type(value)
            encoded = self.encode_leaf(value) if _candidates(cls) else None
        return self.tree.encode(value) if encoded is None else encoded

    def substitute(self, value: object, refusal: UnsupportedTypeError) -> Any:
        """What is stored in place of a value for which every codec raised ``refusal``; raises that if nothing is."""
        if isinstance(value, Handle):
            return value.load()
        return current_push().substitute(value, refusal, tree=self.tree)

    def encode_leaf(self, value: object) -> Encoded | None:
        """The value by the codec that takes it; None if that is the tree's, or if none does."""
        if isinstance(value, Handle):
            encoded = value.encoded()
            if encoded.codec == self.tree.id:
                raise UnsupportedTypeError("A nested value is no part of another one")  # so it is loaded
            return encoded
        codec, package = self._codec_for(value)
        last = self._last_resort
        if last is not None and not last.accepts(value):
            last = None
        if codec is None:
            return None if last is None or self.tree.accepts(value) else last.encode(value)
        try:
            encoded = codec.encode(value)
        except UnsupportedTypeError as refusal:
            if last is None or isinstance(refusal, FinalRefusalError):
                raise
            try:
                return last.encode(value)
            except FinalRefusalError:
                raise
            except UnsupportedTypeError:
                raise refusal from None
        return _with_package(encoded, package) if package else encoded

    def decode(self, codec_id: str, payload: Buffer, params: Mapping[str, Any]) -> Any:
        """Decode with the codec that an envelope names."""
        return self.open(codec_id, BytesSource(payload), params)

    def open(self, codec_id: str, source: Source, params: Mapping[str, Any]) -> Any:
        """The value whose payload the source reads, by the codec that an envelope names."""
        if self._classes is not None and not are_joined():
            with joining_refusals(self._classes):
                return self.open(codec_id, source, params)
        package = params.get(_PACKAGE)
        codec: Any = self.codec(codec_id, package=package)
        if package is not None:
            params = {name: value for name, value in params.items() if name != _PACKAGE}
        # Not isinstance of a protocol: that alone takes as long as a tenth of a request.
        if hasattr(codec, "open"):
            return codec.open(source, params)
        return codec.decode(read_all(source), params)

    def _codec_for(self, value: object) -> tuple[Codec | None, str]:
        """The codec other than the tree's that accepts the value, and its package if that is not ours."""
        cls: Any = type(value)
        if cls is list:
            return (self._own("rows") if self._are_rows(value) else None), ""
        for codec_id in _candidates(cls):
            codec = self._loaded.get(codec_id) or self._own(codec_id)
            if codec.accepts(value):
                return codec, ""
        if self.tree.accepts(value):
            return None, ""
        for codec, package in self._load_plugins().values():
            if codec.accepts(value):
                return codec, package
        for codec in self._fallbacks:
            if codec.accepts(value):
                return codec, ""
        return None, ""

    def _are_rows(self, value: Any) -> bool:
        """Whether a list is stored by column: it holds rows of one class, which has no codec of another package."""
        return self._own("rows").accepts(value) and self._codec_for(value[0])[0] in (self._own("rows"), self._objects)

    def _own(self, codec_id: str) -> Codec:
        codec = self._loaded.get(codec_id)
        if codec is None:
            module, name, _ = _OWN[codec_id]
            load = getattr(import_module(f"xcargo.codecs.{module}"), name)
            codec = self._loaded[codec_id] = load(*self._arguments.get(codec_id, ()))
        return codec

    def codec(self, codec_id: str, *, package: object = None) -> Codec:
        """The codec of an id. Raises MissingDependencyError, naming the package that wrote it, if it is not here."""
        if codec_id == self.tree.id:
            return self.tree
        if codec_id in _OWN:
            return self._own(codec_id)
        for codec in (*self._fallbacks, self._last_resort):
            if codec is not None and codec.id == codec_id:
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
            f"The value was written by codec {codec_id!r}, which xcargo {__version__} does not have", hint=UPGRADE_HINT
        )

    def _load_plugins(self) -> dict[str, tuple[Codec, str]]:
        """Codec id -> codec and the name of its package."""
        if self._plugins is None:
            from importlib.metadata import entry_points

            plugins: dict[str, tuple[Codec, str]] = {}
            for point in entry_points(group=ENTRY_POINT_GROUP):
                codec = _instance(point)
                plugins.setdefault(codec.id, (codec, point.dist.name if point.dist is not None else ""))
            self._plugins = plugins
        return self._plugins


def _begins_plain(values: list[Any]) -> bool:
    return not values or type(values[0]) in _ALWAYS_TREE


@lru_cache(maxsize=1000)
def _candidates(cls: type) -> tuple[str, ...]:
    """Ids of those of our codecs that may take values of a class."""
    libraries = dict.fromkeys(str(base.__module__).partition(".")[0] for base in cls.__mro__ if base is not object)
    return tuple(codec_id for library in libraries for codec_id in _BY_LIBRARY.get(library, ()))


def _with_package(encoded: Encoded, package: str) -> Encoded:
    """The same with its package in ``params``. Those of a payload that is made as it goes may still be filled in."""
    params = encoded.params
    if encoded.size_bytes is not None or not isinstance(params, dict):
        params = dict(params)
    params[_PACKAGE] = package
    return replace(encoded, params=params)


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
