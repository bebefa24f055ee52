"""Files and streams over a real S3 server: memory, forks, and what an upload that fails leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import xcargo
from tests.servers import Fault, FaultProxy, Server
from tests.servers.s3 import S3Bucket
from tests.unit.conftest import HERE, make_pipeline
from xcargo.errors import AccessDeniedError, StoreError

pytestmark = pytest.mark.servers

MIB = 1024 * 1024
PIECE = os.urandom(4 * MIB)
ROOT = Path(__file__).parents[2]


def pieces(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield PIECE


def left(server: Server) -> tuple[list[str], list[str]]:
    """Objects, and uploads that were begun, below this suite's prefix."""
    bucket = server.raw
    assert isinstance(bucket, S3Bucket)
    keys, uploads = ([k for k in keys if "/streams" in k] for keys in (bucket.list_keys(), bucket.list_uploads()))
    return keys, uploads


def test_the_server_tells_of_uploads_that_were_begun(s3_server: Server) -> None:
    """Otherwise the tests below would prove nothing."""
    bucket = s3_server.raw
    assert isinstance(bucket, S3Bucket)
    bucket.begin_upload("demo/begun")
    assert "demo/begun" in bucket.list_uploads()


@pytest.mark.parametrize("how", ["generator", "part", "complete", "part for a while", "denied"])
def test_an_upload_that_fails_leaves_nothing_behind(s3_server: Server, proxy: FaultProxy, how: str) -> None:
    """No object, no begun upload: the generator raises; parts or the completion are refused, for good or too long."""
    server = s3_server.via(proxy.url)
    place = server.root + "/streams"
    seconds = 5 if how == "part for a while" else 60  # only what is repeated until then takes so long
    pipeline = make_pipeline(place, connection=server.connection, timeout_seconds=seconds, compression="none")
    before = left(s3_server)

    def failing() -> Iterator[bytes]:
        yield from pieces(12)
        if how == "generator":
            raise LookupError("mine")
        yield from pieces(12)

    if how == "part":
        proxy.add(Fault("status", method="PUT", match="partNumber=2", status=400, times=None))
    elif how == "part for a while":
        proxy.add(Fault("status", method="PUT", match="partNumber=2", status=503, times=None))
    elif how == "complete":
        proxy.add(Fault("status", method="POST", match=r"uploadId=", status=400, times=None))
    elif how == "denied":
        proxy.add(Fault("status", method="PUT", match="partNumber=3", status=403, times=None))
    expected = {"generator": LookupError, "denied": AccessDeniedError}.get(how, StoreError)
    with pytest.raises(expected):
        pipeline.push(failing(), HERE)
    assert left(s3_server) == before
    proxy.clear()
    pipeline = make_pipeline(place, connection=server.connection, compression="none")
    row = pipeline.push(pieces(12), HERE)  # the store is none the worse
    assert pipeline.pull(row).size_bytes == 12 * len(PIECE)
    pipeline.purge(row)


def test_a_stream_is_never_stored_in_part_after_a_refusal(s3_server: Server, proxy: FaultProxy) -> None:
    """What a generator gave cannot be given again when credentials are looked up anew: the first error stands."""
    server = s3_server.via(proxy.url)
    pipeline = make_pipeline(server.root + "/streams", connection=server.connection, compression="none")
    before = left(s3_server)
    proxy.add(Fault("status", method="POST", match="uploads", status=403, times=1))
    with pytest.raises(AccessDeniedError):
        pipeline.push(pieces(20), HERE)
    assert left(s3_server) == before


def test_a_file_is_stored_as_it_is_and_fetched_in_parallel_parts(s3_server: Server, tmp_path: Path) -> None:
    """What does not compress lies in the bucket byte for byte, so that anything else can read it there."""
    pipeline = make_pipeline(s3_server.root + "/streams", connection=s3_server.connection, compression="zstd")
    data = os.urandom(41 * MIB)
    (tmp_path / "f.bin").write_bytes(data)
    row: Any = pipeline.push(xcargo.File(tmp_path / "f.bin"), HERE)
    key = row["uri"].split("/", 3)[3]
    assert key.endswith((".bin", ".bin.zst"))
    assert s3_server.raw_get(key) == data
    s3_server.reset_requests()
    file = pipeline.pull(row)
    assert s3_server.requests() == []
    assert file.read_bytes() == data
    assert [method for method, _ in s3_server.requests()] == ["GET"] * 6
    assert pipeline.pull(row).save(tmp_path / "copy").read_bytes() == data
    pipeline.purge(row)


def test_a_truncated_or_deleted_object_is_told_by_every_way_to_read_it(s3_server: Server, tmp_path: Path) -> None:
    """By path, by open, in pieces."""
    pipeline = make_pipeline(s3_server.root + "/streams", connection=s3_server.connection, compression="none")
    row: Any = pipeline.push(pieces(5), HERE)
    key = row["uri"].split("/", 3)[3]
    s3_server.raw_put(key, s3_server.raw_get(key)[:-100])
    stream = pipeline.pull(row)
    for use in (stream.read, lambda: list(stream), lambda: stream.open().read()):
        with pytest.raises(xcargo.IntegrityError):
            use()
    pipeline.purge(row)
    for use in (stream.read, lambda: list(stream), lambda: stream.open().read(1)):
        with pytest.raises(xcargo.ObjectNotFoundError, match="streams"):
            use()


_CHILD = """
import json, os, sys
from pathlib import Path
from tests.unit.conftest import HERE, make_pipeline
import xcargo

def peak():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) // 1024

url, connection, source, target, compression, data_limit = json.loads(sys.argv[1])
if data_limit:
    import resource
    resource.setrlimit(resource.RLIMIT_DATA, (data_limit, data_limit))
pipeline = make_pipeline(url, connection=connection, compression=compression)
small = pipeline.pull(pipeline.push(b"warm" * 10000, HERE))
start = peak()
row = pipeline.push(xcargo.File(source), HERE)
pushed = peak()
pipeline.pull(row).save(target)
saved = peak()
with pipeline.pull(row).open() as file:
    while file.read(1 << 20):
        pass
read = peak()
pipeline.purge(row)
print(json.dumps([start, pushed, saved, read]))
"""


def memory_of_a_file(server: Server, path: Path, compression: str, data_limit: int = 0) -> list[int]:
    """Peak MiB of a process: before, after a push of the file, after a pull to another, after reading it by open()."""
    target = path.with_suffix(".copy")
    told = [server.root + "/streams", server.connection, str(path), str(target), compression, data_limit]
    done = subprocess.run([sys.executable, "-c", _CHILD, json.dumps(told)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert subprocess.run(["cmp", path, target]).returncode == 0
    target.unlink()
    peaks: list[int] = json.loads(done.stdout.strip().splitlines()[-1])
    return peaks


def test_the_memory_of_a_file_does_not_depend_on_its_size(s3_server: Server, tmp_path: Path) -> None:
    """300 MB, some of which compress, go up, come down and are read, within some 200 MB: less than holding them."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        for n in range(75):
            file.write(PIECE if n % 2 else bytes(2 * MIB) + PIECE[: 2 * MIB])
    start, *peaks = memory_of_a_file(s3_server, path, "zstd")
    assert max(peaks) - start < 230
