"""``xcargo.connect``: what tasks returned, in a notebook, a script or a service. Over REST it needs no Airflow here."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from xcargo.airflow.client import sql
from xcargo.airflow.client.values import StoredValue, StoredValues
from xcargo.airflow.references.rest import RestApi, RestReferences
from xcargo.codecs import Registry
from xcargo.codecs.class_names import attribute, dotted, import_name
from xcargo.errors import ConfigurationError, DecodeError, ObjectNotFoundError
from xcargo.lifecycle.references import ReferenceSource, Run, XComFilter, XComRow, parse_time
from xcargo.model.keys import parse_keys
from xcargo.model.root import Root
from xcargo.model.settings import Settings
from xcargo.pipeline.pipeline import Pipeline
from xcargo.stores import StorePool

if TYPE_CHECKING:
    from xcargo.pipeline.handle import Lazy

__all__ = ["Client", "connect", "values_by_task"]

_EARLIEST = datetime.min.replace(tzinfo=timezone.utc)

_LATEST_RUNS = 100
"""Among so many, ``latest`` looks for an XCom: a task id that is misspelt is in none of all there are."""


def connect(
    url: str | None = None,
    *,
    token: str | None = None,
    username: str | None = None,
    password: str | None = None,
    path: str | Sequence[str] | None = None,
    connection: Mapping[str, Any] | None = None,
    signing_key: str | None = None,
    encryption_keys: str | None = None,
    allowed_classes: Iterable[str] = (),
) -> Client:
    """A client of an Airflow deployment's values.

    With a URL, rows are read through Airflow's REST API, so a user sees what Airflow lets them see; Airflow need not be
    installed here. Without one, and where no environment of ``airflowctl`` names one, the rows of the Airflow that is
    installed here are read from its metadata database.

    Args:
        url: Where Airflow's web page opens, such as ``https://airflow.example.com``.
        token: A token of the REST API. By default ``AIRFLOW_CLI_TOKEN``, or that of ``airflowctl auth login``.
        username: Signs in, together with ``password``, in place of a token.
        password: See ``username``.
        path: The base URL, or several, below which objects may be read: the deployment's ``[xcargo] path`` and
            ``read_paths``. By default ``AIRFLOW__XCARGO__PATH``, then what the API tells of Airflow's configuration.
            A row never adds one.
        connection: Fields of an Airflow connection (``conn_type``, ``login``, ``password``, ``host``, ``port``,
            ``extra``) to reach the store with. By default the cloud's own credentials of this machine.
        signing_key: The deployment's ``[xcargo] signing_key``: rows that are not signed with it are refused.
        encryption_keys: The deployment's ``[xcargo] encryption_keys``, if it encrypts.
        allowed_classes: Patterns such as ``my_package.*`` of classes that may be imported to rebuild their instances.

    Raises:
        ConfigurationError: No Airflow is named or installed, or it is not known where objects may be read.
        AccessDeniedError: The API does not take the user.
    """
    login = _airflowctl_login() if url is None else {}
    url = url or login.get("url")
    if url is None:
        return _local_client()
    if not username:
        token = token or os.environ.get("AIRFLOW_CLI_TOKEN") or login.get("token")
    api = RestApi(url, token=token, username=username, password=password)
    roots = [Root.parse(text) for text in ([path] if isinstance(path, str) else path or _paths_of(api))]
    settings = Settings(
        roots[0],
        read_roots=tuple(roots[1:]),
        signing_keys=parse_keys(signing_key or ""),
        encryption_keys=parse_keys(encryption_keys or ""),
    )
    codecs = Registry(classes=_AllowedClasses(tuple(allowed_classes)))
    return Client(RestReferences(api), Pipeline(settings, codecs, StorePool(lambda root: _access(root, connection))))


class Client:
    """Reads what tasks returned. It writes nothing, to rows or stores. Methods may be called from many threads.

    Every method takes ids as Airflow shows them. A row, its object and its signature are checked as in a task.
    """

    def __init__(self, source: ReferenceSource, pipeline: Pipeline) -> None:
        self._source = source
        self._pipeline = pipeline

    def __repr__(self) -> str:
        origin = self._source.origin
        return f"<xcargo.Client of {origin.get('api') or origin.get('database')}>"

    def pull(
        self,
        dag_id: str,
        task_id: str,
        *,
        run_id: str = "latest",
        key: str = "return_value",
        map_index: int | None = None,
    ) -> Any:
        """The value of an XCom; of a mapped task without ``map_index`` the list of all its values, in order.

        Args:
            dag_id: The Dag.
            task_id: The task, with its groups: ``group.task``.
            run_id: A run, or ``latest``: of the last 100, the one with the latest date that has the XCom. ``*`` stands
                for any text.
            key: The XCom's key.
            map_index: Which instance of a mapped task.

        Raises:
            ObjectNotFoundError: There is no such XCom, or its object is gone.
            ValueError: Several runs match ``run_id``.
        """
        values = self._find(dag_id, task_id, run_id, key, map_index)
        return values[0].pull() if values[0].map_index < 0 or map_index is not None else values.pull()

    def lazy(
        self,
        dag_id: str,
        task_id: str,
        *,
        run_id: str = "latest",
        key: str = "return_value",
        map_index: int | None = None,
    ) -> Lazy:
        """A handle of the value, which fetches the columns and rows that you ask it for. Arguments as for `pull`.

        Raises:
            ObjectNotFoundError: There is no such XCom.
            ValueError: The task is mapped, and ``map_index`` is not given; or several runs match ``run_id``.
        """
        value, *others = self._find(dag_id, task_id, run_id, key, map_index)
        if others:
            raise ValueError(f"Task {task_id!r} is mapped and has {len(others) + 1} values: give map_index")
        return value.lazy()

    def runs(self, dag_id: str) -> list[Run]:
        """The runs of a Dag, latest first. One request for 100 of them."""
        return sorted(self._source.runs(XComFilter(dag_id)), key=lambda run: run.date or _EARLIEST, reverse=True)

    def values(
        self, dag_id: str, *, run_id: str = "latest", task_id: str | None = None, key: str | None = None
    ) -> StoredValues:
        """What there is: the XComs of a run, or of all runs with ``run_id="*"``. Downloads no object.

        ``*`` stands for any characters in ``run_id``, ``task_id`` and ``key``. One request for 100 runs, one for a run
        and one for each XCom.
        """
        return self._values(XComFilter(dag_id, run_id, task_id, key))

    def history(self, dag_id: str, task_id: str, key: str = "return_value") -> StoredValues:
        """The values of a task over all runs, latest first."""
        return self.values(dag_id, run_id="*", task_id=task_id, key=key)

    def sql(self, query: str, *, run_id: str = "*", since: datetime | str | None = None, memory_mib: int = 1024) -> Any:
        """Run a SELECT over what tasks returned, such as ``SELECT city, sum(price) FROM "dag.task" GROUP BY city``.

        Each table stands for all runs of a task, with ``run_id``, ``run_date`` and ``map_index`` as further columns,
        which are called ``xcargo_run_id`` and so on if the task returned a column of that name. Needs the extra
        ``sql``.

        Args:
            query: One SELECT. It cannot write, and reaches no file or network.
            run_id: Only runs that match; ``*`` stands for any characters, ``latest`` for the latest run.
            since: Only runs with this date or a later one; in UTC if it has no time zone.
            memory_mib: Most memory that DuckDB takes.

        Returns:
            A DuckDB relation: ``df()``, ``pl()``, ``arrow()``, ``fetchall()``. Jupyter shows it as a table. It reads
            the values when it is asked for rows; if one cannot be read, that is a ``duckdb.Error`` that names it.

        Raises:
            ConfigurationError: It is not one SELECT.
            ObjectNotFoundError: A task that it names has no value.
            UnsupportedTypeError: What a task returned is no table, or has other types in other runs.
        """
        return sql.query(query, values_by_task(self, run_id, since), memory_mib=memory_mib)

    def describe(self, row: XComRow) -> StoredValue:
        """What is known of a row. Reads no object."""
        return StoredValue.of(row, self._pipeline)

    def _find(self, dag_id: str, task_id: str, run_id: str, key: str, map_index: int | None) -> StoredValues:
        found = self._values(XComFilter(dag_id, run_id, task_id, key, map_index))
        exact = [value for value in found if (value.task_id, value.key) == (task_id, key)]
        if not exact:
            instance = "" if map_index is None else f"[{map_index}]"
            raise ObjectNotFoundError(
                "There is no such XCom",
                where=f"dag {dag_id!r}, run {run_id!r}, task {task_id!r}{instance}, key {key!r}",
                hint=f"See what there is: client.values({dag_id!r}, run_id={run_id!r}).",
            )
        if len(runs := {value.run_id for value in exact}) > 1:
            raise ValueError(f"{len(runs)} runs match run_id {run_id!r}: name one, or use client.history()")
        return StoredValues(exact)

    def _values(self, where: XComFilter) -> StoredValues:
        if where.run_id != "latest":
            return self._rows(where)
        latest = self.runs(str(where.dag_id))[:_LATEST_RUNS]
        found = (self._rows(replace(where, run_id=run.run_id)) for run in latest)
        return next(filter(None, found), StoredValues([]))

    def _rows(self, where: XComFilter) -> StoredValues:
        values = [self.describe(row) for row in self._source.rows(where) if not (row.archived or row.coordinate.state)]
        values.sort(key=lambda value: (value.task_id, value.map_index, value.key))
        values.sort(key=lambda value: value.run_date or _EARLIEST, reverse=True)
        return StoredValues(values)


def values_by_task(
    client: Client, run_id: str, since: datetime | str | None
) -> Callable[[str, str], Iterable[StoredValue]]:
    """What gives the values of a task that `Client.sql` is to query, by Dag and task id."""
    earliest = parse_time(since)
    if earliest is None and since is not None:
        raise ValueError("since is a datetime, or one in ISO 8601: '2026-11-01' or '2026-11-01T12:00:00+00:00'")

    def values_of(dag_id: str, task_id: str) -> Iterator[StoredValue]:
        for value in client.values(dag_id, run_id=run_id, task_id=task_id, key="return_value"):
            is_late = earliest is None or (value.run_date or _EARLIEST) >= earliest
            if is_late and (value.dag_id, value.task_id) == (dag_id, task_id):
                yield value

    return values_of


class _AllowedClasses:
    """Classes that are imported to rebuild their instances: those that match a pattern that the user gave."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._patterns = patterns

    def name_of(self, cls: type) -> str:
        return import_name(cls)

    def class_of(self, name: str) -> type | None:
        module, _, qualified = name.partition(":")
        if name.startswith("./") or not any(fnmatchcase(dotted(name), pattern) for pattern in self._patterns):
            return None
        try:
            found = attribute(__import__(module, fromlist=["_"]), qualified)
        except ImportError as error:
            raise DecodeError(f"The class {dotted(name)} cannot be imported here: {error}") from error
        if not isinstance(found, type) or import_name(found) != name:  # nor what a module imports from elsewhere
            raise DecodeError(f"There is no class {dotted(name)} here")
        return found

    def refusal(self, names: Iterable[str]) -> DecodeError:
        classes = ", ".join(map(dotted, names))
        return DecodeError(
            f"The value holds instances of classes that may not be imported here: {classes}",
            hint="Allow those of packages that you trust: xcargo.connect(..., allowed_classes=['my_package.*']). "
            "A class of a Dag's file is only there in a task.",
        )


