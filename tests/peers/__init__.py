"""Values that other projects wrote to test themselves, pushed in one process and pulled in another: ``make peers``."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["pipeline"]


def pipeline() -> Any:
    """The pipeline of a deployment that admits every class. Values stay in their rows."""
    os.environ["AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES"] = "*"
    from xcargo.airflow.runtime import open_pipeline
    from xcargo.model.root import Root
    from xcargo.model.settings import Settings

    return open_pipeline(Settings(Root.parse("memory://peers/xcom"), threshold_bytes=2**30, strict_types=True))
