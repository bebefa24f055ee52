"""Classes that the file of a Dag defines, in processes that have loaded it as tasks do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .conftest import HERE, run

OWN, OTHER = "etl/own_classes_dag.py", "other_dag.py"
CLASSES = ["Order", "Order.Line", "Colour", "Parcel", "Invoice"]  # of the named tuple, an equal one is made
VARIABLE = "AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES"


class Bundle:
    """Copies of the same Dags, each in a folder of its own."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._row = home / "row.json"

    def version(self, name: str) -> Path:
        """The folder of a copy."""
        return Path(shutil.copytree(HERE / "bundle" / "dags", self._home / name, dirs_exist_ok=True))

    def run(self, version: str, file: str, task_id: str, *, allowed: str = "airflow.*") -> str:
        """Run a task; its log, or the error that fails it."""
        folder = str(self.version(version))
        done = run(
            str(HERE / "run_own_classes.py"),
            *(folder, file, task_id, str(self._row)),
            env={"AIRFLOW__CORE__DAGS_FOLDER": folder, VARIABLE: allowed},
        )
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle whose first version has pushed."""
    bundle = Bundle(tmp_path_factory.mktemp("bundle"))
    log = bundle.run("1", OWN, "give")
    assert "Traceback" not in log, log
    assert "may not be rebuilt" not in log
    return bundle


@pytest.mark.parametrize("version", ["1", "2"])
def test_classes_of_the_dag_come_back_without_a_setting(bundle: Bundle, version: str) -> None:
    """In another process, from the folder of another version too: those of its file and of a module beside it."""
    log = bundle.run(version, OWN, "take")
    assert "Traceback" not in log, log


def test_a_dag_of_another_file_is_told_what_to_allow(bundle: Bundle) -> None:
    """All classes at once, by names that last; with that setting it reads the value from any version."""
    log = bundle.run("2", OTHER, "take")
    names = [f"etl.own_classes_dag.{name}" for name in CLASSES] + ["own_models.Address"]
    (hint,) = {line for line in log.splitlines() if "may not be rebuilt" in line}
    allowed = hint.partition(f"{VARIABLE}='")[2].partition("'")[0]
    assert sorted(allowed.split()) == sorted(["airflow.*", *names])
    log = bundle.run("1", OTHER, "take", allowed=allowed)
    assert "Traceback" not in log, log
