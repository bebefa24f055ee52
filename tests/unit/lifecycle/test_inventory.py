"""Sweeps by an inventory instead of a listing: formats of the three clouds, ages, versions, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Connection
from tests.servers import Server
from tests.unit.lifecycle.inventories import OF_NO_READER, TAKEN, WRITERS, Entry, write_s3
from tests.unit.lifecycle.kit import DAY, HOUR, ClockedStore, Rows
from xcargo.airflow.connections import access_of
from xcargo.errors import ConfigurationError, IntegrityError, MissingDependencyError, SweepRefusedError
from xcargo.lifecycle.columnar import sum_inventory
from xcargo.lifecycle.inventory import open_inventory
from xcargo.lifecycle.key_sets import ExactKeySet, KeySet, KeysOnDisk
from xcargo.lifecycle.plan import SweepOptions, Verdict
from xcargo.lifecycle.references import EVERYTHING, Reference, Run, XComFilter
from xcargo.lifecycle.report import Outcome, Report
from xcargo.lifecycle.retention import parse_rules
from xcargo.lifecycle.sweep import Sweep
from xcargo.model.coordinate import Coordinate
from xcargo.model.root import Root
from xcargo.stores import open_store
from xcargo.stores.base import Limits, Store
from xcargo.stores.local import MemoryStore, buckets

SCHEMES = {"s3": "s3", "gcs": "gs", "azure": "az"}
FORMATS = ("Parquet", "CSV")
clouds = pytest.mark.parametrize("cloud", SCHEMES)
formats = pytest.mark.parametrize("file_format", FORMATS)


class Cloud:
    """A bucket whose clock the test sets, with the objects that its inventory lists."""

    def __init__(self, cloud: str = "s3", prefix: str = "xcom") -> None:
        self.cloud = cloud
        self.root = Root.parse(f"{SCHEMES[cloud]}://bucket/{prefix}")
        self.store = ClockedStore(MemoryStore(self.root))
        self.store.now = TAKEN + timedelta(hours=2)
        self.inventories = MemoryStore(Root.parse(f"{self.root.scheme}://inventories"))
        self.entries: list[Entry] = []

    def add(self, key: str, *, days: float = 10, size: int = 3, **more: Any) -> str:
        """An object so many days older than the inventory, and its row in the inventory."""
        modified = (TAKEN - timedelta(days=days)).replace(microsecond=0)
        self.store.store.put(key, [b"x" * size])
        self.store.written[key] = modified
        below = f"{self.root.prefix}/" if self.root.prefix else ""
        self.entries.append(Entry(below + key, size, modified, self.store.head(key).e_tag or "", more))
        return key

    def write(self, **options: Any) -> str:
        """Write the inventory. Returns the URL of its manifest."""
        key = WRITERS[self.cloud](self.put, self.entries, bucket="bucket", **options)
        return f"{self.root.scheme}://inventories/{key}"

    def put(self, key: str, data: bytes) -> None:
        self.inventories.put(key, [data])

    def sweep(
        self, live: set[str], url: str | None, *, apply: bool = True, source: Any = None, **options: Any
    ) -> Report:
        """A sweep by the inventory at a URL, or by a listing without one."""
        options = {"max_share": None, "workers": 1} | options
        inventory = open_inventory(url, self.root, lambda _: self.inventories) if url else None
        source = source or Rows(set(map(self.root.uri, live)))
        with Sweep(self.store, source, root=self.root, options=SweepOptions(**options), inventory=inventory) as sweep:
            report = sweep.plan()
            return sweep.apply(report) if apply else report

    def keys(self) -> set[str]:
        return {info.key for info in self.store.list() if not info.key.startswith("~xcargo/")}


def key(dag: str = "d", run: str = "r", **more: Any) -> str:
    return Coordinate(dag, run, "t", "k", **more).object_key(suffix=".bin")


@clouds
@formats
def test_orphans_of_the_inventory_go_and_nothing_else(cloud: str, file_format: str) -> None:
    """Ids of any characters, a map index, an attempt; objects of others, and of other folders of the bucket."""
    bucket = Cloud(cloud)
    live = {bucket.add(key("dag é+&=% ~", "run ü/1")), bucket.add(key(map_index=3, attempt="0-1"), size=0)}
    gone = {bucket.add(key("dag é+&=% ~", "run ü/1"), size=7), bucket.add(key(map_index=4), days=1.01)}
    young, foreign = bucket.add(key(), days=0.5), bucket.add("someone/else's file + more%2B.txt")
    bucket.entries.append(Entry(f"other/{key()}", 5, TAKEN - timedelta(days=9)))
    bucket.entries.append(Entry(f"xcom/~xcargo/quarantine/{key()}", 5, TAKEN - timedelta(days=9)))
    report = bucket.sweep(live, bucket.write(file_format=file_format), apply=False)
    assert {v: c.objects for v, c in report.total.items()} == {
        Verdict.LIVE: 2,
        Verdict.ORPHAN: 2,
        Verdict.YOUNG: 1,
        Verdict.FOREIGN: 1,
    }
    assert report.total[Verdict.ORPHAN].size_bytes == 10
    assert report.to_json()["inventory_taken_at"] == TAKEN.isoformat()
    assert report.missing is None
    applied = bucket.sweep(live, bucket.write(file_format=file_format))
    assert {o: c.objects for o, c in applied.outcomes.items()} == {Outcome.DELETED: 2}
    assert bucket.keys() == live | {young, foreign}
    assert not gone & bucket.keys()


@clouds
@formats
def test_versions_that_no_reader_gets_are_no_objects(cloud: str, file_format: str) -> None:
    """Old versions, delete markers, snapshots, what was deleted; the object itself is counted once."""
    bucket = Cloud(cloud)
    orphan = bucket.add(key())
    for more in OF_NO_READER[cloud]:
        bucket.entries.append(dataclasses.replace(bucket.entries[0], more=more))
    report = bucket.sweep({key()}, bucket.write(file_format=file_format))
    assert report.outcomes[Outcome.DELETED].objects == report.total[Verdict.ORPHAN].objects == 1
    assert orphan not in bucket.keys()


@clouds
def test_an_inventory_of_current_versions_alone_needs_no_columns_that_say_so(cloud: str) -> None:
    """As S3 writes it when versions are left out, and as the others do without these fields."""
    bucket = Cloud(cloud)
    bucket.add(key())
    drop = ("VersionId", "IsLatest", "IsDeleteMarker", "timeDeleted", "Snapshot", "IsCurrentVersion", "Deleted")
    assert bucket.sweep({key()}, bucket.write(drop=drop)).outcomes[Outcome.DELETED].objects == 1


def test_nothing_younger_than_the_inventory_is_judged() -> None:
    """The cloud takes hours to write it, so it lists some; with a short grace they would be old enough."""
    bucket = Cloud()
    bucket.store.now = TAKEN + timedelta(days=6)
    bucket.add(key(), days=-1)
    bucket.add(key(), days=0.01)
    report = bucket.sweep({key()}, bucket.write(), grace_seconds=HOUR)
    assert (report.total[Verdict.YOUNG].objects, report.outcomes[Outcome.DELETED].objects) == (1, 1)


def test_what_changed_or_went_since_is_noticed_before_it_is_deleted() -> None:
    """By ETag, length and time; one that a row refers to by now stays as well."""
    bucket = Cloud()
    changed, gone, same = bucket.add(key("a")), bucket.add(key("b")), bucket.add(key("c"))
    url = bucket.write()
    bucket.store.put(changed, [b"new"])
    bucket.store.delete([gone])
    report = bucket.sweep({key()}, url)
    assert {o: c.objects for o, c in report.outcomes.items()} == {
        Outcome.CHANGED: 1,
        Outcome.GONE: 1,
        Outcome.DELETED: 1,
    }
    assert bucket.keys() == {changed}
    assert same not in bucket.keys()


def test_prefixes_choose_from_the_inventory() -> None:
    """Those of the mapped sweep: a folder's name that begins like another is another."""
    bucket = Cloud(prefix="")
    taken, kept = {bucket.add(key("d")), bucket.add(key("e"))}, {bucket.add(key("dd")), bucket.add(key("f"))}
    assert taken <= bucket.keys()
    bucket.sweep({key("d")}, bucket.write(), prefixes=("d", "e"))
    assert bucket.keys() == kept


