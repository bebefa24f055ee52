"""Two values side by side: what of their kinds and schemas differs, and the first places where the values do."""

from __future__ import annotations

from typing import Any

from xcargo.errors import XCargoError
from xcargo.explorer.table import Table
from xcargo.explorer.value import StoredValue
from xcargo.types import Json

__all__ = ["compare"]

_MAX_CHANGES = 200
_MAX_TREE_BYTES = 8 * 1024 * 1024
_MAX_LEVELS = 100
_MAX_ROWS = 20_000
_MAX_CELLS = 400_000
_MAX_BYTES = 64 * 1024 * 1024
_READ_BYTES = 1024 * 1024
_MAX_STATISTICS = 20
_MISSING = object()


def compare(left: StoredValue, right: StoredValue) -> dict[str, Any]:
    """What differs between two values.

    ``same`` is True or False when that is known of all of them, None when only a part was compared, and ``compared``
    says which. ``schema`` lists what differs in type, shape and columns, ``changes`` the first values that do.
    """
    comparison = _Comparison(left, right)
    comparison.schema_item("type", left.type, right.type)
    if left.kind != right.kind:
        comparison.schema_item("kind", left.kind, right.kind)
        comparison.compared = "their kinds"
        return comparison.result()
    try:
        if left.kind == "tree":
            comparison.trees()
        elif left.kind == "table":
            comparison.tables()
        elif left.kind == "array":
            comparison.arrays()
        elif left.kind != "opaque":
            comparison.bytes()
    except XCargoError as error:
        comparison.complete = False
        comparison.compared = f"not to the end: {error}"
    return comparison.result()


