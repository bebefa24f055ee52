"""SQL over what tasks returned: DuckDB scans all values of a task as one table."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from xcargo.airflow.client.tables import ValueTable, open_table
from xcargo.codecs.base import arrow, importable
from xcargo.errors import ConfigurationError, ObjectNotFoundError, UnsupportedTypeError, XCargoError
from xcargo.model.coordinate import Coordinate
from xcargo.pipeline.prefetch import prefetch_ordered

if TYPE_CHECKING:
    from xcargo.airflow.client.values import StoredValue

__all__ = ["fetch", "query"]

_R = TypeVar("_R")

_IDENTIFIER = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
_PATH = re.compile(rf"{_IDENTIFIER}(?:\s*\.\s*{_IDENTIFIER})*")
_HOW_TO_NAME = 'Write it like this: SELECT * FROM "dag.task"'
_OPEN = 8
"""Values that stay open, each with the 16 MiB at most that were read of it last."""
_AHEAD_BYTES = 64 * 1024 * 1024
"""Of values that are opened before the query comes to them."""
_SAME_TYPES = "Choose runs that returned the same types, with run_id or since."


def query(sql: str, values_of: Callable[[str, str], Iterable[StoredValue]], *, memory_mib: int) -> Any:
    """The result of one SELECT as a DuckDB relation: ``df()``, ``pl()``, ``arrow()``, ``fetchall()``.

    A table in it is named ``"dag.task"``, or ``dag.task`` if both are identifiers. It has the columns of what the task
    returned, and ``run_id``, ``run_date`` and ``map_index``. Only the columns that the query needs are fetched, of the
    values that may meet its conditions.

    Args:
        sql: One SELECT. It reaches no file, network or extension, and no variable of this process.
        values_of: Gives the values of a task, by Dag and task id; none for a task that there is not.
        memory_mib: Most memory for DuckDB's own work.

    Raises:
        ConfigurationError: It is not one SELECT.
        ObjectNotFoundError: There is no value of a task that it names.
        UnsupportedTypeError: A value is no table, or types of a column in two values do not go together.
    """
    return _query(sql, values_of, memory_mib, [])


def fetch(
    sql: str, values_of: Callable[[str, str], Iterable[StoredValue]], *, memory_mib: int, limit: int
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The columns and the first rows of the result of a query, see `query`.

    Raises:
        XCargoError: Also where a value cannot be read, which DuckDB reports as an error of its own.
    """
    duckdb = _duckdb()
    failures: list[XCargoError] = []
    try:
        relation = _query(sql, values_of, memory_mib, failures)
        return relation.columns, relation.limit(limit).fetchall()
    except duckdb.Error as error:
        if not failures:
            raise ConfigurationError(f"DuckDB refuses the query: {error}") from error
    raise failures.pop()


def _duckdb() -> Any:
    return importable("duckdb", "SQL over stored tables", extra="sql")


def _query(
    sql: str, values_of: Callable[[str, str], Iterable[StoredValue]], memory_mib: int, failures: list[XCargoError]
) -> Any:
    duckdb = _duckdb()
    # Without a folder for what does not fit into memory: that would be a file, too.
    database = duckdb.connect(":memory:", config={"memory_limit": f"{memory_mib}MiB", "temp_directory": ""})
    for name in ("enable_external_access", "autoinstall_known_extensions", "autoload_known_extensions"):
        database.execute(f"SET {name} = false")
    sql, names = _tables(database, sql)
    for name in sorted(names):
        table = _TaskTable(_named(name, values_of), failures)
        try:
            database.register(name, table.dataset())
        except duckdb.Error as error:
            raise UnsupportedTypeError(f"DuckDB does not take the table {name!r}: {error}") from error
    database.execute("SET python_enable_replacements = false")
    database.execute("SET lock_configuration = true")
    return database.sql(sql)


