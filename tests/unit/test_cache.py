"""The node's cache: one download for many, private and read-only files, a bound on their size, and no way to fail."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xcargo.codecs.source import BytesSource
from xcargo.transfer import cache
from xcargo.transfer.cache import MIN_BYTES, NodeCache

MIB = 1024 * 1024
WAIT_SECONDS = 30

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount and give away")


def checksum_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def payload(seed: int, size: int = MIN_BYTES) -> bytes:
    return hashlib.shake_128(seed.to_bytes(4, "big")).digest(size)


class Download(BytesSource):
    """A source whose ``read_into`` may be given."""

    def __init__(self, data: bytes, read_into: Callable[[memoryview], object] | None = None) -> None:
        super().__init__(data)
        self._read_into = read_into

    def read_into(self, view: memoryview) -> None:
        if self._read_into is not None:
            self._read_into(view)
        else:
            super().read_into(view)


def never(view: memoryview) -> None:
    raise AssertionError("It was here already")


def fill(node: NodeCache, data: bytes, read_into: Callable[[memoryview], object] | None = None) -> memoryview:
    return node.fill(checksum_of(data), Download(data, read_into))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_what_was_filled_is_found_by_others(folder: Path) -> None:
    """A second cache on the same folder has the payload, and needs no download for it."""
    data = payload(1)
    assert NodeCache(folder, 10 * MIB).get(checksum_of(data)) is None
    assert fill(NodeCache(folder, 10 * MIB), data) == data
    other = NodeCache(folder, 10 * MIB)
    assert other.get(checksum_of(data)) == data
    assert fill(other, data, never) == data


def test_what_a_power_loss_left_is_never_a_value(folder: Path) -> None:
    """Whatever the files hold then: those of an earlier start of the machine are not read, and make room."""
    data = payload(1)
    fill(NodeCache(folder, 3 * MIN_BYTES), data)
    (file,) = folder.iterdir()
    before, boot = file.name.rsplit("-", 1)
    assert boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    for number, torn in enumerate((b"", data[: MIN_BYTES // 2], bytes(MIN_BYTES))):
        left = folder / f"{before}-{number:032x}"
        left.write_bytes(torn)
        left.chmod(0o400)
    file.unlink()
    node = NodeCache(folder, 3 * MIN_BYTES)
    assert node.get(checksum_of(data)) is None
    assert fill(node, data) == data
    for seed in (2, 3):
        fill(node, payload(seed))
    assert all(boot in path.name for path in folder.iterdir())


def test_a_reader_may_write_and_nobody_else_sees_it(folder: Path) -> None:
    """The map is copy on write, at the first read and at later ones."""
    data = payload(1)
    node = NodeCache(folder, 10 * MIB)
    for view in (fill(node, data), node.get(checksum_of(data))):
        assert view is not None
        array = np.frombuffer(view, dtype=np.uint8)
        array[:] = 0
    assert node.get(checksum_of(data)) == data


def test_folder_and_files_are_private_and_the_files_read_only(folder: Path) -> None:
    """0700 and 0400, whatever the umask."""
    former = os.umask(0)
    try:
        fill(NodeCache(folder, 10 * MIB), payload(1))
    finally:
        os.umask(former)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o400


@pytest.mark.parametrize("size", [0, 1, MIN_BYTES - 1, 2 * MIN_BYTES + 1])
def test_what_is_too_small_or_too_large_has_no_file(folder: Path, size: int) -> None:
    """From MIN_BYTES up to the size of the cache, both included."""
    node = NodeCache(folder, 2 * MIN_BYTES)
    assert fill(node, payload(1, size)) == payload(1, size)
    assert not folder.exists() or not list(folder.iterdir())
    for bound in (MIN_BYTES, 2 * MIN_BYTES):
        fill(node, payload(bound, bound))
        assert node.get(checksum_of(payload(bound, bound))) is not None


@pytest.mark.parametrize(
    "checksum", ["", "sha256", "sha256:..", "../x:" + "a" * 64, "sha256:/etc/passwd", "a:" + "A" * 64]
)
def test_a_checksum_of_another_form_is_never_a_file_name(folder: Path, checksum: str) -> None:
    """It finds nothing, and its payload is downloaded without the cache."""
    node = NodeCache(folder, 10 * MIB)
    assert node.get(checksum) is None
    assert node.fill(checksum, Download(payload(1))) == payload(1)
    assert not folder.exists()


def test_a_file_that_somebody_emptied_is_filled_again(folder: Path) -> None:
    """To make room on the disk, say: it is neither a payload nor an error."""
    node = NodeCache(folder, 10 * MIB)
    fill(node, payload(1))
    (file,) = folder.iterdir()
    file.chmod(0o600)
    os.truncate(file, 0)
    assert node.get(checksum_of(payload(1))) is None
    assert fill(node, payload(1)) == payload(1)
    assert node.get(checksum_of(payload(1))) == payload(1)


def test_what_was_not_used_for_longest_goes_first_and_readers_keep_it(folder: Path) -> None:
    """A third payload takes the place of the one not read since; who has that one mapped still reads it."""
    node = NodeCache(folder, 2 * MIN_BYTES)
    first, second = fill(node, payload(1)), fill(node, payload(2))
    for name, age in ((checksum_of(payload(1)), 30), (checksum_of(payload(2)), 20)):
        (file,) = folder.glob(f"*{name.partition(':')[2]}*")
        os.utime(file, (file.stat().st_atime, file.stat().st_mtime - age))
    assert node.get(checksum_of(payload(1))) is not None
    fill(node, payload(3))
    assert node.get(checksum_of(payload(1))) == payload(1)
    assert node.get(checksum_of(payload(2))) is None
    assert node.get(checksum_of(payload(3))) == payload(3)
    assert (first, second) == (payload(1), payload(2))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 400), st.booleans()), max_size=30))
def test_the_bound_holds_and_no_payload_is_another(steps: list[tuple[int, int, bool]]) -> None:
    """Whatever is filled and read in whatever order: the files' sizes stay within the bound, payloads are exact."""
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "MIN_BYTES", 1)
        node = NodeCache(Path(home) / "c", 1000)
        for seed, size, only_read in steps:
            data = payload(seed, size)
            found = node.get(checksum_of(data)) if only_read else fill(node, data)
            assert found is None or found == data
            assert sum(file.stat().st_size for file in Path(home).glob("c/*")) <= 1000