def test_what_is_in_quarantine_is_looked_up_too() -> None:
    """An object that a row refers to again is not deleted from there."""
    bucket = Cloud()
    for name in (kept := key("kept")), key("gone"):
        bucket.add(f"~xcargo/quarantine/{name}")
    bucket.sweep({kept}, bucket.write(), quarantine_seconds=DAY)
    assert {info.key for info in bucket.store.list("~xcargo/quarantine")} == {f"~xcargo/quarantine/{kept}"}


class RowsOfRuns(Rows):
    """The same, of runs that ended long ago."""

    ENDED = TAKEN - timedelta(days=9)

    def iterate(self, where: XComFilter = EVERYTHING) -> Any:
        for n, uri in enumerate(sorted(self._uris)):
            at = Coordinate(uri.split("/")[4], f"r{n}", "t", "k")
            yield Reference(at, uri, 3, 3, self.ENDED, "xcom", "success", self.ENDED, self.ENDED)

    def runs(self, where: XComFilter = EVERYTHING) -> Any:
        for reference in self.iterate():
            yield Run(reference.coordinate.dag_id, reference.coordinate.run_id, "success", self.ENDED, self.ENDED)


def test_retention_rules_hold_for_what_the_inventory_lists() -> None:
    """Values expire as with a listing; a value of another length is the note of an earlier sweep."""
    bucket = Cloud()
    live = {bucket.add(key("expires")), bucket.add(key("stays")), bucket.add(key("expires"), size=512)}
    source = RowsOfRuns(set(map(bucket.root.uri, live)))
    rules = parse_rules("dag=expires: keep 1d even latest; dag=stays: keep forever")
    report = bucket.sweep(live, bucket.write(), source=source, rules=rules, apply=False)
    assert {v: c.objects for v, c in report.total.items()} == {
        Verdict.EXPIRED: 1,
        Verdict.RETAINED: 1,
        Verdict.LIVE: 1,
    }


