"""Kills sessions when the process that started them is gone, whatever ended it.

    python keeper.py < pipe

Reads session ids, one a line. At the end of its input, which the kernel gives also when the
writer was killed, it kills every process of these sessions. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path


class Keeper:
    """The other end of the pipe: a process that outlives this one by a moment."""

    def __init__(self) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def watch(self, session: int) -> None:
        """Have the session killed at the latest when this process ends."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(f"{session}\n".encode())
        self._popen.stdin.flush()

    def close(self) -> None:
        """Kill what is left of the sessions now, and end the keeper."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        self._popen.wait()


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


if __name__ == "__main__":
    # Ctrl-C reaches this process's own session only by mistake; the pipe alone decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for watched in [int(line) for line in sys.stdin]:
        signal_session(watched, signal.SIGKILL)
