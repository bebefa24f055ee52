"""How large the house is, against its bars: ``make house``. Exits with 1 when a bar is missed.

The way of a value is walked for real: a dictionary is pushed through the backend's hook over an S3 server, and the
files on the stack are counted at the moment when obstore is asked to put it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CHECKOUT = Path(__file__).resolve().parents[1]
SOURCE = CHECKOUT / "src" / "xcargo"

BARS = {
    "Python lines in src/": 19_000,
    "modules in src/": 110,
    "loose modules at the package's root": 5,
    "lines of the longest module": 400,
    "import rules (layers)": 10,
    "files from hook to PUT (push of a dict over S3)": 6,
    "test lines (Python)": 20_000,
}


def main() -> int:
    """Print the table; 1 if a bar is missed."""
    modules = {path: _lines(path) for path in tracked("src")}
    way = way_of_a_push()
    counts = {
        "Python lines in src/": sum(modules.values()),
        "modules in src/": len(modules),
        "loose modules at the package's root": sum(path.parent == SOURCE for path in modules),
        "lines of the longest module": max(modules.values()),
        "import rules (layers)": len(rooms_of_the_linter()),
        "files from hook to PUT (push of a dict over S3)": len(way),
        "test lines (Python)": sum(map(_lines, tracked("tests"))),
    }
    width = max(map(len, counts))
    for what, count in counts.items():
        verdict = "" if count <= BARS[what] else "  OVER"
        print(f"{what:{width}}  {count:>7,}  at most {BARS[what]:>7,}{verdict}")
    print("\nFrom hook to PUT: " + " -> ".join(way))
    for path, lines in sorted(modules.items(), key=lambda item: -item[1]):
        if lines > BARS["lines of the longest module"]:
            print(f"too long: {path.relative_to(CHECKOUT)} ({lines} lines)")
    return int(any(count > BARS[what] for what, count in counts.items()))


def rooms_of_the_linter() -> list[str]:
    """The rooms as import-linter knows them, top to bottom; those of one layer are joined by ``|``."""
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    (layers,) = (c["layers"] for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    return [re.sub(r"xcargo\.", "", layer) for layer in layers]


def tracked(folder: str) -> list[Path]:
    """The Python files of a folder that are in the repository or about to be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", f"{folder}/*.py"]
    names = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    return [path for path in sorted(CHECKOUT / name for name in set(names.splitlines())) if path.exists()]


def way_of_a_push() -> list[str]:
    """The files between the hook that Airflow calls and obstore, in the order in which a reader meets them."""
    from tests.servers import start

    with start("s3") as server, tempfile.TemporaryDirectory() as home:
        variables = {
            "AIRFLOW_HOME": home,
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend",
        }
        os.environ.update(variables | {"AIRFLOW__XCARGO__PATH": server.root} | server.env())
        import obstore
        from airflow.sdk.execution_time.xcom import XCom

        value = {f"key{n}": "x" * 100 for n in range(100)}
        where: Mapping[str, Any] = {"key": "k", "dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1}
        stacks: list[list[str]] = []

        def profile(frame: FrameType, event: str, called: Any) -> None:
            if event == "c_call" and called is obstore.put:
                stacks.append(list(dict.fromkeys(reversed(list(_files(frame))))))

        sys.setprofile(profile)
        try:
            XCom.serialize_value(value, **where)
        finally:
            sys.setprofile(None)
    return stacks[0]


def _files(frame: FrameType | None) -> Iterator[str]:
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(SOURCE):
            yield str(path.relative_to(SOURCE))
        frame = frame.f_back


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())


if __name__ == "__main__":
    sys.exit(main())
