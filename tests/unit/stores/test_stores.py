"""The shipped store suite over every kind of store, on real servers and real files."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from tests.conftest import Connection
from tests.servers import Server
from tests.unit.conftest import in_fork
from xcargo.airflow.connections import access_of
from xcargo.errors import (
    ConfigurationError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageFullError,
    StoreError,
)
from xcargo.model.root import Root
from xcargo.stores import StorePool
from xcargo.stores.base import Access, Limits, Store
from xcargo.stores.fsspec import FilesystemStore
from xcargo.stores.local import LocalStore, MemoryStore, buckets
from xcargo.stores.object_store import ObjectStore
from xcargo.testing import StoreTests

LIMITS = Limits(timeout_seconds=20, part_bytes=5 * 1024 * 1024, max_concurrency=4)


class Folder:
    """Files below a folder, reached without any store."""

    def __init__(self, base: Path) -> None:
        self.base = base

    def get(self, key: str) -> bytes:
        return (self.base / key).read_bytes()

    def put(self, key: str, data: bytes) -> None:
        path = self.base / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def keys(self) -> list[str]:
        return [p.relative_to(self.base).as_posix() for p in sorted(self.base.rglob("*")) if p.is_file()]


class TestLocalStore(StoreTests):
    """Plain files."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return LocalStore(Root.parse(tmp_path.as_uri()))

    @pytest.fixture
    def behind(self, tmp_path: Path) -> Folder:
        return Folder(tmp_path)


class TestFilesystemStore(StoreTests):
    """fsspec, over its local file system."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        import fsspec

        return FilesystemStore(
            Root.parse(tmp_path.as_uri()), Access(filesystem=lambda: fsspec.filesystem("file")), LIMITS
        )

    @pytest.fixture
    def behind(self, tmp_path: Path) -> Folder:
        return Folder(tmp_path)


class Dictionary:
    """The dictionary behind a memory store."""

    def __init__(self, name: str) -> None:
        self.objects = buckets.setdefault(name, {})

    def get(self, key: str) -> bytes:
        return self.objects[key][0]

    def put(self, key: str, data: bytes) -> None:
        from datetime import datetime, timezone

        self.objects[key] = (data, datetime.now(timezone.utc))

    def keys(self) -> list[str]:
        return sorted(self.objects)


class TestMemoryStore(StoreTests):
    """This process's memory."""

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        buckets.clear()
        yield MemoryStore(Root.parse("memory://suite"))
        buckets.clear()

    @pytest.fixture
    def behind(self) -> Dictionary:
        return Dictionary("suite/")


class Bucket:
    """A bucket reached by another client than the store's, below a prefix of its own for each test."""

    def __init__(self, server: Server, prefix: str) -> None:
        self.server = server
        self.prefix = prefix

    def get(self, key: str) -> bytes:
        return self.server.raw_get(f"{self.prefix}/{key}")

    def put(self, key: str, data: bytes) -> None:
        self.server.raw_put(f"{self.prefix}/{key}", data)

    def keys(self) -> list[str]:
        start = self.prefix + "/"
        return sorted(key.removeprefix(start) for key in self.server.list_keys() if key.startswith(start))


@pytest.mark.servers
class ServerTests(StoreTests):
    """A cloud's protocol, spoken to a real server over HTTP."""

    KIND = ""

    @pytest.fixture
    def server(self, request: pytest.FixtureRequest) -> Server:
        server: Server = request.getfixturevalue(f"{self.KIND}_server")
        return server

    @pytest.fixture
    def prefix(self, request: pytest.FixtureRequest) -> str:
        return f"t{abs(hash(request.node.name)):x}"

    @pytest.fixture
    def root(self, server: Server, prefix: str) -> Root:
        scheme, _, rest = server.root.partition("://")
        return Root.parse(f"{scheme}://{rest.partition('/')[0]}/{prefix}")

    @pytest.fixture
    def store(self, server: Server, root: Root) -> Store:
        return ObjectStore(root, access_of(root, lambda _: Connection(server.connection)), LIMITS)

    @pytest.fixture
    def behind(self, server: Server, prefix: str) -> Bucket:
        return Bucket(server, prefix)


class TestS3(ServerTests):
    """Amazon S3's protocol (SeaweedFS, which checks signatures)."""

    KIND = "s3"


