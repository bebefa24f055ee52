"""The codec over real values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from geopandas.testing import assert_geodataframe_equal, assert_geoseries_equal
from shapely import LineString, Point, Polygon, from_wkt
from xcargo_codec_geopandas import GeoPandasCodec

from xcargo.codecs import Codec, Registry
from xcargo.codecs.base import contiguous
from xcargo.errors import DecodeError
from xcargo.testing import CodecTests

POINTS = [Point(1, 2), None, Point(3, 4, 5)]
SHAPES = [Polygon([(0, 0), (1, 0), (1, 1)]), LineString([(0, 0), (1, 1)]), from_wkt("MULTIPOINT EMPTY")]


def two_geometries() -> gpd.GeoDataFrame:
    frame = gpd.GeoDataFrame({"n": [1, 2, 3], "here": POINTS}, geometry="here", crs="EPSG:4326")
    frame["there"] = gpd.GeoSeries(SHAPES, crs="EPSG:3857")
    frame.attrs = {"source": ("survey", 1)}
    return frame


def table() -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(
        {"s": ["a", None, "c"], "t": pd.date_range("2026-01-01", periods=3, tz="UTC")},
        geometry=SHAPES,
        index=pd.Index(["x", "y", "z"], name="key"),
        crs="EPSG:4326",
    )


class TestGeoPandas(CodecTests):
    """xcargo's own suite."""

    VALUES: Sequence[Any] = (
        table(),
        two_geometries(),
        table().iloc[:0],
        gpd.GeoDataFrame({"n": [1]}),
        gpd.GeoSeries(POINTS, name="p", crs="EPSG:4326"),
        gpd.GeoSeries([Point(0.1, -1e300), Point(float("inf"), 0)]),
        gpd.GeoSeries([]),
    )

    @pytest.fixture
    def codec(self) -> Codec:
        return GeoPandasCodec()

    def equal(self, left: Any, right: Any) -> bool:
        check = assert_geoseries_equal if isinstance(right, gpd.GeoSeries) else assert_geodataframe_equal
        check(left, right)
        if isinstance(right, gpd.GeoDataFrame):
            assert left.active_geometry_name == right.active_geometry_name
            for n, kind in enumerate(right.dtypes):
                if str(kind) == "geometry":
                    assert left.iloc[:, n].crs == right.iloc[:, n].crs
        elif len(right):
            assert [None if a is None else a.wkb for a in left] == [None if a is None else a.wkb for a in right]
        assert left.attrs == right.attrs
        return type(left) is type(right)


def test_xcargo_finds_it_by_its_entry_point_at_any_depth() -> None:
    """Once the package is installed there is nothing to configure."""
    encoded = Registry().encode({"areas": [table()]})
    back = Registry().decode(encoded.codec, bytes(contiguous(encoded)), dict(encoded.params))
    assert_geodataframe_equal(back["areas"][0], table())


def test_the_row_names_its_columns() -> None:
    """The XCom tab shows what the frame is."""
    params = json.loads(json.dumps(dict(GeoPandasCodec().encode(table()).params)))
    assert params["type"] == "geopandas.GeoDataFrame"
    assert list(params["columns"]) == ["s", "t", "geometry"]


@pytest.mark.parametrize("forged", [{"crs": ["nonsense"]}, {"geometries": [99]}, {"geometries": [0]}, {"active": 99}])
def test_a_forged_description_is_a_decode_error(forged: dict[str, Any]) -> None:
    """Nothing of shapely's or pyproj's own."""
    encoded = GeoPandasCodec().encode(table())
    with pytest.raises(DecodeError):
        GeoPandasCodec().decode(bytes(contiguous(encoded)), {**encoded.params, **forged})


def test_a_thousand_geometries_keep_their_coordinates_to_the_bit() -> None:
    """WKB is binary."""
    xy = np.random.default_rng(0).normal(size=(1000, 2))
    series = gpd.GeoSeries(gpd.points_from_xy(xy[:, 0], xy[:, 1]))
    encoded = GeoPandasCodec().encode(series)
    back = GeoPandasCodec().decode(bytes(contiguous(encoded)), encoded.params)
    assert np.array_equal(np.column_stack([back.x, back.y]), xy)
