"""What a memoized result depends on: digests of the code, of arguments, and of variables, connections and files.

Arguments are handles of XComs until the function has to run.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from xcargo.airflow import compat, runtime
from xcargo.airflow.inputs import Deferred, rows_of
from xcargo.airflow.rows import parsed
from xcargo.errors import ConfigurationError, UnsupportedTypeError
from xcargo.pipeline.function_source import is_plain, parts_of
from xcargo.pipeline.memo import Scope, value_digest

__all__ = ["READERS", "code_digests", "digest_of", "loaded", "version_digest"]

_MOST_PARTS = 1000
"""Parts of the code that have a digest of their own in an entry. All others share one."""

_NAME_IT = "Take what the result depends on as arguments that can be stored, and name others: ignore=[...]."
_GIVE_A_VERSION = "Give a version, which stands for the code: memoize(version=...)."


def code_digests(code: Any) -> dict[str, str]:
    """Of each part of the code. What cannot be stored (a client, a lock) does not count, unless it is plain data."""
    digests: dict[str, str] = {}
    for part, content in parts_of(code):
        try:
            digests[part] = _digest(part, content, _GIVE_A_VERSION)
        except UnsupportedTypeError:
            if is_plain(content):
                raise
    others = list(digests.items())[_MOST_PARTS:]
    if others:
        digests = dict(islice(digests.items(), _MOST_PARTS))
        digests["the rest of the code"] = value_digest(runtime.pipeline(), others)
    return digests


def version_digest(version: str, scope: Scope, code: Any) -> dict[str, str]:
    """Of a version, which stands for the code; with a name where others reuse the results, too."""
    name = [getattr(code, "__module__", ""), getattr(code, "__qualname__", type(code).__qualname__)]
    return {"version": value_digest(runtime.pipeline(), [version, *name[{"task": 2, "dag": 1}.get(scope, 0) :]])}


def digest_of(what: str, value: Any) -> str:
    """The digest of an argument or something else that is named. Raises UnsupportedTypeError if there is none."""
    return _digest(what, _comparable(value), _NAME_IT)


def _digest(what: str, value: Any, hint: str) -> str:
    try:
        return value_digest(runtime.pipeline(), value)
    except UnsupportedTypeError as error:
        error.what = f"memoize cannot compare {what}: {error.what}"
        error.hint = hint
        raise


def _comparable(value: Any) -> Any:
    """The same with handles where values are not loaded yet."""
    if isinstance(value, Deferred):
        return value.handle
    rows = rows_of(value)
    if rows is not None:
        dag_id = compat.dag_of_sequence(value)
        return [runtime.pipeline().handle(parsed(row.value), dag_id) for row in rows]
    if type(value) in (list, tuple):
        return type(value)(_comparable(part) for part in value)
    if type(value) is dict:
        return {key: _comparable(part) for key, part in value.items()}
    return value.dump() if type(value).__name__ == "ParamsDict" else value


def loaded(value: Any) -> Any:
    """The same with values in place of handles that only stood for them."""
    if isinstance(value, Deferred):
        return value.handle.load()
    if type(value) in (list, tuple):
        return type(value)(loaded(part) for part in value)
    if type(value) is dict:
        return {key: loaded(part) for key, part in value.items()}
    return value


def _connection(connection_id: str) -> list[Any]:
    found = compat.get_connection(connection_id)
    return [getattr(found, name, None) for name in ("conn_type", "host", "port", "schema", "login")]


def _file(path: str) -> str:
    try:
        return sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigurationError(f"memoize depends on {path!r}, which cannot be read: {error.strerror}") from error


READERS: dict[str, Callable[[str], Any]] = {"variable": compat.variable, "connection": _connection, "file": _file}
"""Kind of a thing that ``depends_on`` names -> what gives its content."""
