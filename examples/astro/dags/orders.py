"""Orders of a day: a table goes from task to task through object storage, its numbers through the database."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pandas as pd

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

SHOPS = ("Hamburg", "Lyon", "Kraków")


@dag(schedule="@daily", start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), catchup=False, tags=["xcargo"])
def orders() -> None:
    @task
    def extract(shop: str) -> pd.DataFrame:
        """50,000 orders of a shop, some megabytes."""
        count = 50_000
        return pd.DataFrame(
            {
                "shop": pd.Categorical([shop] * count),
                "placed": pd.date_range("2026-01-01", periods=count, freq="s", tz="Europe/Berlin"),
                "cents": [(n * 7919) % 100_000 for n in range(count)],
            }
        )

    @task(multiple_outputs=False)  # one XCom, not one a shop
    def total(tables: Any) -> dict[str, int]:
        """The tables of all shops come as they were: categories, zone and all."""
        found = {}
        for table in tables:
            assert str(table["shop"].dtype) == "category"
            assert str(table["placed"].dt.tz) == "Europe/Berlin"
            found[str(table["shop"].iloc[0])] = int(table["cents"].sum())
        return found

    @task
    def report(totals: dict[str, int]) -> None:
        assert set(totals) == set(SHOPS)
        for shop, cents in totals.items():
            print(f"{shop}: {cents / 100:,.2f}")

    report(total(extract.expand(shop=SHOPS)))


orders()
