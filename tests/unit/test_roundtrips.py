"""Each example of docs/types.md comes back exactly in a process that has just been started."""

from __future__ import annotations

import sys

import pytest

from tests.roundtrips.__main__ import carried
from tests.roundtrips.examples import examples


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, str]]:
    """What came back of each, by type and by whether it was nested. ``make roundtrips`` does it with other versions."""
    return carried("pipeline", sys.executable, sys.executable, places=("object",))


@pytest.mark.parametrize("kind", examples())
def test_every_type_comes_back_in_another_process(kind: str, outcomes: dict[str, dict[str, str]]) -> None:
    """Alone and inside a list and a dictionary."""
    assert set(outcomes[kind].values()) == {"exact"}
