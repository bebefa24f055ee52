"""What the store lets us do, one request after another, each with its latency. Everything written is deleted again."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from xcargo.cli.checks import Finding, Status, explain, failed, failure, ok, warning
from xcargo.cli.checks.connection import endpoint_of, is_loopback
from xcargo.errors import (
    AccessDeniedError,
    MissingDependencyError,
    ObjectExistsError,
    ObjectNotFoundError,
    StoreError,
    XCargoError,
)
from xcargo.lifecycle.plan import SCRATCH_DAG, scratch_coordinate
from xcargo.model.root import Root
from xcargo.stores import open_store
from xcargo.stores.base import Access, Limits, Store, Uploads, get_in_parts, uploads_of
from xcargo.transfer.reporting import format_bytes

__all__ = ["exercise", "folder_space", "network_mount", "readable"]

_PART_BYTES = 5 * 1024 * 1024
_LARGE_BYTES = 4 * _PART_BYTES + 1
"""The least that travels in parts."""

_CLOUDS = ("s3", "gs", "az")
_NOT_A_STORE = "Something between here and the store changes requests: look at proxies, or use another server."
_T = TypeVar("_T")


class _CheckFailedError(Exception):
    """A request that must not fail did; the check's name is the first argument."""

    def __init__(self, name: str, error: XCargoError) -> None:
        super().__init__(name)
        self.name = name
        self.error = error


def exercise(root: Root, access: Access, limits: Limits, *, large: bool) -> Iterator[Finding]:
    """Put, get, head, range, list, conditional put, parts, checksums, public access, delete.

    A first put that fails ends it. ``large`` sends and fetches 20 MiB to see that parts work.
    """
    probe = _Probe(root, access, limits)
    try:
        yield from probe.verbs()
        if root.scheme == "s3":
            yield probe.checksums()
        if root.scheme in _CLOUDS:
            yield probe.public()
            if large:
                yield from probe.parts()
        if access.uploads is not None:
            yield _uploads(probe.store, root)
    except _CheckFailedError as check:
        yield explain(check.name, check.error, root)
    if len(probe.keys) > 1 or _exists(probe.store, probe.keys[0]):
        yield probe.deleting()


def readable(root: Root, access: Access, limits: Limits) -> Finding:
    """Whether objects of a root that is only read can be asked for. One request."""
    # A get, because the answer to a head does not say whether the object or the bucket is missing.
    name = f"read.{root.scheme}"
    if root.scheme == "file" and not os.path.isdir(f"/{root.prefix}"):  # noqa: PTH112 - raises nothing
        return failed(name, f"There is no folder {root}", fix="Mount it, or correct the path.")
    try:
        open_store(root, access, limits).get(f"{SCRATCH_DAG}/absent")
    except ObjectNotFoundError:
        return ok(name, f"{root} can be read")
    except AccessDeniedError as error:
        if "AccessDenied" not in error.what:
            return explain(name, error, root)
        return warning(
            name,
            f"Whether {root} can be read is not known: who may not list a bucket is denied what it does not hold, too",
            fix="Make sure that reading is granted. With the permission to list, this check can tell.",
        )
    except XCargoError as error:
        return failure(name, error)
    return ok(name, f"{root} can be read")


