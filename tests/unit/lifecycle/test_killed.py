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

from tests.unit.lifecycle.killed_sweep import Rows
from xcargo.lifecycle.plan import Policy
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


def sweep(folder: Path, rows: set[str], fatal: int = 0, quarantine: str = "") -> int:
    """Run the sweep. Gives its exit code, or the number of its calls."""
    told = folder.with_suffix(".json")
    told.write_text(json.dumps(sorted(rows)))
    module = "tests.unit.lifecycle.killed_sweep"
    done = subprocess.run(
        [sys.executable, "-m", module, folder.as_uri(), str(told), str(fatal), quarantine],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return int(done.stdout) if done.returncode == 0 else done.returncode


@pytest.mark.parametrize("scheme", ["file", "fsspec"])
def test_what_a_killed_put_had_written_goes_past_the_grace(tmp_path: Path, scheme: str) -> None:
    """A file that never became an object: it stays while the put may be at work, then a sweep takes it, at once."""
    rows, kept = lay_out(tmp_path)
    code = f"""
import os, signal
from tests.unit.lifecycle.test_killed import store_of
def parts():
    yield b"a part" * 1000
    os.kill(os.getpid(), signal.SIGKILL)
store_of({scheme!r}, {str(tmp_path)!r}).put("d/gone/t/k~0123456789abcde0.bin", parts())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = [path for path in tmp_path.rglob("*") if path.name.startswith(".xcargo-part-")]
    store = store_of(scheme, str(tmp_path))
    assert left.relative_to(tmp_path).as_posix() not in {info.key for info in store.list()}

    def swept() -> set[str]:
        source: Any = Rows(sorted(rows))
        root = Root.parse(tmp_path.as_uri())
        with Sweep(store, root, source, Policy(3600, None), quarantine_seconds=86400) as sweep:
            report = sweep.apply(sweep.plan())
        assert not report.failed
        return {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}

    assert left.relative_to(tmp_path).as_posix() in swept()
    os.utime(left, (time.time() - 7200, time.time() - 7200))
    found = swept()
    assert not any(".xcargo-part-" in name for name in found)
    assert found >= kept.keys()


def store_of(scheme: str, folder: str) -> Store:
    """A store of files, of ours or behind fsspec."""
    root = Root.parse(Path(folder).as_uri())
    if scheme == "file":
        return LocalStore(root)
    from fsspec.implementations.local import LocalFileSystem

    return FilesystemStore(root, Access(filesystem=LocalFileSystem), Limits())


@pytest.mark.parametrize("quarantine", ["", "86400"], ids=["deleting", "quarantine"])
def test_killed_at_every_step_and_run_again(tmp_path: Path, quarantine: str) -> None:
    """After the second run all is as if there had been no first; before it nothing is missing that should be there."""
    whole = tmp_path / "whole"
    rows, kept = lay_out(whole)
    calls = sweep(whole, rows, quarantine=quarantine)
    expected = contents(whole)
    assert expected.items() >= kept.items()
    assert len(expected) == len(kept) + 1 + (2 if quarantine else 0)  # and whose it is
    assert calls >= 10
    for n in range(1, calls + 1):
        folder = tmp_path / str(n)
        rows, kept = lay_out(folder)
        before = contents(folder)
        assert sweep(folder, rows, n, quarantine) == -signal.SIGKILL
        now = contents(folder)
        assert now.items() >= kept.items(), n
        if quarantine:  # whatever is not in its place lies there
            for key, data in before.items():
                assert data in (now.get(key), now.get(f"~xcargo/quarantine/{key}")), (n, key)
        sweep(folder, rows, quarantine=quarantine)
        left = {key: data for key, data in contents(folder).items() if not key.startswith("~xcargo/clock/")}
        assert left == expected, n
