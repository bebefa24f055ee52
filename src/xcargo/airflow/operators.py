"""XCargoGCOperator: a sweep as a task, of a whole root or of a part of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from xcargo import XComBackend  # noqa: F401 - on Airflow 2 it has to be loaded before anything else of the edge
from xcargo.airflow import compat
from xcargo.airflow.connections import access_of
from xcargo.airflow.runtime import settings
from xcargo.errors import SweepRefusedError
from xcargo.lifecycle.inventory import open_inventory
from xcargo.lifecycle.plan import Count, SweepOptions, Verdict, share_refusal
from xcargo.lifecycle.references import ReferenceSource
from xcargo.lifecycle.retention import parse_duration, rules_of
from xcargo.lifecycle.sweep import Sweep, shards
from xcargo.model.keys import Signer
from xcargo.model.root import Root
from xcargo.stores import open_store
from xcargo.stores.base import Access, Limits, Store

__all__ = ["XCargoGCOperator", "approve", "prefixes"]

log = logging.getLogger(__name__)

BaseOperator: Any = compat.base_operator()


class XCargoGCOperator(BaseOperator):  # type: ignore[misc]
    """Sweeps the configured roots, or some prefixes of them, as ``xcargo gc`` does, in a task.

    The task returns the report, one entry per root. If the sweep is refused, the task fails without a retry.

    Args:
        prefixes: Folders at the top of a root (escaped Dag ids); None for all. Can be mapped over what `prefixes`
            returns.
        apply: Delete. Without it, the task only reports.
        path: One of the configured base URLs; None for each of them.
        grace: Minimum age of an object to delete, such as ``24h``.
        max_share: Refuse to delete a larger share of the objects, by number or bytes. None for no limit, if `approve`
            judges all parts together.
        quarantine: Move orphans aside and delete them after this time, such as ``7d``.
        inventory: Read this inventory of the bucket instead of listing: the URL of its manifest, or of a folder, whose
            newest inventory is taken.
        via: ``database`` or ``rest``. By default ``database`` on Airflow 2 and ``rest`` on 3, whose tasks have no
            access to the database.
        api_url: URL of the REST API, if the connection does not have it.
        api_conn_id: Airflow connection of the REST API.
        all_dags: The connection's user may read every Dag, so a Dag that is not shown no longer exists.
        kwargs: Arguments of every operator.
    """

    template_fields: Sequence[str] = ("prefixes", "path", "grace", "quarantine", "inventory", "api_url")

    def __init__(
        self,
        *,
        prefixes: Sequence[str] | None = None,
        apply: bool = False,
        path: str | None = None,
        grace: str = "24h",
        max_share: float | None = 0.5,
        quarantine: str | None = None,
        inventory: str | None = None,
        via: str | None = None,
        api_url: str | None = None,
        api_conn_id: str | None = None,
        all_dags: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.prefixes = prefixes
        self.apply = apply
        self.path = path
        self.grace = grace
        self.max_share = max_share
        self.quarantine = quarantine
        self.inventory = inventory
        self.via = via
        self.api_url = api_url
        self.api_conn_id = api_conn_id
        self.all_dags = all_dags

    def execute(self, context: Any) -> list[dict[str, Any]]:
        """Sweep, and return the reports."""
        if isinstance(self.prefixes, str):
            raise compat.fail_exception()(f"prefixes is a list of folders, not the text {self.prefixes!r}")
        if self.prefixes is not None and not self.prefixes:
            return []  # no folder, where None is all of them
        source = self._source()
        options = SweepOptions(
            grace_seconds=parse_duration(self.grace),
            max_share=self.max_share,
            prefixes=tuple(self.prefixes or ()),
            quarantine_seconds=parse_duration(self.quarantine) if self.quarantine else None,
            deployment=settings().deployment,
            signer=Signer(settings().signing_keys, settings().unsigned_until),
            roots=settings().roots,
        )
        try:
            reports = []
            for root in _roots(self.path):
                of_root = replace(options, rules=rules_of(settings(), root))
                inventory = open_inventory(self.inventory, root, _store) if self.inventory else None
                with Sweep(_store(root), source, root=root, options=of_root, inventory=inventory) as sweep:
                    report = sweep.plan()
                    if self.apply or report.refusals:
                        sweep.apply(report)
                reports.append(report.to_json())
                log.info("Swept %s: %s", root, _shown(reports[-1]))
        except SweepRefusedError as error:
            raise compat.fail_exception()(str(error)) from error
        if any(report["errors"] for report in reports):
            raise RuntimeError(
                f"Some objects or uploads could not be deleted: {[e for r in reports for e in r['errors']]}"
            )
        return reports

    def _source(self) -> ReferenceSource:
        if (self.via or ("database" if compat.AIRFLOW_2 else "rest")) == "database":
            from xcargo.airflow.references.database import DatabaseReferences

            return DatabaseReferences()
        from xcargo.airflow.references.rest import open_rest

        connection = compat.get_connection(self.api_conn_id) if self.api_conn_id else None
        return open_rest(compat.conf(), api_url=self.api_url, connection=connection, all_dags=self.all_dags)


def prefixes(number: int = 16, path: str | None = None) -> list[list[str]]:
    """The folders at the top of the configured roots in at most ``number`` parts, to map an operator over."""
    parts: list[list[str]] = []
    for root in _roots(path):
        for n, part in enumerate(shards(_store(root), number)):
            if n < len(parts):
                parts[n] = sorted({*parts[n], *part})
            else:
                parts.append(part)
    return parts


def approve(reports: Any, max_share: float | None = 0.5) -> dict[str, dict[str, int]]:
    """Judge the dry runs of all parts together. Returns the counts; fails without a retry if the share is too large."""
    counts: dict[Verdict, Count] = {}
    for report in (report for part in reports for report in part):
        for word, count in report["objects"].items():
            counts.setdefault(Verdict(word), Count()).add(count["size_bytes"], count["objects"])
    refusal = share_refusal(counts, max_share)
    if refusal is not None:
        raise compat.fail_exception()(refusal)
    return {str(v): {"objects": c.objects, "size_bytes": c.size_bytes} for v, c in counts.items()}


def _roots(path: str | None) -> Sequence[Root]:
    roots = settings().roots
    if path is None:
        return roots
    matching = [root for root in roots if root.uri() == Root.parse(path).uri()]
    if not matching:
        raise compat.fail_exception()(f"{path} is none of the configured paths: {', '.join(map(str, roots))}")
    return matching


def _store(root: Root) -> Store:
    plain = root.scheme in ("file", "memory")
    access = Access() if plain else access_of(root, compat.get_connection)
    return open_store(root, access, Limits.from_settings(settings()))


def _shown(report: dict[str, Any]) -> dict[str, Any]:
    """What is not zero, for the log."""
    shown = {
        name: {word: count for word, count in report[name].items() if count["objects"]}
        for name in ("objects", "outcomes", "entries", "entry_outcomes")
    }
    return {**shown, "uploads": {word: count for word, count in (report["uploads"] or {}).items() if count}}
