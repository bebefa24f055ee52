"""Type aliases that every room shares."""

from __future__ import annotations

from typing import Union

__all__ = ["Buffer", "Json"]

Buffer = Union[bytes, bytearray, memoryview]
"""Bytes in memory."""

Json = Union[None, bool, int, float, str, "list[Json]", "dict[str, Json]"]
"""What JSON carries."""
