"""Which rows' values expire by the retention rules. Pure: told of runs first, then of references, then asked."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import blake2b

from xcargo.lifecycle.references import Reference, Run
from xcargo.lifecycle.retention import FINISHED, Rule

__all__ = ["Expiry"]

_Date = float
_NEVER = float("inf")


class Expiry:
    """The retention rules, applied to one deployment.

    What is not known does not expire: a row whose run, its end or its date is not there, a run that appeared since. Nor
    does what a pull with ``include_prior_dates`` gives to later runs, or to one that is not finished: the latest value
    of a key up to its date. Holds some 100 bytes a run, and as much a task, key and map index that a rule is for.
    """

    def __init__(self, rules: Sequence[Rule], now: datetime) -> None:
        self._rules = tuple(rules)
        self._now = now.timestamp()
        self._dates: dict[str, list[tuple[_Date, str]]] = {}
        self._unfinished: dict[str, list[_Date]] = {}
        self._readable: dict[bytes, list[_Date]] = {}
        self._newest_row: dict[bytes, _Date] = {}
        self._attempts: dict[bytes, list[_Date]] = {}

    def learn_runs(self, runs: Iterable[Run]) -> None:
        """First, every run of the Dags concerned."""
        for run in runs:
            date = _NEVER if run.date is None else run.date.timestamp()
            self._dates.setdefault(run.dag_id, []).append((date, run.run_id))
            if run.state not in FINISHED:
                self._unfinished.setdefault(run.dag_id, []).append(date)
        for dates in (*self._dates.values(), *self._unfinished.values()):
            dates.sort()  # type: ignore[attr-defined]

    def learn(self, references: Iterable[Reference]) -> None:
        """Then, every reference of these Dags."""
        for reference in references:
            if reference.run_date is not None and self._rules_for(reference):
                self._learn(reference)

    def _learn(self, reference: Reference) -> None:
        where = reference.coordinate
        group = _digest(where.dag_id, where.task_id, where.key, where.map_index)
        created = _timestamp(reference.created_at)
        self._newest_row[group] = max(self._newest_row.get(group, -_NEVER), created)
        # Up to the date of each run that is not finished, and up to any date: the latest date of a row.
        bounds = [*self._unfinished.get(where.dag_id, ()), _NEVER]
        latest = self._readable.setdefault(group, [-_NEVER] * len(bounds))
        date = _timestamp(reference.run_date)
        for n in range(bisect_left(bounds, date), len(bounds)):
            latest[n] = max(latest[n], date)
        most = max((rule.keep_attempts or 0 for rule in self._rules), default=0)
        if most:
            held = self._attempts.setdefault(_digest(group, where.run_id), [])
            heapq.heappush(held, _made(reference))
            if len(held) > most:
                heapq.heappop(held)

    def rule_for(self, reference: Reference) -> Rule | None:
        """The rule that holds for a row: the first that matches it."""
        return next((r for r in self._rules if r.matches(reference.coordinate, reference.run_state)), None)

    def expires(self, reference: Reference, rule: Rule) -> bool:
        """Whether a row's value expires by the rule that holds for it."""
        return not (rule.forever or reference.archived or self._keeps(reference, rule)) and (
            rule.even_latest or not self._is_readable_later(reference)
        )

    def _keeps(self, reference: Reference, rule: Rule) -> bool:
        where = reference.coordinate
        if reference.run_date is None or reference.run_ended is None or reference.created_at is None:
            return True
        if rule.keep_seconds is not None:
            since = max(reference.run_ended.timestamp(), reference.created_at.timestamp())
            if self._now - since <= rule.keep_seconds:
                return True
        if rule.keep_runs is not None:
            runs = self._dates.get(where.dag_id, [])
            at = bisect_left(runs, (reference.run_date.timestamp(), where.run_id))
            known = at < len(runs) and runs[at][1] == where.run_id
            if not known or at >= len(runs) - rule.keep_runs:
                return True
        if rule.keep_attempts is not None:
            group = _digest(where.dag_id, where.task_id, where.key, where.map_index)
            held = self._attempts.get(_digest(group, where.run_id), [])
            newest = heapq.nlargest(rule.keep_attempts, held)
            if not newest or _made(reference) >= newest[-1]:
                return True
        return False

    def _is_readable_later(self, reference: Reference) -> bool:
        where = reference.coordinate
        group = _digest(where.dag_id, where.task_id, where.key, where.map_index)
        # Of one run a pull reads the latest attempt only. Attempts are known where a rule counts them.
        if where.attempt and _made(reference) < max(self._attempts.get(_digest(group, where.run_id), (-_NEVER,))):
            return False
        return (
            _timestamp(reference.run_date) in self._readable.get(group, (_timestamp(reference.run_date),))
            # PostgreSQL sorts runs without a logical date first, and the newest row among those.
            or _timestamp(reference.created_at) >= self._newest_row.get(group, -_NEVER)
        )

    def _rules_for(self, reference: Reference) -> bool:
        """Whether some rule, in some state of the run, could let the value of this row expire."""
        return any(
            not rule.forever and any(rule.matches(reference.coordinate, state) for state in rule.states)
            for rule in self._rules
        )


def _made(reference: Reference) -> float:
    """When an attempt was made, by the one clock that made its id (UUID version 7); else when its value was pushed."""
    attempt = reference.coordinate.attempt
    if attempt and attempt[14:15] == "7":
        return int(attempt[:8] + attempt[9:13], 16) / 1000
    return _timestamp(reference.created_at)


def _timestamp(time: datetime | None) -> _Date:
    return _NEVER if time is None else time.timestamp()


def _digest(*parts: object) -> bytes:
    return blake2b("\0".join(map(repr, parts)).encode("utf-8", "surrogatepass"), digest_size=16).digest()
