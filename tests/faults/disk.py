"""Cells of local files: each in a process with a small file system of its own, which gets full, read-only, damaged.

python -m tests.faults.disk CELL     inside the mount namespace that run_on_disk makes
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import zlib
from contextlib import suppress
from pathlib import Path

from .cells import Cell, cells
from .result import Result

__all__ = ["run_on_disk"]

_SIZE = "64m"


def run_on_disk(cell: Cell) -> Result:
    """The result of a cell of kind ``file``. Needs user namespaces, as Linux has them."""
    command = ["unshare", "--map-root-user", "--mount", sys.executable, "-m", "tests.faults.disk", cell.name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = f"did not run: {done.stderr[-300:]}"
        return Result(cell, reason, 0, "", reason)
    found = json.loads(done.stdout)
    verdict = cell.verdict(found["outcome"], found["seconds"], found["leftovers"])
    return Result(cell, found["outcome"], found["seconds"], found["leftovers"], verdict)


def main(name: str) -> None:
    """Mount, prepare, damage, do, mend, look."""
    from tests.unit.conftest import make_pipeline

    from .run import SETTINGS, Operation

    (cell,) = [cell for cell in cells() if cell.name == name]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "none", folder], check=True)
        pipeline = make_pipeline(f"file://{folder}/xcom", **SETTINGS)
        operation = Operation(cell.operation, zlib.crc32(name.encode()))
        operation.prepare(pipeline)
        before = _files(folder)
        damaged = cell.fault.name.startswith("object")
        _DAMAGES[cell.fault.name](Path(folder))
        began = time.monotonic()
        outcome = operation.outcome(pipeline)
        seconds = time.monotonic() - began
        _mend(Path(folder))
        outcome = operation.verified(pipeline, outcome, damaged=damaged)
        pushed = {operation.row["uri"].removeprefix("file://")} if operation.row else set()
        leftovers = ", ".join(sorted(_files(folder) - before - pushed))
        subprocess.run(["umount", folder], check=True)
    print(json.dumps({"outcome": outcome, "seconds": seconds, "leftovers": leftovers}))


def _files(folder: str) -> set[str]:
    return {str(path) for path in Path(folder).rglob("*") if path.is_file()}


def _fill(folder: Path) -> None:
    with suppress(OSError), (folder / "ballast").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def _objects(folder: Path) -> list[Path]:
    return [path for path in (folder / "xcom").rglob("*") if path.is_file()]


def _read_only(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


def _cut(folder: Path) -> None:
    for path in _objects(folder):
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)


def _alter(folder: Path) -> None:
    for path in _objects(folder):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


def _remove(folder: Path) -> None:
    for path in _objects(folder):
        path.unlink()


def _mend(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
    (folder / "ballast").unlink(missing_ok=True)


_DAMAGES = {
    "disk full": _fill,
    "disk read-only": _read_only,
    "object cut short": _cut,
    "object altered": _alter,
    "object gone": _remove,
}

if __name__ == "__main__":
    main(sys.argv[1])
