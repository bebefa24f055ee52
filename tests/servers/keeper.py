"""Run one server so that it never outlives the process that asked for it.

    python keeper.py REMOVE... -- COMMAND...

Reads stdin. A byte, or the end that the kernel gives when the asking process dies of anything
at all, SIGKILL included, kills the command's whole process group, waits for it and removes the
paths. A signal handler or atexit in the asking process could not promise that.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path


def main(args: list[str]) -> int:
    """Run the command to its end, or to the end of stdin; hand on its exit code."""
    cut = args.index("--")
    child = subprocess.Popen(args[cut + 1 :], stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_kill_at_end_of_stdin, args=(child.pid,), daemon=True).start()
    code = child.wait()
    _kill_group(child.pid)
    for path in args[:cut]:
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            Path(path).unlink()
    return code


def _kill_at_end_of_stdin(group: int) -> None:
    os.read(0, 1)
    _kill_group(group)


def _kill_group(group: int) -> None:
    # SIGKILL: the data is thrown away anyway, and SeaweedFS takes seconds over SIGTERM.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.exit(code if code >= 0 else 128 - code)
