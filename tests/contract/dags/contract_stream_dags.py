"""Dags that pass files, folders, streams and handles between tasks, each in every way that an author can."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

import xcargo

try:
    from airflow.sdk import dag, get_current_context, task
except ImportError:
    from airflow.decorators import dag, task
    from airflow.operators.python import get_current_context

plain_dag: Callable[..., Any] = dag(schedule=None, start_date=datetime(2024, 1, 1), catchup=False)

DATA = bytes(range(256)) * 40_000
TABLE = pa.table({"n": list(range(50_000)), "s": [f"text {n}" for n in range(50_000)]})


def scratch(name: str) -> Path:
    """A place of the pushing task's own."""
    folder = Path(os.environ["AIRFLOW_HOME"]) / "scratch"
    folder.mkdir(exist_ok=True)
    return folder / name


def a_file() -> xcargo.File:
    scratch("data.csv").write_bytes(DATA)
    return xcargo.File(scratch("data.csv"))


def a_folder() -> xcargo.Directory:
    (scratch("model") / "deep").mkdir(parents=True, exist_ok=True)
    (scratch("model") / "deep" / "x").write_bytes(DATA)
    return xcargo.Directory(scratch("model"))


def a_reader() -> Any:
    return pa.RecordBatchReader.from_batches(TABLE.schema, TABLE.to_batches(max_chunksize=10_000))


def a_lazy_frame() -> Any:
    return pl.from_arrow(TABLE).lazy().filter(pl.col("n") < 40_000)  # type: ignore[union-attr]


@task
def hand_on(value: Any) -> Any:
    return value


def check(found: dict[str, Any]) -> None:
    """Assert that each value is what it was."""
    assert found["file"] == xcargo.File(scratch("data.csv"))
    assert found["file"].path.read_bytes() == DATA
    assert found["folder"] == xcargo.Directory(scratch("model"))
    assert found["stream"].read() == DATA * 2
    assert type(found["reader"]) is pa.RecordBatchReader
    assert found["reader"].read_all() == TABLE
    assert type(found["frame"]) is pl.LazyFrame
    assert found["frame"].select(pl.len()).collect().item() == 40_000


@plain_dag
def contract_streams() -> None:
    """Each returned by a task of its own, and some of them by another that got it; then all of them nested in one."""

    @task
    def file() -> Any:
        return a_file()

    @task
    def folder() -> Any:
        return a_folder()

    @task
    def stream() -> Any:
        return (kind(DATA) for kind in (bytes, bytearray))  # a function with a yield is Airflow's to consume

    @task
    def reader() -> Any:
        return a_reader()

    @task
    def frame() -> Any:
        return a_lazy_frame()

    @task
    def use(file: Any, folder: Any, stream: Any, reader: Any, frame: Any) -> Any:
        check({"file": file, "folder": folder, "stream": stream, "reader": reader, "frame": frame})
        return {"again": [file, folder, stream]}  # goes on without a download

    @task
    def nested() -> Any:
        pieces = (DATA for _ in range(2))
        values = {
            "file": a_file(),
            "folder": a_folder(),
            "stream": pieces,
            "reader": a_reader(),
            "frame": a_lazy_frame(),
        }
        return {"deep": [values, "beside"]}

    @task
    def use_nested(value: Any, again: Any) -> None:
        check(value["deep"][0])
        assert value["deep"][1] == "beside"
        assert again["again"][0].read_bytes() == DATA
        assert (again["again"][1] / "deep" / "x").read_bytes() == DATA

    use_nested(nested(), use(hand_on(file()), hand_on(folder()), stream(), reader(), hand_on(frame())))