SEGMENTS = st.sampled_from(["a", "b c", ".", "..", "~", "~20", "%7E", "x" * 120, ".xcargo-scratch", "1", "é"])
KEYS = st.one_of(
    st.builds(lambda dag, run: key(dag, run), SEGMENTS, SEGMENTS),
    st.lists(SEGMENTS, min_size=1, max_size=5).map("/".join).filter(lambda k: not {".", ".."} & set(k.split("/"))),
)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(KEYS, st.tuples(st.booleans(), st.floats(0.2, 3), st.integers(0, 9)), max_size=12), st.data())
def test_an_inventory_and_a_listing_are_judged_alike(
    objects: dict[str, tuple[bool, float, int]], data: st.DataObject
) -> None:
    """Whatever the keys, ages and references: the same verdicts, Dag by Dag."""
    buckets.clear()
    bucket = Cloud()
    for name, (_, days, size) in objects.items():
        bucket.add(name, days=days, size=size)
    live = {name for name, (is_live, *_) in objects.items() if is_live} | {key()}
    by_listing = bucket.sweep(live, None, apply=False)
    by_inventory = bucket.sweep(live, bucket.write(file_format=data.draw(st.sampled_from(FORMATS))), apply=False)
    assert by_inventory.total == by_listing.total
    assert by_inventory.dags == by_listing.dags