def test_files_of_others_are_left_alone(folder: Path) -> None:
    """A folder that holds something else loses nothing of it, though the cache has to make room."""
    folder.mkdir(mode=0o700)
    for name in ("notes.txt", "blake3-" + "a" * 64, "xcargo-readme"):
        (folder / name).write_bytes(b"x" * MIB)
    node = NodeCache(folder, MIN_BYTES)
    for seed in range(3):
        fill(node, payload(seed))
    assert {file.name for file in folder.iterdir()} >= {"notes.txt", "blake3-" + "a" * 64, "xcargo-readme"}
    assert len(list(folder.iterdir())) == 4


def test_a_file_that_others_could_have_written_is_not_read(folder: Path) -> None:
    """A payload whose file was opened to others counts as not there."""
    node = NodeCache(folder, 10 * MIB)
    fill(node, payload(1))
    (file,) = folder.iterdir()
    file.chmod(0o660)
    assert node.get(checksum_of(payload(1))) is None


def test_a_row_that_contradicts_its_checksum_gets_its_own_download(folder: Path) -> None:
    """Another size under the same checksum neither finds the file nor replaces it."""
    node = NodeCache(folder, 10 * MIB)
    data = payload(1)
    fill(node, data)
    assert node.fill(checksum_of(data), Download(data * 2)) == data * 2
    assert node.get(checksum_of(data)) == data


