"""Each check against forged rows, taken out: the tests of it must fail then, or they prove nothing."""

from __future__ import annotations

import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from unittest.mock import patch

import pytest

from xcargo.model.keys import Signer
from xcargo.model.root import Root
from xcargo.model.settings import Settings
from xcargo.pipeline.pipeline import Pipeline

FOLDER = Path(__file__).parent
pull = Pipeline.pull

TAKEN_OUT: dict[str, tuple[AbstractContextManager[object], str]] = {
    "signature": (
        patch.object(Signer, "verify", lambda self, row: None),
        "test_signing.py::test_no_field_can_be_changed_removed_or_added",
    ),
    "Dag": (
        patch.object(Pipeline, "pull", lambda self, row, dag_id=None: pull(self, row)),
        "test_signing.py::test_a_row_of_one_dag_never_serves_another",
    ),
    "root": (
        patch.object(Settings, "root_of", lambda self, uri: Root.parse(uri[:-4])),
        "test_pipeline.py::test_a_forged_reference_is_refused_before_anything_is_asked",
    ),
    "team": (
        patch.object(Settings, "teams_of", lambda self, root: frozenset()),
        "test_routes.py::test_a_teams_objects_are_closed_to_other_teams",
    ),
}


def test_without_a_check_its_test_fails() -> None:
    """Each in turn, in a process of their own; with all checks in place none of those tests fails."""
    command = [sys.executable, "-m", "tests.unit.test_checks_matter"]
    done = subprocess.run(command, cwd=FOLDER.parents[1], capture_output=True, text=True, check=False)
    results = done.stdout.splitlines()[-1:]
    assert results == ["none: 0, signature: 1, Dag: 1, root: 1, team: 1"], done.stdout[-3000:] + done.stderr[-1000:]


def run(*tests: str) -> int:
    """The exit code of pytest: 1 if a test failed, others if it could not be run."""
    return int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *(f"{FOLDER}/{test}" for test in tests)]))


if __name__ == "__main__":
    codes = {"none": run(*(test for _, test in TAKEN_OUT.values()))}
    for check, (without, test) in TAKEN_OUT.items():
        with without:
            codes[check] = run(test)
    print(", ".join(f"{check}: {code}" for check, code in codes.items()))
