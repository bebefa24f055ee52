"""Options of memoize, checked where the Dag is written."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import xcargo
from xcargo.errors import ConfigurationError


@pytest.mark.parametrize("name", ["expires", "wait"])
@pytest.mark.parametrize("given", [timedelta.max, timedelta(-1), 60])
def test_a_time_that_makes_no_sense_is_refused_at_once(name: str, given: Any) -> None:
    """Rather than by the task, after it has computed its result."""
    with pytest.raises(ConfigurationError, match=name):
        xcargo.memoize(**{name: given})
