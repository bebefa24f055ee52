"""Each check against forged rows, taken out: the tests of it must fail then, or they prove nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]

TAKEN_OUT = {
    "signature": (
        "from xcargo.model.signing import Signer as c; c.verify = lambda self, row: None",
        "test_signing.py::test_no_field_can_be_changed_removed_or_added",
    ),
    "Dag": (
        "from xcargo.pipeline.pipeline import Pipeline as c\nf = c.pull; c.pull = lambda s, row, _=None: f(s, row)",
        "test_signing.py::test_a_row_of_one_dag_never_serves_another",
    ),
    "root": (
        "from xcargo.model.settings import Root, Settings as c; c.root_of = lambda _, uri: Root.parse(uri[:-4])",
        "test_pipeline.py::test_a_forged_reference_is_refused_before_anything_is_asked",
    ),
    "team": (
        "from xcargo.model.settings import Settings as c; c.teams_of = lambda self, root: frozenset()",
        "test_routes.py::test_a_teams_objects_are_closed_to_other_teams",
    ),
}


@pytest.mark.parametrize("check", TAKEN_OUT)
def test_without_a_check_its_test_fails(check: str) -> None:
    """In a process of its own, in which the check is taken out."""
    change, test = TAKEN_OUT[check]
    arguments = ["-q", "-x", "-p", "no:cacheprovider", f"tests/unit/{test}"]
    code = f"import sys, pytest\n{change}\nsys.exit(pytest.main({arguments!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-1000:]
    assert "\n1 failed" in done.stdout
