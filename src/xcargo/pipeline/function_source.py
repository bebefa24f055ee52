"""What the code of a function is made of: its source, that of its helpers in the same file, and constants they use."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MappingProxyType, ModuleType
from typing import Any

from xcargo.errors import UnsupportedTypeError, XCargoError

__all__ = ["SourceChangedError", "parts_of"]

_MOST_LAYERS = 100


class SourceChangedError(XCargoError):
    """A file was replaced after this process loaded it: what it says is not the code that runs."""


def parts_of(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """Name and content of each part: text of the source, or the value of a constant.

    The source counts without comments, layout, decorators and docstring. Functions and classes of the same file that it
    uses count in the same way, and so on for those that they use; what is imported counts by its name alone.

    Raises:
        UnsupportedTypeError: The function has no source.
        SourceChangedError: It has another one by now.
    """
    innermost = inspect.unwrap(function)
    own_file = _file(innermost)
    text = _text(own_file)
    codes = None if text is None else _codes(text)
    yielded: Counter[str] = Counter()
    seen: set[Any] = set()

    def part(name: str, content: Any) -> tuple[str, Any]:
        """Of two that are called the same, such as what two closures close over, the second gets a number."""
        yielded[name] += 1
        return (name if yielded[name] == 1 else f"{name} ({yielded[name]})"), content

    todo: list[tuple[str, Any]] = [("", function)]
    while todo:
        name, found = todo.pop()
        for used in _layers(found):
            is_code = used is innermost or isinstance(used, (type, FunctionType))
            registry = getattr(used, "registry", None)  # of functools.singledispatch
            if isinstance(registry, MappingProxyType):
                todo += [(f"{name}[{cls.__qualname__}]", implementation) for cls, implementation in registry.items()]
            mark = id(used) if is_code else (name, id(used))
            if mark in seen:
                continue
            seen.add(mark)
            if isinstance(used, ModuleType):
                yield part(f"module {name}", used.__name__)
            elif isinstance(used, partial):
                todo += [(name, used.func), *((f"{name} argument", value) for value in used.args)]
                todo += [(f"{name} argument {key}", value) for key, value in used.keywords.items()]
            elif type(used) in (list, tuple, dict) and any(map(callable, _items(used).values())):
                todo += [(f"{name}[{key!r}]", value) for key, value in _items(used).items()]
            elif inspect.ismethod(used):
                todo += [(name, used.__func__), (f"{name}.__self__", used.__self__)]
            elif not is_code:
                yield part(f"constant {name}", used)
                if own_file is not None and _file(type(used)) == own_file:
                    todo.append((type(used).__name__, type(used)))
            elif used is innermost or _file(used) == own_file:
                if codes is not None and not codes.issuperset(_own_codes(used, own_file)):
                    raise SourceChangedError("The file was replaced after it was loaded", where=own_file)
                yield part(f"source of {name}" if name else "source", _source(used))
                todo += _used_by(used)
                if name or isinstance(used, type):  # of the function itself, defaults are arguments
                    todo += _defaults(name or used.__name__, used)
            else:
                yield part(f"import {name}" if name else "import wrapper", _imported(used))
    if _text(own_file) != text:
        raise SourceChangedError("The file was replaced while it was read", where=own_file)


def _imported(used: Any) -> str:
    """Module and name of what is imported; of a function that wraps another, those that it has not taken over."""
    if hasattr(used, "__wrapped__") and isinstance(used, FunctionType):
        return f"{used.__globals__['__name__']}.{used.__code__.co_name}"
    return f"{used.__module__}.{used.__qualname__}"


def _text(file: str | None) -> bytes | None:
    """What a file says now; None if it is none, such as one in an archive."""
    try:
        return None if file is None else Path(file).read_bytes()
    except OSError:
        return None


def _codes(text: bytes) -> set[CodeType]:
    """All code, also of functions inside of others, that is made of a text."""
    try:
        codes = [compile(text, "", "exec", dont_inherit=True)]
    except (SyntaxError, ValueError):
        return set()
    for code in codes:
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(codes)


def _own_codes(used: Any, file: str | None) -> set[CodeType]:
    """The code of a function, or of the functions of a class, as far as a file has it."""
    functions = _methods(used) if isinstance(used, type) else [used]
    codes = [getattr(inspect.unwrap(function), "__code__", None) for function in functions]
    return {code for code in codes if code is not None and _file(code) == file}


def _layers(used: Any) -> list[Any]:
    """A value; of a function that wraps another, also that and so on, the innermost first."""
    layers = [used]
    while callable(layers[-1]) and len(layers) < _MOST_LAYERS:
        inner = getattr(layers[-1], "__wrapped__", None)
        if inner is None:
            break
        layers.append(inner)
    return [layers[-1], *(layer for layer in layers[-2::-1] if isinstance(layer, (type, FunctionType)))]


def _items(container: Any) -> dict[Any, Any]:
    return container if type(container) is dict else dict(enumerate(container))


def _defaults(name: str, used: Any) -> list[tuple[str, Any]]:
    """Values that were computed when a helper, or a class, was defined: its source says only how."""
    if isinstance(used, FunctionType):
        given: dict[Any, Any] = dict(enumerate(used.__defaults__ or ()))
        given |= used.__kwdefaults__ or {}
        return [(f"{name} default {key}", value) for key, value in given.items()]
    plain = {key: value for key, value in vars(used).items() if not key.startswith("__") and not callable(value)}
    return [(f"{name}.{key}", value) for key, value in plain.items() if not hasattr(value, "__get__")]


def _source(function: Any) -> str:
    try:
        # Of the code, since that of a function which wraps another would be the other's.
        text = textwrap.dedent(inspect.getsource(getattr(function, "__code__", function)))
    except (OSError, TypeError):
        members = getattr(function, "_fields", None) or getattr(function, "__members__", None)
        if isinstance(function, type) and members:  # namedtuple("Point", ...), Enum("Color", ...)
            return f"{function.__name__} = {tuple(members)!r}"
        raise UnsupportedTypeError(
            f"The source of {getattr(function, '__qualname__', type(function).__name__)} is not known",
            hint="Say which version of the code it is, and change that with the code: "
            '@xcargo.memoize(version="1"). Of a lambda in a shell, or of compiled code, Python knows no source.',
        ) from None
    try:
        tree = ast.parse(text)
    except SyntaxError:  # a lambda, of which there is the line
        return text
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if node is tree.body[0]:
                node.decorator_list = []
            if ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _used_by(user: Any) -> Iterator[tuple[str, Any]]:
    """Names that a function, or the functions of a class, takes from its module or from around it."""
    if isinstance(user, type):
        yield from ((base.__name__, base) for base in user.__bases__ if base is not object)
        functions = [inspect.unwrap(method) for method in _methods(user)]
        functions = [function for function in functions if _file(function) == _file(user)]
    else:
        functions = [user]
    for function in functions:
        closure = inspect.getclosurevars(function).nonlocals
        for name in sorted(_names(function.__code__)):
            known: Mapping[str, Any] = closure if name in closure else function.__globals__
            if name in known and not (name.startswith("__") and name.endswith("__")):
                yield name, known[name]


def _methods(cls: type) -> list[Any]:
    names = ("__func__", "fget", "func")  # of class and static methods, properties, and what is computed once
    members = [next((getattr(m, n) for n in names if hasattr(m, n)), m) for m in vars(cls).values()]
    for member in vars(cls).values():  # of functools.singledispatchmethod
        members += getattr(getattr(member, "dispatcher", None), "registry", {}).values()
    return [member for member in members if isinstance(inspect.unwrap(member), FunctionType)]


def _names(code: CodeType) -> set[str]:
    """Names in a function's code, and in that of functions inside it."""
    names = {*code.co_names, *code.co_freevars}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names


def _file(used: Any) -> str | None:
    try:
        return inspect.getsourcefile(used)
    except TypeError:
        return None
