"""Which view suits which value, what of arrays and bytes is shown, and what differs between two values."""

from __future__ import annotations

import asyncio
import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import xcargo
from tests.unit.explorer.kit import bytes_payload, preview, stored
from xcargo.codecs.source import BytesSource
from xcargo.errors import DecodeError, ObjectNotFoundError, StoreUnavailableError, UnsupportedTypeError
from xcargo.explorer.compare import compare
from xcargo.explorer.limits import BLOCK_BYTES, BlockCache, Budget, Payload, PreviewPool
from xcargo.explorer.value import StoredValue, image_type, looks_like_text

PNG = b"\x89PNG\r\n\x1a\n" + bytes(24)


def test_pickles_and_unknown_codecs_are_never_opened() -> None:
    """Their bytes are not even read; each view refuses them."""

    class Untouchable(BytesSource):
        def read(self, start: int, end: int) -> bytes:
            raise AssertionError("it was read")

    for codec in ("pickle", "acme-money"):
        payload = Payload(Untouchable(b"1234"), "", cache=BlockCache(0), budget=Budget(max_bytes=1, seconds=9))
        value = StoredValue("x", codec, {}, payload)
        assert value.describe()["kind"] == "opaque"
        for view in (value.table, value.array, lambda v=value: v.tree):
            with pytest.raises(UnsupportedTypeError):
                view()


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (np.dtype("i4"), "opaque"),
        (np.ma.masked, "opaque"),
        (np.array([(1, [2])], dtype=[("a", "i4"), ("b", "O")]), "tree"),
    ],
    ids=["dtype", "masked", "objects-in-fields"],
)
def test_what_numpy_stores_in_another_form_is_no_array(value: Any, kind: str) -> None:
    """It has no shape, or its items are packed one by one."""
    assert preview(value).describe()["kind"] == kind


def test_bytes_and_files_say_what_they_look_like(tmp_path: Path) -> None:
    """Pictures by their first bytes, text by its characters, and a file's own name."""
    assert preview(PNG).describe()["image"] == "image/png"
    assert preview("é".encode() * 5000).describe()["text"] is True
    assert preview(bytes(range(256))).describe()["text"] is False
    path = tmp_path / "report.md"
    path.write_text("# Title\n")
    told = preview(xcargo.File(path)).describe()
    assert (told["kind"], told["name"], told["text"]) == ("bytes", "report.md", True)
    assert image_type(b"<svg xmlns='http://www.w3.org/2000/svg'><script>") is None
    assert looks_like_text("é".encode()[:1]) is False


def test_a_text_is_cut_between_characters() -> None:
    """Parts of a text joined are the text."""
    data = ("aé€😀" * 40).encode()
    parts, end = "", 0
    while end < len(data):
        part = preview(data).text(end, 7)
        parts += part["text"]
        end = part["end"]
    assert parts == data.decode()


def test_a_folder_lists_its_files(tmp_path: Path) -> None:
    """Names and sizes out of the archive's headers; damage is told."""
    (tmp_path / "model" / "sub").mkdir(parents=True)
    (tmp_path / "model" / "sub" / "w.bin").write_bytes(b"12345")
    value = preview(xcargo.Directory(tmp_path / "model"))
    assert {entry["name"]: entry["size_bytes"] for entry in value.files()["entries"]} == {"sub": 0, "sub/w.bin": 5}
    with pytest.raises(DecodeError):
        StoredValue("x", "file", value.params, bytes_payload(b"x" * 2000)).files()


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_in_numbers_and_as_a_picture(order: Any) -> None:
    """Summary, heat map and items are those of the array, in C's and in Fortran's order."""
    array = np.asarray(np.arange(24_000, dtype="float64").reshape(2, 120, 100), order=order)
    array[0, 0, 0] = np.nan
    shown = preview(array).array()
    summary = shown.summary()
    assert (summary["min"], summary["max"], summary["not_finite"]) == ("1.0", "23999.0", 1)
    assert sum(summary["bins"]) == 23_999
    picture = shown.picture((1,))
    assert [len(picture["rows"]), len(picture["columns"])] == [96, 96]
    for n, row in enumerate(picture["rows"]):
        assert picture["cells"][n] == [array[1, row, column] for column in picture["columns"]]
    assert shown.page(5, 1, first=7, columns=2, indexes=(1,))["cells"] == [[str(array[1, 5, 7]), str(array[1, 5, 8])]]


