"""A value as a table to query, of which ranges of rows of single columns are read."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xcargo.codecs import ipc
from xcargo.codecs.base import arrow, importable
from xcargo.codecs.media import table_of_records
from xcargo.codecs.table_file import TableFile
from xcargo.codecs.value_path import label_text
from xcargo.errors import DecodeError, UnsupportedTypeError, XCargoError
from xcargo.explorer.limits import BlockCache, Budget, Payload
from xcargo.explorer.packed import registry
from xcargo.explorer.rows import Rows

if TYPE_CHECKING:
    from xcargo.airflow.client.values import StoredValue

__all__ = ["ValueTable", "open_table"]

_STORED = frozenset(
    ("pandas.DataFrame", "polars.DataFrame", "polars.LazyFrame", "pyarrow.Table", "pyarrow.RecordBatch")
) | {"pyarrow.RecordBatchReader"}
_RANGE_BYTES = 8 * 1024 * 1024
"""Of each column in memory at once."""
_WHOLE = re.compile("view|union|run_end")
"""Arrow types of which a range of rows cannot be read, only a batch. Polars has text as views."""


@dataclass(frozen=True)
class _Column:
    """A column as a query sees it: made of one that is stored, or of ``values`` that are in memory."""

    type: Any
    number: int = -1
    convert: Callable[[Any], Any] = lambda array: array
    values: Any = None


class ValueTable:
    """The columns of a value by names that differ in more than case. Methods may be called from many threads.

    Attributes:
        types: The Arrow type of each column.
    """

    def __init__(self, columns: Iterable[tuple[str, _Column]], file: TableFile | None = None) -> None:
        self._columns: dict[str, _Column] = {}
        self._file = file
        taken: set[str] = set()
        for name, column in columns:
            number, distinct = 0, name
            while distinct.lower() in taken:  # SQL does not tell City from city
                number += 1
                distinct = f"{name}_{number}"
            taken.add(distinct.lower())
            self._columns[distinct] = column
        self.types = {name: column.type for name, column in self._columns.items()}

    def ranges(self, names: Iterable[str]) -> Iterator[tuple[int, Callable[[str], Any]]]:
        """Range after range of rows: how many there are, and what reads a column of them as a ``pyarrow.Array``.

        Args:
            names: All columns that will be asked for.
        """
        columns = {name: self._columns[name] for name in names}
        if self._file is None or not len(self._file.schema):
            yield max((len(c.values) for c in self._columns.values()), default=0), lambda name: columns[name].values
            return
        stored = sorted({column.number for column in columns.values() if column.values is None})
        start = 0
        for count, cells in self._stored_ranges(self._file, stored):

            def read(name: str) -> Any:
                column = columns[name]
                if column.values is None:
                    return column.convert(cells(column.number))  # noqa: B023 - called before the next range
                return column.values.slice(start, count)  # noqa: B023

            yield count, read
            start += count

    def _stored_ranges(self, file: TableFile, numbers: Sequence[int]) -> Iterator[tuple[int, Callable[[int], Any]]]:
        if _WHOLE.search(" ".join(map(str, file.schema.types))):
            names = [file.schema.names[number] for number in numbers]
            if not all(file.schema.names.count(name) == 1 for name in names):  # then no name says which column is meant
                names, numbers = [], range(len(file.schema))
            for batch in file.batches(names or None):
                yield len(batch), dict(zip(numbers, batch.columns, strict=False)).__getitem__
            return
        budget = Budget(max_bytes=sys.maxsize, seconds=math.inf)
        rows = Rows(Payload(file.source, "", cache=BlockCache(0), budget=budget), {})
        for window in rows.windows(numbers, _RANGE_BYTES):
            yield window[2] - window[1], lambda number: rows.cells(number, window)  # noqa: B023


def open_table(value: StoredValue) -> ValueTable:
    """The table of a frame of pandas or polars, an Arrow table, a dictionary or a list of them.

    Of stored tables only the description is read. In a frame of pandas ``NaN`` is null, and columns that Arrow has no
    type for are left out.

    Raises:
        UnsupportedTypeError: It is none of these.
        DecodeError: Its object is damaged.
    """
    if value.type not in _STORED:
        return _of_records(value)
    file = TableFile(value.source())
    packed = (file.schema.metadata or {}).get(b"xcargo")
    if packed is None:
        states: Iterable[tuple[str, Any]] = ((field.name, ["arrow", n]) for n, field in enumerate(file.schema))
        return ValueTable(_columns(file, states), file)
    try:
        return ValueTable(_columns(file, _frame_states(registry().tree.unpack(packed)[1])), file)
    except XCargoError:
        raise
    except Exception as error:
        raise DecodeError(f"The object does not hold a pandas frame: {type(error).__name__}: {error}") from error


def _of_records(value: StoredValue) -> ValueTable:
    pa, records = arrow(), value.pull() if value.type in ("dict", "list") else None
    records = [records] if type(records) is dict else records
    if type(records) is not list or not all(type(record) is dict for record in records):
        raise UnsupportedTypeError(
            f"What task {value.task_id!r} returned is a {value.type}, not a table",
            hint="SQL reads DataFrames of pandas and polars, Arrow tables, dictionaries and lists of dictionaries.",
        )
    try:
        table = table_of_records(records)
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise UnsupportedTypeError(
            f"The dictionaries that task {value.task_id!r} returned make no table: {error}",
            hint="Each key must be text, and each field must have one type.",
        ) from error
    columns = zip(table.column_names, map(pa.ChunkedArray.combine_chunks, table.columns), strict=True)
    return ValueTable((name, _Column(array.type, values=array)) for name, array in columns)


def _columns(file: TableFile, states: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, _Column]]:
    """The columns that Arrow has a type for."""
    pa = arrow()
    for name, state in states:
        with suppress(pa.ArrowException, NotImplementedError, OverflowError, TypeError, ValueError):
            if state[0] in ("objects", "raw", "items"):
                values = pa.array(state[-1], from_pandas=True)
                yield name, _Column(values.type, values=values)
            elif state[0] != "sparse":
                convert = _conversion(state)
                yield name, _Column(convert(pa.nulls(0, file.schema.field(state[-1]).type)).type, state[-1], convert)


def _frame_states(state: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Name and state of each column of a pandas frame, and of its index unless that is a range."""
    yield from zip(_labels(state["labels"]), state["columns"], strict=True)
    kind, *index = state["index"]
    if kind == "values":
        yield _level(0, index[1]), index[0]
    elif kind == "multi":
        for number, (level, codes, name) in enumerate(zip(*index, strict=True)):
            yield _level(number, name), ["category", level, False, codes]


