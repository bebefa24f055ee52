"""Judging and summing up objects by whole columns, as an inventory has them: a hundred million in minutes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from xcargo.errors import SweepRefusedError
from xcargo.lifecycle.bookkeeping import BOOKKEEPING
from xcargo.lifecycle.inventory import Inventory
from xcargo.lifecycle.key_sets import KeysOnDisk
from xcargo.lifecycle.plan import Count, Judgement, SweepOptions, SweepPlan, Verdict
from xcargo.lifecycle.references import XComFilter
from xcargo.model.coordinate import RE2_DOTS, RE2_KEY, Coordinate, shown_id, spellings, text_of
from xcargo.stores.base import ObjectInfo

__all__ = ["judge_inventory", "options_as_of", "sum_inventory"]

_GROUPS = {
    "dag_id": ("dag", "assets"),
    "run_id": ("run",),
    "task_id": ("task", "state_task"),
    "map_index": ("index", "state_index"),
    "key": ("key", "state_key", "asset_key"),
}
"""Where the parts of a coordinate are in a key, of an XCom or of a state store."""

_MAX_AGE_DAYS = 30
"""Of what an older inventory lists, much is gone, and much that is there is not in it."""


def options_as_of(inventory: Inventory, now: datetime, options: SweepOptions) -> SweepOptions:
    """The options of a sweep by an inventory: nothing that is younger than it is deleted.

    Raises:
        SweepRefusedError: By the store's clock the inventory is of the future, or older than 30 days.
    """
    age = now - inventory.taken_at
    if not 0 <= age.total_seconds() <= _MAX_AGE_DAYS * 86400:
        raise SweepRefusedError(
            f"The inventory is of {inventory.taken_at:%Y-%m-%d %H:%M} UTC, and by the store's clock it is "
            f"{now:%Y-%m-%d %H:%M}",
            where=inventory.url,
            hint=f"Take one that is at most {_MAX_AGE_DAYS} days old.",
        )
    return replace(options, grace_seconds=max(options.grace_seconds, age.total_seconds()))


def judge_inventory(
    inventory: Inventory, plan: SweepPlan, live_keys: KeysOnDisk
) -> Iterator[tuple[ObjectInfo, Judgement]]:
    """Judge all objects. Gives those that need a look of their own; the others are live, and only counted.

    Reads the inventory twice: first its keys are merged with those that rows refer to, on disk.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    def batches() -> Iterator[Any]:
        for batch in inventory.batches(plan.options.prefixes):
            yield batch.filter(pc.invert(pc.starts_with(batch["key"], BOOKKEEPING)))

    live_bits = live_keys.find(batch["key"].to_pylist() for batch in batches())
    row = 0
    for batch in batches():
        is_live = pa.Array.from_buffers(pa.bool_(), len(batch), [None, pa.py_buffer(live_bits)], offset=row)
        row += len(batch)
        batch = batch.append_column("is_live", is_live)
        if plan.live.depends_on_key_alone:
            counted = pc.and_(batch["is_live"], _is_ours(batch["key"]))
            ours = batch.filter(counted)
            segments = pc.list_element(pc.split_pattern(ours["key"], "/", max_splits=1), 0)
            for (dag,), size_bytes, objects in _grouped({"dag": segments}, ours["size_bytes"]):
                plan.count(Judgement(Verdict.LIVE, shown_id(dag)), size_bytes, objects)
            batch = batch.filter(pc.invert(counted))
        for *fields, live in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            info = ObjectInfo(*fields)
            yield info, plan.judge(info, is_live=live)


def sum_inventory(
    inventory: Inventory, where: XComFilter, fields: Sequence[str]
) -> tuple[dict[tuple[str, ...], Count], Count]:
    """Objects and bytes by what their keys say, and those of all objects below the root that are not ours.

    Args:
        inventory: Where they are listed.
        where: Which to count.
        fields: Names of those of a coordinate to count by. An id that its key holds only in part is that part.
    """
    import pyarrow.compute as pc

    used = list(dict.fromkeys((*fields, *(name for name, value in vars(where).items() if value is not None))))
    sums: dict[tuple[str, ...], Count] = defaultdict(Count)
    others = Count()
    for batch in inventory.batches():
        is_ours = _is_ours(batch["key"])
        ours = batch.filter(is_ours)
        foreign = batch.filter(pc.invert(is_ours))
        others.add(pc.sum(foreign["size_bytes"]).as_py() or 0, len(foreign))
        ids = pc.extract_regex(ours["key"], RE2_KEY)
        columns = {
            # Of the groups that stand for one thing, all but one are empty.
            name: pc.binary_join_element_wise(*(pc.struct_field(ids, group) for group in _GROUPS[name]), "")
            for name in used
        }
        for segments, size_bytes, objects in _grouped(columns, ours["size_bytes"]):
            at = Coordinate("", "", "", "")
            for name, segment in zip(used, segments, strict=True):
                text, wanted = text_of(segment), getattr(where, name)
                if text is None:  # cut
                    text = wanted if isinstance(wanted, str) and segment in spellings(wanted) else segment
                setattr(at, name, text)
            at.map_index = int(at.map_index or -1)
            if where.matches(at):
                sums[tuple(getattr(at, name) for name in fields)].add(size_bytes, objects)
    return sums, others


def _grouped(columns: dict[str, Any], sizes: Any) -> Iterator[tuple[tuple[str, ...], int, int]]:
    """The distinct values of some columns, with bytes and number of the rows that have them."""
    import pyarrow as pa

    table = pa.table({**columns, "size_bytes": sizes}).group_by(list(columns))
    sums = table.aggregate([("size_bytes", "sum"), ("size_bytes", "count")])
    yield from zip(
        zip(*(sums[name].to_pylist() for name in columns), strict=True),
        sums["size_bytes_sum"].to_pylist(),
        sums["size_bytes_count"].to_pylist(),
        strict=True,
    )


def _is_ours(keys: Any) -> Any:
    """Whether xcargo would write an object under each of these keys."""
    import pyarrow.compute as pc

    return pc.and_not(pc.match_substring_regex(keys, RE2_KEY), pc.match_substring_regex(keys, RE2_DOTS))
