"""Who is measured: XCom backends by name, and the environment in which Airflow uses each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["BACKENDS", "RAW", "environment", "zygote_of"]

BACKENDS: Mapping[str, str | None] = {
    "database": None,
    "common-io": "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend",
    "xcargo": "xcargo.XComBackend",
}
RAW = ("obstore", "boto3", "socket", "file")
"""Clients without a backend around them; they run in the process of the database backend."""


def zygote_of(subject: str) -> str:
    """The backend in whose process a subject is measured."""
    return "database" if subject in RAW else subject


def environment(subject: str, root: str, home: Path) -> dict[str, str]:
    """Airflow's settings for a backend whose every value goes to the store below ``root``.

    ``xcargo@PATH`` is the xcargo whose package lies in the folder PATH.
    """
    name, _, source = subject.partition("@")
    backend = BACKENDS[name]
    values = {
        "AIRFLOW_HOME": str(home / subject.replace("/", "_")),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"{root}/common-io",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "0",
        "AIRFLOW__COMMON_IO__STATE_STORE_OBJECTSTORAGE_PATH": f"{root}/common-io-state",
        "AIRFLOW__XCARGO__PATH": f"{root}/xcargo",
        "AIRFLOW__XCARGO__THRESHOLD_BYTES": "0",
    }
    if backend:
        values["AIRFLOW__CORE__XCOM_BACKEND"] = backend
    if source:
        values["PYTHONPATH"] = str(Path(source).resolve())
    return values
