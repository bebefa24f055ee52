"""Fixtures of the connection tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.airflow.connection_kit import Recorder, bare, recorder

__all__ = ["bare"]


@pytest.fixture
def wire() -> Iterator[Recorder]:
    """A recorder on loopback, without TLS."""
    with recorder() as record:
        yield record