def test_many_payloads_do_not_take_all_descriptors(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit a download or a read is a copy, and holds no descriptor."""
    monkeypatch.setattr(cache, "MAX_MAPS", 3)
    node = NodeCache(folder, 20 * MIB)
    node.get(checksum_of(b""))  # opens the folder
    before = len(os.listdir("/proc/self/fd"))
    downloads = [fill(node, payload(seed)) for seed in range(6)]
    reads = [node.get(checksum_of(payload(seed))) for seed in range(6)]
    assert len(os.listdir("/proc/self/fd")) <= before + 4  # and the folder
    assert downloads == reads == [payload(seed) for seed in range(6)]
    assert len(list(folder.iterdir())) == 6
    reads[5][:4] = b"mine"  # type: ignore[index]
    assert node.get(checksum_of(payload(5))) == payload(5)


def test_a_file_that_its_writer_could_still_change_is_not_kept(folder: Path) -> None:
    """A download that keeps a part of its memory has its payload, but no other task gets it."""
    kept = []

    def keep(view: memoryview) -> None:
        view[:] = payload(1)
        kept.append(view[:10])

    assert fill(NodeCache(folder, 10 * MIB), payload(1), keep) == payload(1)
    assert list(folder.iterdir()) == []


def unusable(kind: str, path: Path) -> Path:
    """A path that cannot be a cache, for one reason or another."""
    if kind == "open to all":
        path.mkdir()
        path.chmod(0o777)
    elif kind == "a link":
        (path.parent / "elsewhere").mkdir(mode=0o700)
        path.symlink_to(path.parent / "elsewhere")
    elif kind == "a file":
        path.write_text("")
    elif kind == "not to be made":
        return Path("/proc/xcargo/cache")
    elif kind == "another's":
        path.mkdir(mode=0o700)
        os.chown(path, 12345, 12345)
    return path


@pytest.mark.parametrize(
    "kind", ["open to all", "a link", "a file", "not to be made", pytest.param("another's", marks=as_root)]
)
def test_an_unusable_folder_is_reported_once_and_not_used(
    folder: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """Payloads are downloaded without the cache; nothing is written, and the log says why, once."""
    node = NodeCache(unusable(kind, folder), 10 * MIB)
    with caplog.at_level(logging.WARNING, logger="xcargo"):
        for seed in range(3):
            assert fill(node, payload(seed)) == payload(seed)
            assert node.get(checksum_of(payload(seed))) is None
    (record,) = caplog.records
    assert "without its cache" in record.getMessage()
    assert not folder.is_dir() or not list(folder.iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of three MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=0700", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@as_root
def test_a_full_disk_costs_nothing_but_the_cache(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The payload is there, no unfinished file stays, what fits is still kept, and the log says it once."""
    node = NodeCache(small_disk / "cache", 100 * MIB)
    with caplog.at_level(logging.WARNING, logger="xcargo"):
        for seed in range(2):
            assert fill(node, payload(seed, 5 * MIB)) == payload(seed, 5 * MIB)
    assert len(caplog.records) == 1
    assert list((small_disk / "cache").iterdir()) == []
    fill(node, payload(1))
    assert node.get(checksum_of(payload(1))) == payload(1)


@as_root
def test_a_read_only_disk_can_still_be_read(small_disk: Path) -> None:
    """What is there is found, what is not is downloaded without the cache."""
    folder = small_disk / "cache"
    fill(NodeCache(folder, 10 * MIB), payload(1))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    node = NodeCache(folder, 10 * MIB)
    assert node.get(checksum_of(payload(1))) == payload(1)
    assert fill(node, payload(2)) == payload(2)
    assert node.get(checksum_of(payload(2))) is None


def test_a_failed_download_leaves_nothing(folder: Path) -> None:
    """Its error is what is raised, and the next one downloads again."""
    node = NodeCache(folder, 10 * MIB)

    def fail(view: memoryview) -> None:
        view[:10] = b"0123456789"
        raise FileNotFoundError("The object is gone")

    for _ in range(2):
        with pytest.raises(FileNotFoundError, match="The object is gone"):
            fill(node, payload(1), fail)
        assert list(folder.iterdir()) == []
    assert fill(node, payload(1)) == payload(1)


def test_a_download_whose_file_was_removed_names_no_half_of_another(folder: Path) -> None:
    """Somebody makes room while a payload is downloaded, and another task begins anew: nobody reads its half."""
    first, second, third = (NodeCache(folder, 10 * MIB) for _ in range(3))
    found: list[memoryview | None] = []

    def second_download(view: memoryview) -> None:
        view[: MIB // 2] = payload(1)[: MIB // 2]
        half_done.set()
        assert first_done.wait(WAIT_SECONDS)
        found.append(third.get(checksum_of(payload(1))))
        view[:] = payload(1)

    def first_download(view: memoryview) -> None:
        view[:] = payload(1)
        for file in folder.iterdir():
            file.unlink()
        other.start()
        assert half_done.wait(WAIT_SECONDS)

    half_done, first_done = threading.Event(), threading.Event()
    other = threading.Thread(target=lambda: fill(second, payload(1), second_download))
    assert fill(first, payload(1), first_download) == payload(1)
    first_done.set()
    other.join(WAIT_SECONDS)
    assert found == [None]
    assert third.get(checksum_of(payload(1))) == payload(1)


def test_threads_share_one_download(folder: Path) -> None:
    """Sixteen threads of one process, one download."""
    node = NodeCache(folder, 10 * MIB)
    calls: list[int] = []
    begin = threading.Barrier(16)
    right: list[bool] = []

    def read_into(view: memoryview) -> None:
        calls.append(1)
        view[:] = payload(1)

    def ask() -> None:
        begin.wait(WAIT_SECONDS)
        right.append(fill(node, payload(1), read_into) == payload(1))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert right == [True] * 16
    assert len(calls) == 1


def test_who_has_waited_long_enough_downloads_too(folder: Path) -> None:
    """A download that hangs holds up nobody for longer than wait_seconds."""
    begun, release = threading.Event(), threading.Event()

    def hang(view: memoryview) -> None:
        begun.set()
        release.wait(WAIT_SECONDS)
        view[:] = payload(1)

    hanging = threading.Thread(target=fill, args=(NodeCache(folder, 10 * MIB), payload(1), hang))
    hanging.start()
    try:
        assert begun.wait(WAIT_SECONDS)
        assert fill(NodeCache(folder, 10 * MIB, wait_seconds=0.1), payload(1)) == payload(1)
    finally:
        release.set()
        hanging.join(WAIT_SECONDS)
    assert NodeCache(folder, 10 * MIB).get(checksum_of(payload(1))) == payload(1)


CROWD = """
import hashlib, os, resource, signal, sys, time
from xcargo.codecs.source import BytesSource
from xcargo.transfer.cache import NodeCache
kind, count, folder, calls = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
data = hashlib.shake_128(b"crowd").digest(3_000_000)
checksum = "sha256:" + hashlib.sha256(data).hexdigest()
gate_read, gate_write = os.pipe()

def read_into(view):
    with open(calls, "ab", buffering=0) as file:
        file.write(b"%d\\n" % os.getpid())
        first = file.tell() == len(b"%d\\n" % os.getpid())
    view[: len(data) // 2] = data[: len(data) // 2]
    if kind == "killed" and first:
        time.sleep(3600)
    time.sleep(0.2)
    if kind == "failing":
        raise RuntimeError("The store is down")
    view[:] = data

def reader():
    os.close(gate_write)
    os.read(gate_read, 1)
    try:
        source = BytesSource(data)
        source.read_into = read_into
        view = NodeCache(folder, 100_000_000).fill(checksum, source)
        view[:1] = b"x"  # its own copy
        return 0 if view[1:] == data[1:] else 1
    except RuntimeError:
        return 2

if kind == "limited":
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
children = []
for _ in range(count):
    child = os.fork()
    if child == 0:
        os._exit(reader())
    children.append(child)
os.close(gate_write)  # all begin at once
if kind == "killed":
    while not os.path.exists(calls) or not os.path.getsize(calls):
        time.sleep(0.01)
    os.kill(int(open(calls).read().split()[0]), signal.SIGKILL)
print(sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def crowd(kind: str, count: int, folder: Path) -> tuple[list[int], int]:
    """Exit codes of processes that ask for the same payload at once, and how many of them downloaded it."""
    calls = folder.parent / "calls"
    done = subprocess.run(
        [sys.executable, "-c", CROWD, kind, str(count), str(folder), str(calls)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return eval(done.stdout), len(calls.read_text().split())


def test_of_two_hundred_readers_one_downloads(folder: Path) -> None:
    """Two hundred processes that start at once, one download, and all have the payload."""
    assert crowd("well", 200, folder) == ([0] * 200, 1)
    assert len(list(folder.iterdir())) == 1


def test_when_the_downloader_is_killed_another_takes_over(folder: Path) -> None:
    """kill -9 in the middle of a download: one more download, and all others have the payload."""
    assert crowd("killed", 30, folder) == ([-9] + [0] * 29, 2)
    assert len(list(folder.iterdir())) == 1


def test_when_the_store_fails_nobody_waits_in_line(folder: Path) -> None:
    """Each reader that met the failed download makes its own attempt, and nothing stays."""
    codes, calls = crowd("failing", 20, folder)
    assert codes == [2] * 20
    assert calls == 20
    assert list(folder.iterdir()) == []


def test_a_limit_on_file_sizes_costs_nothing_but_the_cache(folder: Path) -> None:
    """Files may not be as large as the payload: every reader has it nevertheless."""
    assert crowd("limited", 3, folder) == ([0] * 3, 3)
    assert list(folder.iterdir()) == []


def test_an_unfinished_file_of_a_dead_process_is_finished_or_makes_room(folder: Path) -> None:
    """It counts towards the bound until the next one needs its place, and never as a payload."""
    node = NodeCache(folder, 2 * MIN_BYTES)
    fill(node, payload(1))
    (file,) = folder.iterdir()
    left = file.with_name(file.name.replace(checksum_of(payload(1))[7:], checksum_of(payload(2))[7:]) + ".part")
    left.write_bytes(b"half of it" * 100_000)
    left.chmod(0o600)
    assert node.get(checksum_of(payload(2))) is None
    assert fill(node, payload(2)) == payload(2)
    left.write_bytes(b"again" * 100_000)
    os.utime(left, (0, 0))
    fill(node, payload(3))
    fill(node, payload(4))
    assert not left.exists()
