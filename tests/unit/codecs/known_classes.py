"""Classes that a test knows, in the place of those that Airflow admits."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from xcargo.codecs.class_names import import_name
from xcargo.errors import DecodeError

__all__ = ["KnownClasses"]


class KnownClasses:
    """Those of one module, or none."""

    def __init__(self, module: str | None = None) -> None:
        self._module = module

    def name_of(self, cls: type) -> str:
        return import_name(cls)

    def class_of(self, name: str) -> type | None:
        module = None if self._module is None else import_module(self._module)
        cls = getattr(module, name.rpartition(":")[2], None)
        return cls if isinstance(cls, type) else None

    def refusal(self, names: Iterable[str]) -> DecodeError:
        return DecodeError(f"{', '.join(names)} may not be rebuilt")
