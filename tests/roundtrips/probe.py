"""What becomes of each example under one backend, in this Airflow; prints JSON.

python -m tests.roundtrips.probe xcargo|common_io row|object
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

BACKENDS = {
    "xcargo": "xcargo.XComBackend",
    "common_io": "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend",
}
WHERE = {"dag_id": "a_dag", "run_id": "a_run", "task_id": "a_task"}


def main(backend: str, place: str) -> None:
    """Push and pull every example, alone and nested."""
    with tempfile.TemporaryDirectory() as home:
        _settle(Path(home), BACKENDS[backend], "0" if place == "object" else "-1")
        from tests.roundtrips.examples import examples, names

        push, pull = _hooks()
        known = names()
        found = {}
        for kind, example in examples().items():

            def make(example: str = example) -> Any:  # anew each time: some can be used once
                return eval(example, known)

            found[kind] = {
                place: _outcome(push, pull, make, lambda back: back),
                f"nested {place}": _outcome(push, pull, lambda: [{"inside": make()}], lambda back: back[0]["inside"]),
            }
        print(json.dumps(found))


def _settle(home: Path, backend: str, threshold: str) -> None:
    objects = home / "objects"
    objects.mkdir()
    os.environ |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES": "airflow.* tests.roundtrips.examples.*",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__XCOM_BACKEND": backend,
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": objects.as_uri(),
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": threshold,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "CRITICAL",
        "AIRFLOW__XCARGO__PATH": objects.as_uri(),
        "AIRFLOW__XCARGO__THRESHOLD_BYTES": threshold,
    }


def _hooks() -> tuple[Any, Any]:
    """Value -> row as the database gives it back; row -> value."""
    try:
        from airflow.sdk.execution_time.xcom import XCom
    except ImportError:
        from airflow.models.xcom import XCom

        airflow_2 = True
    else:
        airflow_2 = False

    def push(value: Any) -> Any:
        row = XCom.serialize_value(value, key="return_value", map_index=-1, **WHERE)
        if airflow_2:
            return row
        import msgspec

        carried = msgspec.msgpack.decode(msgspec.msgpack.encode(row))  # the socket between the task and its supervisor
        return json.loads(json.dumps(carried, allow_nan=False, ensure_ascii=False).encode())

    return push, lambda row: XCom.deserialize_value(SimpleNamespace(value=row))


def _outcome(push: Any, pull: Any, make: Any, part: Any) -> str:
    from tests.roundtrips.examples import same

    try:
        row = push(make())
    except Exception as error:
        return f"push fails: {type(error).__name__}"
    try:
        back = pull(row)
    except Exception as error:
        return f"pull fails: {type(error).__name__}"
    try:
        if same(back, make()):
            return "exact"
        left, right = part(back), part(make())
    except Exception:
        return "changed"
    return _change(left, right) or "changed"


def _change(left: Any, right: Any) -> str | None:
    """The first difference, of types or of values."""
    if type(left) is not type(right):
        return f"{type(right).__name__} becomes {type(left).__name__}"
    if type(left) in (list, tuple):
        for a, b in zip(left, right, strict=False):
            change = _change(a, b)
            if change:
                return change
    if type(left) is dict and list(map(repr, left)) != list(map(repr, right)):
        return "keys change"
    from tests.roundtrips.examples import same

    return None if same(left, right) else f"another {type(left).__name__}"


if __name__ == "__main__":
    main(*sys.argv[1:])
