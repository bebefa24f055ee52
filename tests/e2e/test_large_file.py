"""A file far larger than the memory that its task may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.servers import Server
from tests.unit.test_streams_end_to_end import PIECE, memory_of_a_file

pytestmark = [pytest.mark.e2e, pytest.mark.servers]

SIZE_BYTES = 4 * 1024**3
LIMIT_BYTES = 512 * 1024**2


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_four_gigabytes_travel_through_a_process_of_half_a_gigabyte(
    s3_server: Server, tmp_path: Path, compression: str
) -> None:
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
