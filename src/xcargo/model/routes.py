"""Routes: rules by which other settings apply to the values of some Dags, tasks, keys or teams."""

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
"""The ``encryption_key`` of a route whose values are stored unencrypted."""


@dataclass(frozen=True)
class Route:
    """A rule: which values it is for, and what applies to them in place of the setting of the same name.

    ``dag``, ``task`` and ``key`` are patterns of the shell (``sales_*``), ``team`` is a name; None matches everything.
    The ``root`` of a route with a ``team`` is closed to tasks of other teams.
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
        items = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(
            f"It is not JSON: {error}",
            hint='Write a list of objects, for example [{"name": "sales", "dag": "sales_*", "threshold_bytes": 0}].',
        ) from None
    if type(items) is not list or not all(type(item) is dict for item in items):
        raise ConfigurationError("It is not a JSON list of objects")
    routes = tuple(_parse(item, number) for number, item in enumerate(items, 1))
    if len({route.name for route in routes}) < len(routes):
        raise ConfigurationError("Two routes have the same name")
    return routes


def _parse(item: dict[str, Any], number: int) -> Route:
    name = item.get("name", f"route {number}")
    values: dict[str, Any] = {"name": name}
    for field, value in item.items():
        kind = _TYPES.get(field)
        if kind is None:
            close = difflib.get_close_matches(field, _TYPES, n=1)
            raise ConfigurationError(
                f"Route {name!r} has an unknown field {field!r}",
                hint=f"Did you mean {close[0]!r}?" if close else f"Known fields: {', '.join(_TYPES)}.",
            )
        if type(value) is not kind or value == "":
            raise ConfigurationError(
                f"{field} of route {name!r} is {value!r}",
                hint="Write a whole number." if kind is int else "Write a text that is not empty.",
            )
        values["root" if field == "path" else field] = Root.parse(value) if field == "path" else value
    if values.get("encryption_key", NO_KEY) != NO_KEY:  # what is encrypted must not be readable in the database either
        values = {"threshold_bytes": 0, "preview_chars": 0, **values}
    return Route(**values)


_TYPES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("name", "team", "dag", "task", "key", "path", "compression", "encryption_key", "retention"), str),
    **dict.fromkeys(("threshold_bytes", "preview_chars", "max_size_bytes", "warn_size_bytes"), int),
}
