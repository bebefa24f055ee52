"""Live references through Airflow's REST API (v2 on Airflow 3, v1 on 2), for where there is no database."""

from __future__ import annotations

import ast
import os
import re
import time
import weakref
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import quote, unquote

from xcargo.errors import AccessDeniedError, ConfigurationError, ReferencesUnavailableError
from xcargo.lifecycle.references import EVERYTHING, Reference, Run, XComFilter, XComRow, parse_time, reference_in
from xcargo.model.coordinate import Coordinate
from xcargo.model.envelope import MARKER, is_envelope
from xcargo.pipeline.prefetch import prefetch_ordered

__all__ = ["RestApi", "RestReferences", "open_rest"]

_IDENTITY = ("task_id", "region_id", "region_index", "map_index", "key")

_LISTINGS = 5
"""How often a listing is read again because it changed meanwhile."""

_CONCURRENCY, _ATTEMPTS = 8, 5
_TRANSIENT = frozenset((408, 425, 429, 500, 502, 503, 504))
_NOTHING_DONE = "What is referred to is not known, so nothing was read, deleted or moved."


def open_rest(
    conf: Any, *, api_url: str | None = None, connection: Any = None, all_dags: bool = False
) -> RestReferences:
    """The live references that the REST API shows.

    It is asked at ``api_url``, else at the host of the connection, else at the URL in Airflow's own settings. It is
    signed in with the connection's login and password, or its password alone as a token; without a connection with
    ``XCARGO_API_TOKEN``, or ``XCARGO_API_USERNAME`` and ``XCARGO_API_PASSWORD``.

    Args:
        conf: Airflow's configuration.
        api_url: Where Airflow answers.
        connection: An Airflow connection.
        all_dags: This user may read every Dag, so one that the API does not show does not exist.

    Raises:
        ConfigurationError: There is no URL.
    """
    url = api_url or _url_of(connection) or _own_url(conf)
    if not url:
        raise ConfigurationError(
            "It is not known where the REST API answers",
            hint="Give its URL, for example https://airflow.example.org, or a connection with that as its host.",
        )
    signing: dict[str, Any]
    if connection is None:
        signing = {name: os.environ.get(f"XCARGO_API_{name.upper()}") for name in ("token", "username", "password")}
    elif connection.login:
        signing = {"username": connection.login, "password": connection.password}
    else:
        signing = {"token": connection.password}
    return RestReferences(RestApi(url, **signing), hides_dags=not all_dags)


def _url_of(connection: Any) -> str | None:
    """The URL that a connection names: wholly in its host, or in parts as Airflow's HTTP connections do."""
    host = getattr(connection, "host", None)
    if not host:
        return None
    if "://" in host:
        return str(host)
    port = f":{connection.port}" if connection.port else ""
    return f"{connection.schema or 'https'}://{host}{port}"


def _own_url(conf: Any) -> str | None:
    url = conf.get("api", "base_url", fallback=None) or conf.get("webserver", "base_url", fallback=None)
    return str(url).rstrip("/") if url and "://" in str(url) else None


