"""start(): from a kind to a running server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Final

from . import azure, gcs, s3
from .processes import StartError
from .relay import Relay
from .server import Kind, Server

_RUN: Final[dict[Kind, Callable[[], AbstractContextManager[Server]]]] = {
    "s3": s3.run,
    "gcs": gcs.run,
    "azure": azure.run,
}
_ATTEMPTS = 3


@contextmanager
def start(kind: Kind, *, count: bool = False) -> Iterator[Server]:
    """A new store of this kind on loopback with one empty bucket, gone when the block is left.

    Several may run at once. With `count`, requests pass a relay that logs them, which costs
    about half a millisecond each. Raises StartError when the store cannot be started, and
    says which package is missing if that is why. No process outlives this one, however it ends.
    """
    with ExitStack() as stack:
        server = _enter(stack, kind)
        if count:
            counter = stack.enter_context(Relay(server.endpoint))
            server = replace(server.via(counter.url), counter=counter)
        yield server


def _enter(stack: ExitStack, kind: Kind) -> Server:
    # A port that was free when chosen may be taken by the time the server binds it.
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return stack.enter_context(_RUN[kind]())
        except StartError as error:
            if attempt == _ATTEMPTS or not error.may_retry:
                raise
    raise AssertionError("unreachable")
