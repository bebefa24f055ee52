"""Retention rules: for how long values are kept although their rows are still there. Pure.

A rule is ``[dag=GLOB] [task=GLOB] [key=GLOB] [state=STATE|STATE]: keep CLAUSE [or CLAUSE ...] [even latest]``. Rules
are separated by ``;`` or line breaks, and the first that matches a row is the one that holds for it. A clause is ``7d``
(also ``w h m s``), ``last 3 runs``, ``attempts 1`` or ``forever``. A value expires when no clause of its rule keeps it.

``memo [dag=GLOB] [task=GLOB]: keep 7d`` (or ``forever``) is a rule for entries of ``memoize``, and for no value.
"""

from __future__ import annotations

import heapq
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import translate
from functools import cached_property
from hashlib import blake2b

from xcargo.errors import ConfigurationError
from xcargo.lifecycle.references import Reference, Run
from xcargo.model.coordinate import Coordinate
from xcargo.model.root import Root
from xcargo.model.settings import Settings

__all__ = ["FINISHED", "Expiry", "Rule", "parse_duration", "parse_rules", "rules_of"]

FINISHED = frozenset(("success", "failed"))
"""States of a run whose values may expire: any other run may still read them."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_RULE = re.compile(
    r"(?P<memo>memo(?=[\s:]))?(?P<who>.*?)[:\s]*\bkeep\s+(?P<what>.+?)(?P<latest>\s+even\s+latest)?", re.DOTALL
)
_EXAMPLE = "Write for example: dag=reports_* state=success: keep 30d or last 3 runs; keep forever"


def parse_duration(text: str) -> float:
    """Seconds of ``90s``, ``15m``, ``24h``, ``7d`` or ``2w``; 0 needs no unit. Raises ConfigurationError."""
    if text.strip() == "0":
        return 0.0
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise ConfigurationError(
            f"{text!r} is not a time", hint="Write a number and its unit: 90s, 15m, 24h, 7d or 2w."
        )
    return float(match[1]) * _SECONDS[match[2]]


@dataclass(frozen=True)
class Rule:
    """One rule. A clause that it does not have is None."""

    text: str
    dag: str = "*"
    task: str = "*"
    key: str = "*"
    states: frozenset[str] = FINISHED
    keep_seconds: float | None = None
    """Keep until so long after the run ended and the object was stored."""
    keep_runs: int | None = None
    """Keep the values of the Dag's latest runs, of those that stored any."""
    keep_attempts: int | None = None
    """Keep the values of the latest attempts at a task instance (Airflow 3.4 keeps rows of all)."""
    forever: bool = False
    memo: bool = False
    """For entries of ``memoize``, and for no row."""
    even_latest: bool = False
    """Let even the latest value of a key expire, which a pull with ``include_prior_dates`` returns to later runs."""

    @property
    def keeps_more(self) -> bool:
        """Whether something else than time keeps values."""
        return self.forever or self.keep_runs is not None or self.keep_attempts is not None or not self.even_latest

    @cached_property
    def _matches(self) -> tuple[Callable[[str], object], ...]:
        return tuple(re.compile(translate(glob)).match for glob in (self.dag, self.task, self.key))

    def matches_entry(self, dag_id: str, task_id: str) -> bool:
        """Whether the rule holds for an entry of ``memoize``."""
        return self.memo and all(match(id_) for match, id_ in zip(self._matches, (dag_id, task_id), strict=False))

    def matches(self, coordinate: Coordinate, state: str | None) -> bool:
        """Whether the rule holds for a row whose run is in ``state``. None does for rows of the state store."""
        dag, task, key = self._matches
        return bool(
            not self.memo
            and coordinate.state is None
            and state in self.states
            and dag(coordinate.dag_id)
            and task(coordinate.task_id)
            and key(coordinate.key)
        )


def parse_rules(text: str) -> tuple[Rule, ...]:
    """The rules of a setting, in order. Raises ConfigurationError that shows the one it does not understand."""
    return tuple(_parse(part) for part in re.split(r"[;\n]", text) if part.strip())


