"""Child processes that are gone when we are: each in a session of its own, stopped as a whole."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from demo.keeper import Keeper, signal_session

TERMINATE_SECONDS = 10.0
"""How long a process may take to obey SIGTERM before it is killed."""


class Process:
    """A program running in its own session, its output in a file.

    A session, because Airflow's supervisors put each task into a process group of its own: a
    signal to the group of the scheduler would not reach them, the session holds them all. The
    keeper kills the session when this process is gone.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        keeper: Keeper,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command, self._env, self._cwd, self._keeper = list(command), dict(env), cwd, keeper
        self.start()

    def start(self) -> None:
        """Start the program; again, once it has ended."""
        with self.log.open("ab") as output:
            self._popen = subprocess.Popen(
                self._command,
                env=self._env,
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._keeper.kill(self.session)

    @property
    def exit_code(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._popen.poll()

    def wait(self, seconds: float) -> int | None:
        """Wait at most `seconds`; the exit code, or None if it still runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._popen.wait(seconds)
        return None

    @property
    def session(self) -> int:
        """The id of its session, which is the pid of the program itself."""
        return self._popen.pid

    def terminate(self) -> None:
        """Ask the program itself to stop; it stops its own children."""
        if self.exit_code is None:
            self._popen.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End its whole session at once, as when its machine loses power."""
        signal_session(self.session, signal.SIGKILL)
        self.wait(5.0)

    def tail(self, lines: int = 25) -> str:
        """The last lines of its output."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            return f"(no log: {error})"
        return "\n".join(text.splitlines()[-lines:])


def stop_all(processes: Sequence[Process], *, seconds: float = TERMINATE_SECONDS) -> None:
    """Stop the processes and whatever they started: terminate all, wait, kill what is left.

    Returns within about `seconds`. Nothing of their sessions runs afterwards.
    """
    for process in processes:
        # A paused session cannot obey.
        signal_session(process.session, signal.SIGCONT)
        process.terminate()
    deadline = time.monotonic() + seconds
    for process in processes:
        process.wait(max(0.0, deadline - time.monotonic()))
    for process in processes:
        process.kill()


@contextlib.contextmanager
def terminate_like_interrupt() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise SystemExit, so that `with` blocks clean up.

    Outside the main thread Python allows no handlers; there the block changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    numbers = [signal.SIGTERM, signal.SIGHUP]
    before = [(number, signal.signal(number, leave)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Within the block SIGINT and SIGTERM wait, so that stopping is not cut short half way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
