"""Inventories: what a cloud itself writes down of a bucket, once a day or a week, read instead of a listing.

Those of Amazon S3 (S3 Inventory), Google Cloud Storage (inventory reports of Storage Insights) and Azure (blob
inventory), in Parquet or CSV. A manifest in JSON says when the inventory was begun and names its files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.parse import unquote_plus

from xcargo.errors import ConfigurationError, IntegrityError, MissingDependencyError, ObjectNotFoundError
from xcargo.lifecycle.references import parse_time
from xcargo.model.root import Root
from xcargo.stores.base import Store

__all__ = ["Inventory", "open_inventory"]

_MANIFEST = "manifest.json"
_MAX_MANIFEST_BYTES = 64 * 1024 * 1024
_TRIED_MANIFESTS = 10
"""In a folder: that of the newest inventory may be of another bucket, or still be written."""
_RANGE_BYTES = 8 * 1024 * 1024
_BATCH_ROWS = 65536
_CSV_BLOCK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class _Cloud:
    """How a cloud names the columns; here and below without regard to case, hyphens and underscores."""

    scheme: str
    key: str
    size: str
    modified: str
    e_tag: str | None
    """None where it is not the ETag that the store itself answers with."""
    bucket: str | None
    """None where the key begins with it."""
    current: str
    """True, or empty, of what a reader gets; other versions are of no interest."""
    gone: tuple[str, ...]
    """Each false, or empty, of an object that is there and is no version of old."""


_S3 = _Cloud("s3", "key", "size", "lastmodifieddate", "etag", "bucket", "islatest", ("isdeletemarker",))
_GCS = _Cloud("gs", "name", "size", "updated", None, "bucket", "", ("timedeleted",))
_NOT_THERE = ("snapshot", "deleted", "hdiisfolder")
_AZURE = _Cloud("az", "name", "contentlength", "lastmodified", "etag", None, "iscurrentversion", _NOT_THERE)


@dataclass(frozen=True)
class _File:
    key: str
    size_bytes: int | None = None
    md5: str | None = None


@dataclass(frozen=True)
class Inventory:
    """An inventory of the bucket of a root, as `open_inventory` found it."""

    url: str
    """Of its manifest."""
    taken_at: datetime
    """When the cloud began to write it down, by its own clock."""
    root: Root
    store: Store = field(repr=False)
    """Of the bucket that holds it."""
    cloud: _Cloud = field(repr=False)
    files: tuple[_File, ...] = field(repr=False)
    columns: tuple[str, ...] | None = None
    """Of files of CSV; None if each begins with their names."""
    delimiter: str = ","
    rows: int | None = None
    """How many rows all files have, if the manifest says so."""
    _digests: dict[str, str] = field(default_factory=dict, repr=False)

    def batches(self, prefixes: Sequence[str] = ()) -> Iterator[Any]:
        """The objects below the root, as tables of pyarrow: the same rows in the same order, however often.

        Reads one file after another from a temporary copy. Columns: ``key`` below the root, ``size_bytes``,
        ``last_modified`` in UTC, ``e_tag`` (null where it is not known).

        Args:
            prefixes: Whole segments of object keys; none for everything.

        Raises:
            ConfigurationError: The inventory lacks a column, or is of another bucket.
            IntegrityError: A file is not what the manifest says, or not what it was, or cannot be read.
            StoreError: A file cannot be fetched.
        """
        import pyarrow as pa

        rows, is_of_bucket = 0, False
        for file in self.files:
            with self._copy(file) as path:
                read = self._parquet if file.key.endswith(".parquet") else self._csv
                try:
                    for batch in read(file, path):
                        rows += len(batch)
                        is_of_bucket = is_of_bucket or self._is_of_bucket(batch)
                        yield self._objects(batch, prefixes)
                except (pa.ArrowException, OSError, EOFError) as error:  # or a size or time that is none
                    raise self._damaged(file, f"cannot be read: {error}") from error
        if rows and not is_of_bucket:
            raise _other_bucket(self.root, self.url)
        if self.rows is not None and rows < self.rows:
            raise IntegrityError(f"The inventory has {rows:,} of {self.rows:,} rows", where=self.url, hint=_AGAIN)

    @contextmanager
    def _copy(self, file: _File) -> Iterator[str]:
        """A file of the inventory on this machine's disk, checked against the manifest."""
        digest = hashlib.md5(usedforsecurity=False)
        try:
            size = self.store.head(file.key).size_bytes
            if file.size_bytes is not None and size != file.size_bytes:
                raise self._damaged(file, f"has {size:,} bytes, and {file.size_bytes:,} by its manifest")
            with NamedTemporaryFile(suffix=file.key.rpartition("/")[2][-80:]) as copy:
                for start in range(0, size, _RANGE_BYTES):
                    data = self.store.get(file.key, start=start, end=min(size, start + _RANGE_BYTES))
                    digest.update(data)
                    copy.write(data)
                copy.flush()
                if file.md5 is not None and digest.hexdigest() != file.md5.lower():
                    raise self._damaged(file, "does not have the MD5 checksum of its manifest")
                if self._digests.setdefault(file.key, digest.hexdigest()) != digest.hexdigest():
                    raise self._damaged(file, "is another one than when it was first read")
                yield copy.name
        except ObjectNotFoundError as error:
            raise IntegrityError("A file that the manifest names is not there", where=file.key, hint=_AGAIN) from error

    def _damaged(self, file: _File, what: str) -> IntegrityError:
        return IntegrityError(f"A file of the inventory {what}", where=file.key, hint=_AGAIN)

    # --- files to rows -----------------------------------------------------------------------------------------------

    def _parquet(self, file: _File, path: str) -> Iterator[Any]:
        """The rows of a file, with the columns that are needed, by their plain names."""
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile

        with ParquetFile(path, buffer_size=1024 * 1024) as parquet:
            names = self._needed(parquet.schema_arrow.names, file)
            for batch in parquet.iter_batches(_BATCH_ROWS, columns=list(names)):
                yield pa.Table.from_batches([batch]).rename_columns([names[name] for name in batch.schema.names])

    def _csv(self, file: _File, path: str) -> Iterator[Any]:
        """The same of a file of CSV, each as text."""
        import pyarrow as pa
        from pyarrow import csv

        compression = "gzip" if file.key.endswith(".gz") else None
        with pa.input_stream(path, compression=compression) as stream:
            head = stream.read(65536).decode(errors="replace")
        header, _, rest = head.partition("\n")
        if not (head if self.columns else rest):  # which pyarrow calls an error
            return
        columns = self.columns or tuple(name.strip('"\ufeff') for name in header.strip().split(self.delimiter))
        names = self._needed(columns, file)
        with (
            pa.input_stream(path, compression=compression) as stream,
            csv.open_csv(
                stream,
                csv.ReadOptions(column_names=columns, skip_rows=int(self.columns is None), block_size=_CSV_BLOCK_BYTES),
                csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=self.cloud is not _S3),
                csv.ConvertOptions(include_columns=list(names), column_types=dict.fromkeys(names, pa.string())),
            ) as reader,
        ):
            for batch in reader:
                renamed = pa.Table.from_batches([batch]).rename_columns([names[name] for name in batch.schema.names])
                if self.cloud is _S3:  # in CSV, not in Parquet, keys are written as in a URL
                    keys = pa.array(map(unquote_plus, renamed["key"].to_pylist()), pa.string())
                    renamed = renamed.set_column(renamed.schema.get_field_index("key"), "key", keys)
                yield renamed

    def _needed(self, names: Sequence[str], file: _File) -> dict[str, str]:
        """The columns to read, and their plain names."""
        cloud = self.cloud
        plain = {_plain(name): name for name in names}
        required = [name for name in (cloud.key, cloud.size, cloud.modified, cloud.bucket) if name is not None]
        missing = [name for name in required if name not in plain]
        if missing:
            raise ConfigurationError(
                f"The inventory has no column {', '.join(missing)}",
                where=file.key,
                hint=f"It needs {', '.join(required)}. Add them to the inventory's settings; the next one has them.",
            )
        optional = (cloud.e_tag, cloud.current, *cloud.gone)
        return {plain[name]: name for name in (*required, *optional) if name in plain}

    def _is_of_bucket(self, batch: Any) -> bool:
        """Whether at least one row is of the root's bucket: on Azure, an inventory is one of several containers."""
        import pyarrow.compute as pc

        column, bucket = self.cloud.bucket, self.root.bucket
        is_of = pc.equal(batch[column], bucket) if column else pc.starts_with(batch[self.cloud.key], f"{bucket}/")
        return bool(pc.any(is_of).as_py())

    def _objects(self, batch: Any, prefixes: Sequence[str]) -> Any:
        """The objects below the root that the rows of a batch are about."""
        import pyarrow as pa
        import pyarrow.compute as pc

        cloud, names = self.cloud, batch.schema.names
        start = f"{self.root.prefix}/" if self.root.prefix else ""
        if not cloud.bucket:
            start = f"{self.root.bucket}/{start}"
        keys = batch[cloud.key]
        chosen = pc.starts_with(keys, start)
        if prefixes:
            below = [pc.starts_with(keys, f"{start}{prefix}/") for prefix in prefixes]
            for one in below[1:]:
                below[0] = pc.or_(below[0], one)
            chosen = below[0]
        for name, allowed in ((cloud.current, "true"), *((name, "false") for name in cloud.gone)):
            if name in names:
                value = pc.utf8_lower(pc.fill_null(batch[name].cast(pa.string()), ""))
                chosen = pc.and_(chosen, pc.is_in(value, pa.array(["", allowed])))
        rows = batch.filter(chosen)
        e_tags = rows[cloud.e_tag] if cloud.e_tag in names else pa.nulls(len(rows), pa.string())
        return pa.table(
            {
                "key": pc.utf8_slice_codeunits(rows[cloud.key], len(start)),
                "size_bytes": pc.fill_null(rows[cloud.size].cast(pa.int64()), 0),
                "last_modified": _utc(rows[cloud.modified]),
                "e_tag": e_tags,
            }
        )