def rules_of(settings: Settings, root: Root) -> tuple[Rule, ...]:
    """The rules for objects below a root: those of routes, each for what its route is for, then the setting's own.

    The rule of a team's route counts only below a root of that team alone, since a row does not say whose it is.

    Raises:
        ConfigurationError: A rule is not understood, or is for entries of ``memoize`` in a route for a key.
    """
    of_routes: list[Rule] = []
    for route in settings.routes:
        if route.retention and (route.team is None or settings.teams_of(root) == {route.team}):
            only = {name: glob for name in ("dag", "task", "key") if (glob := getattr(route, name)) is not None}
            rules = parse_rules(route.retention)
            if route.key is not None and any(rule.memo for rule in rules):
                raise ConfigurationError(
                    f"Route {route.name!r} is for a key, but its retention has a rule for entries of memoize",
                    hint="An entry has no key. Move the rule to a route without one, or to [xcargo] retention.",
                )
            of_routes += (replace(rule, **only) for rule in rules)
    return (*of_routes, *parse_rules(settings.retention or ""))


def _parse(text: str) -> Rule:
    text = " ".join(text.split())
    rule = _RULE.fullmatch(text)
    if rule is None:
        raise _misread(text, "it does not say what to keep")
    fields = dict(_selectors(text, rule["who"]))
    if rule["memo"] and (fields.keys() - {"dag", "task"} or rule["latest"]):
        raise _misread(text, "an entry of memoize has a Dag and a task, and nothing else")
    states = frozenset(fields.pop("state", "|".join(FINISHED)).split("|"))
    if not states <= FINISHED:
        raise _misread(text, f"values of a run expire only once it is in state {' or '.join(sorted(FINISHED))}")
    clauses: dict[str, float] = {}
    for clause in re.split(r"\s+or\s+", rule["what"].strip()):
        name, amount = _clause(text, clause)
        if name in clauses:
            raise _misread(text, f"it has two clauses of the kind {clause!r}")
        clauses[name] = amount
    forever = bool(clauses.pop("forever", 0))
    if rule["memo"] and clauses.keys() - {"keep_seconds"}:
        raise _misread(text, "an entry of memoize is kept for a time, or forever")
    flags = {"forever": forever, "memo": bool(rule["memo"]), "even_latest": bool(rule["latest"])}
    return Rule(text, **fields, states=states, **flags, **clauses)  # type: ignore[arg-type]


def _selectors(text: str, who: str) -> Iterator[tuple[str, str]]:
    seen = set()
    for word in who.split():
        name, equals, glob = word.partition("=")
        if name not in ("dag", "task", "key", "state") or not equals or not glob or name in seen:
            raise _misread(text, f"{word!r} is not one of dag=, task=, key=, state= (each once)")
        seen.add(name)
        yield name, glob


def _clause(text: str, clause: str) -> tuple[str, float]:
    if clause == "forever":
        return "forever", 1
    if runs := re.fullmatch(r"last (\d+) runs?", clause):
        return "keep_runs", int(runs[1])
    if attempts := re.fullmatch(r"attempts? (\d+)", clause):
        if attempts[1] == "0":
            raise _misread(text, "'attempts 0' would keep nothing")
        return "keep_attempts", int(attempts[1])
    if _DURATION.fullmatch(clause):
        return "keep_seconds", parse_duration(clause)
    raise _misread(text, f"{clause!r} is none of '7d', 'last 3 runs', 'attempts 1', 'forever'")


