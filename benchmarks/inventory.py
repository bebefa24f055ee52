"""Time and memory of a sweep's plan by an inventory of many objects: files of Parquet as S3 Inventory writes them.

    python -m benchmarks.inventory 1000000 10000000

Every tenth object is an orphan, and there are as many rows as objects: the objects of every tenth row are gone. Prints
a line of JSON for each number of objects: seconds of wall time and of CPU, peak memory in MiB, and that of the process
before. ``--plot FILE`` also draws them. The inventory is written below ``--folder``, and removed again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from benchmarks.sweep import OLD, Rows, key, peak_mib
from xcargo.lifecycle.inventory import open_inventory
from xcargo.lifecycle.plan import SweepOptions, Verdict
from xcargo.lifecycle.sweep import Sweep
from xcargo.model.root import Root
from xcargo.stores.local import LocalStore, MemoryStore

ROOT = Root.parse("s3://bucket/xcom")
MANIFEST = "inventories/bucket/daily/2026-01-01T01-00Z/manifest.json"
ROWS_OF_A_FILE = 5_000_000


def is_orphan(n: int) -> bool:
    """Whether no row refers to the n-th object."""
    return n % 10 == 3


def size(n: int) -> int:
    """Bytes of the n-th object: sums tell which objects were summed up."""
    return 1000 + n * 2654435761 % 1_000_003


def write(folder: Path, number: int) -> None:
    """Write the inventory: several files, each of many groups of rows."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    schema = pa.schema(
        {
            "bucket": pa.string(),
            "key": pa.string(),
            "size": pa.int64(),
            "last_modified_date": pa.timestamp("ms", "UTC"),
            "e_tag": pa.string(),
        }
    )
    files = []
    for start in range(0, number, ROWS_OF_A_FILE):
        name = f"inventories/bucket/daily/data/{start:012}.parquet"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        end = min(number, start + ROWS_OF_A_FILE)
        with ParquetWriter(path, schema, compression="gzip", compression_level=1) as writer:
            for first in range(start, end, 250_000):
                numbers = range(first, min(end, first + 250_000))
                columns = {
                    "bucket": ["bucket"] * len(numbers),
                    "key": [f"xcom/{key(n)}" for n in numbers],
                    "size": [size(n) for n in numbers],
                    "last_modified_date": [OLD] * len(numbers),
                    "e_tag": [f"{n:032x}" for n in numbers],
                }
                writer.write_table(pa.table(columns, schema), row_group_size=50_000)
        checksum = hashlib.md5(usedforsecurity=False)
        with path.open("rb") as file:
            while data := file.read(1024 * 1024):
                checksum.update(data)
        files.append({"key": name, "size": path.stat().st_size, "MD5checksum": checksum.hexdigest()})
    manifest = {
        "sourceBucket": "bucket",
        "destinationBucket": "arn:aws:s3:::inventories",
        "version": "2016-11-30",
        "creationTimestamp": str(int((time.time() - 7200) * 1000)),
        "fileFormat": "Parquet",
        "fileSchema": "message s3.inventory {  required binary bucket (STRING);  required binary key (STRING);  "
        "optional int64 size;  optional int64 last_modified_date (TIMESTAMP(MILLIS,true));  "
        "optional binary e_tag (STRING);}",
        "files": files,
    }
    path = folder / MANIFEST
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(manifest))


def references(number: int) -> Iterator[str]:
    """As many URIs as objects: none of the orphans, and as many of objects that are gone."""
    return (ROOT.uri(key(n + number if is_orphan(n) else n)) for n in range(number))


def plan(folder: Path, number: int) -> dict[str, float]:
    """Plan a sweep of so many objects, and check every sum."""
    before, started, cpu = peak_mib(), time.monotonic(), time.process_time()
    inventory = open_inventory(f"s3://inventories/{MANIFEST}", ROOT, lambda _: LocalStore(Root.parse(folder.as_uri())))
    rows = cast("Any", Rows(lambda: references(number)))
    with Sweep(MemoryStore(ROOT), rows, root=ROOT, options=SweepOptions(), inventory=inventory) as sweep:
        report = sweep.plan()
    result = {
        "objects": number,
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mib": peak_mib(),
        "before_mib": before,
        "load": os.getloadavg()[1],
    }
    orphans = sum(map(is_orphan, range(number)))
    orphan_bytes = sum(size(n) for n in range(number) if is_orphan(n))
    live, orphan = report.total[Verdict.LIVE], report.total[Verdict.ORPHAN]
    assert report.references == number
    assert report.refusals == []
    assert (orphan.objects, orphan.size_bytes) == (orphans, orphan_bytes)
    assert (live.objects, live.size_bytes) == (number - orphans, sum(map(size, range(number))) - orphan_bytes)
    return result


def plot(results: list[dict[str, float]], path: Path) -> None:
    """CPU time and memory by the number of objects. Both axes of the time are logarithmic."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    millions = [result["objects"] / 1e6 for result in results]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    axes[0].loglog(millions, [result["cpu_seconds"] / 60 for result in results], "o-", label="CPU time")
    axes[0].axhline(30, color="0.6", linestyle="--", label="30 minutes")
    axes[0].set(xlabel="objects, and as many rows (millions)", ylabel="minutes of CPU", title="Time of a plan")
    axes[0].legend()
    axes[1].semilogx(millions, [result["peak_mib"] for result in results], "o-", label="peak of the process")
    axes[1].axhline(512, color="0.6", linestyle="--", label="512 MiB")
    axes[1].set(xlabel="objects, and as many rows (millions)", ylabel="MiB", ylim=(0, 550), title="Memory")
    axes[1].legend()
    figure.savefig(path)


def main() -> None:
    """Write and plan each number of objects in processes of their own, so that each peak is one plan's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", type=int, nargs="+", metavar="OBJECTS")
    parser.add_argument("--folder", type=Path, default=Path("build/inventory").resolve())
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--step", choices=("write", "plan"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step == "write":
        write(args.folder, args.numbers[0])
        return
    if args.step == "plan":
        print(json.dumps(plan(args.folder, args.numbers[0])))
        return
    results = []
    for number in args.numbers:
        folder = args.folder / str(number)
        command = [sys.executable, "-m", "benchmarks.inventory", str(number), "--folder", str(folder)]
        try:
            subprocess.run([*command, "--step", "write"], check=True)
            done = subprocess.run([*command, "--step", "plan"], check=True, stdout=subprocess.PIPE, text=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(done.stdout.strip(), flush=True)
        results.append(json.loads(done.stdout))
    if args.plot:
        plot(results, args.plot)


if __name__ == "__main__":
    main()
