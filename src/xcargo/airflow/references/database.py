"""Live references, and rows themselves, out of the metadata database."""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from xcargo.airflow import compat, load_backend
from xcargo.airflow.references import tables
from xcargo.airflow.references.tables import STATE_MARKER, ValueFilter, XComTable
from xcargo.errors import ConfigurationError, ReferencesUnavailableError, SweepRefusedError
from xcargo.lifecycle.references import EVERYTHING, Reference, Run, XComFilter, XComRow, parse_time, reference_in
from xcargo.model.coordinate import Coordinate, State
from xcargo.model.envelope import is_envelope

__all__ = ["DatabaseReferences", "DatabaseRowWriter"]

_LOCK_NAME = "xcargo-migrate"
_LOCK_NUMBER = int.from_bytes(b"xcargo", "big")
_METASTORE = "airflow.state.metastore.MetastoreBackend"
_NO_REGION = str(uuid.UUID(int=0))


class DatabaseReferences:
    """Live references from the tables that Airflow reads, then from the archives of ``airflow db clean``.

    Live tables are read page by page along their primary key: no transaction stays open meanwhile, and memory holds a
    page. A row that moves from a live table into an archive meanwhile is read from one of them. One query for
    ``page_rows`` rows that match. Every method raises ReferencesUnavailableError if a query fails.
    """

    hides_attempts = hides_dags = False

    def __init__(self, engine: Any = None, *, schema: str | None = None, page_rows: int = 1000) -> None:
        if engine is None:
            engine, schema = _metadata_engine()
        self.engine = engine
        self.schema = schema
        self._page_rows = page_rows

    @property
    def hides_state(self) -> bool:
        """Whether ``[state_store] backend`` keeps the rows of the state store somewhere else."""
        return compat.conf().get("state_store", "backend", fallback=None) not in (None, "", _METASTORE)

    @property
    def origin(self) -> Mapping[str, str]:
        url = self.engine.url
        port = f":{url.port}" if url.port else ""
        schema = f", schema {self.schema}" if self.schema else ""
        return {"database": f"{self.engine.dialect.name}://{url.host or ''}{port}/{url.database or ''}{schema}"}

    def iterate(self, where: XComFilter = EVERYTHING) -> Iterator[Reference]:
        """Every reference in the rows that match, those of archives last."""
        for row in self.rows(where, only_envelopes=True):
            reference = reference_in(row)
            if reference is not None:
                yield reference

    def runs(self, where: XComFilter = EVERYTHING) -> Iterator[Run]:
        """Every Dag run."""
        with _mapping_errors():
            table, columns = tables.run_table(sa.inspect(self.engine), self.schema)
        query = sa.select(*(column.label(name) for name, column in columns.items())).select_from(table)
        of_runs = XComFilter(where.dag_id, where.run_id)
        for name, pattern in (("dag_id", where.dag_id), ("run_id", where.run_id)):
            if pattern is not None:
                query = query.where(tables.matches(columns[name], pattern))
        for fields in self._pages(query, (columns["id"],), ("id",)):
            run = _run(fields)
            if run is not None and of_runs.matches(Coordinate(run.dag_id, run.run_id, "", "")):
                yield run

    def rows(self, where: XComFilter = EVERYTHING, *, only_envelopes: bool = False) -> Iterator[XComRow]:
        """The rows that match, those of archives last."""
        return self.select(where, ValueFilter(envelopes=True) if only_envelopes else None, archived=True)

    def select(
        self, where: XComFilter, values: ValueFilter | None = None, *, archived: bool = False
    ) -> Iterator[XComRow]:
        """The rows that match and whose value does. Of archives only if ``archived``.

        Raises:
            ReferencesUnavailableError: There is no table of XComs, or a query fails.
        """
        with _mapping_errors():
            live = list(tables.live_tables(sa.inspect(self.engine), self.schema))
        if not live:
            raise ReferencesUnavailableError(
                "The metadata database has no table of XComs",
                where=self.engine.url.render_as_string(hide_password=True),
                hint="Run this where Airflow's own commands run, or check [database] sql_alchemy_conn.",
            )
        for table in live:
            if where.state in (None, table.kind == "state"):
                yield from self._rows_of(table, where, values)
        if archived:  # looked for only now: a row that has left the tables above is in one of these
            with _mapping_errors():
                archives = list(tables.archives(sa.inspect(self.engine), self.schema))
            for table in archives:
                if where.state in (None, table.kind == "state"):
                    yield from self._rows_of(table, where, values)

    def current(self, row: XComRow) -> Any:
        """The value of a row now; None if the row is gone. One query."""
        with _mapping_errors():
            for table in tables.live_tables(sa.inspect(self.engine), self.schema):
                if table.name == row.source:
                    query = sa.select(table.raw).select_from(table.table).where(*table.is_row(row.identity))
                    with self.engine.connect() as connection:
                        fields = connection.execute(query).first()
                    return None if fields is None else _parsed(fields[0], table.kind)
        return row.value  # archives are never changed

    @contextmanager
    def exclusive(self) -> Iterator[DatabaseRowWriter]:
        """The one writer of rows that this deployment can have at a time, while the block lasts.

        Raises:
            SweepRefusedError: Another process has it.
            ReferencesUnavailableError: The database went away.
        """
        with _mapping_errors(), self.engine.connect() as connection, _advisory_lock(connection):
            live = {table.name: table for table in tables.live_tables(sa.inspect(connection), self.schema)}
            connection.commit()
            yield DatabaseRowWriter(connection, live)

    def _rows_of(self, table: XComTable, where: XComFilter, values: ValueFilter | None) -> Iterator[XComRow]:
        conditions = table.conditions(where)
        if values is not None:
            conditions.append(table.value_matches(values))
        identity = [f"id{n}" for n in range(len(table.primary_key))]
        query = (
            sa.select(
                table.raw.label("value"),
                *(column.label(name) for name, column in table.columns.items()),
                *(column.label(name) for name, column in zip(identity, table.primary_key, strict=True)),
            )
            .select_from(table.source)
            .where(*conditions)
        )
        pages = self._pages(query, table.primary_key, identity) if identity else self._streamed(query)
        for fields in pages:
            attempt, region = _uuid(fields["attempt"]), _uuid(fields.get("region"))
            coordinate = Coordinate(
                fields["dag_id"] or "",
                fields["run_id"] or "",
                fields["task_id"] or "",
                fields["key"],
                -1 if fields["map_index"] is None else int(fields["map_index"]),
                attempt,
                None
                if table.kind != "state"
                else State(None if region == _NO_REGION else region, fields["asset"], uri=fields["uri"]),
            )
            if where.matches(coordinate) or fields["dag_id"] is None:
                yield XComRow(
                    coordinate,
                    _parsed(fields["value"], table.kind),
                    table.name,
                    _run(fields),
                    fields["value"],
                    tuple(fields[name] for name in identity),
                )

    def _pages(self, query: Any, key: tuple[Any, ...], names: Any) -> Iterator[Mapping[str, Any]]:
        """The rows of a query along a key, a page at a time."""
        query = query.order_by(*key).limit(self._page_rows)
        last: tuple[Any, ...] | None = None
        while True:
            page = query
            if last is not None:
                # The first part again by itself, since not every database uses an index for rows of values.
                page = query.where(key[0] >= last[0], _after(key, last))
            with _mapping_errors(), self.engine.connect() as connection:
                rows = [dict(row) for row in connection.execute(page).mappings()]
            yield from rows
            if len(rows) < self._page_rows:
                return
            last = tuple(rows[-1][name] for name in names)

    def _streamed(self, query: Any) -> Iterator[Mapping[str, Any]]:
        """The rows of a query in one go, through a cursor of the server's."""
        with _mapping_errors(), self.engine.connect() as connection:
            streaming = connection.execution_options(stream_results=True, max_row_buffer=self._page_rows)
            for row in streaming.execute(query).mappings():
                yield dict(row)


