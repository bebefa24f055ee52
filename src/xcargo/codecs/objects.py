"""Instances of users' classes: enums, named tuples, dataclasses, attrs classes and pydantic models.

The class's name and the state are stored, never code. `ClassNames` gives the names, and decides which classes may be
rebuilt from them.
"""

from __future__ import annotations

import dataclasses
import io
import re
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cached_property, reduce
from operator import or_
from types import UnionType
from typing import Any, Union, cast, get_args, get_origin
from uuid import UUID

from xcargo.codecs.base import Encoded, FinalRefusalError, SourceCodec, importable
from xcargo.codecs.class_names import ClassNames, allowed_class, dotted, is_named_tuple
from xcargo.codecs.rows import find_class, stored_name
from xcargo.codecs.source import Source
from xcargo.codecs.tree import TreeCodec
from xcargo.errors import DecodeError, MissingDependencyError, UnsupportedTypeError, XCargoError
from xcargo.types import Buffer

__all__ = ["ObjectCodec", "PickleCodec"]


class ObjectCodec(SourceCodec):
    """Codec of instances by class name and state. Nested values keep their types, at any depth.

    Decoding restores state without calling ``__init__``, ``__post_init__`` or validators, as copying does: an instance
    comes back as it was. A class whose fields have changed since is refused.
    """

    id = "object"

    def __init__(self, classes: ClassNames, tree: TreeCodec) -> None:
        self._classes = classes
        self._tree = tree

    def accepts(self, value: object) -> bool:
        return _kind(type(value)) is not None

    def encode(self, value: Any) -> Encoded:
        cls = type(value)
        kind = _kind(cls)
        builtin = next(filter(_holds_more_than_attributes, cls.__mro__), None)
        if builtin is not None and kind in ("dataclass", "attrs", "pydantic"):
            raise UnsupportedTypeError(
                f"{cls.__qualname__} is also a {builtin.__name__}, whose content is no attribute of it",
                hint="Keep that content in a field instead.",
            )
        more = _beyond_fields(value) if kind in _FIELDS else self._arguments(cls)
        if kind == "namedtuple" and not more:
            name = stored_name(cls, self._classes)
        else:
            name = self._classes.name_of(_taken_apart(cls)[0])
        try:
            body = [kind, name, _STATE[kind](value)]
        except AttributeError as error:
            raise UnsupportedTypeError(
                f"An instance of {cls.__qualname__} lacks a field: {error}", hint="Set all fields before returning it."
            ) from error
        if more:  # readers that do not know a fourth item refuse it
            body.append(more)
        try:
            encoded = self._tree.encode(body)
        except UnsupportedTypeError as error:
            error.what = _IN_BODY.sub(r"At value.\1", error.what)
            raise
        # The same dictionary, which a payload that is an iterator fills in at its end.
        params = cast("dict[str, Any]", encoded.params)
        params["class"] = dotted(f"{name.rpartition(':')[0]}:{cls.__qualname__}")
        return replace(encoded, codec=self.id)

    def open(self, source: Source, params: Mapping[str, Any]) -> Any:
        body = self._tree.open(source, params)
        if not _is_body(body):
            raise DecodeError("The object does not hold an instance of a class")
        kind, name, state, *more = body
        cls: Any
        if kind == "namedtuple" and type(state) is dict and not more:
            cls = find_class(name, list(state), classes=self._classes)
        else:
            cls = allowed_class(self._classes, name)
        if cls is None:
            return None
        if kind == "pydantic" and more and _kind(cls) == kind:
            cls, more = self._generic(cls, more.pop()), []
        if not isinstance(cls, type) or _kind(cls) != kind:
            raise DecodeError(
                f"The class {dotted(name)} is not a {kind} any more",
                hint="Run the task that pushed the value again.",
            )
        try:
            value = _RESTORE[kind](cls, state)
            for attribute, part in more[0].items() if more else ():
                object.__setattr__(value, attribute, part)
            return value
        except XCargoError:
            raise
        except Exception as error:  # of the class's own code
            raise DecodeError(
                f"The class {dotted(name)} has changed since the value was stored: {error}",
                hint="Run the task that pushed the value again.",
            ) from error

    def _arguments(self, cls: Any) -> list[Any]:
        """Of ``Page[Order]`` the argument ``Order``, by name. Raises UnsupportedTypeError for what has none."""

        def described(argument: Any) -> Any:
            origin, parts = _taken_apart(argument)
            if origin is Any:
                return "typing:Any"
            if origin in (Union, UnionType):  # to pydantic, int | None and Optional[int] are two
                return ["typing:Union" if origin is Union else "types:UnionType", [described(part) for part in parts]]
            if not isinstance(origin, type):
                raise UnsupportedTypeError(
                    f"{cls.__qualname__} is a generic model of something that is not a class",
                    hint="Define a class of its own: class Answers(Page[Literal['yes', 'no']]): pass",
                )
            name = f"{origin.__module__}:{origin.__qualname__}"
            if type(argument).__module__ == "typing" and f"typing:{argument._name}" in _PLAIN:
                name = f"typing:{argument._name}"  # List[int] and list[int] are two as well
            if name not in _PLAIN:
                name = self._classes.name_of(origin)
            return [name, [described(part) for part in parts]] if parts else name

        return [described(argument) for argument in _taken_apart(cls)[1]]

    def _generic(self, origin: Any, arguments: Any) -> Any:
        """The generic model, with arguments as `_arguments` gives them."""

        def rebuild(described: Any) -> Any:
            if isinstance(described, str):
                return _PLAIN.get(described) or allowed_class(self._classes, described)
            name, parts = described
            if name == "types:UnionType":
                return reduce(or_, map(rebuild, parts))
            return rebuild(name)[tuple(map(rebuild, parts))]

        try:
            return origin[tuple(map(rebuild, arguments))]
        except XCargoError:
            raise
        except (RecursionError, TypeError, ValueError) as error:
            raise DecodeError(f"The class {origin.__qualname__} does not take the arguments it had: {error}") from error


