"""What the code of a function is made of: its source, that of its helpers in the same file, and constants they use."""

from __future__ import annotations

import ast
import copyreg
import inspect
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from struct import Struct
from types import BuiltinFunctionType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

from blake3 import blake3

from xcargo.errors import UnsupportedTypeError
from xcargo.pipeline.source_code import SourceFile, code_key, file_of, names_in_code, names_in_definition, no_source

__all__ = ["is_plain", "parts_of"]

_LONGEST_NAME = 200
_SCALARS = {type(None), bool, int, float, complex, str, bytes, bytearray, date, timedelta, Decimal}
_CONTAINERS = {list, tuple, set, frozenset, dict}
_INNER: dict[type, tuple[str, ...]] = {  # what has parts that pickle would not see
    property: ("fget", "fset", "fdel"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    MethodType: ("__func__", "__self__"),
    Struct: ("format",),
}
_BY_TYPE = type(os.environ), logging.Logger, inspect.Signature
"""What may differ though nothing has changed: a logger may have the name of the file's folder, and the signature that
Airflow keeps of an operator is that of its package's release."""
_Named = list[tuple[str, Any]]


def parts_of(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """Name and content of each part: text of the source, or the value of a constant.

    The source counts without comments, layout and docstring; of the function itself, without decorators too. Functions
    and classes of the same file that it uses count in the same way, and so on for those that they use; what is imported
    counts by its name alone. An object counts by its class and, if that is of the file or of Python itself, by what
    pickle would store of it. Contents are equal in each process that loads the same file.

    Raises:
        UnsupportedTypeError: The function has no source.
        SourceChangedError: It has another one by now.
    """
    walk = _Walk(inspect.unwrap(function))
    yield from walk.parts(function)
    walk.source.check_unchanged()


class _Walk:
    """Visits all that a function uses, each object once: where it is met again, a part says so."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.file = file_of(root)
        self.source = SourceFile(self.file)
        self.module = getattr(root, "__globals__", {}).get("__name__", getattr(root, "__module__", None))
        self.globals = getattr(root, "__globals__", None) or vars(sys.modules.get(self.module or "", object))
        self.looked_up: set[str] = set()
        self.seen: dict[int, tuple[str, Any]] = {}
        self.counts: Counter[str] = Counter()

    def parts(self, function: Any) -> Iterator[tuple[str, Any]]:
        todo: _Named = [("", self.root)]
        if function is not self.root:
            todo.insert(0, ("wrapper", function))
        inner: _Named
        while todo:
            name, value = todo.pop()
            if is_plain(value):
                parts, inner = [(f"constant {name}", value)], []
            elif id(value) in self.seen:
                parts, inner = [(f"reference {name}", self.seen[id(value)][0])], []
            else:
                self.seen[id(value)] = self._unique(name), value
                parts, inner = self._visit(name, value)
            yield from ((self._unique(part), content) for part, content in parts)
            todo += ((_shortened(part), each) for part, each in reversed(inner))

    def _unique(self, name: str) -> str:
        """Of two that are called the same, such as what two closures close over, the second gets a number."""
        self.counts[name] += 1
        return name if self.counts[name] == 1 else f"{name} ({self.counts[name]})"

    def _visit(self, name: str, value: Any) -> tuple[_Named, _Named]:
        """Parts that an object is, and objects that it is made of."""
        if value is not self.root and self._is_imported(value):
            return [(f"import {name}", self._label(value))], []
        if isinstance(value, ast.stmt):
            return [(f"source of {name}", ast.unparse(value))], self._globals(names_in_definition(value))
        if isinstance(value, type):
            return self._class(name, value)
        if isinstance(value, FunctionType):
            return self._function(name, value)
        if value is self.root:
            raise no_source(value)
        if type(value) is MappingProxyType:
            value = dict(value)
        if type(value) in _CONTAINERS:
            return self._container(name, value)
        parts, inner = self._instance(name, value)
        wrapped = _get(value, "__wrapped__") if callable(value) else None
        return parts, inner if wrapped is None else [*inner, (f"{name}.__wrapped__", wrapped)]

    def _is_imported(self, value: Any) -> bool:
        """Whether it is found under its name in another module; what a function there has made is not."""
        if isinstance(value, ModuleType):
            return True
        if not isinstance(value, (type, FunctionType, MethodType, BuiltinFunctionType)):
            return False
        # random.choice is the method of an object that has no name.
        module = value.__module__ or type(getattr(value, "__self__", None)).__module__
        found: Any = sys.modules.get(module)
        for name in value.__qualname__.split("."):
            found = inspect.getattr_static(found, name, None)
        named = inspect.getattr_static(sys.modules.get(module), value.__name__, None)
        return (found is value or named is value) and module != self.module

    def _function(self, name: str, function: FunctionType) -> tuple[_Named, _Named]:
        code, file, is_root = function.__code__, file_of(function), function is self.root
        inner: _Named = []
        if not is_root and (file is None or code.co_filename.startswith("<")):  # such as __init__ of a dataclass
            parts = [(f"code of {name}", code_key(code))]
        elif not is_root and file != self.file:
            parts = [(f"import {name}", f"{function.__globals__.get('__name__')}.{code.co_name}")]
        else:
            text, node = self.source.definition(function, is_root=is_root)
            parts = [(f"source of {name}" if name else "source", text)]
            # Defaults of the root are arguments, so of its definition only annotations count.
            for each in _annotations(node) if is_root else [node]:
                inner += self._globals(names_in_definition(each))
        if isinstance(vars(function).get("registry"), MappingProxyType):  # functools.singledispatch: all but its cache
            return parts, [*_attributes(name, function, "registry", "__wrapped__"), *inner]
        for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
            try:
                inner.append((f"{name}.{variable}".lstrip("."), cell.cell_contents))
            except ValueError:  # not yet bound
                continue
        if is_root or file == self.file or function.__globals__ is self.globals:
            inner += self._globals(names_in_code(code), function.__globals__)
        if not is_root:  # of the function itself, defaults are arguments
            defaults: dict[Any, Any] = {
                **dict(enumerate(function.__defaults__ or ())),
                **(function.__kwdefaults__ or {}),
            }
            inner += [(f"{name} default {key}", value) for key, value in defaults.items()]
        return parts, inner + _attributes(name, function, *vars(function))

    def _class(self, name: str, cls: type) -> tuple[_Named, _Named]:
        parts: _Named = [(f"class {name or cls.__name__}", self._label(cls))]
        inner = [(base.__name__, base) for base in (*cls.__bases__, type(cls)) if base not in (object, type)]
        try:
            if file_of(cls) == self.file or cls is self.root:
                text, node = self.source.definition(cls)
                parts.append((f"source of {name}" if name else "source", text))
                inner += self._globals(names_in_definition(node))
        except UnsupportedTypeError:
            if cls is self.root:
                raise  # of Enum("Color", ...) and the like, what is in it says all
        for key, value in vars(cls).items():
            is_code = isinstance(value, (FunctionType, staticmethod, classmethod))
            if not (key.startswith("__") and key.endswith("__")) or is_code or key == "__dataclass_fields__":
                inner.append((f"{name or cls.__name__}.{key}", value))
        return parts, inner

    def _instance(self, name: str, value: Any) -> tuple[_Named, _Named]:
        cls = type(value)
        for kind, attributes in _INNER.items():
            if isinstance(value, kind):
                return [], [(name, cls), *_attributes(name, value, *attributes)]
        if isinstance(value, _BY_TYPE):
            return [(f"type of {name}", self._label(cls))], []
        is_own = not self._is_imported(cls)
        is_of_python = cls.__module__.partition(".")[0] in sys.stdlib_module_names
        state = _state(value) if is_own or is_of_python else None
        inner: _Named = [(cls.__name__, cls)] if is_own else []
        if state is None:
            return [(f"type of {name}", self._label(value)), (f"constant {name}", value)], inner
        more, attributes_of = state
        parts: _Named = [(f"constant {name}", self._label(value))]
        if is_plain([more, attributes_of]):
            return [(f"constant {name}", [self._label(value), more, attributes_of])], inner
        inner += [(f"{name}{'' if n == 0 else f' {n}'}", part) for n, part in enumerate(more)]
        return parts, inner + [(f"{name}.{key}", attribute) for key, attribute in attributes_of.items()]

    def _globals(self, names: set[str], of: dict[str, Any] | None = None) -> _Named:
        """Values of names of a module, each once; those of the file's own module unless another's are given.

        Of the file's own names that are no plain data, the statements that assign to them too: not all objects say what
        they are made of.
        """
        known = self.globals if of is None else of
        hidden = {name for name in names if name.startswith("__") and name.endswith("__")} - {"__file__"}
        found = sorted((names - hidden) & known.keys())
        if known is not self.globals:
            return [(name, known[name]) for name in found]
        found = [name for name in found if name not in self.looked_up]
        self.looked_up.update(found)
        objects = [name for name in found if not is_plain(known[name])]
        statements = [(name, each) for name in objects for each in self.source.assignments.get(name, ())]
        return [(name, known[name]) for name in found] + statements

    def _container(self, name: str, value: Any) -> tuple[_Named, _Named]:
        """A list of what is in it, in order (of a set, whose order is another in each process, sorted), and that."""
        if type(value) is dict:
            labels = [
                repr(key) if is_plain(key) and not isinstance(key, frozenset) else self._label(key) for key in value
            ]
            inner = [(f"{name} key", key) for key in value if not is_plain(key) or isinstance(key, frozenset)]
            inner += [(f"{name}[{label}]", item) for label, item in zip(labels, value.values(), strict=True)]
            return [(f"constant {name}", ["dict", *labels])], inner
        items = sorted(value, key=self._order) if isinstance(value, (set, frozenset)) else value
        return [(f"constant {name}", [type(value).__name__, len(items)])], [
            (f"{name}[{n}]", i) for n, i in enumerate(items)
        ]

    def _order(self, item: Any) -> str:
        """By what items of a set are sorted: the same in each process, and another for each item if it can be."""
        if isinstance(item, (tuple, frozenset)):
            inner = [self._order(each) for each in item]
            return f"{self._label(item)} {sorted(inner) if isinstance(item, frozenset) else inner}"
        if isinstance(item, FunctionType):
            return f"{self._label(item)} {item.__code__.co_firstlineno}"
        if type(item) in _SCALARS:
            return f"{self._label(item)} {item!r}"
        state = None if self._is_imported(item) else _state(item)
        return f"{self._label(item)} {state!r}" if state and is_plain([*state]) else self._label(item)

    def _label(self, value: Any) -> str:
        """Kind and name of a value, or of its class; never an address."""
        own = value if isinstance(_get(value, "__name__"), str) else type(value)
        name = getattr(own, "__qualname__", None) or own.__name__
        module = getattr(own, "__module__", None)  # of a Dag's file, it says where the file is
        return f"{type(value).__qualname__} {'' if module == self.module else module}.{name}"


def is_plain(value: Any) -> bool:
    """Whether it is data and nothing else, in containers or not: one part then."""
    todo, seen = [value], set()
    for each in todo:
        if type(each) not in _CONTAINERS:
            if type(each) not in _SCALARS:
                return False
        elif id(each) not in seen:
            seen.add(id(each))
            todo += [*each, *each.values()] if type(each) is dict else each
    return True


def _state(value: Any) -> tuple[list[Any], dict[Any, Any]] | None:
    """What pickle would store of an object: arguments, items and attributes. None if it can store nothing."""
    reduce = copyreg.dispatch_table.get(type(value))
    try:
        reduced = reduce(value) if reduce else object.__reduce_ex__(value, 4)
        if isinstance(reduced, str):
            return [reduced], {}
        function, args, state, items, pairs = (*reduced, None, None, None)[:5]
        is_class = function in (copyreg.__newobj__, type(value))  # type: ignore[attr-defined]
        more = [arg for arg in args if arg is not type(value)] if is_class else [args, function]
        more += [list(each) for each in (items, pairs) if each is not None]
    except Exception:  # of whatever library
        return None
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):  # the second has slots
        state = {**(state[0] or {}), **state[1]}
    if type(state) is not dict:
        return [*more, state], {}
    # A cached_property has one since Python 3.13. Of a Dag's file, it says where the file is.
    return more, {name: attribute for name, attribute in state.items() if name != "__module__"}


def _annotations(node: ast.AST | None) -> list[ast.AST | None]:
    """The types that a function's definition gives to its arguments."""
    return [] if node is None else [each.annotation for each in ast.walk(node) if isinstance(each, ast.arg)]


def _get(value: Any, name: str) -> Any:
    """An attribute that an object has; its class may answer to any name."""
    return None if inspect.getattr_static(value, name, None) is None else getattr(value, name, None)


def _shortened(name: str) -> str:
    """A name of bounded length, which is another one for each name."""
    return name if len(name) <= _LONGEST_NAME else f"{name[:80]}...{blake3(name.encode()).hexdigest(length=16)}"


def _attributes(name: str, value: Any, *attributes: str) -> _Named:
    return [(f"{name}.{attribute}".lstrip("."), getattr(value, attribute, None)) for attribute in attributes]
