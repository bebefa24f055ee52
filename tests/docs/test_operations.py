"""Dashboard, alerts and the page on them hold the names that the code sends, and expressions that give something."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.test_docs import DOCS, ROOT, codes, rows, section
from tests.servers import debian
from xcargo.airflow.metrics import METRICS
from xcargo.errors import ErrorKind

OPERATIONS = ROOT / "examples" / "operations"
DASHBOARD = json.loads((OPERATIONS / "grafana-dashboard.json").read_text("utf-8"))
ALERTS = yaml.safe_load((OPERATIONS / "prometheus-alerts.yml").read_text("utf-8"))["groups"][0]["rules"]
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


@pytest.fixture(scope="module")
def promtool() -> str:
    """Prometheus' own tool."""
    found = debian.program("promtool", package="prometheus")
    if found is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    return str(found)


def counters() -> set[str]:
    """Names as they stand in Prometheus, without what a timer adds."""
    found = set()
    for name in METRICS:
        kinds = [*map(str, ErrorKind), "other"] if name.endswith("KIND") else [""]
        verbs = ["put", "get", "head", "delete", "list", "hedge"] if name.endswith("VERB") else [""]
        found |= {
            "airflow_xcargo_" + name.replace("KIND", kind).replace("VERB", verb).replace(".", "_")
            for kind in kinds
            for verb in verbs
        }
    return found


def names(expression: str) -> set[str]:
    """Our names in an expression, without what a timer or an exporter adds."""
    found = re.findall(r"airflow_xcargo_\w+", expression)
    return {re.sub(r"(_duration)(_milliseconds)?(_sum|_count)?$", r"\1", name) for name in found}


def test_the_page_has_every_metric() -> None:
    """Name and meaning of each, as the code has them."""
    table = {codes(row[0])[0]: row for row in rows(section(DOCS / "operations.md", "Metrics"))}
    table = {name: row for name, row in table.items() if name in METRICS or row[1] in ("counter", "timer")}
    assert list(table) == list(METRICS)
    for name, (_, kind, what) in table.items():
        assert re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", what) == METRICS[name]
        assert kind == ("timer" if name.endswith("duration") else "counter")


def test_the_page_has_every_alert() -> None:
    """By its name."""
    table = [codes(row[0])[0] for row in rows(section(DOCS / "operations.md", "Dashboard and alerts"))]
    assert [name for name in table if name.startswith("XCargo")] == [rule["alert"] for rule in ALERTS]


def test_dashboard_and_alerts_ask_for_what_is_sent() -> None:
    """No expression names a metric that the code never sends; every alert says what it is and how bad."""
    used = set().union(*map(names, [*EXPRESSIONS, *(rule["expr"] for rule in ALERTS)]))
    assert used <= counters()
    for rule in ALERTS:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description"}


def test_the_alerts_fire_when_they_should(promtool: str) -> None:
    """Prometheus' own tool runs the tests beside them."""
    done = subprocess.run(
        [promtool, "test", "rules", "prometheus-alerts_test.yml"],
        cwd=OPERATIONS, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_grafanas_own_model_takes_the_whole_dashboard() -> None:
    """Read and written again by Grafana's SDK, which drops the fields that Grafana does not know, nothing is lost."""
    pytest.importorskip("grafana_foundation_sdk", reason="Grafana's SDK needs Python 3.11")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARD)))
    assert list(lost(DASHBOARD, again)) == []
    assert list(lost({**DASHBOARD, "titel": "x"}, again)) == [".titel"]


def lost(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """The places of a JSON document that are missing or different in another one; that may hold more."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name, value in before.items():
            yield from lost(value, after.get(name), f"{where}.{name}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for n, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from lost(one, other, f"{where}[{n}]")
    elif before != after:
        yield where


@pytest.mark.parametrize("otel", [False, True], ids=["statsd", "otel"])
def test_every_expression_of_the_dashboard_gives_something(promtool: str, otel: bool, tmp_path: Path) -> None:
    """Prometheus' own engine evaluates each over growing series, spelt as either exporter spells them."""
    series = []
    for name in sorted(counters()):
        if name.endswith("_duration"):
            start = f"{name}_milliseconds" if otel else name
            series += [f"{start}_sum", f"{start}_count", *([] if otel else [f'{name}{{quantile="0.99"}}'])]
        else:
            series.append(f"{name}_total" if otel else name)
    expressions = [e for e in EXPRESSIONS if not (otel and "quantile" in e)]
    tests: list[dict[str, Any]] = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": "0+60x60"} for name in series],
            "promql_expr_test": [
                {
                    "expr": f"count({re.sub(r'[$]__(rate_interval|range)', '5m', expression)})",
                    "eval_time": "50m",
                    "exp_samples": [{"labels": "{}", "value": 1}],
                }
                for expression in expressions
            ],
        }
    ]
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"rule_files": [], "tests": tests}))
    done = subprocess.run(
        [promtool, "test", "rules", str(tmp_path / "test.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
