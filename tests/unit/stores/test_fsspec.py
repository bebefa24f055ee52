"""Stores over fsspec: file systems that hang, fill up, fail for a while, or are shared with somebody else."""

from __future__ import annotations

import http.server
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given
from hypothesis import strategies as st

from xcargo.errors import ObjectExistsError, StoreError, StoreUnavailableError
from xcargo.model.root import Root
from xcargo.stores.base import Access, Limits
from xcargo.stores.fsspec import FilesystemStore, retry_after_seconds

DATA = os.urandom(50_000)


@given(seconds=st.integers(0, 100_000))
def test_retry_after_has_two_forms(seconds: int) -> None:
    """Seconds, and a date; anything else says nothing."""
    assert retry_after_seconds(str(seconds)) == seconds
    date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=seconds), usegmt=True)
    found = retry_after_seconds(date)
    assert found is not None
    assert seconds - 60 < found <= seconds
    for nothing in ("soon", None, "", "-1", "nan", "Mon, 01 Jan 2029 00:00:00 +99999999999999999999"):
        assert retry_after_seconds(nothing) is None


class Hadoop(http.server.BaseHTTPRequestHandler):
    """Answers as a WebHDFS name node that is busy once, and then has one file."""

    times: list[float]
    retry_after: str

    def do_GET(self) -> None:
        self.times.append(time.monotonic())
        busy = len(self.times) == 1
        body = b"{}" if busy else b'{"FileStatus": {"length": 5, "type": "FILE", "pathSuffix": "", "owner": ""}}'
        self.send_response(503 if busy else 200)
        if busy:
            self.send_header("Retry-After", self.retry_after)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


def test_what_a_store_asks_for_in_retry_after_is_obeyed_where_it_is_known() -> None:
    """A file system over HTTP hands the header on: the next request comes no sooner."""
    import fsspec

    handler = type("Handler", (Hadoop,), {"times": [], "retry_after": "1"})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        port = server.server_address[1]
        fs = fsspec.filesystem("webhdfs", host="127.0.0.1", port=port, skip_instance_cache=True)
        root = Root.parse(f"webhdfs://127.0.0.1:{port}/x")
        store = FilesystemStore(root, Access(filesystem=lambda: fs), Limits(30, retry_wait_seconds=0.001))
        assert store.head("k~1").size_bytes == 5
        first, second = handler.times  # type: ignore[attr-defined]
        assert second - first >= 1
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        fs.session.close()


class Stuck:
    """A file system whose reads never end, and whose connection breaks once on the way there."""

    def __init__(self, release: threading.Event) -> None:
        self.release = release

    @classmethod
    def clear_instance_cache(cls) -> None:
        pass

    def _strip_protocol(self, path: str) -> str:
        return path

    def cat_file(self, path: str, **part: Any) -> bytes:
        self.release.wait()
        return b""


def test_a_file_system_that_hangs_is_left_within_the_bound() -> None:
    """Libraries behind fsspec bound nothing; a call that does not come back is given up."""
    release = threading.Event()
    store = FilesystemStore(Root.parse("sftp://h/x"), Access(filesystem=lambda: Stuck(release)), Limits(1))
    begun = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="of 1"):
        store.get("k~1")
    assert time.monotonic() - begun < 3
    release.set()


def test_parts_that_arrive_slowly_are_no_hang(tmp_path: Path) -> None:
    """A put through a file system may take longer than the bound, as long as its parts go on."""
    import fsspec

    def parts() -> Iterator[bytes]:
        for _ in range(6):
            time.sleep(0.3)
            yield b"x"

    access = Access(filesystem=lambda: fsspec.filesystem("file"))
    store = FilesystemStore(Root.parse(tmp_path.as_uri()), access, Limits(1))
    store.put("k~1", parts())
    assert (tmp_path / "k~1").read_bytes() == b"xxxxxx"


def test_a_full_file_system_is_told_as_one(tmp_path: Path) -> None:
    """Through fsspec as well: /dev/full takes nothing."""
    import fsspec

    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")

    class Full(fsspec.get_filesystem_class("file")):  # type: ignore[misc]
        def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
            return open("/dev/full", mode, buffering=0)

    store = FilesystemStore(Root.parse(tmp_path.as_uri()), Access(filesystem=Full), Limits(2))
    with pytest.raises(StoreError, match="No space"):
        store.put("k~1", [DATA])
    assert list(tmp_path.iterdir()) == []


class Failing(LocalFileSystem):  # type: ignore[misc]
    """A local file system whose first reads fail, as over a connection that broke; each folder takes a while."""

    seconds = 0.0
    failures = 0

    def cat_file(self, path: str, **part: Any) -> bytes:
        if Failing.failures:
            Failing.failures -= 1
            raise ConnectionError("broken")
        return super().cat_file(path, **part)  # type: ignore[no-any-return]

    def ls(self, path: str, detail: bool = False, **more: Any) -> Any:
        time.sleep(Failing.seconds)
        return super().ls(path, detail=detail, **more)


