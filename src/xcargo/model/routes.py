"""Routes: rules that send the values of some Dags, tasks, keys or teams another way than the settings' own."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from xcargo.errors import ConfigurationError
from xcargo.model.coordinate import Coordinate
from xcargo.model.root import Root

__all__ = ["NO_KEY", "Route", "parse_routes"]

NO_KEY = "none"
"""What a route gives as ``encryption_key`` to store its values unencrypted."""


@dataclass(frozen=True)
class Route:
    """A rule: which values it is for, and what holds for them in place of the setting of the same name.

    ``dag``, ``task`` and ``key`` are patterns of the shell (``sales_*``), ``team`` is a name; None matches everything.
    What a route reaches by ``root`` under a ``team`` is closed to tasks of other teams.
    """

    name: str
    team: str | None = None
    dag: str | None = None
    task: str | None = None
    key: str | None = None
    root: Root | None = None
    threshold_bytes: int | None = None
    compression: str | None = None
    encryption_key: str | None = None
    preview_chars: int | None = None
    retention: str | None = None
    max_size_bytes: int | None = None
    warn_size_bytes: int | None = None

    def matches(self, coordinate: Coordinate, team: str | None) -> bool:
        """Whether the route is for an XCom of a task of this team; ``team`` is None or empty where there is none."""
        patterns = ((self.dag, coordinate.dag_id), (self.task, coordinate.task_id), (self.key, coordinate.key))
        if self.team is not None and self.team != team:
            return False
        return all(pattern is None or fnmatchcase(text, pattern) for pattern, text in patterns)


def parse_routes(text: str) -> tuple[Route, ...]:
    """Routes out of a JSON list of objects. Raises ConfigurationError naming the route and what is wrong with it."""
    try:
        given = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(
            f"It is not JSON: {error}",
            hint='Write a list of objects, for example [{"name": "sales", "dag": "sales_*", "threshold_bytes": 0}].',
        ) from None
    if type(given) is not list or not all(type(item) is dict for item in given):
        raise ConfigurationError("It is not a JSON list of objects")
    routes = tuple(_parse(item, number) for number, item in enumerate(given, 1))
    if len({route.name for route in routes}) < len(routes):
        raise ConfigurationError("Two routes have the same name")
    return routes


def _parse(given: dict[str, Any], number: int) -> Route:
    name = given.get("name", f"route {number}")
    found: dict[str, Any] = {"name": name}
    for field, value in given.items():
        kind = _FIELDS.get(field)
        if kind is None:
            close = difflib.get_close_matches(field, _FIELDS, n=1)
            raise ConfigurationError(
                f"Route {name!r} has an unknown field {field!r}",
                hint=f"Did you mean {close[0]!r}?" if close else f"Known fields: {', '.join(_FIELDS)}.",
            )
        if type(value) is not kind or value == "":
            raise ConfigurationError(
                f"{field} of route {name!r} is {value!r}",
                hint="Write a whole number." if kind is int else "Write a text that is not empty.",
            )
        found["root" if field == "path" else field] = Root.parse(value) if field == "path" else value
    if found.get("encryption_key", NO_KEY) != NO_KEY:  # what is encrypted is not to be read in the database either
        found = {"threshold_bytes": 0, "preview_chars": 0, **found}
    return Route(**found)


_FIELDS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("name", "team", "dag", "task", "key", "path", "compression", "encryption_key", "retention"), str),
    **dict.fromkeys(("threshold_bytes", "preview_chars", "max_size_bytes", "warn_size_bytes"), int),
}
