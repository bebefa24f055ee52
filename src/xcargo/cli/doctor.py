"""``xcargo doctor``: checks every step of the set-up, in the environment it runs in."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from xcargo.cli.command import JSON, Argument, Command, Example, ExitCode, at_least
from xcargo.errors import ConfigurationError, XCargoError

if TYPE_CHECKING:
    from xcargo.cli.checks import Finding
    from xcargo.cli.checks.environment import Setting
    from xcargo.cli.command import Output
    from xcargo.model.root import Root
    from xcargo.model.settings import Route, Settings
    from xcargo.stores.base import Limits

__all__ = ["COMMANDS", "examine"]

_MARKS = {"ok": ("✓", "green"), "skipped": ("-", "dim"), "warning": ("!", "yellow"), "failed": ("✗", "red")}


def examine(*, timeout_seconds: float = 10.0, large: bool = True) -> Iterator[Finding]:
    """All checks of this process's own Airflow, each finding as it is made, in the order in which one rests on another.

    Writes a few objects below the configured path and deletes them again; ``large`` adds 20 MiB in parts. Also what a
    health Dag calls.
    """
    from xcargo.airflow import load_backend
    from xcargo.cli import deployment

    conf, version = deployment.airflow()
    with contextlib.suppress(Exception):  # what fails here is a finding of the check of the backend
        load_backend()
    from xcargo.airflow.config import read_settings
    from xcargo.cli.checks import Status, environment, failure
    from xcargo.stores.base import Limits

    yield environment.process()
    yield environment.airflow_version(version)
    yield environment.backend(conf)
    yield from environment.variables(os.environ)
    try:
        settings = read_settings(conf)
    except XCargoError as error:
        yield failure("settings.valid", error)
        return
    yield from environment.options(conf)
    yield environment.threshold(settings)
    compression = environment.compression(settings)
    yield compression
    yield environment.objects_path(settings)
    limits = Limits.from_settings(
        settings,
        timeout_seconds=min(timeout_seconds, settings.timeout_seconds),
        max_concurrency=settings.max_concurrency,
    )
    if settings.root is not None:
        is_usable = compression.status is Status.OK
        for finding in _root(settings.root, conf, limits, large=large):
            is_usable = is_usable and finding.status is not Status.FAILED and finding.name != "store"
            yield finding
        if is_usable:
            yield _round_trip(settings)
    for route in settings.routes:
        if route.root is not None and route.root != settings.root:
            yield from _route(route, list(_root(route.root, conf, limits, large=False)))
    for root in (*settings.read_roots, *(legacy.root for legacy in settings.legacy_roots)):
        yield from _read_root(root, limits)


def _root(root: Root, conf: Any, limits: Limits, *, large: bool) -> Iterator[Finding]:
    """A root that is written to: its connection, its endpoint, and every verb of its store."""
    from xcargo.cli.checks import Finding, Status, connection, environment, store

    resolved, access = connection.resolve(root)
    yield resolved
    if access is None:
        yield Finding("store", Status.SKIPPED, "The store was not checked: there is no usable connection")
        return
    if root.scheme == "file":
        yield store.folder_space(root)
        yield environment.shared_folder(conf, store.network_mount(root))
    url = connection.endpoint_of(root, access)
    if url is not None:
        yield connection.credentials(access)
        reached, skew = connection.reach(url, access, timeout_seconds=limits.timeout_seconds)
        yield reached
        if reached.status is Status.FAILED:
            yield Finding("store", Status.SKIPPED, "The store was not checked: its endpoint does not answer")
            return
        yield connection.clock(skew)
    yield from store.exercise(root, access, limits, large=large)


def _route(route: Route, findings: list[Finding]) -> Iterator[Finding]:
    """What is not fine with a route's store, or that all is."""
    from xcargo.cli.checks import Status, ok

    name = f"route.{route.name}"
    problems = [finding for finding in findings if finding.status in (Status.WARNING, Status.FAILED)]
    for finding in problems:
        yield replace(finding, name=name, what=f"{finding.what} (route {route.name!r})")
    if not problems:
        yield ok(name, f"Objects of route {route.name!r} go to {route.root}, whose store does what is asked")


def _read_root(root: Root, limits: Limits) -> Iterator[Finding]:
    """A root that is only read."""
    from xcargo.cli.checks import connection, store

    resolved, access = connection.resolve(root)
    yield replace(resolved, what=f"{resolved.what} (for {root})")
    if access is not None:
        yield store.readable(root, access, limits)


