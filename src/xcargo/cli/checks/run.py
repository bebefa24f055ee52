"""All checks in the order in which one rests on another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from xcargo.airflow.config import read_settings
from xcargo.airflow.connections import access_of
from xcargo.cli.checks import connection, environment, folder, settings, store
from xcargo.cli.checks.finding import Finding, Status, failure
from xcargo.errors import XCargoError
from xcargo.model.coordinate import Coordinate
from xcargo.model.root import Root
from xcargo.model.routes import Route
from xcargo.model.settings import Settings
from xcargo.stores.base import Limits

__all__ = ["diagnose"]


def diagnose(
    conf: Any,
    environ: Mapping[str, str],
    get_connection: Callable[[str], Any],
    *,
    airflow_version: str,
    timeout_seconds: float = 10.0,
    large: bool = True,
) -> Iterator[Finding]:
    """Look at everything, and give each finding as it is made.

    ``conf`` is Airflow's configuration. Writes below ``.xcargo-doctor`` of the configured path, and deletes it again;
    ``large`` adds 20 MiB in parts.
    """
    yield environment.place()
    yield environment.airflow_version(airflow_version)
    yield environment.backend(conf)
    yield from environment.variables(environ)
    try:
        found = read_settings(conf)
    except XCargoError as error:
        yield failure("settings.valid", error)
        return
    yield from settings.names(conf)
    yield settings.threshold(found)
    compression = environment.compression(found.compression)
    yield compression
    yield settings.where_objects_go(found)
    limits = Limits.from_settings(
        found,
        timeout_seconds=min(timeout_seconds, found.timeout_seconds),
        max_concurrency=found.max_concurrency,
    )
    if found.root is not None:
        usable = compression.status is Status.OK
        for finding in _root(conf, found, found.root, get_connection, environ, limits, large=large):
            usable = usable and finding.status is not Status.FAILED and finding.name != "store"
            yield finding
        if usable:
            yield _round_trip(found, get_connection)
    for route in found.routes:
        if route.root is not None and route.root != found.root:
            there = replace(found, root=route.root)
            findings = _root(conf, there, route.root, get_connection, environ, limits, large=False)
            yield from _of_route(route, findings)
    for root in (*found.read_roots, *(legacy.root for legacy in found.legacy_roots)):
        resolved, access = connection.resolve(root, get_connection, environ)
        yield replace(resolved, what=f"{resolved.what} (for {root})")
        if access is not None:
            yield store.readable(root, access, limits)


def _root(
    conf: Any,
    found: Settings,
    root: Root,
    get_connection: Callable[[str], Any],
    environ: Mapping[str, str],
    limits: Limits,
    *,
    large: bool,
) -> Iterator[Finding]:
    resolved, access = connection.resolve(root, get_connection, environ)
    yield resolved
    if access is None:
        yield Finding("store", Status.SKIPPED, "The store was not asked: there is no usable connection")
        return
    if root.scheme == "file":
        yield folder.room(root)
        shared = settings.executor(conf, found, folder.shared_mount(root))
        if shared is not None:
            yield shared
    url = connection.endpoint_of(root, access)
    if url is not None:
        yield connection.credentials(access)
        reached, skew = connection.reach(url, access, limits.timeout_seconds)
        yield reached
        if reached.status is Status.FAILED:
            yield Finding("store", Status.SKIPPED, "The store was not asked: its endpoint does not answer")
            return
        yield connection.clock(skew)
    yield from store.exercise(root, access, limits, large=large)


def _of_route(route: Route, findings: Iterable[Finding]) -> Iterator[Finding]:
    """What is not fine with a route's store, or that all is."""
    name, wrong = f"route.{route.name}", False
    for finding in findings:
        if finding.status in (Status.WARNING, Status.FAILED):
            wrong = True
            yield replace(finding, name=name, what=f"{finding.what} (route {route.name!r})")
    if not wrong:
        yield Finding(name, Status.OK, f"Objects of route {route.name!r} go to {route.root}, which does what is asked")


def _round_trip(found: Settings, get_connection: Callable[[str], Any]) -> Finding:
    """Push, pull and purge a value as a task does, codecs of other packages included."""
    from xcargo.codecs import Registry
    from xcargo.model.envelope import is_envelope
    from xcargo.pipeline.pipeline import Pipeline
    from xcargo.stores.pool import StorePool

    name = "value.round-trip"
    value = {"text": "abc" * 1000, "pair": (1, 2)}
    try:
        pipeline = Pipeline(
            replace(found, threshold_bytes=0), Registry(), StorePool(lambda root: access_of(root, get_connection))
        )
        row = pipeline.push(value, Coordinate(store.FOLDER, "run", "task", "return_value"))
        back = pipeline.pull(row) if is_envelope(row) else row
        pipeline.purge(row)
    except XCargoError as error:
        return failure(name, error)
    if back != value:
        return Finding(name, Status.FAILED, "A value came back changed", "Please report it.")
    return Finding(name, Status.OK, "A value was pushed, pulled and purged")
