"""Arrays: what is in them in numbers, and a picture of them small enough for a screen."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

from xcargo.codecs.base import importable
from xcargo.errors import DecodeError, UnsupportedTypeError
from xcargo.explorer.limits import Payload
from xcargo.explorer.packed import registry

__all__ = ["Array"]

_MAX_POINTS = 400
_MAX_SIDE = 96
_BINS = 32
_SAMPLES = 16
_SAMPLED_BYTES = 32 * 1024 * 1024
_PAGE_ROWS, _PAGE_COLUMNS = 200, 50
_MAX_CHARS = 200


class Array:
    """A stored numpy array of a plain dtype. Raises UnsupportedTypeError for arrays of objects or of text."""

    def __init__(self, payload: Payload, params: Mapping[str, Any]) -> None:
        self._np = importable("numpy", "a numpy array")
        self._payload = payload
        self._params = params
        shape = params.get("shape")
        if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
            raise DecodeError("The envelope does not give the shape of the array")
        self.shape: tuple[int, ...] = tuple(shape)
        if params.get("dtype") in ("|O", "T"):
            raise UnsupportedTypeError("An array of Python objects or of text of any length has no picture")
        self._is_masked = params.get("class") == "MaskedArray" and bool(params.get("mask"))
        self.dtype = self._decode(b"", 0).dtype
        self._mask_bytes = self._np.ma.make_mask_descr(self.dtype).itemsize if self._is_masked else 0
        # In Fortran's order the first axis varies fastest: the items are stored as those of the transpose would be.
        self._fortran = params.get("order") == "F"
        if self.count * (self.dtype.itemsize + self._mask_bytes) > payload.size_bytes:
            raise DecodeError("The array claims more than its object holds")

    @property
    def count(self) -> int:
        """Number of items."""
        return math.prod(self.shape)

    def npy_header(self) -> bytes | None:
        """What makes a ``.npy`` file of the payload that follows it; None of what such a file cannot hold."""
        if self._params.get("class", "ndarray") != "ndarray" or self._params.get("packed"):
            return None
        form, file = self._np.lib.format, io.BytesIO()
        header = {"descr": form.dtype_to_descr(self.dtype), "fortran_order": self._fortran, "shape": self.shape}
        try:
            form.write_array_header_2_0(file, header)
        except (TypeError, ValueError):
            return None
        return file.getvalue()

    def summary(self) -> dict[str, Any]:
        """Least, greatest, mean, spread and a histogram: of all items, or of 16 samples of a large array."""
        summary: dict[str, Any] = {"shape": list(self.shape), "dtype": str(self.dtype)[:200], "count": self.count}
        if self.dtype.kind not in "biufc" or not self.count:
            return summary
        np = self._np
        most = max(1, min(self._payload.budget.max_bytes // 2, _SAMPLED_BYTES) // self.dtype.itemsize)
        if self.count <= most:
            items = self._items(0, self.count)
        else:
            size = most // _SAMPLES
            starts = [(self.count - size) * n // (_SAMPLES - 1) for n in range(_SAMPLES)]
            samples = [self._items(start, start + size) for start in starts]
            items = (np.ma if self._is_masked else np).concatenate(samples)
        sampled = int(items.size)
        items = items.compressed() if self._is_masked else items
        numbers = (np.abs(items) if self.dtype.kind == "c" else items).astype(np.float64)
        finite = numbers[np.isfinite(numbers)]
        summary |= {"sampled": sampled, "not_finite": int(items.size - finite.size)}
        if not finite.size:
            return summary
        low, high = float(finite.min()), float(finite.max())
        with np.errstate(all="ignore"):
            spread = high - low > 1e-9 * max(abs(low), abs(high)) and math.isfinite(high - low)  # else no room for bins
            bins = [int(n) for n in np.histogram(finite, bins=_BINS)[0]] if spread else [int(finite.size)]
            mean, std = float(finite.mean()), float(finite.std())
        return summary | {"min": repr(low), "max": repr(high), "mean": repr(mean), "std": repr(std), "bins": bins}

    def picture(self, indexes: tuple[int, ...] = ()) -> dict[str, Any]:
        """Points of a line (one dimension), or cells of a heat map (the last two; ``indexes`` choose the others)."""
        if self.dtype.kind not in "biufc" or not self.count:
            return {"kind": "none"}
        if len(self.shape) <= 1:
            points = _evenly(self.count, _MAX_POINTS)
            values = [_number(self._item((point,) if self.shape else ())) for point in points]
            return {"kind": "line", "points": points, "values": values}
        indexes = self._outer(indexes)
        rows, columns = (_evenly(n, _MAX_SIDE) for n in self.shape[-2:])
        cells = []
        for row in rows:
            self._payload.budget.check_time()
            cells.append(self._row((*indexes, row), columns))
        return {"kind": "heat", "rows": rows, "columns": columns, "cells": cells, "indexes": list(indexes)}

    def page(
        self, start: int, count: int, *, first: int = 0, columns: int = 20, indexes: tuple[int, ...] = ()
    ) -> dict[str, Any]:
        """Items as text: rows ``start`` on and columns ``first`` on of the last two dimensions."""
        indexes, flat = self._outer(indexes), len(self.shape) < 2
        rows, width = (self.count, 1) if flat else self.shape[-2:]
        start, first = min(max(start, 0), rows), min(max(first, 0), width)
        count, columns = (
            max(0, min(count, rows - start, _PAGE_ROWS)),
            max(0, min(columns, width - first, _PAGE_COLUMNS)),
        )
        cells = []
        for row in range(start, start + count):
            if flat:
                cells.append([str(self._item((row,) if self.shape else ()))[:_MAX_CHARS]])
                continue
            items = [self._item((*indexes, row, column)) for column in range(first, first + columns)]
            cells.append([str(item)[:_MAX_CHARS] for item in items])
        return {"rows": rows, "columns": width, "start": start, "first": first, "cells": cells}

    def _outer(self, indexes: tuple[int, ...]) -> tuple[int, ...]:
        """One index for each dimension but the last two, inside the shape."""
        padded = (*indexes, *([0] * len(self.shape)))
        return tuple(min(max(i, 0), n - 1) for i, n in zip(padded, self.shape[:-2], strict=False))

    def _row(self, row: tuple[int, ...], columns: list[int]) -> list[float | None]:
        """Some numbers of one row: in one read where its items are stored together."""
        if not self._fortran and self.shape[-1] * self.dtype.itemsize <= self._payload.budget.max_bytes // 4:
            begin = self._position((*row, 0))
            items = self._items(begin, begin + self.shape[-1])
            return [_number(items[column]) for column in columns]
        return [_number(self._item((*row, column))) for column in columns]

    def _position(self, index: tuple[int, ...]) -> int:
        """Where among the items, as they are stored, the one of this index is."""
        position = 0
        pairs = list(zip(index, self.shape, strict=True))
        for i, n in reversed(pairs) if self._fortran else pairs:
            position = position * n + i
        return position

    def _item(self, index: tuple[int, ...]) -> Any:
        position = self._position(index)
        return self._items(position, position + 1)[0]

    def _items(self, start: int, stop: int) -> Any:
        size, mask, masks_at = self.dtype.itemsize, self._mask_bytes, self.count * self.dtype.itemsize
        data = bytes(self._payload.read(start * size, stop * size))
        if self._is_masked:
            data += bytes(self._payload.read(masks_at + start * mask, masks_at + stop * mask))
        return self._decode(data, stop - start)

    def _decode(self, data: bytes, count: int) -> Any:
        params = {"dtype": self._params.get("dtype"), "shape": [count]}
        if self._is_masked:
            params |= {"class": "MaskedArray", "mask": True, "fill": False, "hard": False}
        return registry().codec("numpy").decode(data, params)


def _evenly(count: int, most: int) -> list[int]:
    """At most ``most`` numbers, evenly from zero to the last below ``count``."""
    return list(range(count)) if count <= most else [n * (count - 1) // (most - 1) for n in range(most)]


def _number(item: Any) -> float | None:
    """A number for JSON, the magnitude of a complex one, None for one that is masked or not finite."""
    if getattr(item, "mask", False):
        return None
    number = float(abs(item)) if hasattr(item, "imag") and item.dtype.kind == "c" else float(item)
    return number if math.isfinite(number) else None
