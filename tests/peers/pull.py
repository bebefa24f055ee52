"""Pull every row of a file, in processes that have used no library yet, and compare what comes with the value.

python -m tests.peers.pull FILE

Prints one JSON object a value: ``outcome`` is exact, refused, changed, error, and what it was.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import sys
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from tests.exact import assert_exact
from tests.peers import pipeline

_BATCH = 16


def main(file: str) -> None:
    """Run the command."""
    warnings.simplefilter("ignore")
    puller = pipeline()
    for library in ("numpy", "pandas", "pyarrow", "polars"):  # imported, which takes long, but not used
        importlib.import_module(library)
    with Path(file).open("rb") as file_object:
        records = _records(file_object)
        while batch := list(islice(records, _BATCH)):
            _in_child(puller, batch)


def _records(file: Any) -> Iterator[dict[str, Any]]:
    while True:
        try:
            yield pickle.load(file)
        except EOFError:
            return


def _in_child(puller: Any, batch: list[dict[str, Any]]) -> None:
    """Print the outcomes of some pulls in a child, so that this process stays as if it had just been started."""
    child = os.fork()
    if child == 0:
        for record in batch:
            print(json.dumps({**_outcome(puller, record), "shown": record["shown"], "own": record["own"]}), flush=True)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        shown = " | ".join(record["shown"][:100] for record in batch)
        what = f"pull: the process ended with {status}"
        print(json.dumps({"outcome": "error", "what": what, "shown": shown, "own": False}), flush=True)


def _outcome(puller: Any, record: dict[str, Any]) -> dict[str, str]:
    if "row" not in record:
        return {"outcome": record["outcome"], "what": record["what"]}
    row = json.loads(record["row"])
    try:
        back = puller.pull(row) if type(row) is dict and "__id__" in row else row
    except BaseException as error:
        return {"outcome": "error", "what": f"pull: {type(error).__name__}: {error!s:.500}"}
    if not record["pickled"]:
        return {"outcome": "exact", "what": "pulled, but cannot be pickled to be compared"}
    try:
        value = pickle.loads(record["pickled"])
    except Exception as error:
        return {"outcome": "exact", "what": f"pulled, but cannot be unpickled to be compared: {error!s:.100}"}
    try:
        assert_exact(value, value)
    except Exception as error:
        return {"outcome": "exact", "what": f"pulled, but does not equal itself: {type(error).__name__}"}
    try:
        assert_exact(back, value)
    except Exception as error:
        return {"outcome": "changed", "what": f"{error!s:.500}"}
    return {"outcome": "exact", "what": ""}


if __name__ == "__main__":
    main(*sys.argv[1:])
