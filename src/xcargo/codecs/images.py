"""Pictures of PIL: a PNG where PNG keeps every pixel as it is, else the pixels themselves."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Mapping
from typing import Any

from xcargo.codecs.base import Encoded, importable
from xcargo.codecs.tree import TreeCodec
from xcargo.errors import DecodeError, UnsupportedTypeError, XCargoError
from xcargo.types import Buffer

__all__ = ["ImageCodec"]

_PNG_MODES = ("1", "L", "LA", "RGB", "RGBA")
_PIXEL_BYTES = {"L": 1, "P": 1, "LA": 2, "La": 2, "PA": 2, "I;16": 2, "I;16L": 2, "I;16B": 2} | {
    **dict.fromkeys(("RGB", "YCbCr", "HSV", "LAB"), 3),
    **dict.fromkeys(("RGBA", "RGBa", "RGBX", "CMYK", "I", "F"), 4),
}
_MOST_PNG_PIXELS = 16_000_000
"""Beyond, a PNG takes seconds to write; and far beyond, PIL takes it for an attack."""
_MOST_EMPTY_PIXELS = 65_535
"""On the other side of an image without pixels: PIL allocates a pointer for each row."""
_MOST_PNG_FACTOR = 1100  # zlib's own


class ImageCodec:
    """``PIL.Image.Image``: mode, size, pixels, palette and ``info``. No subclass, no image of several frames.

    The payload is a PNG, or the pixels in rows, and then a packed ``[info, palette]``.
    """

    id = "image"

    def __init__(self, tree: TreeCodec) -> None:
        self._tree = tree

    def accepts(self, value: object) -> bool:
        module = sys.modules.get("PIL.Image")
        return module is not None and type(value) is getattr(module, "Image", None)

    def encode(self, value: Any) -> Encoded:
        mode, size = value.mode, value.size
        if mode != "1" and mode not in _PIXEL_BYTES:
            raise UnsupportedTypeError(
                f"An image of the mode {mode!r} cannot be stored", hint="Return value.convert('RGB')."
            )
        if 0 in size and max(size) > _MOST_EMPTY_PIXELS:
            raise UnsupportedTypeError(
                f"An image of {size[0]} x {size[1]} pixels cannot be stored", hint="Return its size."
            )
        palette = [value.palette.mode, bytes(value.getpalette(value.palette.mode))] if mode in ("P", "PA") else None
        try:
            tail = self._tree.pack([dict(value.info), palette])
        except UnsupportedTypeError as error:
            error.what = error.what.replace("At value[0]", "At value.info")
            raise
        pixels = value.tobytes()
        params: dict[str, Any] = {"type": "PIL.Image", "mode": mode, "size": list(size), "tail_bytes": len(tail)}
        if mode not in _PNG_MODES or not 0 < math.prod(size) <= _MOST_PNG_PIXELS:
            return Encoded(self.id, (pixels, tail), params, ".pixels")
        written = io.BytesIO()
        bare = sys.modules["PIL.Image"].frombytes(mode, size, pixels)  # what info holds would change the PNG
        bare.save(written, "PNG", compress_level=1)
        return Encoded(self.id, (written.getbuffer(), tail), {**params, "format": "png"}, ".png")

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> Any:
        module = importable("PIL.Image", "an image", package="pillow")
        try:
            return self._restore(module, memoryview(payload), params)
        except XCargoError:
            raise
        except Exception as error:  # PIL raises errors of every kind for a forged picture
            raise DecodeError(f"The object does not hold an image: {type(error).__name__}: {error}") from error

    def _restore(self, module: Any, payload: memoryview, params: Mapping[str, Any]) -> Any:
        mode, (width, height), tail_bytes = params["mode"], params["size"], params["tail_bytes"]
        pixels, tail = payload[:-tail_bytes], payload[-tail_bytes:]
        size_bytes = (width + 7) // 8 * height if mode == "1" else _PIXEL_BYTES[mode] * width * height
        if params.get("format") != "png":
            empty = 0 in (width, height) and max(width, height) > _MOST_EMPTY_PIXELS
            if min(width, height) < 0 or size_bytes != len(pixels) or empty:
                raise DecodeError(f"{len(pixels)} bytes are not an image of mode {mode} and {width} x {height} pixels")
            value = module.frombytes(mode, (width, height), bytes(pixels))
        else:
            with module.open(io.BytesIO(pixels), formats=("PNG",)) as picture:
                if (picture.mode, picture.size) != (mode, (width, height)):
                    raise DecodeError("The picture is not of the mode and size in its envelope")
                if width * height > _MOST_PNG_PIXELS or size_bytes > _MOST_PNG_FACTOR * len(pixels):
                    raise DecodeError("The picture is larger than its bytes can hold")
                value = picture.copy()
        info, palette = self._tree.unpack(tail)
        if palette is not None:
            value.putpalette(palette[1], palette[0])
        value.info = dict(info)
        return value
