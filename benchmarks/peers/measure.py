"""What the measuring processes do, each with one client: push, pull, and pull what was damaged."""

from __future__ import annotations

import functools
import gc
import itertools
import re
import secrets
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks import child, hooks, memory
from benchmarks.payloads import bytes_of, payload
from benchmarks.peers import bucket
from benchmarks.peers.clients import Client, client
from tests.exact import assert_exact

__all__ = ["damage", "gather", "pull", "push", "pushed"]

FLIPS = 5
_SAYS_SO = re.compile(r"checksum|\bcrc|integrity|corrupt|incorrect data check|could not unpack", re.IGNORECASE)
"""What an error says that was raised because the stored bytes are not those that were stored."""

Case = dict[str, Any]
"""``subject``, ``name`` of the payload, how ``many`` values an operation has, and how often it is done (``repeat``)."""


def push(**case: Any) -> dict[str, Any]:
    """Push over and over; memory and traffic are the first operation's. Ends with the bucket as it was."""
    before = bucket.sizes()
    peer, values = client(case["subject"]), _values(case)
    _warm_up(peer, case["name"])
    operations = itertools.repeat(lambda: [peer.push(value) for value in values], case["repeat"])
    metrics, _ = _measured("push", case, operations, lambda: _mark_all(values))
    for key in bucket.sizes().keys() - before.keys():
        bucket.delete(key)
    return metrics


def pushed(**case: Any) -> dict[str, Any]:
    """What the pulling processes need: for each operation its handles and the marks of their values."""
    before = bucket.sizes()
    peer, values = client(case["subject"]), _values(case)
    operations, objects = [], {}
    for number in range(case["repeat"]):
        marks = _mark_all(values)
        operations.append({"handles": [peer.push(value) for value in values], "marks": marks})
        if number == 0:
            objects = {key: size for key, size in bucket.sizes().items() if key not in before}
    return {"operations": operations, "objects": objects}


def pull(carry: dict[str, Any], **case: Any) -> dict[str, Any]:
    """Pull over and over, other objects each time; memory and traffic are the first operation's."""
    return _pulled(carry, case, lambda peer, handles: [peer.pull(handle) for handle in handles])


def gather(carry: dict[str, Any], **case: Any) -> dict[str, Any]:
    """The same, all values of an operation at once, as a peer gives a task the results of many others."""
    return _pulled(carry, case, lambda peer, handles: peer.gather(handles))


def _pulled(carry: dict[str, Any], case: Case, work: Callable[[Client, list[Any]], Any]) -> dict[str, Any]:
    peer = client(case["subject"])
    _warm_up(peer, case["name"])
    handles = [operation["handles"] for operation in carry["operations"]]
    metrics, back = _measured("pull", case, (functools.partial(work, peer, some) for some in handles))
    values = _values(case)
    for value, mark in zip(values, carry["operations"][-1]["marks"], strict=True):
        _mark(value, mark)
    return {**metrics, "exact": float(_is_exact(back, values))}


def _measured(
    verb: str, case: Case, operations: Iterable[Callable[[], Any]], prepare: Callable[[], Any] = int
) -> tuple[dict[str, Any], Any]:
    """The metrics, and what the last operation gave."""
    watch, counts, back = hooks.Watch(), {}, None
    for number, operation in enumerate(operations):
        del back
        prepare()
        gc.collect()
        memory.at_hand(bytes_of(case["name"].partition(", ")[2]))
        traffic, peak = bucket.Traffic(), memory.Peak()
        with watch(verb):
            back = operation()
        if number == 0:
            counts = {f"{verb}_peak_bytes": peak.extra_bytes(), **traffic.metrics(verb)}
    return {**watch.metrics, **counts}, back


def damage(carry: dict[str, Any], **case: Any) -> dict[str, Any]:
    """A bit of what was stored is flipped, at so many places, one after another: what a pull makes of it."""
    global _expected
    operation = carry["operations"][0]
    (_expected,) = _values(case)
    _mark(_expected, operation["marks"][0])
    size = sum(carry["objects"].values())
    counts = dict.fromkeys(("noticed", "wrong", "crashed", "harmless"), 0.0)
    arguments = {"subject": case["subject"], "handle": operation["handles"][0]}
    for number in range(FLIPS):
        key, offset = _located(size * (2 * number + 1) // (2 * FLIPS), carry["objects"])
        bucket.flip(key, offset)
        answer = child.in_child({"function": f"{__name__}:is_pulled", "arguments": arguments, "env": {}})
        bucket.flip(key, offset)
        counts[_verdict(answer)] += 1
    return counts


def _located(offset: int, objects: dict[str, int]) -> tuple[str, int]:
    for key, size in objects.items():
        if offset < size:
            return key, offset
        offset -= size
    raise IndexError(offset)


def is_pulled(subject: str, handle: Any) -> bool:
    """Whether the value comes back exactly, in a process forked for this pull."""
    return _is_exact([client(subject).pull(handle)], [_expected])


def _verdict(answer: dict[str, Any]) -> str:
    if "error" in answer:
        return "noticed" if _SAYS_SO.search(answer["error"]) else "crashed"
    return "harmless" if answer["result"] else "wrong"


def _values(case: Case) -> list[Any]:
    values = [payload(case["name"]) for _ in range(case["many"])]
    _mark_all(values)
    return values


def _mark_all(values: list[Any]) -> list[int]:
    first = secrets.randbelow(10**12)
    marks = list(itertools.islice(itertools.count(first), len(values)))
    for value, mark in zip(values, marks, strict=True):
        _mark(value, mark)
    return marks


def _mark(value: Any, mark: int) -> None:
    """Make a value one of its own: some peers store equal ones once."""
    if isinstance(value, dict):
        value["key0"] = str(mark)
    elif isinstance(value, list):
        value[0]["id"] = mark
    elif hasattr(value, "iat"):
        value.iat[0, 0] = mark
    else:
        value[0] = mark


def _warm_up(peer: Client, name: str) -> None:
    """A push and pull that are not measured: imports and connections are made."""
    value = payload(f"{name.partition(', ')[0]}, 10 KB")
    _mark_all([value])
    peer.pull(peer.push(value))


def _is_exact(back: Any, values: list[Any]) -> bool:
    try:
        assert_exact(list(back), values)
    except AssertionError:
        return False
    return True


_expected: Any = None
