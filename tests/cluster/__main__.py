"""Run the tests of a cluster, in the environment that they need.

python -m tests.cluster                   all of them
python -m tests.cluster -k killed         arguments go to pytest
python -m tests.cluster --soak 600        instead: ten minutes of everything at once, under faults
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

from tests.matrix.environments import CHECKOUT, clean_environ, make
from tests.matrix.interpreters import find_interpreter
from tests.matrix.releases import select
from tests.servers.s3 import PACKAGE

REQUIREMENTS = (
    "apache-airflow-providers-celery",
    "apache-airflow-providers-edge3",
    "asyncpg",
    "boto3",
    "celery<5.7",
    "joblib",
    "psutil",
    "redis",
    PACKAGE,
)


def main(arguments: list[str]) -> int:
    """Run pytest or the soak; returns its exit status."""
    (release,) = select(["3.3"])
    interpreter = find_interpreter(release)
    if interpreter is None:
        print(f"Airflow {release.airflow} needs Python {release.pythons}", file=sys.stderr)
        return 1
    python = make(replace(release, pins=(*release.pins, *REQUIREMENTS), label="-cluster"), interpreter)
    soak = arguments[:1] == ["--soak"]
    work = ["tests.cluster.soak", *arguments[1:]] if soak else ["pytest", "tests/cluster", *arguments]
    return subprocess.run([python, "-m", *work], cwd=CHECKOUT, env=clean_environ(), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
