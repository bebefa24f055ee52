"""Real object stores on loopback, without Docker: for the tests, the demo and the benchmarks.

    with start("s3") as server:
        os.environ.update(server.env())

Nothing here is part of the product, and every module imports only the standard library.
"""

from __future__ import annotations

from .faults import Fault, FaultProxy
from .launch import start
from .server import Kind, Server

__all__ = ["Fault", "FaultProxy", "Kind", "Server", "start"]