@pytest.mark.parametrize("kind", [KeySet, ExactKeySet])
def test_a_key_is_not_taken_for_another(kind: Callable[[], KeySet | ExactKeySet]) -> None:
    """Of 20,000 keys that were not added, none is found among 20,000 that were."""
    keys = kind()
    for n in range(20_000):
        keys.add(f"d/r/t/k~{n}")
    assert len(keys) == 20_000
    assert not any(f"d/r/other/k~{n}" in keys for n in range(20_000))


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, 400)), st.lists(st.lists(st.integers(0, 500), max_size=200), max_size=5))
def test_keys_on_disk_are_a_set(members: set[int], batches: list[list[int]]) -> None:
    """Written in parts of a few; keys that were added twice, and keys that were asked for twice."""
    keys = KeysOnDisk(2)
    try:
        for n in [*members, *members]:
            keys.add(str(n))
        bits = keys.find([str(n) for n in batch] for batch in batches)
        asked = [n for batch in batches for n in batch]
        assert [bool(bits[row >> 3] >> (row & 7) & 1) for row in range(len(asked))] == [n in members for n in asked]
        assert len(keys) == len(members)
        assert {n for n in range(500) if str(n) in keys} == members
        keys.add("one more")
        assert "one more" in keys
    finally:
        keys.close()


# --- which inventory -------------------------------------------------------------------------------------------------


@clouds
def test_of_a_folder_the_newest_complete_inventory_of_the_bucket_is_taken(cloud: str) -> None:
    """Not an older one, nor a newer one of another bucket or, on Azure, that is still written."""
    bucket = Cloud(cloud)
    other: dict[str, Any] = {"status": "Pending"} if cloud == "azure" else {"bucket": "another"}
    inventories: list[tuple[int, dict[str, Any]]] = [(9, {}), (2, {}), (1, other)]
    for days, more in inventories:
        bucket.add(key(str(days)), days=days + 1)
        options: dict[str, Any] = {"bucket": "bucket", "taken": TAKEN - timedelta(days=days), **more}
        WRITERS[cloud](bucket.put, bucket.entries, **options)
        time.sleep(0.01)
    report = bucket.sweep(
        {key()}, f"{bucket.root.scheme}://inventories/{'2026' if cloud == 'azure' else 'inventories'}"
    )
    assert report.inventory_taken_at == TAKEN - timedelta(days=2)
    assert report.outcomes[Outcome.DELETED].objects == 2


def test_a_report_of_gcs_without_a_header_is_read_by_its_settings() -> None:
    """The manifest holds the names of the columns, in order."""
    bucket = Cloud("gcs")
    bucket.add(key())
    assert bucket.sweep({key()}, bucket.write(file_format="CSV", header=False)).outcomes[Outcome.DELETED].objects == 1


@formats
def test_an_empty_inventory_is_one(file_format: str) -> None:
    """Of a bucket in which nothing is stored yet."""
    bucket = Cloud()
    assert bucket.sweep({key()}, bucket.write(file_format=file_format)).total == {}


def test_an_id_that_its_key_holds_only_in_part_is_found() -> None:
    """By the filter of ``du --dag``, whose sum it is."""
    bucket, dag_id = Cloud(), "d" * 240
    bucket.add(key(dag_id), size=7)
    inventory = open_inventory(bucket.write(), bucket.root, lambda _: bucket.inventories)
    sums, _ = sum_inventory(inventory, XComFilter(dag_id=dag_id), ["dag_id"])
    assert {by: (count.objects, count.size_bytes) for by, count in sums.items()} == {(dag_id,): (1, 7)}


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_size_that_is_none_is_an_error_of_ours() -> None:
    """Of a row of CSV, which has texts alone."""
    bucket = Cloud()
    bucket.add(key())
    bucket.entries.append(dataclasses.replace(bucket.entries[0], more={"Size": ""}))
    with pytest.raises(IntegrityError, match="cannot be read"):
        bucket.sweep({key()}, bucket.write(file_format="CSV"))


def open_at(bucket: Cloud, url: str) -> None:
    open_inventory(url, bucket.root, lambda _: bucket.inventories)