class RestApi:
    """The REST API at ``url``, such as ``https://airflow.example.org``. Methods may be called from many threads."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        username: str | None = None,
        password: str | None = None,
        timeout_seconds: float = 60.0,
    ) -> None:
        whole = re.fullmatch(r"(https?://)(?:(.*)@)?([^/@\s]\S*)", url.strip().rstrip("/"))
        if whole is None:
            raise ConfigurationError(
                f"{re.sub('//.*@', '//…@', url)!r} is not the URL of an Airflow",
                hint="Write it as the web page is opened, for example https://airflow.example.org.",
            )
        self.url = whole[1] + whole[3]  # without a login, which reports and errors would show
        name, _, secret = map(unquote, (whole[2] or "").partition(":"))
        self._user = (username, password or "") if username else (name, secret)
        self._token = (token or "").strip()
        if not re.fullmatch(r"[!-~]*", self._token):  # the client's error would show it
            raise ConfigurationError(
                "The token of the REST API holds a character that no token has",
                hint="Copy it again, without spaces and line breaks.",
            )
        self._timeout_seconds = timeout_seconds

    @cached_property
    def airflow_version(self) -> tuple[int, int]:
        """The Airflow that answers, such as (3, 3). Raises ConfigurationError if none does."""
        for path in ("api/v2/version", "api/v1/version"):
            answer = self._request("GET", f"{self.url}/{path}")
            if answer.status_code == 200 and (
                version := re.match(r"(\d+)\.(\d+)", str(_fields(answer).get("version")))
            ):
                return int(version[1]), int(version[2])
        hint = "Write the URL as the web page is opened."
        if answer.is_redirect:
            hint = f"It redirects to {answer.headers.get('location', '')[:200]}, which is not followed. {hint}"
        raise ConfigurationError("No REST API of Airflow answers there", where=self.url, hint=hint)

    def url_of(self, path: str) -> str:
        """The URL of a path below the API's own."""
        return f"{self.url}/api/{'v1' if self.airflow_version < (3, 0) else 'v2'}/{path}"

    def get(self, path: str, query: Mapping[str, Any], *, optional: bool = False) -> Any:
        """The JSON of a path, or None if there is nothing; with ``optional``, also if the user has no right to it.

        A request that fails for a transient reason is repeated. Raises AccessDeniedError, and
        ReferencesUnavailableError for any other answer.
        """
        url = self.url_of(path)
        answer = self._request("GET", url, params=query, headers=self._signature)
        if answer.status_code == 401 and self._user[0] and not self._token:
            vars(self).pop("_signature", None)  # the token has expired since
            answer = self._request("GET", url, params=query, headers=self._signature)
        if answer.status_code == 404 or (optional and answer.status_code == 403):
            return None
        fields = _fields(answer)
        if answer.status_code in (401, 403):
            reason = str(fields.get("detail") or fields.get("title") or answer.reason_phrase)[:200]
            raise AccessDeniedError(
                f"The REST API refuses the user ({answer.status_code}: {reason})",
                where=url,
                hint="It takes a user who may read these XComs; for a sweep, those of every Dag."
                if self._signature
                else "It was asked without a token or a user: give one.",
            )
        if answer.status_code != 200 or not fields:
            what = answer.status_code if answer.status_code != 200 else "something else than JSON"
            raise ReferencesUnavailableError(f"The REST API answers {what}", where=url, hint=_NOTHING_DONE)
        return fields

    @cached_property
    def _signature(self) -> dict[str, str]:
        if self._token:
            return {"Authorization": f"Bearer {self._token}"}
        if not self._user[0]:
            return {}
        if self.airflow_version < (3, 0):
            import base64

            return {"Authorization": "Basic " + base64.b64encode(":".join(self._user).encode()).decode()}
        url = f"{self.url}/auth/token"
        answer = self._request("POST", url, json={"username": self._user[0], "password": self._user[1]})
        token = _fields(answer).get("access_token") if answer.status_code in (200, 201) else None
        if not token:
            raise AccessDeniedError(
                f"The REST API gives no token ({answer.status_code})",
                where=url,
                hint="Check the user's name and password, or give a token.",
            )
        return {"Authorization": f"Bearer {token}"}

    @cached_property
    def _client(self) -> Any:
        import httpx

        accept = {"Accept": "application/json"}
        # Not to where an answer redirects: the user's token is for this host.
        client = httpx.Client(timeout=self._timeout_seconds, follow_redirects=False, headers=accept)
        weakref.finalize(self, client.close)
        return client

    def _request(self, method: str, url: str, **options: Any) -> Any:
        import httpx

        attempt = 1
        while True:
            try:
                answer = self._client.request(method, url, **options)
                if answer.status_code not in _TRANSIENT or attempt == _ATTEMPTS:
                    return answer
            except httpx.InvalidURL as error:
                raise ConfigurationError(f"The client cannot use the URL: {error}", where=self.url) from error
            except httpx.TransportError as error:
                if attempt == _ATTEMPTS:
                    raise ReferencesUnavailableError(
                        f"The REST API does not answer: {error or type(error).__name__}", where=url, hint=_NOTHING_DONE
                    ) from error
            time.sleep(0.1 * 2**attempt)
            attempt += 1


def _fields(answer: Any) -> dict[str, Any]:
    """The JSON object of an answer; an empty one if it is something else, such as a proxy's page to sign in."""
    try:
        content = answer.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


