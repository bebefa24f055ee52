"""Requests by a helper process, for children that were forked after their parent used obstore.

Such a child inherits a runtime whose threads are gone; only a program started afresh gets one that works. The child
therefore starts ``python -m xcargo.stores.fork_helper`` and sends it requests through a pipe of its own, in which
credentials travel too: they are never on a command line or in the environment. The helper ends when the pipe closes.

The child sends a verb with its arguments, and the parts of a put as frames, up to an empty one and whether these were
all. The helper answers with an error or a result, and sends bytes that were read as one frame.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, NamedTuple

from xcargo.errors import StoreUnavailableError, XCargoError
from xcargo.model.root import Root
from xcargo.stores.base import Access, Limits, ObjectInfo, PutMode, SignedMethod, Watched
from xcargo.types import Buffer

__all__ = ["HelperRequests"]

_PATIENCE_SECONDS = 5.0
"""How much longer than a request its answer may take: a new helper has to load its libraries first."""


class _Helper(NamedTuple):
    process: subprocess.Popen[bytes]
    pipe: Connection[Any, Any]


class HelperRequests:
    """Requests by a helper process. Calls from several threads take turns."""

    def __init__(self, root: Root, access: Access, limits: Limits) -> None:
        self._root = root
        self._access = access
        self._limits = limits
        self._lock = threading.Lock()
        self._helper: _Helper | None = None

    def put(self, key: str, parts: Sequence[Buffer], *, mode: PutMode, seconds: float) -> None:
        self._call("put", {"key": key, "mode": mode}, seconds, parts)

    def put_in_parts(self, key: str, parts: Iterable[Buffer], *, part_bytes: int, at_once: int, seconds: float) -> None:
        arguments = {"key": key, "part_bytes": part_bytes, "at_once": at_once, "seconds": seconds}
        self._call("put_in_parts", arguments, None, parts)

    def copy(self, source: str, target: str, *, seconds: float) -> None:
        self._call("copy", {"source": source, "target": target}, seconds)

    def get(self, key: str, *, start: int, end: int | None, seconds: float) -> Buffer:
        return self._call("get", {"key": key, "start": start, "end": end}, seconds)  # type: ignore[no-any-return]

    def get_into(self, key: str, view: memoryview, *, start: int, seconds: float) -> int:
        data = self.get(key, start=start, end=start + len(view), seconds=seconds)
        view[: len(data)] = data
        return len(data)

    def head(self, key: str, *, seconds: float) -> ObjectInfo:
        return self._call("head", {"key": key}, seconds)  # type: ignore[no-any-return]

    def delete(self, key: str, *, seconds: float) -> None:
        self._call("delete", {"key": key}, seconds)

    def signed_url(self, key: str, seconds: float, method: SignedMethod) -> str | None:
        return self._call("signed_url", {"key": key, "seconds": seconds, "method": method}, None)  # type: ignore[no-any-return]

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        yield from self._call("list", {"prefix": prefix}, None)

    def _call(
        self, verb: str, arguments: dict[str, Any], seconds: float | None, parts: Iterable[Buffer] | None = None
    ) -> Any:
        """Ask the helper. ``seconds`` bounds the wait for its turn too; None leaves the bound to obstore's own."""
        watched = Watched(parts or ())
        until = time.monotonic() + (seconds or 0)
        credentials = self._access.credentials() if self._access.credentials is not None else None
        if not self._lock.acquire(timeout=-1 if seconds is None else max(seconds, 0)):
            raise StoreUnavailableError(
                f"The helper process of a forked child was busy for {seconds:.1f} s", where=self._root
            )
        try:
            if seconds is not None:
                seconds = arguments["seconds"] = max(until - time.monotonic(), 0.05)
            pipe = self._started().pipe
            pipe.send((verb, arguments, credentials))
            if parts is not None:
                _send_parts(pipe, watched)
            if seconds is not None and not pipe.poll(seconds + _PATIENCE_SECONDS):
                raise EOFError(f"it did not answer in {seconds + _PATIENCE_SECONDS:.1f} s")
            result = pipe.recv()
            if verb == "get" and result is None:
                result = pipe.recv_bytes()
        except BaseException as error:  # the exchange was cut short: what comes next from this helper is not for us
            self._end()
            if not isinstance(error, (OSError, EOFError)):
                raise
            ended = StoreUnavailableError(f"The helper process of a forked child ended: {error}", where=self._root)
            ended.lost = True
            raise ended from error
        finally:
            self._lock.release()
        if watched.error is not None:
            raise watched.error
        if isinstance(result, XCargoError):
            raise result
        return result

    def _started(self) -> _Helper:
        if self._helper is None or self._helper.process.poll() is not None:
            self._end()
            package_dir = str(Path(__file__).parents[2])
            path = os.pathsep.join(p for p in (package_dir, os.environ.get("PYTHONPATH", "")) if p)
            pipe, theirs = Pipe()
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, "-m", "xcargo.stores.fork_helper", str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": path},
                    pass_fds=[theirs.fileno()],
                )
            self._helper = _Helper(process, pipe)
            pipe.send((self._root, dict(self._access.config), dict(self._access.client), self._limits))
        return self._helper

    def _end(self) -> None:
        helper, self._helper = self._helper, None
        if helper is not None:
            helper.pipe.close()
            helper.process.kill()
            helper.process.wait()


def _send_parts(pipe: Connection[Any, Any], parts: Watched) -> None:
    """Sends all parts, or those before an error of theirs, which ``parts`` keeps."""
    try:
        for part in parts:
            if len(part):
                pipe.send_bytes(part)
    except BaseException as error:
        if error is not parts.error:
            raise
    pipe.send_bytes(b"")
    pipe.send(parts.error is None)


def _received_parts(pipe: Connection[Any, Any]) -> Iterator[Buffer]:
    while part := pipe.recv_bytes():
        yield part
    if not pipe.recv():
        raise XCargoError("The value could not be read to its end")


class _Credentials:
    """The credentials that came with the latest request."""

    latest: Mapping[str, Any]

    def __call__(self) -> Mapping[str, Any]:
        return self.latest


def _serve(pipe: Connection[Any, Any]) -> None:
    """Does what the child asks for, until the pipe closes."""
    from xcargo.stores.object_store import ObstoreRequests

    root, config, client, limits = pipe.recv()
    credentials = _Credentials()
    requests: ObstoreRequests | None = None
    while True:
        try:
            verb, arguments, renewed = pipe.recv()
        except EOFError:
            return
        if renewed is not None:
            credentials.latest = renewed
        if requests is None:
            provider = None if renewed is None else credentials
            requests = ObstoreRequests(root, Access(config, client, provider), limits)
        try:
            result = _answer(requests, verb, arguments, pipe)
        except XCargoError as error:
            result = error
        if isinstance(result, memoryview):
            pipe.send(None)
            pipe.send_bytes(result)
        else:
            pipe.send(result)


def _answer(requests: Any, verb: str, arguments: dict[str, Any], pipe: Connection[Any, Any]) -> Any:
    call = getattr(requests, verb)
    if not verb.startswith("put"):
        result = call(**arguments)
        return list(result) if verb == "list" else result
    parts = _received_parts(pipe)
    try:
        return call(parts=list(parts) if verb == "put" else parts, **arguments)
    finally:
        with suppress(XCargoError):
            for _ in parts:  # left by a put that failed
                pass


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
