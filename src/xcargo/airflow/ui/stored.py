"""Answers about what is stored: of a run, a Dag, or all Dags that a user may read. From the rows alone."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from xcargo.airflow.ui import state, xcoms
from xcargo.airflow.ui.xcoms import XComRow, can_read_xcoms, current_user, in_preview_pool, well_formed
from xcargo.errors import XCargoError

__all__ = ["router", "sum_sweep", "summarize"]

router = APIRouter(prefix="/api")

_MAX_ROWS = 20_000
_SHOWN = 20
_SHOWN_GROUPS, _SHOWN_DAYS, _SHOWN_RUNS = 100, 90, 50

PRICES = {"s3": 0.023, "gs": 0.020, "az": 0.018}
"""US dollars for a gibibyte and month of the clouds' standard storage, by scheme; list prices, to estimate with."""


@router.get("/dags/{dag_id}/stored", dependencies=[Depends(can_read_xcoms), Depends(well_formed)])
@in_preview_pool
def of_dag(dag_id: str, run_id: str | None = None) -> dict[str, Any]:
    """What a Dag, or one run of it, has stored."""
    return _summary([dag_id], "task_id", run_id=run_id)


@router.get("/stored")
@in_preview_pool
def of_all(user: Annotated[Any, Depends(current_user)]) -> dict[str, Any]:
    """What all Dags have stored whose XComs the user may read."""
    dag_ids = xcoms.readable_dags(user)
    reports = xcoms.sweep_reports(dag_ids) if dag_ids else []
    return _summary(dag_ids, "dag_id") | {"sweep": sum_sweep(reports)}


def _summary(dag_ids: Sequence[str], by: str, *, run_id: str | None = None) -> dict[str, Any]:
    if not dag_ids:
        return summarize((), by)
    lists = (xcoms.list_envelopes, state.list_envelopes)
    summary = summarize(chain.from_iterable(rows(dag_ids, run_id, _MAX_ROWS) for rows in lists), by)
    return summary | {"truncated": summary["truncated"] or xcoms.has_more_rows(dag_ids, run_id)}


@dataclass
class _Sum:
    count: int = 0
    size_bytes: int = 0
    stored_bytes: int = 0

    def add(self, size: int, stored: int) -> None:
        self.count += 1
        self.size_bytes += size
        self.stored_bytes += stored


def summarize(rows: Iterable[XComRow], by: str) -> dict[str, Any]:
    """The sums of envelopes by ``dag_id`` or ``task_id``, type, day and run, and the largest of them."""
    total = _Sum()
    groups, types, days, schemes = (defaultdict[str, _Sum](_Sum) for _ in range(4))
    runs: dict[tuple[str, str], tuple[str | None, _Sum]] = {}
    stored_rows: list[tuple[int, int, XComRow]] = []
    seen = 0
    for row in rows:
        seen += 1
        if "uri" not in row.value:
            continue
        stored_at = row.stored_at.isoformat() if row.stored_at else None
        size, stored = (_count(row.value.get(name)) for name in ("size_bytes", "stored_bytes"))
        run = runs.setdefault((row.id.dag_id, row.id.run_id), (stored_at, _Sum()))[1]
        scheme = str(row.value["uri"]).partition("://")[0]
        kind, day = str(row.value.get("type"))[:100], (stored_at or "?")[:10]
        for sums in (total, groups[getattr(row.id, by)], types[kind], days[day], schemes[scheme], run):
            sums.add(size, stored)
        if row.id.is_state:  # whoever may see these numbers may not always see the value
            continue
        item = (stored, -total.count, row)
        (heapq.heappush if len(stored_rows) < _SHOWN else heapq.heappushpop)(stored_rows, item)
    return {
        **vars(total),
        "truncated": seen >= _MAX_ROWS,
        "by": by,
        "groups": _largest(groups, _SHOWN_GROUPS),
        "types": _largest(types, _SHOWN),
        "days": [{"day": day, **vars(sums)} for day, sums in sorted(days.items())][-_SHOWN_DAYS:],
        "runs": [
            {"dag_id": dag_id, "run_id": run_id, "at": at, **vars(sums)}
            for (dag_id, run_id), (at, sums) in list(runs.items())[:_SHOWN_RUNS]
        ],
        "largest": [xcoms.summary(row) for _, _, row in sorted(stored_rows, reverse=True)],
        "cost": _cost(schemes),
    }


def sum_sweep(rows: list[XComRow]) -> dict[str, Any] | None:
    """What the last sweep found, all its roots and parts together; None if none has run, or its result is gone."""
    reports: list[dict[str, Any]] = []
    for row in rows:
        try:
            value = xcoms.open_value(row, xcoms.budget()).tree.to_json()
        except XCargoError:
            continue
        reports += [report for report in value if isinstance(report, dict)] if isinstance(value, list) else []
    if not reports:
        return None
    objects, entries = (_sum_verdicts(report.get(name) for report in reports) for name in ("objects", "entries"))
    return {
        "at": max(str(report.get("started_at", "")) for report in reports),
        "applied": any(report.get("applied") is True for report in reports),
        "roots": sorted({str(report.get("root", ""))[:300] for report in reports}),
        "missing": sum(_count(report.get("missing")) for report in reports),
        "objects": objects,
        "entries": entries,
    }


def _sum_verdicts(all_counts: Iterable[Any]) -> dict[str, dict[str, int]]:
    sums: dict[str, dict[str, int]] = defaultdict(lambda: {"objects": 0, "size_bytes": 0})
    for counts in all_counts:
        for verdict, count in counts.items() if isinstance(counts, dict) else ():
            for name in ("objects", "size_bytes"):
                sums[str(verdict)[:40]][name] += _count(count.get(name)) if isinstance(count, dict) else 0
    return sums


def _largest(sums: dict[str, _Sum], most: int) -> list[dict[str, Any]]:
    ordered = sorted(sums.items(), key=lambda item: -item[1].stored_bytes)
    return [{"name": name, **vars(one)} for name, one in ordered[:most]]


def _cost(schemes: dict[str, _Sum]) -> dict[str, Any]:
    """Dollars a month by list prices; of schemes that have none, nothing."""
    known = {scheme: sums.stored_bytes for scheme, sums in schemes.items() if scheme in PRICES}
    dollars = sum(size / 1024**3 * PRICES[scheme] for scheme, size in known.items())
    return {"dollars_a_month": dollars if known else None, "prices": {scheme: PRICES[scheme] for scheme in known}}


def _count(value: Any) -> int:
    return value if type(value) is int and value >= 0 else 0
