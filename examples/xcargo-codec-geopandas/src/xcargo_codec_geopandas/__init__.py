"""GeoDataFrames and GeoSeries for xcargo: geometries as WKB in Arrow, the rest by xcargo's own codec for pandas."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from xcargo.codecs import Buffer, Encoded, Registry
from xcargo.errors import DecodeError, MissingDependencyError, UnsupportedTypeError, XCargoError

__all__ = ["GeoPandasCodec"]


class GeoPandasCodec:
    """``geopandas.GeoDataFrame`` and ``GeoSeries``: geometries, coordinate systems, and all that pandas holds."""

    id = "geopandas"

    def __init__(self) -> None:
        self._pandas = Registry(entry_points=False).codec("pandas")

    def accepts(self, value: object) -> bool:
        geopandas = sys.modules.get("geopandas")  # cheap: whoever has such a value has imported the library
        return geopandas is not None and type(value) in (geopandas.GeoDataFrame, geopandas.GeoSeries)

    def encode(self, value: Any) -> Encoded:
        import geopandas
        import pandas as pd

        single = type(value) is geopandas.GeoSeries
        geometries = [0] if single else [n for n, kind in enumerate(value.dtypes) if str(kind) == "geometry"]
        columns = [value if single else value.iloc[:, n] for n in geometries]
        if single:
            table: Any = pd.Series(_to_wkb(value), index=value.index, name=value.name)
        else:
            table = pd.DataFrame(
                {
                    n: value.iloc[:, n] if n not in geometries else _to_wkb(value.iloc[:, n])
                    for n in range(value.shape[1])
                },
                index=value.index,
            )
            table.columns = value.columns
        table.attrs = value.attrs
        encoded = self._pandas.encode(table)
        active = None if single else value.active_geometry_name
        labels = [] if single else list(value.columns)
        if active is not None and labels.count(active) != 1:
            raise UnsupportedTypeError(
                "The active geometry is not one column of the frame", hint="Call set_geometry(...) before returning it."
            )
        params = {
            **encoded.params,
            "type": "geopandas.GeoSeries" if single else "geopandas.GeoDataFrame",
            "pandas": encoded.params["type"],
            "geometries": geometries,
            "crs": [None if column.crs is None else column.crs.to_json() for column in columns],
            "active": None if active is None else labels.index(active),
        }
        return Encoded(self.id, encoded.parts, params, encoded.suffix)

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> Any:
        try:
            import geopandas
        except ImportError as error:
            raise MissingDependencyError(
                "The value is a table of geopandas, which is not installed here", hint="Run: pip install geopandas"
            ) from error
        table = self._pandas.decode(payload, {"type": params.get("pandas")})
        try:
            if params.get("type") == "geopandas.GeoSeries":
                value = _from_wkb(table, params["crs"][0])
            else:
                for n, crs in zip(params["geometries"], params["crs"], strict=True):
                    table.isetitem(n, _from_wkb(table.iloc[:, n], crs))
                value = geopandas.GeoDataFrame(table)
                if params["active"] is not None:
                    value = value.set_geometry(value.columns[params["active"]])
            value.attrs = table.attrs
            return value
        except XCargoError:
            raise
        except Exception as error:  # shapely, pyproj and pandas raise errors of every kind for forged input
            raise DecodeError(f"The object does not hold geometries: {type(error).__name__}: {error}") from error


def _to_wkb(column: Any) -> Any:
    """Geometries of any dimension as binary Arrow; a missing one is null."""
    import pandas as pd
    import pyarrow as pa
    import shapely

    wkb = shapely.to_wkb(column.array.to_numpy(), output_dimension=4 if shapely.geos_version >= (3, 12) else 3)
    return pd.arrays.ArrowExtensionArray(pa.chunked_array([pa.array(wkb, pa.large_binary())]))


def _from_wkb(column: Any, crs: str | None) -> Any:
    import geopandas
    import pyproj
    import shapely

    geometries = shapely.from_wkb(column.to_numpy(dtype=object, na_value=None))
    system = None if crs is None else pyproj.CRS.from_json_dict(json.loads(crs))
    return geopandas.GeoSeries(geometries, index=column.index, name=column.name, crs=system)
