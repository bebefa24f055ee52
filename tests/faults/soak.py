"""Many pushes and pulls by many processes against a real S3 server, behind proxies that fail a share of the requests.

    python -m tests.faults.soak --operations 200000 --processes 16 --share 0.05 --seconds 500

Counts what was lost, wrong or left behind; the exit code is 1 unless all three are 0. Ends early when time is up, and
says how far it got.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import random
import sys
import time
from collections import Counter
from contextlib import ExitStack
from typing import Any

from tests.servers import Server, start
from tests.servers.faults import Flaky
from tests.unit.conftest import HERE, make_pipeline
from xcargo.errors import IntegrityError, ObjectNotFoundError, XCargoError

PROXIES = 2
HELD = 8
"""Values that a process has pushed and not yet pulled."""
SIZES = (1_100, 5_000, 20_000, 100_000)
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.unit.conftest", "obstore"])


def serve(upstream_url: str, share: float, seed: int, pipe: Any) -> None:
    """A proxy in a process of its own."""
    with Flaky(upstream_url, share, seed) as proxy:
        pipe.send(proxy.url)
        pipe.recv()
        pipe.send(proxy.met)


def work(job: dict[str, Any], pipe: Any) -> None:
    """Push, pull, compare and purge, until the operations are done or time is up."""
    logging.getLogger("xcargo").setLevel(logging.CRITICAL)
    rng = random.Random(job["seed"])
    pipeline = make_pipeline(
        job["root"], connection=job["connection"], compression="none", retry_wait_seconds=0.01, timeout_seconds=30
    )
    counts: Counter[str] = Counter()
    held: list[tuple[Any, int, int]] = []
    until = time.monotonic() + job["seconds"]

    def pull() -> None:
        row, seed, size = held.pop(rng.randrange(len(held)))
        try:
            counts["pulls"] += 1
            counts["wrong"] += bytes(pipeline.pull(row)) != random.Random(seed).randbytes(size)
        except ObjectNotFoundError:
            counts["lost"] += 1
        except IntegrityError:
            counts["reported as damaged"] += 1
        except XCargoError:
            counts["pulls that failed in time"] += 1
        counts["purged"] += 1
        while not pipeline.purge(row):
            counts["purges repeated"] += 1

    while counts["pushes"] + counts["pulls"] + len(held) < job["operations"] and time.monotonic() < until:
        seed, size = rng.getrandbits(32), rng.choice(SIZES)
        counts["pushes"] += 1
        try:
            held.append((pipeline.push(random.Random(seed).randbytes(size), HERE), seed, size))
        except XCargoError:
            counts["pushes that failed in time"] += 1
        if len(held) >= HELD:
            pull()
    while held:
        pull()
    pipe.send(counts)


def soak(server: Server, operations: int, processes: int, share: float, seconds: float, seed: int) -> dict[str, Any]:
    """The counts of all processes together, what is left in the bucket, and how many requests met which fault."""
    began = time.monotonic()
    proxies, workers = [], []
    for n in range(PROXIES):
        ours, theirs = FORKS.Pipe()
        process = FORKS.Process(target=serve, args=(server.endpoint, share, seed + n, theirs), daemon=True)
        process.start()
        proxies.append((process, ours, ours.recv()))
    for n in range(processes):
        ours, theirs = FORKS.Pipe()
        job = {
            "root": f"{server.root}/soak{n}",
            "connection": server.via(proxies[n % PROXIES][2]).connection,
            "operations": operations // processes,
            "seconds": seconds,
            "seed": seed * 1000 + n,
        }
        process = FORKS.Process(target=work, args=(job, theirs), daemon=True)
        process.start()
        workers.append((process, ours))
    counts: Counter[str] = Counter()
    for process, ours in workers:
        try:
            counts += Counter({name: count for name, count in ours.recv().items() if count})
        except EOFError:
            counts["processes that died"] += 1
        process.join()
    met: Counter[str] = Counter()
    for process, ours, _ in proxies:
        ours.send("end")
        met += ours.recv()
        process.join()
    requests = sum(met.values())
    left = [key for key in server.list_keys() if "/soak" in key]
    begun = server.raw.list_uploads()  # type: ignore[attr-defined]
    return {
        **{name: counts[name] for name in ("pushes", "pulls", "lost", "wrong")},
        **counts,
        "left behind": len(left) + len(begun),
        "requests": requests,
        "requests that met a fault": requests - met[""],
        "faults": dict(sorted((name, count) for name, count in met.items() if name)),
        "processes": processes,
        "seconds": round(time.monotonic() - began, 1),
    }


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--operations", type=int, default=200_000)
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(arguments)
    with ExitStack() as stack:
        server = stack.enter_context(start("s3"))
        counts = soak(server, args.operations, args.processes, args.share, args.seconds, args.seed)
    print(json.dumps(counts, indent=2))
    bad = ("lost", "wrong", "left behind", "processes that died", "reported as damaged")
    return 1 if any(counts.get(name) for name in bad) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
