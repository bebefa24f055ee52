"""Values of many kinds, to look at in the XCom explorer."""

from __future__ import annotations

import random
import struct
import zlib
from datetime import datetime, timezone
from decimal import Decimal
from math import sin
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from airflow.sdk import Asset, dag, task

import xcargo

SHOP = Asset("shop")


def _picture(seed: str) -> bytes:
    """A PNG of ripples, in other colours for each seed."""
    side, rng = 240, random.Random(seed)
    waves = [(rng.uniform(20, 50), rng.uniform(20, 50), rng.uniform(0, 6)) for _ in range(3)]

    def line(y: int) -> bytes:
        return bytes(int(128 + 127 * sin(x / a + sin(y / b) + c)) for x in range(side) for a, b, c in waves)

    lines = b"".join(b"\0" + line(y) for y in range(side))

    def part(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(lines)) + part(b"IEND", b"")


@dag(schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), tags=["xcargo"])
def explorer_demo() -> None:
    @task
    def orders(**context: Any) -> Any:
        """A table of a million rows; in each run some prices are others."""
        import numpy as np
        import pandas as pd

        rows = 1_000_000
        rng, today = np.random.default_rng(7), np.random.default_rng([*context["run_id"].encode()])
        prices = rng.gamma(2.0, 40.0, rows)
        prices[today.random(rows) < 0.02] *= 1.25
        prices[3::97] = np.nan
        return pd.DataFrame(
            {
                "order_id": np.arange(rows),
                "ordered_at": pd.date_range("2026-01-01", periods=rows, freq="30s"),
                "city": pd.Categorical(rng.choice(["Berlin", "Lyon", "Oslo", "Porto", "Turin"], rows)),
                "customer": pd.Series([f"customer {n % 7919:04d}" for n in range(rows)]),
                "quantity": rng.poisson(3, rows),
                "price": np.round(prices, 2),
                "express": rng.random(rows) < 0.1,
            }
        )

    @task(multiple_outputs=False)
    def response(**context: Any) -> dict[str, Any]:
        """What an API might answer, of a few megabytes."""
        rng = random.Random(context["run_id"])
        return {
            "status": "ok",
            "fetched_at": datetime.now(timezone.utc),
            "total": Decimal("1234.50"),
            "items": [
                {
                    "id": n,
                    "name": f"item {n}",
                    "tags": ("new", "sale") if n % 3 else (),
                    "score": rng.random(),
                    "owner": {"team": f"team {n % 12}", "contact": None},
                }
                for n in range(40_000)
            ],
            "notes": "A text that is longer than what a tree shows at once. " * 60,
        }

    @task
    def weights() -> Any:
        """An array: a bump over a ripple."""
        import numpy as np

        y, x = np.mgrid[-3:3:600j, -4:4:800j]
        return (np.exp(-(x**2 + y**2)) + 0.25 * np.sin(3 * x) * np.cos(4 * y)).astype("float32")

    @task
    def report() -> Any:
        """A Markdown file."""
        path = Path(mkdtemp()) / "report.md"
        path.write_text(
            "# Orders of the day\n\nAll **5 cities** delivered. `express` orders took *4 hours*.\n\n"
            "| city | orders |\n|---|---|\n| Berlin | 200,113 |\n| Lyon | 199,870 |\n\n- nothing is late\n- see "
            "[the page](https://example.invalid/)\n\n" + "Each line is a line. " * 200
        )
        return xcargo.File(path)

    @task
    def pieces(**context: Any) -> None:
        """Smaller ones, under keys of their own."""
        push = context["ti"].xcom_push
        push(key="picture", value=_picture(context["run_id"]))
        push(key="raw", value=bytes(range(256)) * 16)
        push(key="when", value=datetime(2026, 3, 1, tzinfo=timezone.utc))
        push(key="small", value={"a": 23, "b": [1, 2, 3]})
        push(key="hostile", value={"<img src=x onerror=alert(1)>": "<script>alert('x')</script>", "n": "</pre>" * 300})

    @task(multiple_outputs=False)
    @xcargo.memoize(scope="dag")
    def total(city: str) -> dict[str, Any]:
        """One of several mapped instances. A second task with this function reuses what the first one computed."""
        return {"city": city, "orders": 200_000, "streets": [f"{city}, street {n}" for n in range(100)]}

    @task(inlets=[SHOP], multiple_outputs=False)
    def sync(task_state_store: Any = None, asset_state_store: Any = None) -> dict[str, Any]:
        """State of the task and of an asset, where Airflow has such a store (3.3)."""
        if task_state_store is not None:
            task_state_store.set("job", {"id": "application_17", "since": datetime(2026, 3, 1, tzinfo=timezone.utc)})
            task_state_store.set("pages", [{"page": n, "orders": n % 7} for n in range(2000)])
            asset_state_store.set("cursor", {"until": "2026-03-01", "seen": [f"order {n}" for n in range(2000)]})
        return {"orders": 2000}

    [orders(), response(), weights(), report(), pieces(), sync()]
    cities = ["Berlin", "Lyon", "Oslo"]
    total.expand(city=cities) >> total.override(task_id="total_again").expand(city=cities)


explorer_demo()