def _tables(database: Any, sql: str) -> tuple[str, set[str]]:
    """The query with each table's name in quotes, and these names. ConfigurationError if it is not one SELECT."""
    parsed = json.loads(database.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()[0][0])
    if parsed["error"] or len(parsed["statements"]) != 1:
        reason = parsed.get("error_message", f"it has {len(parsed.get('statements', ()))} statements")
        raise ConfigurationError(f"The query is not one SELECT: {reason}", hint=f"{_HOW_TO_NAME}.")
    tables: list[dict[str, Any]] = []
    in_query: set[str] = set()  # named by WITH, in small letters: SQL takes no notice of them
    nodes: list[Any] = [parsed["statements"]]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            if node.get("type") == "BASE_TABLE":
                tables.append(node)
            in_query.update(entry["key"].lower() for entry in (node.get("cte_map") or {}).get("map", ()))
        nodes += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    names = {node["table_name"] for node in tables if not node["schema_name"]}
    names = {name for name in names if name.lower() not in in_query}
    text = sql.encode()
    for node in sorted((node for node in tables if node["schema_name"]), key=lambda node: -node["query_location"]):
        name, text = _in_quotes(text, node["query_location"], alias=not node["alias"])
        names.add(name)
    if len({name.lower() for name in names}) < len(names):
        raise ConfigurationError(
            "The query names tables that only upper and lower case tell apart, which SQL does not",
            hint="Query one of them at a time.",
        )
    return text.decode(), names


def _in_quotes(text: bytes, at: int, *, alias: bool) -> tuple[str, bytes]:
    """The name of a task that is written as a path, ``dag.group.task``, and the query with it in quotes."""
    path = _PATH.match(text[at:].decode())
    if path is None:  # or a comment is between its parts, or it is in a DESCRIBE
        raise ConfigurationError("The query names a table in a way that is not understood", hint=f"{_HOW_TO_NAME}.")
    parts = [part.strip('"').replace('""', '"') for part in re.findall(_IDENTIFIER, path[0])]
    name = ".".join(parts)
    quoted = _quoted(name) + (f" AS {_quoted(parts[-1])}" if alias else "")
    return name, text[:at] + quoted.encode() + text[at + len(path[0].encode()) :]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _named(name: str, values_of: Callable[[str, str], Iterable[StoredValue]]) -> list[StoredValue]:
    """The values of the task that a table is named after. Ids of Dags and tasks may both have dots."""
    parts = name.split(".")
    for dots in range(1, len(parts)):
        values = list(values_of(".".join(parts[:dots]), ".".join(parts[dots:])))
        if values:
            return values
    raise ObjectNotFoundError(
        f"There is no value of a task {name!r}", hint='A table is named by Dag and task, in quotes: FROM "dag.task".'
    )


