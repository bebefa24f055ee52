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
import importlib, json, sys
before = set(sys.modules)
for name in sys.argv[1:]:
    importlib.import_module(name)
    print("MODULES", json.dumps(sorted(set(sys.modules) - before)))
"""


def modules_after(*names: str, backend: str | None = None) -> list[set[str]]:
    """Modules that are loaded after each of these imports in a fresh process."""
    environ = dict(os.environ)
    environ.pop("AIRFLOW__CORE__XCOM_BACKEND")
    if backend:
        environ["AIRFLOW__CORE__XCOM_BACKEND"] = backend
    command = [sys.executable, "-c", LIST_MODULES, *names]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [line.partition(" ")[2] for line in done.stdout.splitlines() if line.startswith("MODULES ")]
    return [set(json.loads(line)) for line in found]


def foreign(modules: set[str]) -> set[str]:
    """Those that are neither ours nor the standard library's."""
    roots = {name.partition(".")[0] for name in modules}
    return {root for root in roots if root != "xcargo" and root not in sys.stdlib_module_names}


def test_backend_adds_only_itself() -> None:
    """Importing Airflow and resolving the XCom class adds us and our two leaves to what the stock backend loads."""
    stock = modules_after("airflow", RESOLVE)
    ours = modules_after("airflow", RESOLVE, backend="xcargo.XComBackend")
    for with_ours, without in zip(ours, stock, strict=True):
        added = with_ours - without
        assert [name for name in sorted(added) if name.startswith(HEAVY)] == []
        assert foreign(added) <= {"airflow", *LEAVES}
    assert "xcargo.airflow.backend" in ours[-1], "otherwise nothing was compared"


@pytest.mark.parametrize("module", ["xcargo", "xcargo.airflow.provider_info"])
def test_package_and_provider_info_load_only_the_standard_library(module: str) -> None:
    """Provider discovery runs while Airflow reads its configuration: these modules import nothing foreign."""
    (loaded,) = modules_after(module)
    assert module in loaded
    assert foreign(loaded) == set()
