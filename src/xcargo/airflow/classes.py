"""Which classes may be rebuilt from stored values: those of the Dag itself, and those on Airflow's allow-list.

Airflow loads the file of a Dag as a module whose name holds a hash of the file's path, which differs by worker and by
version of the bundle. So a class of such a file is stored by the file's path below the folder on ``sys.path`` that
holds it: Airflow puts the root of the bundle, or the dags folder, there.

Of the Dag itself are the file that this process has loaded as a Dag, and modules below the same folder that it has
imported. They are looked up among the loaded modules: because of a name in a payload nothing is imported, and no code
runs. Any other class is imported only if ``[core] allowed_deserialization_classes`` admits it.
"""

from __future__ import annotations

import ast
import logging
import os
import re
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from xcargo.airflow import compat
from xcargo.codecs.class_names import attribute, dotted, import_name, is_named_tuple
from xcargo.codecs.substitutes import current_push
from xcargo.errors import ConfigurationError, DecodeError

__all__ = ["AirflowClasses", "how_to_allow"]

log = logging.getLogger(__name__)

_MOST_SHOWN = 20
"""Classes that a message names."""


class AirflowClasses:
    """The classes of this process, by the rules above (`ClassNames`)."""

    def __init__(self) -> None:
        self._names: dict[type, str] = {}
        self._classes: dict[str, type] = {}
        self._refused: dict[str, None] = {}

    def name_of(self, cls: type) -> str:
        """The name to store. Raises UnsupportedTypeError for a class that no other process could find."""
        name = self._names.get(cls)
        if name is None:
            name = import_name(cls)
            if _is_dag_file(cls.__module__):
                name = f"{_path(sys.modules[cls.__module__])}:{cls.__qualname__}"
                self._classes[name] = cls  # this very class comes back, even if the file is loaded once more
            elif not (is_named_tuple(cls) or _comes_with_dag(name, cls.__module__) or _allowed(name)):
                if current_push().for_digest:
                    return name  # nobody pulls it
                self._refused[name] = None
            self._names[cls] = name
        return name

    def class_of(self, name: str) -> type | None:
        """The class of a stored name; None if it may not be rebuilt here. Raises DecodeError if it is not there."""
        cls = self._classes.get(name)
        if cls is None:
            cls = _class_of_dag(name) or (_imported(name) if _allowed(name) else None)
            if cls is not None:
                self._classes[name] = cls
        return cls

    def refusal(self, names: Iterable[str]) -> DecodeError:
        """The error for classes that may not be rebuilt here, with the setting that admits them."""
        return DecodeError(f"{_listed(names)} may not be rebuilt from an XCom", hint=how_to_allow(names))

    def warn(self) -> None:
        """Log the classes that were stored, each the first time, although a pull would refuse them."""
        names: list[str] = []
        while self._refused:  # other threads add to it, and warn of it
            with suppress(KeyError):
                names.append(self._refused.popitem()[0])
        if names:
            names.reverse()
            log.warning("%s may not be rebuilt by the task that pulls them. %s", _listed(names), how_to_allow(names))


def how_to_allow(names: Iterable[str]) -> str:
    """What admits the classes: the setting with the exact value, or to move them if their names do not last."""
    shown = list(names)[:_MOST_SHOWN]
    lasting = [_import_path(name) for name in shown if not _FLEETING.match(name)]
    value = " ".join(dict.fromkeys([*_patterns(), *lasting]))
    hints = []
    if lasting:
        hints.append(f"Where the pulling task runs, set AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES='{value}'.")
    if len(lasting) < len(shown) or any(name.startswith("./") for name in shown):
        start = "Or define" if lasting else "Define"
        hints.append(f"{start} classes of a Dag file in a module beside it, which every Dag that uses them imports.")
    beside = [module for module in dict.fromkeys(name.rpartition(":")[0] for name in shown) if _lies_beside(module)]
    if beside:
        hints.append(f"Or import {', '.join(beside)} at the top of the Dag's file: a pull imports nothing by itself.")
    return " ".join(hints)


def _listed(names: Iterable[str]) -> str:
    all_names = [dotted(name) for name in names]
    shown = ", ".join(all_names[:_MOST_SHOWN])
    more = len(all_names) - _MOST_SHOWN
    return f"The class{'es' if len(all_names) > 1 else ''} {shown}" + (f" and {more} more" if more > 0 else "")


_PARSED = "unusual_prefix_"
"""Beginning of the names that Airflow gives to the modules of Dag files."""

_MODULE = re.compile(r"\w[\w-]*(\.\w[\w-]*)*")

_FLEETING = re.compile(rf"{_PARSED}|__main__\b")


def _is_dag_file(name: str) -> bool:
    """Whether a module is one that Airflow loaded as the file of a Dag, or runs its Dag itself (``dag.test()``)."""
    return name.startswith(_PARSED) or (name == "__main__" and _file(sys.modules[name]) != "")


def _dag_files() -> list[ModuleType]:
    return [sys.modules[name] for name in list(sys.modules) if _is_dag_file(name)]