def manifest_of(bucket: Cloud, url: str) -> tuple[str, Any]:
    name = url.partition("//inventories/")[2]
    return name, json.loads(bytes(bucket.inventories.get(name)))


@clouds
def test_a_missing_manifest_says_where_it_was_looked_for(cloud: str) -> None:
    """A manifest, or a folder without any."""
    bucket = Cloud(cloud)
    with pytest.raises(ConfigurationError, match=r"no such manifest.*inventories/x/manifest\.json"):
        open_at(bucket, f"{bucket.root.scheme}://inventories/x/manifest.json")
    with pytest.raises(ConfigurationError, match=r"no manifest of an inventory below.*inventories/x"):
        open_at(bucket, f"{bucket.root.scheme}://inventories/x")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot be read"),
        ("[1]", "not the manifest of an inventory"),
        ("{}", "not the manifest of an inventory"),
        ('{"sourceBucket": "bucket", "files": 3}', "cannot be read"),
        ('{"sourceBucket": "bucket", "files": [], "fileSchema": "Key", "creationTimestamp": "x"}', "cannot be read"),
        ('{"report_shards_file_names": ["x.csv"], "snapshot_time": "never"}', "cannot be read"),
        ('{"ruleDefinition": {}, "status": "Failed"}', "not complete"),
    ],
)
def test_a_manifest_that_is_none(text: str, says: str) -> None:
    """Whoever may write to the bucket may have put anything there."""
    bucket = Cloud()
    bucket.put("m/manifest.json", text.encode())
    with pytest.raises(ConfigurationError, match=says):
        open_at(bucket, "s3://inventories/m/manifest.json")


def test_a_format_that_is_not_read() -> None:
    """S3 offers ORC."""
    bucket = Cloud()
    url = bucket.write()
    name, manifest = manifest_of(bucket, url)
    manifest["files"][0]["key"] = "data/1.orc"
    bucket.put(name, json.dumps(manifest).encode())
    with pytest.raises(ConfigurationError, match="format that xcargo does not read"):
        open_at(bucket, url)


@clouds
@formats
def test_a_missing_column_is_named(cloud: str, file_format: str) -> None:
    """What has to be added to the inventory's settings."""
    bucket = Cloud(cloud)
    bucket.add(key())
    url = bucket.write(file_format=file_format, drop=("LastModifiedDate", "updated", "Last-Modified"))
    with pytest.raises(ConfigurationError, match=r"no column (lastmodifieddate|updated|lastmodified)"):
        bucket.sweep({key()}, url)


@clouds
def test_an_inventory_of_another_bucket(cloud: str) -> None:
    """S3's manifest says so, the rows of GCS do, and of Azure's none is of the container."""
    bucket = Cloud(cloud)
    bucket.add(key())
    name = WRITERS[cloud](bucket.put, bucket.entries, bucket="another")
    with pytest.raises(ConfigurationError, match="not one of the bucket"):
        bucket.sweep({key()}, f"{bucket.root.scheme}://inventories/{name}")


def test_an_inventory_of_another_cloud() -> None:
    """Buckets of two clouds may have the same name."""
    bucket = Cloud("gcs")
    name = write_s3(bucket.put, [], bucket="bucket")
    with pytest.raises(ConfigurationError, match="not one of the bucket"):
        open_at(bucket, f"gs://inventories/{name}")


@pytest.mark.parametrize("days", [-0.5, 31])
def test_an_inventory_that_is_too_old_or_of_the_future(days: float) -> None:
    """By the store's clock."""
    bucket = Cloud()
    bucket.add(key(), days=40)
    bucket.store.now = TAKEN + timedelta(days=days)
    with pytest.raises(SweepRefusedError, match="The inventory is of 2026-03-01 01:00 UTC"):
        bucket.sweep({key()}, bucket.write())
    assert len(bucket.keys()) == 1


