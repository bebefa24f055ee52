"""Whose a root is: a small object below it names the deployment, and every sweep reads it before it judges.

Two deployments that share a path take each other's objects for orphans, since each knows its own rows only. The first
sweep that deletes anything notes whose rows it goes by; a sweep by other rows is refused from then on. Pushes and pulls
neither read nor write the note.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from xcargo.errors import ObjectExistsError, ObjectNotFoundError, StoreError, SweepRefusedError
from xcargo.lifecycle.plan import BOOKKEEPING
from xcargo.stores.base import Store

__all__ = ["NOTE", "Owner", "claim", "read_owner", "refusal"]

NOTE = f"{BOOKKEEPING}owner.json"


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
        note = json.loads(bytes(store.get(NOTE)))
        texts = {name: note.get(name) for name in ("deployment", "database", "api")}
        if not all(text is None or isinstance(text, str) for text in texts.values()):
            raise ValueError
        return Owner(**texts, shared=bool(note.get("shared")))
    except ObjectNotFoundError:
        return None
    except (AttributeError, ValueError) as error:
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
