"""The hooks that carry a value into its row and back."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from contract_values import LARGE, PLAIN, VALUES, alike, large

from xcargo.airflow import compat, runtime
from xcargo.airflow.config import read_settings

from .conftest import file_of
from .generation import AIRFLOW_2, HOOKS, STOCK_HOOKS, BaseXCom, Hooks, XCom, as_json, carried
from .settle import Place

EVERY = PLAIN | VALUES
STOCK = ("tuple", "set", "frozenset", "aware_datetime", "timedelta")
"""Values beyond JSON that the stock backend of every release writes and reads."""

every_hooks = pytest.mark.parametrize("hooks", HOOKS, ids=repr)
each_value = pytest.mark.parametrize("value", EVERY.values(), ids=EVERY.keys())
control_key = pytest.mark.parametrize("key", ["skipmixin_key", "_link_x", "_airflow_loop_x"])


@every_hooks
@pytest.mark.parametrize("value", PLAIN.values(), ids=PLAIN.keys())
def test_small_plain_value_stands_in_the_row(hooks: Hooks, value: Any) -> None:
    """A small value of plain JSON is its own row."""
    assert alike(as_json(hooks.push(value, "return_value")), value)


@every_hooks
def test_keys_keep_their_order_in_a_database_that_sorts_them(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """On request the row notes the order, beside the keys. Airflow 2 keeps it until an upgrade moves rows to JSONB."""
    monkeypatch.setenv("AIRFLOW__XCARGO__KEEP_KEY_ORDER", "True")
    monkeypatch.setattr(runtime, "pipeline", lambda: runtime.open_pipeline(read_settings(compat.conf())))
    value = {"name": 1, "id": [{"b": 1, "a": 2}]}
    row = as_json(hooks.push(value, "return_value"))
    assert (row["name"], row["id"][0]["b"]) == (1, 1)
    row = json.loads(json.dumps(row, sort_keys=True))
    assert list(row) != list(value)
    back = hooks.pull(json.dumps(row).encode() if AIRFLOW_2 else row)
    assert back == value
    assert (list(back), list(back["id"][0])) == (["name", "id"], ["b", "a"])


@every_hooks
def test_large_value_goes_to_an_object(hooks: Hooks, place: Place) -> None:
    """A value above the threshold leaves an envelope in the row and its object below the root."""
    envelope = as_json(hooks.push(large(1), "return_value"))
    assert isinstance(envelope, dict)
    assert envelope["__id__"] == "xcargo/1"
    assert envelope["uri"].startswith("file:///")
    assert place.root in file_of(envelope).parents
    assert file_of(envelope).stat().st_size == envelope["stored_bytes"]
    assert LARGE not in json.dumps(envelope)


@every_hooks
@each_value
@pytest.mark.parametrize("padding", [None, large(0)], ids=["small", "large"])
def test_value_comes_back_as_it_was(hooks: Hooks, value: Any, padding: Any) -> None:
    """Equal and of the same type at every depth, on both sides of the threshold, through every transport."""
    pushed = value if padding is None else [value, padding]
    row = hooks.push(pushed, "return_value")
    assert alike(hooks.pull(carried(row)), pushed)
    assert ("uri" in json.dumps(as_json(row))) is (padding is not None)


@every_hooks
@control_key
@pytest.mark.parametrize("value", [{"followed": ["task_" + LARGE]}, "link " + LARGE, 1], ids=["dict", "text", "number"])
def test_control_plane_keys_stay_plain(hooks: Hooks, key: str, value: Any) -> None:
    """What the scheduler or the API server reads by itself is never offloaded or wrapped, however large."""
    assert as_json(hooks.push(value, key)) == value


def look_alikes() -> dict[str, Any]:
    """Values of users that look like something else to some Airflow, or to us."""
    envelope = as_json(HOOKS[0].push(large(1), "return_value"))
    inline = as_json(HOOKS[0].push((1, 2), "return_value"))
    return {
        "our_envelope": envelope,
        "our_inline_envelope": inline,
        "our_envelope_nested": {"a": [envelope]},
        "made_up_envelope": {"__id__": "xcargo/1", "uri": "file:///etc/hostname"},
        "newer_envelope": {"__id__": "xcargo/99"},
        "bare_id": {"__id__": 1},
        "serialized_class": {"__classname__": "builtins.tuple", "__version__": 1, "__data__": [1]},
        "nested_class": {"a": {"__classname__": "os.system", "__version__": 1, "__data__": ["true"]}},
        "old_serialized": {"__type": "set", "__var": [1]},
        "others": {"__cache__": 1, "__source": 2, "__version__": 3, "__data__": 4},
    }


@every_hooks
@pytest.mark.parametrize("name", look_alikes().keys())
@pytest.mark.parametrize("padding", [None, LARGE], ids=["small", "large"])
def test_dict_with_reserved_keys_is_only_a_dict(hooks: Hooks, name: str, padding: str | None) -> None:
    """A user's dict that looks like an envelope, or holds a key that Airflow reserves, comes back as it was."""
    value = look_alikes()[name]
    pushed = value if padding is None else {**value, "padding": padding}
    assert alike(hooks.pull(carried(hooks.push(pushed, "return_value"))), pushed)


