"""Answers about what is stored: of a run, a Dag, or all Dags that a user may read. From the rows alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Annotated, Any

from airflow.utils.session import create_session
from fastapi import APIRouter, Depends

from xcargo.airflow.ui import look, rows
from xcargo.airflow.ui.guard import allowed, current_user, readable_dags, well_formed
from xcargo.airflow.ui.look import told
from xcargo.airflow.ui.rows import Found
from xcargo.codecs.source import read_all
from xcargo.errors import XCargoError
from xcargo.explorer.plain import plain

__all__ = ["router"]

router = APIRouter(prefix="/api")

_MOST_ROWS = 20_000
_SHOWN = 20

PRICES = {"s3": 0.023, "gs": 0.020, "az": 0.018}
"""US dollars for a gibibyte and month of the clouds' standard storage, by scheme; list prices, to estimate with."""


@router.get("/dags/{dag_id}/stored", dependencies=[Depends(allowed), Depends(well_formed)])
@look.looking
def of_dag(dag_id: str, run_id: str | None = None) -> dict[str, Any]:
    """What a Dag, or one run of it, has stored."""
    with create_session() as session:
        return _summed(rows.envelopes(session, [dag_id], run_id, _MOST_ROWS), "task_id")


@router.get("/stored")
@look.looking
def of_all(user: Annotated[Any, Depends(current_user)]) -> dict[str, Any]:
    """What all Dags have stored whose XComs the user may read."""
    dag_ids = readable_dags(user)
    with create_session() as session:
        summed = _summed(rows.envelopes(session, dag_ids, None, _MOST_ROWS) if dag_ids else (), "dag_id")
        swept = rows.sweep_reports(session, dag_ids) if dag_ids else []
    return summed | {"sweep": _sweep(swept)}


def _sweep(found: list[Found]) -> dict[str, Any] | None:
    """What the last sweep found, all its roots and parts together; None if none has run, or its result is gone."""
    reports: list[dict[str, Any]] = []
    for one in found:
        try:
            tree, packed, root = look.opened(one, look.budget()).tree
            tree.node(root)
            value = plain(bytes(read_all(packed.source))[root:])
        except XCargoError:
            continue
        reports += [report for report in value if isinstance(report, dict)] if isinstance(value, list) else []
    if not reports:
        return None
    told: dict[str, Any] = {"at": max(str(report.get("started_at", "")) for report in reports), "objects": {}}
    told["applied"] = any(report.get("applied") is True for report in reports)
    told["roots"] = sorted({str(report.get("root", ""))[:300] for report in reports})
    told["missing"] = sum(_number(report.get("missing")) for report in reports)
    for report in reports:
        objects = report.get("objects")
        for verdict, count in objects.items() if isinstance(objects, dict) else ():
            sums = told["objects"].setdefault(str(verdict)[:40], {"objects": 0, "size_bytes": 0})
            for name in sums:
                sums[name] += _number(count.get(name)) if isinstance(count, dict) else 0
    return told


def _summed(found: Iterable[Found], by: str) -> dict[str, Any]:
    groups: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    runs: dict[str, list[Any]] = {}
    days: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    types: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    schemes: dict[str, int] = defaultdict(int)
    largest: list[tuple[int, Found]] = []
    total = [0, 0, 0]
    for one in found:
        size, stored = (_number(one.value.get(name)) for name in ("size_bytes", "stored_bytes"))
        if "uri" not in one.value:
            continue
        for sums in (groups[getattr(one.place, by)], total):
            for n, more in enumerate((1, size, stored)):
                sums[n] += more
        day = one.stored_at.date().isoformat() if one.stored_at else "?"
        days[day] = [days[day][0] + 1, days[day][1] + stored]
        kind = str(one.value.get("type"))[:100]
        types[kind] = [types[kind][0] + 1, types[kind][1] + stored]
        schemes[str(one.value["uri"]).partition("://")[0]] += stored
        run = runs.setdefault(f"{one.place.dag_id}\n{one.place.run_id}", [one.place, one.stored_at, 0, 0])
        run[2], run[3] = run[2] + 1, run[3] + stored
        largest.append((stored, one))
        if len(largest) > 4 * _SHOWN:
            largest = sorted(largest, key=lambda pair: -pair[0])[:_SHOWN]
    largest = sorted(largest, key=lambda pair: -pair[0])[:_SHOWN]
    return {
        "count": total[0],
        "size_bytes": total[1],
        "stored_bytes": total[2],
        "truncated": total[0] >= _MOST_ROWS,
        "by": by,
        "groups": [
            {"name": name, "count": sums[0], "size_bytes": sums[1], "stored_bytes": sums[2]}
            for name, sums in sorted(groups.items(), key=lambda item: -item[1][2])[:100]
        ],
        "types": [
            {"name": name, "count": sums[0], "stored_bytes": sums[1]}
            for name, sums in sorted(types.items(), key=lambda item: -item[1][1])[:_SHOWN]
        ],
        "days": [{"day": day, "count": sums[0], "stored_bytes": sums[1]} for day, sums in sorted(days.items())][-90:],
        "runs": [
            {
                "dag_id": place.dag_id,
                "run_id": place.run_id,
                "at": at.isoformat() if at else None,
                "count": count,
                "stored_bytes": stored,
            }
            for place, at, count, stored in list(runs.values())[:50]
        ],
        "largest": [told(one) for _, one in largest],
        "cost": _cost(schemes),
    }


def _cost(schemes: dict[str, int]) -> dict[str, Any]:
    """Dollars a month by list prices; of schemes that have none, nothing."""
    known = {scheme: size for scheme, size in schemes.items() if scheme in PRICES}
    dollars = sum(size / 1024**3 * PRICES[scheme] for scheme, size in known.items())
    return {"dollars_a_month": dollars if known else None, "prices": {scheme: PRICES[scheme] for scheme in known}}


def _number(value: Any) -> int:
    return value if type(value) is int and value >= 0 else 0
