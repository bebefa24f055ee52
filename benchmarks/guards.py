"""What encryption and signing cost: pushes and pulls with and without, interleaved.

python -m benchmarks.guards [--rounds 15] [--store file|s3] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import Connection
from tests.servers import start
from xcargo.airflow.connections import access_of
from xcargo.codecs import Registry
from xcargo.model.coordinate import Coordinate
from xcargo.model.keys import Key
from xcargo.model.root import Root
from xcargo.model.settings import Settings
from xcargo.pipeline.pipeline import Pipeline
from xcargo.stores import Access, StorePool

KEY = Key("bench", random.Random(0).randbytes(32))
GUARDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "signed": {"signing_keys": (KEY,)},
    "encrypted": {"encryption_keys": (KEY,), "encryption_key": KEY},
}
VALUES: dict[str, Callable[[], Any]] = {
    "1 kB of random bytes": lambda: random.Random(1).randbytes(1000),
    "100 MB of random bytes": lambda: random.Random(1).randbytes(100_000_000),
}
HERE = Coordinate("dag", "run", "task", "return_value")


@contextmanager
def opened(store: str) -> Iterator[tuple[str, Callable[[Root], Access]]]:
    """The URL of a store, and how it is reached."""
    if store == "file":
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder).as_uri(), lambda _: Access()
    else:
        with start("s3") as server:
            yield f"{server.root}/bench", lambda root: access_of(root, lambda name: Connection(server.connection, name))


def measure(store: str, rounds: int, only: str) -> dict[str, Any]:
    """Median seconds of a push and a pull by value and guard; each round takes every guard in another order."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    with opened(store) as (url, access):
        pipelines = {
            name: Pipeline(Settings(Root.parse(url), threshold_bytes=0, **guard), Registry(), StorePool(access))
            for name, guard in GUARDS.items()
        }
        for label, make in VALUES.items():
            if only not in label:
                continue
            value = make()
            few = len(value) > 1_000_000
            for round_ in range(rounds if few else 100 * rounds):
                for name in random.Random(round_).sample(list(pipelines), len(pipelines)):
                    begun = time.perf_counter()
                    row = pipelines[name].push(value, HERE)
                    pushed = time.perf_counter()
                    assert pipelines[name].pull(row) == value
                    pulled = time.perf_counter()
                    pipelines[name].purge(row)
                    if round_:  # the first warms up
                        took = found.setdefault(label, {}).setdefault(name, {"push": [], "pull": []})
                        took["push"].append(pushed - begun)
                        took["pull"].append(pulled - pushed)
    return {
        label: {name: {verb: statistics.median(times) for verb, times in took.items()} for name, took in by.items()}
        for label, by in found.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guards", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--store", choices=["file", "s3"], default="file")
    parser.add_argument("--value", default="", help="a part of the value's name, for that one only")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(options.store, options.rounds, options.value)
    for label, by in found.items():
        for name, took in by.items():
            ratios = {verb: seconds / by["plain"][verb] for verb, seconds in took.items()}
            shown = "  ".join(f"{verb} {took[verb] * 1000:9.3f} ms ({ratios[verb]:.2f})" for verb in took)
            print(f"{options.store:5} {label:24} {name:10} {shown}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
