"""Run cells: each with a proxy, a pipeline and a prefix of its own."""

from __future__ import annotations

import logging
import random
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tests.servers import FaultProxy, Server
from tests.unit.conftest import HERE, make_pipeline
from xcargo.errors import IntegrityError, XCargoError
from xcargo.lookahead import in_order
from xcargo.pipeline import Pipeline

from .cells import Cell

__all__ = ["Result", "run", "run_cell"]

MIB = 1024 * 1024
_PART = 5 * MIB
_AT_ONCE = 10


@dataclass(frozen=True)
class Result:
    """What a cell came to."""

    cell: Cell
    outcome: str
    seconds: float
    leftovers: str
    wrong: str
    """Empty, or why the cell is red."""


class WrongValueError(AssertionError):
    """A value that is not the one that was pushed."""


def run(cells: Iterable[Cell], servers: Mapping[str, Server], told: Callable[[Result], None]) -> list[Result]:
    """The results in the order of the cells; ``told`` of each as it comes."""

    def one(cell: Cell) -> Result:
        result = run_cell(cell, servers[cell.kind])
        told(result)
        return result

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(one, cells))


def run_cell(cell: Cell, server: Server) -> Result:
    """Prepare without the fault, do with it, look at the outcome without it."""
    seed = zlib.crc32(cell.name.encode())
    prefix = f"faults/{seed:08x}"
    root = f"{server.root}/{prefix}"
    direct = make_pipeline(root, connection=server.connection, compression="none", part_bytes=_PART)
    operation = _Operation(cell.operation, direct, random.Random(seed))
    operation.prepare()
    before = _left(server, prefix)
    with FaultProxy(server.endpoint) as proxy:
        pipeline = make_pipeline(
            root,
            connection=server.via(cell.fault.endpoint or proxy.url).connection,
            compression="none",
            part_bytes=_PART,
            max_concurrency=4,
            timeout_seconds=cell.bound_seconds,
            purge_timeout_seconds=cell.bound_seconds,
        )
        for fault in cell.fault.faults:
            proxy.add(fault)
        began = time.monotonic()
        try:
            outcome = operation.do(pipeline)
        except XCargoError as error:
            outcome = type(error).__name__
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        seconds = time.monotonic() - began
    operation.check()
    leftovers = _left(server, prefix) - before - operation.expected(server)
    operation.clean(server)
    names = ", ".join(sorted(leftovers))
    return Result(cell, outcome, seconds, names, cell.verdict(outcome, seconds, names))


class _Operation:
    """One of the operations: what it needs, what it does, what has to be there afterwards."""

    def __init__(self, name: str, direct: Pipeline, rng: random.Random) -> None:
        self._name = name
        self._direct = direct
        self._rng = rng
        self._rows: list[Any] = []
        self.row: Any = None
        """The row that a push gave."""
        self._pushed: Any = None

    def _value(self, size: int) -> bytes:
        return self._rng.randbytes(size)

    def prepare(self) -> None:
        """Push, without a fault, what is to be pulled or purged."""
        sizes = {"pull": [30_000], "pull many": [20_000] * 5, "purge": [20_000], "read a part": [9 * MIB]}
        self._values = [self._value(size) for size in sizes.get(self._name, [])]
        self._rows = [self._direct.push(value, HERE) for value in self._values]

    def do(self, pipeline: Pipeline) -> str:
        """Returns ``value``, or ``left, logged`` for a purge that did not delete."""
        if self._name in ("push", "push in parts"):
            self._pushed = self._value(30_000 if self._name == "push" else 21 * MIB)
            self.row = pipeline.push(self._pushed, HERE)
            return self._verified()
        if self._name == "purge":
            return "value" if pipeline.purge(self._rows[0]) else "left, logged"
        if self._name == "read a part":
            self._same(_slice(pipeline, self._rows[0]), self._values[0][5 * MIB : 5 * MIB + 1000])
            return "value"
        pulled = in_order(self._rows, pipeline.pull, size_bytes=lambda _: 20_000, workers=4, window_bytes=MIB)
        for found, value in zip(pulled, self._values, strict=True):
            self._same(found, value)
        return "value"

    def _verified(self) -> str:
        """What a pull of the pushed row gives, past the proxy."""
        try:
            self._same(self._direct.pull(self.row), self._pushed)
        except IntegrityError:
            return "IntegrityError"
        return "value"

    def _same(self, found: Any, value: bytes) -> None:
        if bytes(found) != value:
            raise WrongValueError(f"{self._name} gave another value")

    def check(self) -> None:
        """What was there before is still there, but for what was purged."""
        if self._name != "purge":
            for row, value in zip(self._rows, self._values, strict=True):
                self._same(self._direct.pull(row), value)

    def expected(self, server: Server) -> set[str]:
        """The object of a push that worked."""
        return {self.row["uri"].split("/", 3)[3]} if self.row is not None else set()

    def clean(self, server: Server) -> None:
        for row in [*self._rows, *([self.row] if self.row is not None else [])]:
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


logging.getLogger("xcargo").setLevel(logging.ERROR)
