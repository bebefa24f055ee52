"""Where values come from: what the installed suites of pandas and pyarrow compare, and generators of values."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable
from datetime import timezone
from functools import wraps
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st

__all__ = ["SOURCES"]

Add = Callable[[Any], None]
_SHAPES = ("indexes", "indexing", "resample", "reshape", "window")


class _Suite:
    """A pytest plugin that adds what the tests compare. The order is mixed, and the same each time."""

    def __init__(self, add: Add, seconds: float) -> None:
        self._add = add
        self._seconds = seconds
        self._until = 0.0

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: zlib.crc32(item.nodeid.encode()))
        self._until = time.process_time() + self._seconds

    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        if time.process_time() > self._until:
            item.session.shouldstop = "The time is over"

    def wrap(self, module: Any, names: Iterable[str]) -> None:
        """Replace asserts of two values by such that add both first."""
        for name in names:
            compare = getattr(module, name)

            @wraps(compare)
            def wrapped(left: Any, right: Any, *more: Any, compare: Any = compare, **options: Any) -> Any:
                __tracebackhide__ = True
                self._add(left)
                self._add(right)
                return compare(left, right, *more, **options)

            setattr(module, name, wrapped)


def _suite(*packages: str) -> Callable[[Add, float], None]:
    def run(add: Add, seconds: float) -> None:
        import pandas._testing
        import pandas.testing

        suite = _Suite(add, seconds)
        kinds = "numpy_array categorical datetime_array interval_array period_array timedelta_array"
        public = [f"assert_{kind}_equal" for kind in "frame series index extension_array".split()]
        suite.wrap(pandas.testing, public)
        suite.wrap(pandas._testing, [*public, "assert_equal", *(f"assert_{kind}_equal" for kind in kinds.split())])
        options = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--no-header", "--tb=no", "-r", "N"]
        pytest.main([*options, "-W", "ignore", "--pyargs", *packages], plugins=[suite])

    return run


def _generated(strategies: Callable[[], Iterable[st.SearchStrategy[Any]]]) -> Callable[[Add, float], None]:
    def run(add: Add, seconds: float) -> None:
        each = list(strategies())
        for strategy in each:
            try:
                _draw(strategy, add, time.process_time() + seconds / len(each))
            except Exception as error:  # the generators' own
                print(f"{strategy!r:.100}: {type(error).__name__}: {error!s:.200}", flush=True)

    return run


def _draw(strategy: st.SearchStrategy[Any], add: Add, until: float) -> None:
    @settings(
        max_examples=400,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw(value: Any) -> None:
        if time.process_time() < until:
            add(value)

    draw()


def _numpy_formats(add: Add, seconds: float) -> None:
    from numpy.lib.tests import test_format

    for array in (*test_format.basic_arrays, *test_format.record_arrays):
        add(array)


def _pyarrow() -> Iterable[st.SearchStrategy[Any]]:
    from pyarrow.tests import strategies as past

    past.pytest = SimpleNamespace(skip=lambda _: reject())  # they skip a test from inside a draw
    names = "types fields schemas arrays chunked_arrays record_batches tables"
    return [getattr(past, f"all_{name}") for name in names.split()]


def _polars() -> Iterable[st.SearchStrategy[Any]]:
    from polars.testing import parametric

    return [
        parametric.series(),
        parametric.dataframes(),
        parametric.dataframes(lazy=True),
        parametric.dtypes().map(lambda dtype: dtype),
    ]


def _numpy() -> Iterable[st.SearchStrategy[Any]]:
    from hypothesis.extra import numpy as npst

    scalars = npst.scalar_dtypes()
    shapes = npst.array_shapes(min_dims=0, min_side=0)
    return [
        npst.arrays(scalars, shapes),
        npst.arrays(npst.nested_dtypes(), shapes),
        npst.arrays(npst.array_dtypes(), shapes),
        scalars.flatmap(npst.from_dtype),
        npst.nested_dtypes(),
    ]


def _pandas() -> Iterable[st.SearchStrategy[Any]]:
    import pandas as pd
    from hypothesis.extra import numpy as npst
    from hypothesis.extra import pandas as pdst

    dtypes = st.one_of(
        npst.boolean_dtypes(),
        npst.integer_dtypes(endianness="="),
        npst.floating_dtypes(endianness="=", sizes=(32, 64)),
        st.sampled_from(["M8[ns]", "m8[ns]", "complex128", "O"]),
    )

    def column(dtype: Any) -> pdst.column:
        elements = _plain() if dtype == "O" else None
        return pdst.column(dtype=dtype, elements=elements)

    frames = (
        st.lists(dtypes, max_size=4)
        .map(lambda kinds: [column(d) for d in kinds])
        .flatmap(
            lambda columns: pdst.data_frames([pdst.column(f"c{n}", c.elements, c.dtype) for n, c in enumerate(columns)])
        )
    )
    return [
        frames,
        frames.map(lambda frame: frame.convert_dtypes()),
        frames.map(lambda frame: frame.select_dtypes("number").convert_dtypes(dtype_backend="pyarrow")),
        dtypes.flatmap(lambda dtype: pdst.series(dtype=dtype, elements=_plain() if dtype == "O" else None)),
        dtypes.filter(lambda d: d != "O").flatmap(lambda dtype: pdst.indexes(dtype=dtype)),
        pdst.range_indexes(name=st.none() | st.text()),
        st.datetimes(pd.Timestamp.min, pd.Timestamp.max, timezones=st.none() | st.timezones()).map(pd.Timestamp),
    ]


def _plain() -> st.SearchStrategy[Any]:
    """Python's own values, of every type that hypothesis can make of its name alone, nested."""
    offsets = st.timedeltas().map(lambda delta: timezone(delta % timezone.max.utcoffset(None)))
    zones = st.none() | st.timezones() | offsets
    keys = st.one_of(
        *(st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.binary(), st.uuids()),
        st.text(st.characters()),
        *(
            st.decimals(allow_nan=False),
            st.fractions(),
            st.dates(),
            st.times(timezones=zones),
            st.datetimes(timezones=zones),
        ),
        *(st.dates(), st.times(timezones=zones), st.datetimes(timezones=zones)),
    )
    leaves = st.one_of(
        keys,
        *(
            st.decimals(),
            st.slices(9),
            st.binary().map(bytearray),
            st.binary().map(lambda data: memoryview(data)),
            st.just(...),
        ),
        st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 9)),
    )

    def nested(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.one_of(
            *(st.lists(values), st.lists(values).map(tuple), st.dictionaries(keys, values)),
            *(st.sets(keys), st.frozensets(keys), st.dictionaries(st.text(), values)),
        )

    return st.recursive(leaves, nested, max_leaves=20)


def _builtins() -> list[type]:
    import collections
    import datetime
    import decimal
    import fractions
    import ipaddress
    import uuid

    plain: list[type] = [int, float, complex, str, bytes, bytearray, bool, range, memoryview, slice]
    times: list[type] = [datetime.date, datetime.time, datetime.datetime, datetime.timedelta, datetime.timezone]
    numbers: list[type] = [decimal.Decimal, fractions.Fraction, uuid.UUID]
    networks: list[type] = [ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network]
    counts: Any = [collections.Counter[str], collections.deque[int], collections.OrderedDict[str, int]]
    return [*plain, *times, *numbers, *networks, *counts, collections.defaultdict[str, int]]


SOURCES: dict[str, tuple[Callable[[Add, float], None], float]] = {
    "pandas: extension arrays": (_suite("pandas.tests.extension", "pandas.tests.arrays"), 120),
    "pandas: frames and series": (_suite("pandas.tests.frame", "pandas.tests.series", "pandas.tests.groupby"), 120),
    "pandas: indexes and shapes": (_suite(*(f"pandas.tests.{part}" for part in _SHAPES)), 90),
    "pyarrow: test_pandas": (_suite("pyarrow.tests.test_pandas"), 60),
    "pyarrow: strategies": (_generated(_pyarrow), 30),
    "numpy: test_format": (_numpy_formats, 30),
    "polars: parametric": (_generated(_polars), 30),
    "hypothesis: numpy": (_generated(_numpy), 20),
    "hypothesis: pandas": (_generated(_pandas), 30),
    "hypothesis: Python": (_generated(lambda: [_plain(), *map(st.from_type, _builtins())]), 40),
}
"""Name -> where values come from, and for how many seconds they are drawn."""
