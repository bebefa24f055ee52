"""Pages of a table: rows and columns that are on the screen, sorted and filtered, and how a column is distributed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from xcargo.codecs import ipc
from xcargo.codecs.base import arrow, importable
from xcargo.codecs.registry import Registry
from xcargo.errors import DecodeError, UnsupportedTypeError, XCargoError
from xcargo.explorer.payload import Payload
from xcargo.explorer.rows import Rows

__all__ = ["MOST_CELLS", "OPERATORS", "Table", "cell"]

MOST_CELLS = 10_000
"""Cells of one page."""

OPERATORS = ("contains", "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "null", "not_null")
"""What a filter may ask of a column."""

_MOST_MATCHES = 5_000_000
_SCAN_ROWS = 131_072
_SAMPLED_ROWS = 10_000
_SAMPLES = 20
_BINS = 20
_CHARS = 200


class Table:
    """A stored table or frame. Raises UnsupportedTypeError for what none of its columns can be shown of."""

    def __init__(self, payload: Payload, **known: Any) -> None:
        """``known`` is what Rows take beside the payload."""
        self._pa = arrow()
        self._pc = importable("pyarrow.compute", "a table", extra="arrow")
        self._payload = payload
        self.rows = Rows(payload, **known)
        self._categories: dict[int, Any] = {}
        self.hidden: list[str] = []
        """Labels of columns that lie in no Arrow column: Python objects of a pandas frame."""
        state = (self.rows.schema.metadata or {}).get(b"xcargo")
        if state is not None:
            self._pandas(state)

    @property
    def columns(self) -> list[dict[str, Any]]:
        """Name, type and number of each column; ``index`` of those that are a frame's index."""
        told: list[dict[str, Any]] = []
        for number, field in enumerate(self.rows.schema):
            kind = "category" if number in self._categories else str(field.type)[:80]
            told.append({"number": number, "name": field.name[:200], "type": kind, "align": self._align(number)})
            if field.name.startswith("__index_level_"):
                told[-1]["index"] = True
        return told

    def page(self, start: int, count: int, columns: Sequence[int], order: Any = None) -> dict[str, Any]:
        """Cells of some rows and columns as text, None for a missing one. ``order`` comes from :meth:`order`."""
        total = self.rows.count if order is None else len(order)
        start = min(max(start, 0), total)
        count = max(0, min(count, total - start, MOST_CELLS // max(1, len(columns))))
        if order is None:
            numbers = list(range(start, start + count))
            read = [self._column(number, start, start + count, cut=True).to_pylist() for number in columns]
        else:
            numbers = order.slice(start, count).to_pylist()
            read = [self._at(number, numbers) for number in columns]
        return {
            "total": total,
            "rows": self.rows.count,
            "start": start,
            "numbers": numbers,
            "cells": [[cell(value) for value in column] for column in read],
        }

    def order(self, filters: Sequence[Mapping[str, Any]], sort: int | None, *, descending: bool) -> Any:
        """Numbers of the rows that pass all filters, in order. Reads the columns asked for, a piece at a time.

        Raises TooLargeError when the column to sort by, or the rows found, take more memory than a look may.
        """
        found = self._matching(filters) if filters else None
        if sort is None:
            return found
        self._known(sort)
        # Before the beginnings of all batches are read for the size of the column.
        self._payload.budget.fits(8 * self.rows.count, "The order of all rows")
        self._payload.budget.fits(self.rows.column_bytes(sort) + 8 * self.rows.count, "The column to sort by")
        pieces = []
        for start in range(0, self.rows.count, _SCAN_ROWS):
            self._payload.budget.check()
            pieces.append(self._column(sort, start, start + _SCAN_ROWS, cut=True).combine_chunks())
        column = self._pa.chunked_array(pieces) if pieces else self._column(sort, 0, 0)
        if found is not None:
            column = column.take(found)
        try:
            places = self._pc.sort_indices(
                self._pa.table({"key": column}),
                sort_keys=[("key", "descending" if descending else "ascending")],
            )
        except (self._pa.ArrowException, TypeError) as error:
            raise UnsupportedTypeError(
                f"A column of type {str(column.type)[:80]} has no order", hint="Sort by another one."
            ) from error
        return places if found is None else found.take(places)

    def distribution(self, number: int) -> dict[str, Any]:
        """How a column's values are spread: of all rows of a small table, else of 20 samples from all over it."""
        self._known(number)
        total = self.rows.count
        size = total if total <= _SAMPLED_ROWS else _SAMPLED_ROWS // _SAMPLES
        steps = 1 if total <= _SAMPLED_ROWS else _SAMPLES
        values: list[Any] = []
        for n in range(steps):
            start = 0 if steps == 1 else (total - size) * n // (steps - 1)
            values += self._column(number, start, start + size, cut=True).to_pylist()
        present = [value for value in values if value is not None and value == value]
        told: dict[str, Any] = {"sampled": len(values), "rows": total, "missing": len(values) - len(present)}
        if present and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in present):
            return told | _numbers(present)
        numbers = [_seconds(value) for value in present]
        if present and None not in numbers:
            told |= _numbers([number for number in numbers if number is not None])
            return told | {"min": str(min(present)), "max": str(max(present)), "mean": None}
        counts: dict[str, int] = {}
        for value in present:
            text = str(cell(value))
            counts[text] = counts.get(text, 0) + 1
        top = sorted(counts.items(), key=lambda item: -item[1])[:5]
        return told | {"distinct": len(counts), "top": [{"value": text, "count": count} for text, count in top]}

    def _column(self, number: int, start: int, stop: int, *, cut: bool = False) -> Any:
        column = self.rows.column(self._known(number), start, stop, cut=cut)
        categories = self._categories.get(number)
        return column if categories is None else self._named(column, categories)

    def _at(self, number: int, rows: Sequence[int]) -> list[Any]:
        values = self.rows.at(self._known(number), rows)
        categories = self._categories.get(number)
        if categories is None:
            return values
        codes = self._pa.chunked_array([self._pa.array(values, self._pa.int64())])
        named: list[Any] = self._named(codes, categories).to_pylist()
        return named

    def _named(self, codes: Any, categories: Any) -> Any:
        """Categories in place of their codes; -1 is a missing one."""
        pc = self._pc
        inside = pc.and_(pc.greater_equal(codes, 0), pc.less(codes, len(categories)))
        return categories.take(pc.if_else(inside, codes, None))

    def _known(self, number: int) -> int:
        if not 0 <= number < len(self.rows.schema):
            raise DecodeError(f"The table has {len(self.rows.schema)} columns")
        return number

    def _align(self, number: int) -> str:
        kind, types = self.rows.schema.field(number).type, self._pa.types
        numeric = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
        return "end" if numeric and number not in self._categories else "start"

    def _matching(self, filters: Sequence[Mapping[str, Any]]) -> Any:
        pa, pc = self._pa, self._pc
        found, total = [], 0
        for start in range(0, self.rows.count, _SCAN_ROWS):
            self._payload.budget.check()
            mask = None
            for one in filters:
                column = self._column(int(one["column"]), start, start + _SCAN_ROWS)
                passed = pc.fill_null(self._passed(column, str(one.get("operator")), str(one.get("value", ""))), False)
                mask = passed if mask is None else pc.and_(mask, passed)
            places = pc.add(pc.cast(pc.indices_nonzero(mask), pa.int64()), start)
            total += len(places)
            if total > _MOST_MATCHES:
                raise UnsupportedTypeError(f"More than {_MOST_MATCHES} rows pass the filter", hint="Filter for less.")
            found.append(places)
        return pa.concat_arrays(found) if found else pa.array([], pa.int64())

    def _passed(self, column: Any, operator: str, text: str) -> Any:
        pa, pc = self._pa, self._pc
        if operator not in OPERATORS:
            raise DecodeError(f"There is no filter {operator[:40]!r}; there are {', '.join(OPERATORS)}")
        if operator == "null":
            return pc.is_null(column, nan_is_null=pa.types.is_floating(column.type))
        if operator == "not_null":
            return pc.is_valid(column)
        try:
            if operator == "contains":
                return pc.match_substring(pc.cast(column, pa.large_string()), text, ignore_case=True)
            return getattr(pc, operator)(column, pa.scalar(text).cast(column.type))
        except (pa.ArrowException, NotImplementedError, TypeError) as error:
            raise UnsupportedTypeError(
                f"A column of type {str(column.type)[:80]} cannot be compared with {text[:40]!r}",
                hint="Write a value of the column's type (a date as 2026-01-31), or filter another column.",
            ) from error

    def _pandas(self, packed: bytes) -> None:
        """What a frame's own description adds: categories, and which labels have no column."""
        try:
            kind, state = Registry(entry_points=False).tree.unpack(packed)
            columns = state["columns"] if kind == "frame" else [state["values"]] if kind == "series" else []
            for column in columns:
                if column[0] == "category":
                    self._categories[column[3]] = _labels(column[1])
                elif column[0] in ("objects", "raw", "sparse"):
                    self.hidden.append(column[0])
        except (XCargoError, LookupError, TypeError, ValueError):
            self._categories = {}  # then codes are shown: the rest of the table is as good as before


def _labels(state: Any) -> Any:
    """Categories out of the state of a pandas index, as text; numbers in place of what has none."""
    if state[0] == "values" and isinstance(state[1][-1], bytes):
        pc = importable("pyarrow.compute", "a table", extra="arrow")
        column = ipc.read_stream(state[1][-1]).column(0).combine_chunks()
        return pc.cast(column, arrow().large_string())
    if state[0] == "range":
        return arrow().array(list(map(str, range(*state[1:4]))), arrow().large_string())
    raise ValueError(state[0])


def cell(value: Any) -> str | None:
    """A cell as text, its beginning if it is long."""
    if value is None:
        return None
    if isinstance(value, (bytes, bytearray)):
        return f"{bytes(value[:32]).hex(' ')}{'…' if len(value) > 32 else ''}"
    text = value if isinstance(value, str) else repr(value) if isinstance(value, float) else str(value)
    return text if len(text) <= _CHARS else text[:_CHARS] + "…"


def _seconds(value: Any) -> float | None:
    """A date or time as a number; None for anything else."""
    if hasattr(value, "total_seconds"):
        return float(value.total_seconds())
    if hasattr(value, "timestamp"):
        try:
            return float(value.timestamp())
        except (OSError, OverflowError, ValueError):
            return None
    return float(value.toordinal()) if hasattr(value, "toordinal") else None


def _numbers(values: Sequence[float]) -> dict[str, Any]:
    """Least, greatest, mean and a histogram."""
    finite = [float(value) for value in values if math.isfinite(value)]
    if not finite:
        return {"min": None, "max": None, "mean": None, "bins": []}
    low, high = min(finite), max(finite)
    count = _BINS
    if high - low < _BINS and all(value.is_integer() for value in finite):
        count = int(high - low) + 1  # a bar for each number
    bins = [0] * (count if high > low else 1)
    for value in finite:
        bins[min(int((value - low) / (high - low) * len(bins)), len(bins) - 1) if high > low else 0] += 1
    return {"min": repr(low), "max": repr(high), "mean": repr(math.fsum(finite) / len(finite)), "bins": bins}