class _Probe:
    """An object of random bytes, and what can be done with it."""

    def __init__(self, root: Root, access: Access, limits: Limits) -> None:
        self.store = open_store(root, access, limits)
        self.keys = [scratch_coordinate("doctor").object_key(suffix=".bin")]
        self._root = root
        self._access = access
        self._limits = limits
        self._data = secrets.token_bytes(2048)

    def verbs(self) -> Iterator[Finding]:
        """What pushes, pulls and sweeps rest on, but for deleting."""
        store, key, data = self.store, self.keys[0], self._data
        yield _done("store.put", "An object can be written", lambda: store.put(key, [data]))
        yield _same("store.get", "It comes back byte for byte", lambda: store.get(key), data)
        yield _done("store.head", "Its size can be asked for", lambda: store.head(key))
        part = data[500:1500]
        yield _same("store.range", "A part of it can be read", lambda: store.get(key, start=500, end=1500), part)
        yield self._listing()
        yield self._conditional()

    def _listing(self) -> Finding:
        name = "store.list"
        try:
            keys, milliseconds = _timed(lambda: {info.key for info in self.store.list(SCRATCH_DAG)})
        except XCargoError as error:
            fix = "Grant listing (s3:ListBucket, storage.objects.list, ...): sweeps need it, pushes and pulls do not."
            return replace(failure(name, error, status=Status.WARNING), fix=fix)
        if self.keys[0] not in keys:
            return warning(name, "A listing does not show what was just written", fix=_NOT_A_STORE)
        return ok(name, "Objects can be listed", milliseconds=milliseconds)

    def _conditional(self) -> Finding:
        name = "store.create"
        try:
            _, milliseconds = _timed(lambda: self.store.put(self.keys[0], [b"second"], mode="create"))
        except ObjectExistsError:
            return ok(name, "A put that must not replace does not")
        except XCargoError as error:
            return failure(name, error, status=Status.WARNING)
        what = "The server ignores the condition of a put that must not replace; pushes do not rest on it"
        return ok(name, what, milliseconds=milliseconds)

    def checksums(self) -> Finding:
        """Whether uploads may carry a checksum of S3's own."""
        name = "store.checksum"
        checked = replace(self._access, config={**self._access.config, "checksum_algorithm": "SHA256"})
        try:
            store = open_store(self._root, checked, self._limits)
            _, milliseconds = _timed(lambda: store.put(self.keys[0], [self._data]))
        except StoreError as error:
            what = f"The endpoint takes no SHA-256 checksum: {error.what}"
            return warning(name, what, fix="Leave ChecksumAlgorithm out of the connection's extra_args.")
        return ok(name, "Uploads with a SHA-256 checksum are taken", milliseconds=milliseconds)

    def public(self) -> Finding:
        """Asks for the object as somebody without credentials would."""
        name = "store.public"
        secret = ("access_key_id", "secret_access_key", "token", "service_account_key", "access_key", "sas_key")
        config = {option: value for option, value in self._access.config.items() if option not in secret}
        config["skip_signature"] = True
        if self._root.scheme == "gs":  # without an account the client would ask the metadata service for one
            config["service_account_key"] = (
                '{"client_email": "", "private_key": "", "private_key_id": "", "disable_oauth": true}'
            )
        try:
            open_store(self._root, Access(config=config, client=self._access.client), self._limits).get(self.keys[0])
        except (AccessDeniedError, FileNotFoundError):
            return ok(name, "Without credentials an object cannot be read")
        except XCargoError as error:
            return Finding(name, Status.SKIPPED, f"Could not check whether anyone can read objects: {error.what}")
        if is_loopback(endpoint_of(self._root, self._access)):
            return ok(name, "Anyone can read objects; the endpoint is on this machine")
        return failed(
            name,
            "Anyone can read objects without credentials",
            fix="Block public access of the bucket or container; `xcargo policy` prints how.",
        )

    def parts(self) -> Iterator[Finding]:
        """An object that is large enough to travel in parts, there and back."""
        key, limits = (
            scratch_coordinate("doctor").object_key(suffix=".bin"),
            replace(self._limits, part_bytes=_PART_BYTES),
        )
        store = open_store(self._root, self._access, limits)
        data = (secrets.token_bytes(1024 * 1024) * (_LARGE_BYTES // (1024 * 1024) + 1))[:_LARGE_BYTES]
        self.keys.append(key)
        yield _done("store.parts", f"{format_bytes(len(data))} can be sent in parts", lambda: store.put(key, [data]))
        yield _same(
            "store.parallel", "and fetched in parts", lambda: get_in_parts(store, key, len(data), limits=limits), data
        )

    def deleting(self) -> Finding:
        """Deletes all that was written."""
        name = "store.delete"
        try:
            _, milliseconds = _timed(lambda: self.store.delete(self.keys))
            self.store.delete(self.keys[:1])  # one that is gone counts as deleted
        except XCargoError as error:
            return warning(
                name,
                f"Objects cannot be deleted: {error.what}. Left behind: {', '.join(self.keys)}",
                fix="Grant deleting (s3:DeleteObject, storage.objects.delete, ...), or let a lifecycle rule of the "
                "bucket do it.",
            )
        if any(_exists(self.store, key) for key in self.keys):
            return warning(name, "A deleted object is still there", fix=_NOT_A_STORE)
        return ok(name, "Objects can be deleted", milliseconds=milliseconds / len(self.keys))


def _uploads(store: Store, root: Root) -> Finding:
    """Who removes the parts of uploads that a killed task left: a sweep, a rule of the bucket, or nobody."""
    name = "store.uploads"
    try:
        uploads: Any = uploads_of(store)
        days, rule = _rule(uploads)
    except MissingDependencyError as error:
        return replace(failure(name, error), status=Status.WARNING)
    try:
        number, milliseconds = _timed(lambda: sum(1 for _ in uploads.list()))
    except StoreError as error:
        what = f"Unfinished uploads cannot be listed, so sweeps cannot abort them: {error.what}. {rule}"
        if days is not None:
            return ok(name, what)
        cloud = "aws" if root.scheme == "s3" else "gcs"
        fix = "Grant s3:ListBucketMultipartUploads (GCS: storage.multipartUploads.list), or let a rule of the bucket "
        return warning(name, what, fix=f"{fix}abort them: `xcargo policy {cloud} --format commands` prints one.")
    what = f"Sweeps can list unfinished uploads ({number:,} now) and abort those older than their grace. {rule}"
    return ok(name, what, milliseconds=milliseconds)


def _rule(uploads: Uploads) -> tuple[int | None, str]:
    """After how many days the bucket itself aborts uploads, and that in words."""
    try:
        days = uploads.rule_days()
    except StoreError:
        return None, "These credentials may not see whether the bucket has a rule that aborts them"
    return days, f"The bucket aborts them after {days} days" if days else "The bucket has no rule that aborts them"


def _timed(work: Callable[[], _T]) -> tuple[_T, float]:
    """The result and the milliseconds that it took."""
    started = time.perf_counter()
    result = work()
    return result, (time.perf_counter() - started) * 1000


def _done(name: str, what: str, request: Callable[[], object]) -> Finding:
    """The finding of a request that must not fail."""
    try:
        _, milliseconds = _timed(request)
    except XCargoError as error:
        raise _CheckFailedError(name, error) from error
    return ok(name, what, milliseconds=milliseconds)


def _same(name: str, what: str, request: Callable[[], Any], expected: bytes) -> Finding:
    """The finding of a request that must not fail and must give these bytes."""
    try:
        content, milliseconds = _timed(request)
    except XCargoError as error:
        raise _CheckFailedError(name, error) from error
    if bytes(content) != expected:
        return failed(name, f"Other bytes came back ({len(content)} for {len(expected)})", fix=_NOT_A_STORE)
    return ok(name, what, milliseconds=milliseconds)


def _exists(store: Store, key: str) -> bool:
    try:
        store.head(key)
    except XCargoError:
        return False
    return True


# --- a local folder --------------------------------------------------------------------------------------------------

_NETWORK = frozenset(
    ["nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "fuse", "glusterfs", "lustre", "gpfs", "beegfs", "9p", "afs"]
)
_LOW_BYTES = 1024**3
_LOW_SHARE = 0.05


def folder_space(root: Root) -> Finding:
    """How much space is left for objects, in bytes and files."""
    name, folder = "folder.space", _nearest(root)
    usage = shutil.disk_usage(folder)
    stat = os.statvfs(folder)
    what = f"{format_bytes(usage.free)} of {format_bytes(usage.total)} free at {folder}"
    if stat.f_files and stat.f_favail == 0:
        return failed(name, f"No file can be added at {folder}: no inode is left", fix="Remove files there.")
    if usage.free < _LOW_BYTES or usage.free < usage.total * _LOW_SHARE:
        return warning(name, f"Only {what}", fix="Free space, or set [xcargo] path to where there is more.")
    return ok(name, what)


def network_mount(root: Root) -> str | None:
    """Kind of the network file system that a folder is on; None for a disk of this machine, or if unknown."""
    folder = _nearest(root)
    try:
        lines = Path("/proc/mounts").read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    best = ("", "")
    for line in lines:
        _, point, kind = line.split(" ")[:3]
        point = point.replace("\\040", " ")
        if (folder == Path(point) or Path(point) in folder.parents) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1] if best[1].partition(".")[0] in _NETWORK else None


def _nearest(root: Root) -> Path:
    """The folder, or what there is of its path: the first put makes the rest."""
    folder = Path("/" + root.prefix)
    return next(path for path in (folder, *folder.parents) if os.path.isdir(path)).resolve()  # noqa: PTH112 - no error
