"""What is fuzzed: each target takes any bytes, and may raise nothing but the errors that a decoder is allowed.

An input is one byte that picks the params of a real value, and a payload. ``seeds`` gives real payloads to start from.
"""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import json
import os
import re
import time
import uuid
import zoneinfo
from array import array
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from tests.unit.codecs.known_classes import KnownClasses
from xcargo.codecs import Registry
from xcargo.codecs.base import contiguous
from xcargo.codecs.files import Directory
from xcargo.errors import DecodeError, EnvelopeError, IntegrityError, MissingDependencyError
from xcargo.model.envelope import Envelope, is_envelope
from xcargo.model.key_order import marked, restored
from xcargo.transfer.compression import SUFFIXES, compress, decompress

__all__ = ["TARGETS", "Target"]

ALLOWED = (DecodeError, EnvelopeError, IntegrityError, MissingDependencyError)
MAX_BYTES = 1 << 20


class Colour(enum.Enum):
    RED = 1


@dataclass
class Order:
    number: int
    note: Any = None


REGISTRY = Registry(classes=KnownClasses(__name__), entry_points=False)


@dataclass(frozen=True)
class Target:
    """A decoder, ``run(data)``, and the payloads that fuzzing begins with."""

    run: Callable[[bytes], object]
    seeds: Callable[[], Iterator[bytes]]


def _codec(values: Callable[[], list[Any]]) -> Target:
    """The codecs of the values, with the params of one of them and any payload."""
    payloads: list[tuple[str, dict[str, Any], bytes]] = []

    def encoded() -> list[tuple[str, dict[str, Any], bytes]]:
        if not payloads:
            for value in values():
                one = REGISTRY.encode(value)
                payloads.append((one.codec, json.loads(json.dumps(dict(one.params))), bytes(contiguous(one))))
        return payloads

    def run(data: bytes) -> None:
        if data:
            codec, params, _ = encoded()[data[0] % len(encoded())]
            REGISTRY.decode(codec, data[1:], params)

    return Target(run, lambda: (bytes([n]) + payload for n, (_, _, payload) in enumerate(encoded())))


def _tree() -> list[Any]:
    zone = dt.timezone(dt.timedelta(hours=2))
    moments = (dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")), dt.date(2026, 1, 2))
    return [
        (1, ("a", [2.5, None])),
        [2**100, -(2**70), float("inf"), -0.0, 3 + 4j, Decimal("0.10"), Fraction(1, 3)],
        {1: "a", (2, 3): "b", None: "c", "d": {False: 0}},
        [{1, 2}, frozenset({"x"})],
        (*moments, dt.time(3, 4, 5, 6, tzinfo=zone), dt.timedelta(days=-1, microseconds=7), zone),
        [
            deque([1], maxlen=2),
            OrderedDict(b=1, a=2),
            Counter("aab"),
            defaultdict(list, a=[1]),
            range(0, 9, 2),
            slice(1),
        ],
        [uuid.UUID(int=7), PurePosixPath("/a/b"), ..., re.compile("a+"), ipaddress.ip_network("10.0.0.0/8")],
        {"a": b"x", "b": bytearray(b"y"), "c": memoryview(b"z"), "d": array("d", [1.5]), "e": SimpleNamespace(a=1)},
        [time.gmtime(0), os.stat("/")],
    ]


def _objects() -> list[Any]:
    return [Colour.RED, Order(1, {"a": Order(2)}), [Order(3, Colour.RED)]]


def _rows() -> list[Any]:
    import sqlite3

    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    rows = connection.execute("SELECT 1 AS a, 'x' AS b UNION SELECT 2, NULL").fetchall()
    connection.close()
    Row = namedtuple("Row", "id note")  # noqa: PYI024
    return [rows, rows[0], [Row(1, (2,)), Row(None, [Row(3, 4)])], {"a": [Row(1, 2)], "b": Row(5, 6)}]


def _numpy() -> list[Any]:
    import numpy as np

    return [
        np.arange(3),
        np.float32(1),
        np.array(["a", (1,)], object),
        np.array(["a", "b"], np.dtypes.StringDType(na_object=None)),
        np.ma.array([1, 2], mask=[True, False], fill_value=3),
        np.rec.array([(1, "a")], dtype=[("x", "i4"), ("y", "U2")]),
        np.array([(1, [2])], [("a", "i1"), ("o", "O")]),
        np.ma.array([1, "a"], mask=[False, True], dtype=object, fill_value="n"),
        np.dtype([("a", ">i4"), ("b", "M8[us]")]),
    ]


def _numpy_params(data: bytes) -> None:
    """Any description, of eight bytes."""
    params = json.loads(data)
    if type(params) is dict:
        REGISTRY.decode("numpy", b"12345678", params)


def _numpy_params_seeds() -> Iterator[bytes]:
    import numpy as np

    fields = np.dtype([("a", "<i4"), ("b", "U1", (1,))], align=True)
    for value in (
        np.arange(1),
        np.float64(1),
        np.zeros((1, 2), "f4").T,
        np.zeros(1, fields),
        np.rec.array([(1, 2)], dtype="i4,i4"),
    ):
        yield json.dumps(dict(REGISTRY.encode(value).params)).encode()


def _pandas() -> list[Any]:
    import numpy as np
    import pandas as pd

    days = pd.date_range("2026-01-01", periods=2, freq="D", tz="Europe/Paris")
    frame = pd.DataFrame({"i": [1, 2], "s": pd.Series(["a", None], dtype=object), "c": pd.Categorical(["x", None])})
    return [
        frame,
        pd.DataFrame({"z": days, "n": pd.array([1, None], "Int8"), "p": pd.period_range("2026", periods=2, freq="Y")}),
        pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([(1, "a"), (2, "b")])),
        pd.Series(pd.arrays.SparseArray([0.0, np.nan, 1.0])),
        pd.Series([1, "x", (2,)], dtype=object, name="o"),
        pd.Index([1.5, 2]),
        pd.Timestamp("2026-01-01", tz="UTC"),
        pd.offsets.MonthEnd(2),
        pd.interval_range(0, 2),
        pd.interval_range(days[0], periods=2),
        pd.DataFrame([[1, 2]], columns=pd.period_range("2026-01", periods=2, freq="M")),
    ]


