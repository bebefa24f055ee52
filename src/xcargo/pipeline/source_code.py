"""The text of functions and classes, what it compiles to, and the names in it."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from types import CodeType
from typing import Any

from xcargo.errors import UnsupportedTypeError

__all__ = [
    "code_key",
    "code_keys",
    "file_of",
    "names_in_code",
    "names_in_definition",
    "no_source",
    "source_of",
    "text_of",
]


def text_of(file: str | None) -> bytes | None:
    """What a file says now; None if it is none, such as one in an archive."""
    try:
        return None if file is None else Path(file).read_bytes()
    except OSError:
        return None


def code_keys(text: bytes) -> set[Any]:
    """Keys of all code, also of functions inside of others, that is made of a text."""
    try:
        codes = [compile(text, "", "exec", dont_inherit=True)]
    except (SyntaxError, ValueError):
        return set()
    for code in codes:
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return {code_key(code, at_line=True) for code in codes}


def code_key(value: Any, *, at_line: bool = False) -> Any:
    """Equal for equal code, of whatever place: unlike code itself, also if it has a constant like NaN."""
    if isinstance(value, CodeType):
        names = value.co_name, value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars
        counts = value.co_argcount, value.co_kwonlyargcount, value.co_posonlyargcount, value.co_flags
        line = value.co_firstlineno if at_line else 0
        return *names, *counts, line, value.co_code, tuple(code_key(each, at_line=at_line) for each in value.co_consts)
    if isinstance(value, (tuple, frozenset)):
        return type(value).__name__, type(value)(code_key(each) for each in value)
    return type(value).__name__, repr(value)


def source_of(used: Any, code: Any, *, is_root: bool = False) -> tuple[Any, ast.AST | None]:
    """Of a function or class, without its docstring and, at the root, its decorators; of a lambda, what it compiles to.

    Raises:
        UnsupportedTypeError: It has none.
    """
    try:
        # Of the code, since that of a function which wraps another would be the other's.
        text = inspect.getsource(code)
    except (OSError, TypeError):
        raise no_source(used) from None
    if getattr(code, "co_name", "") == "<lambda>":  # a line may have several
        return code_key(code), None
    try:
        tree = ast.parse(f"if True:\n{text}" if text[0].isspace() else text)
    except SyntaxError:
        return text, None
    node: Any = tree.body[0].body[0] if text[0].isspace() else tree.body[0]  # type: ignore[attr-defined]
    if is_root:
        node.decorator_list = []
    inner: Any
    for inner in ast.walk(node):
        has_body = isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        if has_body and ast.get_docstring(inner, clean=False) is not None:
            inner.body = inner.body[1:] or [ast.Pass()]
    return ast.unparse(node), node


def no_source(function: Any) -> UnsupportedTypeError:
    return UnsupportedTypeError(
        f"The source of {getattr(function, '__qualname__', type(function).__name__)} is not known",
        hint="Say which version of the code it is, and change that with the code: "
        '@xcargo.memoize(version="1"). Of a lambda in a shell, or of compiled code, Python knows no source.',
    )


def names_in_definition(node: ast.AST | None) -> set[str]:
    """Names that are looked up when a function or class is defined: decorators, bases, the body of a class."""
    found, nodes = set(), [] if node is None else [node]
    for each in nodes:
        if isinstance(each, ast.Name):
            found.add(each.id)
        body = each.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)) else []
        nodes += [child for child in ast.iter_child_nodes(each) if child not in body]
    return found


def names_in_code(code: CodeType) -> set[str]:
    """Names in a function's code, and in that of functions inside it."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= names_in_code(constant)
    return names


def file_of(used: Any) -> str | None:
    try:
        return inspect.getsourcefile(used)
    except TypeError:
        return None
