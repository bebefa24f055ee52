"""Run the probe on each Airflow and between versions of libraries, and write the tables of docs/types.md.

python -m tests.roundtrips                     everything, then the tables
python -m tests.roundtrips airflow|libraries   one of the two
python -m tests.roundtrips tables              only the tables, of what was found before
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from itertools import product
from typing import Any

from tests.matrix.environments import CHECKOUT, clean_environ, find_uv, make
from tests.matrix.interpreters import find_interpreter
from tests.matrix.releases import select

from .examples import PAGE
from .probe import NOT_THERE
from .table import LIBRARIES, RESULTS, VERSIONS, page

ENVIRONMENTS = {
    "lowest": ["pandas==2.1.*", "numpy==1.26.*", "pyarrow==14.*", "polars==1.32.*"],
    "middle": ["pandas==2.3.*", "numpy>=2", "pyarrow==18.*", "polars>=1.32,<2"],
    "newest": ["pandas>=3", "numpy>=2", "pyarrow", "polars"],
}
"""Versions of libraries between which values are carried, each way."""
EXAMPLES_NEED = ["attrs", "pendulum>=3", "pydantic>=2", "python-dateutil>=2.9", "pytz"]


def main(arguments: list[str]) -> None:
    """Run the command."""
    if not arguments or "airflow" in arguments:
        for release in select(list(VERSIONS)):
            interpreter = find_interpreter(release)
            if interpreter is None:
                sys.exit(f"Airflow {release.airflow} needs Python {release.pythons}")
            print(f"Airflow {release.airflow} ...", flush=True)
            python = str(make(release, interpreter))
            outcomes = {backend: carried(backend, python, python) for backend in ("xcargo", "common_io")}
            kinds = {kind: {name: found[kind] for name, found in outcomes.items()} for kind in outcomes["xcargo"]}
            (RESULTS / f"{release.airflow}.json").write_text(json.dumps(kinds, indent=1) + "\n", "utf-8")
    if not arguments or "libraries" in arguments:
        LIBRARIES.write_text(json.dumps(between_libraries(), indent=1) + "\n", "utf-8")
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")


def between_libraries() -> dict[str, dict[str, Any]]:
    """The versions of each environment, and type -> "writer → reader" -> what came back if that was not exact."""
    pythons, versions = {}, {}
    for name, requirements in ENVIRONMENTS.items():
        print(f"Libraries: {name} ...", flush=True)
        environment = CHECKOUT / ".matrix" / f"libraries-{name}"
        pythons[name] = python = str(environment / "bin" / "python")
        uv = [*find_uv(), "--quiet"]
        subprocess.run([*uv, "venv", "--allow-existing", "--python", sys.executable, environment], check=True)
        install = [*uv, "pip", "install", "--python", python, "--editable", f"{CHECKOUT}[numpy,arrow,pandas,polars]"]
        subprocess.run([*install, *EXAMPLES_NEED, *requirements], check=True)
        show = "from importlib.metadata import version\n"
        show += "print(*(f'{name} {version(name)}' for name in ('pandas', 'numpy', 'pyarrow', 'polars')), sep=', ')"
        done = subprocess.run([python, "-c", show], check=True, stdout=subprocess.PIPE, text=True)
        versions[name] = done.stdout.strip()
    changes: dict[str, dict[str, str]] = {}
    for writer, reader in product(ENVIRONMENTS, repeat=2):
        for kind, places in carried("pipeline", pythons[writer], pythons[reader]).items():
            different = set(places.values()) - {"exact", NOT_THERE}
            if different:
                changes.setdefault(kind, {})[f"{writer} → {reader}"] = " / ".join(sorted(different))
    return {"versions": versions, "changes": changes}


def carried(
    backend: str, writer: str, reader: str, places: tuple[str, ...] = ("row", "object")
) -> dict[str, dict[str, str]]:
    """Type -> place -> what came back. ``writer`` and ``reader`` are the Pythons of the two processes."""
    outcomes: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as home:
        for place in places:
            for verb, python in (("push", writer), ("pull", reader)):
                command = [python, "-W", "ignore", "-m", "tests.roundtrips.probe", verb, backend, place, home]
                environ = clean_environ() | {"PYTHONPATH": str(CHECKOUT)}
                done = subprocess.run(command, cwd=CHECKOUT, env=environ, stdout=subprocess.PIPE, check=True, text=True)
            for kind, found in json.loads(done.stdout.splitlines()[-1]).items():
                outcomes.setdefault(kind, {}).update(found)
    return outcomes


if __name__ == "__main__":
    main(sys.argv[1:])