_PLAIN: dict[str, Any] = {
    f"{cls.__module__}:{cls.__name__}": cls
    for cls in (bool, bytes, complex, dict, float, frozenset, int, list, set, str, tuple, type(None), Decimal, UUID)
}
_PLAIN |= {f"datetime:{cls.__name__}": cls for cls in (date, datetime, time, timedelta)}
_PLAIN |= {"typing:Any": Any, "typing:Union": Union}
_PLAIN |= {
    f"typing:{name}": getattr(typing, name)
    for name in ("Dict", "FrozenSet", "Iterable", "List", "Mapping", "Sequence", "Set", "Tuple")
}
"""Arguments of generic models that are always allowed: the types of the tree's values."""


def _taken_apart(cls: Any) -> tuple[Any, Sequence[Any]]:
    """Origin and arguments of a generic class; of any other itself and none."""
    model = getattr(cls, "__pydantic_generic_metadata__", None) or {}
    return model.get("origin") or get_origin(cls) or cls, model.get("args") or get_args(cls)


def _kind(cls: type) -> str | None:
    if issubclass(cls, Enum):
        return "enum"
    if is_named_tuple(cls):
        return "namedtuple"
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and issubclass(cls, getattr(pydantic, "BaseModel", ())):
        return "pydantic"
    if dataclasses.is_dataclass(cls):
        return "dataclass"
    return "attrs" if hasattr(cls, "__attrs_attrs__") else None


_IN_BODY = re.compile(r"^At value\[[23]\](?:\['__\w+__'\])?\['(\w+)'\]")
"""Beginning of the path of a field, in what is packed."""

_HEAP_TYPE = 1 << 9
"""Flag of classes that a Python program defines; only those written in C hold state outside their attributes."""


def _holds_more_than_attributes(base: type) -> bool:
    """Whether it is a dict, an exception or the like."""
    return base is not object and not base.__flags__ & _HEAP_TYPE


def _is_body(body: Any) -> bool:
    if type(body) is not list or len(body) not in (3, 4) or type(body[0]) is not str or type(body[1]) is not str:
        return False
    more = dict if body[0] in _FIELDS else list if body[0] == "pydantic" else None
    return body[0] in _RESTORE and (len(body) == 3 or type(body[3]) is more)


def _beyond_fields(value: Any) -> dict[str, Any]:
    """State beside the fields: attributes that a method set, and slots of base classes."""
    cls = type(value)
    fields = set(_FIELDS[str(_kind(cls))](cls))
    more = {name: part for name, part in getattr(value, "__dict__", {}).items() if name not in fields}
    if not all(isinstance(name, str) for name in more):
        raise UnsupportedTypeError(
            f"An attribute of a {cls.__qualname__} is not text", hint="Keep it in a field that is a dict."
        )
    for base in cls.__mro__:
        slots = vars(base).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if slot.startswith("__") and not slot.endswith("__"):
                slot = f"_{base.__name__.lstrip('_')}{slot}"
            if slot not in (*fields, "__dict__", "__weakref__") and hasattr(value, slot):
                more[slot] = getattr(value, slot)
    if "_attrs_cached_hash" in more:
        more["_attrs_cached_hash"] = None  # hashes differ by process
    cached = [name for name in more if isinstance(getattr(cls, name, None), cached_property)]
    for name in ("__orig_class__", *cached):  # noted by typing, or computed again
        more.pop(name, None)
    return more


def _enum_state(member: Enum) -> list[Any]:
    """Its name; the value too where it may be needed: a combination of flags has no name of its own."""
    name, value = member._name_, member._value_  # a class may define properties of its own in place of both
    return [name, value if name not in type(member).__members__ or type(value) in _SIMPLE else None]


_SIMPLE = (str, int, float, bool, bytes)


def _restore_enum(cls: Any, state: list[Any]) -> Any:
    name, value = state
    member = cls.__members__.get(name)
    return cls(value) if member is None else member  # combined flags have no member of their own


def _fields_state(names: Callable[[Any], list[str]]) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {name: getattr(value, name) for name in names(type(value))}


