"""Coordinate: object keys never meet and never leave the root."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xcargo.model.coordinate import MAX_OBJECT_KEY_BYTES, Coordinate
from xcargo.model.root import Root

IDS = st.one_of(
    st.text(min_size=1, max_size=250),
    st.sampled_from([".", "..", "a/b", "../../etc", "a:b", "a b", "a#b?c", "%2E", "%", "~", "日本語", "-1", "0"]),
)
COORDINATES = st.builds(
    Coordinate,
    IDS,
    IDS,
    IDS,
    IDS,
    st.integers(-1, 3),
    st.none() | st.uuids().map(str),
)


@given(COORDINATES)
def test_a_key_stays_below_its_root_and_fits_every_store(coordinate: Coordinate) -> None:
    """Whatever the ids hold, the key has no dotted or empty segment and fits the clouds and file systems."""
    key = coordinate.object_key(suffix=".msgpack.zst")
    segments = key.split("/")
    assert not {"", ".", ".."} & set(segments)
    assert key.isascii()
    assert len(key) < MAX_OBJECT_KEY_BYTES - 100
    assert max(map(len, segments)) <= 255
    root = Root.parse("s3://bucket/prefix")
    assert root.object_key(root.uri(key)) == key


@given(COORDINATES, COORDINATES)
def test_two_coordinates_never_share_a_key(one: Coordinate, other: Coordinate) -> None:
    """Different coordinates have different keys even with the same unique part."""
    if one != other:
        assert one.object_key(unique="0") != other.object_key(unique="0")


def test_every_write_gets_a_key_of_its_own() -> None:
    """Overwriting an XCom key never overwrites an object."""
    coordinate = Coordinate("d", "r", "t", "k")
    assert len({coordinate.object_key() for _ in range(1000)}) == 1000


def test_a_key_reads_like_its_coordinate() -> None:
    """Someone who looks into the bucket finds Dag, run, task and key."""
    coordinate = Coordinate("my_dag", "manual__2026-01-01", "extract", "return_value", 7)
    assert (
        coordinate.object_key(suffix=".arrow", unique="ab")
        == "my_dag/manual__2026-01-01/extract/7/return_value~ab.arrow"
    )


def test_long_ids_that_differ_only_at_their_end_stay_apart() -> None:
    """A cut segment carries a hash of the whole id."""
    one, other = ("x" * 249 + end for end in "ab")
    assert Coordinate(one, "r", "t", "k").prefix() != Coordinate(other, "r", "t", "k").prefix()
