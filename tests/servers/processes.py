"""Child processes, ports and scratch directories of the servers."""

from __future__ import annotations

import collections
import contextlib
import os
import random
import shutil
import socket
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from demo.keeper import Keeper
from demo.processes import Process

_START_SECONDS = 120.0
_POLL_SECONDS = 0.03
_recent_ports: collections.deque[int] = collections.deque(maxlen=1000)


class StartError(RuntimeError):
    """A server did not start. `may_retry` is False when another try cannot end otherwise."""

    def __init__(self, message: str, *, may_retry: bool = True) -> None:
        super().__init__(message)
        self.may_retry = may_retry


def free_ports(count: int) -> list[int]:
    """Distinct loopback ports that nobody listens on now and this process has not just had.

    Taken from below the range out of which kernels choose ports of outgoing connections
    (32768 on Linux, 49152 on macOS), so that a client cannot take one before the server binds it.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(20_000, 32_768)
        if port in _recent_ports:
            continue
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            ports.append(port)
            _recent_ports.append(port)
    return ports


def scratch_directory(name: str) -> Path:
    """A new directory, in memory where the machine offers that."""
    memory = Path("/dev/shm")
    parent = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix=f"xcargo-{name}-", dir=parent))


def find_program(name: str, package: str) -> str:
    """Path of a program that a wheel brought. Raises StartError naming the wheel."""
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if found is None:
        raise StartError(f"{name} is not installed: pip install {package}", may_retry=False)
    return found


@contextmanager
def running(
    command: Sequence[str],
    *,
    is_ready: Callable[[], bool],
    remove: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[Process]:
    """Run a server while the block lasts; entered once `is_ready()` is true.

    `is_ready` may raise OSError for "not yet". Afterwards every process of its session is gone and the `remove` paths
    are deleted; that also holds when this process is killed. Raises StartError with the end of the server's output when
    it exits or is not ready in two minutes.
    """
    owner = os.getpid()
    log = scratch_directory("log")
    process: Process | None = None
    keeper = Keeper()
    try:
        for path in [*remove, str(log)]:
            keeper.remove(path)
        env = {**os.environ, **(env or {})}
        process = Process(command[0], command, env=env, log=log / "output", keeper=keeper)
        _wait_until_ready(process, is_ready)
        yield process
    finally:
        # A forked child that unwinds this frame must not stop its parent's server.
        if os.getpid() == owner:
            keeper.close()  # SIGKILL: the data is thrown away anyway, and SeaweedFS takes seconds over SIGTERM
            if process is not None:
                process.wait(5.0)


def _wait_until_ready(process: Process, is_ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.exit_code is not None:
            raise StartError(f"server exited with {process.exit_code}:\n{process.tail()}")
        with contextlib.suppress(OSError):
            if is_ready():
                return
        time.sleep(_POLL_SECONDS)
    raise StartError(f"server not ready after {_START_SECONDS:.0f} s:\n{process.tail()}")
