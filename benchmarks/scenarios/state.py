"""The state store of tasks: a set, a get and a delete of a key, and how many kinds of values come back as they were."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from benchmarks import hooks
from benchmarks.payloads import payload
from benchmarks.trial import Plan, Trial

BASELINE = ("common-io",)
SHOWN = ("requests", "sent_bytes", "received_bytes", "set_seconds", "get_seconds", "exact", "changed", "refused")
BACKENDS = {
    "common-io": "airflow.providers.common.io.state_store.backend.StateStoreObjectStorageBackend",
    "xcargo": "xcargo.StateStoreBackend",
}
OPERATIONS = 30
VALUES: tuple[Any, ...] = (
    *(7, 0.1, "text", True, [1, "a"], {"a": {"b": None}}, 2**70, "a\ud800b"),
    *((1, 2), {1: "a"}, {1, 2}, b"bytes", Decimal("0.10"), datetime(2026, 1, 1, tzinfo=timezone.utc), 1 + 2j),
)


def trials(plan: Plan) -> Iterator[Trial]:
    """Counted once, timed in rounds. Every value goes to the store."""
    for name in plan.choose(("dict, 1 KB",), ("dict, 1 KB", "dict, 1 MB")):
        for subject, backend in BACKENDS.items():
            arguments = {"backend": backend, "name": name}
            for verb in ("set", "get", "delete"):
                yield Trial(
                    f"{verb}, {name}",
                    subject,
                    f"{__name__}:{verb}_once",
                    arguments,
                    prepare=None if verb == "set" else f"{__name__}:row",
                    count=True,
                    rounds=1,
                )
            for latency_ms in plan.latencies_ms:
                yield Trial(f"warm, {name}", subject, f"{__name__}:warm", arguments, latency_ms=latency_ms)
    for subject, backend in BACKENDS.items():
        arguments = {"backend": backend}
        yield Trial(f"{len(VALUES)} kinds of values", subject, f"{__name__}:exactness", arguments, rounds=1)


def row(backend: str, name: str) -> str:
    """What the row of a value is to hold."""
    return _set(backend, payload(name))


def set_once(backend: str, name: str) -> dict[str, Any]:
    """The first one of its process."""
    _set(backend, payload(name))
    return {}


def get_once(backend: str, carry: str, **_: Any) -> dict[str, Any]:
    """The first one of its process."""
    _get(backend, carry)
    return {}


def delete_once(backend: str, **_: Any) -> dict[str, Any]:
    """The first one of its process."""
    _opened(backend).delete(_scope(), "cursor")
    return {}


def warm(backend: str, name: str) -> dict[str, Any]:
    """One after the other, after one that is not counted."""
    value, watch = payload(name), hooks.Watch()
    _get(backend, _set(backend, value))
    for _ in range(OPERATIONS):
        with watch("set"):
            ref = _set(backend, value)
        with watch("get"):
            back = _get(backend, ref)
        if back != value:
            raise ValueError("came back changed")
    return dict(watch.metrics)


def exactness(backend: str) -> dict[str, Any]:
    """How many values come back as they were, come back as others, and are refused."""
    counts = dict.fromkeys(("exact", "changed", "refused"), 0)
    for value in VALUES:
        try:
            back = _get(backend, _set(backend, value))
        except Exception:
            counts["refused"] += 1
        else:
            counts["exact" if (type(back), back) == (type(value), value) else "changed"] += 1
    return counts


def _opened(backend: str) -> Any:
    module, _, name = backend.rpartition(".")
    return getattr(importlib.import_module(module), name)()


def _scope() -> Any:
    from airflow.sdk.state import TaskScope

    return TaskScope("bench", "run", "task")


def _set(backend: str, value: Any) -> str:
    ref: str = _opened(backend).serialize_task_state_store_to_ref(value=value, key="cursor", scope=_scope())
    return ref


def _get(backend: str, ref: str) -> Any:
    return _opened(backend).deserialize_task_state_store_from_ref(ref)