def _conversion(state: Sequence[Any]) -> Callable[[Any], Any]:
    """What a query sees in place of a stored array, by what `PandasWriter` says of it."""
    pa, pc, kind = arrow(), importable("pyarrow.compute", "a table", extra="arrow"), state[0]
    labels = _values(state[1]) if kind == "category" else None

    def convert(array: Any) -> Any:
        if labels is not None:
            return labels.take(pc.if_else(pc.greater_equal(array, 0), array, pa.scalar(None, array.type)))
        if pa.types.is_dictionary(array.type):
            return convert(array.dictionary).take(array.indices)
        plain = {"string_view": pa.large_string, "binary_view": pa.large_binary}.get(str(array.type))
        if plain:
            return array.cast(plain())
        if pa.types.is_timestamp(array.type) and (array.type.tz or kind == "zoned"):  # SQL knows the moment alone
            return array.cast(pa.timestamp(array.type.unit, "UTC"))
        if pa.types.is_float16(array.type):  # DuckDB has none
            array = array.cast(pa.float32())
        if kind == "numpy" and pa.types.is_floating(array.type):
            return pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
        return array

    return convert


def _values(index: Sequence[Any]) -> Any:
    """The labels of an index."""
    if index[0] == "range":
        return arrow().array(range(*index[1:4]))
    state = index[1]
    if state[0] in ("objects", "raw"):
        return arrow().array(state[1], from_pandas=True)
    return _conversion(state)(ipc.read_stream(state[-1]).column(0).combine_chunks())


def _labels(index: Sequence[Any]) -> list[str]:
    """The names of a frame's columns."""
    if index[0] == "multi":
        levels = [_labels(level) for level in index[1]]
        codes = [ipc.read_stream(column).column(0).to_pylist() for column in index[2]]
        numbers = zip(*codes, strict=True)
        return [label_text(tuple(map(list.__getitem__, levels, of_one))) for of_one in numbers]
    if index[0] == "values" and index[1][0] in ("objects", "raw"):
        return list(map(label_text, index[1][1]))  # which need not be of one type
    return list(map(label_text, _values(index).to_pylist()))


def _level(number: int, name: Any) -> str:
    return f"__index_level_{number}__" if name is None else label_text(name)