def _round_trip(settings: Settings) -> Finding:
    """Push, pull and purge a value as a task does, codecs of other packages included."""
    from xcargo.airflow.connections import access_of
    from xcargo.cli.checks import failed, failure, ok
    from xcargo.cli.deployment import get_connection
    from xcargo.codecs import Registry
    from xcargo.lifecycle.plan import scratch_coordinate
    from xcargo.model.envelope import is_envelope
    from xcargo.pipeline.pipeline import Pipeline
    from xcargo.stores import StorePool

    name = "value.round-trip"
    value = {"text": "abc" * 1000, "pair": (1, 2)}
    stores = StorePool(lambda root: access_of(root, get_connection))
    try:
        pipeline = Pipeline(replace(settings, threshold_bytes=0), Registry(), stores)
        row = pipeline.push(value, scratch_coordinate("doctor", "round-trip"))
        pulled = pipeline.pull(row) if is_envelope(row) else row
        pipeline.purge(row)
    except XCargoError as error:
        return failure(name, error)
    if pulled != value:
        return failed(name, "A value came back changed", fix="Please report it.")
    return ok(name, "A value was pushed, pulled and purged")


# --- the command -----------------------------------------------------------------------------------------------------


def _run(args: argparse.Namespace, out: Output) -> ExitCode:
    from xcargo.cli.checks import Status, worst

    findings: list[Finding] = []
    with out.progress("Checking") as advance:
        for finding in examine(timeout_seconds=args.timeout, large=not args.quick):
            findings.append(finding)
            advance(label=finding.name)
    overall = worst(findings)
    if out.json:
        settings = [vars(s) for s in _settings()]
        out.print_json({"status": overall, "findings": findings, "settings": settings})
    else:
        _show(findings, out)
        if args.settings:
            out.say()
            out.table(("option", "value", "set by"), [(s.option, s.value, s.origin) for s in _settings()])
        out.say()
        _sum_up(findings, out)
    is_bad = overall is Status.FAILED or (args.strict and overall is Status.WARNING)
    return ExitCode.PROBLEMS if is_bad else ExitCode.OK


def _settings() -> list[Setting]:
    from xcargo.airflow.config import read_settings
    from xcargo.cli import deployment
    from xcargo.cli.checks.environment import effective

    conf, _ = deployment.airflow()
    try:
        return effective(conf, read_settings(conf))
    except ConfigurationError:  # which is among the findings
        return []


def _show(findings: list[Finding], out: Output) -> None:
    group = ""
    for finding in findings:
        start = finding.name.partition(".")[0]
        if start != group:
            group = start
            out.say(group.capitalize(), style="bold")
        mark, style = _MARKS[finding.status]
        latency = "" if finding.milliseconds is None else f" ({finding.milliseconds:,.1f} ms)"
        out.marked(f"  {mark} ", style, f"{finding.what}{latency}")
        if finding.fix and finding.status in ("warning", "failed"):
            out.marked("    → ", style, finding.fix)


def _sum_up(findings: list[Finding], out: Output) -> None:
    failed, warned = (sum(f.status == status for f in findings) for status in ("failed", "warning"))
    if failed:
        out.say(f"{failed} of {len(findings)} checks failed{f', {warned} warn' if warned else ''}.", style="bold red")
    elif warned:
        out.say(f"No check failed, {warned} of {len(findings)} warn.", style="bold yellow")
    else:
        out.say(f"All {len(findings)} checks are fine.", style="bold green")


COMMANDS = (
    Command(
        name="doctor",
        help="check the setup here: settings, connection, credentials, store",
        description="Checks, in the environment where you run it, that the backend loads, that settings mean what "
        "they should, that the connection provides credentials, and that the store handles every kind of request. "
        "Writes a few objects below the configured path and deletes them again. Run it once on each component: "
        "worker, scheduler, API server, triggerer. Exits with 1 if a check failed.",
        run=_run,
        arguments=(
            JSON,
            Argument("--settings", action="store_true", help="also show every option, its value and where it was set"),
            Argument("--quick", action="store_true", help="skip the 20 MiB that test multipart transfers"),
            Argument("--strict", action="store_true", help="exit with 1 on warnings too"),
            Argument(
                "--timeout", type=at_least(1), default=10, metavar="SECONDS", help="for one request (default: 10)"
            ),
        ),
        examples=(
            Example("doctor", "run all checks; each problem comes with a fix"),
            Example("doctor --quick --strict", "as a health check in a container"),
            Example("doctor --json | jq '.findings[] | select(.status==\"failed\")'", "the problems, for a program"),
        ),
    ),
)
