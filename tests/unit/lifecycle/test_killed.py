"""kill -9 at every step of a sweep, then the sweep again: nothing is lost, nothing is left over."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.unit.conftest import in_fork
from tests.unit.lifecycle.kit import Rows
from xcargo.cli.bench import measure
from xcargo.cli.checks.store import exercise
from xcargo.lifecycle.plan import SweepOptions
from xcargo.lifecycle.sweep import Sweep
from xcargo.model.root import Root
from xcargo.stores.base import Access, Limits, Store, Upload
from xcargo.stores.fsspec import FilesystemStore
from xcargo.stores.local import LocalStore


def lay_out(folder: Path) -> tuple[set[str], dict[str, bytes]]:
    """Objects with rows, orphans, a young one, somebody else's file. Gives the URIs of rows, and what must stay.

    Beside it two old uploads and a young one.
    """
    store = LocalStore(Root.parse(folder.as_uri()))
    old = time.time() - 86400
    kept, rows = {}, set()
    for name, with_row, age in [("live", True, old), ("live2", True, old), ("gone", False, old), ("gone2", False, old)]:
        key = f"d/{name}/t/k~0123456789abcdef.bin"
        store.put(key, [name.encode() * 100])
        os.utime(folder / key, (age, age))
        if with_row:
            rows.add(f"{folder.as_uri()}/{key}")
            kept[key] = name.encode() * 100
    uploads_beside(folder).mkdir()
    for name, age in [("old", old), ("old2", old), ("young", time.time())]:
        (uploads_beside(folder) / name).touch()
        os.utime(uploads_beside(folder) / name, (age, age))
    store.put("d/young/t/k~0123456789abcdef.bin", [b"young"])
    store.put("other.txt", [b"other"])
    return rows, kept | {"d/young/t/k~0123456789abcdef.bin": b"young", "other.txt": b"other"}


def uploads_beside(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-uploads")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


class FolderUploads:
    """Unfinished uploads as files in a folder, so that they outlive a process; all of them are of one old upload."""

    def __init__(self, folder: Path, count: Callable[[], None]) -> None:
        self._folder, self._count = folder, count

    def list(self, prefix: str = "") -> Iterator[Upload]:
        for path in sorted(self._folder.glob("*")):
            started = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)
            yield Upload("d/gone/t/k~0123456789abcdef.bin", path.name, started)

    def abort(self, upload: Upload) -> None:
        self._count()
        (self._folder / upload.upload_id).unlink(missing_ok=True)

    def rule_days(self) -> int | None:
        return None


class Dying(LocalStore):
    """Counts its calls, and dies at one of them."""

    def __init__(self, root: Root, fatal: int) -> None:
        super().__init__(root)
        self._folder = Path("/" + root.prefix)
        self.calls, self._fatal = 0, fatal

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def put(self, key: str, parts: Iterable[Any], **options: Any) -> None:
        self._count()
        super().put(key, parts, **options)

    def copy(self, source: str, target: str) -> None:
        self._count()
        super().copy(source, target)

    def head(self, key: str) -> Any:
        self._count()
        return super().head(key)

    def delete(self, keys: Iterable[str]) -> None:
        self._count()
        super().delete(keys)

    def uploads(self) -> FolderUploads:
        return FolderUploads(uploads_beside(self._folder), self._count)


def sweep(url: str, uris: set[str], *, fatal: int = 0, quarantine_seconds: float | None = None) -> int:
    """Sweep, whatever the share. Returns how many calls it made, if it comes to its end."""
    root = Root.parse(url)
    store = Dying(root, fatal)
    source: Any = Rows(uris)
    options = SweepOptions(grace_seconds=3600, max_share=None, quarantine_seconds=quarantine_seconds, workers=1)
    with Sweep(store, source, root=root, options=options) as sweep:
        sweep.apply(sweep.plan())
    return store.calls


def put_until_killed(store: Store, root: Root) -> None:
    def parts() -> Iterator[bytes]:
        yield b"a part" * 1000
        os.kill(os.getpid(), signal.SIGKILL)

    store.put("d/gone/t/k~0123456789abcde0.bin", parts())


def measure_until_killed(store: Any, root: Root) -> None:
    store.get = lambda key: os.kill(os.getpid(), signal.SIGKILL)
    measure(store, Limits(), 1000, budget_seconds=9)


def check_until_killed(store: Store, root: Root) -> None:
    for _ in exercise(root, Access(), Limits(), large=False):  # the first finding is that of the put
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("scheme", "work"),
    [
        ("file", put_until_killed),
        ("fsspec", put_until_killed),
        ("file", measure_until_killed),
        ("file", check_until_killed),
    ],
    ids=["put", "put-fsspec", "bench", "doctor"],
)
def test_what_a_killed_process_had_written_is_swept_past_the_grace(
    tmp_path: Path, scheme: str, work: Callable[[Store, Root], None]
) -> None:
    """A file that never became an object, an object that would have been deleted again: never moved to quarantine."""
    rows, kept = lay_out(tmp_path)
    assert in_fork(lambda: work(store_of(scheme, str(tmp_path)), Root.parse(tmp_path.as_uri()))) == -signal.SIGKILL
    (left,) = [path for path in tmp_path.rglob("*") if path.is_file() and ".xcargo-" in str(path)]
    store = store_of(scheme, str(tmp_path))

    def swept() -> set[str]:
        source: Any = Rows(rows)
        options = SweepOptions(grace_seconds=3600, max_share=None, quarantine_seconds=86400)
        with Sweep(store, source, root=Root.parse(tmp_path.as_uri()), options=options) as sweeping:
            report = sweeping.apply(sweeping.plan())
        assert not report.failed
        return {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}

    assert left.relative_to(tmp_path).as_posix() in swept()
    os.utime(left, (time.time() - 7200, time.time() - 7200))
    remaining = swept()
    assert not any(".xcargo-" in name for name in remaining)
    assert remaining >= kept.keys()


def store_of(scheme: str, folder: str) -> Store:
    """A store of files, of ours or behind fsspec."""
    root = Root.parse(Path(folder).as_uri())
    if scheme == "file":
        return LocalStore(root)
    from fsspec.implementations.local import LocalFileSystem

    return FilesystemStore(root, Access(filesystem=LocalFileSystem), Limits())


@pytest.mark.parametrize("quarantine_seconds", [None, 86400], ids=["deleting", "quarantine"])
def test_killed_at_every_step_and_run_again(tmp_path: Path, quarantine_seconds: float | None) -> None:
    """After the second run all is as if there had been no first; before it nothing is missing that should be there."""
    whole = tmp_path / "whole"
    rows, kept = lay_out(whole)
    calls = sweep(whole.as_uri(), rows, quarantine_seconds=quarantine_seconds)
    expected = contents(whole)
    assert expected.items() >= kept.items()
    assert len(expected) == len(kept) + 1 + (2 if quarantine_seconds else 0)  # and whose it is
    assert calls >= 12
    assert contents(uploads_beside(whole)).keys() == {"young"}
    for n in range(1, calls + 1):
        folder = tmp_path / str(n)
        rows, kept = lay_out(folder)
        before = contents(folder)
        killed = partial(sweep, folder.as_uri(), rows, fatal=n, quarantine_seconds=quarantine_seconds)
        assert in_fork(killed) == -signal.SIGKILL
        now = contents(folder)
        assert now.items() >= kept.items(), n
        assert "young" in contents(uploads_beside(folder)), n
        if quarantine_seconds:  # whatever is not in its place is there
            for key, data in before.items():
                assert data in (now.get(key), now.get(f"~xcargo/quarantine/{key}")), (n, key)
        sweep(folder.as_uri(), rows, quarantine_seconds=quarantine_seconds)
        left = {key: data for key, data in contents(folder).items() if not key.startswith("~xcargo/clock/")}
        assert left == expected, n
        assert contents(uploads_beside(folder)).keys() == {"young"}, n
