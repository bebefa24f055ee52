"""Inventories as the three clouds write them, by what their documentation shows: manifests, names, columns, values.

Sources, as read in November 2026: "Locating your inventory list" and "Amazon S3 Inventory list" of the guide to Amazon
S3; "Inventory reports" of Google Cloud Storage and the REST resource ``reportConfigs``; "Azure Storage blob inventory".
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.parquet as pq

Put = Callable[[str, bytes], None]

TAKEN = datetime(2026, 3, 1, 1, 0, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Entry:
    """An object as an inventory lists it, or a version of one; ``more`` are columns of the cloud's own."""

    key: str
    size: int
    modified: datetime
    e_tag: str = "d41d8cd98f00b204e9800998ecf8427e"
    more: dict[str, Any] = field(default_factory=dict)


def write_s3(
    put: Put,
    entries: Iterable[Entry],
    *,
    bucket: str,
    file_format: str = "Parquet",
    taken: datetime = TAKEN,
    folder: str = "inventories",
    drop: Sequence[str] = (),
) -> str:
    """S3 Inventory. Returns the key of its manifest."""
    names = {
        "Bucket": "bucket",
        "Key": "key",
        "VersionId": "version_id",
        "IsLatest": "is_latest",
        "IsDeleteMarker": "is_delete_marker",
        "Size": "size",
        "LastModifiedDate": "last_modified_date",
        "ETag": "e_tag",
        "StorageClass": "storage_class",
    }
    names = {name: parquet for name, parquet in names.items() if name not in drop}
    rows = [
        {
            "Bucket": bucket,
            "Key": e.key,
            "VersionId": "",
            "IsLatest": True,
            "IsDeleteMarker": False,
            "Size": e.size,
            "LastModifiedDate": e.modified,
            "ETag": e.e_tag,
            "StorageClass": "STANDARD",
            **e.more,
        }
        for e in entries
    ]
    if file_format == "CSV":
        # No header; every value in quotes; keys as in a URL.
        lines = [
            [
                quote_plus(row[name], safe="/-_.*")
                if name == "Key"
                else f"{row[name]:%Y-%m-%dT%H:%M:%S.000Z}"
                if name == "LastModifiedDate"
                else str(row[name]).lower()
                if isinstance(row[name], bool)
                else row[name]
                for name in names
            ]
            for row in rows
        ]
        data, suffix = gzip.compress(_csv(lines, quoting=csv.QUOTE_ALL)), "csv.gz"
        schema = ", ".join(names)
    else:
        types = {"size": pa.int64(), "last_modified_date": pa.timestamp("ms", "UTC")}
        types |= {"is_latest": pa.bool_(), "is_delete_marker": pa.bool_()}
        arrow = pa.schema([(name, types.get(name, pa.string())) for name in names.values()])
        data = _parquet([{names[name]: row[name] for name in names} for row in rows], arrow)
        suffix, schema = "parquet", "message s3.inventory {  required binary bucket (STRING);  ...}"
    base = f"{folder}/{bucket}/daily"
    name = f"{base}/data/939c6d46-85a9-4ba8-87bd-9db705a579ce.{suffix}"
    put(name, data)
    manifest = {
        "sourceBucket": bucket,
        "destinationBucket": f"arn:aws:s3:::{bucket}",
        "version": "2016-11-30",
        "creationTimestamp": str(int(taken.timestamp() * 1000)),
        "fileFormat": file_format,
        "fileSchema": schema,
        "files": [{"key": name, "size": len(data), "MD5checksum": hashlib.md5(data).hexdigest()}],
    }
    where = f"{base}/{taken:%Y-%m-%dT%H-%MZ}/manifest.json"
    put(where, json.dumps(manifest).encode())
    return where


def write_gcs(
    put: Put,
    entries: Iterable[Entry],
    *,
    bucket: str,
    file_format: str = "Parquet",
    taken: datetime = TAKEN,
    folder: str = "inventories",
    drop: Sequence[str] = (),
    header: bool = True,
) -> str:
    """An inventory report of Storage Insights. Returns the key of its manifest."""
    fields = ["project", "bucket", "name", "size", "timeDeleted", "updated", "storageClass", "etag"]
    fields = [name for name in fields if name not in drop]
    rows = [
        {
            "project": "1234",
            "bucket": bucket,
            "name": e.key,
            "size": e.size,
            "timeDeleted": None,
            "updated": e.modified,
            "storageClass": "STANDARD",
            "etag": "CKih16GjycICEAE=",  # that of its JSON API, which is none of those that the store answers with
            **e.more,
        }
        for e in entries
    ]
    if file_format == "CSV":
        lines = [[_rfc3339(row[name]) for name in fields] for row in rows]
        data, suffix = _csv([fields, *lines] if header else lines), "csv"
        options: dict[str, Any] = {"csvOptions": {"recordSeparator": "\n", "delimiter": ",", "headerRequired": header}}
    else:
        times = pa.timestamp("us", "UTC")
        types = {"size": pa.int64(), "timeDeleted": times, "updated": times}
        schema = pa.schema([(name, types.get(name, pa.string())) for name in fields])
        data, suffix = _parquet([{name: row[name] for name in fields} for row in rows], schema), "parquet"
        options = {"parquetOptions": {}}
    report = f"fc95c52f-157a-494f-af4a-d4a53a69ba66_{taken:%Y-%m-%dT%H:%M}"
    put(f"{folder}/{report}_0.{suffix}", data)
    manifest = {
        "report_config": {
            "name": "projects/1234/locations/us/reportConfigs/fc95c52f-157a-494f-af4a-d4a53a69ba66",
            **options,
            "objectMetadataReportOptions": {"metadataFields": fields, "storageFilters": {"bucket": bucket}},
        },
        "records_processed": len(rows),
        "snapshot_time": f"{taken:%Y-%m-%dT%H:%M:%SZ}",
        "target_datetime": f"{taken:%Y-%m-%dT%H:%M:%SZ}",
        "shard_count": 1,
        "report_shards_file_names": [f"{report}_0.{suffix}"],
    }
    where = f"{folder}/{report}_manifest.json"
    put(where, json.dumps(manifest).encode())
    return where


