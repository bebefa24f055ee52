"""Arrays: what is in them in numbers, and a picture of them small enough for a screen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from xcargo.codecs.base import importable
from xcargo.codecs.registry import Registry
from xcargo.errors import DecodeError, UnsupportedTypeError
from xcargo.explorer.payload import Payload

__all__ = ["Array"]

_POINTS = 400
_SIDE = 96
_BINS = 32
_SAMPLES = 16


class Array:
    """A stored numpy array of a plain dtype. Raises UnsupportedTypeError for arrays of objects or of text."""

    def __init__(self, payload: Payload, params: Mapping[str, Any]) -> None:
        self._np = importable("numpy", "a numpy array")
        self._payload = payload
        described, shape = params.get("dtype"), params.get("shape")
        if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
            raise DecodeError("The envelope tells no shape of the array")
        self.shape: tuple[int, ...] = tuple(shape)
        self._described = described
        self._numpy = Registry(entry_points=False).codec("numpy")
        if described in ("|O", "T"):
            raise UnsupportedTypeError("An array of Python objects or of text of any length has no picture")
        one = self._numpy_decode(b"", 0)
        self.dtype = one.dtype
        # Of an array in Fortran's order the first axis varies fastest: it lies as its transpose would.
        self._reversed = params.get("order") == "F"
        self._lying = self.shape[::-1] if self._reversed else self.shape
        if self.count * self.dtype.itemsize > payload.size_bytes:
            raise DecodeError("The array claims more than its object holds")

    @property
    def count(self) -> int:
        """Number of items."""
        return math.prod(self.shape)

    def summary(self) -> dict[str, Any]:
        """Least, greatest, mean, spread and a histogram: of all items, or of 16 samples of a large array."""
        told: dict[str, Any] = {"shape": list(self.shape), "dtype": str(self.dtype)[:200], "count": self.count}
        if self.dtype.kind not in "biufc" or not self.count:
            return told
        np = self._np
        most = max(1, min(self._payload.budget.max_bytes // 2, 32 * 1024 * 1024) // self.dtype.itemsize)
        if self.count <= most:
            items = self._items(0, self.count)
        else:
            size = most // _SAMPLES
            starts = [(self.count - size) * n // (_SAMPLES - 1) for n in range(_SAMPLES)]
            items = np.concatenate([self._items(start, start + size) for start in starts])
        numbers = (np.abs(items) if self.dtype.kind == "c" else items).astype(np.float64)
        finite = numbers[np.isfinite(numbers)]
        told |= {"sampled": int(items.size), "not_finite": int(items.size - finite.size)}
        if not finite.size:
            return told
        low, high = float(finite.min()), float(finite.max())
        with np.errstate(all="ignore"):
            spread = high - low > 1e-9 * max(abs(low), abs(high)) and math.isfinite(high - low)  # else no room for bins
            bins = np.histogram(finite, bins=_BINS)[0] if spread else [finite.size]
            mean, std = float(finite.mean()), float(finite.std())
        return told | {
            "min": repr(low),
            "max": repr(high),
            "mean": repr(mean),
            "std": repr(std),
            "bins": [int(n) for n in bins],
        }

    def picture(self, indexes: tuple[int, ...] = ()) -> dict[str, Any]:
        """Points of a line (one dimension), or cells of a heat map (the last two; ``indexes`` choose the others)."""
        if self.dtype.kind not in "biufc" or not self.count:
            return {"kind": "none"}
        if len(self.shape) <= 1:
            places = self._spread(self.count, _POINTS)
            values = [self._number((place,) if self.shape else ()) for place in places]
            return {"kind": "line", "places": places, "values": values}
        indexes = tuple(
            min(max(i, 0), n - 1) for i, n in zip((*indexes, *([0] * len(self.shape))), self.shape[:-2], strict=False)
        )
        rows, columns = (self._spread(n, _SIDE) for n in self.shape[-2:])
        cells = []
        for row in rows:
            self._payload.budget.check()
            cells.append(self._line((*indexes, row), columns))
        return {"kind": "heat", "rows": rows, "columns": columns, "cells": cells, "indexes": list(indexes)}

    def page(self, start: int, count: int, first: int, columns: int, indexes: tuple[int, ...] = ()) -> dict[str, Any]:
        """Items as text: rows ``start`` on and columns ``first`` on of the last two dimensions."""
        indexes = tuple(
            min(max(i, 0), n - 1) for i, n in zip((*indexes, *([0] * len(self.shape))), self.shape[:-2], strict=False)
        )
        rows = self.shape[-2] if len(self.shape) > 1 else self.count
        width = self.shape[-1] if len(self.shape) > 1 else 1
        start, first = min(max(start, 0), rows), min(max(first, 0), width)
        count, columns = max(0, min(count, rows - start, 200)), max(0, min(columns, width - first, 50))
        cells = []
        for row in range(start, start + count):
            if len(self.shape) > 1:
                cells.append([str(self._item((*indexes, row, n)))[:200] for n in range(first, first + columns)])
            else:
                cells.append([str(self._item((row,) if self.shape else ()))[:200]])
        return {"rows": rows, "columns": width, "start": start, "first": first, "cells": cells}

    def _line(self, row: tuple[int, ...], columns: list[int]) -> list[float | None]:
        """Some numbers of one row: in one read where the row lies together."""
        if not self._reversed and self.shape[-1] * self.dtype.itemsize <= self._payload.budget.max_bytes // 4:
            begin = self._place((*row, 0))
            items = self._items(begin, begin + self.shape[-1])
            return [_plain(items[column]) for column in columns]
        return [self._number((*row, column)) for column in columns]

    def _place(self, index: tuple[int, ...]) -> int:
        """Where among the items as they lie the one of this index is."""
        place = 0
        for i, n in zip(index[::-1] if self._reversed else index, self._lying, strict=True):
            place = place * n + i
        return place

    def _item(self, index: tuple[int, ...]) -> Any:
        place = self._place(index)
        return self._items(place, place + 1)[0]

    def _number(self, index: tuple[int, ...]) -> float | None:
        return _plain(self._item(index))

    def _items(self, start: int, stop: int) -> Any:
        size = self.dtype.itemsize
        return self._numpy_decode(bytes(self._payload.read(start * size, stop * size)), stop - start)

    def _numpy_decode(self, data: bytes, count: int) -> Any:
        return self._numpy.decode(data, {"dtype": self._described, "shape": [count]})

    @staticmethod
    def _spread(count: int, most: int) -> list[int]:
        """At most ``most`` places, evenly from the first to the last."""
        if count <= most:
            return list(range(count))
        return [n * (count - 1) // (most - 1) for n in range(most)]


def _plain(item: Any) -> float | None:
    """A number for JSON, the magnitude of a complex one, None for one that is not finite."""
    number = float(abs(item)) if hasattr(item, "imag") and item.dtype.kind == "c" else float(item)
    return number if math.isfinite(number) else None
