"""Types that other packages add to pandas and Arrow: which a pull can find again, and what it imports for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

from xcargo.codecs.base import arrow, importable
from xcargo.errors import MissingDependencyError, UnsupportedTypeError

__all__ = ["DTYPE_PACKAGES", "extension_params", "import_package", "register_types"]

DTYPE_PACKAGES = {"db_dtypes": "db-dtypes"}
"""Packages that define dtypes of pandas, each with what to install. They are imported for a column of theirs, no other.

A name in a payload picks one of these and is never imported itself.
"""
_EXTENSION = b"ARROW:extension:name"
_PACKAGES = {"pandas.period": "pandas", "pandas.interval": "pandas", "dbjson": "db_dtypes"}
"""Extension types that another package than pyarrow registers."""


def extension_params(schema: Any) -> dict[str, Any]:
    """Params of a schema with extension types, inside lists and structs too: their names, for `register_types`.

    Raises UnsupportedTypeError for a type that another process would not know to register. It would get the storage.
    """
    pa, names, named = arrow(), set(), False
    base, plain = pa.BaseExtensionType, pa.DataType
    for column in schema:
        if type(column.type) is plain and not column.metadata:
            continue
        for field in _with_inner([column]):
            kind = _value_type(field.type)
            named = named or _EXTENSION in (field.metadata or {})
            if kind is not field.type:
                nested = any(hasattr(inner.type, "index_type") for inner in _with_inner([pa.field("", kind)]))
                if nested or isinstance(kind, base):
                    raise UnsupportedTypeError(
                        f"Column {column.name[:80]!r} is a dictionary of {str(kind)[:80]!r}, "
                        "which Arrow writes and does not read",
                        hint="Return column.dictionary_decode(), or the table without it.",
                    )
            if not isinstance(kind, base):
                continue
            name, package = kind.extension_name, type(kind).__module__.partition(".")[0]
            if name not in _PACKAGES and not (package == "pyarrow" and name.startswith("arrow.")):
                raise UnsupportedTypeError(
                    f"Column {column.name[:80]!r} has the Arrow extension type {name[:80]!r} of the package {package}, "
                    "which a task that pulls it does not know to import",
                    hint="Return the storage of the column, or register a codec for the value under 'xcargo.codecs'.",
                )
            names.add(name)
    return {"extensions": sorted(names)} if names or named else {}


def register_types(schema: Any, extensions: object = None, *, again: bool = False) -> bool:
    """Register the extension types of columns that were read as their storage, since their type is unknown here.

    pandas registers its types at their first use, other packages when they are imported. A name picks one of the
    packages that we know and is never imported itself.

    Args:
        schema: As it was read.
        extensions: Names of those that were types at the push; what else has a name was its storage there too.
        again: After it returned True and the schema was read again.

    Returns:
        Whether anything was registered, so that the schema is to be read again.

    Raises:
        MissingDependencyError: For a type that cannot be registered here.
    """
    done = False
    for field in _with_inner(schema):
        name = (field.metadata or {}).get(_EXTENSION, b"").decode("utf-8", "replace")
        if not name or isinstance(_value_type(field.type), arrow().BaseExtensionType):
            continue
        if isinstance(extensions, list) and name not in extensions:
            continue
        package = _PACKAGES.get(name)
        if package is None or again:
            raise MissingDependencyError(
                f"Column {field.name[:80]!r} has the Arrow extension type {name[:80]!r}, which is not registered here",
                hint="Run: pip install --upgrade pyarrow airflow-provider-xcargo",
            )
        _import(package, name)
        done = True
    return done


def _import(package: str, name: str) -> None:
    if package != "pandas":
        import_package(package, f"the Arrow extension type {name}")
        return
    pd = importable("pandas", "a table with periods or intervals of pandas")
    for dtype in ("period[D]", "interval[int64]"):
        arrow().array(pd.array([], dtype=dtype))


def _with_inner(fields: Iterable[Any]) -> Iterator[Any]:
    """The fields, each followed by those inside its type."""
    for field in fields:
        yield field
        kind = getattr(field.type, "storage_type", field.type)
        inner = [getattr(kind, name) for name in ("value_field", "key_field", "item_field") if hasattr(kind, name)]
        if hasattr(kind, "field"):
            inner += [kind.field(n) for n in range(kind.num_fields)]
        yield from _with_inner(inner)


def _value_type(kind: Any) -> Any:
    """The type of a column's values, which may be in a dictionary."""
    return getattr(kind, "value_type", kind) if hasattr(kind, "index_type") else kind


def import_package(package: str, value: str) -> None:
    """Import one of the known packages. Raises MissingDependencyError if it is another, or is not installed."""
    distribution = DTYPE_PACKAGES.get(package)
    try:
        if distribution is not None:
            import_module(package)
            return
    except ImportError as error:
        raise MissingDependencyError(
            f"The value has {value}, and {package} is not installed here", hint=f"Run: pip install {distribution}"
        ) from error
    raise MissingDependencyError(
        f"The value has {value}, whose package {package[:80]} xcargo does not know",
        hint="Run: pip install --upgrade airflow-provider-xcargo",
    )
