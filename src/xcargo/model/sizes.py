"""Sizes as people read them."""

from __future__ import annotations

__all__ = ["format_bytes", "format_stored"]


def format_bytes(size_bytes: float) -> str:
    """A size in a binary unit, with three significant digits: ``512 B``, ``1.5 KiB``, ``240 MiB``."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if size < 1024 or unit == "PiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.3g} {unit}"


def format_stored(size_bytes: int, stored_bytes: int) -> str:
    """The length of a payload in bytes and, if compression made it shorter, what is stored of it.

    ``10793 bytes as 198 (54.5 times smaller)``
    """
    ratio = size_bytes / max(1, stored_bytes)
    if ratio < 1.05:
        return f"{size_bytes} bytes"
    return f"{size_bytes} bytes as {stored_bytes} ({ratio:.1f} times smaller)"
