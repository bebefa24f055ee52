"""What a memoized result depends on: what its options say, and digests of code, arguments and whatever else they name.

Arguments are handles of XComs until the function has to run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from xcargo.airflow import compat, runtime
from xcargo.airflow.inputs import Deferred, rows_of
from xcargo.airflow.rows import parsed
from xcargo.errors import ConfigurationError, UnsupportedTypeError
from xcargo.pipeline.code_parts import is_plain, parts_of
from xcargo.pipeline.memo import Fingerprint, Scope, value_digest

__all__ = ["RECOMPUTE", "Options", "code_digests", "fingerprint_of", "loaded", "options_of"]

RECOMPUTE = "xcargo_recompute"
"""Key of a run's ``conf``, or name of a param: true, or a list of task ids, computes again whatever is known."""

_LONGEST = timedelta(days=36500)
_MOST_PARTS = 1000
"""Parts of the code that have a digest of their own in an entry. All others share one."""

_NAME_IT = "Take what the result depends on as arguments that can be stored, and name others: ignore=[...]."
_GIVE_A_VERSION = "Give a version, which stands for the code: memoize(version=...)."


@dataclass(frozen=True)
class Options:
    """See `memoize`."""

    version: str | None = None
    depends_on: tuple[str, ...] = ()
    ignore: frozenset[str] = frozenset()
    expires: timedelta | None = None
    wait: timedelta | None = None
    scope: Scope = "task"
    on_miss: Callable[[list[str] | None], object] | None = None

    def __post_init__(self) -> None:
        if self.scope not in ("task", "dag", "global"):
            raise ConfigurationError(f"memoize knows no scope {self.scope!r}", hint="Write task, dag or global.")
        for name, given in (("expires", self.expires), ("wait", self.wait)):
            if given is not None and not (isinstance(given, timedelta) and timedelta() <= given <= _LONGEST):
                raise ConfigurationError(
                    f"memoize takes no {name}={given!r}", hint="Give a timedelta of up to 100 years, or leave it out."
                )
        for name in self.depends_on:
            kind, _, rest = name.partition(":")
            if kind not in _READERS or not rest or (kind == "file" and not rest.startswith("/")):
                raise ConfigurationError(
                    f"memoize cannot depend on {name!r}",
                    hint="Write variable:NAME, connection:ID or file:/absolute/path.",
                )


def options_of(*, depends_on: Iterable[str] = (), ignore: Iterable[str] = (), **more: Any) -> Options:
    """The options by the arguments of `memoize`. Raises ConfigurationError if one makes no sense."""
    for name, given in (("depends_on", depends_on), ("ignore", ignore)):
        if isinstance(given, str):  # its letters are texts, too
            raise ConfigurationError(f"memoize takes no {name}={given!r}", hint=f"Give a list: {name}=[{given!r}].")
    return Options(depends_on=tuple(depends_on), ignore=frozenset(ignore), **more)


def fingerprint_of(
    options: Options, code: Any, arguments: Mapping[str, Any], *, dag_id: str, task_id: str
) -> Fingerprint:
    """All that a task's result depends on.

    Args:
        options: By which its results are reused.
        code: The function or class that computes it.
        arguments: What it depends on, by name.
        dag_id: Its Dag.
        task_id: Its task.

    Raises:
        UnsupportedTypeError: Something that the result depends on cannot be compared.
        SourceChangedError: The file does not say what runs.
    """
    if options.scope == "global" and not runtime.settings().memoize_across_dags:
        raise ConfigurationError(
            'memoize(scope="global") reuses results of other Dags, and that is off',
            hint="Set [xcargo] memoize_across_dags to True if every Dag may read every other one's results.",
        )
    digests = code_digests(code) if options.version is None else _version_digest(options.version, options.scope, code)
    params = arguments.get("params")
    if isinstance(params, Mapping):
        arguments = {**arguments, "params": {name: params[name] for name in params if name != RECOMPUTE}}
    named = {f"argument {name}": value for name, value in arguments.items() if name.lstrip("*") not in options.ignore}
    for name in options.depends_on:
        kind, _, rest = name.partition(":")
        named[name] = _READERS[kind](rest)
    digests |= {what: _argument_digest(what, value) for what, value in named.items()}
    return Fingerprint(options.scope, dag_id, task_id, digests)


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


def _version_digest(version: str, scope: Scope, code: Any) -> dict[str, str]:
    """Of a version, which stands for the code; with a name where others reuse the results, too."""
    name = [getattr(code, "__module__", ""), getattr(code, "__qualname__", type(code).__qualname__)]
    return {"version": value_digest(runtime.pipeline(), [version, *name[{"task": 2, "dag": 1}.get(scope, 0) :]])}


def _argument_digest(what: str, value: Any) -> str:
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


_READERS: dict[str, Callable[[str], Any]] = {"variable": compat.variable, "connection": _connection, "file": _file}
"""Kind of a thing that ``depends_on`` names -> what gives its content."""
