"""bytes, numpy and tables."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from xcargo.codecs import Codec, Registry
from xcargo.codecs.arrow import ArrowCodec
from xcargo.codecs.bytes import BytesCodec
from xcargo.codecs.numpy import NumpyCodec
from xcargo.errors import DecodeError, MissingDependencyError, UnsupportedTypeError
from xcargo.testing import CodecTests


class TestBytes(CodecTests):
    """bytes and bytearray."""

    VALUES: Sequence[Any] = (b"", b"\0\xff", bytearray(b"abc"))

    @pytest.fixture
    def codec(self) -> Codec:
        return BytesCodec()


def test_bytes_are_not_copied_to_encode_them() -> None:
    """The payload of bytes is the very object."""
    value = b"x" * 1000
    assert BytesCodec().encode(value).parts[0] is value


class TestNumpy(CodecTests):
    """Arrays and scalars of every kind of dtype."""

    VALUES: Sequence[Any] = (
        np.arange(12, dtype="<i8").reshape(3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(10)[::2],
        np.array(5.0),
        np.zeros((0, 3), dtype="f4"),
        np.array([True, False]),
        np.array(["2026-01-01", "NaT"], dtype="datetime64[ns]"),
        np.array([1, 2], dtype="timedelta64[s]"),
        np.array(["a", "bc"]),
        np.array([b"a", b"bc"]),
        np.array([1 + 2j]),
        np.array([(1, 2.0, [3, 4])], dtype=[("a", "i4"), ("b", ">f8"), ("c", "i2", (2,))]),
        np.array([1, 2], dtype=">u2"),
        np.float32(1.5),
        np.int64(-1),
        np.datetime64("2026-01-01T00:00"),
        np.bool_(True),
    )

    @pytest.fixture
    def codec(self) -> Codec:
        return NumpyCodec()

    def equal(self, left: Any, right: Any) -> bool:
        return (
            type(left) is type(right)
            and left.dtype == right.dtype
            and np.array_equal(left, right, equal_nan=right.dtype.kind in "fcmM")
            and (np.ndim(right) < 2 or left.flags.f_contiguous == right.flags.f_contiguous)
        )


def test_an_array_comes_back_writable() -> None:
    """Users change arrays in place."""
    encoded = NumpyCodec().encode(np.arange(3))
    back = NumpyCodec().decode(bytes(encoded.parts[0]), encoded.params)
    back[0] = 7
    assert back.tolist() == [7, 1, 2]


def test_a_contiguous_array_is_not_copied_to_encode_it() -> None:
    """The payload is the array's own memory, in C and in Fortran order."""
    for array in (np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3))):
        assert np.shares_memory(np.frombuffer(NumpyCodec().encode(array).parts[0], dtype=np.uint8), array)


def test_object_arrays_are_refused() -> None:
    """Objects have no bytes."""
    with pytest.raises(UnsupportedTypeError, match="object"):
        NumpyCodec().encode(np.array([object()]))


@pytest.mark.parametrize(
    "params",
    [
        {"dtype": "<i8", "shape": [2**60, 2**60]},
        {"dtype": "<i8", "shape": [-1]},
        {"dtype": "|O", "shape": [1]},
        {"dtype": "rubbish", "shape": [1]},
        {"dtype": [["a"]], "shape": [1]},
        {"shape": [1]},
    ],
)
def test_a_forged_shape_or_dtype_is_refused_without_allocating(params: dict[str, Any]) -> None:
    """Claims beyond the payload raise DecodeError."""
    with pytest.raises(DecodeError):
        NumpyCodec().decode(b"12345678", params)


FRAME = pd.DataFrame({"a": [1, 2], "s": ["x", None]})


class TestArrow(CodecTests):
    """Tables of the three libraries."""

    VALUES: Sequence[Any] = (
        pl.DataFrame({"a": [1, None], "b": [["x"], []], "c": [{"k": 1}, {"k": 2}]}),
        pl.Series("s", [1.5, None]),
        pa.table({"a": [1, None], "b": ["x", "y"]}),
        pa.record_batch({"a": [1, 2]}),
        pa.record_batch({"a": pa.array([], pa.int8())}),
    )

    @pytest.fixture
    def codec(self) -> Codec:
        return ArrowCodec()

    def equal(self, left: Any, right: Any) -> bool:
        if type(left) is not type(right):
            return False
        return bool(left.equals(right)) and getattr(left, "schema", 0) == getattr(right, "schema", 0)


def test_a_table_tells_its_columns_and_shape_in_the_envelope() -> None:
    """The XCom tab shows what a frame is without reading it."""
    params = ArrowCodec().encode(pa.table({"a": [1], "b": ["x"]})).params
    assert params["columns"] == {"a": "int64", "b": "string"}
    assert params["shape"] == [1, 2]


@pytest.mark.parametrize(("library", "value"), [("pandas", "pandas.DataFrame"), ("polars", "polars.DataFrame")])
def test_a_missing_library_is_named_with_its_install_command(library: str, value: str) -> None:
    """On a worker without the library the error says what to install."""
    encoded = Registry(entry_points=False).encode({"pandas": FRAME, "polars": pl.DataFrame({"a": [1]})}[library])
    script = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from xcargo.codecs import Registry\n"
        f"Registry().decode({encoded.codec!r}, sys.stdin.buffer.read(), {dict(encoded.params)!r})"
    )
    payload = bytes(encoded.parts[0])
    done = subprocess.run([sys.executable, "-c", script], input=payload, capture_output=True, check=False)
    assert f"pip install 'airflow-provider-xcargo[{library}]'" in done.stderr.decode()


def test_an_unknown_codec_names_its_id_and_what_to_do() -> None:
    """A value from a codec that is not installed here is not guessed at."""
    with pytest.raises(MissingDependencyError, match="'acme'"):
        Registry(entry_points=False).codec("acme")


def test_encoding_ordinary_values_imports_no_heavy_library() -> None:
    """numpy, pandas, pyarrow and polars load only where their values are."""
    script = (
        "import sys\nfrom xcargo.codecs import Registry\n"
        "r = Registry(); e = r.encode({'a': [1, (2,), b'x']}); r.decode(e.codec, e.parts[0], {})\n"
        "print([m for m in ('numpy', 'pandas', 'pyarrow', 'polars', 'fsspec') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
