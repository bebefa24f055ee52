"""Pages of a table: rows and columns that are on the screen, sorted and filtered, and how a column is distributed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from xcargo.codecs import ipc
from xcargo.codecs.base import arrow, importable
from xcargo.errors import DecodeError, UnsupportedTypeError, XCargoError
from xcargo.explorer.cells import Form, cell_text, form_of, labels_of, python_cells
from xcargo.explorer.limits import Payload
from xcargo.explorer.packed import registry
from xcargo.explorer.rows import Rows
from xcargo.types import Buffer

__all__ = ["OPERATORS", "Table"]

OPERATORS = ("contains", "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "null", "not_null")
"""What a filter may ask of a column."""

_MAX_CELLS = 10_000
_MAX_MATCHES = 5_000_000
_SCAN_ROWS = 131_072
_SAMPLED_ROWS = 10_000
_SAMPLES = 20
_BINS = 20
_OFFSET = re.compile(r"(Z|[+-]\d\d:?\d\d)$")
_FORMULA, _NUMBER = r"^[=+\-@\t\r\n\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}]", r"^[+-]?[0-9.]+([eE][+-]?[0-9]+)?$"
"""How texts begin that spreadsheets take for formulas, signs of full width too, and numbers among them."""


class Table:
    """A stored table or frame. Raises UnsupportedTypeError if none of its columns can be shown."""

    def __init__(self, payload: Payload, params: Mapping[str, Any]) -> None:
        self._pa = arrow()
        self._pc = importable("pyarrow.compute", "a table", extra="arrow")
        self._payload = payload
        self.rows = Rows(payload, params)
        self._forms = dict(enumerate(map(form_of, self.rows.schema)))
        self._index: dict[int, str] = {}
        """Names of the columns that are a frame's index, by their numbers."""
        self.hidden = 0
        """How many columns are in no Arrow column: Python objects of a pandas frame."""
        state = (self.rows.schema.metadata or {}).get(b"xcargo")
        if state is not None:
            self._read_pandas_state(state)

    @property
    def columns(self) -> list[dict[str, Any]]:
        """Name, type and number of each column; ``index`` of those that are a frame's index."""
        columns: list[dict[str, Any]] = []
        for number, field in enumerate(self.rows.schema):
            name, kind = self._index.get(number, field.name), self._forms[number].type or str(field.type)
            columns.append({"number": number, "name": name[:200], "type": kind[:80], "align": self._align(number)})
            if number in self._index:
                columns[-1]["index"] = True
        return columns

    def page(self, start: int, count: int, columns: Sequence[int], order: Any = None) -> dict[str, Any]:
        """Cells of some rows and columns as text, None for a missing one; of an ``order`` by filter() or sort()."""
        total = self.rows.count if order is None else len(order)
        start = min(max(start, 0), total)
        count = max(0, min(count, total - start, _MAX_CELLS // max(1, len(columns))))
        numbers = list(range(start, start + count)) if order is None else order.slice(start, count).to_pylist()
        cells = []
        for number in columns:
            if order is None:
                column = self._column(number, start, start + count, shorten=True)
            else:
                column = self._forms[number].converted(self.rows.at(self._checked(number), numbers))
            cells.append([cell_text(value) for value in self._forms[number].cells(column)])
        return {"total": total, "rows": self.rows.count, "start": start, "numbers": numbers, "cells": cells}

    def record_batches(self) -> Iterator[Any]:
        """The table in record batches of a bounded number of rows; what Arrow alone has no word for is text."""
        names = [column["name"] for column in self.columns]
        width = sum(map(self.rows.column_bytes, range(len(names)))) // max(1, self.rows.count)
        step = max(1, min(_SCAN_ROWS, self._payload.budget.max_bytes // 8 // max(1, width)))
        for start in range(0, max(1, self.rows.count), step):
            columns = []
            for number in range(len(names)):
                column = self._column(number, start, start + step)
                columns.append(self._texts(number, column) if self._forms[number].to_text else column.combine_chunks())
            yield self._pa.record_batch(columns, names=names)

    def export(self, form: str) -> Iterator[Buffer]:
        """The table as a ``csv`` or ``parquet`` file; memory is bounded by one of the `record_batches`."""
        sink, writer = ipc.Sink(), None
        for batch in self.record_batches():
            if form == "csv":
                names = self._csv_column(self._pa.array(batch.schema.names, self._pa.string())).to_pylist()
                batch = self._pa.record_batch(list(map(self._csv_column, batch.columns)), names=names)
            try:
                if writer is None:
                    library = importable(f"pyarrow.{form}", "a table", extra="arrow")
                    kind = library.CSVWriter if form == "csv" else library.ParquetWriter
                    writer = kind(self._pa.PythonFile(sink, mode="w"), batch.schema)
                writer.write_batch(batch)
            except (self._pa.ArrowInvalid, self._pa.ArrowNotImplementedError) as error:  # which may show a value
                raise UnsupportedTypeError(
                    f"A column has a type that pyarrow cannot write as {form}", hint="Download the table as it is."
                ) from error
            yield from sink.take()
        if writer is not None:
            writer.close()
        yield from sink.take()

    def filter(self, filters: Sequence[Mapping[str, Any]]) -> Any:
        """Numbers of the rows that pass all filters. Reads the columns asked for, a range of rows at a time."""
        pa, pc = self._pa, self._pc
        matches, total = [], 0
        for start in range(0, self.rows.count, _SCAN_ROWS):
            self._payload.budget.check_time()
            mask = None
            for one in filters:
                number = int(one["column"])
                column = self._column(number, start, start + _SCAN_ROWS)
                passed = self._passes(number, column, str(one.get("operator")), str(one.get("value", "")))
                passed = pc.fill_null(passed, False)
                mask = passed if mask is None else pc.and_(mask, passed)
            numbers = pc.add(pc.cast(pc.indices_nonzero(mask), pa.int64()), start)
            total += len(numbers)
            if total > _MAX_MATCHES:
                raise UnsupportedTypeError(f"More than {_MAX_MATCHES} rows pass the filter", hint="Filter for less.")
            matches.append(numbers)
        return pa.concat_arrays(matches) if matches else pa.array([], pa.int64())

    def sort(self, number: int, *, descending: bool = False, rows: Any = None) -> Any:
        """Numbers of the rows (of all, or of those that passed a filter) in the order of a column.

        Raises:
            TooLargeError: The column takes more memory than a preview may; it was not read.
            UnsupportedTypeError: Its type has no order.
        """
        self._checked(number)
        # Before the beginnings of all batches are read for the size of the column.
        self._payload.budget.check_size(8 * self.rows.count, "The order of all rows")
        self._payload.budget.check_size(self.rows.column_bytes(number) + 8 * self.rows.count, "The column to sort by")
        chunks = []
        for start in range(0, self.rows.count, _SCAN_ROWS):
            self._payload.budget.check_time()
            chunks.append(self._column(number, start, start + _SCAN_ROWS, shorten=True).combine_chunks())
        column = self._pa.chunked_array(chunks) if chunks else self._column(number, 0, 0)
        column = column if rows is None else column.take(rows)
        try:
            if self._pa.types.is_dictionary(column.type):  # by the rank of each text, which takes less than the texts
                codes = column.combine_chunks()
                column = self._pc.rank(codes.dictionary, tiebreaker="dense").take(codes.indices)
            ends = column.flatten() if self._forms[number].closed else [column]  # the left one counts first
            keys = [(str(n), "descending" if descending else "ascending") for n in range(len(ends))]
            order = self._pc.sort_indices(self._pa.table(ends, names=[key for key, _ in keys]), sort_keys=keys)
        except (self._pa.ArrowException, TypeError) as error:
            raise UnsupportedTypeError(
                f"A column of type {str(column.type)[:80]} has no order", hint="Sort by another one."
            ) from error
        return order if rows is None else rows.take(order)

    def distribution(self, number: int, order: Any = None) -> dict[str, Any]:
        """How a column's values are spread, in all rows or those of an ``order``; of many rows in 20 samples."""
        self._checked(number)
        total = self.rows.count if order is None else len(order)
        samples = 1 if total <= _SAMPLED_ROWS else _SAMPLES
        size = total if samples == 1 else _SAMPLED_ROWS // _SAMPLES
        chunks: list[Any] = []
        for n in range(samples):
            start = 0 if samples == 1 else (total - size) * n // (samples - 1)
            if order is None:
                chunks += self._column(number, start, start + size, shorten=True).chunks
            else:
                numbers = sorted(order.slice(start, size).to_pylist())
                chunks += self._forms[number].converted(self.rows.at(number, numbers)).chunks
        pa, pc, types = self._pa, self._pc, self._pa.types
        column = pa.chunked_array(chunks) if chunks else self._column(number, 0, 0)
        kind, missing = column.type, self._missing(column)
        spread = {"sampled": len(column), "rows": total, "missing": pc.sum(missing).as_py() or 0}
        is_number = self._align(number) == "end" and not types.is_decimal(kind)
        if (is_number or types.is_temporal(kind)) and not types.is_interval(kind) and spread["missing"] < len(column):
            present = pc.filter(column, pc.invert(missing))
            if is_number:
                return spread | _histogram(pc.cast(present, pa.float64(), safe=False).to_numpy())
            ordinals = pc.cast(present, pa.int32() if kind.bit_width == 32 else pa.int64()).to_numpy()
            ends = {"min": ordinals.argmin(), "max": ordinals.argmax()}
            texts = {name: str(python_cells(present.slice(position, 1))[0]) for name, position in ends.items()}
            return spread | _histogram(ordinals.astype("float64")) | texts | {"mean": None}
        cells = zip(self._forms[number].cells(column), missing.to_pylist(), strict=True)
        counts = Counter(str(cell_text(value)) for value, is_missing in cells if not is_missing)
        top = [{"value": text, "count": count} for text, count in counts.most_common(5)]
        return spread | {"distinct": len(counts), "top": top}

    def _column(self, number: int, start: int, stop: int, *, shorten: bool = False) -> Any:
        return self._forms[self._checked(number)].converted(self.rows.column(number, start, stop, shorten=shorten))

    def _texts(self, number: int, column: Any) -> Any:
        """The cells as text, as they are shown."""
        texts = [None if cell is None else str(cell) for cell in self._forms[number].cells(column)]
        return self._pa.array(texts, self._pa.large_string())

    def _csv_column(self, column: Any) -> Any:
        """The column itself, or its cells as text where CSV has no other way to write them.

        A text that a spreadsheet would take for a formula gets an apostrophe in front of it.
        """
        pc, types, kind = self._pc, self._pa.types, column.type
        if types.is_null(kind) or (types.is_primitive(kind) and not types.is_interval(kind)):
            return column
        if str(kind) not in ("string", "large_string"):
            column = self._pa.array([None if v is None else str(v) for v in python_cells(column)])
        column = pc.cast(column, self._pa.large_string())
        is_formula = pc.and_not(pc.match_substring_regex(column, _FORMULA), pc.match_substring_regex(column, _NUMBER))
        quote, nothing = (self._pa.scalar(text, column.type) for text in ("'", ""))
        return pc.if_else(is_formula, pc.binary_join_element_wise(quote, column, nothing), column)

    def _checked(self, number: int) -> int:
        if not 0 <= number < len(self.rows.schema):
            raise DecodeError(f"The table has {len(self.rows.schema)} columns")
        return number

    def _align(self, number: int) -> str:
        kind, types = self.rows.schema.field(number).type, self._pa.types
        numeric = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
        return "end" if numeric and not self._forms[number].type else "start"

    def _passes(self, number: int, column: Any, operator: str, text: str) -> Any:
        pa, pc = self._pa, self._pc
        if operator not in OPERATORS:
            raise DecodeError(f"There is no filter {operator[:40]!r}; there are {', '.join(OPERATORS)}")
        if operator in ("null", "not_null"):
            return self._missing(column) if operator == "null" else pc.invert(self._missing(column))
        if pa.types.is_dictionary(column.type):  # each text is asked once
            codes = column.combine_chunks()
            return self._passes(number, codes.dictionary, operator, text).take(codes.indices)
        try:
            form = self._forms[number]
            if form.to_text and not form.freq:
                column = self._texts(number, column)
            if operator == "contains":
                column = self._texts(number, column) if form.freq else column
                return pc.match_substring(pc.cast(column, pa.large_string()), text, ignore_case=True)
            if form.freq:
                period = importable("pandas", "a column of periods").Period(text, freq=form.freq)
                return getattr(pc, operator)(column, pa.scalar(period.ordinal, column.type))
            return getattr(pc, operator)(column, self._scalar(text, column.type))
        except (pa.ArrowException, NotImplementedError, TypeError, ValueError) as error:
            raise UnsupportedTypeError(
                f"A column of type {str(column.type)[:80]} cannot be compared with {text[:40]!r}",
                hint="Write a value of the column's type (a date as 2026-01-31), or filter another column.",
            ) from error

    def _missing(self, column: Any) -> Any:
        """Which cells are missing; NaN is, too."""
        return self._pc.is_null(column, nan_is_null=self._pa.types.is_floating(column.type))

    def _scalar(self, text: str, kind: Any) -> Any:
        """What was typed as a value of a column's type; a time without an offset is of the column's zone."""
        pa = self._pa
        if pa.types.is_timestamp(kind) and kind.tz and not _OFFSET.search(text):
            return self._pc.assume_timezone(pa.scalar(text).cast(pa.timestamp(kind.unit)), kind.tz)
        return pa.scalar(text).cast(kind)

    def _read_pandas_state(self, packed: bytes) -> None:
        """What a pandas value's own description adds: categories, zones, names of the index, and what is no column."""
        try:
            kind, state = registry().tree.unpack(packed)
            columns = {"frame": "columns", "series": "values"}.get(kind)
            if kind == "array":
                values = [state[2] if state[0] == "shaped" else state]
            else:
                values = state[columns] if columns else []
            values = [values] if kind == "series" else list(values)
            index = state if kind == "index" else state["index"] if columns else ["none"]
            if index[0] == "values":
                values.append(index[1])
                self._name_index(index[1][-1], index[2])
            elif index[0] == "multi":
                for n, (level, code, name) in enumerate(zip(*index[1:], strict=True)):
                    self._forms[code] = Form("category", labels=labels_of(level))
                    self._name_index(code, f"level_{n}" if name is None else name)
        except (XCargoError, self._pa.ArrowException, LookupError, TypeError, ValueError):
            return  # then what Arrow has is shown: the rest of the table is as good as before
        for one in values:
            if one[0] in ("objects", "raw", "sparse"):
                self.hidden += 1
                continue
            with suppress(XCargoError, self._pa.ArrowException, AttributeError, LookupError, TypeError, ValueError):
                self._forms[one[-1]] = form_of(self.rows.schema.field(one[-1]), one)

    def _name_index(self, number: Any, name: object) -> None:
        if type(number) is int:
            self._index[number] = "index" if name is None else str(name)


def _histogram(numbers: Any) -> dict[str, Any]:
    """Least, greatest, mean and bins of a numpy array; a bar for each number where they are few whole ones."""
    np = importable("numpy", "a table", extra="ui")
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return {"min": None, "max": None, "mean": None, "bins": []}
    low, high = float(finite.min()), float(finite.max())
    few = high - low < _BINS and not (finite % 1).any()
    bins = np.histogram(finite, bins=int(high - low) + 1 if few else _BINS)[0] if high > low else [finite.size]
    return {"min": repr(low), "max": repr(high), "mean": repr(float(finite.mean())), "bins": [int(n) for n in bins]}
