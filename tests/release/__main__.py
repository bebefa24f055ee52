"""Try the wheel and the source distribution in `dist/`, each in an empty environment of every supported Python.

    python -m tests.release             all Pythons that this machine has; the newest with Airflow too
    python -m tests.release --airflow   with Airflow on each of them

Exits with 1 when anything failed. A Python that this machine does not have is named and left out.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

from tests.matrix.environments import CHECKOUT, clean_environ, find_uv
from tests.matrix.interpreters import Interpreter, find_minor

PYTHONS = ((3, 10), (3, 11), (3, 12), (3, 13), (3, 14))
AIRFLOW = "apache-airflow==3.3.2"
DIST = CHECKOUT / "dist"

ROUND_TRIP = """
import datetime, pathlib, sys
import xcargo
heavy = {"airflow", "numpy", "pandas", "pyarrow", "polars", "fsspec", "obstore"} & set(sys.modules)
assert not heavy, heavy
from xcargo.codecs import Registry
from xcargo.model.coordinate import Coordinate
from xcargo.pipeline.pipeline import Pipeline
from xcargo.model.root import Root
from xcargo.model.settings import Settings
from xcargo.stores import Access, StorePool
root = Root.parse(pathlib.Path(sys.argv[1]).as_uri())
pipeline = Pipeline(Settings(root=root, threshold_bytes=0), Registry(), StorePool(lambda _: Access()))
value = {"when": datetime.date(2026, 1, 1), "pair": (1, 2), 3: b"bytes" * 1000}
row = pipeline.push(value, Coordinate("d", "r", "t", "k"))
assert row["uri"].startswith("file://"), row
assert pipeline.pull(row) == value
assert pipeline.purge(row)
"""


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit status."""
    (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    problems = [*_contents(wheel, sdist), *_metadata(wheel, sdist)]
    found = [(minor, find_minor(minor)) for minor in PYTHONS]
    with_airflow = [minor for minor, python in found if python][0 if "--airflow" in arguments else -1 :]
    for minor, python in found:
        name = f"Python {minor[0]}.{minor[1]}"
        if python is None:
            print(f"{name}: left out, this machine does not have it")
            continue
        started = time.monotonic()
        try:
            done = _try(python, wheel, sdist if minor == PYTHONS[0] else None, airflow=minor in with_airflow)
        except subprocess.CalledProcessError as error:
            problems.append(f"{name}: {error.cmd[:4]} ended with {error.returncode}:\n{error.stdout}{error.stderr}")
            continue
        print(f"{name}: {', '.join(done)} ({time.monotonic() - started:.0f} s)")
    print(*problems, sep="\n", end="\n" if problems else "")
    return bool(problems)


def _contents(wheel: Path, sdist: Path) -> Iterator[str]:
    """What is missing in the archives, or too much."""
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {path.relative_to(CHECKOUT / "src").as_posix() for path in (CHECKOUT / "src/xcargo").rglob("*.*")}
    sources = {name for name in sources if "__pycache__" not in name and (CHECKOUT / "src" / name).is_file()}
    for name in sorted(sources - names):
        yield f"{wheel.name} lacks {name}"
    for name in sorted(name for name in names if not name.startswith(("xcargo/", "airflow_provider_xcargo-"))):
        yield f"{wheel.name} has {name}"
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "src/xcargo/py.typed", "docs/index.md"):
        if name not in held:
            yield f"{sdist.name} lacks {name}"


def _metadata(wheel: Path, sdist: Path) -> Iterator[str]:
    """What PyPI or Airflow would not find."""
    with zipfile.ZipFile(wheel) as archive:
        (place,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        told = message_from_bytes(archive.read(place))
        points = archive.read(place.replace("METADATA", "entry_points.txt")).decode()
    readme = told.get_payload()
    assert isinstance(readme, str)
    for target in re.findall(r"\]\(([^)\s]+)\)", readme):
        if not target.startswith(("https://", "#")):
            yield f"the README on PyPI would link to {target}"
    for group in ("apache_airflow_provider", "console_scripts"):
        if f"[{group}]" not in points:
            yield f"{wheel.name} has no entry point {group}"
    if not {f"Programming Language :: Python :: {a}.{b}" for a, b in PYTHONS} <= set(told.get_all("Classifier", [])):
        yield "a supported Python is missing among the classifiers"
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        yield done.stdout + done.stderr


def _try(python: Interpreter, wheel: Path, sdist: Path | None, *, airflow: bool) -> list[str]:
    """Install and use; what was shown to work."""
    shown = []
    for archive in filter(None, (wheel, sdist)):
        with tempfile.TemporaryDirectory(prefix="xcargo-release-") as folder:
            environment = Path(folder) / "venv"
            uv("venv", "--python", python.path, str(environment))
            install = ("pip", "install", "--python", str(environment / "bin" / "python"))
            uv(*install, str(archive))
            run(environment, "python", "-I", "-c", ROUND_TRIP, str(Path(folder) / "objects"))
            assert json.loads(run(environment, "xcargo", "version", "--json"))["apache-airflow"] is None
            run(environment, "xcargo", "policy", "aws", "--path", "s3://my-bucket/xcom")
            shown.append(archive.name.rpartition(".")[2] + " installs and works")
            if airflow and archive == wheel:
                uv(*install, str(archive), AIRFLOW)
                env = {
                    "AIRFLOW_HOME": folder,
                    "AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend",
                    "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
                }
                run(environment, "xcargo", "doctor", "--json", **env)
                shown.append("doctor is green with Airflow")
    return shown


def uv(*arguments: str) -> None:
    subprocess.run([*find_uv(), "--quiet", *arguments], env=clean_environ(), capture_output=True, text=True, check=True)


def run(environment: Path, program: str, *arguments: str, **variables: str) -> str:
    """What a program of the environment prints. It sees nothing of this checkout."""
    return subprocess.run(
        [str(environment / "bin" / program), *arguments],
        env={**clean_environ(), "PATH": f"{environment / 'bin'}:{os.environ['PATH']}", **variables},
        cwd=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
