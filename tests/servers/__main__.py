"""python -m tests.servers KIND: run a store until Ctrl-C.

Prints the environment variables that make its connection known to Airflow, then waits.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import sys
from typing import get_args

from . import Kind, start


def main(arguments: list[str] | None = None) -> int:
    """Start the store, print `export` lines, stay until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    parser.add_argument("kind", choices=get_args(Kind))
    kind: Kind = parser.parse_args(arguments).kind
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), start(kind) as server:
        print(f"# {server.root} at {server.endpoint}; Ctrl-C stops it")
        for name, value in server.env().items():
            print(f"export {name}={shlex.quote(value)}", flush=True)
        while True:
            signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
