"""What ``xcargo doctor`` looks at: pure results, apart from how they are shown."""

from xcargo.cli.checks.finding import Finding, Status, worst
from xcargo.cli.checks.run import diagnose

__all__ = ["Finding", "Status", "diagnose", "worst"]
