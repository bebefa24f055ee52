"""kill -9 at every step of a sweep, then the sweep again: nothing is lost, nothing is left over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xcargo.root import Root
from xcargo.stores.localfiles import LocalStore


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