class _Comparison:
    """The differences that were found between two values of one kind."""

    def __init__(self, left: StoredValue, right: StoredValue) -> None:
        self._left, self._right = left, right
        self.schema: list[dict[str, Any]] = []
        self.changes: list[dict[str, Any]] = []
        self.compared = ""
        self.complete = False
        self._more: dict[str, Any] = {}

    def result(self) -> dict[str, Any]:
        same = not (self.schema or self.changes or self._more.get("rows_differing"))
        known = self.complete or not same
        return {
            "schema": self.schema,
            "changes": self.changes,
            "compared": self.compared,
            "same": same if known else None,
            **self._more,
        }

    def schema_item(self, what: str, left: Any, right: Any) -> None:
        if left != right:
            self.schema.append({"what": what, "left": _text(left), "right": _text(right)})

    def trees(self) -> None:
        trees = (self._left.tree, self._right.tree)
        if any(tree.size_bytes > _MAX_TREE_BYTES for tree in trees):
            self.compared = f"sizes only: a tree is compared up to {_MAX_TREE_BYTES} bytes"
            self._sizes()
            return
        left, right = (tree.to_json() for tree in trees)
        self.complete = self._nested("", left, right, 0)
        self.compared = "every value" if self.complete else f"until {_MAX_CHANGES} differences were found"
        if not (self.schema or self.changes):
            self.bytes()  # of what is inside as an array or table only the size is seen above

    def tables(self) -> None:
        tables = self._left.table(), self._right.table()
        left, right = map(_by_name, tables)
        for name in [*left, *(name for name in right if name not in left)]:
            self.schema_item(
                f"column {name}", *(side[name]["type"] if name in side else _MISSING for side in (left, right))
            )
        counts = [table.rows.count for table in tables]
        self.schema_item("rows", *counts)
        shared = [(name, left[name]["number"], right[name]["number"]) for name in left if name in right]
        self._more["statistics"] = [
            {"column": name, "left": _statistics(tables[0], one), "right": _statistics(tables[1], other)}
            for name, one, other in shared[:_MAX_STATISTICS]
        ]
        rows = min(*counts, _MAX_ROWS, _MAX_CELLS // max(1, len(shared)))
        most = max(10, _MAX_CHANGES // max(1, len(shared)))
        differing: set[int] = set()
        is_cut = False
        for name, one, other in shared:
            cells = list(zip(_cells(tables[0], one, rows), _cells(tables[1], other, rows), strict=False))
            changed = [(n, pair) for n, pair in enumerate(cells) if pair[0] != pair[1]]
            is_cut = is_cut or any(cell is not None and cell.endswith("…") for cell, _ in cells)
            differing.update(n for n, _ in changed)
            for n, pair in changed[:most]:
                self._change(f"row {n}, column {name}", *pair)
        self._more["rows_differing"] = len(differing)
        self.complete = rows == max(counts)
        self.compared = "every row" if self.complete else f"the first {rows:,} rows"
        more_than_cells = is_cut or self._left.codec == "pandas"  # objects, attributes
        if self.complete and more_than_cells and not (self.schema or differing):
            self.bytes()

    def arrays(self) -> None:
        left, right = self._left.array(), self._right.array()
        self.schema_item("shape", list(left.shape), list(right.shape))
        self.schema_item("dtype", str(left.dtype), str(right.dtype))
        summaries = left.summary(), right.summary()
        for what in ("min", "max", "mean", "std", "not_finite"):
            one, other = (summary.get(what) for summary in summaries)
            if one != other:
                self._change(what, one, other)
        self.compared = "shape, dtype and what their items sum up to"
        if not self.schema:
            self.bytes()

    def bytes(self) -> None:
        """The first byte that differs, as far as may be read."""
        self._sizes()
        left, right = self._left.payload, self._right.payload
        size = min(left.size_bytes, right.size_bytes)
        compared = min(size, _MAX_BYTES)
        for start in range(0, compared, _READ_BYTES):
            end = min(start + _READ_BYTES, compared)
            one, other = bytes(left.read(start, end)), bytes(right.read(start, end))
            if one != other:
                n = next(n for n, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
                self._change(f"byte {start + n}", one[n : n + 16].hex(" "), other[n : n + 16].hex(" "))
                self.compared = "to the first byte that differs"
                return
        self.complete = compared == size
        self.compared = "every byte" if self.complete else f"the first {compared:,} bytes"

    def _sizes(self) -> None:
        self.schema_item("size in bytes", self._left.payload.size_bytes, self._right.payload.size_bytes)

    def _nested(self, path: str, left: Json | object, right: Json | object, level: int) -> bool:
        """Note what differs. Returns whether there was room for all of it."""
        if level < _MAX_LEVELS and isinstance(left, dict) and isinstance(right, dict):
            keys = [*left, *(key for key in right if key not in left)]
            steps = ((f"{path}[{key!r}]", left.get(key, _MISSING), right.get(key, _MISSING)) for key in keys)
            return all(self._nested(*step, level + 1) for step in steps)
        if level < _MAX_LEVELS and isinstance(left, list) and isinstance(right, list):
            pad = [_MISSING] * abs(len(left) - len(right))
            longer = max(len(left), len(right))
            pairs = zip([*left, *pad][:longer], [*right, *pad][:longer], strict=True)
            return all(self._nested(f"{path}[{n}]", *pair, level + 1) for n, pair in enumerate(pairs))
        if type(left) is type(right) and left == right:
            return True
        self._change(path or "the value", left, right)
        return len(self.changes) < _MAX_CHANGES

    def _change(self, where: str, left: Any, right: Any) -> None:
        self.changes.append({"where": where, "left": _text(left), "right": _text(right)})


def _statistics(table: Table, number: int) -> dict[str, Any]:
    spread = table.distribution(number)
    return {key: spread.get(key) for key in ("min", "max", "mean", "missing", "distinct", "bins", "sampled")}


def _by_name(table: Table) -> dict[str, dict[str, Any]]:
    """The columns by their names; of several of one name the later ones with their number."""
    columns: dict[str, dict[str, Any]] = {}
    for column in table.columns:
        name = column["name"]
        columns[f"{name} ({column['number']})" if name in columns else name] = column
    return columns


def _cells(table: Table, number: int, rows: int) -> list[Any]:
    cells: list[Any] = []
    while len(cells) < rows:
        page = table.page(len(cells), rows - len(cells), [number])["cells"][0]
        if not page:
            break
        cells += page
    return cells


def _text(value: Any) -> str | None:
    if value is _MISSING:
        return None
    if isinstance(value, dict):
        return f"{{…}} {len(value)} keys"
    if isinstance(value, list):
        return f"[…] {len(value)} items"
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 200 else text[:200] + "…"
