"""The rooms of the source are the same in import-linter's rule, in CONTRIBUTING and on the page of the architecture."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house import CHECKOUT, SOURCE, rooms_of_the_linter


def rooms_of_the_page(page: Path) -> list[str]:
    """The numbered list of a page, in the linter's words."""
    lines = re.findall(r"^\d+\. ((?:`\w+`(?:, )?)+)", page.read_text(), flags=re.MULTILINE)
    return [" | ".join(re.findall(r"`(\w+)`", line)) for line in lines]


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_a_page_lists_the_rooms_that_the_linter_enforces(page: str) -> None:
    assert rooms_of_the_page(CHECKOUT / page) == rooms_of_the_linter()


def test_every_folder_and_loose_module_is_a_room() -> None:
    there = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    rooms = {room for layer in rooms_of_the_linter() for room in layer.split(" | ")}
    assert there - {"__init__"} == rooms
