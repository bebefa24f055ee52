"""Does this very environment have what the backend needs: Airflow, the class, the packages."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import xcargo
from xcargo.cli.checks.finding import Finding, Status, failure
from xcargo.cli.checks.variables import misspelt
from xcargo.errors import XCargoError

__all__ = ["airflow_version", "backend", "place", "variables"]

_CLASS = "xcargo.XComBackend"


def place() -> Finding:
    """Where the doctor stands: every component has to be asked for itself."""
    home = os.environ.get("AIRFLOW_HOME", "~/airflow")
    return Finding(
        "environment.place",
        Status.OK,
        f"xcargo {xcargo.__version__} on host {socket.gethostname()}, uid {os.geteuid()}, "
        f"Python {platform.python_version()} at {sys.executable}, AIRFLOW_HOME {home}",
    )


def airflow_version(version: str) -> Finding:
    """Whether this Airflow is one that xcargo works with."""
    name = "environment.airflow"
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if numbers < (2, 9, 2):
        return Finding(name, Status.FAILED, f"Airflow {version} is too old", "xcargo needs Airflow 2.9.2 or later.")
    return Finding(name, Status.OK, f"Airflow {version}")


def backend(conf: Any) -> Finding:
    """Whether the setting names our class, and the class loads here."""
    name = "environment.backend"
    chosen = str(conf.get("core", "xcom_backend", fallback=""))
    if chosen != _CLASS:
        what = f"[core] xcom_backend is {chosen}" if chosen else "[core] xcom_backend is not set"
        if not _is_ours(chosen):
            fix = f"Set AIRFLOW__CORE__XCOM_BACKEND={_CLASS} on every component, and restart them."
            return Finding(name, Status.FAILED, f"{what}: XComs do not go through xcargo here", fix)
        return Finding(name, Status.OK, f"{what}, which is a class of ours")
    try:
        found = xcargo.XComBackend
    except (Exception, SystemExit) as error:
        return Finding(
            name,
            Status.FAILED,
            f"{_CLASS} does not load here: {type(error).__name__}: {error}",
            "Install airflow-provider-xcargo into this environment as on the other components.",
        )
    return Finding(name, Status.OK, f"[core] xcom_backend is {_CLASS}, and it loads ({found.__module__})")


def _is_ours(path: str) -> bool:
    """Whether a class path names a subclass of our backend, as some deployments have one."""
    module, _, attribute = path.rpartition(".")
    if not module:
        return False
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception:
        return False
    return isinstance(found, type) and issubclass(found, xcargo.XComBackend)


def variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Names a variable that was meant for us and has no effect."""
    wrong = misspelt(environ)
    for name, meant in wrong.items():
        yield Finding(
            "settings.variables",
            Status.FAILED,
            f"The variable {name} has no effect",
            f"Did you mean {meant}? Rename it.",
        )
    if not wrong:
        yield Finding("settings.variables", Status.OK, "No variable looks like a misspelt one of ours")


def _missing(*modules: str) -> list[str]:
    return [module for module in modules if importlib.util.find_spec(module) is None]


def compression(name: str) -> Finding:
    """Whether the configured compression is one of ours."""
    from xcargo.transfer.compression import canonical

    check = "settings.compression"
    try:
        return Finding(check, Status.OK, f"Compression {canonical(name)!r} is at hand")
    except XCargoError as error:
        return failure(check, error)
