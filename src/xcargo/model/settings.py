"""Settings: what the pipeline needs to know, checked, with units in the names; and routes, which change them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from xcargo.errors import ConfigurationError
from xcargo.model.coordinate import Coordinate
from xcargo.model.keys import Key
from xcargo.model.root import Root

__all__ = ["LegacyRoot", "Route", "Settings", "parse_routes"]

_PARTS_BYTES = 128 * 1024 * 1024
_READ_ONLY_SCHEMES = ("http", "https")

_LEAST: dict[str, float] = {
    "threshold_bytes": -1,
    "preview_chars": 0,
    "max_concurrency": 1,
    "part_bytes": 5 * 1024 * 1024,  # S3 takes no smaller part
    "timeout_seconds": 1,
    "purge_timeout_seconds": 1,
    "retry_wait_seconds": 0.001,
    "hedge_after_seconds": 0,
    "max_preview_bytes": 1024 * 1024,
    "cache_size_bytes": 0,
    "max_size_bytes": 0,
    "warn_size_bytes": 0,
}
"""The least value of each setting that is a number."""

_NO_KEY = "none"
"""The ``encryption_key`` of a route whose values are stored unencrypted."""


@dataclass(frozen=True)
class Route:
    """A rule: which values it is for, and what applies to them in place of the setting of the same name.

    ``dag``, ``task``, ``key`` and ``asset`` are patterns of the shell (``sales_*``), ``team`` is a name; None matches
    everything. The ``root`` of a route with a ``team`` is closed to tasks of other teams.
    """

    name: str
    team: str | None = None
    dag: str | None = None
    task: str | None = None
    key: str | None = None
    state: bool | None = None
    """True matches the state store alone, False XComs alone."""
    asset: str | None = None
    """Matches the state of assets alone, by their name."""
    root: Root | None = None
    threshold_bytes: int | None = None
    compression: str | None = None
    encryption_key: str | None = None
    preview_chars: int | None = None
    retention: str | None = None
    max_size_bytes: int | None = None
    warn_size_bytes: int | None = None

    def matches(self, coordinate: Coordinate, team: str | None) -> bool:
        """Whether the route is for a value of a task of this team; ``team`` is None or empty where there is none."""
        state = coordinate.state
        asset = state.asset if state is not None else None
        if self.team is not None and self.team != team:
            return False
        if self.state is not None and self.state != (state is not None):
            return False
        if self.asset is not None and (asset is None or not fnmatchcase(asset, self.asset)):
            return False
        patterns = ((self.dag, coordinate.dag_id), (self.task, coordinate.task_id), (self.key, coordinate.key))
        return all(pattern is None or fnmatchcase(text, pattern) for pattern, text in patterns)


@dataclass(frozen=True)
class LegacyRoot:
    """A root of references that another backend wrote: ``prefix`` is what such a reference starts with."""

    prefix: str
    root: Root

    @classmethod
    def parse(cls, text: str) -> LegacyRoot:
        """``xcom_s3=s3://conn@bucket`` (a hand-written backend's prefix) or ``s3://conn@bucket/xcom`` (Common IO)."""
        name, equals, url = text.partition("=")
        if not equals:
            return cls(text.strip().rstrip("/") + "/", Root.parse(text))
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+._-]*(://)?", name.strip()):
            raise ConfigurationError(
                f"{name.strip()!r} in [xcargo] legacy_references is not a reference prefix",
                hint="Write prefix=root, for example xcom_s3=s3://my_aws_conn@my-bucket.",
            )
        return cls(name.strip().removesuffix("://") + "://", Root.parse(url))


@dataclass(frozen=True)
class Settings:
    """All options of a push, a pull and a sweep, checked.

    A field is the option of the same name, or says which one. ``OPTIONS`` of `xcargo.airflow.provider_info`
    describes the options.

    Raises:
        ConfigurationError: A value is out of bounds, or a route is unusable; named.
    """

    root: Root | None
    """``path``. None only where there is none: the first push that would offload raises ``no_root_reason``."""
    threshold_bytes: int = 1024
    compression: str = "zstd"
    read_roots: tuple[Root, ...] = ()
    """``read_paths``"""
    legacy_roots: tuple[LegacyRoot, ...] = ()
    """``legacy_references``"""
    state_legacy_root: LegacyRoot | None = None
    """``[common.io] state_store_objectstorage_path``, of references in the state store."""
    preview_chars: int = 160
    keep_key_order: bool = False
    allow_pickle: bool = False
    strict_types: bool = False
    timeout_seconds: float = 60.0
    retry_wait_seconds: float = 0.1
    retry_max_wait_seconds: float = 5.0
    hedge_after_seconds: float = 0.0
    purge_timeout_seconds: float = 10.0
    part_bytes: int = 8 * 1024 * 1024
    max_concurrency: int = 64
    fsync: bool = True
    cache_path: str | None = None
    cache_size_bytes: int = 10 * 1024**3
    max_size_bytes: int = 0
    warn_size_bytes: int = 0
    signing_keys: tuple[Key, ...] = ()
    """``signing_key``: the first signs, all verify."""
    unsigned_until: datetime | None = None
    encryption_keys: tuple[Key, ...] = ()
    """All decrypt."""
    encryption_key: Key | None = None
    """The one of them that encrypts; None stores objects as they are."""
    deployment: str | None = None
    retention: str | None = None
    routes: tuple[Route, ...] = ()
    memoize: bool = True
    memoize_across_dags: bool = False
    ui: bool = False
    ui_signed_downloads: bool = False
    max_preview_bytes: int = 64 * 1024 * 1024
    no_root_reason: str = field(default="no path is set", repr=False)

    def __post_init__(self) -> None:
        for name, least in {**_LEAST, "retry_max_wait_seconds": self.retry_wait_seconds}.items():
            value = getattr(self, name)
            if not least <= value < math.inf:  # nan is neither
                raise ConfigurationError(f"[xcargo] {name} is {value}", hint=f"It must be a number, {least} or more.")
        if self.cache_path is not None and not self.cache_path.startswith("/"):
            raise ConfigurationError(
                f"[xcargo] cache_path is {self.cache_path!r}",
                hint="It must be an absolute path on a local disk of the machine, for example /var/cache/xcargo.",
            )
        if self.root is not None and self.root.scheme in _READ_ONLY_SCHEMES:
            raise ConfigurationError(
                f"[xcargo] path is {self.root.uri()!r}: nothing can be stored at a {self.root.scheme}:// URL",
                hint="Schemes are s3, gs, azblob, file and those of fsspec that store. The URL of a service belongs in "
                "the connection: write s3://connection_id@bucket/prefix, and the URL as endpoint_url in its extra.",
            )
        by_uri: dict[str, Root] = {}
        for root in self.roots:
            if by_uri.setdefault(root.uri(), root) != root:
                raise ConfigurationError(
                    f"Two connections or accounts are named for {root.uri()}, and rows do not say which was meant",
                    hint="Name one of them, or give each a bucket or prefix of its own.",
                )
        for route in self.routes:
            self._with_route(route)  # an unusable route fails at start-up, not at the first value it is for

    def legacy_reference(self, text: str) -> tuple[Root, str] | None:
        """Root and object key that ``text`` refers to if another backend left it, or None when it is just a string.

        Two kinds, both only below ``legacy_roots``:

        * ``XComObjectStorageBackend`` of the Common IO provider: the object's URL as a string,
          ``<path>/<dag>/<run>/<task>/<uuid>[.suffix]`` (or the 3.4 layout), JSON, compressed as the suffix says.
        * hand-written backends after Airflow's and Astronomer's tutorials: ``xcom_s3://`` (or ``xcom_gcs://``,
          ``xcom_wasb://``, ``xcom_minio://``) and the object's key, plain JSON.
        """
        for legacy in self.legacy_roots:
            key = text[len(legacy.prefix) :]
            if text.startswith(legacy.prefix) and key and not {"", ".", ".."} & set(key.split("/")):
                return legacy.root, key
        return None

    @property
    def part_concurrency(self) -> int:
        """Parts of one value under way at once: no more than 128 MiB of them are in memory together."""
        return max(1, min(self.max_concurrency, _PARTS_BYTES // self.part_bytes))

    @property
    def roots(self) -> tuple[Root, ...]:
        """All roots whose objects may be read, those written to first."""
        routed = (route.root for route in self.routes if route.root is not None)
        return tuple(dict.fromkeys(((self.root,) if self.root else ()) + (*routed,) + self.read_roots))

    def root_of(self, uri: str) -> Root | None:
        """The root that holds ``uri`` (the longest, where roots are nested), or None."""
        holding = [root for root in self.roots if root.contains(uri)]
        return max(holding, key=lambda root: len(root.prefix), default=None)

    def teams_of(self, root: Root) -> frozenset[str]:
        """The teams to whose tasks alone a root is open; none if it is open to all."""
        if root == self.root or root in self.read_roots:
            return frozenset()
        teams = {route.team for route in self.routes if route.root == root}
        return frozenset(() if None in teams else (team for team in teams if team))

    @property
    def variants(self) -> tuple[Settings, ...]:
        """All settings that may apply to a value: these, and each route's."""
        return (self, *(settings for _, settings in self._by_route))

    @property
    def for_state(self) -> Settings:
        """The same for the state store: its rows are texts, so keys stay in order, and what Common IO left is known."""
        legacy = (self.state_legacy_root,) if self.state_legacy_root else ()
        return replace(self, legacy_roots=(*self.legacy_roots, *legacy), keep_key_order=False)

    def for_xcom(self, coordinate: Coordinate, team: str | None) -> Settings:
        """The settings that apply to one value of a task of this team: those of the first route that matches it."""
        for route, settings in self._by_route:
            if route.matches(coordinate, team):
                return settings
        return self

    @cached_property
    def _by_route(self) -> tuple[tuple[Route, Settings], ...]:
        return tuple((route, self._with_route(route)) for route in self.routes)

    def _with_route(self, route: Route) -> Settings:
        keys = {key.name: key for key in self.encryption_keys}
        names = ("root", "threshold_bytes", "compression", "preview_chars", "retention")
        own = {n: v for n in (*names, "max_size_bytes", "warn_size_bytes") if (v := getattr(route, n)) is not None}
        if route.encryption_key == _NO_KEY:
            own["encryption_key"] = None
        elif route.encryption_key is not None:
            if route.encryption_key not in keys:
                raise ConfigurationError(
                    f"Route {route.name!r} names the encryption key {route.encryption_key!r}, and there is none",
                    hint="Add it to [xcargo] encryption_keys as name=key.",
                )
            own["encryption_key"] = keys[route.encryption_key]
        try:
            return replace(self, **own, routes=())
        except ConfigurationError as error:
            raise ConfigurationError(f"Route {route.name!r}: {error.what}", hint=error.hint) from error


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
    routes = tuple(_parse_route(item, number) for number, item in enumerate(items, 1))
    if len({route.name for route in routes}) < len(routes):
        raise ConfigurationError("Two routes have the same name")
    return routes


def _parse_route(item: dict[str, Any], number: int) -> Route:
    name = item.get("name", f"route {number}")
    values: dict[str, Any] = {"name": name}
    for field_name, value in item.items():
        kind = _ROUTE_TYPES.get(field_name)
        if kind is None:
            from xcargo.model.unknown_names import check_unknown

            check_unknown(
                field_name, f"the field {field_name!r} of route {name!r}", _ROUTE_TYPES, protective=_PROTECTIVE_FIELDS
            )
            continue
        if type(value) is not kind or value == "":
            raise ConfigurationError(
                f"{field_name} of route {name!r} is {value!r}",
                hint=_HINTS.get(kind, "Write a text that is not empty."),
            )
        if field_name == "match":
            values |= _parse_match(value, name)
            continue
        values["root" if field_name == "path" else field_name] = Root.parse(value) if field_name == "path" else value
    # What is encrypted must not be readable in the database either.
    if values.get("encryption_key", _NO_KEY) != _NO_KEY:
        values = {"threshold_bytes": 0, "preview_chars": 0, **values}
    if values.get("retention") and (values.get("state") or values.get("asset")):
        raise ConfigurationError(
            f"Route {name!r} is for the state store and has a retention",
            hint="Airflow's own settings say how long state is kept: [state_store] default_retention_days.",
        )
    return Route(**values)


def _parse_match(fields: dict[str, Any], name: str) -> dict[str, Any]:
    kinds: dict[str, type] = {"state": bool, "asset": str}
    for field_name, value in fields.items():
        if type(value) is not kinds.get(field_name) or value == "":
            raise ConfigurationError(
                f"{field_name!r} in the match of route {name!r} is unknown, or cannot be {value!r}",
                hint=f"{_MATCH_HINT} If it is of a newer release, upgrade xcargo on this worker.",
            )
    return fields


_MATCH_HINT = 'Write an object with "state" (true or false), "asset" (a pattern) or both.'
_HINTS: dict[object, str] = {int: "Write a whole number.", dict: _MATCH_HINT}

_PROTECTIVE_FIELDS = ("encryption_key", "match")
"""Fields without which values are stored elsewhere or less safely."""

_ROUTE_TYPES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("name", "team", "dag", "task", "key", "path", "compression", "encryption_key", "retention"), str),
    **dict.fromkeys(("threshold_bytes", "preview_chars", "max_size_bytes", "warn_size_bytes"), int),
    "match": dict,
}
