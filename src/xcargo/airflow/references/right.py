"""The right to change rows, which one process of a deployment has at a time and which ends with its connection."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xcargo.errors import SweepRefusedError

__all__ = ["sole_right"]

_NAME = "xcargo-migrate"
_NUMBER = int.from_bytes(b"xcargo", "big")


@contextmanager
def sole_right(connection: Any) -> Iterator[None]:
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
