"""Run cells: in a prefix or file system of its own, an operation is prepared, disturbed, done and verified."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.faults.calls import failing, preload
from tests.servers import FaultProxy, Server
from tests.servers.clock import wrong_clock
from tests.unit.conftest import HERE, make_pipeline
from xcargo.errors import IntegrityError, XCargoError
from xcargo.pipeline.pipeline import Pipeline
from xcargo.pipeline.prefetch import prefetch_ordered
from xcargo.stores.retry import bounded

from .cells import Cell, Result

__all__ = ["Disk", "Operation", "Prefix", "examine", "run"]

MIB = 1024 * 1024
SETTINGS: dict[str, Any] = {"compression": "none", "part_bytes": 5 * MIB, "max_concurrency": 4}
_AT_ONCE = 10


def run(cells: Iterable[Cell], servers: Mapping[str, Server], report: Callable[[Result], None]) -> list[Result]:
    """The results in the order of the cells; ``report`` is called with each as it comes.

    One that ran out of time is run again by itself: so many at once can be too much for a server on a busy machine.
    """

    cells = list(cells)
    on_disks = _on_disks([cell for cell in cells if cell.kind == "file"])

    def one(cell: Cell, *, alone: bool = False) -> Result:
        result = on_disks[cell.name] if cell.kind == "file" else examine(cell, Prefix(cell, servers[cell.kind]))
        if alone or not result.late:
            report(result)
        return result

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        results = list(pool.map(one, cells))
    return [one(result.cell, alone=True) if result.late else result for result in results]


def _on_disks(cells: Sequence[Cell]) -> dict[str, Result]:
    """By name, the results of cells that need a file system of their own: of one child, in a user namespace."""
    if not cells:
        return {}
    with TemporaryDirectory() as folder:
        environ = preload(Path(folder), below=Path(folder, "disks"))
        done = in_child(cells, prefix=["unshare", "--map-root-user", "--mount"], environ=environ)
    return {
        cell.name: Result(cell, one["outcome"], one["seconds"], one["leftovers"])
        for cell, one in zip(cells, done, strict=True)
    }


def examine(cell: Cell, site: Prefix | Disk) -> Result:
    """Prepare without the fault, do with it, look at the outcome without it."""
    operation = Operation(cell)
    direct = make_pipeline(site.root, connection=site.connection, **SETTINGS)
    operation.prepare(direct)
    before = site.stored()
    with site.disturbed() as connection:
        if cell.case.clock:
            about: dict[str, Any] = {"rows": operation.rows, "root": site.root, "connection": connection}
            (done,) = in_child([cell], environ=wrong_clock(cell.case.clock), **about)
            outcome, seconds, operation.row = done["outcome"], done["seconds"], done["row"]
        else:
            outcome, seconds = operation.timed(site.root, connection)
    outcome = operation.verified(direct, outcome)
    pushed = {name for name in site.stored() if operation.row is not None and operation.row["uri"].endswith(name)}
    leftovers = site.stored() - before - pushed
    site.clean()
    return Result(cell, outcome, seconds, ", ".join(sorted(leftovers)))


class Operation:
    """What a cell does: push, pull, purge or read a part of values that follow from the cell's name."""

    def __init__(self, cell: Cell, rows: list[Any] | None = None) -> None:
        self._cell = cell
        self._name = cell.operation
        rng = random.Random(cell.seed)
        sizes = {"pull": [30_000], "pull many": [20_000] * 5, "purge": [20_000], "read a part": [9 * MIB]}
        self._values = [rng.randbytes(size) for size in sizes.get(self._name, [])]
        self._pushed = rng.randbytes({"push": 30_000, "push in parts": 21 * MIB}.get(self._name, 0))
        self.rows = rows or []
        """Of what is to be pulled or purged."""
        self.row: Any = None
        """The row that a push gave."""

    def prepare(self, pipeline: Pipeline) -> None:
        """Push what is to be pulled or purged."""
        self.rows = [pipeline.push(value, HERE) for value in self._values]

    def timed(self, root: str, connection: Any) -> tuple[str, float]:
        """The outcome within the cell's time bounds, and how long it took.

        ``value``, ``left, logged`` for a purge that did not delete, or the class of the error.
        """
        bound = self._cell.bound_seconds
        bounds: dict[str, Any] = {"timeout_seconds": bound, "purge_timeout_seconds": bound}
        pipeline = make_pipeline(root, connection=connection, **SETTINGS, **bounds)
        began = time.monotonic()
        try:
            outcome = bounded(lambda: self._do(pipeline), 5 * self._cell.most_seconds)
        except XCargoError as error:
            outcome = type(error).__name__
            if self._cell.kind == "file" and error.hint is None:
                outcome += " without a hint"
        except Exception as error:  # a hang too: a cell that is red
            outcome = f"{type(error).__name__}: {error}"
        return outcome, time.monotonic() - began

    def _do(self, pipeline: Pipeline) -> str:
        if self._name in ("push", "push in parts"):
            self.row = pipeline.push(self._pushed, HERE)
        elif self._name == "purge":
            return "value" if pipeline.purge(self.rows[0]) else "left, logged"
        elif self._name == "read a part":
            with pipeline.handle(self.rows[0]).open() as file:
                file.seek(5 * MIB)
                _assert_same(file.read(1000), self._values[0][5 * MIB : 5 * MIB + 1000])
        else:
            pulled = prefetch_ordered(
                self.rows, pipeline.pull, size_bytes=lambda _: 20_000, workers=4, window_bytes=MIB
            )
            for value, original in zip(pulled, self._values, strict=True):
                _assert_same(value, original)
        return "value"

    def verified(self, direct: Pipeline, outcome: str) -> str:
        """The outcome, once what it says was seen: the pushed value is there, and so is what was there before."""
        try:
            if self.row is not None:
                _assert_same(direct.pull(self.row), self._pushed)
            if self._name != "purge" and not self._cell.case.name.startswith("object"):
                for row, original in zip(self.rows, self._values, strict=True):
                    _assert_same(direct.pull(row), original)
        except IntegrityError:
            return "IntegrityError"
        return outcome


