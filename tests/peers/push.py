"""Push every value of one source, into a file that the pulling process reads.

python -m tests.peers.push SOURCE SECONDS FILE
"""

from __future__ import annotations

import io
import json
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

from tests.peers import pipeline, sources
from xcargo.errors import UnsupportedTypeError
from xcargo.model.coordinate import Coordinate

__all__ = ["Pushes"]

HERE = Coordinate("a_dag", "a_run", "a_task", "return_value")
_OWN = (b".tests.", b"pandas._testing", b"NumpyEADtype")
"""What a pickle names if its class is of a suite, or made by pandas' tests alone: a column that is a view of numpy."""
_MOST_BYTES = 1_000_000


class Pushes:
    """Pushes values that were not pushed before, and keeps row and value, or the error, in a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._pipeline = pipeline()
        self._seen: set[int] = set()
        self._busy = False

    def add(self, value: Any) -> None:
        """Push a value. It is pickled too, to be compared with what the other process pulls."""
        if self._busy:  # a push may call what the suites call
            return
        self._busy = True
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._add(value)
        finally:
            self._busy = False

    def _add(self, value: Any) -> None:
        try:
            pickled = _pickled(value)
        except Exception:
            pickled = b""
        if len(pickled) > _MOST_BYTES or (pickled and hash(pickled) in self._seen):
            return
        self._seen.add(hash(pickled))
        record: dict[str, Any] = {"shown": f"{type(value).__name__}: {_shown(value)}", "pickled": pickled}
        record["own"] = not pickled or any(mark in pickled for mark in _OWN)  # of a class that a suite made up
        try:
            record["row"] = json.dumps(self._pipeline.push(value, HERE), allow_nan=False)
        except UnsupportedTypeError as error:
            record |= {"outcome": "refused", "what": error.what}
        except Exception as error:
            record |= {"outcome": "error", "what": f"push: {type(error).__name__}: {error}"}
        pickle.dump(record, self._file)

    def close(self) -> None:
        """End the file."""
        self._file.close()


class _Pickler(pickle.Pickler):
    """Also pickles memoryviews, and keeps the byte order of arrays, which numpy's own pickles swap."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is memoryview and value.format == "B":
            return memoryview, (bytes(value),)
        if type(value).__name__ == "ndarray" and not value.dtype.isnative and not value.dtype.hasobject:
            return type(value), (value.shape, value.dtype, value.tobytes())
        return NotImplemented


def _pickled(value: Any) -> bytes:
    file = io.BytesIO()
    _Pickler(file, 5).dump(value)
    return file.getvalue()


def _shown(value: Any) -> str:
    try:
        return f"{value!r} {getattr(value, 'dtype', getattr(value, 'dtypes', ''))!r}"[:1000]
    except Exception as error:
        return f"({type(error).__name__} in its repr)"


def main(source: str, seconds: str, file: str) -> None:
    """Run the command."""
    pushes = Pushes(Path(file))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sources.SOURCES[source][0](pushes.add, float(seconds))
    pushes.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
