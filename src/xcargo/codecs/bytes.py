"""bytes as they are."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from xcargo.codecs.base import Encoded
from xcargo.codecs.source import BytesSource, Source, in_huge_pages
from xcargo.errors import DecodeError
from xcargo.types import Buffer

__all__ = ["BytesCodec"]


class _Lender(io.BytesIO):
    """Memory that frames of an error's traceback may still hold when it goes: Python 3.13 would write that out."""

    def close(self) -> None:
        with suppress(BufferError):
            super().close()


class BytesCodec:
    """``bytes`` and ``bytearray``: the payload is the value itself, nothing is copied to encode it."""

    id = "bytes"

    def accepts(self, value: object) -> bool:
        return type(value) in (bytes, bytearray)

    def encode(self, value: bytes | bytearray) -> Encoded:
        params = {} if type(value) is bytes else {"mutable": True}
        return Encoded(self.id, (value,), params, ".bin")

    def open(self, source: Source, params: Mapping[str, Any]) -> bytes | bytearray:
        if isinstance(source, BytesSource):
            return self.decode(source.data, params)
        try:
            if params.get("mutable"):
                data = bytearray(source.size_bytes)
                source.read_into(in_huge_pages(memoryview(data)))
                return data
            # A BytesIO lends the memory of the very object that getvalue then gives: nothing is copied.
            buffer = _Lender(bytes(source.size_bytes))
        except (MemoryError, OverflowError) as error:
            raise DecodeError(f"There is no memory for the {source.size_bytes} bytes of the value") from error
        with buffer.getbuffer() as view:
            source.read_into(in_huge_pages(view))
        return buffer.getvalue()

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> bytes | bytearray:
        wanted = bytearray if params.get("mutable") else bytes
        return payload if type(payload) is wanted else wanted(payload)
