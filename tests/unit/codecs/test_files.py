"""Files, folders and streams of bytes: what comes back, what hostile input gets, what a full disk does."""

from __future__ import annotations

import io
import os
import pickle
import resource
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import xcargo
from tests.unit.conftest import HERE, make_pipeline
from xcargo.codecs.base import contiguous
from xcargo.codecs.files import FileCodec
from xcargo.codecs.source import BytesSource, open_seekable, open_stream
from xcargo.codecs.stream import ByteStream, StreamCodec
from xcargo.codecs.temporary_folder import temporary_folder
from xcargo.errors import DecodeError, IntegrityError, ObjectNotFoundError, UnsupportedTypeError
from xcargo.stores.local import buckets
from xcargo.testing import CodecTests, CountingStore, chunked

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TMPDIR of the test's own."""
    folder = tmp_path / "tmpdir"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def a_folder(base: Path) -> Path:
    write(base / "a.txt", b"text")
    write(base / "deep" / "er" / "b.bin", os.urandom(100_000))
    write(base / "empty.file", b"")
    write(base / os.fsdecode(b"odd \xff\n name"), b"x")
    write(base / ("n" * 200) / ("m" * 200), b"long")
    (base / "empty folder").mkdir()
    (base / "link").symlink_to("deep/er")
    (base / "deep" / "back").symlink_to("../a.txt")
    (base / "itself").symlink_to("itself")
    os.link(base / "a.txt", base / "second name")
    (base / "a.txt").chmod(0o754)
    os.utime(base / "a.txt", (1_700_000_000, 1_700_000_000))
    return base


class TestFileCodec(CodecTests):
    """Files and folders, by the shipped suite."""

    @pytest.fixture
    def codec(self) -> FileCodec:
        return FileCodec()

    @pytest.fixture(autouse=True)
    def _values(self, tmp_path: Path) -> None:
        self.VALUES = [
            xcargo.File(write(tmp_path / "report.csv", b"a,b\n1,2\n")),
            xcargo.File(write(tmp_path / "empty", b"")),
            xcargo.File(write(tmp_path / "x.tar.gz", os.urandom(10_000)), name="日本.bin", media_type="x/y"),
            xcargo.Directory(a_folder(tmp_path / "model")),
            xcargo.Directory(write(tmp_path / "only" / "x", b"").parent, name="other"),
        ]


class TestStreamCodec(CodecTests):
    """Streams, by the shipped suite."""

    VALUES = (ByteStream(BytesSource(b"")), ByteStream(BytesSource(os.urandom(12_345))))

    @pytest.fixture
    def codec(self) -> StreamCodec:
        return StreamCodec()