_AGAIN = "Take the next inventory, or leave --inventory away: then the bucket is listed."


def open_inventory(url: str, root: Root, open_store: Callable[[Root], Store]) -> Inventory:
    """The inventory at a URL: of its manifest, or of a folder, whose newest is taken. A few requests.

    Args:
        url: Like a root, with the id of an Airflow connection in it if one is needed.
        root: Whose objects are looked for.
        open_store: Opens the store of the bucket that holds the inventory.

    Raises:
        ConfigurationError: There is none, or it is not one of this root that can be read.
        StoreError: The store refuses or stays away.
    """
    try:
        import pyarrow  # noqa: F401 - before anything is asked for
    except ImportError as error:
        raise MissingDependencyError(
            "Reading an inventory needs pyarrow", hint="Run: pip install 'airflow-provider-xcargo[arrow]'."
        ) from error
    where = Root.parse(url)
    store = open_store(replace(where, prefix=""))
    if where.prefix.endswith(_MANIFEST):
        return _inventory(store, where.prefix, replace(where, prefix=""), root)
    manifests = [info for info in store.list(where.prefix) if info.key.endswith(_MANIFEST)]
    manifests.sort(key=lambda info: (info.last_modified or datetime.min.replace(tzinfo=timezone.utc), info.key))
    refused: ConfigurationError | None = None
    for info in manifests[: -_TRIED_MANIFESTS - 1 : -1]:
        try:
            return _inventory(store, info.key, replace(where, prefix=""), root)
        except ConfigurationError as error:
            refused = refused or error
    raise refused or ConfigurationError(
        "There is no manifest of an inventory below this URL",
        where=where,
        hint=f"Name the folder into which the cloud writes inventories, or a {_MANIFEST} itself. The first one takes "
        "up to two days.",
    )


