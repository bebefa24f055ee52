"""Parts of a root: what there is to split, and what all parts together may take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.servers import Server
from tests.unit.conftest import make_pipeline
from xcargo.lifecycle.plan import Count, share_refusal
from xcargo.lifecycle.sweep import folders, shards
from xcargo.model.coordinate import Coordinate
from xcargo.model.root import Root
from xcargo.stores.local import LocalStore


def test_folders_at_the_top_are_what_dags_there_are(any_server: Server, tmp_path: Path) -> None:
    """On every store; neither files at the top nor the notes of sweeps are among them."""
    pipeline = make_pipeline(f"{any_server.root}/shards", connection=any_server.connection, threshold_bytes=0)
    root: Any = pipeline.settings.root
    for store in (pipeline._places.store(root, pipeline._limits), LocalStore(Root.parse(tmp_path.as_uri()))):
        for dag in ("b", "a", "a b"):
            store.put(Coordinate(dag, "r", "t", "k").object_key(), [b"x"])
        store.put("at-the-top", [b"x"])
        store.put("~xcargo/quarantine/a/r/t/k~0123456789abcdef", [b"x"])
        assert folders(store) == ["a", "a~20b", "b"]
        assert shards(store, 2) == [["a", "b"], ["a~20b"]]
        assert shards(store, 9) == [["a"], ["a~20b"], ["b"]]


def test_nothing_has_no_parts(tmp_path: Path) -> None:
    """A root that is not there yet."""
    assert shards(LocalStore(Root.parse(f"{tmp_path.as_uri()}/none")), 4) == []


@pytest.mark.parametrize(
    ("taken", "ours", "refused"),
    [
        (Count(5, 5), Count(10, 10), False),
        (Count(6, 1), Count(10, 10), True),
        (Count(1, 6), Count(10, 10), True),
        (Count(0, 0), Count(0, 0), False),
        (Count(1, 0), Count(1, 0), True),
    ],
)
def test_a_share_counts_by_number_and_by_bytes(taken: Count, ours: Count, refused: bool) -> None:
    """More than half of either is too much; exactly half is not."""
    assert bool(share_refusal(taken, ours, 0.5)) is refused
