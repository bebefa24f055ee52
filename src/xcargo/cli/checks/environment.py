"""Does this very environment have what the backend needs: Airflow, the class, settings that mean what they should."""

from __future__ import annotations

import difflib
import importlib
import os
import platform
import re
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import xcargo
from xcargo.airflow import compat
from xcargo.airflow.config import runs_on_one_machine, unknown_options
from xcargo.airflow.provider_info import OPTIONS, SECTION
from xcargo.cli.checks import Finding, failed, failure, ok, warning
from xcargo.errors import XCargoError
from xcargo.model.settings import Settings
from xcargo.model.unknown_names import nearest

__all__ = [
    "Setting",
    "airflow_version",
    "backend",
    "compression",
    "effective",
    "misspelt",
    "objects_path",
    "options",
    "process",
    "shared_folder",
    "threshold",
    "variables",
]

_CLASS = "xcargo.XComBackend"
_LARGE_ROW_BYTES = 1024 * 1024
_COMMON_IO = {
    "path": "xcom_objectstorage_path",
    "threshold_bytes": "xcom_objectstorage_threshold",
    "compression": "xcom_objectstorage_compression",
}
"""Options of ours -> those of the provider common.io that stand in for them."""


def process() -> Finding:
    """Which process of which machine this is: every component has an environment of its own."""
    home = os.environ.get("AIRFLOW_HOME", "~/airflow")
    return ok(
        "environment.place",
        f"xcargo {xcargo.__version__} on host {socket.gethostname()}, uid {os.geteuid()}, "
        f"Python {platform.python_version()} at {sys.executable}, AIRFLOW_HOME {home}",
    )


def airflow_version(version: str) -> Finding:
    """Whether this Airflow is one that xcargo works with."""
    name = "environment.airflow"
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if numbers < (2, 9, 2):
        return failed(name, f"Airflow {version} is too old", fix="xcargo needs Airflow 2.9.2 or later.")
    return ok(name, f"Airflow {version}")


def backend(conf: Any) -> Finding:
    """Whether the setting names our class, and the class loads here."""
    name = "environment.backend"
    chosen = str(conf.get("core", "xcom_backend", fallback=""))
    if chosen != _CLASS:
        what = f"[core] xcom_backend is {chosen}" if chosen else "[core] xcom_backend is not set"
        if _is_subclass_of_ours(chosen):
            return ok(name, f"{what}, which is a class of ours")
        fix = f"Set AIRFLOW__CORE__XCOM_BACKEND={_CLASS} on every component, and restart them."
        return failed(name, f"{what}: XComs do not go through xcargo here", fix=fix)
    try:
        module = xcargo.XComBackend.__module__
    except (Exception, SystemExit) as error:
        return failed(
            name,
            f"{_CLASS} does not load here: {type(error).__name__}: {error}",
            fix="Install airflow-provider-xcargo into this environment as on the other components.",
        )
    return ok(name, f"[core] xcom_backend is {_CLASS}, and it loads ({module})")


def _is_subclass_of_ours(path: str) -> bool:
    """Whether a class path names a subclass of our backend, as some deployments have one."""
    module, _, attribute = path.rpartition(".")
    if not module:
        return False
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except Exception:
        return False
    return isinstance(cls, type) and issubclass(cls, xcargo.XComBackend)


# --- settings --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """An option as it counts in this process, and who said so."""

    option: str
    value: str
    origin: str


def effective(conf: Any, settings: Settings) -> list[Setting]:
    """Every option with the value that counts and its origin: a variable, the file, a fallback or the default."""
    shown = {
        "path": str(settings.root) if settings.root else "none",
        "read_paths": ", ".join(map(str, settings.read_roots)) or "none",
        "legacy_references": ", ".join(f"{legacy.prefix} = {legacy.root}" for legacy in settings.legacy_roots)
        or "none",
        "routes": ", ".join(route.name for route in settings.routes) or "none",
        "signing_key": ", ".join(key.name for key in settings.signing_keys) or "none",
        "encryption_keys": ", ".join(key.name for key in settings.encryption_keys) or "none",
    }
    return [
        Setting(option, shown.get(option) or str(getattr(settings, option)), _origin(conf, option))
        for option in OPTIONS
    ]


def _origin(conf: Any, option: str) -> str:
    for section, name in ((SECTION, option), ("common.io", _COMMON_IO.get(option, ""))):
        if not name:
            continue
        variable = f"AIRFLOW__{section.replace('.', '_').upper()}__{name.upper()}"
        for suffix in ("", "_cmd", "_secret"):  # a command that prints the value, a key in a secrets backend
            if os.environ.get(f"{variable}{suffix.upper()}"):
                return f"variable {variable}{suffix.upper()}"
            # What the file itself holds; what Airflow adds of its own, such as a threshold of -1, is no user's word.
            added = ("",) if section == SECTION else ("", "-1")
            if f"{name}{suffix}" in compat.options_in_file(conf, section) and conf.get(section, name) not in added:
                return f"airflow.cfg [{section}] {name}{suffix}"
    return "default"


