"""Coordinate: object keys never meet, never leave the root, and tell what they were made of."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xcargo.model.coordinate import (
    MAX_OBJECT_KEY_BYTES,
    Coordinate,
    State,
    dag_of,
    has_attempt,
    segment,
    spellings,
    state_of,
    text_of,
)
from xcargo.model.root import Root

HOSTILE = [
    *("", ".", "..", "...", "a/b", "../../etc", "a:b", "a b", "a#b?c", "%2E", "%", "~", "~2E", "~-", "~.", "a~0f"),
    *("日本語", "-1", "0", "\ud800", "nul\0", "x" * 250, "x" * 117 + "\x12" + "0" * 30),
]
IDS = st.one_of(st.text(max_size=250), st.sampled_from(HOSTILE))
XCOMS = st.builds(Coordinate, IDS, IDS, IDS, IDS, st.integers(-1, 3), st.none() | st.uuids().map(str))
TASKS = st.builds(State, st.none() | st.uuids().map(str))
ASSETS = st.builds(State, asset=IDS, asset_by=st.sampled_from(["name", "uri", "id"]))
COORDINATES = (
    XCOMS
    | st.builds(Coordinate, IDS, IDS, IDS, IDS, st.integers(-1, 3), state=TASKS)
    | st.builds(Coordinate, *(st.just(""),) * 3, IDS, state=ASSETS)
)
UNIQUE = "0123456789abcdef"


@given(COORDINATES)
def test_a_key_is_unreserved_stays_below_its_root_and_fits_every_store(coordinate: Coordinate) -> None:
    """Whatever the ids hold: no character that anybody quotes, no dotted or empty segment, no name too long."""
    key = coordinate.object_key(suffix=".msgpack.zst")
    segments = key.split("/")
    assert re.fullmatch("[A-Za-z0-9._~/-]+", key)
    assert not {"", ".", ".."} & set(segments)
    assert len(key) < MAX_OBJECT_KEY_BYTES - 100
    assert max(map(len, segments)) <= 255
    root = Root.parse("s3://bucket/prefix")
    assert root.object_key(root.uri(key)) == key


@given(COORDINATES, COORDINATES)
def test_two_coordinates_never_share_a_key(one: Coordinate, other: Coordinate) -> None:
    """Different coordinates have different keys even with the same unique part."""
    if one != other:
        assert one.object_key(unique=UNIQUE) != other.object_key(unique=UNIQUE)


@given(XCOMS)
def test_a_key_parses_back_to_its_coordinate(coordinate: Coordinate) -> None:
    """Dag and run as they were unless they were cut, the Dag for people, and whether it is of one attempt."""
    key = coordinate.object_key(suffix=".npraw")
    for folder, text in zip(key.split("/"), (coordinate.dag_id, coordinate.run_id, coordinate.task_id), strict=False):
        assert text_of(folder) == (None if re.search(r"~\.[0-9a-f]{32}$", folder) else text)
    dag = dag_of(key)
    assert dag is not None
    assert dag.isprintable()
    if coordinate.dag_id.isprintable() and text_of(segment(coordinate.dag_id)) is not None:
        assert dag == coordinate.dag_id
    assert has_attempt(key) is (coordinate.attempt is not None)


@given(COORDINATES)
def test_a_key_tells_whether_it_is_of_the_state_store(coordinate: Coordinate) -> None:
    """All of a key of the state store is in one folder, which holds nothing else."""
    key = coordinate.object_key(suffix=".json")
    assert (state_of(key) is not None) is (coordinate.state is not None)
    assert dag_of(key) is not None
    if coordinate.state is not None:
        assert key.rpartition("/")[0] == f"{coordinate.prefix()}/{segment(coordinate.key)}"
        assert coordinate.prefix().startswith(coordinate.prefix(all_map_indexes=True))


@given(IDS, IDS)
def test_no_spelling_of_an_id_is_one_of_another(one: str, other: str) -> None:
    """Neither in the present scheme nor in that of pre-releases, nor between the two."""
    if one != other:
        assert not set(spellings(one)) & set(spellings(other))


@pytest.mark.parametrize(
    ("key", "dag", "attempt"),
    [
        (f"my_dag/manual__2026-01-01T00%3A00/t/3/return_value~{UNIQUE}.msgpack.zst", "my_dag", False),
        (f"d%C3%BC/r/t/k@019aa~{UNIQUE}", "dü", True),
        (f"%2E%2E/r/t/~~{UNIQUE}", "..", False),
        (f"{'x' * 117}~{'0f' * 16}/r/t/k~{UNIQUE}", "x" * 117 + "~" + "0f" * 16, False),
    ],
)
def test_a_pre_releases_key_is_still_known(key: str, dag: str, attempt: bool) -> None:
    """What wrote ``%XX`` and ``@``: its objects are read, judged by sweeps, and deleted."""
    root = Root.parse("s3://bucket/prefix")
    assert root.object_key(root.uri(key)) == key
    assert (dag_of(key), has_attempt(key)) == (dag, attempt)
    assert text_of(key.partition("/")[0]) in (dag, None)
    assert key.partition("/")[0] in spellings(dag) or "0f" in dag


@pytest.mark.parametrize(
    "key",
    ["k", "d/r/t/k", "d/r/t/k~1", f"../r/t/k~{UNIQUE}", f"d//t/k~{UNIQUE}", f"d/r/t/a+b~{UNIQUE}", "~xcargo/lock"],
)
def test_a_key_that_nobody_of_us_wrote_is_not_ours(key: str) -> None:
    """It is shown to nobody as a Dag's."""
    assert dag_of(key) is None


def test_every_write_gets_a_key_of_its_own() -> None:
    """Overwriting an XCom key never overwrites an object."""
    coordinate = Coordinate("d", "r", "t", "k")
    assert len({coordinate.object_key() for _ in range(1000)}) == 1000


def test_a_key_reads_like_its_coordinate() -> None:
    """Someone who looks into the bucket finds Dag, run, task and key."""
    coordinate = Coordinate("my_dag", "manual__2026-01-01T00:00", "extract", "return_value", 7, "019a-b")
    assert (
        coordinate.object_key(suffix=".arrow", unique="ab")
        == "my_dag/manual__2026-01-01T00~3A00/extract/7/return_value~-019a-b~ab.arrow"
    )


def test_a_key_of_the_state_store_reads_like_its_coordinate() -> None:
    """That of a task is in its run's folder, that of an asset in a folder of its own."""
    task = Coordinate("my_dag", "manual", "extract", "cursor", 7, state=State())
    assert task.object_key(suffix=".json", unique="ab") == "my_dag/manual/~state/extract/7/cursor/~ab.json"
    asset = Coordinate("", "", "", "cursor", state=State(asset="s3://bucket", asset_by="uri"))
    assert asset.object_key(unique="ab") == "~asset-uris/s3~3A~2F~2Fbucket/cursor/~ab"


def test_long_ids_that_differ_only_at_their_end_stay_apart() -> None:
    """A cut segment carries a hash of the whole id."""
    one, other = ("x" * 249 + end for end in "ab")
    assert Coordinate(one, "r", "t", "k").prefix() != Coordinate(other, "r", "t", "k").prefix()
