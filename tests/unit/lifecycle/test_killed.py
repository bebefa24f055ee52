"""kill -9 at every step of a sweep, then the sweep again: nothing is lost, nothing is left over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.unit.lifecycle.killed_sweep import Rows, sweep
from xcargo.lifecycle.plan import SweepOptions
from xcargo.lifecycle.sweep import Sweep
from xcargo.model.root import Root
from xcargo.stores.base import Access, Limits, Store
from xcargo.stores.fsspec import FilesystemStore
from xcargo.stores.local import LocalStore


def lay_out(folder: Path) -> tuple[set[str], dict[str, bytes]]:
    """Objects with rows, orphans, a young one, somebody else's file. Gives the URIs of rows, and what must stay."""
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
    store.put("d/young/t/k~0123456789abcdef.bin", [b"young"])
    store.put("other.txt", [b"other"])
    return rows, kept | {"d/young/t/k~0123456789abcdef.bin": b"young", "other.txt": b"other"}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def killed_sweep(folder: Path, rows: set[str], fatal: int, quarantine_seconds: float | None) -> None:
    """A sweep in a process of its own, which is killed before its n-th call of the store."""
    file = folder.with_suffix(".json")
    file.write_text(json.dumps(sorted(rows)))
    done = subprocess.run(
        [sys.executable, "-m", sweep.__module__, folder.as_uri(), str(file), str(fatal), str(quarantine_seconds or "")],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


PUT = """
def parts():
    yield b"a part" * 1000
    os.kill(os.getpid(), signal.SIGKILL)
store.put("d/gone/t/k~0123456789abcde0.bin", parts())
"""
BENCH = """
from xcargo.cli.bench import measure
store.get = lambda key: os.kill(os.getpid(), signal.SIGKILL)
measure(store, Limits(), 1000, budget_seconds=9)
"""


@pytest.mark.parametrize(
    ("scheme", "code"),
    [("file", PUT), ("fsspec", PUT), ("file", BENCH)],
    ids=["put", "put-fsspec", "bench"],
)
def test_what_a_killed_process_had_written_is_swept_past_the_grace(tmp_path: Path, scheme: str, code: str) -> None:
    """A file that never became an object, an object that would have been deleted again: never moved to quarantine."""
    rows, kept = lay_out(tmp_path)
    begin = "import os, signal, sys\nfrom tests.unit.lifecycle.test_killed import *\n_, folder, scheme = sys.argv\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{begin}store = store_of(scheme, folder)\n{code}", str(tmp_path), scheme],
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    (left,) = [path for path in tmp_path.rglob("*") if path.is_file() and ".xcargo-" in str(path)]
    store = store_of(scheme, str(tmp_path))

    def swept() -> set[str]:
        source: Any = Rows(sorted(rows))
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
    calls = sweep(whole.as_uri(), sorted(rows), quarantine_seconds=quarantine_seconds)
    expected = contents(whole)
    assert expected.items() >= kept.items()
    assert len(expected) == len(kept) + 1 + (2 if quarantine_seconds else 0)  # and whose it is
    assert calls >= 10
    for n in range(1, calls + 1):
        folder = tmp_path / str(n)
        rows, kept = lay_out(folder)
        before = contents(folder)
        killed_sweep(folder, rows, n, quarantine_seconds)
        now = contents(folder)
        assert now.items() >= kept.items(), n
        if quarantine_seconds:  # whatever is not in its place is there
            for key, data in before.items():
                assert data in (now.get(key), now.get(f"~xcargo/quarantine/{key}")), (n, key)
        sweep(folder.as_uri(), sorted(rows), quarantine_seconds=quarantine_seconds)
        left = {key: data for key, data in contents(folder).items() if not key.startswith("~xcargo/clock/")}
        assert left == expected, n
