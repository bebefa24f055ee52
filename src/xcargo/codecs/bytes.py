"""bytes as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xcargo.codecs.base import Buffer, Encoded

__all__ = ["BytesCodec"]


class BytesCodec:
    """``bytes`` and ``bytearray``: the payload is the value itself, nothing is copied to encode it."""

    id = "bytes"

    def accepts(self, value: object) -> bool:
        return type(value) in (bytes, bytearray)

    def encode(self, value: bytes | bytearray) -> Encoded:
        params = {} if type(value) is bytes else {"mutable": True}
        return Encoded(self.id, (value,), params, ".bin")

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> bytes | bytearray:
        wanted = bytearray if params.get("mutable") else bytes
        return payload if type(payload) is wanted else wanted(payload)
