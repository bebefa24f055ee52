"""The scenarios by name. Each module says what it measures (its docstring's first line) and has:

* ``trials(plan)``: what to run; or ``samples(plan, store, rounds, tell)``, which runs it itself;
* ``BASELINE``: the subjects xcargo is compared with; of several, the best;
* ``SHOWN``: the metrics of the table;
* ``NOT_QUICK = True`` if it takes too long for the quick form, ``ONLY_BY_NAME = True`` if for all;
* ``table(results)``, if it has a table of its own;
* the functions that its trials name, which run in the measuring processes.
"""

from __future__ import annotations

from types import ModuleType

from benchmarks.scenarios import (
    codec,
    compression,
    fanin,
    fanout,
    first,
    handon,
    inline,
    limits,
    many,
    memory,
    peers,
    scheduler,
    startup,
    state,
    warm,
    wire,
)

__all__ = ["SCENARIOS"]

_ALL = (
    first,
    warm,
    many,
    fanin,
    fanout,
    inline,
    startup,
    memory,
    codec,
    compression,
    wire,
    handon,
    state,
    limits,
    scheduler,
    peers,
)

SCENARIOS: dict[str, ModuleType] = {module.__name__.rpartition(".")[2]: module for module in _ALL}
