"""Run the probe on each Airflow and between versions of libraries, and write the tables of docs/types.md.

python -m tests.roundtrips                     everything, then the tables
python -m tests.roundtrips airflow|libraries   one of the two
python -m tests.roundtrips tables              only the tables, of what was found before
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.matrix.environments import CHECKOUT, clean_environ, find_uv, make
from tests.matrix.interpreters import find_interpreter
from tests.matrix.releases import select

from .examples import PAGE
from .probe import BACKENDS, NOT_THERE, read_rows
from .table import FORMER, LIBRARIES, RESULTS, VERSIONS, page

ENVIRONMENTS = {
    "lowest": [
        *("pandas==2.1.*", "numpy==1.26.*", "pyarrow==14.*", "polars==1.32.*", "scipy==1.11.*", "xarray==2024.10.*"),
        *("pillow==10.*", "scikit-learn==1.4.*", "skops==0.13.*", "sqlalchemy==1.4.*"),
    ],
    "middle": [
        *("pandas==2.3.*", "numpy>=2", "pyarrow==18.*", "polars>=1.32,<2", "scipy==1.14.*", "xarray==2025.4.*"),
        *("pillow==11.*", "scikit-learn==1.6.*", "skops", "sqlalchemy==2.0.*"),
    ],
    "newest": [
        *("pandas>=3", "numpy>=2", "pyarrow", "polars", "scipy", "xarray"),
        *("pillow", "scikit-learn", "skops", "sqlalchemy"),
    ],
}
"""Versions of libraries between which values are carried, each way."""
EXAMPLES_NEED = [
    *("attrs", "google-cloud-bigquery", "pendulum>=3", "pillow", "pydantic>=2", "python-dateutil>=2.9", "pytz"),
    *("scikit-learn", "scipy", "skops", "sqlalchemy", "xarray"),
]
PLACES = ("row", "object")


def main(arguments: list[str]) -> None:
    """Run the command."""
    if not arguments or "airflow" in arguments:
        for release in select(list(VERSIONS)):
            interpreter = find_interpreter(release)
            if interpreter is None:
                sys.exit(f"Airflow {release.airflow} needs Python {release.pythons}")
            print(f"Airflow {release.airflow} ...", flush=True)
            python = str(make(release, interpreter))
            install = [*find_uv(), "--quiet", "pip", "install", "--python", python, "google-cloud-bigquery"]
            subprocess.run(install, env=clean_environ(), check=True)
            outcomes = {backend: carried(backend, python, python) for backend in BACKENDS}
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
        names = [re.split("[=<>]", requirement)[0] for requirement in requirements]
        show = "import sys, importlib.metadata as m; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep=', ')"
        done = subprocess.run([python, "-c", show, *names], check=True, stdout=subprocess.PIPE, text=True)
        versions[name] = done.stdout.strip()
    changes: dict[str, dict[str, str]] = {}
    for writer in ENVIRONMENTS:
        with tempfile.TemporaryDirectory() as home:
            push("pipeline", home, python=pythons[writer], places=("row",))
            if writer == "lowest":
                FORMER.write_text(json.dumps(_in_rows(home), indent=1) + "\n", "utf-8")
            for reader in ENVIRONMENTS:
                for kind, places in pull("pipeline", home, python=pythons[reader], places=("row",)).items():
                    different = set(places.values()) - {"exact", NOT_THERE}
                    if different:
                        changes.setdefault(kind, {})[f"{writer} → {reader}"] = " / ".join(sorted(different))
    return {"versions": versions, "changes": changes}


def _in_rows(home: str) -> dict[str, dict[str, Any]]:
    """Type -> row, of those that need no object."""
    pushed = {kind: places["row"] for kind, places in read_rows(Path(home), "pipeline", "row").items()}
    return {kind: one for kind, one in pushed.items() if "row" in one and home not in json.dumps(one)}


def carried(backend: str, writer: str, reader: str) -> dict[str, dict[str, str]]:
    """Type -> place -> what came back. ``writer`` and ``reader`` are the Pythons of the two processes."""
    with tempfile.TemporaryDirectory() as home:
        push(backend, home, python=writer)
        return pull(backend, home, python=reader)


def push(backend: str, home: str, *, python: str, places: tuple[str, ...] = PLACES) -> None:
    """Push every example, to rows and objects below ``home``."""
    for place in places:
        _probe(python, "push", backend, place, home)


def pull(backend: str, home: str, *, python: str, places: tuple[str, ...] = PLACES) -> dict[str, dict[str, str]]:
    """Type -> place -> what came back of what was pushed."""
    outcomes: dict[str, dict[str, str]] = {}
    for place in places:
        for kind, found in json.loads(_probe(python, "pull", backend, place, home).splitlines()[-1]).items():
            outcomes.setdefault(kind, {}).update(found)
    return outcomes


def _probe(python: str, *arguments: str) -> str:
    command = [python, "-W", "ignore", "-m", "tests.roundtrips.probe", *arguments]
    environ = clean_environ() | {"PYTHONPATH": str(CHECKOUT)}
    return subprocess.run(command, cwd=CHECKOUT, env=environ, stdout=subprocess.PIPE, check=True, text=True).stdout


if __name__ == "__main__":
    main(sys.argv[1:])