def test_a_broken_connection_is_replaced_and_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsspec keeps instances: the store gets a new one of its own, and other users of the class keep theirs."""
    (tmp_path / "k~1").write_bytes(b"x")
    monkeypatch.setattr(Failing, "failures", 1)
    opened: list[Any] = []

    def filesystem() -> Any:
        opened.append(Failing(auto_mkdir=False))
        return opened[-1]

    others = Failing(auto_mkdir=True)
    limits = Limits(10, retry_wait_seconds=0.001)
    store = FilesystemStore(Root.parse(tmp_path.as_uri()), Access(filesystem=filesystem), limits)
    assert store.get("k~1") == b"x"
    assert len({id(fs) for fs in opened}) == len(opened) == 2
    assert Failing(auto_mkdir=True) is others


class Lossy(LocalFileSystem):  # type: ignore[misc]
    """A local file system whose connection breaks once, after the file was moved to its place."""

    failures = 1

    def mv(self, source: str, target: str, **more: Any) -> None:
        super().mv(source, target, **more)
        if Lossy.failures:
            Lossy.failures -= 1
            raise ConnectionError("broken")


@pytest.mark.parametrize("others", [False, True])
def test_a_lost_answer_of_a_create_is_told_from_another_ones_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: bool
) -> None:
    """Ours by its bytes."""

    class Raced(Lossy):
        def exists(self, path: str, **more: Any) -> bool:
            if (
                others and not Lossy.failures and path.endswith("k~1")
            ):  # another one has put its own in the place of what was lost
                Path(path).write_bytes(DATA[::-1])
            return super().exists(path, **more)  # type: ignore[no-any-return]

    monkeypatch.setattr(Lossy, "failures", 1)
    limits = Limits(10, retry_wait_seconds=0.001)
    store = FilesystemStore(Root.parse(tmp_path.as_uri()), Access(filesystem=Raced), limits)
    with pytest.raises(ObjectExistsError) if others else nullcontext():
        store.put("k~1", [DATA[:5], DATA[5:]], mode="create")
    assert (tmp_path / "k~1").read_bytes() == (DATA[::-1] if others else DATA)


class Raced(LocalFileSystem):  # type: ignore[misc]
    """A local file system whose folders somebody else makes at the same moment: as SFTP and FTP it fails at each."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        for folder in reversed((Path(path), *Path(path).parents)):
            if not folder.exists():
                folder.mkdir()
                raise OSError("File exists")


def test_folders_that_others_make_at_the_same_moment_are_no_failure(tmp_path: Path) -> None:
    """Mapped tasks of one run push at once."""
    store = FilesystemStore(Root.parse(tmp_path.as_uri()), Access(filesystem=Raced), Limits(10))
    store.put("d/r/t/0/k~1", [DATA])
    assert (tmp_path / "d/r/t/0/k~1").read_bytes() == DATA


def test_threads_share_a_store_whose_connection_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One lets go of the connection while others use it; each opens another and goes on."""
    (tmp_path / "k~1").write_bytes(b"x")
    monkeypatch.setattr(Failing, "failures", 300)
    limits = Limits(60, retry_wait_seconds=0.001, retry_max_wait_seconds=0.001)
    store = FilesystemStore(Root.parse(tmp_path.as_uri()), Access(filesystem=Failing), limits)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: store.get("k~1"), range(200))) == {b"x"}


class Single(LocalFileSystem):  # type: ignore[misc]
    """A local file system that bears one call at a time and keeps its listings: what FTP's and SFTP's do."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._busy = threading.Lock()
        self._listings: dict[str, Any] = {}

    def cat_file(self, path: str, **part: Any) -> bytes:
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("two calls at once")
        try:
            time.sleep(0.001)
            return super().cat_file(path, **part)  # type: ignore[no-any-return]
        finally:
            self._busy.release()

    def ls(self, path: str, detail: bool = False, **more: Any) -> Any:
        if path not in self._listings:
            self._listings[path] = super().ls(path, detail=detail, **more)
        return self._listings[path]

    def invalidate_cache(self, path: str | None = None) -> None:
        self._listings.clear()


def test_a_file_system_is_used_by_one_call_at_a_time(tmp_path: Path) -> None:
    """By threads that share a store; as many are opened as calls were under way at once."""
    (tmp_path / "k~1").write_bytes(b"x")
    opened: list[Any] = []

    def filesystem() -> Any:
        opened.append(Single())
        return opened[-1]

    store = FilesystemStore(Root.parse(tmp_path.as_uri()), Access(filesystem=filesystem), Limits(10))
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: store.get("k~1"), range(200))) == {b"x"}
    assert len(set(map(id, opened))) == len(opened) <= 4


def test_a_listing_shows_what_another_process_has_put(tmp_path: Path) -> None:
    """Whatever the file system remembers."""
    (tmp_path / "k~1").write_bytes(b"x")
    store = FilesystemStore(Root.parse(tmp_path.as_uri()), Access(filesystem=Single), Limits(10))
    assert {info.key for info in store.list()} == {"k~1"}
    (tmp_path / "k~2").write_bytes(b"x")
    assert {info.key for info in store.list()} == {"k~1", "k~2"}


def test_a_listing_may_take_longer_than_the_bound_of_one_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folder by folder, each within the bound; keys are whole, and an absent folder holds nothing."""
    keys = {f"d{dag}/r/t/k~1" for dag in range(6)}
    for key in keys:
        (tmp_path / key).parent.mkdir(parents=True)
        (tmp_path / key).write_bytes(b"x")
    monkeypatch.setattr(Failing, "seconds", 0.1)
    store = FilesystemStore(Root.parse(tmp_path.as_uri()), Access(filesystem=Failing), Limits(1))
    assert {info.key for info in store.list()} == keys
    assert list(store.list("absent")) == []