def _access(root: Root, connection: Mapping[str, Any] | None) -> Any:
    from xcargo.airflow.connections import access_of

    if connection is None:
        return access_of(Root(root.scheme, root.bucket, root.prefix, None, root.account), lambda _: None)
    fields = {"conn_type": "", "login": "", "password": "", "host": "", "port": None, **connection}
    extra = fields.pop("extra", None) or {}
    try:
        shown = SimpleNamespace(**fields, extra_dejson=json.loads(extra) if isinstance(extra, str) else extra)
    except ValueError:  # its error holds the text
        raise ConfigurationError("The extra of the connection is not JSON", where=root) from None
    named = Root(root.scheme, root.bucket, root.prefix, root.connection_id or "given", root.account)
    return access_of(named, lambda _: shown)


def _paths_of(api: RestApi) -> list[str]:
    """Where this deployment stores objects, by the environment or by its API. Raises ConfigurationError."""
    if path := os.environ.get("AIRFLOW__XCARGO__PATH"):
        return [path, *filter(None, os.environ.get("AIRFLOW__XCARGO__READ_PATHS", "").split(","))]
    answer = api.get("config/section/xcargo/option/path", {}, optional=True) or {}
    values = [option["value"] for section in answer.get("sections", ()) for option in section["options"]]
    if not values or "://" not in str(values[0]):
        raise ConfigurationError(
            "It is not known where this deployment stores objects",
            where=api.url,
            hint="Give the [xcargo] path of its workers: xcargo.connect(url, path='s3://bucket/prefix'). The API tells "
            "it only with [api] expose_config, to users who may read the configuration.",
        )
    return [values[0]]


def _airflowctl_login() -> dict[str, str]:
    """URL and token of ``airflowctl auth login``, if there was one."""
    environment = os.environ.get("AIRFLOW_CLI_ENVIRONMENT") or "production"
    home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
    try:
        login = {"url": str(json.loads((home / f"{Path(environment).name}.json").read_text())["api_url"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    with suppress(Exception):  # no keyring, or none that opens: then the variable is the way
        import keyring

        if token := keyring.get_password("airflowctl", f"api_token_{environment}"):
            login["token"] = token
    return login


def _local_client() -> Client:
    """A client of the Airflow that is installed here."""
    from xcargo.airflow import load_backend

    try:
        load_backend()
    except ModuleNotFoundError as error:
        if error.name != "airflow":
            raise
        raise ConfigurationError(
            "It is not known which Airflow to read from, and none is installed here",
            hint="Give its URL: xcargo.connect('https://airflow.example.com', token=...).",
        ) from None
    from xcargo.airflow import compat, runtime
    from xcargo.airflow.references.database import DatabaseReferences

    compat.use_metadata_database()
    return Client(DatabaseReferences(), runtime.pipeline())
