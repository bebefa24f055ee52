"""numpy arrays and scalars: the array's own memory is the payload, or packed items where an array holds objects."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from xcargo.codecs.base import Encoded, importable
from xcargo.codecs.tree import TreeCodec
from xcargo.errors import DecodeError, MissingDependencyError, UnsupportedTypeError, XCargoError
from xcargo.model.envelope import is_utf8
from xcargo.types import Buffer

__all__ = ["NumpyCodec"]

_SHOWN_FIELDS = 64


class NumpyCodec:
    """``numpy.ndarray``, masked arrays, ``recarray``, ``matrix``, numpy scalars and dtypes; no other subclass.

    Every dtype: numbers, text, times, structured ones with their offsets and titles, ``StringDType``, and Python
    objects, each of which keeps its type, also in fields and below a mask. A contiguous array, C or Fortran order, is
    not copied to encode it, but for text of variable length and objects. Not kept: whether it was read-only, other
    strides, metadata of a dtype.
    """

    id = "numpy"

    def __init__(self, tree: TreeCodec) -> None:
        self._tree = tree

    def accepts(self, value: object) -> bool:
        np = sys.modules.get("numpy")
        if np is None:
            return False
        if isinstance(value, np.generic):
            return type(value) is value.dtype.type
        return isinstance(value, np.dtype) or (isinstance(value, np.ndarray) and _class_of(np, value) is not None)

    def encode(self, value: Any) -> Encoded:
        import numpy as np

        if isinstance(value, np.dtype):
            payload = self._pack_items(np.empty(0, value)) if value.kind == "T" else b""
            return Encoded(self.id, (payload,), {"class": "dtype", "dtype": _describe(np, value)})
        kind = "ndarray" if isinstance(value, np.generic) else _class_of(np, value)
        if kind == "masked":
            return Encoded(self.id, (b"",), {"class": kind})
        array = value.data if kind == "MaskedArray" else np.asarray(value)
        params: dict[str, Any] = {"dtype": _describe(np, array.dtype), "shape": list(array.shape)}
        if kind != "ndarray":
            params["class"] = kind
        if array.dtype.type is np.record:
            params["record"] = True
        if isinstance(value, np.generic):
            params["scalar"] = True
            if isinstance(value, (np.bytes_, np.str_)):
                params["length"] = len(value)
        elif array.flags.f_contiguous and not array.flags.c_contiguous:
            params["order"] = "F"
        if array.dtype.names is not None:
            params["columns"] = {name: str(array.dtype[name]) for name in array.dtype.names[:_SHOWN_FIELDS]}
        if array.dtype.hasobject or array.dtype.kind == "T":
            plain = kind != "MaskedArray" and array.dtype.names is None
            payload = self._pack_items(array) if plain else self._pack_fields(np, value, array, params)
            return Encoded(self.id, (payload,), params, ".msgpack")
        parts = [_bytes_of(np, array, params.get("order"))]
        if kind == "MaskedArray":
            parts += _mask_parts(np, value, params)
        return Encoded(self.id, parts, params, ".npraw")

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> Any:
        np = importable("numpy", "a numpy array")
        try:
            return self._restore(np, payload, params)
        except XCargoError:
            raise
        except Exception as error:  # numpy raises errors of every kind for a forged description
            raise DecodeError(f"The object does not hold a numpy array: {type(error).__name__}: {error}") from error

    def _restore(self, np: Any, payload: Buffer, params: Mapping[str, Any]) -> Any:
        kind = params.get("class", "ndarray")
        if kind == "masked":
            return np.ma.masked
        if kind == "dtype":
            if params["dtype"] == "T":
                return self._unpack_items(np, payload, {"dtype": "T", "shape": [0]}).dtype
            return _dtype(np, params["dtype"])
        if params.get("packed"):
            return self._unpack_fields(np, payload, params)
        if params["dtype"] in ("|O", "T"):
            return self._unpack_items(np, payload, params)
        dtype, shape = _dtype(np, params["dtype"]), tuple(int(n) for n in params["shape"])
        if params.get("record"):
            dtype = np.dtype((np.record, dtype))
        count = math.prod(shape)
        size = count * dtype.itemsize
        masked = _mask_sizes(np, dtype, count, params) if kind == "MaskedArray" else []
        if dtype.hasobject or min(shape, default=0) < 0 or size + sum(masked) != len(payload):
            raise DecodeError(f"{len(payload)} bytes are not an array of dtype {dtype} and shape {shape}")
        if params.get("scalar"):
            return _scalar(np, payload, dtype, params.get("length"))
        buffers, start = [], 0
        for length in (size, *masked):
            buffers.append(_writable(np, memoryview(payload)[start : start + length]))
            start += length
        array = _shaped(buffers[0].view(dtype), shape, params.get("order"))
        return _masked(np, array, buffers[1:], params) if kind == "MaskedArray" else _viewed(np, array, kind)

    def _pack_items(self, array: Any) -> Buffer:
        """An array of objects, or of text of variable length, as a packed list."""
        items = array.ravel().tolist()
        state: Any = items
        if array.dtype.kind == "T":
            missing = [array.dtype.na_object] if hasattr(array.dtype, "na_object") else []
            state = [missing, array.dtype.coerce, [item if type(item) is str else None for item in items]]
        return self._tree.pack(state)

    def _unpack_items(self, np: Any, payload: Buffer, params: Mapping[str, Any]) -> Any:
        items, dtype = self._tree.unpack(payload), np.dtype(object)
        if params["dtype"] == "T":
            if not hasattr(np.dtypes, "StringDType"):
                raise MissingDependencyError(
                    "The array was written with numpy 2, whose StringDType the numpy installed here does not know",
                    hint="Run: pip install 'numpy>=2'",
                )
            missing, coerce, texts = items
            dtype = np.dtypes.StringDType(coerce=coerce, **({"na_object": missing[0]} if missing else {}))
            items = [missing[0] if missing and text is None else text for text in texts]
        array = np.empty(len(items), dtype=dtype)
        for n, item in enumerate(items):  # at once, numpy would take a list for a second dimension
            array[n] = item
        array = array.reshape(tuple(params["shape"]))
        array = np.asfortranarray(array) if params.get("order") == "F" else array
        return _viewed(np, array, params.get("class", "ndarray"))

    def _pack_fields(self, np: Any, value: Any, array: Any, params: dict[str, Any]) -> Buffer:
        """An array with objects in fields or below a mask, as a packed list of arrays without."""
        params["packed"] = True
        if params.get("class") == "MaskedArray":
            mask = None if value.mask is np.ma.nomask else value.mask
            state = [array, mask, _fill_value(value), bool(value.hardmask)]
        else:
            state = [array[name] for name in array.dtype.names]
        payload = self._tree.pack(state)
        if array.nbytes > _most_bytes(payload):
            raise _unsupported(array.dtype, "A sparse array")
        return payload

    def _unpack_fields(self, np: Any, payload: Buffer, params: Mapping[str, Any]) -> Any:
        state, shape = self._tree.unpack(payload), tuple(params["shape"])
        if params.get("class") == "MaskedArray":
            array, mask, fill, hard = state
            mask = np.ma.nomask if mask is None else mask
            masked = np.ma.MaskedArray(array, mask=mask, hard_mask=hard)
            if fill is not None:
                masked.fill_value = fill
            return masked
        dtype = _dtype(np, params["dtype"])
        if params.get("record"):
            dtype = np.dtype((np.record, dtype))
        if math.prod(shape) * dtype.itemsize > _most_bytes(payload):
            raise DecodeError(f"{len(payload)} bytes are not an array of dtype {dtype} and shape {shape}")
        array = np.empty(shape, dtype=dtype, order=params.get("order", "C"))
        for name, field in zip(dtype.names, state, strict=True):
            array[name][...] = field
        return array[()] if params.get("scalar") else _viewed(np, array, params.get("class", "ndarray"))


def _most_bytes(payload: Buffer) -> int:
    """What an array with objects may take up: a pointer to an object of one byte, and the gap before it."""
    return 16 * len(payload) + 1024


def _viewed(np: Any, array: Any, kind: str) -> Any:
    return array if kind == "ndarray" else array.view({"recarray": np.recarray, "matrix": np.matrix}[kind])


def _class_of(np: Any, array: Any) -> str | None:
    """Name of the class, of those that are known."""
    if type(array) is np.ndarray:
        return "ndarray"
    if array is np.ma.masked:
        return "masked"
    for name, cls in (("MaskedArray", np.ma.MaskedArray), ("recarray", np.recarray), ("matrix", np.matrix)):
        if type(array) is cls:
            return name
    return None


def _describe(np: Any, dtype: Any) -> Any:
    """A dtype as JSON. Raises UnsupportedTypeError for one that would not come back the same."""
    if dtype.kind in "OT" and dtype.names is None:
        return "|O" if dtype.kind == "O" else "T"
    if not all(is_utf8(name) for name in dtype.fields or ()):  # of its fields, and their titles
        raise _unsupported(dtype, "An array")
    candidates: list[Any] = [dtype.str, dtype.char]
    if dtype.names is not None:
        candidates = [_fields(np, dtype)]
        if not dtype.isalignedstruct:
            with suppress(ValueError):  # fields overlap, or are not in the order of their names
                candidates.insert(0, _jsonable(dtype.descr))
    for described in candidates:
        try:
            back = _dtype(np, described)
        except (TypeError, ValueError):
            continue
        same_type = back.type is dtype.type or dtype.type is np.record
        if back == dtype and same_type and (back.itemsize or dtype.kind in "SU"):
            return described
    raise _unsupported(dtype, "An array")


def _fields(np: Any, dtype: Any) -> dict[str, Any]:
    fields = [dtype.fields[name] for name in dtype.names]
    formats = []
    for field, *_ in fields:
        base, shape = field.subdtype or (field, ())
        formats.append([_describe(np, base), list(shape)])
    return {
        "names": list(dtype.names),
        "formats": formats,
        "offsets": [field[1] for field in fields],
        "titles": [field[2] if len(field) > 2 else None for field in fields],
        "itemsize": dtype.itemsize,
        "aligned": dtype.isalignedstruct,
    }


def _dtype(np: Any, described: Any) -> Any:
    """The dtype of `_describe`."""
    if isinstance(described, Mapping):
        fields = dict(described)
        aligned = fields.pop("aligned")
        fields["formats"] = [
            (_dtype(np, base), tuple(shape)) if shape else _dtype(np, base) for base, shape in fields["formats"]
        ]
        if not any(fields["titles"]):
            del fields["titles"]
        return np.dtype(fields, align=aligned)
    return np.lib.format.descr_to_dtype(_tupled(described))


def _bytes_of(np: Any, array: Any, order: str | None = None) -> memoryview:
    flat = np.ascontiguousarray(array.T if order == "F" else array).reshape(-1)
    return memoryview(flat.view(np.uint8).data) if flat.dtype.itemsize else memoryview(b"")


def _writable(np: Any, data: Any) -> Any:
    flat = np.frombuffer(data, dtype=np.uint8)
    return flat if flat.flags.writeable else flat.copy()


def _scalar(np: Any, payload: Buffer, dtype: Any, length: int | None) -> Any:
    """A scalar. A text whose length is known keeps zeros at its end, which numpy drops from an item of an array."""
    if length is not None and dtype.type is np.bytes_:
        return np.bytes_(bytes(payload)[:length])
    if length is not None and dtype.type is np.str_:
        encoding = "utf-32-le" if dtype.newbyteorder("<") == dtype else "utf-32-be"
        return np.str_(bytes(payload).decode(encoding, "surrogatepass")[:length])
    return _writable(np, payload).view(dtype)[0] if dtype.itemsize else dtype.type()


def _fill_value(array: Any) -> Any:
    """The fill value that was set, or None. The public attribute gives numpy's default in its place."""
    return array._fill_value


