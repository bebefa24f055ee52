"""The page docs/faults.md, of what the cells came to."""

from __future__ import annotations

from collections.abc import Iterable

from .cells import BOUND_SECONDS, FAULTS, KINDS, OPERATIONS
from .run import Result

__all__ = ["page"]

_KIND_NAMES = {"s3": "S3 (SeaweedFS)", "gcs": "Google Cloud Storage (fake-gcs-server)", "azure": "Azure (Azurite)"}

_HEAD = f"""# Faults

What xcargo makes of a store that fails. `make faults` runs every cell against a real server behind a proxy and writes this page; a cell that is not as it must be is **red**, and fails the run.

A cell is the outcome of one operation, begun while the fault is in force, with `timeout_seconds` and `purge_timeout_seconds` of {BOUND_SECONDS:g}:

- `value`: it worked, and gave exactly what was pushed. For a purge: the object is gone.
- an [error](errors.md) of that class, within the time bound. Nothing is left behind: no object, no unfinished upload.
- `left, logged`: a purge that could not delete says so in the log and fails nobody.
- `+ orphan`: the store did what nobody could learn of. No row names that object; a sweep takes it, and a lifecycle rule an unfinished upload.

*once* is met by one request, *lasting* by all of them. A push in parts and a value read in part are larger than four and two parts.
"""


def page(results: Iterable[Result]) -> str:
    """The whole page."""
    found = {(r.cell.kind, r.cell.fault.name, r.cell.operation): r for r in results}
    red = sum(bool(r.wrong) for r in found.values())
    lines = [_HEAD, f"{len(found)} cells, {red} red.", ""]
    for kind in KINDS:
        lines += [f"## {_KIND_NAMES[kind]}", "", f"| Fault | {' | '.join(OPERATIONS)} |", "|---" * 7 + "|"]
        for fault in FAULTS:
            row = [_cell(found.get((kind, fault.name, operation))) for operation in OPERATIONS]
            lines.append(f"| {fault.name} | {' | '.join(row)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(result: Result | None) -> str:
    if result is None:
        return ""
    if result.wrong:
        return f"**red**: {result.wrong}"
    return f"`{result.outcome}`{' + orphan' if result.leftovers else ''}" if result.outcome != "value" else "value"