def _inventory(store: Store, key: str, bucket: Root, root: Root) -> Inventory:
    url = bucket.uri(key)
    try:
        manifest = _plain_fields(json.loads(bytes(store.get(key, end=_MAX_MANIFEST_BYTES))))
        if "sourcebucket" in manifest:
            inventory = _of_s3(manifest, url, store, root)
        elif "reportshardsfilenames" in manifest:
            inventory = _of_gcs(manifest, url, store, root, key.rpartition("/")[0])
        elif "ruledefinition" in manifest:
            inventory = _of_azure(manifest, url, store, root)
        else:
            raise ConfigurationError("This is not the manifest of an inventory of S3, GCS or Azure", where=url)
    except ObjectNotFoundError:
        raise ConfigurationError(
            "There is no such manifest", where=url, hint="Look at what is in that folder."
        ) from None
    except ConfigurationError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise ConfigurationError(
            f"The manifest of the inventory cannot be read: {type(error).__name__}", where=url
        ) from error
    unknown = {file.key for file in inventory.files if not file.key.endswith((".parquet", ".csv", ".csv.gz"))}
    if unknown:
        raise ConfigurationError(
            "The inventory is in a format that xcargo does not read",
            where=min(unknown),
            hint="Set its format to Parquet (the quickest to read) or CSV.",
        )
    if inventory.cloud.scheme != root.scheme:
        raise _other_bucket(root, url)
    return inventory


