"""Cells of a table as they are shown: categories, periods, intervals, times in a zone, and everything as text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from xcargo.codecs import ipc
from xcargo.codecs.base import arrow, importable

__all__ = ["Form", "cell_text", "form_of", "labels_of", "python_cells"]

_MAX_CHARS = 200


@dataclass(frozen=True)
class Form:
    """How the cells of a column are shown, where that is not as Arrow has them."""

    type: str = ""
    labels: Any = None
    """Categories by their codes."""
    zone: str = ""
    freq: str = ""
    closed: str = ""

    @property
    def to_text(self) -> bool:
        """Whether its cells are text in place of what is stored: periods and intervals."""
        return bool(self.freq or self.closed)

    def converted(self, column: Any) -> Any:
        """Categories in place of their codes (-1 is a missing one), and times in their zone."""
        pc = importable("pyarrow.compute", "a table", extra="arrow")
        if self.labels is not None:
            inside = pc.and_(pc.greater_equal(column, 0), pc.less(column, len(self.labels)))
            return self.labels.take(pc.if_else(inside, column, None))
        return self._zoned(column) if self.zone and not self.closed else column

    def cells(self, column: Any) -> list[Any]:
        """The cells of some rows: periods as text in place of their ordinals, intervals in place of their ends."""
        if self.freq:
            period = importable("pandas", "a column of periods").Period
            return [None if n is None else str(period(ordinal=n, freq=self.freq)) for n in column.to_pylist()]
        if self.closed:
            pc = importable("pyarrow.compute", "a table", extra="arrow")
            begin = "[" if self.closed in ("left", "both") else "("
            end = "]" if self.closed in ("right", "both") else ")"
            sides = (python_cells(self._zoned(pc.struct_field(column, n))) for n in (0, 1))
            return [None if low is None else f"{begin}{low}, {high}{end}" for low, high in zip(*sides, strict=True)]
        return python_cells(column)

    def _zoned(self, column: Any) -> Any:
        if not self.zone:
            return column
        pc = importable("pyarrow.compute", "a table", extra="arrow")
        return pc.assume_timezone(column, "UTC").cast(arrow().timestamp(column.type.unit, self.zone))


def form_of(field: Any, state: Any = ("",)) -> Form:
    """The form of a column by its Arrow type, registered here or not, and by what a pandas value says of it."""
    pa, kind, metadata = arrow(), field.type, field.metadata or {}
    if state[0] == "category":
        return Form("category", labels=labels_of(state[1]))
    if state[0] == "zoned":
        zone = pa.lib.tzinfo_to_string(state[1])
        return Form(f"timestamp[{kind.unit}, tz={zone}]", zone=zone)
    if state[0] == "intervals":
        zone = pa.lib.tzinfo_to_string(state[1])
        return Form(
            f"interval[timestamp[{kind.field(0).type.unit}, tz={zone}], {state[2]}]", zone=zone, closed=state[2]
        )
    if pa.types.is_dictionary(kind):
        return Form("string" if state[0] in ("text", "nan-text") else "category")
    name = getattr(kind, "extension_name", "") or metadata.get(b"ARROW:extension:name", b"").decode("utf-8", "replace")
    if name not in ("pandas.period", "pandas.interval"):
        return Form()
    try:
        own = kind.__arrow_ext_serialize__() if isinstance(kind, pa.BaseExtensionType) else None
        said = json.loads(own or metadata[b"ARROW:extension:metadata"])
        if name == "pandas.interval":
            return Form(f"interval[{said['subtype']}, {said['closed']}]", closed=str(said["closed"]))
        # Only pandas knows its frequencies: without it their numbers are shown.
        return Form(f"period[{said['freq']}]", freq=str(said["freq"])) if find_spec("pandas") else Form()
    except (LookupError, TypeError, ValueError):
        return Form()


def labels_of(state: Any) -> Any:
    """The labels of a pandas index out of its state, as text. Raises ValueError for what has none."""
    pa = arrow()
    if state[0] == "range":
        return pa.array(list(map(str, range(*state[1:4]))), pa.large_string())
    if state[0] != "values":
        raise ValueError(state[0])
    values = state[1]
    if values[0] in ("objects", "raw"):
        return pa.array([cell_text(cell) for cell in values[1]], pa.large_string())
    table = ipc.read_stream(values[-1])
    form, column = form_of(table.schema.field(0), values), table.column(0).combine_chunks()
    column = column.storage if isinstance(column, pa.ExtensionArray) else column
    return pa.array([cell_text(cell) for cell in form.cells(form.converted(column))], pa.large_string())


def python_cells(column: Any) -> list[Any]:
    """The cells as Python's objects; times that Python has no object for as text."""
    pa = arrow()
    if column.type == pa.time64("ns"):  # of which Python would drop the nanoseconds
        texts = column.cast(pa.large_string()).to_pylist()
        return [text and text.removesuffix(".000000000").removesuffix("000" if "." in text else "") for text in texts]
    try:
        cells: list[Any] = column.to_pylist()
    except (ArithmeticError, LookupError, ValueError):  # far years, unknown zones, nanoseconds without pandas
        return list(map(_python_or_text, column))
    return cells


def _python_or_text(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except (ArithmeticError, LookupError, ValueError):
        try:
            return scalar.cast(arrow().large_string()).as_py()
        except arrow().ArrowException:
            return f"<{scalar.type}>"


def cell_text(value: Any) -> str | None:
    """A cell as text, its beginning if it is long."""
    if value is None:
        return None
    if isinstance(value, (bytes, bytearray)):
        return f"{bytes(value[:32]).hex(' ')}{'…' if len(value) > 32 else ''}"
    text = value if isinstance(value, str) else repr(value) if isinstance(value, float) else str(value)
    return text if len(text) <= _MAX_CHARS else text[:_MAX_CHARS] + "…"
