"""The command as a user runs it: a process of its own, in a pipe or on a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

from tests.servers.relay import Exchange, Relay

BARE_PREFIXES = ("AIRFLOW__", "AIRFLOW_CONN_", "AWS_", "AZURE_", "GOOGLE_", "XCARGO_", "NO_COLOR", "FORCE_COLOR")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Done]
"""A command line -> how it ended."""


def environment(home: object, **variables: str) -> dict[str, str]:
    """A bare environment with an Airflow home of its own; nothing of a cloud."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(BARE_PREFIXES)}
    settled = {
        "AIRFLOW_HOME": str(home),
        "HOME": str(home),
        "AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_GCE_CHECK": "true",
        "PYTHONWARNINGS": "ignore",
    }
    return {**bare, **settled, **variables}


def xcargo(
    *args: str,
    env: Mapping[str, str],
    stdin: str = "",
    cwd: object = None,
    timeout: float = 60,
    under: Sequence[str] = (),
) -> Done:
    """``python -m xcargo`` with its output in a pipe, perhaps under a program that runs it."""
    done = subprocess.run(
        [*under, sys.executable, "-m", "xcargo", *args],
        env=dict(env),
        input=stdin,
        cwd=None if cwd is None else str(cwd),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def on_terminal(*args: str, env: Mapping[str, str], answers: Mapping[str, str] = {}, columns: int = 80) -> Done:
    """The same on a pseudo-terminal; standard output and error are one stream, as there.

    ``answers`` are typed when their question appears, in this order.
    """
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "xcargo", *args],
        env={**env, "TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "40"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,  # nothing is read from the terminal of whoever runs the tests
    )
    os.close(follower)
    open_questions = list(answers.items())
    text, heard = b"", 0
    while True:
        ready, _, _ = select.select([leader], [], [], 60)
        try:
            chunk = os.read(leader, 65536) if ready else b""
        except OSError:  # Linux says so when the last writer is gone
            break
        if not chunk:
            break
        text += chunk
        if open_questions and open_questions[0][0].encode() in text[heard:]:
            heard = len(text)
            os.write(leader, open_questions.pop(0)[1].encode() + b"\n")
    os.close(leader)
    return Done(process.wait(10), text.decode().replace("\r\n", "\n"), "")


class Skewed(Relay):
    """A real server whose clock seems to be off."""

    def __init__(self, upstream: str, ahead: timedelta) -> None:
        self._ahead = ahead
        super().__init__(upstream)

    def handle(self, exchange: Exchange) -> None:
        reply, server = exchange.ask_server()
        now = format_datetime(datetime.now(timezone.utc) + self._ahead, usegmt=True)
        exchange.client.send_head(reply.with_field("Date", now))
        exchange.client.send_body(reply, server.read_body(reply, to=exchange.method))
