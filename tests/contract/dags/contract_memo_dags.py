"""Dags whose results are reused. Each function says in the log that it runs."""

from __future__ import annotations

import asyncio
import os
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pandas as pd

import xcargo

try:
    from airflow.sdk import DAG, BaseOperator, task
except ImportError:
    from airflow import DAG
    from airflow.decorators import task
    from airflow.models.baseoperator import BaseOperator

try:
    from airflow.sdk.bases.operator import BaseAsyncOperator
except ImportError:
    BaseAsyncOperator = None

__all__ = ["DAGS"]

RATE = 3


def scaled(frame: pd.DataFrame) -> pd.DataFrame:
    return frame * RATE


with DAG("contract_memo", start_date=datetime(2026, 1, 1), schedule=None, catchup=False) as memo:

    @task
    @xcargo.memoize
    def extract() -> pd.DataFrame:
        print("RUNS extract")
        return pd.DataFrame({"n": range(1000)})

    @task
    @xcargo.memoize
    def clean(frame: pd.DataFrame, drop: int) -> pd.DataFrame:
        print("RUNS clean")
        assert isinstance(frame, pd.DataFrame)
        return scaled(frame[drop:])

    @task
    @xcargo.memoize(depends_on=["variable:contract_rounds"])
    def train(frame: pd.DataFrame) -> dict[str, object]:
        print("RUNS train")
        return {"total": int(frame.n.sum()), "weights": list(range(500))}

    @task
    def check(frame: pd.DataFrame, model: dict[str, object]) -> None:
        assert isinstance(frame, pd.DataFrame)
        assert len(frame) == 990
        assert model["total"] == sum(n * RATE for n in range(10, 1000))

    cleaned = clean(extract(), drop=10)
    check(cleaned, train(cleaned))

with DAG("contract_memo_shapes", start_date=datetime(2026, 1, 1), schedule=None, catchup=False) as shapes:

    @task
    @xcargo.memoize
    def numbers() -> list[int]:
        """Large enough to be an object, as are the pairs."""
        print("RUNS numbers")
        return [10**200 + n for n in range(3)]

    @task
    @xcargo.memoize
    def pairs() -> tuple[object, ...]:
        """The file is read only when the result is pushed."""
        print("RUNS pairs")
        file = Path(os.environ["AIRFLOW_HOME"], "pair")
        file.write_bytes(os.urandom(5_000_000))
        return (xcargo.File(file), "b" * 100)

    @task
    @xcargo.memoize
    def long(n: int) -> str:
        print("RUNS long")
        return str(n % 10) * 500

    @task
    def check_pair(pair: str | Path) -> None:
        assert pair == "b" * 100 or Path(pair).stat().st_size == 5_000_000

    @task
    @xcargo.memoize
    def joined(texts: object) -> int:
        print("RUNS joined")
        return sum(map(len, texts))  # type: ignore[call-overload]

    @task(multiple_outputs=True)
    @xcargo.memoize
    def several() -> dict[str, object]:
        print("RUNS several")
        return {"small": 1, "large": "y" * 500}

    @task
    def check_shapes(total: int, small: int, large: str) -> None:
        assert (total, small, large) == (1500, 1, "y" * 500)

    outputs = several()
    check_pair.expand(pair=pairs())
    check_shapes(joined(long.expand(n=numbers())), outputs["small"], outputs["large"])


class OfParams(xcargo.MemoizeMixin, BaseOperator):
    """An operator that reads the params of its run."""

    def execute(self, context: Any) -> str:
        print(f"RUNS {self.task_id}")
        return str(context["params"]["word"])


with DAG("contract_memo_calls", start_date=datetime(2026, 1, 1), schedule=None, catchup=False) as calls:

    @xcargo.memoize
    def loaded(n: int) -> list[int]:
        return [n] * 500

    @task
    def called() -> str:
        """A task of its own that calls a function of others."""
        print("RUNS called")
        assert loaded(2) == [2] * 500
        return "the result of the task " * 50

    @task(templates_dict={"text": "{{ ti.xcom_pull('called') }}"})
    @xcargo.memoize
    def templated(text: str, templates_dict: object = None) -> str:
        """Gets the value by its template, too."""
        print("RUNS templated")
        assert templates_dict == {"text": text}
        return text

    @task
    def check_calls(text: str) -> None:
        assert text == "the result of the task " * 50

    @task
    @xcargo.memoize(scope="dag", version="1")
    def orders(day: str) -> str:
        print("RUNS orders")
        return f"orders {day}"

    @task
    @xcargo.memoize(scope="dag", version="1")
    def customers(day: str) -> str:
        print("RUNS customers")
        return f"customers {day}"

    @task
    @xcargo.memoize(ignore=["ti"])
    def pushes(ti: Any = None) -> str:
        print("RUNS pushes")
        ti.xcom_push(key="return_value", value="not the result")
        return "the result"

    @task.short_circuit
    @xcargo.memoize
    def goes_on() -> tuple[str, ...]:
        """What is no plain value is a row that has to be loaded to be judged."""
        print("RUNS goes_on")
        return ()

    @task
    def never() -> None:
        print("RUNS never")

    @task
    def check_results(one: str, other: str, pushed: str) -> None:
        assert (one, other, pushed) == ("orders monday", "customers monday", "the result")

    check_calls(templated(called()))
    OfParams(task_id="of_params", params={"word": "one"})
    check_results(orders("monday"), customers("monday"), pushes())
    goes_on() >> never()


