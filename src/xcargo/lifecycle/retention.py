"""Retention rules: for how long values are kept although their rows are still there. Pure.

A rule is ``[dag=GLOB] [task=GLOB] [key=GLOB] [state=STATE|STATE]: keep CLAUSE [or CLAUSE ...] [even latest]``. Rules
are separated by ``;`` or line breaks, and the first that matches a row is the one that holds for it. A clause is ``7d``
(also ``w h m s``), ``last 3 runs``, ``attempts 1`` or ``forever``. A value expires when no clause of its rule keeps it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fnmatch import translate
from functools import cached_property

from xcargo.errors import ConfigurationError
from xcargo.model.coordinate import Coordinate
from xcargo.model.root import Root
from xcargo.model.settings import Settings

__all__ = ["FINISHED", "Rule", "parse_duration", "parse_rules", "rules_of"]

FINISHED = frozenset(("success", "failed"))
"""States of a run whose values may expire: any other run may still read them."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_RULE = re.compile(r"(?P<who>.*?)[:\s]*\bkeep\s+(?P<what>.+?)(?P<latest>\s+even\s+latest)?", re.DOTALL)
_EXAMPLE = "Write for example: dag=reports_* state=success: keep 30d or last 3 runs; keep forever"


def parse_duration(text: str) -> float:
    """Seconds of ``90s``, ``15m``, ``24h``, ``7d`` or ``2w``. Raises ConfigurationError."""
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None:
        raise ConfigurationError(
            f"{text!r} is not a time", hint="Write a number and its unit: 90s, 15m, 24h, 7d or 2w."
        )
    return float(found[1]) * _SECONDS[found[2]]


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
    even_latest: bool = False
    """Take even the latest value of a key, which a pull with ``include_prior_dates`` gives to later runs."""

    @property
    def keeps_more(self) -> bool:
        """Whether something else than time keeps values."""
        return self.forever or self.keep_runs is not None or self.keep_attempts is not None or not self.even_latest

    @cached_property
    def _matches(self) -> tuple[Callable[[str], object], ...]:
        return tuple(re.compile(translate(glob)).match for glob in (self.dag, self.task, self.key))

    def matches(self, coordinate: Coordinate, state: str | None) -> bool:
        """Whether the rule holds for a row whose run is in ``state``."""
        dag, task, key = self._matches
        return bool(
            state in self.states and dag(coordinate.dag_id) and task(coordinate.task_id) and key(coordinate.key)
        )


def parse_rules(text: str) -> tuple[Rule, ...]:
    """The rules of a setting, in order. Raises ConfigurationError that shows the one it does not understand."""
    return tuple(_parse(part) for part in re.split(r"[;\n]", text) if part.strip())


def rules_of(settings: Settings, root: Root) -> tuple[Rule, ...]:
    """The rules for objects below a root: those of routes, each for what its route is for, then the setting's own.

    Of a route for one team a rule counts only below a root that is that team's: a row does not tell whose it is.
    """
    found: list[Rule] = []
    for route in settings.routes:
        if route.retention and (route.team is None or settings.teams_of(root) == {route.team}):
            only = {name: glob for name in ("dag", "task", "key") if (glob := getattr(route, name)) is not None}
            found += (replace(rule, **only) for rule in parse_rules(route.retention))
    return (*found, *parse_rules(settings.retention or ""))


def _parse(text: str) -> Rule:
    text = " ".join(text.split())
    found = _RULE.fullmatch(text)
    if found is None:
        raise _misread(text, "it says not what to keep")
    fields = dict(_selectors(text, found["who"]))
    states = frozenset(fields.pop("state", "|".join(FINISHED)).split("|"))
    if not states <= FINISHED:
        raise _misread(text, f"values of a run expire only once it is in state {' or '.join(sorted(FINISHED))}")
    clauses: dict[str, float] = {}
    for clause in re.split(r"\s+or\s+", found["what"].strip()):
        name, amount = _clause(text, clause)
        if name in clauses:
            raise _misread(text, f"it has two clauses of the kind {clause!r}")
        clauses[name] = amount
    forever = bool(clauses.pop("forever", 0))
    return Rule(text, **fields, states=states, forever=forever, even_latest=bool(found["latest"]), **clauses)  # type: ignore[arg-type]


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
