"""Run the tests of a cluster, in the environment that they need.

python -m tests.cluster                   all of them
python -m tests.cluster -k killed         arguments go to pytest
python -m tests.cluster --soak 600        instead: ten minutes of everything at once, under faults
python -m tests.cluster --pace            instead: how long a Dag of mapped tasks takes with each backend
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
    "apache-airflow-providers-amazon[s3fs]",
    "apache-airflow-providers-celery>=3.20",  # else a resolver may take an old one, for the sake of a new redis
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
    """Run pytest, the soak or the measurement of pace; returns its exit status."""
    (release,) = select(["3.3"])
    interpreter = find_interpreter(release)
    if interpreter is None:
        print(f"Airflow {release.airflow} needs Python {release.pythons}", file=sys.stderr)
        return 1
    python = make(replace(release, pins=(*release.pins, *REQUIREMENTS), label="-cluster"), interpreter)
    own = {"--soak": "tests.cluster.soak", "--pace": "tests.cluster.pace"}.get("".join(arguments[:1]))
    work = [own, *arguments[1:]] if own else ["pytest", "tests/cluster", *arguments]
    return subprocess.run([python, "-m", *work], cwd=CHECKOUT, env=clean_environ(), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
