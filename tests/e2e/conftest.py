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


_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    report: Any = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.fixture
def opened(request: pytest.FixtureRequest, chromium: Any, world: World) -> Iterator[Desk]:
    """Opens the tab of a task as a user. At the end no script has failed, and no alert was shown."""
    desk = Desk(chromium, world)
    yield desk
    try:
        if request.node.stash.get(_FAILED, False):
            print(desk.text())
    finally:
        desk.close()
    assert desk.complaints == []