def write_azure(
    put: Put,
    entries: Iterable[Entry],
    *,
    bucket: str,
    file_format: str = "Parquet",
    taken: datetime = TAKEN,
    folder: str = "inventories",
    drop: Sequence[str] = (),
    status: str = "Succeeded",
) -> str:
    """A blob inventory. Returns the name of its manifest."""
    fields = ["Name", "Creation-Time", "Last-Modified", "Etag", "Content-Length", "BlobType", "AccessTier"]
    fields += ["Snapshot", "VersionId", "IsCurrentVersion", "Deleted"]
    fields = [name for name in fields if name not in drop]
    rows = [
        {
            "Name": f"{bucket}/{e.key}",
            "Creation-Time": e.modified,
            "Last-Modified": e.modified,
            "Etag": e.e_tag,
            "Content-Length": e.size,
            "BlobType": "BlockBlob",
            "AccessTier": "Hot",
            "Snapshot": None,
            "VersionId": "2026-03-01T00:00:00.0000000Z",
            "IsCurrentVersion": True,
            "Deleted": None,
            **e.more,
        }
        for e in entries
    ]
    if file_format == "CSV":
        lines = [
            [str(v).lower() if isinstance(v := row[name], bool) else _rfc3339(v) for name in fields] for row in rows
        ]
        data, suffix = _csv([fields, *lines]), "csv"
    else:
        times = pa.timestamp("ms", "UTC")
        types = {"Content-Length": pa.int64(), "Creation-Time": times, "Last-Modified": times}
        types |= {"IsCurrentVersion": pa.bool_(), "Deleted": pa.bool_()}
        schema = pa.schema([(name, types.get(name, pa.string())) for name in fields])
        data, suffix = _parquet([{name: row[name] for name in fields} for row in rows], schema), "parquet"
    base = f"{taken:%Y/%m/%d/%H-%M-%S}/daily"
    name = f"{base}/daily_1000000_0.{suffix}"
    put(name, data)
    manifest = {
        "destinationContainer": bucket,
        "endpoint": "https://testaccount.blob.core.windows.net",
        "files": [{"blob": name, "size": len(data)}],
        "inventoryCompletionTime": f"{taken:%Y-%m-%dT%H:%M:%SZ}",
        "inventoryStartTime": f"{taken:%Y-%m-%dT%H:%M:%SZ}",
        "ruleDefinition": {
            "filters": {"blobTypes": ["blockBlob"], "includeBlobVersions": True, "includeSnapshots": True},
            "format": file_format.lower(),
            "objectType": "blob",
            "schedule": "daily",
            "schemaFields": fields,
        },
        "ruleName": "daily",
        "status": status,
        "summary": {"objectCount": len(rows), "totalObjectSize": sum(row["Content-Length"] for row in rows)},
        "version": "1.0",
    }
    where = f"{base}/daily-manifest.json"
    put(where, json.dumps(manifest).encode())
    return where


WRITERS = {"s3": write_s3, "gcs": write_gcs, "azure": write_azure}

OF_NO_READER: dict[str, list[dict[str, Any]]] = {
    "s3": [{"IsLatest": False}, {"IsLatest": True, "IsDeleteMarker": True, "Size": None, "ETag": None}],
    "gcs": [{"timeDeleted": TAKEN}],
    "azure": [{"IsCurrentVersion": False}, {"Snapshot": "2026-03-01T00:00:00.0000000Z"}, {"Deleted": True}],
}
"""What marks rows of versions, snapshots and deletions."""


def _csv(lines: Iterable[Sequence[Any]], **options: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", **options).writerows(lines)
    return text.getvalue().encode()


def _rfc3339(value: Any) -> Any:
    return f"{value:%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, datetime) else value


def _parquet(rows: list[dict[str, Any]], schema: pa.Schema) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), sink)
    return sink.getvalue()
