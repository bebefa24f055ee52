"""Kills sessions when the process that started them is gone, whatever ended it.

    python keeper.py < pipe

Reads lines: ``kill SESSION`` names a session, ``remove PATH`` a file or folder. At a line ``end``, or at the end of its
input, which the kernel gives also when the writer was killed, it kills every process of these sessions and removes the
paths. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO


class Keeper:
    """The other end of the pipe: a process that outlives this one by a moment."""

    def __init__(self) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )

    def kill(self, session: int) -> None:
        """Have the session killed at the latest when this process ends."""
        self._write(f"kill {session}")

    def remove(self, path: str | os.PathLike[str]) -> None:
        """Have a file or folder removed after the sessions were killed."""
        self._write(f"remove {os.fspath(path)}")

    def close(self) -> None:
        """Kill what is left of the sessions now, remove the paths, and end the keeper."""
        # A line, because closing the pipe is not enough while a forked child holds it too.
        with contextlib.suppress(BrokenPipeError):
            self._write("end")
        self._popen.wait()
        with contextlib.suppress(BrokenPipeError):
            self._pipe.close()

    @property
    def _pipe(self) -> IO[str]:
        if self._popen.stdin is None:
            raise RuntimeError("the keeper has no pipe")
        return self._popen.stdin

    def _write(self, line: str) -> None:
        self._pipe.write(f"{line}\n")
        self._pipe.flush()


def session_members(session: int) -> list[int]:
    """The live processes of a session, by Linux's /proc; elsewhere the leader alone."""
    try:
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    except OSError:
        return [session]
    members = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) == session:
                members.append(pid)
    return members


def signal_session(session: int, number: int) -> None:
    """Send the signal to every process of a session; those already gone do not matter."""
    for pid in session_members(session):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def main() -> None:
    """Read until the end, then kill and remove."""
    # Ctrl-C reaches this process's own session only by mistake; the pipe alone decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sessions, paths = [], []
    for line in sys.stdin:
        verb, _, what = line.rstrip("\n").partition(" ")
        if verb == "end":
            break
        if verb == "kill":
            sessions.append(int(what))
        else:
            paths.append(Path(what))
    for session in sessions:
        signal_session(session, signal.SIGKILL)
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            path.unlink()


if __name__ == "__main__":
    main()
