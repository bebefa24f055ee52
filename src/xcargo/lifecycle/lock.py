"""One sweep at a time: a small object below the root, which ages by the store's own clock.

A sweep is safe without it: it checks each object again before it deletes it, and deleting one twice does no harm. The
lock keeps two sweeps from doing the same work and from reporting half of it each.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

from xcargo.errors import ObjectNotFoundError, SweepRefusedError, XCargoError
from xcargo.lifecycle.plan import BOOKKEEPING
from xcargo.stores.base import Store

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["SweepLock", "store_clock"]

_FOLDER = f"{BOOKKEEPING}locks"
_CLOCKS = f"{BOOKKEEPING}clock"


def store_clock(store: Store) -> datetime:
    """What time it is by the store's clock: that of a marker just written. Three requests."""
    key = f"{_CLOCKS}/{secrets.token_hex(8)}"
    store.put(key, [b""])
    try:
        return _written_at(store, key)
    finally:
        store.delete([key])


class SweepLock:
    """Held while the block lasts, for some prefixes of a root, and renewed by a thread meanwhile.

    A lock whose holder was killed expires after ``expires_seconds``; on the same machine the next sweep notices at
    once. Entering raises SweepRefusedError if another sweep has some of the prefixes.
    """

    def __init__(self, store: Store, prefixes: Iterable[str], *, expires_seconds: float = 180.0) -> None:
        self._store = store
        self._prefixes = sorted(prefixes)
        self._expires_seconds = expires_seconds
        self._key = f"{_FOLDER}/{secrets.token_hex(8)}.json"
        self._renewed_at = 0.0
        self._is_lost = False
        self._released = Event()
        self._renewing = Thread(target=self._renew, name="xcargo-sweep-lock", daemon=True)

    def __enter__(self) -> Self:
        self._write()
        try:
            now = _written_at(self._store, self._key)
            for info in list(self._store.list(_FOLDER)):
                if info.key != self._key:
                    self._refuse_or_remove(info.key, now - (info.last_modified or now))
            for info in list(self._store.list(_CLOCKS)):  # left by sweeps that were killed
                if (now - (info.last_modified or now)).total_seconds() > self._expires_seconds:
                    self._store.delete([info.key])
        except BaseException:
            self._store.delete([self._key])
            raise
        self._renewing.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._renewing.join()  # else it might write the lock once more after its deletion
        self._store.delete([self._key])

    def check(self) -> None:
        """Raise SweepRefusedError if another sweep may have the lock by now. No request."""
        if self._is_lost or time.monotonic() - self._renewed_at > self._expires_seconds:
            raise SweepRefusedError(
                "This sweep could not renew its lock for so long that another one may have started",
                hint="What it did until then is done. Run it again when no other one is under way.",
            )

    def _renew(self) -> None:
        while not self._released.wait(self._expires_seconds / 6):
            try:
                self._store.head(self._key)
                self._write()
            except ObjectNotFoundError:
                self._is_lost = True
                return
            except XCargoError:  # a store that stays away: check() ends the sweep once the lock has expired
                continue

    def _write(self) -> None:
        holder = {"prefixes": self._prefixes, "holder": f"{socket.gethostname()}, process {os.getpid()}", "at": _here()}
        started = time.monotonic()
        self._store.put(self._key, [json.dumps({**holder, "pid": os.getpid()}).encode()])
        self._renewed_at = started

    def _refuse_or_remove(self, key: str, age: timedelta) -> None:
        try:
            other = json.loads(bytes(self._store.get(key)))
            prefixes, holder = list(map(str, other["prefixes"])), str(other["holder"])
            is_dead = other["at"] == _here() and not _is_running(int(other["pid"]))
        except ObjectNotFoundError:
            return
        except (KeyError, TypeError, ValueError):  # not written by us; it counts until it expires
            prefixes, holder, is_dead = [""], "an unknown holder", False
        if not any(_overlap(a, b) for a in self._prefixes or [""] for b in prefixes or [""]):
            return
        if is_dead or age.total_seconds() > self._expires_seconds:
            self._store.delete([key])
            return
        raise SweepRefusedError(
            f"Another sweep is under way ({holder}), last heard of {age.total_seconds():.0f} s ago",
            where=key,
            hint=f"Wait for its end. If it was killed, its lock expires after {self._expires_seconds:.0f} s.",
        )


def _written_at(store: Store, key: str) -> datetime:
    written = store.head(key).last_modified
    if written is None:
        raise SweepRefusedError(
            "The store does not say when objects were written, so nothing is known to be old enough",
            hint="Delete old objects by the store's own means.",
        )
    return written


def _overlap(one: str, other: str) -> bool:
    """Whether two prefixes of whole segments have objects in common."""
    a, b = (f"{prefix.strip('/')}/" if prefix.strip("/") else "" for prefix in (one, other))
    return a.startswith(b) or b.startswith(a)


def _here() -> str:
    """This machine and its space of process ids: containers may share the one and not the other."""
    space = ""
    with suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    with suppress(OSError):
        space += Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{socket.gethostname()} {space}"


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
