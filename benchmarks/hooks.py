"""Push and pull through the public hooks, Common IO's backend and xcargo side by side over the same S3 server.

``python -m benchmarks.hooks [--full] [--rounds N]``: rounds go around the backends, so that a slow minute of the
machine hits both; each measurement runs in a child forked from a process that has imported Airflow, as a task does.
Prints a Markdown table of medians and their ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.payloads import PAYLOADS, QUICK
from tests.servers import start

BACKENDS = {
    "common-io": "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend",
    "xcargo": "xcargo.XComBackend",
}
ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hooks", description=__doc__.split("\n")[0])
    parser.add_argument("--full", action="store_true", help="all payloads (some minutes), not only the quick ones")
    parser.add_argument("--rounds", type=int, default=3, help="children a backend and payload (default 3)")
    options = parser.parse_args()
    names = list(PAYLOADS) if options.full else list(QUICK)
    results: dict[tuple[str, str], list[dict[str, Any]]] = {}
    with ExitStack() as stack:
        server = stack.enter_context(start("s3"))
        home = stack.enter_context(tempfile.TemporaryDirectory())
        zygotes = {name: stack.enter_context(_zygote(name, server, home)) for name in BACKENDS}
        for process in zygotes.values():  # the first child compiles what it imports; that is not measured
            _ask(process, names[0], 1)
        for number in range(options.rounds):
            for payload in names:
                for name, process in zygotes.items():
                    _tell(f"round {number + 1} of {options.rounds}: {payload}, {name}")
                    repeat = 30 if "1 KB" in payload else 3
                    results.setdefault((payload, name), []).append(_ask(process, payload, repeat))
        for process in zygotes.values():
            process.stdin.close()  # type: ignore[union-attr]
    print(_table(names, results))


def _zygote(name: str, server: Any, home: str) -> subprocess.Popen[str]:
    environ = {
        **os.environ,
        **server.env(),
        "AIRFLOW_HOME": f"{home}/{name}",
        "AIRFLOW__CORE__XCOM_BACKEND": BACKENDS[name],
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": server.root,
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "0",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    }
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.zygote"],
        cwd=ROOT,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    _answer(process)
    return process


def _ask(process: subprocess.Popen[str], payload: str, repeat: int) -> dict[str, Any]:
    assert process.stdin is not None
    process.stdin.write(json.dumps({"payload": payload, "repeat": repeat}) + "\n")
    process.stdin.flush()
    return _answer(process)


def _answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            answer: dict[str, Any] = json.loads(line)
            return answer
    raise SystemExit("A measuring process ended; run python -m benchmarks.zygote to see why.")


def _table(names: list[str], results: dict[tuple[str, str], list[dict[str, Any]]]) -> str:
    head = (
        "| payload | push: common-io | xcargo | ratio | pull: common-io | xcargo | ratio "
        "| first push: common-io | xcargo | ratio |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    )
    lines = [head]
    for payload in names:
        cells = [payload]
        for verb, pick in (("push", slice(1, None)), ("pull", slice(1, None)), ("push", slice(0, 1))):
            both = [_milliseconds(results[payload, name], verb, pick) for name in BACKENDS]
            cells += [_shown(ms, results[payload, name]) for ms, name in zip(both, BACKENDS, strict=True)]
            cells.append(f"{both[0] / both[1]:.1f} x" if None not in both else "")  # type: ignore[operator]
        lines.append(f"| {' | '.join(cells)} |")
    changed = sorted({f"{p} ({n})" for (p, n), runs in results.items() if not all(r.get("same", True) for r in runs)})
    packages = ("apache-airflow-core", "apache-airflow-providers-common-io", "s3fs", "airflow-provider-xcargo")
    note = (
        f"Medians in milliseconds, of {len(next(iter(results.values())))} processes each, interleaved. "
        f"Python {sys.version.split()[0]}, {', '.join(f'{p} {version(p)}' for p in packages)}; SeaweedFS on "
        f"loopback, {os.cpu_count()} cores. Came back changed: {', '.join(changed) or 'none'}."
    )
    return "\n".join([*lines, "", note])


def _milliseconds(runs: list[dict[str, Any]], verb: str, pick: slice) -> float | None:
    seconds = [value for run in runs if "error" not in run for value in run[verb][pick]]
    return statistics.median(seconds) * 1000 if seconds else None


def _shown(milliseconds: float | None, runs: list[dict[str, Any]]) -> str:
    if milliseconds is None:
        return runs[0]["error"].partition(":")[0]
    return f"{milliseconds:.1f}" if milliseconds < 100 else f"{milliseconds:.0f}"


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
