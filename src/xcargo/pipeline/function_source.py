"""What the code of a function is made of: its source, that of its helpers in the same file, and constants they use."""

from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

from xcargo.errors import UnsupportedTypeError

__all__ = ["parts_of"]


def parts_of(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """Name and content of each part: text of the source, or the value of a constant.

    The source counts without comments, layout, decorators and docstring. Functions and classes of the same file that it
    uses count in the same way, and so on for those that they use; what is imported counts by its name alone.

    Raises:
        UnsupportedTypeError: The function has no source.
    """
    function = inspect.unwrap(function)
    yield "source", _source(function)
    seen, todo = {id(function)}, [function]
    while todo:
        user = todo.pop()
        for name, used in _used_by(user):
            used = inspect.unwrap(used) if callable(used) else used
            if id(used) in seen:
                continue
            if isinstance(used, ModuleType):
                yield f"module {name}", used.__name__
            elif not isinstance(used, (type, FunctionType)):
                yield f"constant {name}", used
            elif _file(used) == _file(function):
                seen.add(id(used))
                todo.append(used)
                yield f"source of {name}", _source(used)
            else:
                yield f"import {name}", f"{used.__module__}.{used.__qualname__}"


def _source(function: Any) -> str:
    try:
        text = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
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
    functions = [user] if isinstance(user, FunctionType) else [inspect.unwrap(f) for f in _methods(user)]
    for function in functions:
        closure = inspect.getclosurevars(function).nonlocals
        for name in sorted(_names(function.__code__)):
            known: Mapping[str, Any] = closure if name in closure else function.__globals__
            if name in known and not hasattr(builtins, name):
                yield name, known[name]


def _methods(cls: type) -> list[Any]:
    members = [getattr(member, "__func__", getattr(member, "fget", member)) for member in vars(cls).values()]
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
