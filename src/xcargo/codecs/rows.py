"""Rows as databases give them: named tuples, and rows of the classes of libraries.

A list of rows of one class is stored by column, so that a million of them take no longer than a million tuples. The
name and fields of a named tuple suffice to make an equal class where its own cannot be had.
"""

from __future__ import annotations

import logging
import re
import sys
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib import import_module
from typing import Any, cast

from xcargo.codecs.base import Encoded, SourceCodec
from xcargo.codecs.class_names import ClassNames, attribute, is_named_tuple, may_make
from xcargo.codecs.plain_values import class_name
from xcargo.codecs.source import Source
from xcargo.codecs.substitutes import current_push
from xcargo.codecs.tree import TreeCodec
from xcargo.errors import DecodeError, MissingDependencyError, UnsupportedTypeError, XCargoError

__all__ = ["RowsCodec", "equal_class", "find_class", "make_row", "stored_name"]

log = logging.getLogger(__name__)

_MOST_FIELDS = 10_000
_MOST_KEPT_FIELDS = 256
"""Of a class that is made once for many values; one of 10,000 fields takes 4 MB."""


class RowsCodec(SourceCodec):
    """Codec of a database's row, and of a list of rows of one class and the same fields.

    A named tuple by itself is an instance of a user's class, and has `ObjectCodec`.
    """

    id = "rows"

    def __init__(self, tree: TreeCodec, classes: ClassNames | None) -> None:
        self._tree = tree
        self._classes = classes

    def accepts(self, value: object) -> bool:
        if type(value) is not list:
            return _is_row(value)
        cls: Any = type(value[0]) if value else object
        named = is_named_tuple(cls)
        if not (named or _is_row(value[0] if value else None)) or len(set(map(type, value))) > 1:
            return False
        if named:
            return len(cls._fields) > 0 and (cls.__dictoffset__ == 0 or not any(map(vars, value)))
        return len(value[0]) > 0 and _have_same_fields(value)  # columns of no rows would not say how many there are

    def encode(self, value: Any) -> Encoded:
        rows = value if type(value) is list else [value]
        cls: Any = type(rows[0])
        params: dict[str, Any] = {"class": class_name(cls)}
        values_of: Callable[[Any], Iterable[Any]]
        if is_named_tuple(cls):
            name, fields, values_of = stored_name(cls, cast("ClassNames", self._classes)), cls._fields, tuple.__iter__
        else:
            name = class_name(cls)
            library = _LIBRARIES[name]
            fields, values_of = library.fields(rows[0]), library.values
            version = getattr(sys.modules.get(library.package.replace("-", ".")), "__version__", None)
            if version is not None:
                params["version"] = version
        fields = [str.__str__(field) for field in fields]
        try:
            columns = [list(column) for column in zip(*map(values_of, rows), strict=True)]
            pairs = list(zip(fields, columns, strict=True))
        except ValueError as error:
            raise UnsupportedTypeError(
                f"A row of class {cls.__qualname__} has more or fewer values than fields",
                hint="Return tuples: [tuple(row) for row in rows].",
            ) from error
        form = "rows"
        if rows is not value:
            form, pairs = "row", [(field, column[0]) for field, column in pairs]
        unique = len(set(fields)) == len(fields)
        if not unique and name in _LIBRARIES:
            _check_names_twice(_LIBRARIES[name], fields)
        state = dict(pairs) if unique else [list(pair) for pair in pairs]
        try:
            encoded = self._tree.encode([form, name, state])
        except UnsupportedTypeError as error:
            error.what = _cell_path(error.what, fields, unique)
            raise
        cast("dict[str, Any]", encoded.params).update(params)
        return replace(encoded, codec=self.id)

    def open(self, source: Source, params: Mapping[str, Any]) -> Any:
        body = self._tree.open(source, params)
        try:
            form, name, state = body
            pairs = list(state.items()) if type(state) is dict else state
            fields, values = [field for field, _ in pairs], [value for _, value in pairs]
            if type(name) is not str or not set(map(type, fields)) <= {str}:
                raise TypeError("a name is no text")
            make: Callable[[tuple[Any, ...]], Any]
            if name in _LIBRARIES:
                make = _LIBRARIES[name].maker(fields, params.get("version"))
            else:
                make = partial(tuple.__new__, find_class(name, fields, classes=self._classes))
            if form == "row":
                return make(tuple(values))
            if form != "rows" or not set(map(type, values)) == {list}:
                raise TypeError("a column is no list")
            # Columns may refer to one part, and each of them makes as many values of it.
            if len(fields) * len(values[0]) > source.size_bytes:
                raise ValueError("it has fewer values than it claims")
            return list(map(make, zip(*values, strict=True)))
        except XCargoError:
            raise
        except Exception as error:  # of a library that makes a row of what is none
            raise DecodeError(f"The object does not hold rows: {type(error).__name__}: {error}") from error


