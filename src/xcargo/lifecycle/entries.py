"""Entries of ``memoize``, which a sweep deletes once they lead nowhere, or once their time is over.

An entry owns nothing: no object is kept or deleted because of one, so a forged one can do no harm but to itself. One
that cannot be read, or is not signed as it should be, goes by a retention rule alone. Nothing younger than the grace is
judged: the rows of all others were written long before the rows were read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from xcargo.errors import EnvelopeError, ObjectNotFoundError, StoreUnavailableError, XCargoError
from xcargo.lifecycle.plan import Judgement, SweepPlan, Verdict, is_same
from xcargo.model.coordinate import segment, shown_id, text_of
from xcargo.model.keys import Signer
from xcargo.pipeline.memo import FOLDER, Claim, Entries, Entry
from xcargo.stores.base import ObjectInfo, Store, is_part, list_all

__all__ = ["entry_folders", "forget", "is_entry", "judged_entries", "list_entries", "read_entries"]

_BATCH = 500
_KEY = re.compile(rf"{FOLDER}/([^/]+)/([^/]+)/[0-9a-f]{{32}}\.json")
_ALL_DAGS = segment("")


def is_entry(key: str) -> bool:
    """Whether an object is among the entries, whatever it is."""
    return key.startswith(f"{FOLDER}/")


def entry_folders(store: Store) -> set[str]:
    """The folders of Dags that have entries."""
    return {parts[2] for info in list_entries(store, ()) if len(parts := info.key.split("/")) > 3}


def list_entries(store: Store, prefixes: tuple[str, ...]) -> Iterator[ObjectInfo]:
    """What is stored among the entries of all Dags, or of those whose folders are named. One request for a thousand."""
    for folder in [FOLDER] if not prefixes else [f"{FOLDER}/{prefix}" for prefix in prefixes if "/" not in prefix]:
        yield from list_all(store, folder)


def read_entries(
    store: Store, signer: Signer, pool: ThreadPoolExecutor, prefixes: tuple[str, ...]
) -> Iterator[tuple[ObjectInfo, Entry | XCargoError]]:
    """Every entry of all Dags, or of those whose folders are named; if it cannot be read, why. A request for each."""
    entries = Entries(store, signer)
    listing = (info for info in list_entries(store, prefixes) if not is_part(info.key))
    while batch := list(islice(listing, _BATCH)):
        for info, entry in zip(batch, pool.map(lambda info: _read(entries, info), batch), strict=True):
            if not isinstance(entry, (Claim, ObjectNotFoundError)):
                yield info, entry


def forget(store: Store, info: ObjectInfo) -> bool:
    """Delete an entry, if it is still the one that was listed. Two requests."""
    try:
        if not is_same(store.head(info.key), info):
            return False
    except ObjectNotFoundError:
        return False
    store.delete([info.key])
    return True


def judged_entries(
    store: Store, plan: SweepPlan, pool: ThreadPoolExecutor, *, has_references: bool, has_runs: Callable[[str], bool]
) -> Iterator[tuple[ObjectInfo, Judgement]]:
    """Every entry below the prefixes, and its verdict. One request for each that is older than the grace.

    Args:
        store: The store of the root.
        plan: What the rows refer to, the clock, and the options.
        pool: Reads entries.
        has_references: Whether the deployment has any live reference: without one, nothing is known to be gone.
        has_runs: Whether there may be runs of a Dag.
    """
    entries = Entries(store, plan.options.signer)
    listing = list_entries(store, plan.options.prefixes)
    while batch := list(islice(listing, _BATCH)):
        old = [info for info in batch if plan.age_seconds(info) > plan.options.grace_seconds]
        read = dict(zip(old, pool.map(lambda info: _read(entries, info), old), strict=True))
        for info in batch:
            yield info, _judge(info, read.get(info), plan, has_references, has_runs)


def _read(entries: Entries, info: ObjectInfo) -> Entry | Claim | XCargoError:
    match = _KEY.fullmatch(info.key)
    try:
        if match is None:
            raise EnvelopeError("This is no key of an entry", where=info.key)
        entry = entries.find(info.key)
        if entry is None:
            raise ObjectNotFoundError("It is gone", where=info.key)
        if isinstance(entry, Entry) and match[1] not in (_ALL_DAGS, segment(entry.dag_id)):
            raise EnvelopeError("The entry is of another Dag", where=info.key)
    except StoreUnavailableError:
        raise
    except XCargoError as error:
        return error
    return entry


def _judge(
    info: ObjectInfo,
    entry: Entry | Claim | XCargoError | None,
    plan: SweepPlan,
    has_references: bool,
    has_runs: Callable[[str], bool],
) -> Judgement:
    match = _KEY.fullmatch(info.key)
    if match is None and not is_part(info.key):
        return Judgement(Verdict.FOREIGN, None)
    dag = shown_id(info.key.split("/")[2])
    age_seconds = plan.age_seconds(info)
    if info.last_modified is None:
        return Judgement(Verdict.UNKNOWN_AGE, dag)
    if age_seconds <= plan.options.grace_seconds:
        return Judgement(Verdict.YOUNG, dag)
    if match is None or isinstance(entry, Claim):  # what a killed task left; another one computes the result anyway
        return Judgement(Verdict.ORPHAN, dag)
    if isinstance(entry, Entry):
        dag_id, task_id = entry.dag_id, entry.task_id
    else:  # what cannot be read counts to the Dag and task of its folder
        dag_id, task_id = (text_of(segment) or "" for segment in match.groups())
    rule = next((rule for rule in plan.options.rules if rule.matches_entry(dag_id, task_id)), None)
    if rule is not None and not rule.forever and age_seconds > (rule.keep_seconds or 0):
        return Judgement(Verdict.EXPIRED, dag, rule.text)
    if not isinstance(entry, Entry):
        return Judgement(Verdict.UNSEEN, dag)
    if entry.lifetime is not None and age_seconds > entry.lifetime.total_seconds():
        return Judgement(Verdict.EXPIRED, dag)
    is_gone = any(_is_gone(uri, stored_bytes, age_seconds, plan) for uri, stored_bytes in entry.objects.items())
    if is_gone or not (entry.objects or has_runs(entry.dag_id)):
        return Judgement(Verdict.ORPHAN if has_references else Verdict.UNSEEN, dag)
    return Judgement(Verdict.LIVE, dag)


def _is_gone(uri: str, stored_bytes: int, age_seconds: float, plan: SweepPlan) -> bool:
    """Whether no row refers to an object any more, or its value expires. One below another root is not known to be."""
    key = plan.live.key_of(uri)
    if key is None or plan.live.is_hidden(key):
        return False
    if key not in plan.live:
        return True
    rule = plan.live.rule_against(key, stored_bytes)
    return rule is not None and age_seconds >= (rule.keep_seconds or 0)
