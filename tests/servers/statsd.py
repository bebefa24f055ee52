"""statsd: the daemon of that name, which Airflow's metrics are written for."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .node import find_node, installed
from .processes import free_ports, running, scratch_directory

_NEVER = 1_000_000_000
"""Milliseconds until it would hand its figures on and begin anew."""


def statsd_env(port: int) -> dict[str, str]:
    """Variables that make Airflow send its metrics to a statsd on loopback."""
    return {
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(port),
    }


@dataclass(frozen=True)
class Statsd:
    """A running daemon; ``admin`` is the port where it answers questions."""

    port: int
    admin: int

    def env(self) -> dict[str, str]:
        """Variables that make Airflow send its metrics here."""
        return statsd_env(self.port)

    def counters(self) -> dict[str, int]:
        """Every counter, and how far it is."""
        return {name: int(value) for name, value in re.findall(r"'([^']+)': (\d+)", self._ask("counters"))}

    def timings(self, name: str) -> list[float]:
        """The milliseconds that a timer was told; statsd shows the first hundred."""
        found = re.search(rf"'{re.escape(name)}': \[([^]]*)]", self._ask("timers"))
        return [float(value) for value in re.findall(r"-?[\d.e+-]*\d", found[1].split("...")[0])] if found else []

    def _ask(self, what: str) -> str:
        with socket.create_connection(("127.0.0.1", self.admin), 10) as connection:
            connection.sendall(f"{what}\n".encode())
            answer = b""
            while not answer.endswith(b"END\n\n"):
                piece = connection.recv(65536)
                if not piece:
                    raise ConnectionError(f"statsd ended in the middle of {answer!r}")
                answer += piece
            return answer.decode()


@contextmanager
def run() -> Iterator[Statsd]:
    """A daemon that keeps all that it gets. The first call on a machine installs it with npm."""
    node = find_node()
    program = installed(node) / "statsd" / "stats.js"
    server = Statsd(*free_ports(2))
    folder = scratch_directory("statsd")
    config = {
        "address": "127.0.0.1",
        "port": server.port,
        "mgmt_address": "127.0.0.1",
        "mgmt_port": server.admin,
        "flushInterval": _NEVER,
        "backends": [],
    }
    (folder / "config.js").write_text(json.dumps(config))
    # statsd logs through a function that Node.js 23 took out.
    (folder / "log.js").write_text("const util = require('util'); util.log = util.log ?? console.log\n")
    command = [str(node.program), "--require", str(folder / "log.js"), str(program), str(folder / "config.js")]
    with running(command, is_ready=lambda: "END" in server._ask("counters"), remove=[str(folder)]):
        yield server
