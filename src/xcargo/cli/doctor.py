"""``xcargo doctor``: checks every step of the set-up, in the environment it runs in."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from xcargo.cli.command import JSON, Argument, Command, Example, ExitCode
from xcargo.cli.output import Output

if TYPE_CHECKING:
    from xcargo.cli.checks import Finding
    from xcargo.cli.checks.settings import Setting

__all__ = ["COMMAND", "examine"]

_MARKS = {"ok": ("✓", "green"), "skipped": ("-", "dim"), "warning": ("!", "yellow"), "failed": ("✗", "red")}


def examine(*, timeout_seconds: float = 10.0, large: bool = True) -> Iterator[Finding]:
    """The findings for this process's own Airflow. Also what a health Dag calls."""
    from xcargo.cli import deployment
    from xcargo.cli.checks import diagnose

    conf, version = deployment.airflow()
    yield from diagnose(
        conf,
        os.environ,
        deployment.get_connection,
        airflow_version=version,
        timeout_seconds=timeout_seconds,
        large=large,
    )


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
    bad = overall is Status.FAILED or (args.strict and overall is Status.WARNING)
    return ExitCode.PROBLEMS if bad else ExitCode.OK


def _settings() -> list[Setting]:
    from xcargo.airflow.config import read_settings
    from xcargo.cli import deployment
    from xcargo.cli.checks.settings import effective
    from xcargo.errors import ConfigurationError

    conf, _ = deployment.airflow()
    try:
        return list(effective(conf, read_settings(conf), os.environ))
    except ConfigurationError:  # the findings tell it
        return []


def _show(findings: list[Finding], out: Output) -> None:
    group = ""
    for finding in findings:
        start = finding.name.partition(".")[0]
        if start != group:
            group = start
            out.say(group.capitalize(), style="bold")
        mark, style = _MARKS[finding.status]
        took = "" if finding.milliseconds is None else f" ({finding.milliseconds:,.1f} ms)"
        out.marked(f"  {mark} ", style, f"{finding.what}{took}")
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


COMMAND = Command(
    name="doctor",
    help="check the set-up here: settings, connection, credentials, store",
    description="Checks, in the very environment it runs in, that the backend loads, that settings mean what they "
    "should, that the connection gives credentials, and that the store does what is asked of it, one request after "
    "another. Writes a few objects below the configured path and deletes them again. Run it once on each component: "
    "worker, scheduler, API server, triggerer. Ends with 1 when a check failed.",
    run=_run,
    arguments=(
        JSON,
        Argument("--settings", action="store_true", help="also show every option, its value and who set it"),
        Argument("--quick", action="store_true", help="leave out the 20 MiB that show that parts work"),
        Argument("--strict", action="store_true", help="end with 1 on warnings too"),
        Argument("--timeout", type=float, default=10.0, metavar="SECONDS", help="for one request (default: 10)"),
    ),
    examples=(
        Example("doctor", "all checks, with what to do about each problem"),
        Example("doctor --quick --strict", "as a health check in a container"),
        Example("doctor --json | jq '.findings[] | select(.status==\"failed\")'", "the problems, for a program"),
    ),
)
