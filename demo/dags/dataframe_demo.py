"""A DataFrame handed from one task to the next, as if it were a function call."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

if TYPE_CHECKING:
    import pandas as pd

ROWS = 20_000


def orders() -> pd.DataFrame:
    """The same 20,000 orders each time, a column of each common dtype."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(seed=7)
    amount = random.gamma(2.0, 30.0, ROWS).round(2)
    return pd.DataFrame(
        {
            "order": np.arange(ROWS, dtype="int64"),
            "placed": pd.date_range("2024-01-01", periods=ROWS, freq="min", tz="UTC"),
            "customer": [f"customer {n}" for n in random.integers(0, 900, ROWS)],
            "country": pd.Categorical(random.choice(["DE", "FR", "JP", "US"], ROWS)),
            "amount": amount,
            "discount": np.where(random.random(ROWS) < 0.2, amount * 0.1, np.nan),
            "units": pd.array(random.integers(1, 9, ROWS), dtype="Int16"),
            "paid": random.random(ROWS) < 0.95,
        }
    )


@dag(
    schedule=None,
    # Airflow 2 does not run a Dag without one.
    start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    tags=["xcom", "demo"],
)
def dataframe_demo() -> None:
    # Airflow would infer from the annotations whether to push each key of a dictionary as an XCom
    # of its own; here a value is one XCom.
    @task(multiple_outputs=False)
    def extract() -> pd.DataFrame:
        """Return the orders."""
        return orders()

    @task(multiple_outputs=False)
    def summarize(frame: pd.DataFrame) -> dict[str, Any]:
        """Take the orders, check that they are the ones returned, and sum them up."""
        import pandas as pd

        if type(frame) is not pd.DataFrame:
            raise TypeError(f"expected a DataFrame, got {type(frame)}")
        pd.testing.assert_frame_equal(frame, orders(), check_freq=False)
        paid = frame[frame["paid"]]
        return {
            "rows": len(frame),
            "revenue": round(float(paid["amount"].sum()), 2),
            "by_country": {
                str(country): int(count) for country, count in frame["country"].value_counts().sort_index().items()
            },
        }

    summarize(extract())


dataframe_demo()
