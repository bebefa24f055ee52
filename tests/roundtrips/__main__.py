"""Run the probe on each Airflow of the table, keep what it found, and write the table of docs/types.md.

python -m tests.roundtrips              all releases, then the table
python -m tests.roundtrips --table      only the table, of what was found before
"""

from __future__ import annotations

import json
import subprocess
import sys

from tests.matrix.environments import CHECKOUT, clean_environ, make
from tests.matrix.interpreters import find_interpreter
from tests.matrix.releases import select

from .examples import PAGE
from .table import RESULTS, VERSIONS, page


def main(arguments: list[str]) -> None:
    """Run the command."""
    for release in select(list(VERSIONS)) if "--table" not in arguments else []:
        interpreter = find_interpreter(release)
        if interpreter is None:
            sys.exit(f"Airflow {release.airflow} needs Python {release.pythons}")
        print(f"Airflow {release.airflow} ...", flush=True)
        python = str(make(release, interpreter))
        found: dict[str, dict[str, dict[str, str]]] = {}
        for backend in ("xcargo", "common_io"):
            for place in ("row", "object"):
                command = [python, "-W", "ignore", "-m", "tests.roundtrips.probe", backend, place]
                environ = clean_environ() | {"PYTHONPATH": str(CHECKOUT)}
                done = subprocess.run(command, cwd=CHECKOUT, env=environ, stdout=subprocess.PIPE, check=True, text=True)
                for kind, outcomes in json.loads(done.stdout.splitlines()[-1]).items():
                    found.setdefault(kind, {}).setdefault(backend, {}).update(outcomes)
        (RESULTS / f"{release.airflow}.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