@plain_dag
def contract_handles() -> None:
    """xcargo.lazy of a task, a mapped one, one of several outputs, an operator; in expand and partial; and a pull."""

    @task
    def table() -> Any:
        return TABLE

    @task
    def tiny() -> Any:
        return {"small": 1}

    @task(multiple_outputs=True)
    def several() -> dict[str, Any]:
        return {"one": TABLE, "other": 7}

    @task
    def part(number: int) -> Any:
        return TABLE.slice(number, 20_000)

    @task
    def use(handle: Any, small: Any, one: Any, whole: Any) -> None:
        assert type(handle) is xcargo.Lazy
        assert (handle.type, handle.shape) == ("pyarrow.Table", (50_000, 2))
        assert handle.to_arrow(["n"], slice(7, 9)).to_pydict() == {"n": [7, 8]}
        assert handle.scan().select(pl.col("n").max()).collect().item() == 49_999
        assert handle.load() == TABLE
        assert type(small) is type(one) is xcargo.Lazy
        assert small.load() == {"small": 1}
        assert one.load() == TABLE
        assert whole == TABLE

    @task
    def use_all(handles: Any) -> None:
        assert [type(handle) for handle in handles] == [xcargo.Lazy] * 3
        assert [handle.to_arrow(["n"], slice(0, 1)).to_pydict()["n"][0] for handle in handles] == [0, 1, 2]

    @task
    def use_each(handle: Any, also: Any) -> Any:
        assert type(handle) is type(also) is xcargo.Lazy
        assert also.load() == {"small": 1}
        return handle.to_arrow(["n"], slice(0, 1)).to_pydict()["n"][0]

    @task
    def collect(firsts: Any) -> None:
        assert list(firsts) == [0, 1, 2]

    @task
    def pull() -> None:
        ti: Any = get_current_context()["ti"]
        with xcargo.lazy():
            handle = ti.xcom_pull(task_ids="table")
            handles = list(ti.xcom_pull(task_ids="part", map_indexes=[2, 0]))
        assert handle.shape == (50_000, 2)
        assert [handle.shape for handle in handles] == [(20_000, 2)] * 2
        assert ti.xcom_pull(task_ids="table") == TABLE

    made, little = table(), tiny()
    parts = part.expand(number=[0, 1, 2])
    handed_on = hand_on(xcargo.lazy(made))
    use(xcargo.lazy(handed_on), xcargo.lazy(little.operator), xcargo.lazy(several()["one"]), handed_on)
    use_all(xcargo.lazy(parts))
    collect(use_each.partial(also=xcargo.lazy(little)).expand(handle=xcargo.lazy(parts)))
    [made, parts] >> pull()


@plain_dag
def contract_annotated() -> None:
    """On Airflow 3 a parameter that is annotated with xcargo.Lazy gets a handle, and no other does."""

    @task
    def table() -> Any:
        return TABLE

    @task(multiple_outputs=True)
    def several() -> dict[str, Any]:
        return {"one": TABLE, "other": 7}

    @task
    def use(
        handle: xcargo.Lazy, whole: Any, one: xcargo.Lazy | None = None, other: Any = None, name: str = "n", *, ti: Any
    ) -> None:
        assert type(handle) is type(one) is xcargo.Lazy
        assert handle.to_arrow([name], slice(7, 9)).to_pydict() == {name: [7, 8]}
        assert one.load() == TABLE
        assert (whole, other) == ([TABLE], 7)
        assert ti.xcom_pull(task_ids="several", key="one") == TABLE

    @task
    def both(handle: xcargo.Lazy, value: Any) -> None:
        assert handle == value == TABLE

    @task
    def each(number: int, handle: xcargo.Lazy) -> None:
        assert number in (1, 2)
        assert type(handle) is xcargo.Lazy

    @task
    def again() -> Any:
        return TABLE

    made, made_again, parts = table(), again(), several()
    use(made, [made_again], one=parts["one"], other=parts["other"])
    both(made, made)  # which could not tell them apart
    each.partial(handle=made).expand(number=[1, 2])


@plain_dag
def contract_refused() -> None:
    """Expanding over a handle of a list: told while the task starts, with what to write instead."""

    @task
    def numbers() -> Any:
        return [1, 2]

    @task
    def each(number: Any) -> None:
        raise AssertionError("It ran")

    each.expand(number=xcargo.lazy(numbers()))


DAGS = [contract_streams(), contract_handles(), contract_annotated(), contract_refused()]
for _dag in DAGS:
    globals()[_dag.dag_id] = _dag
