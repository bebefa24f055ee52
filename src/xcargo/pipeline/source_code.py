"""The source of functions and classes: its text, what it compiles to, and the names in it."""

from __future__ import annotations

import ast
import inspect
from functools import cached_property
from pathlib import Path
from types import CodeType
from typing import Any

from xcargo.errors import UnsupportedTypeError, XCargoError

__all__ = [
    "SourceChangedError",
    "SourceFile",
    "code_key",
    "file_of",
    "names_in_code",
    "names_in_definition",
    "no_source",
]


class SourceChangedError(XCargoError):
    """A file was replaced after this process loaded it: what it says is not the code that runs."""


class SourceFile:
    """A file that functions are loaded from, as it is now. None, or one in an archive, cannot be compared."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._text = _text_of(path)
        self._codes = None if self._text is None else _code_keys(self._text)

    def definition(self, used: Any, *, is_root: bool = False) -> tuple[Any, ast.AST | None]:
        """Text of a function or class, and what it parses to; of a lambda, what it compiles to.

        It has no comments, layout and docstring; at the root, no decorators either.

        Raises:
            UnsupportedTypeError: It has none.
            SourceChangedError: That of a function is another one by now.
        """
        # Of the code, since that of a function which wraps another would be the other's.
        code = getattr(used, "__code__", used)
        if isinstance(code, CodeType) and self._codes is not None and code_key(code, at_line=True) not in self._codes:
            raise self._replaced()
        try:
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

    @cached_property
    def assignments(self) -> dict[str, list[ast.stmt]]:
        """Name -> statements that assign to it, or to a part of it, outside of functions and classes."""
        found: dict[str, list[ast.stmt]] = {}
        try:
            nodes: list[ast.AST] = [ast.parse(self._text or b"")]
        except (SyntaxError, ValueError):
            raise self._replaced() from None
        for node in nodes:
            if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    for each in ast.walk(target):
                        if isinstance(each, ast.Name):
                            found.setdefault(each.id, []).append(node)
            elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                nodes += ast.iter_child_nodes(node)
        return found

    def _replaced(self) -> SourceChangedError:
        return SourceChangedError("The file was replaced after it was loaded", where=self._path)

    def check_unchanged(self) -> None:
        """Raise SourceChangedError if the file has another text by now."""
        if _text_of(self._path) != self._text:
            raise SourceChangedError("The file was replaced while it was read", where=self._path)


def _text_of(file: str | None) -> bytes | None:
    """What a file says now; None if it is none, such as one in an archive."""
    try:
        return None if file is None else Path(file).read_bytes()
    except OSError:
        return None


def _code_keys(text: bytes) -> set[Any]:
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
