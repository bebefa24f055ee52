"""A pyarrow Dataset over a table that lies elsewhere, for engines that read by themselves: pyarrow's own, DuckDB."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from xcargo.codecs.arrow_stream import TableFile
from xcargo.codecs.source import Source
from xcargo.codecs.stream import open_seekable
from xcargo.types import Buffer

__all__ = ["dataset"]


def dataset(file: TableFile) -> Any:
    """The table as a ``pyarrow.dataset.Dataset``: what scans it fetches the columns and batches that it needs.

    The engine reads the file itself. What lies there is what was stored, and no buffer reaches beyond it; but values
    are not checked one by one as a load checks them.
    """
    fs, ds = import_module("pyarrow.fs"), import_module("pyarrow.dataset")
    place = fs.PyFileSystem(_handler(fs, _Checked(file)))
    return ds.dataset("table.arrow", schema=file.schema, format="ipc", filesystem=place)


class _Checked:
    """The file's bytes, each batch's message checked before anything of it is read."""

    def __init__(self, file: TableFile) -> None:
        self._file = file
        self._unchecked = set(file.places)
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        return self._file.source.size_bytes

    def read(self, start: int, end: int) -> Buffer:
        with self._lock:
            for place in [place for place in self._unchecked if place[0] < end and start < place[1]]:
                self._file.rows(place)
                self._unchecked.discard(place)
        return self._file.source.read(start, end)

    def read_into(self, view: memoryview) -> None:
        view[:] = self.read(0, self.size_bytes)

    def iter_chunks(self) -> Iterator[Buffer]:
        yield self.read(0, self.size_bytes)


def _handler(fs: Any, source: Source) -> Any:
    pa = import_module("pyarrow")

    class OneFile(fs.FileSystemHandler):  # type: ignore[misc]
        """A file system that has this file and takes no other."""

        def get_type_name(self) -> str:
            return "xcargo"

        def normalize_path(self, path: str) -> str:
            return path

        def get_file_info(self, paths: list[str]) -> list[Any]:
            return [fs.FileInfo(path, fs.FileType.File, size=source.size_bytes) for path in paths]

        def get_file_info_selector(self, selector: Any) -> list[Any]:
            return []

        def open_input_file(self, path: str) -> Any:
            return pa.PythonFile(open_seekable(source), mode="r")

        open_input_stream = open_input_file

        def _refused(self, *_: Any, **__: Any) -> Any:
            raise io.UnsupportedOperation("A stored value cannot be changed")

        create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = delete_file = _refused
        move = copy_file = open_output_stream = open_append_stream = _refused

    return OneFile()
