"""To turn a value into its bytes and back: codecs alone, by kind and size, without store, compression and checksum."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import hooks, memory
from benchmarks.payloads import bytes_of, payload
from benchmarks.scenarios import warm
from benchmarks.trial import Plan, Trial

BASELINE = ("common-io",)
SHOWN = ("encode_seconds", "decode_seconds", "encoded_bytes")
NOT_QUICK = True

RELEASE = (
    *("dict, 1 KB", "dict, 1 MB", "dict, 100 MB", "records, 1 KB", "records, 1 MB", "records, 10 MB"),
    *("DataFrame, 100 rows", "DataFrame, 10k rows", "DataFrame, 1M rows"),
    *("numpy, 1 KB", "numpy, 1 MB", "numpy, 100 MB", "bytes, 1 KB", "bytes, 1 MB", "bytes, 100 MB"),
)


def trials(plan: Plan) -> Iterator[Trial]:
    """Each payload with each backend's way of writing it."""
    for name in plan.choose((), RELEASE):
        for subject in (*BASELINE, "xcargo"):
            arguments = {"name": name, "repeat": warm.repeats(bytes_of(name.partition(", ")[2]), 0), "subject": subject}
            yield Trial(name, subject, f"{__name__}:measure", arguments)


def measure(name: str, repeat: int, subject: str) -> dict[str, Any]:
    """Encode and decode, over and over, after one round on a small value of the same kind that is not counted."""
    encode, decode = _WAYS[subject.partition("@")[0]]()
    decode(encode(payload(f"{name.partition(', ')[0]}, 10 KB")))
    value, watch, size = payload(name), hooks.Watch(), 0
    gc.collect()
    for number in range(repeat):
        memory.at_hand(bytes_of(name.partition(", ")[2]))
        with watch("encode"):
            encoded = encode(value)
        size = encoded[0]
        with watch("decode"):
            back = decode(encoded)
        if number == 0 and not hooks.same(back, value):
            raise ValueError("came back changed")
        del back, encoded
    return {**watch.metrics, "encoded_bytes": size}


def _common_io() -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """As its backend does."""
    from airflow.utils.json import XComDecoder, XComEncoder

    def encode(value: Any) -> tuple[int, bytes]:
        text = json.dumps(value, cls=XComEncoder).encode()
        return len(text), text

    return encode, lambda encoded: json.loads(encoded[1], cls=XComDecoder)


def _xcargo() -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    from xcargo.codecs.registry import Registry

    registry = Registry()

    def encode(value: Any) -> tuple[int, Any, Any]:
        found = registry.encode(value)
        parts = list(found.parts)
        return sum(map(len, parts)), found, b"".join(parts) if len(parts) > 1 else parts[0]

    return encode, lambda encoded: registry.decode(encoded[1].codec, encoded[2], encoded[1].params)


_WAYS = {"common-io": _common_io, "xcargo": _xcargo}
