"""A Dag that returns every kind of value that the types page tells of, and a task that takes them.

Libraries are imported in functions: a process that runs only the second task has nothing of them yet.
"""

from __future__ import annotations

import json
import os
from collections import ChainMap, OrderedDict, UserDict, UserList, UserString, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import attrs
import pydantic

try:
    from airflow.sdk import dag, task
except ImportError:
    from airflow.decorators import dag, task


class Kind(Enum):
    URGENT = "u"


class Pair(NamedTuple):
    one: int
    other: Any


@dataclass
class Order:
    """A class that the file of a Dag defines. None of these is on the allow-list."""

    class Lane(Enum):
        FAST = 1

    number: int
    kind: Kind
    lane: Lane


@attrs.frozen
class Parcel:
    orders: list[Order]


class Invoice(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    parcel: Parcel
    site: pydantic.HttpUrl
    database: pydantic.PostgresDsn
    size: pydantic.ByteSize
    port: pydantic.PositiveInt


def own_classes() -> dict[str, Any]:
    """Instances of those."""
    order = Order(1, Kind.URGENT, Order.Lane.FAST)
    invoice = Invoice(
        parcel=Parcel([order] * 2), site="https://a.b/c", database="postgresql://u@h/d", size="2MiB", port=5
    )
    return {"own classes": [order, Pair(1, (order,)), Parcel([order]), Kind.URGENT], "own model": invoice}


def from_examples() -> dict[str, Any]:
    """The value of every example of the page; of each library that is here."""
    from tests.roundtrips.examples import examples, names

    known, found = names(), {}
    for kind, example in examples().items():
        try:
            found[kind] = eval(example, known)
        except (AttributeError, NameError):  # a type that came later, or a library that is not here
            print(f"skipped: {kind}")
    return found


def beside_the_examples() -> dict[str, Any]:
    """What the page tells of in sentences, and values of several parts."""
    import io
    import time

    found: dict[str, Any] = {
        "time": time.gmtime(0),
        "stat": os.stat_result(range(10)),
        "files": [io.BytesIO(b"content"), io.StringIO("text")],
        "pydantic": [pydantic.AnyUrl("https://a.b"), pydantic.ByteSize(5)],
    }
    if find_spec("polars"):
        import polars as pl

        found["polars"] = [pl.Schema({"a": pl.Int8, "b": pl.List(pl.Date)}), pl.Decimal(10, 2), pl.Enum(["x"])]
    if find_spec("pandas"):
        import pandas as pd

        days = pd.date_range("2026-01-01", periods=3, tz="Europe/Paris")
        found["zoned intervals"] = pd.cut(pd.Series(days), pd.interval_range(days[0], days[2]).left)
        found["twice"] = pd.DataFrame([[9, 1, 2], [8, 3, 4]], columns=["a", "b", "b"]).groupby("a").describe()
    if find_spec("db_dtypes"):
        import db_dtypes  # noqa: F401 - registers its dtypes

        times = {"d": pd.Series(["2026-01-01", None], dtype="dbdate"), "t": pd.Series(["01:02", None], dtype="dbtime")}
        found["db-dtypes"] = pd.DataFrame(times)
    if find_spec("torch"):
        import torch

        found["torch"] = [torch.ones(2, dtype=torch.bfloat16), torch.nn.Parameter(torch.ones(300, 300))]
    if find_spec("scipy") and find_spec("xarray") and find_spec("PIL") and find_spec("sklearn"):
        import numpy as np
        import PIL.Image
        import scipy.sparse
        import xarray as xr
        from sklearn.preprocessing import StandardScaler

        found["science"] = {
            "sparse": scipy.sparse.csr_matrix(np.eye(300)),
            "dataset": xr.Dataset({"heat": ("t", [1.5, 2.5])}, coords={"t": [10, 20]}, attrs={"units": "K"}),
            "polynomials": [np.poly1d([1, 2]), np.polynomial.Chebyshev([1, 2], domain=[0, 5])],
            "picture": PIL.Image.new("RGB", (300, 200), "red"),
            "model": StandardScaler().fit([[1.0], [3.0]]),
        }
    if find_spec("psycopg2"):
        import psycopg2.extras

        row = psycopg2.extras.DictRow.__new__(psycopg2.extras.DictRow)
        row.__setstate__(([1, "a"], OrderedDict(id=0, name=1)))
        found["psycopg2"] = [row] * 300
    return found


def near_enough() -> dict[str, tuple[Any, Any]]:
    """What a task returns, and what the next one gets for it."""
    a_dict = {"a": 1}
    plain = ["a", 1, 1.5, 2j, b"b", bytearray(b"c"), [1], (1,), {1}, frozenset({1}), a_dict, OrderedDict(a=1)]
    own = [type(f"My{type(value).__name__}", (type(value),), {})(value) for value in plain]
    found: dict[str, tuple[Any, Any]] = {
        "subclasses": (own, [*plain[:-1], a_dict]),
        "mappings": (
            [UserDict(a_dict), ChainMap(a_dict), MappingProxyType(a_dict), defaultdict(lambda: 0, a_dict)],
            [a_dict] * 4,
        ),
        "views": ([a_dict.keys(), a_dict.values(), a_dict.items()], [["a"], [1], [("a", 1)]]),
        "user's": ([UserList([1]), UserString("a")], [[1], "a"]),
        "iterators": (
            [map(str, [1]), zip([1], [2]), filter(None, [1]), enumerate("a"), iter([1]), (n for n in range(300))],
            [["1"], [(1, 2)], [1], [(0, "a")], [1], list(range(300))],
        ),
    }
    if find_spec("numpy"):
        import numpy as np

        mapped = np.memmap(Path(os.environ["AIRFLOW_HOME"], "mapped"), dtype="i4", mode="w+", shape=(2, 3))
        found["memmap"] = (mapped, np.zeros((2, 3), "i4"))
    if find_spec("pandas"):
        import pandas as pd

        tables = [pd.DataFrame({"a": [1]}), pd.Series([1], name="s")]
        found["tables"] = ([type("Own", (type(table),), {})(table) for table in tables], tables)
    if find_spec("matplotlib"):
        from matplotlib.figure import Figure

        found["drawing"] = (Figure(), None)
    return found


plain_dag: Callable[..., Any] = dag(schedule=None, start_date=datetime(2024, 1, 1), catchup=False)


@plain_dag
def contract_kinds() -> None:
    """Both tasks can run by themselves, in processes of their own."""

    @task
    def give_exact() -> Any:
        return from_examples() | beside_the_examples() | own_classes()

    @task
    def give_near_enough() -> Any:
        return {kind: given for kind, (given, _) in near_enough().items()}

    @task
    def take(exact: Any, near: Any) -> None:
        from tests.exact import assert_exact

        expected = from_examples() | beside_the_examples() | own_classes()
        assert exact.keys() == expected.keys()
        for kind, value in expected.items():
            assert_exact(exact[kind], value, kind)
        assert [file.read() for file in exact["files"]] == [b"content", "text"]
        assert [row["name"] for row in exact.get("psycopg2", ())] in ([], ["a"] * 300)
        with near.pop("drawing").open() if "drawing" in near else open(os.devnull, "rb") as picture:
            assert picture.read(4) in (b"\x89PNG", b"")
        for kind, value in near.items():
            assert_exact(value, near_enough()[kind][1], kind)
        taken = {"process": os.getpid(), "kinds": [*exact, *near]}
        Path(os.environ["AIRFLOW_HOME"], "taken.json").write_text(json.dumps(taken))

    take(give_exact(), give_near_enough())


DAG = contract_kinds()
