"""Push every example, or pull in another process what was pushed, and say what came back.

python -m tests.roundtrips.probe push|pull BACKEND row|object HOME

Rows and objects are kept below HOME; the pull prints JSON. The backends are those of Airflow, ``xcargo`` and
``common_io``; ``pipeline`` is xcargo's without Airflow, for environments that have none.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

BACKENDS = {
    "xcargo": "xcargo.XComBackend",
    "common_io": "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend",
}
NOT_THERE = "the pushing version has no such type"
Rows = dict[str, dict[str, dict[str, Any]]]
"""Type -> place -> row and what was shown of the value, or why there is none."""
WHERE = {"dag_id": "a_dag", "run_id": "a_run", "task_id": "a_task"}


def main(verb: str, backend: str, place: str, home: str) -> None:
    """Run the command."""
    warnings.simplefilter("ignore")
    threshold = "0" if place == "object" else "-1" if backend == "common_io" else str(2**30)
    objects = Path(home, "objects")
    objects.mkdir(exist_ok=True)
    if backend in BACKENDS:
        _settle(Path(home), BACKENDS[backend], threshold)
    push, pull = _hooks() if backend in BACKENDS else _pipeline(objects, int(threshold))
    if verb == "push":
        write_rows(Path(home), backend, place, _pushed(push, place))
    else:
        print(json.dumps(_pulled(pull, read_rows(Path(home), backend, place))))


def write_rows(home: Path, backend: str, place: str, rows: Rows) -> None:
    """Keep what was pushed for the process that pulls it."""
    (home / f"{backend}-{place}.rows").write_bytes(pickle.dumps(rows))


def read_rows(home: Path, backend: str, place: str) -> Rows:
    """What was pushed."""
    return pickle.loads((home / f"{backend}-{place}.rows").read_bytes())  # type: ignore[no-any-return]


def _settle(home: Path, backend: str, threshold: str) -> None:
    os.environ |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES": "airflow.* tests.roundtrips.examples.*",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__XCOM_BACKEND": backend,
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": (home / "objects").as_uri(),
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": threshold,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "CRITICAL",
        "AIRFLOW__XCARGO__PATH": (home / "objects").as_uri(),
        "AIRFLOW__XCARGO__THRESHOLD_BYTES": threshold,
    }


def _hooks() -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
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


def _pipeline(objects: Path, threshold: int) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    from tests.roundtrips import examples
    from xcargo.codecs import Registry
    from xcargo.codecs.class_names import import_name
    from xcargo.model.coordinate import Coordinate
    from xcargo.model.envelope import is_envelope
    from xcargo.model.root import Root
    from xcargo.model.settings import Settings
    from xcargo.pipeline.pipeline import Pipeline
    from xcargo.stores import StorePool
    from xcargo.stores.base import Access

    def class_of(name: str) -> type:
        module, _, cls = name.partition(":")
        assert module == examples.__name__
        return getattr(examples, cls)  # type: ignore[no-any-return]

    codecs = Registry(classes=SimpleNamespace(name_of=import_name, class_of=class_of), entry_points=False)
    settings = Settings(Root.parse(objects.as_uri()), threshold_bytes=threshold)
    pipeline = Pipeline(settings, codecs, StorePool(lambda _: Access()))
    where = Coordinate("a_dag", "a_run", "a_task", "return_value")
    push = lambda value: json.loads(json.dumps(pipeline.push(value, where), allow_nan=False))  # noqa: E731
    return push, lambda row: pipeline.pull(row) if is_envelope(row) else row


def _pushed(push: Callable[[Any], Any], place: str) -> dict[str, dict[str, Any]]:
    """The rows of each example, alone and nested, or what the push said."""
    from tests.roundtrips.examples import examples, names

    known = names()
    rows: Rows = {}
    for kind, example in examples().items():
        rows[kind] = {}
        for where in (place, f"nested {place}"):
            try:
                value = eval(example, known)  # for each push: some can be used once
            except (AttributeError, NameError):
                rows[kind][where] = {"outcome": NOT_THERE}
                continue
            try:
                shown = _shown(value)
                rows[kind][where] = {"row": push(value if where == place else [{"inside": value}]), "shown": shown}
            except Exception as error:
                rows[kind][where] = {"outcome": f"push fails: {type(error).__name__}"}
    return rows


def _pulled(pull: Callable[[Any], Any], rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, str]]:
    """What came back. Everything is pulled before anything else is imported."""
    backs = {
        (kind, where): _result(partial(_part, pull, pushed["row"], where))
        for kind, places in rows.items()
        for where, pushed in places.items()
        if "row" in pushed
    }
    from tests.roundtrips.examples import examples, names

    known = names()
    outcomes: dict[str, dict[str, str]] = {}
    for kind, places in rows.items():
        make = partial(eval, examples()[kind], known)
        outcomes[kind] = {
            where: _outcome(*backs[kind, where], make, pushed["shown"]) if "row" in pushed else pushed["outcome"]
            for where, pushed in places.items()
        }
    return outcomes


def _part(pull: Callable[[Any], Any], row: Any, where: str) -> Any:
    value = pull(row)
    return value[0]["inside"] if where.startswith("nested") else value


def _result(pull: Callable[[], Any]) -> tuple[Any, str]:
    """What was pulled, or how that failed."""
    try:
        return pull(), ""
    except Exception as error:
        return None, f"pull fails: {type(error).__name__}"


def _outcome(back: Any, failure: str, make: Callable[[], Any], shown: str) -> str:
    from tests.exact import assert_exact

    if failure:
        return failure
    try:
        assert_exact(back, make())
    except Exception as error:
        if _shown(back) == shown:  # another version of the library makes another value of the same text
            return "exact"
        change = re.search(r": ([\w.]+) became ([\w.]+)$", str(error))
        return f"{_last(change[1])} becomes {_last(change[2])}" if change else "changed"
    return "exact"


def _shown(value: Any) -> str:
    """A value with its types, as every version of its library writes it."""
    from tests.exact import state_of

    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} {list(map(_shown, value))}"
    if isinstance(value, dict):
        return f"{type(value).__name__} {[(key, _shown(part)) for key, part in value.items()]}"
    state = state_of(value)
    if state is not None:  # whose repr does not say all of it
        return f"{type(value).__name__} {_shown(state)}"
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):  # numpy 1 and 2 write scalars differently
        return f"{type(value).__name__} {value.dtype!r} {value.tolist()!r}"
    dtypes = value.dtypes if type(value).__name__ == "DataFrame" else [getattr(value, "dtype", None)]
    return " ".join(f"{type(value).__name__} {value!r} {list(map(repr, dtypes))}".split())


def _last(name: str) -> str:
    return name.rpartition(".")[2]


if __name__ == "__main__":
    main(*sys.argv[1:])
