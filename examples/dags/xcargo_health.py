"""Once a day: are settings, connection, credentials and store still right, as seen from where tasks run?"""

from __future__ import annotations

import logging
from datetime import datetime, timezone

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

log = logging.getLogger(__name__)


@dag(
    schedule="@daily",
    start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    tags=["xcargo", "health"],
)
def xcargo_health() -> None:
    @task
    def examine() -> dict[str, str]:
        """Log every finding; fail when one is red. The result is a small XCom: check -> status."""
        from xcargo.cli.checks import Status, worst
        from xcargo.cli.doctor import examine

        findings = list(examine(large=False))
        levels = {Status.FAILED: logging.ERROR, Status.WARNING: logging.WARNING}
        for finding in findings:
            log.log(levels.get(finding.status, logging.INFO), "%s: %s. %s", finding.name, finding.what, finding.fix)
        if worst(findings) is Status.FAILED:
            names = [finding.name for finding in findings if finding.status is Status.FAILED]
            raise RuntimeError(f"xcargo needs attention: {', '.join(names)}")
        return {finding.name: str(finding.status) for finding in findings}

    examine()


xcargo_health()