def _assert_same(value: Any, original: bytes) -> None:
    assert bytes(value) == original, "another value"


class Prefix:
    """A prefix of its own in a server's bucket, reached through a proxy while it is disturbed."""

    def __init__(self, cell: Cell, server: Server) -> None:
        self._case = cell.case
        self._server = server
        self._prefix = f"faults/{cell.seed:08x}"
        self.root = f"{server.root}/{self._prefix}"
        self.connection = server.connection

    @contextmanager
    def disturbed(self) -> Iterator[Any]:
        """Gives the connection to use."""
        with FaultProxy(self._server.endpoint) as proxy:
            if self._case.fault is not None:
                proxy.add(self._case.fault)
            yield self._server.via(self._case.endpoint or proxy.url).connection

    def stored(self) -> set[str]:
        """Keys of objects, and uploads that were begun."""
        uploads: list[str] = getattr(self._server.raw, "list_uploads", list)()
        names = [*self._server.list_keys(), *(f"upload of {key}" for key in uploads)]
        return {name for name in names if f"{self._prefix}/" in name}

    def clean(self) -> None:
        """Delete what is left."""
        for name in self.stored():
            with suppress(OSError):
                self._server.raw_delete(name)


class Disk:
    """A small file system of its own, in this process's mount namespace: full, read-only or damaged while disturbed."""

    connection = None

    def __init__(self, cell: Cell, folder: Path) -> None:
        self._case = cell.case
        self._fault = cell.case.name
        self._folder = folder
        self.root = f"file://{folder}/xcom"
        folder.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(folder)], check=True)

    @contextmanager
    def disturbed(self) -> Iterator[None]:
        ballast = self._folder / "ballast"
        if self._fault == "disk full":
            with suppress(OSError), ballast.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
        if self._fault == "disk read-only":
            self._remount("ro")
        for path in map(Path, self.stored()):
            if self._fault == "object cut short":
                os.truncate(path, path.stat().st_size // 2)
            elif self._fault == "object altered":
                data = bytearray(path.read_bytes())
                data[len(data) // 2] ^= 1
                path.write_bytes(data)
            elif self._fault == "object gone":
                path.unlink()
        with failing(*self._case.call) if self._case.call else nullcontext():
            yield
        self._remount("rw")
        ballast.unlink(missing_ok=True)

    def stored(self) -> set[str]:
        """Paths of files."""
        return {str(path) for path in (self._folder / "xcom").rglob("*") if path.is_file()}

    def clean(self) -> None:
        subprocess.run(["umount", str(self._folder)], check=True)

    def _remount(self, option: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{option}", str(self._folder)], check=True)


def in_child(
    cells: Sequence[Cell], *, prefix: Iterable[str] = (), environ: Mapping[str, str] | None = None, **about: Any
) -> list[dict[str, Any]]:
    """What tests.faults.child prints of cells, in a process of its own."""
    command = [*prefix, sys.executable, "-m", "tests.faults.child"]
    text = json.dumps({"cells": [cell.name for cell in cells], **about})
    environ = {**os.environ, **(environ or {})}
    done = subprocess.run(command, input=text, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        failed = {"outcome": f"did not run: {done.stderr[-300:]}", "seconds": 0, "leftovers": "", "row": None}
        return [failed] * len(cells)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]  # above it are logs