def _cell_path(what: str, fields: list[str], unique: bool) -> str:
    """The message with the path in the rows in place of the one in what is packed of them."""
    for position, field in enumerate(fields):
        packed = "At value[2]" + (f"[{field!r:.80}]" if unique else f"[{position}][1]")
        if what.startswith(packed):
            row, rest = re.fullmatch(r"(\[\d+\])?(.*)", what.removeprefix(packed), re.DOTALL).groups("")  # type: ignore[union-attr]
            return f"At value{row}" + (f".{field}" if field.isidentifier() else f"[{field!r:.80}]") + rest
    return what


def _is_row(value: Any) -> bool:
    """Whether it is a row of a library, with as many names as values."""
    library = _LIBRARIES.get(class_name(type(value)))
    return library is not None and len(tuple(library.fields(value))) == len(value)


def _have_same_fields(rows: list[Any]) -> bool:
    library = _LIBRARIES[class_name(type(rows[0]))]
    # Rows of one result may share an object, and take long to give their fields.
    if len({id(library.header(row)) for row in rows}) == 1:
        return True
    return len(set(map(tuple, map(library.fields, rows)))) == 1


def _check_names_twice(library: _Library, fields: list[str]) -> None:
    """Raises UnsupportedTypeError for a library that makes no row with a name twice."""
    try:
        library.maker(fields, None)((None,) * len(fields))
    except Exception as error:
        raise UnsupportedTypeError(
            f"Rows of {library.package} with two columns of one name cannot be stored",
            hint="Name them apart in the query (AS), or return [tuple(row) for row in rows].",
        ) from error


@dataclass(frozen=True)
class _Library:
    """How a library's rows are taken apart and made again."""

    module: str
    fields: Callable[[Any], Iterable[str]]
    make: Callable[[Any, list[str]], Callable[[tuple[Any, ...]], Any]]
    """Gives of the library and the fields what makes a row of its values."""
    values: Callable[[Any], Iterable[Any]] = iter
    header: Callable[[Any], Any] = lambda row: row
    """Gives what the rows of one result share, and rows with other fields do not."""

    @property
    def package(self) -> str:
        """What is installed: for ``google.cloud.bigquery`` google-cloud-bigquery, for ``pyspark.sql`` pyspark."""
        return self.module.replace(".", "-") if self.module.startswith("google.") else self.module.partition(".")[0]

    def maker(self, fields: list[str], version: object) -> Callable[[tuple[Any, ...]], Any]:
        try:
            library = import_module(self.module)
        except ImportError as error:
            written = f" (it was written with {version})" if re.fullmatch(r"[\w.+-]{1,40}", str(version)) else ""
            raise MissingDependencyError(
                f"The value holds rows of {self.package}{written}, which is not installed here",
                hint=f"Run: pip install {self.package} (where this task runs)",
            ) from error
        return self.make(library, fields)