def _misread(text: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"[xcargo] retention: the rule {text!r} is not understood: {why}", hint=_EXAMPLE)


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
        self._dates: dict[str, list[tuple[float, str]]] = {}
        self._unfinished: dict[str, list[float]] = {}
        self._readable: dict[bytes, list[float]] = {}
        self._newest_row: dict[bytes, float] = {}
        self._attempts: dict[bytes, list[float]] = {}

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
        series, created = _series(reference), _timestamp(reference.created_at)
        self._newest_row[series] = max(self._newest_row.get(series, -_NEVER), created)
        # Up to the date of each run that is not finished, and up to any date: the latest date of a row.
        bounds = [*self._unfinished.get(reference.coordinate.dag_id, ()), _NEVER]
        latest = self._readable.setdefault(series, [-_NEVER] * len(bounds))
        date = _timestamp(reference.run_date)
        for n in range(bisect_left(bounds, date), len(bounds)):
            latest[n] = max(latest[n], date)
        most = max((rule.keep_attempts or 0 for rule in self._rules), default=0)
        if most:
            attempts = self._attempts.setdefault(_series_in_run(reference), [])
            heapq.heappush(attempts, _attempted_at(reference))
            if len(attempts) > most:
                heapq.heappop(attempts)

    def rule_for(self, reference: Reference) -> Rule | None:
        """The rule that holds for a row: the first that matches it."""
        return next((r for r in self._rules if r.matches(reference.coordinate, reference.run_state)), None)

    def expires(self, reference: Reference, rule: Rule) -> bool:
        """Whether a row's value expires by the rule that holds for it."""
        return not (rule.forever or reference.archived or self._keeps(reference, rule)) and (
            rule.even_latest or not self._is_readable_later(reference)
        )

    def _keeps(self, reference: Reference, rule: Rule) -> bool:
        if reference.run_date is None or reference.run_ended is None or reference.created_at is None:
            return True
        if rule.keep_seconds is not None:
            since = max(reference.run_ended.timestamp(), reference.created_at.timestamp())
            if self._now - since <= rule.keep_seconds:
                return True
        if rule.keep_runs is not None:
            run_id = reference.coordinate.run_id
            runs = self._dates.get(reference.coordinate.dag_id, [])
            at = bisect_left(runs, (reference.run_date.timestamp(), run_id))
            known = at < len(runs) and runs[at][1] == run_id
            if not known or at >= len(runs) - rule.keep_runs:
                return True
        if rule.keep_attempts is not None:
            newest = heapq.nlargest(rule.keep_attempts, self._attempts.get(_series_in_run(reference), ()))
            if not newest or _attempted_at(reference) >= newest[-1]:
                return True
        return False

    def _is_readable_later(self, reference: Reference) -> bool:
        # Of one run a pull reads the latest attempt only. Attempts are known where a rule counts them.
        attempts = self._attempts.get(_series_in_run(reference), ())
        if reference.coordinate.attempt and attempts and _attempted_at(reference) < max(attempts):
            return False
        series, date = _series(reference), _timestamp(reference.run_date)
        # PostgreSQL sorts runs without a logical date first, and the newest row among those.
        is_newest_row = _timestamp(reference.created_at) >= self._newest_row.get(series, -_NEVER)
        return is_newest_row or date in self._readable.get(series, (date,))

    def _rules_for(self, reference: Reference) -> bool:
        """Whether some rule, in some state of the run, could let the value of this row expire."""
        return any(
            not rule.forever and any(rule.matches(reference.coordinate, state) for state in rule.states)
            for rule in self._rules
        )


def _attempted_at(reference: Reference) -> float:
    """When an attempt began, by the one clock in its id (UUID version 7); else when its value was pushed."""
    attempt = reference.coordinate.attempt
    if attempt and attempt[14:15] == "7":
        return int(attempt[:8] + attempt[9:13], 16) / 1000
    return _timestamp(reference.created_at)


def _timestamp(time: datetime | None) -> float:
    return _NEVER if time is None else time.timestamp()


def _series(reference: Reference) -> bytes:
    """The values of one key of a task in all runs."""
    where = reference.coordinate
    return _digest(where.dag_id, where.task_id, where.key, where.map_index)


def _series_in_run(reference: Reference) -> bytes:
    return _digest(_series(reference), reference.coordinate.run_id)


def _digest(*parts: object) -> bytes:
    return blake2b("\0".join(map(repr, parts)).encode("utf-8", "surrogatepass"), digest_size=16).digest()
