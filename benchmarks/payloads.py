"""Values to push and pull: name -> a function that makes one, and its size in megabytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

__all__ = ["PAYLOADS", "QUICK"]


def _texts(megabytes: float) -> dict[str, str]:
    return {f"key{n}": "x" * 100 for n in range(int(megabytes * 1e6 / 106))}


def _records(count: int) -> list[dict[str, Any]]:
    rng = random.Random(0)
    return [
        {
            "id": n,
            "name": f"user{n}",
            "score": rng.random(),
            "tags": ["a", "b", str(n)],
            "nested": {"x": 2 * n, "y": None, "z": True},
        }
        for n in range(count)
    ]


def _frame(rows: int) -> Any:
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            **{f"f{n}": rng.random(rows) for n in range(6)},
            "i": np.arange(rows),
            "s": rng.choice(["alpha", "beta", "gamma"], rows),
        }
    )


def _array(megabytes: float) -> Any:
    import numpy as np

    return np.random.default_rng(0).random(int(megabytes * 1e6 / 8))


PAYLOADS: dict[str, Callable[[], Any]] = {
    "dict of text, 1 KB": lambda: _texts(0.001),
    "dict of text, 1 MB": lambda: _texts(1),
    "dict of text, 100 MB": lambda: _texts(100),
    "50,000 nested records": lambda: _records(50_000),
    "DataFrame, 1M x 8": lambda: _frame(1_000_000),
    "numpy, 100 MB": lambda: _array(100),
    "bytes, 100 MB": lambda: random.Random(0).randbytes(100_000_000),
}
QUICK = ("dict of text, 1 KB", "dict of text, 1 MB", "50,000 nested records", "DataFrame, 1M x 8", "numpy, 100 MB")
