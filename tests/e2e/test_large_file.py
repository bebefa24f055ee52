"""A file far larger than the memory that its task may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.servers import Server
from tests.unit.test_streams_end_to_end import PIECE, memory_of_a_file

pytestmark = [pytest.mark.e2e, pytest.mark.servers]

SIZE_BYTES = int(os.environ.get("XCARGO_LARGE_FILE_GIB", "1")) * 1024**3
"""More than the process may use; the table of chunks has grown once by then. Nightly it is 4 GiB."""
LIMIT_BYTES = 512 * 1024**2


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_file_travels_through_a_process_of_half_its_size(s3_server: Server, tmp_path: Path, compression: str) -> None:
    """Pushed, saved and read by open() where RLIMIT_DATA ends a process's own memory at 512 MB."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        for n in range(SIZE_BYTES // len(PIECE)):
            file.write(
                n.to_bytes(8, "little")
                + (PIECE[8:] if n % 2 else bytes(len(PIECE) // 2 - 8) + PIECE[len(PIECE) // 2 :])
            )
    os.sync()
    start, *peaks = memory_of_a_file(s3_server, path, compression, LIMIT_BYTES)
    print(f"{compression}: peak {max(peaks)} MiB, {start} of them before; push, save, read: {peaks}")
    assert max(peaks) < 512