def _make_sqlalchemy(sqlalchemy: Any, fields: list[str]) -> Callable[[tuple[Any, ...]], Any]:
    make: Callable[[tuple[Any, ...]], Any] = sqlalchemy.engine.result_tuple(fields)
    return make


def _make_mapping(sqlalchemy: Any, fields: list[str]) -> Callable[[tuple[Any, ...]], Any]:
    make = _make_sqlalchemy(sqlalchemy, fields)
    return lambda values: make(values)._mapping


def _make_sqlite(sqlite3: Any, fields: list[str]) -> Callable[[tuple[Any, ...]], Any]:
    """A row has its names from a cursor, and only from there."""
    names = ", ".join('NULL AS "{}"'.format(field.replace('"', '""')) for field in fields)
    with closing(sqlite3.connect(":memory:")) as connection:
        cursor = connection.execute(f"SELECT {names}")
        if [column[0] for column in cursor.description] != fields:
            raise DecodeError("The value holds rows with a name that no column can have")
        return partial(sqlite3.Row, cursor)


def _make_bigquery(bigquery: Any, fields: list[str]) -> Callable[[tuple[Any, ...]], Any]:
    positions = _positions(fields)
    return lambda values: bigquery.Row(values, positions)


def _make_asyncpg(protocol: Any, fields: list[str]) -> Callable[[tuple[Any, ...]], Any]:
    return partial(protocol._create_record, _positions(fields))  # it is not public, nor is any other way


def _positions(fields: list[str]) -> dict[str, int]:
    """Raises DecodeError for a name that occurs twice."""
    positions = {field: position for position, field in enumerate(fields)}
    if len(positions) < len(fields):
        raise DecodeError("The value holds rows with a name twice, which its library does not have")
    return positions


def _make_pyodbc(pyodbc: Any, fields: list[str]) -> Callable[[tuple[Any, ...]], Any]:
    """As a row's own pickle does, but with no more than the names in its description."""
    description = tuple((field, *[None] * 6) for field in fields)
    positions = {field: position for position, field in enumerate(fields)}
    return lambda values: pyodbc.Row(description, positions, *values)


def _make_psycopg2(extras: Any, fields: list[str]) -> Callable[[tuple[Any, ...]], Any]:
    """As a row's own pickle does."""
    index = OrderedDict((field, position) for position, field in enumerate(fields))

    def make(values: tuple[Any, ...]) -> Any:
        row = extras.DictRow.__new__(extras.DictRow)
        row.__setstate__((values, index))
        return row

    return make


def _make_pyspark(sql: Any, fields: list[str]) -> Callable[[tuple[Any, ...]], Any]:
    def make(values: tuple[Any, ...]) -> Any:
        row = sql.Row(*values)
        row.__fields__ = fields
        return row

    return make


_Alchemy = partial(_Library, "sqlalchemy", header=lambda row: row._parent)
_Asyncpg = _Library("asyncpg.protocol.protocol", lambda row: row.keys(), _make_asyncpg)

_LIBRARIES = {
    "sqlalchemy.engine.row.Row": _Alchemy(lambda row: row._fields, _make_sqlalchemy),
    "sqlalchemy.engine.row.RowMapping": _Alchemy(lambda row: row.keys(), _make_mapping, lambda row: row.values()),
    "sqlite3.Row": _Library("sqlite3", lambda row: row.keys(), _make_sqlite),
    "google.cloud.bigquery.table.Row": _Library("google.cloud.bigquery", lambda row: row.keys(), _make_bigquery, tuple),
    "asyncpg.protocol.record.Record": _Asyncpg,
    "asyncpg.Record": _Asyncpg,  # before 0.31
    "psycopg2.extras.DictRow": _Library(
        "psycopg2.extras", lambda row: row.keys(), _make_psycopg2, header=lambda row: row._index
    ),
    "pyodbc.Row": _Library(
        "pyodbc",
        lambda row: (column[0] for column in row.cursor_description),
        _make_pyodbc,
        header=lambda row: row.cursor_description,
    ),
    "pyspark.sql.types.Row": _Library("pyspark.sql", lambda row: getattr(row, "__fields__", ()), _make_pyspark),
}
"""Class of rows -> its library. In payloads these names stand for the libraries, wherever the classes are by now."""


