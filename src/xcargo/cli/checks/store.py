"""What the store lets us do, one request after another, each with its latency. Everything written is deleted again."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from xcargo.cli.checks.connection import endpoint_of, is_loopback
from xcargo.cli.checks.finding import Finding, Status, failure
from xcargo.cli.checks.refusals import told
from xcargo.cli.ranges import get_in_parts
from xcargo.errors import AccessDeniedError, ObjectExistsError, ObjectNotFoundError, StoreError, XCargoError
from xcargo.lifecycle.plan import DOCTOR_FOLDER as FOLDER
from xcargo.model.root import Root
from xcargo.stores.base import Access, Limits, Store
from xcargo.stores.pool import open_store

__all__ = ["FOLDER", "exercise", "readable"]

_PART_BYTES = 5 * 1024 * 1024
_LARGE_BYTES = 4 * _PART_BYTES + 1
"""The least that travels in parts."""

_CLOUDS = ("s3", "gs", "az")
_T = TypeVar("_T")


class _Failed(Exception):  # noqa: N818 - it says which check an error ended
    def __init__(self, name: str, error: XCargoError) -> None:
        super().__init__(name)
        self.name = name
        self.error = error


def exercise(root: Root, access: Access, limits: Limits, *, large: bool) -> Iterator[Finding]:
    """Put, get, head, range, list, conditional put, parts, checksums, public access, delete.

    A first put that fails ends it. ``large`` sends and fetches 20 MiB to see that parts work.
    """
    store = open_store(root, access, limits)
    key = f"{FOLDER}/{secrets.token_hex(8)}"
    data = secrets.token_bytes(2048)
    written = [key]
    try:
        yield _did("store.put", "An object can be written", lambda: store.put(key, [data]))[0]
        yield _same("store.get", "It comes back byte for byte", data, lambda: store.get(key))
        yield _did("store.head", "Its size can be asked for", lambda: store.head(key))[0]
        yield _same(
            "store.range", "A part of it can be read", data[500:1500], lambda: store.get(key, start=500, end=1500)
        )
        yield _listing(store, key)
        yield _conditional(store, key)
        if root.scheme == "s3":
            yield _checksums(root, access, limits, key, data)
        if root.scheme in _CLOUDS:
            yield _public(root, access, limits, key)
            if large:
                written.append(f"{key}-large")
                yield from _large(open_store(root, access, replace(limits, part_bytes=_PART_BYTES)), written[-1])
    except _Failed as failed:
        yield told(failed.name, failed.error, root)
    if len(written) == 1 and not _was_written(store, key):
        return
    yield _deleting(store, written)


def readable(root: Root, access: Access, limits: Limits) -> Finding:
    """Whether objects of a root that is only read can be asked for. One request."""
    # A get, because the answer to a head does not say whether the object or the bucket is missing.
    name = f"read.{root.scheme}"
    key = f"{FOLDER}/absent"
    try:
        took = _timed(lambda: open_store(root, access, limits).get(key))[1]
    except ObjectNotFoundError:
        return Finding(name, Status.OK, f"{root} can be read")
    except XCargoError as error:
        return failure(name, error)
    return Finding(name, Status.OK, f"{root} can be read", milliseconds=took)


def _timed(work: Callable[[], _T]) -> tuple[_T, float]:
    started = time.perf_counter()
    result = work()
    return result, (time.perf_counter() - started) * 1000


def _did(name: str, what: str, work: Callable[[], _T]) -> tuple[Finding, _T]:
    """The finding and result of a request that must not fail."""
    try:
        result, took = _timed(work)
    except XCargoError as error:
        raise _Failed(name, error) from error
    return Finding(name, Status.OK, what, milliseconds=took), result


def _same(name: str, what: str, expected: bytes, work: Callable[[], Any]) -> Finding:
    found, result = _did(name, what, work)
    if bytes(result) == expected:
        return found
    return Finding(name, Status.FAILED, f"Other bytes came back ({len(result)} for {len(expected)})", _NOT_A_STORE)


_NOT_A_STORE = "Something between here and the store changes requests: look at proxies, or use another server."


def _listing(store: Store, key: str) -> Finding:
    name = "store.list"
    fix = "Grant listing (s3:ListBucket, storage.objects.list, ...): sweeps need it, pushes and pulls do not."
    try:
        keys, took = _timed(lambda: {info.key for info in store.list(FOLDER)})
    except XCargoError as error:
        return replace(failure(name, error, status=Status.WARNING), fix=fix)
    if key not in keys:
        return Finding(name, Status.WARNING, "A listing does not show what was just written", _NOT_A_STORE)
    return Finding(name, Status.OK, "Objects can be listed", milliseconds=took)


def _conditional(store: Store, key: str) -> Finding:
    name = "store.create"
    try:
        took = _timed(lambda: store.put(key, [b"second"], mode="create"))[1]
    except ObjectExistsError:
        return Finding(name, Status.OK, "A put that must not replace does not")
    except XCargoError as error:
        return failure(name, error, status=Status.WARNING)
    what = "The server ignores the condition of a put that must not replace; pushes do not rest on it"
    return Finding(name, Status.OK, what, milliseconds=took)


def _checksums(root: Root, access: Access, limits: Limits, key: str, data: bytes) -> Finding:
    name = "store.checksum"
    checked = replace(access, config={**access.config, "checksum_algorithm": "SHA256"})
    try:
        took = _timed(lambda: open_store(root, checked, limits).put(key, [data]))[1]
    except StoreError as error:
        what = f"The endpoint takes no SHA-256 checksum: {error.what}"
        return Finding(name, Status.WARNING, what, "Leave ChecksumAlgorithm out of the connection's extra_args.")
    return Finding(name, Status.OK, "Uploads with a SHA-256 checksum are taken", milliseconds=took)


def _public(root: Root, access: Access, limits: Limits, key: str) -> Finding:
    """Asks for the object as somebody without credentials would."""
    name = "store.public"
    secret = ("access_key_id", "secret_access_key", "token", "service_account_key", "access_key", "sas_key")
    config = {option: value for option, value in access.config.items() if option not in secret}
    config["skip_signature"] = True
    if root.scheme == "gs":  # without an account the client would ask the metadata service for one
        config["service_account_key"] = (
            '{"client_email": "", "private_key": "", "private_key_id": "", "disable_oauth": true}'
        )
    try:
        open_store(root, Access(config=config, client=access.client), limits).get(key)
    except (AccessDeniedError, FileNotFoundError):
        return Finding(name, Status.OK, "Without credentials an object cannot be read")
    except XCargoError as error:
        return Finding(name, Status.SKIPPED, f"Whether anyone can read objects could not be told: {error.what}")
    if is_loopback(endpoint_of(root, access)):
        return Finding(name, Status.OK, "Anyone can read objects; the endpoint is on this machine")
    return Finding(
        name,
        Status.FAILED,
        "Anyone can read objects without credentials",
        "Block public access of the bucket or container; `xcargo policy` prints how.",
    )


def _large(store: Store, key: str) -> Iterator[Finding]:
    data = secrets.token_bytes(1024 * 1024) * (_LARGE_BYTES // (1024 * 1024) + 1)
    sent = data[:_LARGE_BYTES]
    yield _did("store.parts", f"{_LARGE_BYTES / 1024**2:.0f} MiB can be sent in parts", lambda: store.put(key, [sent]))[
        0
    ]

    def get() -> bytearray:
        return get_in_parts(store, key, len(sent), part_bytes=_PART_BYTES, concurrency=4)

    yield _same("store.parallel", "and fetched in parts", sent, get)


def _was_written(store: Store, key: str) -> bool:
    try:
        store.head(key)
    except XCargoError:
        return False
    return True


def _deleting(store: Store, keys: list[str]) -> Finding:
    name = "store.delete"
    fix = "Grant deleting (s3:DeleteObject, storage.objects.delete, ...), or let a lifecycle rule of the bucket do it."
    try:
        _, took = _timed(lambda: store.delete(keys))
        store.delete(keys[:1])  # one that is gone counts as deleted
    except XCargoError as error:
        what = f"Objects cannot be deleted: {error.what}. Left behind: {', '.join(keys)}"
        return Finding(name, Status.WARNING, what, fix)
    if any(_was_written(store, key) for key in keys):
        return Finding(name, Status.WARNING, "A deleted object is still there", _NOT_A_STORE)
    return Finding(name, Status.OK, "Objects can be deleted", milliseconds=took / len(keys))