def _of_s3(manifest: dict[str, Any], url: str, store: Store, root: Root) -> Inventory:
    if manifest["sourcebucket"] != root.bucket:
        raise _other_bucket(root, url)
    files = (_File(file["key"], int(file["size"]), file.get("md5checksum")) for file in manifest["files"])
    columns = tuple(name.strip() for name in manifest["fileschema"].split(","))
    taken_at = datetime.fromtimestamp(int(manifest["creationtimestamp"]) / 1000, timezone.utc)
    return Inventory(url, taken_at, root, store, _S3, tuple(files), columns)


def _of_gcs(manifest: dict[str, Any], url: str, store: Store, root: Root, folder: str) -> Inventory:
    names = (name.rpartition("/")[2] for name in manifest["reportshardsfilenames"])
    files = (_File(f"{folder}/{name}" if folder else name) for name in names)
    config = manifest.get("reportconfig") or {}
    csv, report = config.get("csvoptions") or {}, config.get("objectmetadatareportoptions") or {}
    if (report.get("storagefilters") or {}).get("bucket", root.bucket) != root.bucket:
        raise _other_bucket(root, url)
    columns = tuple(report["metadatafields"]) if csv and not csv.get("headerrequired") else None
    return Inventory(
        url,
        _required(parse_time(manifest["snapshottime"])),
        root,
        store,
        _GCS,
        tuple(files),
        columns,
        csv.get("delimiter") or ",",
        int(manifest["recordsprocessed"]) if "recordsprocessed" in manifest else None,
    )


def _of_azure(manifest: dict[str, Any], url: str, store: Store, root: Root) -> Inventory:
    if manifest["status"] != "Succeeded":
        raise ConfigurationError(
            f"The inventory is not complete: its manifest says {manifest['status']!r}",
            where=url,
            hint="Wait until it is, or name the folder: then the newest that is complete is taken.",
        )
    files = (_File(file["blob"], int(file["size"])) for file in manifest["files"])
    return Inventory(url, _required(parse_time(manifest["inventorystarttime"])), root, store, _AZURE, tuple(files))


def _required(time: datetime | None) -> datetime:
    if time is None:
        raise ValueError
    return time


def _other_bucket(root: Root, where: str) -> ConfigurationError:
    return ConfigurationError(
        f"The inventory is not one of the bucket of {root}",
        where=where,
        hint="Name its own inventory; with several paths in [xcargo], choose one with --path.",
    )


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _plain_fields(document: Any) -> Any:
    """A document of JSON with the plain names of its fields: GCS writes them in two ways."""
    if isinstance(document, dict):
        return {_plain(name): _plain_fields(value) for name, value in document.items()}
    return [_plain_fields(value) for value in document] if isinstance(document, list) else document


def _utc(column: Any) -> Any:
    """A column of times, or of texts as in ISO 8601, in UTC."""
    import pyarrow as pa
    import pyarrow.compute as pc

    utc = pa.timestamp("us", "UTC")
    if pa.types.is_string(column.type):
        column = pc.if_else(pc.equal(column, ""), None, column)
        try:
            return column.cast(utc)
        except pa.ArrowInvalid:  # without a zone
            column = column.cast(pa.timestamp("us"))
    elif pa.types.is_integer(column.type):  # milliseconds, where the file does not say that they are
        column = column.cast(pa.timestamp("ms"))
    return column.cast(utc, safe=False)