class DatabaseRowWriter:
    """Changes rows through the connection that holds the deployment's lock: without the one there is no other."""

    def __init__(self, connection: Any, live: Mapping[str, XComTable]) -> None:
        self._connection = connection
        self._live = live

    def switch(self, row: XComRow, value: Any) -> bool:
        """Put a value into a row if the row still holds what was read. Returns whether it did. One statement.

        Args:
            row: As it was read.
            value: JSON, or bytes for Airflow 2. Nothing else of the row changes. In the state store, an envelope is
                marked as what a backend gave, and anything else is stored as Airflow does without a backend.
        """
        table = self._live[row.source]
        raw = value if isinstance(value, bytes) or table.kind in ("json", "jsonb") else json.dumps(value)
        if table.kind == "state" and is_envelope(value):
            raw = json.dumps({STATE_MARKER: raw})
        is_unchanged = (*table.is_row(row.identity), table.holds(row.raw))
        with _mapping_errors():
            result = self._connection.execute(
                sa.update(table.table).where(*is_unchanged).values({table.value: table.literal(raw)})
            )
            self._connection.commit()
        return bool(result.rowcount == 1)


def _after(key: tuple[Any, ...], last: tuple[Any, ...]) -> Any:
    if len(key) == 1:
        return key[0] > last[0]
    return sa.tuple_(*key) > sa.tuple_(
        *(sa.bindparam(None, value, type_=c.type) for c, value in zip(key, last, strict=True))
    )


