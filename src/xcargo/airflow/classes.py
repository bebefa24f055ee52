"""Which classes may be rebuilt from stored values: those that Airflow's own allow-list admits."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Any

from xcargo.airflow import compat
from xcargo.codecs.class_names import import_name
from xcargo.errors import DecodeError

__all__ = ["AirflowClasses", "how_to_allow"]


class AirflowClasses:
    """Names and classes by Airflow's rules, as `ClassNames`."""

    def name_of(self, cls: type) -> str:
        """``module:qualified name``. Raises UnsupportedTypeError for a class that no other process could find."""
        return import_name(cls)

    def class_of(self, name: str) -> type:
        """The class of a stored name, if Airflow's ``[core] allowed_deserialization_classes`` admits it.

        Raises DecodeError that names the setting and the value to add, or the class that is not there any more.
        """
        return _imported(name.replace(":", "."))


def _imported(name: str) -> type:
    if not _allowed(name):
        raise DecodeError(
            f"The class {name} may not be rebuilt from an XCom",
            hint=how_to_allow(name),
        )
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            target: Any = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            target = getattr(target, part, None)
        if isinstance(target, type):
            return target
    raise DecodeError(
        f"There is no class {name} where this task runs",
        hint="Install the package that defines it, or run the task that pushed the value again.",
    )


def how_to_allow(name: str) -> str:
    """The setting that admits the class, with the exact value."""
    value = " ".join([*_patterns(), name])
    return f"Where this task runs, set AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES='{value}'."


def _allowed(name: str) -> bool:
    if any(fnmatchcase(name, pattern) for pattern in _patterns()):
        return True
    regexps = compat.conf().get("core", "allowed_deserialization_classes_regexp", fallback="") or ""
    if any(re.fullmatch(regexp, name) for regexp in regexps.split()):
        return True
    return name in compat.allowed_by_dag()


def _patterns() -> list[str]:
    return (compat.conf().get("core", "allowed_deserialization_classes", fallback="airflow.*") or "").split()