def _pyarrow() -> list[Any]:
    import pyarrow as pa

    return [
        pa.table({"a": [1, None], "s": ["x", "y"], "l": [[1], [2, 3]], "d": pa.array(["q", "q"]).dictionary_encode()}),
        pa.record_batch({"m": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int8())), "b": [True, None]}),
        pa.array(["a", None], pa.string_view()),
        pa.RunEndEncodedArray.from_arrays([1, 3], ["a", "b"]),
        pa.scalar({"a": [1]}),
        pa.schema([("a", pa.decimal128(5, 2))]),
        pa.table({"j": pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{}"]))}),
    ]


def _polars() -> list[Any]:
    import polars as pl

    return [
        pl.DataFrame({"a": [1, None], "s": ["x", "a text that is longer than twelve bytes"], "l": [["x"], []]}),
        pl.DataFrame({"c": pl.Series(["a", "b"], dtype=pl.Categorical), "t": [{"k": 1}, {"k": 2}]}),
        pl.Series("e", ["x", None], dtype=pl.Enum(["x", "y"])),
        pl.Schema({"a": pl.List(pl.Int8), "b": pl.Datetime("us", "UTC")}),
        pl.Enum(["a", "b"]),
        pl.Categorical,
    ]


def _libraries() -> list[Any]:
    import numpy as np
    import scipy.sparse
    import xarray as xr

    dense = np.array([[0, 1.5, 0], [2, 0, 3]])
    formats = ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")
    array = xr.DataArray(dense, dims=("t", "x"), coords={"t": [1, 2], "h": ("x", ["a", "b", "c"])}, name="n")
    return [
        *(getattr(scipy.sparse, f"{name}_array")(dense) for name in formats),
        np.poly1d([1, 2]),
        np.polynomial.Chebyshev([1, 2.5]),
        np.random.default_rng(1),
        np.random.RandomState(1),
        array,
        array.stack(both=("t", "x")).to_dataset(),
    ]


def _images() -> list[Any]:
    import PIL.Image

    indexed = PIL.Image.new("P", (5, 5), 3)
    indexed.putpalette(range(30))
    return [PIL.Image.new("RGB", (9, 9), "red"), PIL.Image.new("1", (9, 2)), PIL.Image.new("F", (2, 2)), indexed]


def _estimators() -> list[Any]:
    import numpy as np
    from sklearn.linear_model import LinearRegression

    return [LinearRegression().fit(np.eye(3), [1, 2, 3])]


def _unpack(data: bytes) -> None:
    """An archive of a folder, whose headers have the checksums that they should have."""
    archive = bytearray(data)
    for at in range(0, len(archive) - 511, 512):
        if archive[at + 257 : at + 262] == b"ustar":
            archive[at + 148 : at + 156] = b" " * 8
            archive[at + 148 : at + 156] = b"%06o\0 " % sum(archive[at : at + 512])
    with TemporaryDirectory() as folder:
        REGISTRY.decode("file", bytes(archive), {"directory": "d"}).save(Path(folder, "target"))


def _unpack_seeds() -> Iterator[bytes]:
    with TemporaryDirectory() as folder:
        Path(folder, "sub").mkdir()
        Path(folder, "sub", "a" * 120).write_text("x" * 600)
        Path(folder, "link").symlink_to("sub")
        yield bytes(contiguous(REGISTRY.encode(Directory(folder))))


def _decompress(data: bytes) -> None:
    names = sorted(SUFFIXES)
    if len(data) > 4:
        name, size = names[data[0] % len(names)], int.from_bytes(data[1:4], "little")
        assert len(decompress(name, data[4:], size)) == size


def _decompress_seeds() -> Iterator[bytes]:
    for n, name in enumerate(sorted(SUFFIXES)):
        yield bytes([n]) + (900).to_bytes(3, "little") + bytes(compress(name, b"the words" * 100))


def _row(data: bytes) -> None:
    row = json.loads(data)
    if is_envelope(row):
        Envelope.from_row(row)
    restored(row)


def _row_seeds() -> Iterator[bytes]:
    yield json.dumps(Envelope("dict", "msgpack", 1, 1, data="AA==").to_row()).encode()
    yield json.dumps(marked([{"b": 1, "a": {"d": 1, "c": 2}}])).encode()


TARGETS = {
    "tree": _codec(_tree),
    "objects": _codec(_objects),
    "rows": _codec(_rows),
    "numpy": _codec(_numpy),
    "numpy-params": Target(_numpy_params, _numpy_params_seeds),
    "pandas": _codec(_pandas),
    "pyarrow": _codec(_pyarrow),
    "polars": _codec(_polars),
    "libraries": _codec(_libraries),
    "images": _codec(_images),
    "estimators": _codec(_estimators),
    "folder": Target(_unpack, _unpack_seeds),
    "compression": Target(_decompress, _decompress_seeds),
    "row": Target(_row, _row_seeds),
}
