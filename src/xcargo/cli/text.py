"""Text of unknown origin, made safe to print."""

from __future__ import annotations

import re

__all__ = ["hexdump", "printable"]

# Control characters but for tab and newline, those of C1, and what turns the direction of text.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with every character escaped that a terminal might act upon."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def hexdump(data: bytes) -> list[str]:
    """Sixteen bytes a line, in hex and as ASCII."""
    lines = []
    for start in range(0, len(data), 16):
        part = data[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<47}  {text}")
    return lines
