"""The explorer's Airflow and browser, started once for all tests that look at it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e import browser
from tests.e2e.explorer import Desk, World, living


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with living(tmp_path_factory.mktemp("explorer")) as made:
        yield made


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    with browser.running(str(browser.installed())) as running:
        yield running


@pytest.fixture
def desk(chromium: Any, world: World) -> Desk:
    """Opens pages, in a `with` block."""
    return Desk(chromium, world)