def _file(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or ""


def _folder(module: ModuleType) -> str:
    """The deepest folder on ``sys.path`` that holds the module's file, or the file's own."""
    file = _file(module)
    folders = [folder for folder in map(os.path.abspath, sys.path) if file.startswith(folder + os.sep)]
    return max(folders, key=len, default=str(Path(file).parent))


def _path(module: ModuleType) -> str:
    return "./" + os.path.relpath(_file(module), _folder(module))


def _class_of_dag(name: str) -> type | None:
    """The class of a stored name if it is of the Dag itself."""
    module_name, _, qualname = name.rpartition(":")
    for dag_file in _dag_files():
        for module in _modules_of_dag(module_name, dag_file):
            cls: Any = module
            for part in qualname.split("."):  # not getattr, which may run code
                cls = vars(cls).get(part) if isinstance(cls, (ModuleType, type)) else None
            if isinstance(cls, type) and (cls.__module__, cls.__qualname__) == (module.__name__, qualname):
                return cls
    return None


def _modules_of_dag(name: str, dag_file: ModuleType) -> Iterator[ModuleType]:
    """The loaded modules of a stored module name or path: the file of a Dag may be imported by its name too."""
    by_path = name.startswith("./")
    path = name if by_path else f"./{name.replace('.', '/')}.py"
    parsed = [dag_file] if _path(dag_file) == path else []
    imported = sys.modules.get(_module_name(name))
    beside = [imported] if imported is not None and _is_beside(imported, _folder(dag_file)) else []
    yield from [*parsed, *beside] if by_path else [*beside, *parsed]


def _is_beside(module: ModuleType, folder: str) -> bool:
    """Whether the module's file is below the folder, and not of an installed package (an environment may be there)."""
    file = _file(module)
    if not file.startswith(folder + os.sep):
        return False
    return not any(file.startswith(place) and not folder.startswith(place) for place in _installed())


def _comes_with_dag(name: str, module_name: str) -> bool:
    """Whether a class is of the Dag itself, and loading the file of a Dag imports its module.

    A function that imports it runs in one task only.
    """
    if _class_of_dag(name) is None:
        return False
    known: dict[str, ModuleType] = {_file(dag_file): dag_file for dag_file in _dag_files()}
    to_search = list(known.values())
    while to_search:
        for name in _imported_by(to_search.pop()):
            imported = sys.modules.get(name)
            if imported is not None and _file(imported) not in known and _is_of_dag(imported):
                known[_file(imported)] = imported
                to_search.append(imported)
    return sys.modules.get(module_name) in known.values()


def _is_of_dag(module: ModuleType) -> bool:
    return any(_is_beside(module, _folder(dag_file)) for dag_file in _dag_files())


def _imported_by(module: ModuleType) -> set[str]:
    """Names that the module's file imports when it is loaded: not within a function, nor for type checkers only."""
    names: set[str] = set()
    try:
        to_search: list[ast.AST] = [ast.parse(Path(_file(module)).read_bytes())]
    except (OSError, SyntaxError, ValueError):
        return names
    while to_search:
        node = to_search.pop()
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = (module.__package__ or "").split(".")
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join(filter(None, [*above, node.module]))
            names.update((base, *(f"{base}.{alias.name}" for alias in node.names)))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            to_search.extend(node.orelse)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            to_search.extend(ast.iter_child_nodes(node))
    return {".".join(name.split(".")[:n]) for name in names for n in range(1, name.count(".") + 2)}


def _lies_beside(name: str) -> bool:
    """Whether a module of this name is below the folder of a Dag's file."""
    if not _MODULE.fullmatch(name):
        return False
    paths = [Path(_folder(dag_file), *name.split(".")) for dag_file in _dag_files()]
    return any(path.with_suffix(".py").is_file() or (path / "__init__.py").is_file() for path in paths)


def _installed() -> list[str]:
    folders = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    return [folder + os.sep for folder in (*folders, *site.getsitepackages(), site.getusersitepackages())]


def _module_name(name: str) -> str:
    return name[2:].removesuffix(".py").replace("/", ".") if name.startswith("./") else name


def _import_path(name: str) -> str:
    """A stored name as the allow-list has it."""
    module, colon, qualname = name.rpartition(":")
    return f"{_module_name(module)}.{qualname}" if colon else name


def _allowed(name: str) -> bool:
    name = _import_path(name)
    if any(fnmatchcase(name, pattern) for pattern in _patterns()):
        return True
    regexps = compat.conf().get("core", "allowed_deserialization_classes_regexp", fallback="") or ""
    try:
        if any(re.fullmatch(regexp, name) for regexp in regexps.split()):
            return True
    except re.error as error:
        raise ConfigurationError(
            f"[core] allowed_deserialization_classes_regexp is not a regular expression: {error}",
            hint="It takes regular expressions separated by spaces, such as my_package\\..*",
        ) from error
    return name in compat.allowed_by_dag()


def _patterns() -> list[str]:
    return (compat.conf().get("core", "allowed_deserialization_classes", fallback="airflow.*") or "").split()


def _imported(name: str) -> type:
    module_name, _, qualname = name.rpartition(":")
    cls = cause = None
    try:
        if _MODULE.fullmatch(_module_name(module_name)):
            cls = attribute(import_module(_module_name(module_name)), qualname)
    except Exception as error:  # of the module's own code
        cause = error
    if isinstance(cls, type):
        # What a package that is allowed imports of another one is not of it: that has to be allowed by its own name.
        is_of_package = cls.__module__.partition(".")[0] == _module_name(module_name).partition(".")[0]
        if is_of_package or _allowed(f"{cls.__module__}:{cls.__qualname__}"):
            return cls
    raise DecodeError(
        f"There is no class {dotted(name)} where this task runs" + (f": {cause}" if cause else ""),
        hint="Install the package that defines it, or run the task that pushed the value again.",
    ) from cause