@clouds
@formats
def test_a_truncated_file(cloud: str, file_format: str) -> None:
    """By the length in the manifest, or by its end or number of rows where there is none."""
    bucket = Cloud(cloud)
    for n in range(50):
        bucket.add(key(str(n)))
    url = bucket.write(file_format=file_format)
    (name,) = [i.key for i in bucket.inventories.list() if i.key.endswith((".parquet", ".csv", ".csv.gz"))]
    data = bytes(bucket.inventories.get(name))
    bucket.put(name, data[: len(data) // 2].rpartition(b"\n")[0] if cloud == "gcs" else data[:-20])
    with pytest.raises(IntegrityError):
        bucket.sweep({key()}, url)


def test_a_file_that_is_another_or_not_there() -> None:
    """Of the same length, but with another checksum."""
    bucket = Cloud()
    bucket.add(key())
    url = bucket.write()
    (name,) = [i.key for i in bucket.inventories.list() if i.key.endswith(".parquet")]
    data = bytearray(bucket.inventories.get(name))
    data[10] ^= 1
    bucket.put(name, bytes(data))
    with pytest.raises(IntegrityError, match="MD5"):
        bucket.sweep({key()}, url)
    bucket.inventories.delete([name])
    with pytest.raises(IntegrityError, match="not there"):
        bucket.sweep({key()}, url)


def test_a_file_that_is_replaced_between_the_two_readings() -> None:
    """Of the same length, where no checksum is in the manifest: rows would be taken for others."""
    bucket = Cloud("gcs")
    bucket.add(key())
    url = bucket.write()
    reads: list[str] = []

    def replace(verb: str, name: str) -> None:
        if verb == "head" and name.endswith(".parquet"):
            reads.append(name)
            if len(reads) == 2:
                bucket.put(name, bytes(bucket.inventories.get(name))[::-1])

    watched = ClockedStore(bucket.inventories)
    watched.before = replace
    inventory = open_inventory(url, bucket.root, lambda _: watched)
    source: Any = Rows({bucket.root.uri(key())})
    with (
        Sweep(bucket.store, source, root=bucket.root, options=SweepOptions(), inventory=inventory) as sweep,
        pytest.raises(IntegrityError, match="another one"),
    ):
        sweep.plan()


def test_without_pyarrow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyarrow comes with an extra."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        open_at(Cloud(), "s3://inventories/x")


# --- on real servers -------------------------------------------------------------------------------------------------


def test_on_a_real_server_the_orphans_go(any_server: Server) -> None:
    """The ETags and times that each server itself gives are those that are compared before a deletion."""
    root = Root.parse(f"{any_server.root}/inventory")

    def opened(of: Root) -> Store:
        return open_store(of, access_of(of, lambda conn_id: Connection(any_server.connection, conn_id)), Limits())

    store = opened(root)
    live, orphan, changed = key("live"), key("orphan"), key("changed")
    for name in (live, orphan, changed):
        store.put(name, [b"value"])
    listed = {info.key: info for info in store.list()}
    time.sleep(1.1)  # times of some servers are whole seconds
    entries = []
    for name, info in listed.items():
        assert info.last_modified is not None
        entries.append(Entry(f"{root.prefix}/{name}", 5, info.last_modified, (info.e_tag or "").strip('"')))
    writer = WRITERS[any_server.kind]
    at = writer(any_server.raw_put, entries, bucket=root.bucket, taken=datetime.now(timezone.utc))
    store.put(changed, [b"other"])
    # With the connection that its root has.
    url = str(dataclasses.replace(root, prefix=at))
    source: Any = Rows({root.uri(live)})
    options = SweepOptions(grace_seconds=0, max_share=None)
    time.sleep(1.1)
    with Sweep(store, source, root=root, options=options, inventory=open_inventory(url, root, opened)) as sweep:
        report = sweep.apply(sweep.plan())
    assert {o: c.objects for o, c in report.outcomes.items()} == {Outcome.DELETED: 1, Outcome.CHANGED: 1}
    assert {info.key for info in store.list() if not info.key.startswith("~")} == {live, changed}
