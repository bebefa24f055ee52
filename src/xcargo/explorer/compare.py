"""Two values side by side: what of their kinds and schemas differs, and the first places where the values do."""

from __future__ import annotations

from typing import Any

from xcargo.codecs.source import read_all
from xcargo.errors import XCargoError
from xcargo.explorer.plain import plain
from xcargo.explorer.table import Table
from xcargo.explorer.value import Value

__all__ = ["compare"]

_MOST_CHANGES = 200
_MOST_TREE_BYTES = 8 * 1024 * 1024
_ROWS = 20_000
_CELLS = 400_000
_SEARCHED_BYTES = 64 * 1024 * 1024
_MISSING = object()


def compare(left: Value, right: Value) -> dict[str, Any]:
    """What differs between two values.

    ``same`` is True or False when that is known of all of them, None when only a part was compared. ``schema`` lists
    what differs in type, shape and columns, ``changes`` the first values that do.
    """
    told: dict[str, Any] = {"schema": [], "changes": [], "compared": "", "same": None}
    _schema(told, "type", left.type, right.type)
    if left.kind != right.kind:
        return told | {"same": False, "compared": "their kinds"}
    try:
        if left.kind == "tree":
            _trees(told, left, right)
        elif left.kind == "table":
            _tables(told, left, right)
        elif left.kind == "array":
            _arrays(told, left, right)
        elif left.kind != "opaque":
            _bytes(told, left, right)
    except XCargoError as error:
        told["compared"] = f"not to the end: {error}"
    if told["schema"] or told["changes"]:
        told["same"] = False
    return told


def _schema(told: dict[str, Any], what: str, left: Any, right: Any) -> None:
    if left != right:
        told["schema"].append({"what": what, "left": _text(left), "right": _text(right)})


def _change(told: dict[str, Any], where: str, left: Any, right: Any) -> bool:
    """Note one difference. Returns whether there is room for more."""
    told["changes"].append({"where": where, "left": _text(left), "right": _text(right)})
    return len(told["changes"]) < _MOST_CHANGES


def _text(value: Any) -> str | None:
    if value is _MISSING:
        return None
    if isinstance(value, dict):
        return f"{{…}} {len(value)} keys"
    if isinstance(value, list):
        return f"[…] {len(value)} items"
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 200 else text[:200] + "…"


def _trees(told: dict[str, Any], left: Value, right: Value) -> None:
    values = []
    for value in (left, right):
        _, packed, root = value.tree
        if packed.source.size_bytes > _MOST_TREE_BYTES:
            told["compared"] = f"sizes only: a tree is compared up to {_MOST_TREE_BYTES} bytes"
            _schema(told, "size in bytes", left.source.size_bytes, right.source.size_bytes)
            return
        values.append(plain(bytes(read_all(packed.source))[root:]))
    told["compared"] = "every value"
    complete = _nested(told, "", values[0], values[1], 0)
    if complete:
        told["same"] = not told["changes"] and not told["schema"]
    else:
        told["compared"] = f"until {_MOST_CHANGES} differences were found"


def _nested(told: dict[str, Any], where: str, left: Any, right: Any, level: int) -> bool:
    if type(left) is dict and type(right) is dict and level < 100:
        for key in [*left, *(key for key in right if key not in left)]:
            step = f"{where}[{key!r}]"
            if not _nested(told, step, left.get(key, _MISSING), right.get(key, _MISSING), level + 1):
                return False
        return True
    if type(left) is list and type(right) is list and level < 100:
        for n in range(max(len(left), len(right))):
            one, other = (values[n] if n < len(values) else _MISSING for values in (left, right))
            if not _nested(told, f"{where}[{n}]", one, other, level + 1):
                return False
        return True
    return (type(left) is type(right) and left == right) or _change(told, where or "the value", left, right)


def _tables(told: dict[str, Any], left: Value, right: Value) -> None:
    tables = left.table(), right.table()
    columns = [{c["name"]: c for c in table.columns} for table in tables]
    for name in [*columns[0], *(name for name in columns[1] if name not in columns[0])]:
        kinds = [side[name]["type"] if name in side else _MISSING for side in columns]
        if kinds[0] != kinds[1]:
            _schema(told, f"column {name}", *kinds)
    counts = [table.rows.count for table in tables]
    _schema(told, "rows", *counts)
    shared = [name for name in columns[0] if name in columns[1]]
    told["statistics"] = [_statistics(name, tables, columns) for name in shared[:20]]
    rows = min(*counts, _ROWS, _CELLS // max(1, len(shared)))
    differing: set[int] = set()
    most = max(10, _MOST_CHANGES // max(1, len(shared)))
    for name in shared:
        pages = [
            table.page(0, 0, [])["rows"] and _cells(table, side[name]["number"], rows)
            for table, side in zip(tables, columns, strict=True)
        ]
        left_over = most
        for n, (one, other) in enumerate(zip(pages[0] or [], pages[1] or [], strict=False)):
            if one != other:
                differing.add(n)
                left_over -= 1
                if left_over >= 0:
                    _change(told, f"row {n}, column {name}", one, other)
    told["rows_differing"] = len(differing)
    told["compared"] = "every row" if rows == max(counts) else f"the first {rows:,} rows"
    if rows == max(counts):
        told["same"] = not differing and not told["schema"]


def _statistics(name: str, tables: tuple[Table, Table], columns: list[dict[str, Any]]) -> dict[str, Any]:
    told: dict[str, Any] = {"column": name}
    for side, table, named in zip(("left", "right"), tables, columns, strict=True):
        spread = table.distribution(named[name]["number"])
        told[side] = {key: spread.get(key) for key in ("min", "max", "mean", "missing", "distinct", "bins", "sampled")}
    return told


def _cells(table: Table, number: int, rows: int) -> list[Any]:
    cells: list[Any] = []
    while len(cells) < rows:
        more = table.page(len(cells), rows - len(cells), [number])["cells"][0]
        if not more:
            break
        cells += more
    return cells


def _arrays(told: dict[str, Any], left: Value, right: Value) -> None:
    arrays = left.array(), right.array()
    _schema(told, "shape", list(arrays[0].shape), list(arrays[1].shape))
    _schema(told, "dtype", str(arrays[0].dtype), str(arrays[1].dtype))
    summaries = [array.summary() for array in arrays]
    for what in ("min", "max", "mean", "std", "not_finite"):
        one, other = (summary.get(what) for summary in summaries)
        if one != other:
            _change(told, what, one, other)
    told["compared"] = "shape, dtype and what their items sum up to"
    if not told["schema"]:
        _bytes(told, left, right)


def _bytes(told: dict[str, Any], left: Value, right: Value) -> None:
    """The first byte that differs, as far as may be read."""
    _schema(told, "size in bytes", left.source.size_bytes, right.source.size_bytes)
    size = min(left.source.size_bytes, right.source.size_bytes)
    searched = min(size, _SEARCHED_BYTES)
    for start in range(0, searched, 1024 * 1024):
        end = min(start + 1024 * 1024, searched)
        one, other = bytes(left.source.read(start, end)), bytes(right.source.read(start, end))
        if one != other:
            first = next(n for n, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
            _change(told, f"byte {start + first}", one[first : first + 16].hex(" "), other[first : first + 16].hex(" "))
            told["compared"] = "to the first byte that differs"
            return
    told["compared"] = "every byte" if searched == size else f"the first {searched:,} bytes"
    if searched == size:
        told["same"] = not told["schema"] and not told["changes"]
