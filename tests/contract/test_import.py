"""Every Airflow process imports the backend: it must cost next to nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from .generation import AIRFLOW_2

RESOLVE = "airflow.models.xcom" if AIRFLOW_2 else "airflow.sdk.execution_time.xcom"
HEAVY = ("obstore", "fsspec", "numpy", "pyarrow", "pandas", "polars", "boto3", "google.cloud.storage", "azure")

LEAVES = {"blake3", "ormsgpack"}
"""Native modules of a few milliseconds that start no thread: loaded once, before Airflow forks its tasks."""

LIST_MODULES = """
import json, sys
before = set(sys.modules)
{statements}
print("MODULES", json.dumps(sorted(set(sys.modules) - before)))
"""


def modules_after(*statements: str, backend: str | None = None) -> set[str]:
    """Modules that the statements load in a fresh process."""
    environ = dict(os.environ)
    environ.pop("AIRFLOW__CORE__XCOM_BACKEND")
    if backend:
        environ["AIRFLOW__CORE__XCOM_BACKEND"] = backend
    script = LIST_MODULES.format(statements="\n".join(statements))
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("MODULES ")]
    return set(json.loads(line.partition(" ")[2]))


def foreign(modules: set[str]) -> set[str]:
    """Those that are neither ours nor the standard library's."""
    roots = {name.partition(".")[0] for name in modules}
    return {root for root in roots if root != "xcargo" and root not in sys.stdlib_module_names}


@pytest.mark.parametrize("statements", [("import airflow",), ("import airflow", f"import {RESOLVE}")])
def test_backend_adds_only_itself(statements: tuple[str, ...]) -> None:
    """Importing Airflow and resolving the XCom class adds us and our two leaves to what the stock backend loads."""
    stock = modules_after(*statements)
    ours = modules_after(*statements, backend="xcargo.XComBackend")
    added = ours - stock
    assert [name for name in sorted(added) if name.startswith(HEAVY)] == []
    assert foreign(added) <= {"airflow", *LEAVES}


def test_resolving_loads_our_backend() -> None:
    """The comparison above compares something: the backend module is loaded when the XCom class is resolved."""
    assert "xcargo.airflow.backend" in modules_after(f"import {RESOLVE}", backend="xcargo.XComBackend")


@pytest.mark.parametrize("module", ["xcargo", "xcargo.airflow.provider_info"])
def test_package_and_provider_info_load_only_the_standard_library(module: str) -> None:
    """Provider discovery runs while Airflow reads its configuration: these modules import nothing foreign."""
    loaded = modules_after(f"import {module}")
    assert module in loaded
    assert foreign(loaded) == set()
