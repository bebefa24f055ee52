"""The doctor as a process of its own, in an Airflow of its own."""

from __future__ import annotations

from pathlib import Path

from tests.unit.cli.kit import environment, xcargo


def test_the_command_prints_json_and_ends_with_1_on_a_failure(tmp_path: Path) -> None:
    """Findings, settings with who set them, exit code; standard output is JSON alone."""
    env = environment(tmp_path, AIRFLOW__XCARGO__PATH=tmp_path.as_uri(), AIRFLOW__XCARGO__THRESHOLD_BYTES="-1")
    done = xcargo("doctor", "--json", env=env)
    assert done.code == 1, done.err
    assert done.json["status"] == "failed"
    assert [f["name"] for f in done.json["findings"] if f["status"] == "failed"] == ["settings.threshold"]
    origins = {s["option"]: s["origin"] for s in done.json["settings"]}
    assert origins["threshold_bytes"] == "variable AIRFLOW__XCARGO__THRESHOLD_BYTES"
    assert origins["compression"] == "default"
