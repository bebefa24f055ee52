"""Each example of docs/types.md comes back exactly in a process that has just been started."""

from __future__ import annotations

import json
import sys

import pytest

from tests.roundtrips.__main__ import pull, push
from tests.roundtrips.examples import examples
from tests.roundtrips.probe import NOT_THERE, read_rows, write_rows
from tests.roundtrips.table import FORMER

BEFORE = "row of older libraries"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What came back of each, by type and place. ``make roundtrips`` does it with more versions, and each way."""
    home = tmp_path_factory.mktemp("roundtrips")
    push("pipeline", str(home), python=sys.executable, places=("object",))
    rows = read_rows(home, "pipeline", "object")
    for kind, row in json.loads(FORMER.read_text("utf-8")).items():
        rows[kind][BEFORE] = row
    write_rows(home, "pipeline", "object", rows)
    return pull("pipeline", str(home), python=sys.executable, places=("object",))


@pytest.mark.parametrize("kind", examples())
def test_every_type_comes_back_in_another_process(kind: str, outcomes: dict[str, dict[str, str]]) -> None:
    """Alone, inside a list and a dictionary, and as pandas 2.1, numpy 1.26, pyarrow 14 and polars 1.32 wrote it."""
    if set(outcomes[kind].values()) == {NOT_THERE}:
        pytest.skip("The library is not installed here")
    assert set(outcomes[kind].values()) == {"exact"}