def options(conf: Any) -> Iterator[Finding]:
    """Whether every option that is set exists."""
    name, unknown = "settings.valid", unknown_options(conf)
    for source, option in unknown.items():
        meant = nearest(option, OPTIONS)
        fix = f"Did you mean {meant!r}?" if meant else f"Known options: {', '.join(OPTIONS)}."
        yield failed(name, f"xcargo {xcargo.__version__} has no option for {source}", fix=fix)
    if not unknown:
        yield ok(name, "Every option is known and has a usable value")


def threshold(settings: Settings) -> Finding:
    """Whether the threshold lets values go to object storage at all."""
    name, size = "settings.threshold", settings.threshold_bytes
    if size < 0:
        return failed(
            name,
            "threshold_bytes is -1: nothing is offloaded, every value goes into the metadata database",
            fix="Set AIRFLOW__XCARGO__THRESHOLD_BYTES=1024 (or 0 to offload every value).",
        )
    if size > _LARGE_ROW_BYTES:
        return warning(
            name,
            f"threshold_bytes is {size:,}: values of up to that size stand in the metadata database",
            fix="Rows this large slow down the database and the API server; 1024 to 65536 serve most deployments.",
        )
    return ok(name, "Every value is offloaded" if size == 0 else f"Values above {size:,} bytes offload")


def compression(settings: Settings) -> Finding:
    """Whether the configured compression is one of ours."""
    from xcargo.transfer.compression import canonical

    name = "settings.compression"
    try:
        return ok(name, f"Compression {canonical(settings.compression)!r} is installed")
    except XCargoError as error:
        return failure(name, error)


def objects_path(settings: Settings) -> Finding:
    """Whether it is configured where objects go."""
    name = "settings.path"
    if settings.root is None:
        return failed(
            name,
            f"It is not configured where objects go: {settings.no_root_reason}",
            fix="Set AIRFLOW__XCARGO__PATH on every component, for example to s3://my_aws_conn@my-bucket/xcom.",
        )
    return ok(name, f"Objects go to {settings.root}")


def shared_folder(conf: Any, mount: str | None) -> Finding:
    """For a local folder: whether all tasks see the same one. ``mount`` is the kind of network mount it is on."""
    name, executor = "folder.shared", str(conf.get("core", "executor"))
    if runs_on_one_machine(conf):
        return ok(name, f"{executor} runs tasks on this machine only")
    if mount:
        return ok(name, f"{executor} runs tasks on several machines; the folder is on {mount}")
    return failed(
        name,
        f"{executor} runs tasks on several machines, but the folder is on a disk of this one",
        fix="Mount one shared file system (NFS, EFS, CephFS) at this path on every worker, or use a bucket.",
    )


# --- variables -------------------------------------------------------------------------------------------------------

_RIGHT = (
    *(f"AIRFLOW__{SECTION.upper()}__{option.upper()}" for option in OPTIONS),
    *(f"AIRFLOW__COMMON_IO__{option.upper()}" for option in _COMMON_IO.values()),
    "AIRFLOW__CORE__XCOM_BACKEND",
)
_CONCERNS_US = re.compile(r"xcargo|xcom_?(objectstorage|object_storage|backend)|common[._]?io", re.IGNORECASE)
_NEAR = 0.84
"""So alike is a name that misses an underscore, doubles a letter, or has a dot for an underscore."""


def variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Names each variable that looks like one of ours and has no effect."""
    name, wrong = "settings.variables", misspelt(environ)
    for variable, right in wrong.items():
        yield failed(name, f"The variable {variable} has no effect", fix=f"Did you mean {right}? Rename it.")
    if not wrong:
        yield ok(name, "No variable looks like a misspelt one of ours")


def misspelt(names: Iterable[str]) -> dict[str, str]:
    """Name of a variable without effect -> the likely right name.

    Looks at what begins like a variable of Airflow, or forgot to, and concerns us; other applications' names are left
    alone.
    """
    by_bare = {_bare(name): name for name in _RIGHT}
    wrong = {}
    for name in names:
        if not _CONCERNS_US.search(name) or _has_effect(name):
            continue
        right = by_bare.get(_bare(name))
        if right is None and re.match(r"_*AIRFLOW|XCARGO_", name, re.IGNORECASE):
            right = next(iter(difflib.get_close_matches(name.upper(), _RIGHT, n=1, cutoff=_NEAR)), None)
        if right is not None:
            wrong[name] = right
    return wrong


def _has_effect(name: str) -> bool:
    """Whether a name has an effect, or another check says that it has none: settings refuse an unknown option."""
    ours = (f"AIRFLOW__{SECTION.upper()}__", "AIRFLOW_CONN_", "AIRFLOW_VAR_", "AIRFLOW__COMMON_IO__STATE_STORE_")
    return name.startswith(ours) or name.removesuffix("_CMD").removesuffix("_SECRET") in _RIGHT


def _bare(name: str) -> str:
    """A name without what people get wrong most: case, dots, how many underscores, the word Airflow."""
    return re.sub(r"[^a-z0-9]", "", name.lower()).removeprefix("airflow")
