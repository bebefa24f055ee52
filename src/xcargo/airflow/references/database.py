"""Live references, and rows themselves, out of the metadata database."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from xcargo.errors import ConfigurationError, ReferencesUnavailableError, SweepRefusedError
from xcargo.lifecycle.references import EVERYTHING, Reference, Run, XComFilter, XComRow, parsed_time, reference_in
from xcargo.model.coordinate import Coordinate

if TYPE_CHECKING:
    from xcargo.airflow.references.tables import XComTable

import tempfile
from pathlib import Path

__all__ = ["DatabaseReferences", "advisory_lock"]

_PAGE_ROWS = 1000


class DatabaseReferences:
    """Live references from the tables that Airflow reads, then from the archives of ``airflow db clean``.

    Live tables are read page by page along their primary key: no transaction stays open meanwhile, and memory holds a
    page. A row that moves from a live table into an archive during that is met in either. One query for 1,000
    rows that fit. Raises ReferencesUnavailableError if there is no database, no table of XComs, or a query fails.
    """

    hides_attempts = False
    hides_dags = False

    def __init__(self, engine: Any = None, *, schema: str | None = None, page_rows: int = _PAGE_ROWS) -> None:
        if engine is None:
            engine, schema = _metadata_engine()
        self.engine = engine
        self.schema = schema
        self._page_rows = page_rows

    @property
    def origin(self) -> Mapping[str, str]:
        url = self.engine.url
        port = f":{url.port}" if url.port else ""
        schema = f", schema {self.schema}" if self.schema else ""
        return {"database": f"{self.engine.dialect.name}://{url.host or ''}{port}/{url.database or ''}{schema}"}

    def iterate(self, where: XComFilter = EVERYTHING) -> Iterator[Reference]:
        """Every reference of the rows that are meant, those of archives last."""
        for row in self.rows(where, only_envelopes=True):
            found = reference_in(row)
            if found is not None:
                yield found

    def runs(self, where: XComFilter = EVERYTHING) -> Iterator[Run]:
        """Every Dag run."""
        import sqlalchemy as sa

        from xcargo.airflow.references.tables import run_table

        with _refusing():
            table, columns = run_table(sa.inspect(self.engine), self.schema)
        query = sa.select(*(column.label(name) for name, column in columns.items())).select_from(table)
        meant = XComFilter(where.dag_id, where.run_id)
        for found in self._pages(query, (columns["id"],), ("id",)):
            run = _run(found)
            if run is not None and meant.matches(Coordinate(run.dag_id, run.run_id, "", "")):
                yield run

    def rows(self, where: XComFilter = EVERYTHING, *, only_envelopes: bool = False) -> Iterator[XComRow]:
        """The rows that are meant, those of archives last."""
        return self.select(where, (lambda table: table.is_envelope()) if only_envelopes else None, archived=True)

    def select(
        self, where: XComFilter, holding: Callable[[XComTable], Any] | None = None, *, archived: bool = False
    ) -> Iterator[XComRow]:
        """The rows that are meant and whose value fulfils the condition."""
        import sqlalchemy as sa

        from xcargo.airflow.references import tables

        with _refusing():
            live = list(tables.live_tables(sa.inspect(self.engine), self.schema))
        if not live:
            raise ReferencesUnavailableError(
                "The metadata database has no table of XComs",
                where=self.engine.url.render_as_string(hide_password=True),
                hint="Run this where Airflow's own commands run, or check [database] sql_alchemy_conn.",
            )
        for table in live:
            yield from self._rows_of(table, where, holding)
        if archived:  # looked for only now: a row that has left the tables above is in one of these
            with _refusing():
                kept = list(tables.archives(sa.inspect(self.engine), self.schema))
            for table in kept:
                yield from self._rows_of(table, where, holding)

    def current(self, row: XComRow) -> Any:
        """The value of a row now; None if the row is gone. One query."""
        import sqlalchemy as sa

        from xcargo.airflow.references import tables

        with _refusing():
            for table in tables.live_tables(sa.inspect(self.engine), self.schema):
                if table.name == row.source:
                    query = sa.select(table.raw).select_from(table.table).where(*table.is_row(row.identity))
                    with self.engine.connect() as connection:
                        found = connection.execute(query).first()
                    return None if found is None else _parsed(found[0], table.kind)
        return row.value  # archives are never changed

    @contextmanager
    def exclusive(self) -> Iterator[Callable[[XComRow, Any], bool]]:
        """Holds this deployment's one right to change rows while the block lasts, and gives what changes one.

        That puts a value (JSON, or bytes for Airflow 2) into a row if the row still holds what was read, in one
        statement, and gives whether it did; nothing else of the row changes. The right ends with the connection that
        it works through: whoever loses the one can do nothing more. Raises SweepRefusedError if another process has
        it, ReferencesUnavailableError if the database goes away.
        """
        import sqlalchemy as sa

        from xcargo.airflow.references import tables

        with _refusing(), self.engine.connect() as connection, advisory_lock(connection):
            live = {table.name: table for table in tables.live_tables(sa.inspect(connection), self.schema)}
            connection.commit()

            def switch(row: XComRow, value: Any) -> bool:
                table = live[row.source]
                raw = value if isinstance(value, bytes) or table.kind in ("json", "jsonb") else json.dumps(value)
                meant = (*table.is_row(row.identity), table.holds(row.raw))
                with _refusing():
                    changed = connection.execute(
                        sa.update(table.table).where(*meant).values({table.value: table.literal(raw)})
                    )
                    connection.commit()
                return bool(changed.rowcount == 1)

            yield switch

    def _rows_of(
        self, table: XComTable, where: XComFilter, holding: Callable[[XComTable], Any] | None
    ) -> Iterator[XComRow]:
        import sqlalchemy as sa

        conditions = table.conditions(where)
        if holding is not None:
            conditions.append(holding(table))
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
        for found in pages:
            attempt = found["attempt"]
            coordinate = Coordinate(
                found["dag_id"] or "",
                found["run_id"] or "",
                found["task_id"] or "",
                found["key"],
                -1 if found["map_index"] is None else int(found["map_index"]),
                None if attempt is None else str(attempt if isinstance(attempt, uuid.UUID) else uuid.UUID(attempt)),
            )
            if where.matches(coordinate) or found["dag_id"] is None:
                raw = found["value"]
                yield XComRow(
                    coordinate,
                    _parsed(raw, table.kind),
                    table.name,
                    _run(found),
                    raw,
                    tuple(found[name] for name in identity),
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
            with _refusing(), self.engine.connect() as connection:
                found = [dict(row) for row in connection.execute(page).mappings()]
            yield from found
            if len(found) < self._page_rows:
                return
            last = tuple(found[-1][name] for name in names)

    def _streamed(self, query: Any) -> Iterator[Mapping[str, Any]]:
        """The rows of a query in one go, through a cursor of the server's."""
        with _refusing(), self.engine.connect() as connection:
            streaming = connection.execution_options(stream_results=True, max_row_buffer=self._page_rows)
            for row in streaming.execute(query).mappings():
                yield dict(row)