@pytest.mark.parametrize("threshold", [-1, 0])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("size", [0, 10, 70_000, 9 * MIB])
def test_a_file_comes_back_with_name_type_and_bytes(tmp_path: Path, threshold: int, nested: bool, size: int) -> None:
    """In the row or in an object of one or many chunks, by itself or in a nested value, used in each way."""
    if threshold == -1 and size > 100_000:
        pytest.skip("no row holds that much")
    data = os.urandom(size)
    file = xcargo.File(write(tmp_path / "data.csv", data))
    pipeline = make_pipeline(threshold_bytes=threshold)
    row = pipeline.push({"f": [file, 1]} if nested else file, HERE)
    back = pipeline.pull(row)
    back = back["f"][0] if nested else back
    assert (type(back), back.name, back.media_type, back.size_bytes) == (xcargo.File, "data.csv", "text/csv", size)
    with back.open() as opened_file:
        opened_file.seek(size // 2)
        assert opened_file.read() == data[size // 2 :]
    assert back.read_bytes() == data
    assert "tmpdir" in str(back.path)
    assert back.path.read_bytes() == data
    assert back.path is back.path
    with open(back, "rb") as by_path:
        assert by_path.read() == data
    assert back == file
    assert back.save(tmp_path / "copy").read_bytes() == data
    assert not list(tmp_path.glob(".xcargo-*"))


def test_what_is_saved_to_where_it_is_stays_as_it_is(tmp_path: Path) -> None:
    """A file and a folder."""
    path = write(tmp_path / "folder" / "a.txt", b"text")
    assert xcargo.File(path).save(path) == path
    assert xcargo.Directory(path.parent).save(path.parent) == path.parent
    assert path.read_bytes() == b"text"


def test_what_was_pulled_can_be_pushed_on_without_a_download(tmp_path: Path, temporary: Path) -> None:
    """File, folder and stream travel on from their object, and after a download from the local copy as it is then."""
    data = os.urandom(5 * MIB)
    pipeline = make_pipeline()
    file = pipeline.pull(pipeline.push(xcargo.File(write(tmp_path / "f.bin", data)), HERE))
    folder = pipeline.pull(pipeline.push(xcargo.Directory(a_folder(tmp_path / "d")), HERE))
    stream = pipeline.pull(pipeline.push((piece for piece in [data, b"end"]), HERE))
    rows = [pipeline.push(value, HERE) for value in (file, folder, stream)]
    assert list(temporary.iterdir()) == []
    assert pipeline.pull(rows[0]).read_bytes() == data
    assert pipeline.pull(rows[1]) == xcargo.Directory(tmp_path / "d")
    assert pipeline.pull(rows[2]).read() == data + b"end"
    file.path.write_bytes(b"changed here")
    assert file.size_bytes == 12
    assert pipeline.pull(pipeline.push(file, HERE)).read_bytes() == b"changed here"


def test_a_folder_keeps_times_permissions_links_and_odd_names(tmp_path: Path) -> None:
    """The folder that a pull unpacks has what the pushed one had."""
    pipeline = make_pipeline()
    base = a_folder(tmp_path / "model")
    back = pipeline.pull(pipeline.push(xcargo.Directory(base), HERE))
    assert (back.name, back.files) == ("model", 6)
    assert back == xcargo.Directory(base)
    assert (back / "a.txt").stat().st_mode & 0o777 == 0o754
    assert (back / "a.txt").stat().st_mtime == 1_700_000_000
    assert (back / "link").readlink() == Path("deep/er")
    assert (back / "second name").stat().st_nlink == 1
    assert (back / os.fsdecode(b"odd \xff\n name")).read_bytes() == b"x"


def test_the_archive_of_a_folder_depends_on_nothing_but_the_folder(tmp_path: Path) -> None:
    """Two pushes give the same bytes, and tar reads them."""
    codec, folder = FileCodec(), xcargo.Directory(a_folder(tmp_path / "d"))
    first = bytes(contiguous(codec.encode(folder)))
    assert bytes(contiguous(codec.encode(folder))) == first
    listed = subprocess.run(["tar", "-t"], input=first, capture_output=True, check=True).stdout.decode()
    assert {"a.txt", "deep/er/b.bin", "empty folder/"} <= set(listed.splitlines())


def _fifo(base: Path) -> None:
    os.mkfifo(base / "fifo")


def _socket(base: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(base / "s"))


@pytest.mark.parametrize(
    "spoil",
    [
        _fifo,
        _socket,
        lambda base: (base / "out").symlink_to("/etc/passwd"),
        lambda base: (base / "up").symlink_to("../.."),
        lambda base: (base / "loop").symlink_to("deep/../../else"),
    ],
)
def test_a_folder_with_what_cannot_travel_is_refused_by_name(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    """Pipes, sockets, and links that lead out."""
    base = a_folder(tmp_path / "d")
    spoil(base)
    with pytest.raises(UnsupportedTypeError, match=str(base)):
        make_pipeline().push(xcargo.Directory(base), HERE)
    assert not buckets.get("test/xcom")


def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """What a listing cannot see is not silently missing."""
    (a_folder(tmp_path / "d") / "deep").chmod(0)
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    with pytest.raises(UnsupportedTypeError, match="deep"):
        make_pipeline().push(xcargo.Directory(tmp_path / "d"), HERE)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (lambda base: xcargo.File(base / "absent"), "not there"),
        (lambda base: xcargo.File(base), "a folder"),
        (lambda base: xcargo.File("/dev/null"), "no file"),
        (lambda base: xcargo.Directory(base / "absent"), "not there"),
        (lambda base: xcargo.File(write(base / os.fsdecode(b"\xff"), b"")), "name"),
        (lambda base: xcargo.File(write(base / "x", b""), name="a/b"), "name"),
        (lambda base: xcargo.File(write(base / "x", b""), name="a\0b"), "name"),
        (lambda base: xcargo.File(write(base / "x", b""), name=".."), "name"),
        (lambda base: xcargo.Directory("/"), "name"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, value: Callable[[Path], Any], what: str) -> None:
    """UnsupportedTypeError says why."""
    with pytest.raises(UnsupportedTypeError, match=what):
        make_pipeline().push(value(tmp_path), HERE)


@pytest.mark.parametrize("change", ["shrinks", "vanishes", "grows"])
def test_a_file_that_changes_while_it_is_stored_is_never_stored_short(tmp_path: Path, change: str) -> None:
    """One that gets shorter is refused; of one that grows what was there at the beginning is kept."""
    path = write(tmp_path / "f", bytes(9 * MIB))
    encoded = FileCodec().encode(xcargo.File(path))
    parts = iter(encoded.parts)
    if change == "vanishes":
        path.unlink()
    else:
        next(parts)
        os.truncate(path, 5 * MIB if change == "shrinks" else 20 * MIB)
    if change == "grows":
        assert sum(map(len, parts)) == 5 * MIB
        return
    with pytest.raises(UnsupportedTypeError, match=str(path)):
        list(parts)


HOSTILE_NAMES = [
    "",
    ".",
    "..",
    "/",
    "/etc/passwd",
    "../x",
    "a/..",
    "a/b",
    "a\\..\\b",
    "nul\0",
    "x" * 300,
    "\ud800",
    7,
    None,
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.parametrize("field", ["name", "directory"])
def test_a_hostile_name_stays_inside_the_temporary_folder(temporary: Path, name: Any, field: str) -> None:
    """Whatever a row says, what is fetched stays below the process's own folder."""
    payload = b"x" if field == "name" else bytes(1024)
    back: Any = FileCodec().decode(payload, {field: name})
    path = back.path
    assert path.parent.parent.parent.parent == temporary
    assert path.parent.parent.name.startswith("task-")
    assert path.parent.resolve() == path.resolve().parent


def tar(*members: tuple[str, bytes, str]) -> bytes:
    """An archive of members: name, type, and link target or content."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, kind, content in members:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                entry.linkname = content
                archive.addfile(entry)
            else:
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content.encode()))
    return sink.getvalue()


def pax(**headers: str) -> bytes:
    """An archive of one file, described as well by these headers of the newer format."""
    entry = tarfile.TarInfo("a")
    entry.size, entry.pax_headers = 1, headers
    return entry.tobuf(tarfile.PAX_FORMAT) + b"x".ljust(512, b"\0") + bytes(1024)


REG, SYM, LNK, DIR = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


@pytest.mark.parametrize(
    "payload",
    [
        tar(("../evil", REG, "x")),
        tar(("a/../../evil", REG, "x")),
        tar(("out", SYM, "/etc")),
        tar(("out", SYM, "../../..")),
        tar(("d", DIR, ""), ("link", SYM, "d"), ("link/through", REG, "x")),
        tar(("d", DIR, ""), ("d/l", SYM, ".."), ("d/l/d/l/evil", REG, "x")),
        tar(("hard", LNK, "/etc/passwd")),
        tar(("a", REG, "x"), ("hard", LNK, "a")),
        tar(("dev", tarfile.CHRTYPE, "")),
        tar(("fifo", tarfile.FIFOTYPE, "")),
        tar(("no/parent", REG, "x")),
        tar(("a", REG, "x"), ("a/b", REG, "x")),
        tar((".", REG, "x")),
        tar(("a", DIR, ""), ("a", REG, "x")),
        pax(path="a\0b"),
        pax(path="a" * 5000),
        pax(mtime="1e400"),
        pax(**{"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**40)}),  # a terabyte out of these few bytes
        tar(("a", b"L", "x"))[:1024] * 2000,  # names of names of names
        b"not a tar at all" * 100,
        tar(("a", REG, "x" * 5000))[:2000],
        b"",
    ],
)
def test_a_hostile_archive_is_a_decode_error_and_writes_nothing_outside(tmp_path: Path, payload: bytes) -> None:
    """Paths and links that lead out, hard links, devices, members through links, impossible ones, bombs, garbage."""
    target = tmp_path / "in" / "target"
    target.parent.mkdir()
    back: Any = FileCodec().decode(payload, {"directory": "d"})
    with pytest.raises(DecodeError):
        back.save(target)
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "in" / "evil").exists()
    assert not list(target.rglob("through"))


def test_absolute_members_and_duplicates_stay_inside(tmp_path: Path) -> None:
    """A leading slash is dropped, the last of two members of one name stays: as tar does."""
    payload = tar(("/abs", REG, "x"), ("twice", REG, "first"), ("twice", REG, "second"))
    back: Any = FileCodec().decode(payload, {"directory": "d"})
    try:
        back.save(tmp_path / "t")
    except DecodeError:
        assert not Path("/abs").exists()
        return
    assert (tmp_path / "t" / "twice").read_text() == "second"


def test_generators_of_anything_but_bytes_are_refused_and_store_nothing() -> None:
    """At the first wrong piece, however late, with a hint; so is one that has ended."""
    pipeline = make_pipeline()
    for wrong in ("text", 7, None, [b"x"]):
        with pytest.raises(UnsupportedTypeError, match=f"generator of {type(wrong).__name__}"):
            pipeline.push((piece for piece in [bytes(9 * MIB), wrong]), HERE)
    ended = (piece for piece in [b"x"])
    list(ended)
    with pytest.raises(UnsupportedTypeError, match="ended"):
        pipeline.push(ended, HERE)
    assert not buckets.get("test/xcom")


def test_an_error_of_the_generator_is_the_task_s_own() -> None:
    """It is passed on as it is, and nothing is stored."""

    def failing(size: int) -> Iterator[bytes]:
        yield bytes(size)
        raise LookupError("mine")

    pipeline = make_pipeline()
    for size in (0, 10, 100_000, 20 * MIB):
        with pytest.raises(LookupError, match="mine"):
            pipeline.push(failing(size), HERE)
        with pytest.raises(LookupError, match="mine"):
            pipeline.push({"deep": [failing(size)]}, HERE)
    assert not buckets.get("test/xcom")


def test_pieces_of_any_kind_arrive_even_if_their_memory_is_used_again() -> None:
    """bytes, bytearray, memoryview, empty ones; a buffer that the generator fills again for each."""

    def reused() -> Iterator[Any]:
        buffer = bytearray(3 * MIB)
        for n in range(5):
            buffer[:] = bytes([n]) * len(buffer)
            yield buffer
            yield b""
            yield memoryview(buffer)[:10]

    expected = b"".join(bytes([n]) * (3 * MIB + 10) for n in range(5))
    pipeline = make_pipeline()
    assert pipeline.pull(pipeline.push(reused(), HERE)).read() == expected
    again = pipeline.pull(pipeline.push([reused(), "x"], HERE))[0]
    assert b"".join(again) == b"".join(again) == expected  # as often as you like


@given(st.binary(max_size=5000), st.data())
def test_an_opened_payload_is_a_file_like_any_other(payload: bytes, data: Any) -> None:
    """Random seeks and reads give what io.BytesIO gives."""
    ours, model = open_seekable(chunked(payload or b"\0", 100)), io.BytesIO(payload or b"\0")
    for _ in range(10):
        verb = data.draw(st.sampled_from(["seek", "end", "read", "readline", "readinto"]))
        n = data.draw(st.integers(0, 3000))
        if verb == "seek":
            assert ours.seek(n) == model.seek(n)
        elif verb == "end":
            assert ours.seek(-min(n, len(payload)), 2) == model.seek(-min(n, len(payload)), 2)
        elif verb == "read":
            assert ours.read(n) == model.read(n)
        elif verb == "readline":
            assert ours.readline() == model.readline()
        else:
            one, other = bytearray(n), bytearray(n)
            assert ours.readinto(one) == model.readinto(other)
            assert one == other
        assert ours.tell() == model.tell()
    for wrong in ((-1, 0), (0, 7), (-10_000, 2)):
        with pytest.raises((ValueError, OSError)):
            ours.seek(*wrong)
    assert open_stream(chunked(payload or b"\0", 100)).read() == (payload or b"\0")


def test_budget_of_a_large_file() -> None:
    """One put for a push; a look at its end costs one get, all of it a get for each part, using it again none."""
    stores: list[CountingStore] = []

    def wrap(store: Any) -> CountingStore:
        stores.append(CountingStore(store))
        return stores[-1]

    def spent() -> dict[str, int]:
        found = dict(sum((store.calls for store in stores), type(stores[0].calls)()))
        for store in stores:
            store.calls.clear()
        return found

    pipeline = make_pipeline(wrap=wrap, compression="none", part_bytes=8 * MIB)
    row = pipeline.push((os.urandom(MIB) for _ in range(48)), HERE)
    assert spent() == {"put": 1}
    stream = pipeline.pull(row)
    assert (stream.size_bytes, spent()) == (48 * MIB, {})
    with stream.open() as file:
        file.seek(-100, io.SEEK_END)
        assert len(file.read()) == 100
    assert spent() == {"get": 1}
    assert sum(map(len, stream)) == 48 * MIB
    assert spent() == {"get": 6}


def test_an_object_deleted_before_its_first_use_raises_object_not_found(tmp_path: Path) -> None:
    """The pull succeeds without a request; each use says which object is not there, and leaves no file."""
    pipeline = make_pipeline()
    file = pipeline.pull(pipeline.push(xcargo.File(write(tmp_path / "f", os.urandom(9 * MIB))), HERE))
    folder = pipeline.pull(pipeline.push(xcargo.Directory(write(tmp_path / "d" / "x", bytes(9 * MIB)).parent), HERE))
    small = pipeline.pull(pipeline.push(xcargo.File(write(tmp_path / "s", b"abcd" * 5000)), HERE))
    buckets["test/xcom"].clear()
    for use in (
        lambda: file.path,
        file.read_bytes,
        lambda: file.save(tmp_path / "x"),
        lambda: folder.path,
        lambda: small.path,
        small.read_bytes,
    ):
        with pytest.raises(ObjectNotFoundError, match="memory://test/xcom/my_dag"):
            use()
    assert not (tmp_path / "x").exists()


def test_an_altered_object_is_never_a_file(tmp_path: Path) -> None:
    """IntegrityError on every way to the bytes; no half of the file stays in its place."""
    pipeline = make_pipeline(compression="none")
    row: Any = pipeline.push(xcargo.File(write(tmp_path / "f", os.urandom(9 * MIB))), HERE)
    ((key, (data, when)),) = buckets["test/xcom"].items()
    buckets["test/xcom"][key] = (data[:-5] + b"12345", when)
    file = pipeline.pull(row)
    for use in (lambda: file.path, file.read_bytes, lambda: file.save(tmp_path / "x"), lambda: _last(file.open(), 3)):
        with pytest.raises(IntegrityError, match=key.rpartition("/")[2]):
            use()
    assert not (tmp_path / "x").exists()
    with file.open() as start:
        assert start.read(100) == data[:100]


def _last(file: io.BufferedReader, count: int) -> bytes:
    file.seek(-count, io.SEEK_END)
    return file.read()


def as_child(work: Callable[[], Any]) -> str:
    """What ``work`` gives or raises in a forked child, whose limits it may change."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            text = str(work())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writer, text.encode()[:4000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(pid, 0)
    return text


@pytest.mark.parametrize("use", ["path", "save", "folder"])
def test_a_full_disk_raises_storage_full_with_what_to_do(tmp_path: Path, temporary: Path, use: str) -> None:
    """StorageFullError names the folder and TMPDIR; no part of a file stays."""
    pipeline = make_pipeline()
    data = write(tmp_path / "d" / "f", os.urandom(9 * MIB))
    value = xcargo.Directory(data.parent) if use == "folder" else xcargo.File(data)
    row = pipeline.push(value, HERE)

    def work() -> Any:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))
        back = pipeline.pull(row)
        return back.save(tmp_path / "target") if use == "save" else back.path

    error = as_child(work)
    assert error.startswith("StorageFullError"), error
    assert "TMPDIR" in error
    if use != "folder":
        assert not [p for p in (*temporary.rglob("*"), tmp_path / "target") if p.is_file() and p.stat().st_size]


_LAZY_FRAME = """
import resource
import polars as pl
from xcargo.codecs.registry import Registry
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
try:
    list(Registry(entry_points=False).encode(pl.LazyFrame({"a": range(10**6)})).parts)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_full_disk_raises_storage_full_where_a_lazy_frame_is_computed(temporary: Path) -> None:
    """The same, of the temporary file that it is computed into."""
    environment = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run([sys.executable, "-c", _LAZY_FRAME], env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("StorageFullError"), done
    assert "TMPDIR" in done.stdout
    assert not [path for path in temporary.rglob("*") if path.is_file()]


_HOLD = """
import sys, time
from xcargo.codecs.temporary_folder import temporary_folder
print(temporary_folder().parent, flush=True)
time.sleep(60)
"""


def test_a_killed_process_s_files_go_with_the_next_and_a_living_one_s_stay(temporary: Path) -> None:
    """The lock tells them apart; a process that ends by itself takes its own along."""
    environment = {**os.environ, "TMPDIR": str(temporary)}

    def started() -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen([sys.executable, "-c", _HOLD], env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        return process, Path(process.stdout.readline().strip())

    (living, his), (killed, its) = started(), started()
    try:
        killed.kill()
        killed.wait()
        assert its.is_dir()
        code = "from xcargo.codecs.temporary_folder import temporary_folder; print(temporary_folder())"
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert not its.exists()
        assert his.is_dir()
        assert not Path(done.stdout.strip()).exists()
    finally:
        for process in (living, killed):
            process.kill()
            process.wait()
            assert process.stdout
            process.stdout.close()


def test_a_folder_of_another_user_or_open_to_others_is_not_used(temporary: Path) -> None:
    """Nobody can place files, or a link, where ours would go."""
    base = temporary / f"xcargo-{os.geteuid()}"
    base.mkdir()
    base.chmod(0o777)
    with pytest.raises(xcargo.AccessDeniedError, match=str(base)):
        temporary_folder()
    base.rmdir()
    base.symlink_to(temporary)
    with pytest.raises(xcargo.AccessDeniedError, match=str(base)):
        temporary_folder()


def test_a_child_of_a_fork_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """And leaves its parent's alone when it ends."""
    pipeline = make_pipeline()
    file = pipeline.pull(pipeline.push(xcargo.File(write(tmp_path / "f", b"x" * 5000)), HERE))
    mine = file.path
    child = as_child(lambda: temporary_folder())
    assert Path(child).parent != mine.parent.parent
    assert mine.read_bytes() == b"x" * 5000


def test_a_pulled_file_can_be_handed_to_another_process(tmp_path: Path) -> None:
    """Pickled it is its local path, name and type."""
    pipeline = make_pipeline()
    source = xcargo.File(write(tmp_path / "f.csv", b"x" * 5000), media_type="x/y")
    file = pipeline.pull(pipeline.push(source, HERE))
    again = pickle.loads(pickle.dumps(file))
    assert again == source
    assert again.path == file.path


def test_long_transfers_are_logged_every_ten_seconds_and_short_ones_never(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A line with the bytes so far and in all, for uploads and downloads; by a clock that runs 4 s a look."""
    path = write(tmp_path / "f", os.urandom(48 * MIB))
    pipeline = make_pipeline(compression="none")
    caplog.set_level("INFO", "xcargo.transfer.reporting")
    row = pipeline.push(xcargo.File(path), HERE)
    pipeline.pull(row).read_bytes()
    assert not [r for r in caplog.records if r.name == "xcargo.transfer.reporting"]
    now = iter(range(0, 10**6, 4))
    monkeypatch.setattr("xcargo.transfer.reporting.time.monotonic", lambda: float(next(now)))
    row = pipeline.push(xcargo.File(path), HERE)
    said = [r.getMessage() for r in caplog.records if r.name == "xcargo.transfer.reporting"]
    assert said[0] == "xcargo stores XCom 'return_value': 3,145,728 of 50,331,648 bytes so far"
    assert len(said) == 16
    caplog.clear()
    pipeline.pull(row).save(tmp_path / "copy")
    said = [r.getMessage() for r in caplog.records if r.name == "xcargo.transfer.reporting"]
    assert said
    assert said[0].startswith("xcargo reads memory://test/xcom/my_dag")