@pytest.mark.parametrize("array", [np.array(2.5), np.array([1.0, np.nextafter(1, 2)]), np.exp(1j * np.arange(9))])
def test_arrays_of_one_item_or_hardly_any_spread(array: Any) -> None:
    """No dimension at all, numbers a rounding apart, magnitudes of one: each has its bar and its points."""
    shown = preview(array).array()
    assert shown.summary()["bins"] == [array.size]
    assert shown.picture()["values"] == [float(abs(item)) for item in array.ravel()]


def test_a_large_array_is_sampled_and_its_points_read_one_by_one() -> None:
    """A line over sixteen megabytes reads a block a point at most; nothing claims to be of all items."""
    value, file = stored(np.arange(2_000_000, dtype="float64"), max_bytes=2 << 20)
    line = value.array().picture()
    assert (line["points"][0], line["points"][-1], line["values"][-1]) == (0, 1_999_999, 1_999_999.0)
    summary = value.array().summary()
    assert summary["sampled"] < summary["count"]
    assert file.taken < 32 << 20


def test_arrays_that_lie_about_their_size_are_refused() -> None:
    """A shape that the bytes do not hold, and objects."""
    value = preview(np.zeros(4))
    value.params = {**value.params, "shape": [10**12]}
    with pytest.raises(DecodeError, match="claims more"):
        value.array()
    assert preview(np.array([1, "a"], dtype=object)).describe()["kind"] == "tree"


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_is_downloaded_as_npy(order: Any) -> None:
    """The header and the stored bytes are the file that numpy opens; a masked array has no such file."""
    array = np.asarray(np.arange(24, dtype="<i4").reshape(2, 3, 4), order=order)
    download = preview(array).download("npy")
    file = b"".join(download.chunks)
    read = np.load(io.BytesIO(file))
    assert (read.tolist(), read.dtype, read.flags.f_contiguous) == (array.tolist(), array.dtype, order == "F")
    assert (download.suffix, download.size_bytes) == (".npy", len(file))
    with pytest.raises(UnsupportedTypeError, match="no file of the form 'npy'"):
        preview(np.ma.masked_equal([1, 2], 2)).download("npy")


def test_an_array_whose_object_is_gone_is_an_error_and_no_file_that_ends_short() -> None:
    """Before anything is sent."""

    class Gone(BytesSource):
        def iter_chunks(self) -> Any:
            raise ObjectNotFoundError("The object is gone")

    value = preview(np.arange(4))
    value.payload = Payload(Gone(bytes(32)), "", cache=BlockCache(0), budget=Budget(max_bytes=99, seconds=9))
    with pytest.raises(ObjectNotFoundError):
        value.download("npy")


@pytest.mark.parametrize(
    ("value", "form", "suffix"),
    [
        (PNG, "raw", ".png"),
        (b"\xff\xd8\xff\xe0" + bytes(9), "raw", ".jpg"),
        (b"RIFF\0\0\0\0WEBP", "raw", ".webp"),
        (b"%PDF-1.7\n%\xe2", "raw", ".pdf"),
        (b"PK\x03\x04" + bytes(9), "raw", ".zip"),
        ("é".encode(), "raw", ".txt"),
        (bytes(9), "raw", ".bin"),
        ("é", "txt", ".txt"),
    ],
)
def test_a_download_is_named_by_what_it_is(value: Any, form: str, suffix: str) -> None:
    """Bytes by how they begin; a text is itself, not JSON."""
    download = preview(value).download(form)
    assert download.suffix == suffix
    assert b"".join(download.chunks) == (value.encode() if isinstance(value, str) else value)


def test_two_trees_differ_where_they_do() -> None:
    """Changed, added and removed parts, each with its place; equal values are called the same."""
    left, right = preview({"a": [1, 2], "b": 1, "t": (1,)}), preview({"a": [1, 3], "c": 1, "t": (1,)})
    told = compare(left, right)
    assert told["same"] is False
    assert [(c["where"], c["left"], c["right"]) for c in told["changes"]] == [
        ("['a'][1]", "2", "3"),
        ("['b']", "1", None),
        ("['c']", None, "1"),
    ]
    assert compare(preview([1]), preview([1]))["same"] is True
    assert compare(preview({"a": np.zeros(3)}), preview({"a": np.ones(3)}))["same"] is False
    assert compare(preview([np.zeros(20_000)]), preview([np.ones(20_000)]))["same"] is False