@every_hooks
def test_path_of_an_object_is_only_a_text(hooks: Hooks) -> None:
    """A text that names an existing object comes back as that text."""
    uri = as_json(hooks.push(large(1), "return_value"))["uri"]
    assert hooks.pull(hooks.push(uri, "return_value")) == uri


@pytest.mark.skipif(not hasattr(BaseXCom, "store_value"), reason="this Airflow has no XComCoordinate")
@pytest.mark.parametrize("index", [None, 3], ids=["unmapped", "mapped"])
@pytest.mark.parametrize("own", [True, False], ids=["own", "of_another_task"])
def test_coordinate_tells_writes_apart(index: int | None, own: bool) -> None:
    """Each write has an object of its own, whether the task writes its own XCom or another task's."""
    from airflow.sdk.bases.xcom import XComCoordinate

    coordinates = [
        XComCoordinate("a_dag", "a_run", "a_task", ti_id=uuid4() if own else None, region_index=index if own else None)
        for _ in range(2)
    ]
    rows = [XCom.store_value(coordinate, "return_value", large(n)) for n, coordinate in enumerate(coordinates)]
    assert file_of(rows[0]) != file_of(rows[1])
    assert [XCom.load_value(row) for row in rows] == [large(0), large(1)]


@pytest.mark.parametrize("stock", STOCK_HOOKS, ids=lambda hooks: f"stock_{hooks}")
@every_hooks
@pytest.mark.parametrize("name", [*PLAIN, *STOCK])
def test_rows_of_the_stock_backend_are_read(stock: Hooks, hooks: Hooks, name: str) -> None:
    """A row that Airflow's own backend wrote gives the value that Airflow's own backend gives for it."""
    row = stock.push(EVERY[name], "return_value")
    assert alike(hooks.pull(row), stock.pull(row))


@pytest.mark.parametrize("stock", STOCK_HOOKS, ids=lambda hooks: f"stock_{hooks}")
@every_hooks
@pytest.mark.parametrize("name", PLAIN)
def test_plain_rows_are_read_by_the_stock_backend(stock: Hooks, hooks: Hooks, name: str) -> None:
    """Small plain values stay readable when the backend is switched off."""
    assert alike(stock.pull(carried(hooks.push(PLAIN[name], "return_value"))), PLAIN[name])


@every_hooks
@pytest.mark.parametrize("rows", [1, 1000], ids=["small", "large"])
def test_data_frame_comes_back(hooks: Hooks, rows: int) -> None:
    """A pandas.DataFrame comes back equal, with its dtypes and its index."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"n": range(rows), "t": ["x"] * rows}, index=pandas.RangeIndex(5, 5 + rows))
    back = hooks.pull(carried(hooks.push(frame, "return_value")))
    pandas.testing.assert_frame_equal(back, frame)


@every_hooks
@pytest.mark.parametrize("items", [1, 1000], ids=["small", "large"])
def test_array_comes_back(hooks: Hooks, items: int) -> None:
    """A numpy.ndarray comes back equal, of the same dtype and shape."""
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(items * 2, dtype="int16").reshape(items, 2)
    back = hooks.pull(carried(hooks.push(array, "return_value")))
    numpy.testing.assert_array_equal(back, array, strict=True)
