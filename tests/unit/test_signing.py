"""Signatures: nobody without a key writes or changes an envelope, and no envelope serves another Dag."""

from __future__ import annotations

import dataclasses
import hmac
import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.conftest import HERE, make_pipeline
from xcargo.errors import EnvelopeError, IntegrityError, SignatureError, XCargoError
from xcargo.model.envelope import is_envelope
from xcargo.model.keys import Key
from xcargo.stores.local import buckets

NEW, OLD, STRANGER = (Key(name, os.urandom(32)) for name in ("new", "old", "stranger"))
BIG = {f"key{i}": "x" * 100 for i in range(100)}
VALUES: dict[str, Any] = {"object": BIG, "inline": (1, 2), "chunks": os.urandom(9_000_000), "array": np.arange(1000)}


def signed(key: Key = NEW, **settings: Any) -> Any:
    return make_pipeline(signing_keys=(key,), **settings)


def through_database(row: Any) -> Any:
    """As a database gives it back: keys in another order."""
    return json.loads(json.dumps(row, sort_keys=True))


@pytest.mark.parametrize("kind", VALUES)
def test_a_signed_value_comes_back(kind: str) -> None:
    """Pulled whole and by a handle, and purged, by whoever has the key; whatever order the database keeps keys in."""
    row = through_database(signed().push(VALUES[kind], HERE))
    assert row["signature"].startswith("hmac-sha256:new:")
    assert np.all(signed().pull(row, HERE.dag_id) == VALUES[kind])
    assert signed().handle(row, HERE.dag_id).size_bytes == row["size_bytes"]
    assert signed().purge(row, HERE.dag_id) is ("uri" in row)


def refused(pipeline: Any, row: Any, error: type[XCargoError] = SignatureError, dag_id: str | None = None) -> None:
    """The row is neither pulled, nor handed out, nor purged."""
    before = {name: dict(bucket) for name, bucket in buckets.items()}
    for use in (pipeline.pull, pipeline.handle):
        with pytest.raises(error) as caught:
            use(row, dag_id)
        assert not any(key.secret.hex() in str(caught.value) for key in (NEW, OLD, STRANGER))
    assert pipeline.purge(row, dag_id) is False
    assert before == buckets


@pytest.mark.parametrize("kind", VALUES)
def test_unsigned_and_strangers_envelopes_are_refused(kind: str) -> None:
    """With a key set, what has no signature or one by another key is not followed, and nothing is deleted for it."""
    refused(signed(), make_pipeline().push(VALUES[kind], HERE))
    refused(signed(), signed(STRANGER).push(VALUES[kind], HERE))
    disguised = signed(dataclasses.replace(STRANGER, name="new")).push(VALUES[kind], HERE)
    refused(signed(), disguised)


@pytest.mark.parametrize("kind", VALUES)
def test_no_field_can_be_changed_removed_or_added(kind: str) -> None:
    """Each field of each kind of envelope is under the signature, and so are fields that only a later version knows."""
    row = signed().push(VALUES[kind], HERE)
    other = signed().push(VALUES[kind], HERE)
    for name in row:
        if name == "__id__":
            continue
        without = {field: value for field, value in row.items() if field != name}
        refused(signed(), without, EnvelopeError)
        refused(signed(), {**row, name: _changed(row[name])}, EnvelopeError)
        if name in ("uri", "checksum", "chunks", "signature", "created_at") and row[name] != other[name]:
            refused(signed(), {**row, name: other[name]})
    for name, value in {"params": {"a": 1}, "preview": "mine", "dag": "other", "later": 1, "encryption": {}}.items():
        refused(signed(), {**row, name: value if row.get(name) != value else "x"}, EnvelopeError)


def _changed(value: Any) -> Any:
    if isinstance(value, str):
        return value[:-1] + ("a" if value[-1] != "a" else "b")
    return value + 1 if isinstance(value, int) else {**value, "more": 1}


@given(st.text() | st.integers() | st.none() | st.dictionaries(st.text(), st.integers()) | st.binary().map(repr))
@example("hmac-sha256:new:\ud800")
def test_any_made_up_signature_is_refused(signature: Any) -> None:
    """Whatever stands there is an error of ours, and never a value."""
    row: Any = make_pipeline(threshold_bytes=-1).push((1,), HERE)
    with pytest.raises(EnvelopeError):
        signed().pull({**row, "signature": signature})


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the library's own comparison decides, so no answer comes the sooner the more of it is wrong."""
    row = signed().push(BIG, HERE)
    forged = {**row, "signature": "hmac-sha256:new:" + "0" * 64}
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: len(one) == len(other) == 64)
    assert signed().pull(forged) == BIG
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: False)
    refused(signed(), row)