def _restore_fields(names: Callable[[Any], list[str]]) -> Callable[[Any, dict[str, Any]], Any]:
    def restore(cls: Any, state: dict[str, Any]) -> Any:
        if set(state) != set(names(cls)):
            raise ValueError(f"it had the fields {sorted(state)}, it has {sorted(names(cls))}")
        value = object.__new__(cls)
        for name, part in state.items():
            object.__setattr__(value, name, part)  # frozen classes allow no other way
        return value

    return restore


def _dataclass_names(cls: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def _attrs_names(cls: Any) -> list[str]:
    return [attribute.name for attribute in cls.__attrs_attrs__]


def _namedtuple_state(value: Any) -> dict[str, Any]:
    try:
        return dict(zip(type(value)._fields, tuple.__iter__(value), strict=True))
    except ValueError:
        raise UnsupportedTypeError(
            f"A {type(value).__qualname__} has more or fewer values than fields", hint="Return tuple(value)."
        ) from None


def _restore_namedtuple(cls: Any, state: dict[str, Any]) -> Any:
    if list(state) != list(cls._fields):
        raise ValueError(f"it had the fields {list(state)}, it has {list(cls._fields)}")
    return tuple.__new__(cls, state.values())  # not by _make, which asks the class for its length


def _pydantic_state(model: Any) -> dict[str, Any]:
    """pydantic's own state, without the values of cached properties."""
    fields = {name: getattr(model, name) for name in type(model).model_fields}
    return {**model.__getstate__(), "__dict__": fields}


def _restore_pydantic(cls: Any, state: dict[str, Any]) -> Any:
    if set(state["__dict__"]) != set(cls.model_fields):
        raise ValueError(f"it had the fields {sorted(state['__dict__'])}, it has {sorted(cls.model_fields)}")
    model = cls.__new__(cls)
    model.__setstate__(state)
    return model


def _namedtuple_names(cls: Any) -> list[str]:
    return list(cls._fields)


_FIELDS: dict[str, Callable[[Any], list[str]]] = {
    "namedtuple": _namedtuple_names,
    "dataclass": _dataclass_names,
    "attrs": _attrs_names,
}
"""Kinds whose instances may hold more than their fields."""

_STATE: dict[str | None, Callable[[Any], Any]] = {
    "enum": _enum_state,
    "namedtuple": _namedtuple_state,
    "dataclass": _fields_state(_dataclass_names),
    "attrs": _fields_state(_attrs_names),
    "pydantic": _pydantic_state,
}
_RESTORE: dict[str, Callable[[Any, Any], Any]] = {
    "enum": _restore_enum,
    "namedtuple": _restore_namedtuple,
    "dataclass": _restore_fields(_dataclass_names),
    "attrs": _restore_fields(_attrs_names),
    "pydantic": _restore_pydantic,
}


class PickleCodec:
    """Any value that cloudpickle takes, if ``allowed``; else it writes nothing and reads nothing.

    **Reading a pickle runs whatever code its writer chose.** So a stored one is refused unless this side allows pickles
    too, whoever wrote it.
    """

    id = "pickle"

    def __init__(self, *, allowed: bool) -> None:
        self._allowed = allowed

    def accepts(self, value: object) -> bool:
        return self._allowed

    def encode(self, value: Any) -> Encoded:
        from xcargo.codecs.files import Directory, File
        from xcargo.codecs.pydantic import check_secret

        cloudpickle = importable("cloudpickle", "pickled", extra="pickle")
        kind = f"{type(value).__module__}.{type(value).__qualname__}"

        class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc, name-defined]
            def reducer_override(self, part: Any) -> Any:
                check_secret(type(part))
                if isinstance(part, (File, Directory)):
                    raise FinalRefusalError(
                        f"A {type(part).__name__} inside a pickled value would be no more than a path on this machine",
                        hint="Return it beside the value, for example in a dict.",
                    )
                return super().reducer_override(part)

        target = io.BytesIO()
        try:
            Pickler(target, protocol=5).dump(value)
        except XCargoError:
            raise
        except Exception as error:  # a class's own way to be pickled may raise anything
            raise UnsupportedTypeError(
                f"{kind} cannot be pickled: {type(error).__name__}", hint="Return its data instead."
            ) from error
        return Encoded(self.id, (target.getvalue(),), {"class": kind}, ".pkl")

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> Any:
        if not self._allowed:
            raise DecodeError(
                "The value is a pickle, and reading one runs code that its writer chose",
                hint="If everyone who can write XComs and objects may run code in this task, set "
                "AIRFLOW__XCARGO__ALLOW_PICKLE=True where it runs.",
            )
        import pickle

        try:
            return pickle.loads(payload)  # noqa: S301 - allowed by the deployment, and said so where it is set
        except ImportError as error:
            raise MissingDependencyError(
                f"The pickle needs a module that is not installed here: {error}",
                hint="Install what the task that pushed the value had installed.",
            ) from error
        except Exception as error:
            raise DecodeError(f"The pickle cannot be read: {type(error).__name__}: {error}") from error
