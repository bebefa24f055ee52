"""The memory of a large pulled value."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.conftest import HERE, make_pipeline

VALUES: dict[str, Callable[[], Any]] = {
    "numpy": lambda: np.arange(2_000_000),
    "bytes": lambda: os.urandom(16_000_000),
    "bytearray": lambda: bytearray(os.urandom(16_000_000)),
}


def _pulled(kind: str, tmp_path: Path) -> Any:
    pipeline = make_pipeline(tmp_path.as_uri(), compression="none")
    value = VALUES[kind]()
    back = pipeline.pull(pipeline.push(value, HERE))
    assert type(back) is type(value)
    assert np.array_equal(np.asarray(back), value) if kind == "numpy" else back == value
    return back


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_what_a_forked_child_writes_stays_in_the_child(tmp_path: Path) -> None:
    """A value belongs to the process that pulled it: workers of its own cannot change it behind its back."""
    array = _pulled("numpy", tmp_path)
    child = os.fork()
    if child == 0:
        array[:] = -1
        os._exit(0)
    os.waitpid(child, 0)
    assert array[-1] == 1_999_999


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/smaps")
@pytest.mark.parametrize("kind", VALUES)
def test_a_large_value_lies_in_memory_that_may_have_huge_pages(kind: str, tmp_path: Path) -> None:
    """Pages of 4 KB, of which each faults, cost more than the bytes that come into them."""
    value = _pulled(kind, tmp_path)
    middle = np.frombuffer(value, dtype="u1").ctypes.data + 8_000_000
    lines = Path("/proc/self/smaps").read_text().splitlines()
    heads = [(n, line.split(" ")[0].split("-")) for n, line in enumerate(lines) if "-" in line.split(" ")[0]]
    (start,) = [n for n, (low, high) in heads if int(low, 16) <= middle < int(high, 16)]
    flags = next(line for line in lines[start:] if line.startswith("VmFlags:"))
    assert "hg" in flags.split()
    assert "sh" not in flags.split()