def test_two_tables_differ_in_schema_rows_and_cells() -> None:
    """A column that is gone, one of another type, and the rows whose cells differ."""
    left = preview(pd.DataFrame({"a": [1, 2, 3], "b": [1, 2, 3], "old": 0}))
    right = preview(pd.DataFrame({"a": [1, 2, 4], "b": [1.0, 2.0, 3.0]}))
    told = compare(left, right)
    assert {one["what"] for one in told["schema"]} == {"column b", "column old"}
    assert ("row 2, column a", "3", "4") in [(c["where"], c["left"], c["right"]) for c in told["changes"]]
    assert told["same"] is False
    assert [one["column"] for one in told["statistics"]] == ["a", "b"]
    same = compare(preview(pd.DataFrame({"a": [1]})), preview(pd.DataFrame({"a": [1]})))
    assert same["same"] is True


def test_two_tables_are_compared_in_all_their_columns() -> None:
    """Also where levels of an index and columns have one name."""
    index = pd.MultiIndex.from_product([["a"], ["b"]], names=["x", "x"])
    other = pd.MultiIndex.from_product([["a"], ["c"]], names=["x", "x"])
    told = compare(*(preview(pd.DataFrame({"x": [1]}, index=one)) for one in (index, other)))
    assert [(c["left"], c["right"]) for c in told["changes"]] == [("b", "c")]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (pa.table({"a": ["x" * 300 + "1"]}), pa.table({"a": ["x" * 300 + "2"]})),
        (pd.DataFrame({"a": [1], "o": [[1]]}), pd.DataFrame({"a": [1], "o": [[2]]})),
    ],
    ids=["a-long-text", "objects"],
)
def test_tables_that_differ_where_no_cell_shows_it_are_not_the_same(left: Any, right: Any) -> None:
    """Cells are cut, and objects are in none: then the bytes are compared."""
    assert compare(preview(left), preview(left))["same"] is True
    assert compare(preview(left), preview(right))["same"] is False


def test_two_binaries_differ_at_a_byte_and_other_kinds_in_kind() -> None:
    """The first byte that differs; a table is no tree."""
    told = compare(preview(b"a" * 3_000_000), preview(b"a" * 2_999_999 + b"b"))
    assert told["changes"][0]["where"] == "byte 2999999"
    assert compare(preview([1]), preview(b"1"))["same"] is False
    arrays = compare(preview(np.zeros(3)), preview(np.ones(3)))
    assert {"min", "max", "mean"} <= {change["where"] for change in arrays["changes"]}


def test_blocks_are_kept_within_their_bound() -> None:
    """What was used last stays; together they are never more than asked for."""
    cache = BlockCache(3 * BLOCK_BYTES)
    budget = Budget(max_bytes=1 << 20, seconds=60)
    payload = Payload(BytesSource(bytes(8 * BLOCK_BYTES)), "x", cache=cache, budget=budget)
    payload.read(0, 8 * BLOCK_BYTES)
    assert sum(cache.get("x", n) is not None for n in range(8)) == 3
    assert cache.get("x", 7) is not None


def test_a_pool_turns_away_who_waits_too_long() -> None:
    """One thread, busy: the next one is asked to try again, and gets in afterwards."""

    async def crowd() -> None:
        pool, end = PreviewPool(1, queue_seconds=0.01, seconds=60), threading.Event()
        first = asyncio.ensure_future(pool.run(end.wait))
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailableError, match="Too many previews"):
            await pool.run(lambda: "not done")
        end.set()
        assert await first
        assert await pool.run(lambda: "done") == "done"

    asyncio.run(crowd())


def test_a_preview_that_does_not_end_is_answered() -> None:
    """Whoever waits for it is told so in time; an error of a preview comes to whoever waits."""

    async def stalled() -> None:
        pool, end = PreviewPool(2, queue_seconds=60, seconds=0.01), threading.Event()
        with pytest.raises(StoreUnavailableError, match=r"within 0\.01 seconds"):
            await pool.run(end.wait)
        end.set()
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda: 1 // 0)

    asyncio.run(stalled())


@pytest.mark.parametrize("order", ["C", "F"])
def test_what_a_mask_hides_is_in_no_page_picture_or_statistic(order: Any) -> None:
    """Those of masked arrays, of which the values under the mask are stored too."""
    values = np.array([[1.0, 2, 3], [4, 5, 1e9]], order=order)
    array = preview(np.ma.MaskedArray(values, mask=values > 4, fill_value=7.0)).array()
    assert array.page(0, 9)["cells"] == [["1.0", "2.0", "3.0"], ["4.0", "--", "--"]]
    assert array.picture()["cells"] == [[1.0, 2.0, 3.0], [4.0, None, None]]
    summary = array.summary()
    assert (summary["max"], summary["count"], summary["sampled"], summary["not_finite"]) == ("4.0", 6, 6, 0)