def stored_name(cls: Any, classes: ClassNames) -> str:
    """The name of a class of named tuples: ``module:qualified name`` of one that can be imported, else without module.

    Raises UnsupportedTypeError for a class of which `equal_class` makes no equal, and for too many of them.
    """
    if attribute(sys.modules.get(cls.__module__), cls.__qualname__) is cls:
        name = classes.name_of(cls)
    else:
        name = str(cls.__name__)
        try:
            equal_class(name, cls._fields)
        except DecodeError as error:
            raise UnsupportedTypeError(
                f"{cls.__qualname__} cannot be imported from {cls.__module__}, and is not like any named tuple",
                hint="Define the class at the top of a module.",
            ) from error
    if not current_push().named_tuples.admits((name, *cls._fields), len(cls._fields)):
        raise UnsupportedTypeError(
            "The value holds named tuples of too many classes", hint="Return them as dicts: row._asdict()."
        )
    return name


def find_class(name: str, fields: Sequence[str], *, classes: ClassNames | None) -> Any:
    """The class of a stored name, if it may be rebuilt here; else an equal one of these fields.

    Raises DecodeError if the class has other fields now.
    """
    cls: Any = None
    if ":" in name and classes is not None:
        with suppress(DecodeError):
            cls = classes.class_of(name)
        if cls is None:
            _log_equal(name, cast(Hashable, classes))
    if cls is None:
        if not may_make((name, *fields), len(fields)):
            raise DecodeError("The value holds named tuples of too many classes")
        return equal_class(name.rpartition(":")[2].rpartition(".")[2], fields)
    if not is_named_tuple(cls) or list(cls._fields) != list(fields):
        now = f"it has {list(cls._fields)}" if is_named_tuple(cls) else "it is no named tuple"
        raise DecodeError(
            f"The class {name} has changed since the value was stored: it had the fields {list(fields)}, {now}",
            hint="Run the task that pushed the value again.",
        )
    return cls


def equal_class(name: Any, fields: Sequence[Any]) -> Any:
    """A class of named tuples; the same one each time. Raises DecodeError for what cannot be one."""
    if type(name) is not str or len(fields) > _MOST_FIELDS or not all(type(field) is str for field in fields):
        raise DecodeError("The value holds no named tuple")
    return (_equal_class if len(fields) <= _MOST_KEPT_FIELDS else _wide_class)(name, tuple(fields))


def _make_class(name: str, fields: tuple[str, ...]) -> Any:
    define: Any = namedtuple  # noqa: PYI024 - its fields are known now
    try:
        # Such a class may have been made with rename, which calls a field by its position if need be: _1.
        cls = define(name, fields, rename=True, module=__name__)
    except (SyntaxError, ValueError) as error:
        raise DecodeError(f"The value holds no named tuple: {error}") from error
    if cls._fields != fields:
        raise DecodeError("The value holds a named tuple with a field that cannot have its name")
    cls.__reduce__ = lambda row: (make_row, (name, fields, tuple(row)))  # so that it can be pickled and copied
    return cls


_equal_class = lru_cache(maxsize=256)(_make_class)
_wide_class = lru_cache(maxsize=4)(_make_class)


def make_row(name: str, fields: Sequence[str], values: Sequence[Any]) -> Any:
    """An instance of `equal_class`."""
    return equal_class(name, fields)._make(values)


@lru_cache(maxsize=256)
def _log_equal(name: str, classes: Any) -> None:
    """Log at the first time that a class could not be had, and why. The name may be anyone's."""
    why = classes.refusal([name])
    try:
        classes.class_of(name)
    except DecodeError as error:
        why = error
    log.warning("A named tuple equal to %.200r was made, without the methods of that class. %s", name, why.hint or "")