def test_a_row_of_absurd_depth_is_refused() -> None:
    """Its signature cannot even be computed."""
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    row = {**signed().push(BIG, HERE), "later": deep}
    with pytest.raises(SignatureError):
        signed().pull(row)


def test_keys_can_be_changed() -> None:
    """The first signs, all verify; a key that is no longer listed does not."""
    both = make_pipeline(signing_keys=(NEW, OLD))
    before = signed(OLD).push(BIG, HERE)
    assert both.pull(before) == BIG
    after = both.push(BIG, HERE)
    assert signed(NEW).pull(after) == BIG
    refused(signed(NEW), before)
    refused(signed(OLD), after)


def test_without_a_key_signed_envelopes_are_read() -> None:
    """A component that was not told the key yet can read; it verifies nothing."""
    assert make_pipeline().pull(signed().push(BIG, HERE)) == BIG


def test_unsigned_ones_are_accepted_until_a_moment_and_wrongly_signed_ones_never() -> None:
    """The way from unsigned to signed: it closes by itself."""
    row, now = make_pipeline().push(BIG, HERE), datetime.now(timezone.utc)
    open_still = signed(unsigned_until=now + timedelta(hours=1))
    assert open_still.pull(row) == BIG
    refused(open_still, signed(STRANGER).push(BIG, HERE))
    refused(signed(unsigned_until=now), row)


@pytest.mark.parametrize("kind", ["object", "chunks"])
def test_a_row_of_one_dag_never_serves_another(kind: str) -> None:
    """A copied row is refused where it is asked for as another Dag's, signed or not."""
    for pipeline in (make_pipeline(), signed()):
        row = pipeline.push(VALUES[kind], HERE)
        refused(pipeline, row, EnvelopeError, dag_id="another_dag")
        assert np.all(pipeline.pull(row, HERE.dag_id) == VALUES[kind])


def test_a_row_serves_every_run_and_task_of_its_own_dag() -> None:
    """Airflow reads rows of other runs itself (include_prior_dates), and says only whose Dag they are."""
    row = signed().push(BIG, HERE)
    assert signed().pull(row, HERE.dag_id) == BIG


@pytest.mark.parametrize("kind", ["object", "chunks"])
def test_nor_does_the_nodes_cache_serve_it(kind: str, tmp_path: Path) -> None:
    """A row that names a place of its own Dag and the checksum of another one's value gets nothing from the cache."""
    value = VALUES["chunks"][:1_000_000] * (9 if kind == "chunks" else 1) + bytes(100_000)
    pipeline = make_pipeline(cache_path=str(tmp_path))
    row: Any = pipeline.push(value, HERE)
    assert pipeline.pull(row, HERE.dag_id) == value
    assert len(list(tmp_path.iterdir())) == 1
    own: Any = pipeline.push(b"x" * 10_000, dataclasses.replace(HERE, dag_id="another_dag"))
    with pytest.raises(IntegrityError):
        pipeline.pull({**row, "uri": own["uri"]}, "another_dag")


def test_a_small_value_in_the_row_is_of_its_dag_too_once_signed() -> None:
    """An inline envelope names its Dag under the signature; an unsigned one holds nothing that its writer lacked."""
    row = signed().push((1, 2), HERE)
    refused(signed(), row, EnvelopeError, dag_id="another_dag")
    refused(signed(), {**row, "dag": "another_dag"}, SignatureError, dag_id="another_dag")


def test_what_is_signed_survives_every_database() -> None:
    """Envelopes hold no number that a database might write another way: whole numbers of 64 bits, no floats."""

    def numbers(value: Any) -> list[Any]:
        if isinstance(value, dict):
            value = list(value.values())
        return [n for part in value for n in numbers(part)] if isinstance(value, list) else [value]

    rows = [json.loads(path.read_text()) for path in (Path(__file__).parents[1] / "golden/0.1.0").glob("*.json")]
    assert len(rows) > 40
    found = [n for row in rows if is_envelope(row) for n in numbers(row)]
    assert not any(isinstance(n, float) or (isinstance(n, int) and abs(n) >= 2**63) for n in found)