class TestGCS(ServerTests):
    """Google Cloud Storage's protocol (fake-gcs-server)."""

    KIND = "gcs"


class TestAzure(ServerTests):
    """Azure Blob Storage's protocol (Azurite)."""

    KIND = "azure"


def test_a_failed_put_leaves_nothing(tmp_path: Path) -> None:
    """When the second part cannot be written, no object and no temporary file stays."""
    store = LocalStore(Root.parse(tmp_path.as_uri()))
    with pytest.raises(TypeError):
        store.put("d/k~0", [b"first", "not bytes"])  # type: ignore[list-item]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_purging_the_last_object_takes_its_empty_folders_along(tmp_path: Path) -> None:
    """A local root does not fill with empty folders; the root itself stays."""
    base = tmp_path / "root"
    store = LocalStore(Root.parse(base.as_uri()))
    store.put("d/r/t/k~0", [b"x"])
    store.put("d/r2/t/k~0", [b"x"])
    store.delete(["d/r/t/k~0"])
    assert sorted(p.name for p in (base / "d").iterdir()) == ["r2"]
    store.delete(["d/r2/t/k~0"])
    assert base.exists()
    assert list(base.iterdir()) == []
    assert os.access(base, os.W_OK)


def test_puts_and_deletes_of_16_processes_in_one_folder_never_fail(tmp_path: Path) -> None:
    """12,000 of them, while each deletion that empties the folders removes them; what was put last is there."""
    code = f"""
import os, sys
from xcargo.model.root import Root
from xcargo.stores.local import LocalStore
store = LocalStore(Root.parse({tmp_path.as_uri()!r}), fsync=False)
def work(process):
    for number in range(375):
        store.put(f"d/r/t/{{process}}~{{number}}", [b"x"])
        store.delete([f"d/r/t/{{process}}~{{number}}"])
    store.put(f"d/r/t/{{process}}~last", [b"x"])
for process in range(16):
    if os.fork() == 0:
        work(process)
        os._exit(0)
sys.exit(any([os.wait()[1] for _ in range(16)]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    keys = {info.key for info in LocalStore(Root.parse(tmp_path.as_uri())).list()}
    assert keys == {f"d/r/t/{process}~last" for process in range(16)}


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS, errno.ENOTSUP])
def test_a_mount_that_cannot_link_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """As some mounts of buckets cannot; nothing is left there, and the error says what to set."""

    def refuse(*paths: object) -> None:
        raise OSError(code, os.strerror(code), str(paths[0]), None, str(paths[1]))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(ConfigurationError, match=r"cannot rename or link.*Set \[xcargo\] path"):
        LocalStore(Root.parse(tmp_path.as_uri())).put("d/r/t/k~0", [b"x"], mode="create")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_is_no_file_is_neither_followed_nor_waited_for(tmp_path: Path) -> None:
    """Whoever may write below the root has no other file read or copied by a link, and holds nobody up by a pipe."""
    base, secret = tmp_path / "root", tmp_path / "secret"
    secret.write_text("of somebody else")
    store = LocalStore(Root.parse(base.as_uri()))
    store.put("d/r/t/k~0", [b"x"])
    (base / "d/r/t/link~0").symlink_to(secret)
    (base / "d/r/t/loop~0").symlink_to("loop~0")
    os.mkfifo(base / "d/r/t/pipe~0")
    for name in ("link", "loop"):
        for read in (store.get, lambda key: store.get_into(key, memoryview(bytearray(9)), start=0)):
            with pytest.raises(StoreError, match="symbolic link"):
                read(f"d/r/t/{name}~0")
    assert not store.get("d/r/t/pipe~0")
    found = {info.key: info.size_bytes for info in store.list()}
    assert sorted(found) == ["d/r/t/k~0", "d/r/t/link~0", "d/r/t/loop~0", "d/r/t/pipe~0"]
    assert store.head("d/r/t/link~0").size_bytes == found["d/r/t/link~0"] == len(str(secret))
    store.delete(found)
    assert secret.read_text() == "of somebody else"


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_no_link_in_the_place_of_a_folder_leads_a_put_or_a_sweep_out_of_the_root(tmp_path: Path, depth: int) -> None:
    """Whoever may write below one root has nothing written or deleted below another, nor below a folder of the system.

    The root itself may be a link: whoever set the path chose that.
    """
    keys = [f"d/r/t/{name}~0" for name in "ab"]
    for name in ("mine", "theirs"):
        LocalStore(Root.parse((tmp_path / name).as_uri())).put(keys[0], [b"x"])
    folder = "/".join(keys[0].split("/")[:depth])
    shutil.rmtree(tmp_path / "mine" / folder)
    (tmp_path / "mine" / folder).symlink_to(tmp_path / "theirs" / folder)
    (tmp_path / "root").symlink_to("mine")
    store = LocalStore(Root.parse((tmp_path / "root").as_uri()))
    for use in (
        lambda: store.put(keys[1], [b"y"]),
        lambda: store.put(keys[1], [b"y"], mode="create"),
        lambda: store.delete([keys[0]]),
        lambda: list(store.list(folder)),
    ):
        with pytest.raises(StoreError, match="symbolic link"):
            use()
    assert [info.key for info in store.list()] in ([], [folder])
    assert [path.name for path in (tmp_path / "theirs").rglob("*~0")] == ["a~0"]
    store.put("other/r/t/a~0", [b"y"])
    assert (tmp_path / "mine/other/r/t/a~0").read_bytes() == b"y"


def test_a_pool_forgets_a_root_while_other_threads_open_stores() -> None:
    """Several requests at once are refused when credentials are rotated, and others begin in between."""

    class Interrupted(Root):
        """Another thread gets its turn, as it may, where roots are compared."""

        def __eq__(self, other: object) -> bool:
            pool.store(Root.parse(f"memory://other-{next(numbers)}"), Limits())
            return super().__eq__(other)

        __hash__ = Root.__hash__

    numbers, pool = count(), StorePool(lambda root: Access())
    root = Interrupted("memory", "bucket", "")
    stores = [pool.store(root, Limits(max_concurrency=n)) for n in (1, 2)]
    pool.forget(root)
    assert not {pool.store(root, Limits(max_concurrency=n)) for n in (1, 2)} & set(stores)


@pytest.mark.servers
def test_a_forked_child_works_as_its_parent_does(s3_server: Server) -> None:
    """Every verb, objects in parts, ranges, errors of the store and of the parts: by the one helper process."""
    root = Root.parse(s3_server.root + "/forked")
    store = ObjectStore(root, access_of(root, lambda _: Connection(s3_server.connection)), LIMITS)
    large = os.urandom(1_000_000)
    store.put("d/k~1", [large])

    def failing(blocks: int) -> Iterator[bytes]:
        for _ in range(blocks):
            yield large
        raise KeyError("the parts' own")

    def work() -> bool:
        for blocks in (0, 1, 30):
            with pytest.raises(KeyError, match="the parts' own"):
                store.put("d/k~2", failing(blocks))
        store.put("d/k~3", (large for _ in range(30)))
        view = memoryview(bytearray(2_000_000))
        assert store.get_into("d/k~3", view, start=500_000) == len(view)
        assert view == large[500_000:] + large + large[:500_000]
        with pytest.raises(ObjectExistsError):
            store.put("d/k~1", [b""], mode="create")
        with pytest.raises(ObjectNotFoundError, match="d/k~4"):
            store.head("d/k~4")
        assert {info.key: info.size_bytes for info in store.list()} == {"d/k~1": 10**6, "d/k~3": 3 * 10**7}
        assert store.folders() == ["d"]
        assert "/d/k~1?X-Amz-" in (store.signed_url("d/k~1", 60) or "")
        store.delete(["d/k~1", "d/k~3", "d/k~4"])
        return True

    assert in_fork(work) == 0
    assert list(store.list()) == []


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    """When the system takes no more bytes, StorageFullError names the place; no part of the object stays."""
    store = LocalStore(Root.parse(tmp_path.as_uri()))

    store.put("d/k~0", [b"x" * 50_000])

    def work() -> bool:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        refused = partial(pytest.raises, StorageFullError, match=r"d/k~1.*\[xcargo\] path")
        with refused():
            store.put("d/k~1", [b"x" * 50_000])
        with refused():
            store.copy("d/k~0", "d/k~1")
        vars(os).pop("copy_file_range", None)  # as where the system has none
        with refused():
            store.copy("d/k~0", "d/k~1")
        return True

    assert in_fork(work) == 0
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["k~0"]
