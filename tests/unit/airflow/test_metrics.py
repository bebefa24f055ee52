"""Retries are counted where metrics are on: a real server behind a proxy that fails once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.receivers import Statsd
from tests.servers import Fault, FaultProxy, Server

PUSH = """
from airflow.sdk.execution_time.xcom import XCom
XCom.serialize_value("x" * 20_000, key="k", dag_id="d", run_id="r", task_id="t", map_index=-1)
"""


def test_a_request_that_is_repeated_is_counted(s3_server: Server, tmp_path: Path) -> None:
    """The store answers 503 to the first put: one retry, one value offloaded, no error."""
    with Statsd() as statsd, FaultProxy(s3_server.endpoint) as proxy:
        proxy.add(Fault("status", method="PUT", status=503, times=1))
        server = s3_server.via(proxy.url)
        environ = {
            **os.environ,
            **server.env(),
            **statsd.env(),
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend",
            "AIRFLOW__XCARGO__PATH": f"{server.root}/metrics",
            "PYTHONWARNINGS": "ignore",
        }
        initialised = "import airflow.settings; airflow.settings.initialize()\n"
        done = subprocess.run(
            [sys.executable, "-c", initialised + PUSH], env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        counters = statsd.counters()
    assert counters["xcargo.retry.put"] == 1
    assert counters["xcargo.push.offloaded"] == 1
    assert counters["xcargo.push.errors"] == 0
