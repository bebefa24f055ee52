"""Values between versions of Python, pandas and numpy: pushed by one, pulled by the other, in both directions."""

from __future__ import annotations

import subprocess

import pytest

from tests.matrix.environments import CHECKOUT, find_uv
from tests.matrix.interpreters import find_minor
from tests.roundtrips.__main__ import EXAMPLES_NEED, carried
from tests.roundtrips.probe import NOT_THERE

SAME = ["pyarrow==21.*", "polars==1.35.*"]
ENVIRONMENTS = {
    "python-3.10": ((3, 10), ["pandas==2.3.*", "numpy==2.2.*"]),
    "python-3.13": ((3, 13), ["pandas==2.3.*", "numpy==2.2.*"]),
    "pandas-2": ((3, 11), ["pandas==2.3.*", "numpy==2.3.*"]),
    "pandas-3": ((3, 11), ["pandas==3.*", "numpy==2.3.*"]),
    "numpy-1": ((3, 11), ["pandas==2.3.*", "numpy==1.26.*"]),
    "numpy-2": ((3, 11), ["pandas==2.3.*", "numpy==2.3.*"]),
}


def environment(name: str) -> str:
    """The Python of an environment with xcargo and these libraries."""
    minor, libraries = ENVIRONMENTS[name]
    interpreter = find_minor(minor)
    if interpreter is None:
        pytest.skip(f"this machine has no Python {minor}")
    folder = CHECKOUT / ".matrix" / name
    uv = [*find_uv(), "--quiet"]
    subprocess.run([*uv, "venv", "--allow-existing", "--python", interpreter.path, folder], check=True)
    python = str(folder / "bin" / "python")
    install = [*uv, "pip", "install", "--python", python, "--editable", f"{CHECKOUT}[numpy,arrow,pandas,polars]"]
    subprocess.run([*install, *EXAMPLES_NEED, *SAME, *libraries], check=True)
    return python


@pytest.mark.parametrize(
    ("older", "newer", "not_exact"),
    [
        ("python-3.10", "python-3.13", set()),
        ("pandas-2", "pandas-3", set()),
        ("numpy-1", "numpy-2", {"`StringDType`"}),  # which numpy 1 has not; the pull says so
    ],
)
def test_every_example_of_the_types_page_is_exact_between_versions(older: str, newer: str, not_exact: set[str]) -> None:
    """In the row and as an object, alone and inside other values."""
    pythons = {name: environment(name) for name in (older, newer)}
    for writer, reader in ((older, newer), (newer, older)):
        found = carried("pipeline", pythons[writer], pythons[reader])
        assert len(found) > 50
        changed = {kind: places for kind, places in found.items() if set(places.values()) - {"exact", NOT_THERE}}
        assert changed.keys() <= not_exact, (writer, reader, changed)
        outcomes = {outcome for places in changed.values() for outcome in places.values()}
        assert outcomes <= {"pull fails: MissingDependencyError"}
