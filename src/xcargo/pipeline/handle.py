"""A handle of a value that was not loaded: what is known of it, and the parts of it that a task needs."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from xcargo.codecs.base import Encoded, Handle, arrow, importable
from xcargo.codecs.source import Source, open_seekable
from xcargo.errors import UnsupportedTypeError, XCargoError
from xcargo.model.envelope import Envelope
from xcargo.transfer.reporting import format_bytes
from xcargo.transfer.writer import payload_suffix

if TYPE_CHECKING:
    from xcargo.codecs.registry import Registry
    from xcargo.codecs.table_file import TableFile

__all__ = ["REUSED", "Lazy", "Reused", "ReusedDict", "ReusedList"]


class Lazy(Handle):
    """A stored value that was not downloaded. Each method fetches and verifies only what it needs, when you call it.

    A task that returns it hands the value on: the next task gets the value itself, or a handle if it asks for one.
    """

    def __init__(self, registry: Registry, envelope: Envelope, source: Callable[[], Source]) -> None:
        self._registry = registry
        self._envelope = envelope
        self._source = source
        self.origin: Mapping[str, Any] = {}
        """For a push, which notes it: the task instance that computed the value, if it is reused."""

    @property
    def type(self) -> str:
        """Name of the value's type, such as ``pandas.DataFrame``."""
        return self._envelope.type

    @property
    def is_stored(self) -> bool:
        """Whether the value is in an object, rather than in its row."""
        return self._envelope.uri is not None

    @property
    def size_bytes(self) -> int:
        """Length of the value's payload, before compression."""
        return self._envelope.size_bytes

    @property
    def stored_bytes(self) -> int:
        """Length of the stored object."""
        return self._envelope.stored_bytes

    @property
    def preview(self) -> str | None:
        """The beginning of the value as text, as the XCom tab shows it."""
        return self._envelope.preview

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of a table or array."""
        shape = self._envelope.params.get("shape")
        return tuple(shape) if shape is not None else None

    @property
    def columns(self) -> Mapping[str, str] | None:
        """Names and types of a table's first columns."""
        return self._envelope.params.get("columns")

    def load(self) -> Any:
        """The value itself, as a pull without a handle returns it."""
        try:
            return self._registry.open(self._envelope.codec, self._source(), self._envelope.params)
        except XCargoError as error:
            self._envelope.explain(error)
            raise

    @property
    def identity(self) -> list[Any]:
        """Equal for two stored values only if these are equal. (Of equal values that were encrypted it differs.)"""
        envelope = self._envelope
        stored = envelope.checksum or envelope.data
        return [envelope.codec, dict(envelope.params), envelope.compression, envelope.size_bytes, stored]

    def encoded(self) -> Encoded:
        """For a push, which hands the payload on as it is stored."""
        envelope, source = self._envelope, self._source()
        return Encoded(envelope.codec, source.iter_chunks(), envelope.params, payload_suffix(envelope), stored=source)

    def open(self) -> io.BufferedReader:
        """The payload as a seekable binary file: a file's or stream's own bytes, an array's memory, an Arrow file."""
        return open_seekable(self._source())

    def to_arrow(self, columns: Sequence[str] | None = None, rows: slice | None = None) -> Any:
        """Columns and rows of a table as a ``pyarrow.Table``. Fetches only these columns, of batches with these rows.

        A reader or LazyFrame is stored in the batches that it produced, a table in its chunks, a frame mostly as a
        single batch.

        Args:
            columns: Names of the columns; all of them by default.
            rows: A slice without a step, counted from the start of the table.

        Raises:
            KeyError: There is no such column; the message lists those of the table.
        """
        try:
            return self._to_arrow(columns, None if rows is None else _row_range(rows))
        except XCargoError as error:
            self._envelope.explain(error)
            raise

    def _to_arrow(self, columns: Sequence[str] | None, rows: slice | None) -> Any:
        if self.type == "pandas.DataFrame":
            codec: Any = self._registry.codec("pandas")
            frame = codec.columns(self._source(), self._envelope.params, columns)
            pa = arrow()
            try:
                return pa.Table.from_pandas(frame if rows is None else frame.iloc[rows])
            except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
                # What Arrow says first may quote a cell; its second sentence, if there is one, names the column.
                named = isinstance(error, pa.ArrowException) and len(error.args) == 2
                why = error.args[1] if named else type(error).__name__
                raise UnsupportedTypeError(f"Arrow cannot hold the frame: {why}", hint="load() it.") from None
        table = self._table()
        table.register_types(self._envelope.params.get("extensions"))
        return table.table(columns, rows)

    def scan(self, engine: Literal["polars", "pyarrow", "duckdb"] = "polars") -> Any:
        """A table to query: a polars LazyFrame, a pyarrow Dataset or a DuckDB relation.

        Each query fetches only the columns that it needs, batch by batch, and can be run again.
        """
        from xcargo.codecs.table_file import dataset, scan

        if engine == "pyarrow":
            return dataset(self._table())
        if engine == "duckdb":
            return importable("duckdb", "to be queried with DuckDB").from_arrow(self.scan("pyarrow"))
        if engine != "polars":
            raise ValueError(f"scan() takes 'polars', 'pyarrow' or 'duckdb', not {engine!r}")
        return scan(self._table())

    def _table(self) -> TableFile:
        if self._envelope.codec not in ("arrow", "arrow-stream"):
            raise UnsupportedTypeError(
                f"A value of type {self.type} cannot be queried in the store",
                hint="Take columns of a pandas.DataFrame with to_arrow(columns=[...]); load() anything else.",
            )
        from xcargo.codecs.table_file import TableFile

        return TableFile(self._source())

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        raise self._not_loaded()

    def __iter__(self) -> Any:
        raise self._not_loaded()

    def __getitem__(self, key: object) -> Any:
        raise self._not_loaded()

    def __reduce__(self) -> Any:
        raise self._not_loaded()

    def _not_loaded(self) -> UnsupportedTypeError:
        return UnsupportedTypeError(
            f"This is a handle of a {self.type}, not the value",
            hint="load() it first. (In a Dag, expand over the task itself, or over xcargo.lazy of a mapped one.)",
        )

    def __repr__(self) -> str:
        return f"<xcargo.Lazy {self.type}, {self.size_bytes} bytes>"

    def _repr_html_(self) -> str:
        """What Jupyter shows: type, size, columns and preview."""
        shape = "" if self.shape is None else " × ".join(map(str, self.shape))
        about = " · ".join(filter(None, (self.type, shape, format_bytes(self.size_bytes))))
        columns = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(kind))}</td></tr>"
            for name, kind in (self.columns or {}).items()
        )
        table = f"<table><tr><th>column</th><th>type</th></tr>{columns}</table>" if columns else ""
        preview = f"<pre>{html.escape(self.preview)}</pre>" if self.preview else ""
        return f"<b>{html.escape(about)}</b>{table}{preview}"