def _after(key: tuple[Any, ...], last: tuple[Any, ...]) -> Any:
    import sqlalchemy as sa

    if len(key) == 1:
        return key[0] > last[0]
    return sa.tuple_(*key) > sa.tuple_(
        *(sa.bindparam(None, value, type_=c.type) for c, value in zip(key, last, strict=True))
    )


def _run(found: Mapping[str, Any]) -> Run | None:
    if found["dag_id"] is None or found["run_id"] is None:
        return None
    return Run(
        found["dag_id"], found["run_id"], found["state"], parsed_time(found["ended"]), parsed_time(found["date"])
    )


def _parsed(raw: Any, kind: str) -> Any:
    """A value as JSON; of Airflow 2's bytes what is no JSON stays bytes."""
    if kind in ("json", "jsonb"):
        return raw
    if isinstance(raw, memoryview):
        raw = bytes(raw)
    if isinstance(raw, (str, bytes)):
        try:
            return json.loads(raw)
        except ValueError:
            return raw
    return raw


def _metadata_engine() -> tuple[Any, str | None]:
    import xcargo

    xcargo.XComBackend  # noqa: B018 - on Airflow 2 the backend has to be loaded before anything else of the edge
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
def _refusing() -> Iterator[None]:
    """What the database raises, as a refusal."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        raise ReferencesUnavailableError(
            f"The metadata database could not be read: {cause}",
            hint="What it holds is not known, so nothing was deleted or moved. Run the command again when it answers.",
        ) from error


_NAME = "xcargo-migrate"
_NUMBER = int.from_bytes(b"xcargo", "big")


@contextmanager
def advisory_lock(connection: Any) -> Iterator[None]:
    """Have the right while the block lasts. Raises SweepRefusedError if another process has it.

    PostgreSQL and MySQL keep it with the connection, and drop it with that; for SQLite, which has no such thing, it is
    a lock on a file beside the database, which ends with the process.
    """
    import sqlalchemy as sa

    dialect = connection.dialect.name
    if dialect == "sqlite":
        with _file_lock(connection.engine.url.database):
            yield
        return
    if dialect == "postgresql":
        taken = connection.scalar(sa.select(sa.func.pg_try_advisory_lock(_NUMBER)))
    else:
        taken = connection.scalar(sa.select(sa.func.get_lock(_NAME, 0)))
    connection.commit()
    if not taken:
        raise _refusal()
    try:
        yield
    finally:
        if not connection.closed and not connection.invalidated:
            connection.rollback()
            if dialect == "postgresql":
                connection.scalar(sa.select(sa.func.pg_advisory_unlock(_NUMBER)))
            else:
                connection.scalar(sa.select(sa.func.release_lock(_NAME)))
            connection.commit()


@contextmanager
def _file_lock(database: str | None) -> Iterator[None]:
    import fcntl

    place = Path(database) if database else Path(tempfile.gettempdir()) / _NAME
    with place.with_name(f".{place.name}.{_NAME}").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise _refusal() from None
        yield


def _refusal() -> SweepRefusedError:
    return SweepRefusedError(
        "Another migration of this metadata database is under way",
        hint="Wait for its end; if its process was killed, its right ended with it.",
    )