class _TaskTable:
    """All values of a task, one below the other. Methods may be called from many threads, as DuckDB does.

    Further columns are ``run_id``, ``run_date`` and ``map_index``; where the task returned such a column,
    ``xcargo_run_id`` and so on.
    """

    def __init__(self, values: Sequence[StoredValue], failures: list[XCargoError]) -> None:
        pa = arrow()
        self._values = values
        self._failures = failures
        self._opened = lru_cache(_OPEN)(self._open)
        names: dict[str, str] = {}  # SQL does not tell City from city
        schemas = []
        for types in self._prefetched(range(len(values)), lambda number: self._opened(number).types):
            fields = [(names.setdefault(name.lower(), name), kind) for name, kind in types.items()]
            schemas.append(pa.schema(fields))
        at = f"dag {values[0].dag_id!r}, task {values[0].task_id!r}"
        if not names:
            hint = "Choose runs that returned a record, with run_id or since."
            raise UnsupportedTypeError("Each value is empty, so the columns are not known", where=at, hint=hint)
        try:
            schema = pa.unify_schemas(schemas, promote_options="permissive")
        except pa.ArrowException as error:
            raise UnsupportedTypeError(f"The values make no table: {error}", where=at, hint=_SAME_TYPES) from error
        kinds = {"run_id": pa.string(), "run_date": pa.timestamp("us", "UTC"), "map_index": pa.int32()}
        self._own = {f"xcargo_{name}" if name in names else name: name for name in kinds}
        self.schema = pa.schema([*schema, *((name, kinds[known]) for name, known in self._own.items())])

    def dataset(self) -> Any:
        """What DuckDB scans."""
        table, pa = self, arrow()

        class Scanned(importable("pyarrow.dataset", "a table").Dataset):  # type: ignore[misc]
            """As much of a pyarrow Dataset as DuckDB uses."""

            schema = table.schema

            def __init__(self) -> None:
                """Unlike those of pyarrow, which C++ makes."""

            def scanner(self, columns: Sequence[str] | None = None, filter: Any = None, **_: Any) -> Any:  # noqa: A002
                names = table.schema.names if columns is None else columns
                schema = pa.schema([table.schema.field(name) for name in names])
                reader = pa.RecordBatchReader.from_batches(schema, table.scan(names, filter))
                return SimpleNamespace(to_reader=lambda: reader)

        return Scanned()

    def scan(self, names: Sequence[str], condition: Any) -> Iterator[Any]:
        """Record batches of these columns, in order, with the rows that meet a condition."""
        try:
            yield from self._batches(names, condition)
        except XCargoError as error:
            self._failures.append(error)
            raise error.with_traceback(None) from None  # DuckDB puts the traceback into its message

    def _batches(self, names: Sequence[str], condition: Any) -> Iterator[Any]:
        pa, tested = arrow(), []
        if condition is not None:  # pyarrow does not say which columns it has
            tested = [name for name in self.schema.names if name in str(condition)]
        needed = dict.fromkeys([*tested, *names])
        possible = self._possible(condition)
        for number, table in self._prefetched(possible, lambda number: (number, self._opened(number))):
            column_of = {name.lower(): name for name in table.types}
            stored = {name: column_of[name.lower()] for name in needed if name.lower() in column_of}
            with self._naming(number):
                for count, read in table.ranges(stored.values()):
                    arrays: dict[str, Any] = {}
                    for name in needed:
                        if tested and len(arrays) == len(tested) and not pa.table(arrays).filter(condition).num_rows:
                            break  # of these rows no other column is read
                        if name in self._own:
                            arrays[name] = pa.repeat(self._scalar(number, name), count)
                        elif name in stored:
                            arrays[name] = self._cast(read(stored[name]), name)
                        else:
                            arrays[name] = pa.nulls(count, self.schema.field(name).type)
                    else:
                        rows = pa.table(arrays)
                        yield from (rows if condition is None else rows.filter(condition)).select(names).to_batches()

    def _open(self, number: int) -> ValueTable:
        with self._naming(number):
            return open_table(self._values[number])

    @contextmanager
    def _naming(self, number: int) -> Iterator[None]:
        """Errors name the value that they are about."""
        try:
            yield
        except XCargoError as error:
            value = self._values[number]
            error.at(Coordinate(value.dag_id, value.run_id, value.task_id, value.key, value.map_index))
            raise

    def _cast(self, array: Any, name: str) -> Any:
        kind = self.schema.field(name).type
        try:
            return array.cast(kind)
        except arrow().ArrowException:  # whose message may show a value
            what = f"Column {name!r} holds a value that does not fit into {kind}, the column's type over all runs"
            raise UnsupportedTypeError(what, hint=_SAME_TYPES) from None

    def _possible(self, condition: Any) -> Iterable[int]:
        """Values of which a row may meet a condition, by what it asks of run and map index. Reads nothing."""
        if condition is None:
            return range(len(self._values))
        return (int(fragment.path) for fragment in self._fragments.get_fragments(filter=condition))

    @cached_property
    def _fragments(self) -> Any:
        """The values as a dataset of files that are never opened, for pyarrow to choose among."""
        ds, fs = importable("pyarrow.dataset", "a table"), importable("pyarrow.fs", "a table").LocalFileSystem()
        form = ds.IpcFileFormat()

        def fragment(number: int) -> Any:
            known = [(ds.field(name), self._scalar(number, name)) for name in self._own]
            same = [field == scalar if scalar.is_valid else field.is_null() for field, scalar in known]
            return form.make_fragment(str(number), fs, partition_expression=same[0] & same[1] & same[2])

        return ds.FileSystemDataset(list(map(fragment, range(len(self._values)))), self.schema, form, fs)

    def _scalar(self, number: int, name: str) -> Any:
        return arrow().scalar(getattr(self._values[number], self._own[name]), self.schema.field(name).type)

    def _prefetched(self, numbers: Iterable[int], load: Callable[[int], _R]) -> Iterator[_R]:
        size = lambda number: self._values[number].size_bytes  # noqa: E731
        return prefetch_ordered(numbers, load, size_bytes=size, workers=_OPEN, window_bytes=_AHEAD_BYTES)