def _row_range(rows: Any) -> slice:
    """The same slice, which ends no earlier than it starts."""
    if not isinstance(rows, slice) or rows.step not in (None, 1) or (rows.start or 0) < 0 or (rows.stop or 0) < 0:
        raise ValueError("rows is a slice of rows from the table's start, without a step: slice(0, 100)")
    return slice(rows.start, None if rows.stop is None else max(rows.start or 0, rows.stop))


class Reused:
    """A result that was copied already: it is pushed as the row of the copy.

    A decorator above memoize gets it too; looking into it is an error that says what to do.
    """

    def __init__(self, row: Any) -> None:
        self.row = row

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"{name} of a result that is reused, and therefore not loaded: a decorator that looks at the result has to "
            "stand below @xcargo.memoize"
        )

    def __getitem__(self, key: object) -> NoReturn:
        self.__getattr__(f"Item {key!r:.40}")

    def __len__(self) -> NoReturn:
        self.__getattr__("Length")

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<reused {self.row.get('type')}, {self.row.get('size_bytes')} bytes>"


class ReusedDict(dict[str, Any]):
    """The same where Airflow looks into it: outputs by their keys, or what another task is expanded over."""

    def __init__(self, value: dict[str, Any], row: Any) -> None:
        super().__init__(value)
        self.row = row


class ReusedList(list[Any]):
    """The same of a list that another task is expanded over."""

    def __init__(self, value: list[Any], row: Any) -> None:
        super().__init__(value)
        self.row = row


REUSED = (Reused, ReusedDict, ReusedList)
