"""What somebody who writes to the bucket, and to nothing else, can do to sweeps: not delete, and not stop for good."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.unit.lifecycle.kit import DAY, Deployment
from xcargo.errors import SweepRefusedError
from xcargo.lifecycle.bookkeeping import NOTE, SweepLock, read_owner
from xcargo.model.root import Root
from xcargo.stores.local import LocalStore

FORGED = [b"[" * 100_000, b"{}", b"\xff", b'{"prefixes": 7}', b'{"prefixes": [], "holder": {}, "at": 1, "pid": 1e999}']


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(Root.parse(tmp_path.as_uri()))


def planted(path: Path, content: bytes | None) -> Path:
    """A file with this content, or of a terabyte."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content or b"")
    if content is None:
        os.truncate(path, 2**40)
    return path


@pytest.mark.parametrize("content", [*FORGED, None])
def test_a_forged_lock_holds_sweeps_up_no_longer_than_a_real_one(
    store: LocalStore, tmp_path: Path, content: bytes | None
) -> None:
    """Whatever it holds, it expires; one that is dated into the future counts for nothing."""
    lock = tmp_path / "~xcargo/locks/forged.json"
    planted(lock, content)
    with pytest.raises(SweepRefusedError, match="Another sweep is under way"), SweepLock(store, []):
        pass
    for age_seconds in (181, -DAY):
        os.utime(planted(lock, content), (time.time() - age_seconds,) * 2)
        with SweepLock(store, []):
            assert not lock.exists()


@pytest.mark.parametrize("content", [*FORGED[:1], *FORGED[2:3], b"[]", b'{"api": 7}', None])
def test_a_forged_note_of_the_owner_refuses_in_words(store: LocalStore, tmp_path: Path, content: bytes | None) -> None:
    """And says how the owner writes it again."""
    planted(tmp_path / NOTE, content)
    with pytest.raises(SweepRefusedError, match="--owner me"):
        read_owner(store)


def test_no_planted_object_makes_a_sweep_delete_what_a_row_refers_to() -> None:
    """Copies of it, its like in the quarantine, unfinished files beside it, notes in its place; names of any kind."""
    here = Deployment()
    live = here.push("dag", "run")
    folder, name = live.rsplit("/", 1)
    content = bytes(here.store.get(live))
    names = [
        f"~xcargo/quarantine/{live}",
        f"{folder}/.xcargo-part-0123456789abcdef",
        f"{folder}/x{name}",
        f"{live}/{name}",
        f"dag/run/../run/{name}",
        f"//{live}",
        f"{live}\n",
        "\udcff/x",
        "~" * 1000,
        "~xcargo/clock/0123456789abcdef",
    ]
    for planted_name in names:
        here.store.put(planted_name, [content])
    here.pass_time(2 * DAY)
    for options in ({}, {"prefixes": ("dag",)}, {"quarantine_seconds": DAY}):
        report = here.sweep(**options)
        assert report.missing in (0, None)
        assert bytes(here.store.get(live)) == content
