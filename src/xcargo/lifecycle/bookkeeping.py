"""What sweeps keep below a root, in a folder of their own: whose the root is, who sweeps it now, and a quarantine.

* The owner's note names the deployment. Two deployments that share a path take each other's objects for orphans, since
  each knows its own rows only. The first sweep that deletes anything notes whose rows it goes by; a sweep by other rows
  is refused from then on. Pushes and pulls neither read nor write the note.
* The lock lets one sweep at a time delete, and ages by the store's own clock. A sweep is safe without it: it checks
  each object again before it deletes it, and deleting one twice does no harm. The lock keeps two sweeps from doing the
  same work and from reporting half of it each.
* The quarantine holds what a sweep moves instead of deleting it. The copy is made, and checked, before the object is
  deleted: a sweep that is killed in between leaves both, and the next one finishes. A copy is stored under its own key
  in the quarantine, so copying twice does no harm.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

from xcargo.errors import (
    ConfigurationError,
    IntegrityError,
    ObjectExistsError,
    ObjectNotFoundError,
    StoreError,
    SweepRefusedError,
    XCargoError,
)
from xcargo.stores.base import ObjectInfo, Store, copy_object
from xcargo.types import Buffer

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "BOOKKEEPING",
    "NOTE",
    "QUARANTINE",
    "Owner",
    "SweepLock",
    "claim",
    "move_to_quarantine",
    "read_owner",
    "refusal",
    "restore",
    "store_clock",
]


BOOKKEEPING = "~xcargo/"
"""The folder. No coordinate has a segment of this name."""

NOTE = f"{BOOKKEEPING}owner.json"

_MAX_BYTES = 64 * 1024
"""More than any note or lock has: whoever may write to the bucket may have put anything in its place."""


@dataclass(frozen=True)
class Owner:
    """What a deployment is known by: its name if both that are compared have one, else where their rows are read."""

    deployment: str | None = None
    """The name that its settings give it."""
    database: str | None = None
    """Where its metadata database is, without credentials."""
    api: str | None = None
    """Where its REST API answers."""
    shared: bool = False
    """Several deployments share the root: each may sweep Dags that it names, none may sweep everything."""

    def is_same(self, other: Owner) -> bool | None:
        """Whether both are one deployment; None where they have nothing that can be compared."""
        if self.deployment and other.deployment:
            return self.deployment == other.deployment
        both = [(a, b) for a, b in ((self.database, other.database), (self.api, other.api)) if a and b]
        if any(a == b for a, b in both):
            return True
        return False if both or self.deployment else None

    def __str__(self) -> str:
        known = {name: value for name, value in asdict(self).items() if isinstance(value, str)}
        return ", ".join(f"{name} {value}" for name, value in known.items()) or "several deployments"

    def to_bytes(self) -> bytes:
        """The note, as JSON."""
        return json.dumps({name: value for name, value in asdict(self).items() if value}).encode()


def read_owner(store: Store) -> Owner | None:
    """Whose the root is, as far as it says so. One request. Raises SweepRefusedError if the note cannot be read."""
    try:
        note = json.loads(bytes(store.get(NOTE, end=_MAX_BYTES)))
        texts = {name: note.get(name) for name in ("deployment", "database", "api")}
        if not all(text is None or isinstance(text, str) for text in texts.values()):
            raise ValueError
        return Owner(**texts, shared=bool(note.get("shared")))
    except ObjectNotFoundError:
        return None
    except (AttributeError, ValueError, RecursionError) as error:
        raise SweepRefusedError(
            "The note that says whose this root is cannot be read",
            where=NOTE,
            hint="If it is this deployment's, write it again: xcargo gc --apply --owner me.",
        ) from error


def refusal(owner: Owner | None, me: Owner, prefixes: Sequence[str]) -> str | None:
    """Why a sweep by the rows of ``me`` must not delete anything from a root of ``owner``, or None if it may."""
    if owner is None:
        return None
    if owner.shared:
        return None if prefixes else _SHARED
    if owner.is_same(me) is not False:
        return None
    return (
        f"The root is not ours: it belongs to {owner}, and this is {me}. Give each deployment a path of its own. "
        "If it is the same deployment by a new name, or the other one is gone: xcargo gc --apply --owner me"
    )


_SHARED = "Several deployments share the root, and only the rows of one can be read here. Name its Dags: --dag"


def claim(store: Store, owner: Owner | None, me: Owner, prefixes: Sequence[str], *, replace_note: bool = False) -> None:
    """Note whose the root is, where it does not say so yet, or with ``replace_note`` whatever it says.

    The note of the same deployment is written again, so that no rule of the bucket that goes by age deletes it while
    there are sweeps. Where a store cannot write only what is not there yet (a mount without links, an old S3 server),
    the slower of two first sweeps owns the root. At most two requests.

    Raises:
        SweepRefusedError: Another deployment was faster.
    """
    if replace_note:
        store.put(NOTE, [me.to_bytes()])
    elif owner is None:
        try:
            store.put(NOTE, [me.to_bytes()], mode="create")
        except ObjectExistsError:
            why = refusal(read_owner(store), me, prefixes)
            if why is not None:
                raise SweepRefusedError(why) from None
        except StoreError:
            store.put(NOTE, [me.to_bytes()])
    elif not owner.shared and owner.is_same(me):
        known = {name: value for name, value in asdict(me).items() if value}
        store.put(NOTE, [replace(owner, **known).to_bytes()])


# --- the lock --------------------------------------------------------------------------------------------------------

_LOCKS = f"{BOOKKEEPING}locks"
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
        self._key = f"{_LOCKS}/{secrets.token_hex(8)}.json"
        self._renewed_at = 0.0
        self._is_lost = False
        self._released = Event()
        self._renewing = Thread(target=self._renew, name="xcargo-sweep-lock", daemon=True)

    def __enter__(self) -> Self:
        self._write()
        try:
            now = _written_at(self._store, self._key)
            for info in list(self._store.list(_LOCKS)):
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
            other = json.loads(bytes(self._store.get(key, end=_MAX_BYTES)))
            prefixes, holder = list(map(str, other["prefixes"])), str(other["holder"])
            is_dead = other["at"] == _here() and not _is_running(int(other["pid"]))
        except ObjectNotFoundError:
            return
        except (
            ArithmeticError,
            KeyError,
            RecursionError,
            TypeError,
            ValueError,
        ):  # not ours; it counts until it expires
            prefixes, holder, is_dead = [""], "an unknown holder", False
        if not any(_overlap(a, b) for a in self._prefixes or [""] for b in prefixes or [""]):
            return
        # Nobody wrote one in the future, since one clock dates them all.
        if is_dead or abs(age.total_seconds()) > self._expires_seconds:
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


# --- the quarantine --------------------------------------------------------------------------------------------------

QUARANTINE = f"{BOOKKEEPING}quarantine"

_RANGE_BYTES = 8 * 1024 * 1024


def move_to_quarantine(store: Store, info: ObjectInfo) -> None:
    """Copy an object into quarantine, then delete it.

    Where the store does not copy it by itself, its bytes travel through this machine, 8 MiB at a time.
    """
    _copy(store, info.key, f"{QUARANTINE}/{info.key}", info.size_bytes)
    store.delete([info.key])


def restore(store: Store, info: ObjectInfo) -> None:
    """Copy an object back to where it was, unless it is there, then delete the copy (which ``info`` is of).

    A copy is never deleted unless an object of its length is there.
    """
    key = info.key.removeprefix(f"{QUARANTINE}/")
    try:
        is_there = store.head(key).size_bytes == info.size_bytes
    except ObjectNotFoundError:
        is_there = False
    if not is_there:
        _copy(store, info.key, key, info.size_bytes)
    store.delete([info.key])


def _copy(store: Store, source: str, target: str, size_bytes: int) -> None:
    def ranges() -> Iterator[Buffer]:
        for start in range(0, size_bytes, _RANGE_BYTES):
            end = min(start + _RANGE_BYTES, size_bytes)
            data = store.get(source, start=start, end=end)
            if len(data) != end - start:
                raise IntegrityError("The object changed while it was copied", where=source)
            yield data

    try:
        copy_object(store, source, target)
    except ObjectNotFoundError:
        raise
    except (ConfigurationError, StoreError):
        store.put(target, ranges(), expected_bytes=size_bytes)
    copied = store.head(target).size_bytes
    if copied != size_bytes:
        raise IntegrityError(f"The copy has {copied} bytes, the object {size_bytes}", where=target)
