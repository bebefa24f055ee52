"""numpy arrays and scalars: the array's own memory is the payload."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

from xcargo.codecs.base import Buffer, Encoded, importable
from xcargo.errors import DecodeError, UnsupportedTypeError

__all__ = ["NumpyCodec"]


class NumpyCodec:
    """``numpy.ndarray`` (exactly) and numpy scalars of every dtype of fixed size, structured ones included.

    A contiguous array, C or Fortran order, is not copied to encode it. Arrays of Python objects are refused.
    """

    id = "numpy"

    def accepts(self, value: object) -> bool:
        np = sys.modules.get("numpy")
        return np is not None and (type(value) is np.ndarray or isinstance(value, np.generic))

    def encode(self, value: Any) -> Encoded:
        import numpy as np

        array = np.asarray(value)
        if array.dtype.hasobject or array.dtype.itemsize == 0 or array.dtype.kind == "T":
            raise UnsupportedTypeError(
                f"A numpy array of dtype {array.dtype} has no bytes of its own",
                hint="Convert it with .astype(...) or .tolist() before returning it.",
            )
        params: dict[str, Any] = {
            "dtype": _jsonable(np.lib.format.dtype_to_descr(array.dtype)),
            "shape": list(array.shape),
        }
        if isinstance(value, np.generic):
            params["scalar"] = True
        elif array.flags.f_contiguous and not array.flags.c_contiguous:
            params["order"] = "F"
            array = array.T
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return Encoded(self.id, (memoryview(flat.data),), params, ".npraw")

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> Any:
        np = importable("numpy", "a numpy array")
        try:
            dtype = np.lib.format.descr_to_dtype(_tupled(params["dtype"]))
            shape = tuple(int(n) for n in params["shape"])
        except (IndexError, KeyError, TypeError, ValueError, SyntaxError) as error:
            raise DecodeError(f"The envelope does not describe a numpy array: {error}") from error
        if dtype.hasobject or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(payload):
            raise DecodeError(f"{len(payload)} bytes are not an array of dtype {dtype} and shape {shape}")
        flat = np.frombuffer(payload, dtype=np.uint8)
        if not flat.flags.writeable:
            flat = flat.copy()
        array = flat.view(dtype)
        if params.get("scalar"):
            return array[0]
        return array.reshape(shape[::-1]).T if params.get("order") == "F" else array.reshape(shape)


def _jsonable(descr: Any) -> Any:
    return [_jsonable(item) for item in descr] if isinstance(descr, (list, tuple)) else descr


def _tupled(descr: Any) -> Any:
    """numpy wants fields as tuples (name, format[, shape]); JSON has only lists."""
    if not isinstance(descr, list):
        return descr
    return [(tuple(f[0]) if isinstance(f[0], list) else f[0], _tupled(f[1]), *(tuple(n) for n in f[2:])) for f in descr]
