"""The Airflow home and the variables under which the contract tests and all their subprocesses run."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DAGS", "THRESHOLD_BYTES", "Place", "settle"]

DAGS = Path(__file__).parent / "dags"
THRESHOLD_BYTES = 100


@dataclass(frozen=True)
class Place:
    """Where one run of the tests keeps what it makes."""

    home: Path

    @property
    def root(self) -> Path:
        """Folder of the objects."""
        return self.home / "objects"

    @property
    def database(self) -> Path:
        """The metadata database."""
        return self.home / "airflow.db"

    @property
    def database_then(self) -> Path:
        """A copy of it as the contract Dags left it; other tests go on changing the rows."""
        return self.home / "then.db"

    def remove(self) -> None:
        """Delete everything."""
        shutil.rmtree(self.home, ignore_errors=True)


def settle() -> Place:
    """Make a fresh home and point this process to it. To be called before Airflow is imported."""
    for name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
        del os.environ[name]
    place = Place(Path(tempfile.mkdtemp(prefix="xcargo-contract-")).resolve())
    place.root.mkdir()
    os.environ |= {
        "AIRFLOW_HOME": str(place.home),
        "AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES": "airflow.* contract_values.* tests.roundtrips.examples.*",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{place.database}",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW__XCARGO__PATH": place.root.as_uri(),
        "AIRFLOW__XCARGO__THRESHOLD_BYTES": str(THRESHOLD_BYTES),
        "PYTHONPATH": os.pathsep.join(map(str, (DAGS, DAGS.parents[2]))),
        "PYTHONWARNINGS": "ignore",
        "SCARF_ANALYTICS": "false",
    }
    return place