def _uuid(value: Any) -> str | None:
    """A UUID as any of the databases gives it."""
    if value is None:
        return None
    return str(uuid.UUID(bytes=value) if isinstance(value, bytes) else uuid.UUID(str(value)))


def _run(fields: Mapping[str, Any]) -> Run | None:
    if not fields["dag_id"] or not fields["run_id"]:
        return None
    ended, date = parse_time(fields["ended"]), parse_time(fields["date"])
    return Run(fields["dag_id"], fields["run_id"], fields["state"], ended, date)


def _parsed(raw: Any, kind: str) -> Any:
    """A value as JSON; of Airflow 2's bytes what is no JSON stays bytes, of the state store a text."""
    if kind in ("json", "jsonb"):
        return raw
    if kind == "state":
        return _parsed(tables.state_text(raw), "text")
    if isinstance(raw, memoryview):
        raw = bytes(raw)
    if isinstance(raw, (str, bytes)):
        try:
            return json.loads(raw)
        except ValueError:
            return raw
    return raw


def _metadata_engine() -> tuple[Any, str | None]:
    load_backend()
    from airflow import settings
    from airflow.configuration import conf

    engine = settings.engine
    if engine is None or engine.dialect.name not in ("sqlite", "postgresql", "mysql"):
        raise ConfigurationError(
            "This process has no access to the metadata database",
            hint="Run it where Airflow's own commands run, or read through the REST API: --api-url URL.",
        )
    return engine, conf.get("database", "sql_alchemy_schema", fallback=None) or None


@contextmanager
def _mapping_errors() -> Iterator[None]:
    """What the database raises, as ReferencesUnavailableError."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        raise ReferencesUnavailableError(
            f"The metadata database could not be read: {cause}",
            hint="What it holds is not known, so nothing was deleted or moved. Run the command again when it answers.",
        ) from error


@contextmanager
def _advisory_lock(connection: Any) -> Iterator[None]:
    """Hold the deployment's lock while the block lasts. Raises SweepRefusedError if another process has it.

    PostgreSQL and MySQL release it when the connection ends. SQLite has no such lock, so it is one on a file beside the
    database, which ends with the process.
    """
    dialect = connection.dialect.name
    if dialect == "sqlite":
        with _file_lock(connection.engine.url.database):
            yield
        return
    if dialect == "postgresql":
        take, release = sa.func.pg_try_advisory_lock(_LOCK_NUMBER), sa.func.pg_advisory_unlock(_LOCK_NUMBER)
    else:
        take, release = sa.func.get_lock(_LOCK_NAME, 0), sa.func.release_lock(_LOCK_NAME)
    is_held = connection.scalar(sa.select(take))
    connection.commit()
    if not is_held:
        raise _already_held()
    try:
        yield
    finally:
        if not connection.closed and not connection.invalidated:
            connection.rollback()
            connection.scalar(sa.select(release))
            connection.commit()


@contextmanager
def _file_lock(database: str | None) -> Iterator[None]:
    import fcntl

    path = Path(database) if database else Path(tempfile.gettempdir()) / _LOCK_NAME
    with path.with_name(f".{path.name}.{_LOCK_NAME}").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise _already_held() from None
        yield


def _already_held() -> SweepRefusedError:
    return SweepRefusedError(
        "Another migration of this metadata database is under way",
        hint="Wait for its end; if its process was killed, its lock ended with it.",
    )
