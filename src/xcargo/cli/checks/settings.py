"""What is set, where it was set, and whether it makes sense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xcargo.airflow import compat
from xcargo.airflow.config import runs_on_one_machine, unknown_options
from xcargo.airflow.provider_info import OPTIONS, SECTION
from xcargo.cli.checks.finding import Finding, Status
from xcargo.model.settings import Settings

__all__ = ["Setting", "effective", "executor", "names", "threshold", "where_objects_go"]

_FALLBACKS = {
    "path": "xcom_objectstorage_path",
    "threshold_bytes": "xcom_objectstorage_threshold",
    "compression": "xcom_objectstorage_compression",
}
_LARGE_ROW_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Setting:
    """An option as it counts in this process, and who said so."""

    option: str
    value: str
    origin: str


def effective(conf: Any, settings: Settings, environ: Mapping[str, str]) -> Iterator[Setting]:
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
    for option in OPTIONS:
        value = shown.get(option) or str(getattr(settings, option))
        yield Setting(option, value, _origin(conf, option, environ))


def _origin(conf: Any, option: str, environ: Mapping[str, str]) -> str:
    for section, name in ((SECTION, option), ("common.io", _FALLBACKS.get(option, ""))):
        variable = f"AIRFLOW__{section.replace('.', '_').upper()}__{name.upper()}"
        if name and environ.get(variable):
            return f"variable {variable}"
        # What the file itself holds; what Airflow adds of its own is no user's word.
        if name and name in compat.options_in_file(conf, section) and conf.get(section, name):
            return f"airflow.cfg [{section}] {name}"
    return "default"


def names(conf: Any) -> Iterator[Finding]:
    """Whether every option that is set exists."""
    unknown = unknown_options(conf)
    for source, nearest in unknown.items():
        fix = f"Did you mean {nearest!r}?" if nearest else f"Known options: {', '.join(OPTIONS)}."
        yield Finding("settings.valid", Status.FAILED, f"There is no option for {source}", fix)
    if not unknown:
        yield Finding("settings.valid", Status.OK, "Every option is known and has a usable value")


def threshold(settings: Settings) -> Finding:
    """Whether the threshold lets values go to object storage at all."""
    name, size = "settings.threshold", settings.threshold_bytes
    if size < 0:
        return Finding(
            name,
            Status.FAILED,
            "threshold_bytes is -1: nothing is offloaded, every value goes into the metadata database",
            "Set AIRFLOW__XCARGO__THRESHOLD_BYTES=1024 (or 0 to offload every value).",
        )
    if size > _LARGE_ROW_BYTES:
        return Finding(
            name,
            Status.WARNING,
            f"threshold_bytes is {size:,}: values of up to that size stand in the metadata database",
            "Rows this large slow down the database and the API server; 1024 to 65536 serve most deployments.",
        )
    return Finding(name, Status.OK, "Every value is offloaded" if size == 0 else f"Values above {size:,} bytes offload")


def where_objects_go(settings: Settings) -> Finding:
    """Whether there is a place for objects."""
    name = "settings.path"
    if settings.root is None:
        return Finding(
            name,
            Status.FAILED,
            f"There is no place for objects: {settings.no_root_reason}",
            "Set AIRFLOW__XCARGO__PATH on every component, for example to s3://my_aws_conn@my-bucket/xcom.",
        )
    return Finding(name, Status.OK, f"Objects go to {settings.root}")


def executor(conf: Any, settings: Settings, shared: str | None) -> Finding | None:
    """For a local folder: whether all tasks see the same one. ``shared`` is the kind of network mount it lies on."""
    if settings.root is None or settings.root.scheme != "file":
        return None
    name, chosen = "folder.shared", str(conf.get("core", "executor"))
    if runs_on_one_machine(conf):
        return Finding(name, Status.OK, f"{chosen} runs tasks on this machine only")
    if shared:
        return Finding(name, Status.OK, f"{chosen} runs tasks on several machines; the folder is on {shared}")
    return Finding(
        name,
        Status.FAILED,
        f"{chosen} runs tasks on several machines, but the folder is on a disk of this one",
        "Mount one shared file system (NFS, EFS, CephFS) at this path on every worker, or use a bucket.",
    )
