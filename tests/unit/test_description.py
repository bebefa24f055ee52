"""What a row tells of the value that it stands for."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.conftest import HERE, make_pipeline
from xcargo.codecs.value_path import column_types
from xcargo.transfer.description import biggest_parts, preview, type_name
from xcargo.transfer.reporting import format_stored


class Evil:
    """Counts on being shown."""

    def __repr__(self) -> str:
        raise RuntimeError("ran")

    __str__ = __repr__

    def __hash__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            pd.DataFrame({"a": [1, 2], "f": [1.5, 2]}),
            "<pandas.DataFrame of shape (2, 2), columns a int64, f float64; rows (1, 1.5), (2, 2.0)>",
        ),
        (
            pl.DataFrame({"a": [1], "s": ["x"]}),
            "<polars.DataFrame of shape (1, 2), columns a Int64, s String; rows (1, 'x')>",
        ),
        (
            pa.table({"a": [1], "l": [[1]]}),
            "<pyarrow.Table of shape (1, 2), columns a int64, l list<item: int64>; rows (1, …)>",
        ),
        (pd.Series([1, 2]), "<pandas.Series of shape (2,), int64: 1, 2>"),
        (pl.Series("s", [1.5]), "<polars.Series of shape (1,), Float64: 1.5>"),
        (pa.array([1, None]), "<pyarrow.Int64Array, int64: 1, None>"),
        (np.arange(12).reshape(3, 4), "<numpy.ndarray of shape (3, 4), int64: 0, 1, 2, 3, 4>"),
        (np.float32(1.5), "<numpy.float32 of shape (), float32: 1.5>"),
        (pd.Timestamp("2026-01-01"), "<pandas.Timestamp 2026-01-01 00:00:00>"),
        (10**5000, "<int of 16610 bits>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_tables_and_arrays_show_their_schema_and_first_values(value: Any, text: str) -> None:
    """Columns with types, then the first rows or items."""
    assert preview(value, 200) == text


@pytest.mark.parametrize("chars", [1, 10, 160])
def test_no_preview_is_longer_than_allowed(chars: int) -> None:
    """Whatever is in the value."""
    for value in (
        pd.DataFrame({f"column {n}": ["x" * 1000] for n in range(500)}),
        pa.array(["x" * 10**6]),
        "x" * 10**6,
    ):
        assert len(preview(value, chars) or "") <= chars


SECRETS = ("hunter2\n" * 20, "correct-horse-" * 8, "swordfish")


@pytest.mark.parametrize(
    "value",
    [
        SECRETS[0],
        {"a": [SECRETS[0]], SECRETS[1]: 1},
        ["x" * 50 + SECRETS[1], "swordfish"],
        PurePosixPath("/run", SECRETS[1]),
        pd.DataFrame({SECRETS[1]: [SECRETS[0]]}),
        pl.DataFrame({"a": SECRETS[:2]}),
        pa.table({"a": SECRETS}),
        np.array(SECRETS),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_secret_is_masked_before_it_is_cut_or_escaped(value: Any) -> None:
    """Half of one would not be recognised any more, nor one whose line breaks are written as such."""

    def mask(text: str) -> str:
        for secret in SECRETS:
            text = text.replace(secret, "***")
        return text

    for chars in range(1, 200):
        shown = preview(value, chars, mask) or ""
        assert len(shown) <= chars
        assert not any(part in shown for part in ("hunt", "corr", "swor"))
    assert "***" in shown
    assert "corr" not in biggest_parts({SECRETS[1]: "x" * 100, "b": "x" * 100}, mask)


class Shy:
    @property
    def shape(self) -> Any:
        raise RuntimeError


def test_a_value_that_cannot_be_shown_has_no_preview() -> None:
    """It is stored all the same."""
    assert preview([Shy()], 100) is None


def test_a_class_whose_names_are_no_text_is_named_all_the_same() -> None:
    """In a row that can be written as UTF-8."""
    nameless = type("Nameless", (), {"__module__": None})
    nameless.__qualname__ = "\ud800"
    assert type_name(nameless()) == "None.\\ud800"


def test_no_code_of_a_users_class_runs() -> None:
    """Neither for a label, nor for a cell, nor for an item."""
    for value in (
        pd.DataFrame([[1]], columns=[Evil()]),
        pd.DataFrame({"o": pd.Series([Evil()], dtype=object)}),
        np.array([Evil()], dtype=object),
        pd.Series([1], name=Evil()),
    ):
        assert "ran" not in (preview(value, 500) or "")
    assert column_types([(Evil(), "int64"), ("\ud800\0", "int64"), ("x" * 1000, "y" * 1000)]) == {
        "<Evil>": "int64",
        "\\ud800\\x00": "int64",
        "x" * 63 + "…": "y" * 63 + "…",
    }


def test_a_value_without_end_costs_no_more_than_a_small_one() -> None:
    """Only the beginning is looked at: these could not be walked through."""
    assert "of shape (1000000, 1000000), int8: 1, 1" in (
        preview(np.broadcast_to(np.int8(1), (10**6, 10**6)), 160) or ""
    )
    assert "int64: 0, 1" in (preview(pd.RangeIndex(10**15), 160) or "")
    assert "shape (1000000000000, 0)" in (preview(pd.DataFrame(index=pd.RangeIndex(10**12)), 160) or "")


def test_names_of_columns_are_masked_and_left_out_with_the_preview() -> None:
    """A pivoted table has data for labels."""
    frame = pl.DataFrame({"me@example.org": [1]})
    pipeline = make_pipeline(mask=lambda text: text.replace("me@example.org", "***"))
    masked: Any = pipeline.push(frame, HERE)
    assert "example.org" not in str(masked)
    assert "***" in str(masked["params"])
    assert "example.org" not in str(make_pipeline(preview_chars=0).push(frame, HERE))


@given(st.recursive(st.text() | st.binary(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_a_preview_holds_no_character_that_changes_how_it_is_shown(value: Any) -> None:
    """No control, no escape sequence, no mark that turns the direction of text, whatever the value holds."""
    assert (preview(value, 200) or "").isprintable()


@pytest.mark.parametrize("hostile", ["\x1b[31mred", "line\nline", "\u202egnp.exe", "\x00", "\u2028", "\x9b31m"])
def test_neither_do_names_of_columns(hostile: str) -> None:
    """Labels, dtypes that name fields, and what the row tells of columns."""
    nested = {hostile: [{hostile: 1}]}
    for frame in (pd.DataFrame({hostile: [hostile]}), pl.DataFrame(nested), pa.table(nested)):
        row: Any = make_pipeline(threshold_bytes=0).push(frame, HERE)
        shown = [row["preview"], row["type"], *row["params"]["columns"], *row["params"]["columns"].values()]
        assert all(text.isprintable() for text in shown), shown


def test_markup_stays_text() -> None:
    """The preview is shown as text by Airflow; nothing here takes that from it."""
    assert preview("<script>alert(1)</script>", 160) == "'<script>alert(1)</script>'"


def test_a_log_line_names_the_ratio_only_where_compression_helped() -> None:
    """Not "1.0 times smaller"."""
    assert format_stored(10_793, 198) == "10793 bytes as 198 (54.5 times smaller)"
    assert format_stored(1000, 990) == "1000 bytes"
