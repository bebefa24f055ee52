"""redis: a Redis of its own on loopback, out of Debian's package."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from .debian import program
from .processes import StartError, free_ports, running, scratch_directory


@contextmanager
def run() -> Iterator[str]:
    """The URL of a Redis that keeps its data in memory. Raises StartError where there is none and none may come."""
    server = program("redis-server", package="redis-server")
    if server is None:
        raise StartError("Redis is not installed: apt-get install redis-server", may_retry=False)
    (port,), password, folder = free_ports(1), secrets.token_hex(16), scratch_directory("redis")
    settings = folder / "redis.conf"
    # A file, because everybody on the machine may read a command.
    settings.write_text(
        f'bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave ""\nappendonly no\ndir {folder}\n', encoding="utf-8"
    )

    def is_ready() -> bool:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(f"AUTH {password}\r\n".encode())
            return connection.recv(64) == b"+OK\r\n"

    with running([str(server), str(settings)], is_ready=is_ready, remove=[str(folder)]):
        yield f"redis://:{password}@127.0.0.1:{port}/0"