class RestReferences:
    """Live references through Airflow's REST API.

    Entries are counted: a listing that is cut short, or an entry that is listed and cannot be read, is a
    ReferencesUnavailableError. The API does not show rows in archives of ``airflow db clean``; those of Dags that the
    user may not read (``hides_dags``); those of earlier attempts on Airflow 3.4 (``hides_attempts``). Rows of the
    state store take a request for each task instance, and are not read (``hides_state``). One request for 100 runs, one
    at least for a run, one for an XCom; up to eight at once.
    """

    hides_state = True

    def __init__(self, api: RestApi, *, hides_dags: bool = True, page_rows: int = 100) -> None:
        self.hides_dags = hides_dags
        self._api = api
        self._page_rows = page_rows

    @property
    def origin(self) -> Mapping[str, str]:
        return {"api": self._api.url}

    @property
    def hides_attempts(self) -> bool:
        """Airflow 3.4 keeps rows of earlier attempts, and its API shows those of the current one only."""
        return self._api.airflow_version >= (3, 4)

    def iterate(self, where: XComFilter = EVERYTHING) -> Iterator[Reference]:
        """Every reference in the rows that match."""
        for row in self.rows(where):
            reference = reference_in(row)
            if reference is not None:
                yield reference

    def rows(self, where: XComFilter = EVERYTHING, *, only_envelopes: bool = False) -> Iterator[XComRow]:
        """The rows that match."""
        entries = (
            (run, entry, coordinate)
            for run in self.runs(where)
            for entry in self._entries(run, where)
            if where.matches(coordinate := _coordinate(run, entry))
        )
        for row in prefetch_ordered(
            entries, lambda entry: self._row(*entry), size_bytes=lambda _: 0, workers=_CONCURRENCY, window_bytes=0
        ):
            if row is not None and (is_envelope(row.value) or not only_envelopes):
                yield row

    def current(self, row: XComRow) -> Any:
        """The value of a row now; None if the row is gone. One request."""
        run = row.run or Run(row.coordinate.dag_id, row.coordinate.run_id)
        now = self._row(run, dict(row.identity), row.coordinate)
        return None if now is None else now.value

    def runs(self, where: XComFilter = EVERYTHING) -> Iterator[Run]:
        """Every Dag run that the user may see."""
        of_runs, dag, run_id = XComFilter(where.dag_id, where.run_id), _exactly(where.dag_id), _exactly(where.run_id)
        if "~" not in (dag, run_id):
            entries: Iterator[Any] = filter(None, [self._api.get(f"dags/{dag}/dagRuns/{run_id}", {})])
        else:
            query = {"order_by": "id"}
            if dag != "~" and self._api.get(f"dags/{dag}/dagRuns", {"limit": 1}) is None:
                dag = "~"  # the API knows no Dag whose file is gone, but does know its runs
                query |= {"dag_id_pattern": str(where.dag_id)} if self._api.airflow_version >= (3, 2) else {}
            entries = self._listed(f"dags/{dag}/dagRuns", "dag_runs", ("dag_id", "dag_run_id"), query)
        for entry in entries:
            run = Run(
                entry["dag_id"],
                entry["dag_run_id"],
                entry.get("state"),
                parse_time(entry.get("end_date")),
                parse_time(entry.get("logical_date") or entry.get("execution_date") or entry.get("run_after")),
            )
            if of_runs.matches(Coordinate(run.dag_id, run.run_id, "", "")):
                yield run

    def _entries(self, run: Run, where: XComFilter) -> Iterator[dict[str, Any]]:
        if "/" in run.dag_id + run.run_id:  # the API takes it for the end of the id, and says 404
            raise ReferencesUnavailableError(
                "The REST API cannot be asked for a run whose id has a slash",
                where=f"dag {run.dag_id!r}, run {run.run_id!r}",
                hint="Run this where the metadata database can be read.",
            )
        path = f"{_of_run(run)}/taskInstances/{_exactly(where.task_id)}/xcomEntries"
        query = {"xcom_key": where.key} if where.key is not None and "*" not in where.key else {}
        yield from self._listed(path, "xcom_entries", _IDENTITY, query)

    def _listed(self, path: str, name: str, identity: tuple[str, ...], query: Mapping[str, str]) -> Iterator[Any]:
        """All entries of a listing, each once.

        Pages go by number, so the deletion of a row moves others to the page before, which was read already. Therefore
        each page begins with the last entry of the one before; if it does not, the listing is read from its beginning.
        """
        seen: set[Any] = set()
        for _ in range(_LISTINGS):
            offset, last = 0, None
            while True:
                answer = self._api.get(path, {"limit": self._page_rows, "offset": max(0, offset - 1), **query})
                if answer is None:
                    self._refuse_unless_gone(path)
                    return
                entries = [(tuple(map(entry.get, identity)), entry) for entry in answer[name]]
                if last is not None:
                    if not entries or entries[0][0] != last:
                        break
                    entries = entries[1:]
                for ids, entry in entries:
                    if ids not in seen:
                        seen.add(ids)
                        yield entry
                offset += len(entries)
                if offset >= answer["total_entries"]:
                    return
                if not entries:
                    raise ReferencesUnavailableError(
                        f"The REST API promises {answer['total_entries']} entries and gives {offset}",
                        where=self._api.url_of(path),
                        hint="The listing was cut short, so what is referred to is not known. Run the command again.",
                    )
                last = entries[-1][0]
        raise ReferencesUnavailableError(
            f"The listing changed faster than it could be read, {_LISTINGS} times",
            where=self._api.url_of(path),
            hint="Run the command at a quieter time, or where the metadata database can be read.",
        )

    def _refuse_unless_gone(self, path: str) -> None:
        """Raise ReferencesUnavailableError unless the run whose listing is missing was deleted since it was listed."""
        run = path.partition("/taskInstances/")[0]
        if run == path or self._api.get(run, {}) is not None:
            raise ReferencesUnavailableError(
                "The REST API has no such listing", where=self._api.url_of(path), hint=_NOTHING_DONE
            )

    def _row(self, run: Run, entry: dict[str, Any], coordinate: Coordinate) -> XComRow | None:
        entries = f"{_of_run(run)}/taskInstances/{_part(entry['task_id'])}/xcomEntries"
        query: dict[str, Any] = {"map_index": entry["map_index"], "stringify": "false"}
        if entry.get("region_id") is not None:
            query = {"region_id": entry["region_id"], "region_index": entry["region_index"], "stringify": "false"}
        answer = self._api.get(f"{entries}/{_part(entry['key'])}", query)
        if answer is None or answer.get("key") != entry["key"]:
            del query["stringify"]
            listed = self._api.get(entries, query | {"xcom_key": entry["key"], "limit": 1})
            if listed is not None and listed["total_entries"]:
                raise ReferencesUnavailableError(
                    "An XCom that the REST API lists cannot be read through it",
                    where=coordinate,
                    hint="Its object might be in use, so nothing was deleted. Run this where the metadata database "
                    "can be read.",
                )
            return None
        identity = tuple((name, entry.get(name)) for name in _IDENTITY)
        value = answer.get("value") if self._api.airflow_version >= (3, 0) else _native(answer.get("value"))
        return XComRow(coordinate, value, "rest", run, identity=identity)


def _coordinate(run: Run, entry: dict[str, Any]) -> Coordinate:
    index = entry["map_index"] if entry.get("region_index") is None else entry["region_index"]
    return Coordinate(run.dag_id, run.run_id, entry["task_id"], entry["key"], index)


def _of_run(run: Run) -> str:
    return f"dags/{_part(run.dag_id)}/dagRuns/{_part(run.run_id)}"


def _exactly(pattern: str | None) -> str:
    """A pattern that matches one id, as a part of a URL's path; any other as ``~``, which stands for all."""
    return "~" if pattern is None or {"*", "/"} & set(pattern) else _part(pattern)


def _part(text: str) -> str:
    """An id as a part of a URL's path; dots alone would mean the part before."""
    quoted = quote(text, safe="")
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")


def _native(value: Any) -> Any:
    """A value of Airflow 2, which may give a dictionary as Python writes it, as JSON."""
    if isinstance(value, str) and value.startswith("{") and MARKER in value[:40]:
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # a text of somebody's own
            return value
    return value
