"""Run cells: each with a proxy, a pipeline and a prefix of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.servers import FaultProxy, Server
from tests.unit.conftest import HERE, make_pipeline
from xcargo.errors import IntegrityError, XCargoError
from xcargo.pipeline.pipeline import Pipeline
from xcargo.pipeline.prefetch import in_order
from xcargo.stores.retry import bounded

from .cells import Cell
from .disk import run_on_disk
from .result import Result

__all__ = ["SETTINGS", "Operation", "run", "run_cell"]

MIB = 1024 * 1024
SETTINGS = {"compression": "none", "part_bytes": 5 * MIB, "max_concurrency": 4}
_AT_ONCE = 10


class WrongValueError(AssertionError):
    """A value that is not the one that was pushed."""


def run(cells: Iterable[Cell], servers: Mapping[str, Server], told: Callable[[Result], None]) -> list[Result]:
    """The results in the order of the cells; ``told`` of each as it comes.

    One that ran out of time is run again by itself: so many at once can be too much for a server on a busy machine.
    """

    def one(cell: Cell, *, alone: bool = False) -> Result:
        result = run_on_disk(cell) if cell.kind == "file" else run_cell(cell, servers[cell.kind])
        if alone or not result.late:
            told(result)
        return result

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        results = list(pool.map(one, cells))
    return [one(result.cell, alone=True) if result.late else result for result in results]


def run_cell(cell: Cell, server: Server) -> Result:
    """Prepare without the fault, do with it, look at the outcome without it."""
    seed = zlib.crc32(cell.name.encode())
    prefix = f"faults/{seed:08x}"
    root = f"{server.root}/{prefix}"
    direct = make_pipeline(root, connection=server.connection, **SETTINGS)
    operation = Operation(cell.operation, seed)
    operation.prepare(direct)
    before = _left(server, prefix)
    with FaultProxy(server.endpoint) as proxy:
        connection = server.via(cell.fault.endpoint or proxy.url).connection
        for fault in cell.fault.faults:
            proxy.add(fault)
        began = time.monotonic()
        if cell.fault.clock:
            told = {"name": cell.operation, "seed": seed, "rows": operation.rows, "root": root}
            outcome, operation.row, seconds = _with_clock(cell, {**told, "connection": connection})
        else:
            bounds = dict.fromkeys(("timeout_seconds", "purge_timeout_seconds"), cell.bound_seconds)
            pipeline = make_pipeline(root, connection=connection, **SETTINGS, **bounds)
            try:
                outcome = bounded(lambda: operation.outcome(pipeline), 5 * cell.most_seconds)
            except TimeoutError:  # one cell that hangs is one that is red
                outcome = "no end"
            seconds = time.monotonic() - began
    outcome = operation.verified(direct, outcome)
    leftovers = _left(server, prefix) - before - operation.keys()
    operation.clean(server)
    names = ", ".join(sorted(leftovers))
    return Result(cell, outcome, seconds, names, cell.verdict(outcome, seconds, names))


def _with_clock(cell: Cell, told: dict[str, Any]) -> tuple[str, Any, float]:
    """Outcome, row and seconds of an operation in a process of its own whose clock goes wrong."""
    spec = importlib.util.find_spec("libfaketime")
    if spec is None or not spec.submodule_search_locations:
        return "libfaketime is not installed: make faults", None, 0
    library = next(Path(spec.submodule_search_locations[0]).rglob("libfaketime.so.1"))
    environ = {
        **os.environ,
        "LD_PRELOAD": str(library),
        "FAKETIME": cell.fault.clock,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    command = [sys.executable, "-m", "tests.faults.child"]
    told = {**told, "timeout_seconds": cell.bound_seconds}
    done = subprocess.run(command, input=json.dumps(told), env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        return done.stderr[-300:], None, 0
    found: dict[str, Any] = json.loads(done.stdout)
    return found["outcome"], found["row"], found["seconds"]


class Operation:
    """One of the operations: what it needs, what it does, what has to be there afterwards."""

    def __init__(self, name: str, seed: int, rows: list[Any] | None = None) -> None:
        self._name = name
        rng = random.Random(seed)
        sizes = {"pull": [30_000], "pull many": [20_000] * 5, "purge": [20_000], "read a part": [9 * MIB]}
        self._values = [rng.randbytes(size) for size in sizes.get(name, [])]
        self._pushed = rng.randbytes({"push": 30_000, "push in parts": 21 * MIB}.get(name, 0))
        self.rows = rows or []
        """Of what is to be pulled or purged."""
        self.row: Any = None
        """The row that a push gave."""

    def prepare(self, pipeline: Pipeline) -> None:
        """Push what is to be pulled or purged."""
        self.rows = [pipeline.push(value, HERE) for value in self._values]

    def outcome(self, pipeline: Pipeline) -> str:
        """``value``, ``left, logged`` for a purge that did not delete, or the class of the error."""
        try:
            return self._do(pipeline)
        except XCargoError as error:
            return type(error).__name__
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    def _do(self, pipeline: Pipeline) -> str:
        if self._name in ("push", "push in parts"):
            self.row = pipeline.push(self._pushed, HERE)
        elif self._name == "purge":
            return "value" if pipeline.purge(self.rows[0]) else "left, logged"
        elif self._name == "read a part":
            self._same(_slice(pipeline, self.rows[0]), self._values[0][5 * MIB : 5 * MIB + 1000])
        else:
            pulled = in_order(self.rows, pipeline.pull, size_bytes=lambda _: 20_000, workers=4, window_bytes=MIB)
            for found, value in zip(pulled, self._values, strict=True):
                self._same(found, value)
        return "value"

    def verified(self, direct: Pipeline, outcome: str, *, damaged: bool = False) -> str:
        """The outcome, once what it says was seen: the pushed value is there, and so is what was there before."""
        try:
            if self.row is not None:
                self._same(direct.pull(self.row), self._pushed)
            if self._name != "purge" and not damaged:
                for row, value in zip(self.rows, self._values, strict=True):
                    self._same(direct.pull(row), value)
        except IntegrityError:
            return "IntegrityError"
        return outcome

    def _same(self, found: Any, value: bytes) -> None:
        if bytes(found) != value:
            raise WrongValueError(f"{self._name} gave another value")

    def keys(self) -> set[str]:
        """The object of a push that worked."""
        return {self.row["uri"].split("/", 3)[3]} if self.row is not None else set()

    def clean(self, server: Server) -> None:
        for row in [*self.rows, *([self.row] if self.row is not None else [])]:
            with suppress(OSError):
                server.raw_delete(row["uri"].split("/", 3)[3])


def _slice(pipeline: Pipeline, row: Any) -> bytes:
    """A thousand bytes from the midst of a stored value, by a ranged read."""
    with pipeline.handle(row).open() as file:
        file.seek(5 * MIB)
        return file.read(1000)


def _left(server: Server, prefix: str) -> set[str]:
    """Objects, and uploads that were begun, below a prefix."""
    keys = {key for key in server.list_keys() if f"/{prefix}/" in f"/{key}"}
    begun = getattr(server.raw, "list_uploads", list)()
    return keys | {f"upload of {key}" for key in begun if f"/{prefix}/" in f"/{key}"}
