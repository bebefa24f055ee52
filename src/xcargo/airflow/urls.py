"""Values by plain HTTP: signed URLs by which containers and programs in other languages put and get them.

A task hands out a URL, a program puts one object there, and the task collects it as one of its XComs. What was put is
read, checked and pushed like any value, and then deleted: whoever puts it again later changes no value.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import PurePath
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from xcargo.airflow import compat, runtime
from xcargo.airflow.rows import Row, load, parsed, querying
from xcargo.codecs import media
from xcargo.codecs.files import File
from xcargo.errors import ConfigurationError, ObjectNotFoundError, StoreError
from xcargo.model.coordinate import Coordinate
from xcargo.model.envelope import is_envelope
from xcargo.pipeline.shared import SharedObject, check_sharing, is_decoded

__all__ = ["collect", "collector", "download_url", "upload_url"]

log = logging.getLogger(__name__)

_RETURN_VALUE = "return_value"
_MAX_BYTES = 5 * 1024**3
"""What S3 takes in one PUT."""
_MAX_SECONDS = 7 * 24 * 3600
"""For how long S3 and Google sign at most."""
_SECRETS = ("X-Amz-Signature", "X-Amz-Security-Token", "X-Goog-Signature", "sig")
"""Parameters without which a signed URL opens nothing."""


def upload_url(key: str = _RETURN_VALUE, *, expires_seconds: float = 3600) -> str:
    """A signed URL to which a program may PUT one object, for `collect` to make it an XCom of this task.

    Only inside a running task: in its code, or in a template of an operator as ``{{ macros.xcargo.upload_url() }}``.
    Each try of a task has a URL of its own. Airflow masks the signature in logs and rendered templates. Makes no
    request. Azure asks for the header ``x-ms-blob-type: BlockBlob``, which the others ignore.

    Args:
        key: The XCom's key.
        expires_seconds: How long the URL is valid, seven days at most. On S3 it ends earlier if the worker's own
            temporary credentials do.

    Raises:
        ConfigurationError: This is not a running task, or its store signs no URLs.
    """
    shared = _upload(_context(), key)
    return _masked(shared.signed_url("PUT", _checked(expires_seconds)))


def collect(
    name: str,
    *,
    key: str = _RETURN_VALUE,
    media_type: str | None = None,
    decode: bool | None = None,
    max_bytes: int = _MAX_BYTES,
) -> None:
    """Push what was put at `upload_url` as an XCom of this task, and delete the upload.

    The bytes pass through the worker once, a bounded number of them in memory unless they are decoded.

    Args:
        name: Name of the file, such as ``model.parquet``.
        key: The XCom's key, as for `upload_url`.
        media_type: What was put; by default what the name's suffix says.
        decode: Whether the XCom is the decoded value instead of an `xcargo.File`: by default of JSON, Arrow and
            Parquet; True for CSV too. Tables are ``pyarrow.Table``.
        max_bytes: A larger upload is refused and deleted.

    Raises:
        ObjectNotFoundError: Nothing was put, or not in time.
        SizeLimitError: It is larger than ``max_bytes``.
        DecodeError: It is not of its media type.
        IntegrityError: It was put again meanwhile.
    """
    _collect(_context(), key, name, media_type=media_type, decode=decode, max_bytes=max_bytes)


def collector(
    name: str,
    *,
    key: str = _RETURN_VALUE,
    media_type: str | None = None,
    decode: bool | None = None,
    max_bytes: int = _MAX_BYTES,
) -> Callable[..., None]:
    """`collect` for any operator: ``KubernetesPodOperator(..., post_execute=xcargo.collector("model.parquet"))``.

    It runs when the operator has succeeded. If ``key`` is that of the return value, it takes the place of the
    operator's own. The arguments are those of `collect`.

    Raises:
        ConfigurationError: At parse time: no store that is configured signs URLs, or an argument cannot be used.
    """
    if not name or PurePath(name).name != name:
        raise ConfigurationError(f"{name!r} is not the name of a file", hint="Write it without a folder.")
    is_decoded(media_type or media.media_type_of(name), decode)
    _check_configured()

    def collect_upload(context: Any, _result: Any) -> None:
        if key == _RETURN_VALUE:
            context["ti"].task.do_xcom_push = False  # not context["task"], which is another copy on Airflow 3.0
        # On Airflow 2 the context is no longer set here, only given.
        _collect(context, key, name, media_type=media_type, decode=decode, max_bytes=max_bytes)

    return collect_upload


def download_url(
    task_ids: str,
    key: str = _RETURN_VALUE,
    *,
    dag_id: str | None = None,
    map_index: int = -1,
    media_type: str | None = None,
    expires_seconds: float = 3600,
) -> str:
    """A signed URL at which a program may GET the value of an XCom.

    Only inside a running task, like `upload_url`; in a template, ``{{ macros.xcargo.download_url("extract") }}``.
    A file that is stored as it is, is read where it is. Anything else is converted and stored once more, for a sweep to
    delete: files that are stored compressed, bytes and texts as they are, plain values as JSON, tables by
    ``media_type``.

    Args:
        task_ids: The task that pushed it.
        key: The XCom's key.
        dag_id: The Dag of that task, if it is another.
        map_index: Of a mapped task.
        media_type: What to convert the value to: ``application/json``, ``text/csv``,
            ``application/vnd.apache.parquet``, ``application/vnd.apache.arrow.stream`` or ``….file``.
        expires_seconds: As for `upload_url`.

    Raises:
        ConfigurationError: This is not a running task, its store signs no URLs, or the value is encrypted.
        ObjectNotFoundError: There is no such XCom.
        UnsupportedTypeError: The value has no such form.
    """
    context, seconds = _context(), _checked(expires_seconds)
    dag_id = dag_id or context["ti"].dag_id
    with querying(raw=True):
        found = context["ti"].xcom_pull(task_ids=task_ids, key=key, dag_id=dag_id, map_indexes=map_index)
    if not isinstance(found, Row):
        raise ObjectNotFoundError(
            f"There is no XCom {key!r} of task {task_ids!r}",
            hint="Name one task that ran before this one, and map_index if it is mapped.",
        )
    row = parsed(found.value)
    if is_envelope(row) and row.get("encryption"):
        raise ConfigurationError("The value is encrypted, and what is behind a URL is not", where=row.get("uri"))
    value, url = load(found.value, dag_id), None
    if isinstance(value, File) and media_type in (None, value.media_type):
        url = runtime.pipeline().signed_url(row, dag_id, seconds)
    if url is None:
        shared = _shared(context, key, media.SUFFIXES.get(media_type or "", ".bin"), task_ids, dag_id, map_index)
        shared.put(media.encode(value, media_type))
        url = shared.signed_url("GET", seconds)
    return _masked(url)


def _context() -> Any:
    context = compat.current_context()
    if context is None:
        raise ConfigurationError(
            "URLs are signed and collected inside a running task only",
            hint="In a Dag, write '{{ macros.xcargo.upload_url() }}' in a templated argument of the operator.",
        )
    return context


def _collect(context: Any, key: str, name: str, **options: Any) -> None:
    shared = _upload(context, key)
    context["ti"].xcom_push(key=key, value=shared.uploaded(name, **options))
    try:
        shared.delete()
    except StoreError as error:
        log.warning("xcargo left an upload in the store, until a sweep deletes it: %s", error)


def _upload(context: Any, key: str) -> SharedObject:
    return _shared(context, key, ".upload")


def _shared(context: Any, key: str, suffix: str, *more: Any) -> SharedObject:
    """An object of this try of the running task: the same one in each of its processes."""
    ti = context["ti"]
    name = repr((compat.attempt_of(context), key, suffix, *more))
    unique = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    coordinate = Coordinate(ti.dag_id, ti.run_id, ti.task_id, key, ti.map_index)
    return runtime.pipeline().shared(coordinate, unique, suffix)


def _checked(expires_seconds: float) -> float:
    if not 1 <= expires_seconds <= _MAX_SECONDS:
        raise ConfigurationError(
            f"expires_seconds is {expires_seconds}", hint=f"Stores sign URLs for 1 to {_MAX_SECONDS} seconds."
        )
    return expires_seconds


def _masked(url: str) -> str:
    """The URL, whose secret parts Airflow hides from now on: in logs, and in the rendered templates of its UI."""
    query = urlsplit(url).query
    for pair in query.split("&"):
        name, _, quoted = pair.partition("=")
        if name in _SECRETS:
            for secret in {quoted, *(value for _, value in parse_qsl(pair))}:
                compat.mask_from_now_on(secret)
    return url


def _check_configured() -> None:
    """Raise ConfigurationError, at parse time, if no value of this deployment can be shared."""
    settings = runtime.settings()
    errors = []
    for variant in settings.variants:
        try:
            check_sharing(variant)
            return
        except ConfigurationError as error:
            errors.append(error)
    raise errors[0]