def _shaped(flat: Any, shape: tuple[int, ...], order: str | None) -> Any:
    return flat.reshape(shape[::-1]).T if order == "F" else flat.reshape(shape)


def _mask_parts(np: Any, value: Any, params: dict[str, Any]) -> list[memoryview]:
    """Mask and fill value as bytes; ``params`` say which there are."""
    parts, fill = [], _fill_value(value)
    params["mask"], params["fill"] = value.mask is not np.ma.nomask, fill is not None
    params["hard"] = bool(value.hardmask)
    if params["mask"]:
        parts.append(_bytes_of(np, value.mask, params.get("order")))
    if params["fill"]:
        parts.append(_bytes_of(np, np.asarray(fill, dtype=value.dtype)))
    return parts


def _mask_sizes(np: Any, dtype: Any, count: int, params: Mapping[str, Any]) -> list[int]:
    mask = count * np.ma.make_mask_descr(dtype).itemsize
    return [mask] * bool(params["mask"]) + [dtype.itemsize] * bool(params["fill"])


def _masked(np: Any, array: Any, buffers: list[Any], params: Mapping[str, Any]) -> Any:
    mask = np.ma.nomask
    if params["mask"]:
        mask = _shaped(buffers.pop(0).view(np.ma.make_mask_descr(array.dtype)), array.shape, params.get("order"))
    fill = buffers.pop(0).view(array.dtype)[0] if params["fill"] else None
    return np.ma.MaskedArray(array, mask=mask, fill_value=fill, hard_mask=bool(params["hard"]))


def _unsupported(dtype: Any, what: str) -> UnsupportedTypeError:
    return UnsupportedTypeError(
        f"{what} of dtype {dtype} cannot be stored",
        hint="Convert it with .astype(...) or .tolist() before returning it.",
    )


def _jsonable(descr: Any) -> Any:
    if isinstance(descr, Mapping):
        raise ValueError(descr)  # noqa: TRY004 - metadata of a field, refused as numpy refuses it
    return [_jsonable(item) for item in descr] if isinstance(descr, (list, tuple)) else descr


def _tupled(descr: Any) -> Any:
    """numpy wants fields as tuples (name, format[, shape]); JSON has only lists."""
    if not isinstance(descr, list):
        return descr
    return [(tuple(f[0]) if isinstance(f[0], list) else f[0], _tupled(f[1]), *(tuple(n) for n in f[2:])) for f in descr]
