"""Sizes as people read them."""

from __future__ import annotations

__all__ = ["format_bytes"]


def format_bytes(size_bytes: float) -> str:
    """A size in a binary unit, with three significant digits: ``512 B``, ``1.5 KiB``, ``240 MiB``."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if size < 1024 or unit == "PiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.3g} {unit}"
