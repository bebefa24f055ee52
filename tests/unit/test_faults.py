"""A few cells of the fault matrix; `make faults` runs all of them."""

from __future__ import annotations

import shutil

import pytest

from tests.faults.calls import COMPILER
from tests.faults.cells import Result, cells
from tests.faults.page import updated
from tests.faults.run import run

NAMES = (
    *("503 with Retry-After: 1, once / push", "reset after the request, once / push in parts"),
    *("no answer, lasting / pull", "answer altered, lasting / pull many", "answer cut short, once / read a part"),
    *("429, once / pull", "reset before the request, once / pull", "503, lasting / push"),
    *("credentials expire, once / push", "connection refused, lasting / purge", "upload altered, once / push"),
)
CHOSEN = [cell for cell in cells() if cell.name.partition(" / ")[2] in NAMES]


@pytest.mark.servers
@pytest.mark.parametrize("kind", ["s3", "gcs", "azure"])
def test_a_cell_is_as_it_must_be(kind: str, request: pytest.FixtureRequest) -> None:
    """The value or the right error, within its time bound, and nothing left behind."""
    chosen = [cell for cell in CHOSEN if cell.kind == kind]
    assert len(chosen) == len(NAMES)
    server = request.getfixturevalue(f"{kind}_server")
    results = run(chosen, {kind: server}, lambda _: None)
    assert [f"{result.cell.name}: {result.wrong}" for result in results if result.wrong] == []


def test_a_full_disk_one_that_is_read_only_and_every_error_of_file_systems() -> None:
    """On file systems of their own; where user namespaces are forbidden, nothing is shown."""
    if shutil.which("unshare") is None or COMPILER is None:
        pytest.skip("needs unshare and a C compiler")
    results = run(cells(["file / "]), {}, lambda _: None)
    if any("unshare" in result.outcome for result in results):
        pytest.skip("user namespaces are forbidden here")
    assert [f"{result.cell.name}: {result.wrong}" for result in results if result.wrong] == []


def test_a_wrong_outcome_is_red() -> None:
    """Another outcome, more time than there is, and what is left behind; the page says so until it is run again."""
    (cell,) = [c for c in cells() if c.name == "s3 / 500, once / push"]
    assert Result(cell, "value", 1, "").wrong == ""
    assert "within" in Result(cell, "value", 99, "").wrong
    assert "left behind" in Result(cell, "value", 1, "some/key").wrong
    red = Result(cell, "StoreUnavailableError", 1, "")
    assert "must be" in red.wrong
    page = updated("", [red])
    assert "1 cells, 1 red." in page
    assert "1 cells, 0 red." in updated(page, [Result(cell, "value", 1, "")])
