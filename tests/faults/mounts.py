"""A folder on a file system that two machines share over a network: SeaweedFS, mounted twice by FUSE.

    python -m tests.faults.mounts

In a mount namespace of its own, so that nothing stays mounted, whatever happens.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.servers.processes import find_program, free_ports, running
from tests.servers.s3 import PACKAGE
from tests.unit.conftest import HERE, make_pipeline
from xcargo.errors import ObjectNotFoundError, StoreUnavailableError
from xcargo.model.root import Root
from xcargo.stores.base import is_part
from xcargo.stores.local import LocalStore

VALUES = 100
SEEN_SECONDS = 60
PROCESSES = 8


def two_machines_share_a_folder(folders: list[Path]) -> None:
    """What one pushed the other pulls and purges, once its mount shows it; nothing is left but what a sweep takes."""
    pipelines = [make_pipeline((folder / "xcom").as_uri(), compression="none") for folder in folders]
    delays = []
    for number in range(VALUES):
        pushing, pulling = random.Random(number).sample(range(2), 2)
        value = random.Random(number).randbytes(1_500 * (1 + number % 7))
        row = retried(partial(pipelines[pushing].push, value, HERE))
        as_seen = {**row, "uri": row["uri"].replace(str(folders[pushing]), str(folders[pulling]))}
        delays.append(seconds_until_seen(lambda: pipelines[pulling].pull(as_seen) == value))
        assert pipelines[pulling].purge(as_seen)
    print(f"{sum(delay > 0.1 for delay in delays)} of {VALUES} values were seen later, the last {max(delays):.1f} s")
    assert all(is_part(name) for folder in folders for name in files_below(folder / "xcom"))


def seconds_until_seen(pull: Callable[[], bool]) -> float:
    """How long pulls say that the object is not there, before one is right."""
    began = time.monotonic()
    while time.monotonic() - began < SEEN_SECONDS:
        with suppress(ObjectNotFoundError):
            assert pull()
            return time.monotonic() - began
        time.sleep(0.02)
    raise AssertionError(f"not seen within {SEEN_SECONDS} s")


def they_put_and_delete_in_one_folder(folders: list[Path]) -> None:
    """A put succeeds or is worth a retry: such a mount may remove a folder into which the other machine just wrote."""

    def work(process: int) -> None:
        store = LocalStore(Root.parse((folders[process % 2] / "race").as_uri()))
        for number in range(15):
            retried(partial(store.put, f"d/r/t/{process}~{number}", [b"x"]))
            store.delete([f"d/r/t/{process}~{number}"])
        retried(partial(store.put, f"d/r/t/{process}~last", [b"x"]))

    for process in range(PROCESSES):
        if os.fork() == 0:
            with suppress(BaseException):
                work(process)
                os._exit(0)
            os._exit(1)
    assert [os.wait()[1] for _ in range(PROCESSES)] == [0] * PROCESSES
    for folder in folders:
        assert files_below(folder / "race") == [f"{process}~last" for process in range(PROCESSES)]


def retried(work: Callable[[], Any]) -> Any:
    """What it returns, as of a task that Airflow runs again."""
    for _ in range(20):
        with suppress(StoreUnavailableError):
            return work()
    raise AssertionError("refused 20 times")


def a_mount_whose_program_is_killed_is_an_error_with_a_hint(folder: Path, kill: Callable[[], None]) -> None:
    """Of a push and of a pull."""
    pipeline = make_pipeline((folder / "xcom").as_uri())
    value = os.urandom(10_000)
    row = pipeline.push(value, HERE)
    kill()
    for work in (lambda: pipeline.push(value, HERE), lambda: pipeline.pull(row)):
        with pytest.raises(StoreUnavailableError, match="mount it again"):
            work()


def files_below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Start the servers, mount the file system twice, and run all of the above."""
    program = find_program("weed", PACKAGE)
    names = ("master", "volume", "filer", "master.port.grpc", "volume.port.grpc", "filer.port.grpc")
    ports = dict(zip(names, free_ports(6), strict=True))
    with TemporaryDirectory() as scratch, ExitStack() as stack:
        options = [f"-{name if '.' in name else f'{name}.port'}={port}" for name, port in ports.items()]
        server = [program, "server", "-filer", f"-dir={scratch}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *options]
        url = f"http://127.0.0.1:{ports['filer']}/"

        def is_ready() -> bool:
            request = urllib.request.Request(url + "ready", data=b"x", method="PUT")
            with urllib.request.urlopen(request, timeout=5) as answer:
                return bool(answer.status == 201)

        stack.enter_context(running([*server, "-master.peers=none", "-master.telemetry=false"], is_ready=is_ready))
        folders = [Path(scratch, name) for name in ("one", "two")]
        mounts = []
        for folder in folders:
            folder.mkdir()
            mount = [program, "mount", f"-filer=127.0.0.1:{ports['filer']}.{ports['filer.port.grpc']}"]
            mount += [f"-dir={folder}", f"-cacheDir={folder}.cache", "-filer.path=/shared"]
            mounts.append(stack.enter_context(running(mount, is_ready=partial(os.path.ismount, folder))))
            stack.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)
        two_machines_share_a_folder(folders)
        they_put_and_delete_in_one_folder(folders)
        a_mount_whose_program_is_killed_is_an_error_with_a_hint(folders[0], mounts[0].kill)
    print("a folder that two machines mount: as it must be")


if __name__ == "__main__":
    if sys.argv[1:] == ["inside"]:
        main()
    else:
        command = ["unshare", "--map-root-user", "--mount", sys.executable, "-m", "tests.faults.mounts", "inside"]
        sys.exit(subprocess.run(command, check=False).returncode)
