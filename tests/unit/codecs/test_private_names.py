"""Names of other libraries that are not public, and that a codec depends on: a release without one fails here."""

from __future__ import annotations

from typing import Any

import attrs
import dateutil.tz
import numpy as np
import pendulum


def test_numpy_keeps_a_masked_array_s_own_fill_value_in_fill_value() -> None:
    """``MaskedArray._fill_value``, which is None unless it was set."""
    unset: Any = np.ma.array([1])
    assert unset._fill_value is None
    set_to_seven: Any = np.ma.array([1], fill_value=7)
    assert set_to_seven._fill_value == 7


def test_a_pickle_of_pendulum_s_interval_has_its_ends_and_whether_it_is_absolute() -> None:
    """``Interval.__reduce__``."""
    first, last = pendulum.naive(2026, 1, 1), pendulum.naive(2026, 1, 2)
    assert (last - first).__reduce__()[1] == (first, last, False)
    assert pendulum.Interval(last, first, absolute=True).__reduce__()[1][2] is True


def test_a_pickle_of_dateutil_s_zone_has_its_file() -> None:
    """``tzfile.__reduce__``."""
    assert dateutil.tz.gettz("Europe/Paris").__reduce__()[1][1].endswith("Europe/Paris")


def test_attrs_keeps_a_cached_hash_in_attrs_cached_hash() -> None:
    """``_attrs_cached_hash``, which is not stored, since hashes differ by process."""
    hashed = attrs.make_class("Hashed", ["name"], frozen=True, cache_hash=True)("x")
    assert vars(hashed)["_attrs_cached_hash"] is None
    assert hash(hashed) == vars(hashed)["_attrs_cached_hash"]