class Repeat(BaseOperator):
    """An operator as a package may have it."""

    template_fields = ("text",)

    def __init__(self, *, text: str, times: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.text, self.times = text, times

    def execute(self, context: Any) -> str:
        print(f"RUNS {self.task_id}")
        context["ti"].xcom_push(key="length", value=len(self.text) * self.times)
        return self.text * self.times


class Reused(xcargo.MemoizeMixin, Repeat):
    """The same, reused."""


class Loud(xcargo.MemoizeMixin, Repeat):
    """One with code of its own."""

    memoize_options = {"scope": "dag"}

    def execute(self, context: Any) -> str:
        return super().execute(context).upper()


with DAG("contract_memo_operators", start_date=datetime(2026, 1, 1), schedule=None, catchup=False) as operators:
    TEXT = "{{ var.value.contract_rounds }}a"
    plain = Reused(task_id="plain", text="a", times=500)
    templated_too = Reused(task_id="rendered", text=TEXT, times=500)
    mapped = Loud.partial(task_id="mapped", times=500).expand(text=["a", "b"])
    like_mapped = Loud(task_id="like_mapped", text="b", times=500, retries=1)

    @task
    def check_operators(one: str, rendered: str, several: Any, like: str, length: int) -> None:
        assert one == "a" * 500
        assert rendered in ("1a" * 500, "2a" * 500)
        assert list(several) == ["A" * 500, "B" * 500]
        assert like == "B" * 500
        assert length == 500

    mapped >> like_mapped
    check_operators(plain.output, templated_too.output, mapped.output, like_mapped.output, plain.output["length"])


def claims(task_id: str) -> int:
    """How many claims there are of a task: they stand in an entry's place while it is computed."""
    root = Path(unquote(urlsplit(os.environ["AIRFLOW__XCARGO__PATH"]).path))
    files = (root / "~xcargo/memo/contract_memo_claims").glob(f"{task_id}/*.json")
    return sum("xcargo-memo-claim" in file.read_text() for file in files)


def tell(changed: list[str] | None) -> None:
    print("RUNS", "first" if changed is None else "changed")


with DAG("contract_memo_claims", start_date=datetime(2026, 1, 1), schedule=None, catchup=False) as claiming:

    @task
    @xcargo.memoize(wait=timedelta(hours=1), expires=timedelta())
    def expired() -> str:
        """Always has an entry that cannot be used."""
        print("RUNS claimed" if claims("expired") else "RUNS unclaimed")
        return "x" * 500

    @task
    @xcargo.memoize(wait=timedelta(seconds=1), depends_on=["variable:contract_rounds"], on_miss=tell)
    def varies() -> int:
        print("RUNS varies")
        return 1

    @task
    @xcargo.memoize(wait=timedelta(seconds=1))
    def nothing() -> None:
        print("RUNS nothing")

    @task
    @xcargo.memoize(wait=timedelta(seconds=1))
    def unpushed() -> object:
        print("RUNS unpushed")
        return threading.Lock()

    @task(trigger_rule="all_done")
    def check_claims() -> None:
        assert claims("*") == 0

    [expired(), varies(), nothing(), unpushed()] >> check_claims()

DAGS = [memo, shapes, calls, operators, claiming]

if BaseAsyncOperator:  # Airflow 3.2
    with DAG("contract_memo_async", start_date=datetime(2026, 1, 1), schedule=None, catchup=False) as asynchronous:

        @task
        @xcargo.memoize
        async def fetch() -> pd.DataFrame:
            print("RUNS fetch")
            await asyncio.sleep(0)
            return pd.DataFrame({"n": range(1000)})

        @task(multiple_outputs=True)
        @xcargo.memoize(depends_on=["variable:contract_rounds"])
        async def summed(frame: pd.DataFrame) -> dict[str, object]:
            print("RUNS summed")
            await asyncio.sleep(0)
            assert isinstance(frame, pd.DataFrame)
            return {"total": int(frame.n.sum()), "text": "z" * 500}

        @task
        def check_async(total: int, text: str) -> None:
            assert (total, text) == (499500, "z" * 500)

        sums = summed(fetch())
        check_async(sums["total"], sums["text"])

    DAGS.append(asynchronous)
