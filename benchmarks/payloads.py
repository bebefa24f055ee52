"""Values to push and pull, by kind and size: ``payload("numpy, 100 MB")``."""

from __future__ import annotations

import atexit
import random
import re
import string
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["KINDS", "bytes_of", "payload", "size_of"]

_UNITS = {"B": 1, "KB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000, "rows": 100}
_SIZE = re.compile(r"(\d+)(M|k)? ?(B|KB|MB|GB|rows)")


def payload(name: str) -> Any:
    """A new value, such as ``dict, 1 KB``. Raises ValueError for a name that has no meaning."""
    kind, _, size = name.partition(", ")
    if kind not in KINDS:
        raise ValueError(f"no such kind: {kind!r}; there are {', '.join(KINDS)}")
    return KINDS[kind](bytes_of(size))


def bytes_of(size: str) -> int:
    """``100 MB`` -> 100,000,000; a row of a DataFrame counts as 100."""
    match = _SIZE.fullmatch(size)
    if not match:
        raise ValueError(f"no such size: {size!r}; write 100 B, 1 KB, 10 MB, 1 GB or 1M rows")
    return int(match[1]) * {"M": 1_000_000, "k": 1_000, None: 1}[match[2]] * _UNITS[match[3]]


def size_of(name: str, value: Any) -> int:
    """Bytes of a value: what its name says, of a DataFrame what Arrow needs for it."""
    if hasattr(value, "to_parquet"):
        import pyarrow as pa

        return int(pa.Table.from_pandas(value).nbytes)
    return bytes_of(name.partition(", ")[2])


def _texts(size: int) -> dict[str, str]:
    """Texts of 100 characters, all the same but for a number: the tutorial's kind of value."""
    return {f"key{n}": "x" * min(100, size - 20) for n in range(max(1, size // 114))}


def _records(size: int) -> list[dict[str, Any]]:
    """Nested records of some 110 bytes of JSON each."""
    rng = random.Random(0)
    return [
        {
            "id": n,
            "name": f"user{n}",
            "score": rng.random(),
            "tags": ["a", "b", str(n)],
            "nested": {"x": 2 * n, "y": None, "z": True},
        }
        for n in range(max(1, size // 115))
    ]


def _frame(size: int) -> Any:
    """A DataFrame of numbers, times, flags, repeated and distinct texts, some 100 bytes a row."""
    import numpy as np
    import pandas as pd

    rows = max(1, size // 100)
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": np.arange(rows),
            "at": pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(rows), unit="s"),
            "amount": rng.random(rows),
            "price": rng.integers(1, 100_000, rows) / 100,
            "count": rng.integers(0, 1000, rows),
            "flag": rng.random(rows) < 0.5,
            "city": rng.choice(["Amsterdam", "Berlin", "Copenhagen"], rows),
            "name": np.char.add("customer-", np.arange(rows).astype(str)),
        }
    )


def _table(size: int) -> Any:
    """A DataFrame as of a query: ids, amounts, distinct and repeated texts, a category, days, times with a zone."""
    import numpy as np
    import pandas as pd

    rows = max(1, size // 100)
    rng = np.random.default_rng(0)
    days = (np.datetime64("2026-01-01") + np.arange(365)).astype(object)
    start = pd.Timestamp("2026-01-01", tz="Europe/Amsterdam")
    return pd.DataFrame(
        {
            "id": np.arange(rows),
            "amount": rng.random(rows),
            "name": np.char.add("customer-", np.arange(rows).astype(str)),
            "status": rng.choice(["open", "paid", "sent", "cancelled"], rows),
            "city": pd.Categorical(rng.choice(["Amsterdam", "Berlin", "Copenhagen"], rows)),
            "day": days[rng.integers(0, len(days), rows)],
            "at": start + pd.to_timedelta(np.arange(rows), unit="s"),
        }
    )


def _array(size: int) -> Any:
    import numpy as np

    return np.random.default_rng(0).random(max(1, size // 8))


def _bytes(size: int) -> bytes:
    import numpy as np

    return np.random.default_rng(0).bytes(size)


def _text(size: int) -> str:
    return "".join(random.Random(0).choices(string.ascii_letters, k=size))


def _file(size: int) -> Any:
    from xcargo import File

    with tempfile.NamedTemporaryFile(prefix="xcargo-bench-", suffix=".bin", delete=False) as file:
        file.write(_bytes(size))
    atexit.register(Path(file.name).unlink)
    return File(file.name)


KINDS: dict[str, Callable[[int], Any]] = {
    "dict": _texts,
    "records": _records,
    "text": _text,
    "DataFrame": _frame,
    "table": _table,
    "numpy": _array,
    "bytes": _bytes,
    "file": _file,
}
