"""What Airflow's provider discovery asks of this package. Standard library only: every Airflow process imports it."""

from __future__ import annotations

from typing import Any

from xcargo import __version__

__all__ = ["OPTIONS", "SECTION", "get_provider_info"]

SECTION = "xcargo"

OPTIONS: dict[str, dict[str, Any]] = {
    "path": {
        "description": "Base URL of the objects, with the id of the Airflow connection that holds the credentials: "
        "scheme://connection_id@bucket/prefix. Without a connection id the cloud's default credential chain is used. "
        "Schemes: s3, gs, azblob (abfs, wasb, ...), file, and every other one that fsspec knows. If neither this nor "
        "[common.io] xcom_objectstorage_path is set, a single-machine executor stores below $AIRFLOW_HOME/xcargo.",
        "type": "string",
        "example": "s3://my_aws_conn@my-bucket/xcom",
    },
    "threshold_bytes": {
        "description": "Values larger than this go to object storage, equal or smaller ones stay in the metadata "
        "database. 0 sends all values to object storage, -1 none. Defaults to [common.io] "
        "xcom_objectstorage_threshold if that is set, else to 1024 (to -1 if only [common.io] sets a path, as there). "
        "With encryption_keys it defaults to 0, so that no value is stored in the database unencrypted.",
        "type": "integer",
        "example": "1024",
    },
    "compression": {
        "description": "How objects are compressed: zstd, lz4, gzip, bz2, xz, snappy, zip or none. Data that does not "
        "shrink is stored as it is. Objects are read by how they were written, so this can be changed at any time. "
        "Defaults to [common.io] xcom_objectstorage_compression if that is set, else to zstd.",
        "type": "string",
        "example": "zstd",
    },
    "read_paths": {
        "description": "Further base URLs, separated by commas, whose objects may be read and purged: where path "
        "pointed before it was changed. References to other places are refused.",
        "type": "string",
        "example": "s3://my_aws_conn@old-bucket/xcom",
        "default": "",
    },
    "legacy_references": {
        "description": "Roots of references that another backend wrote, separated by commas; such strings are read "
        "instead of being returned. A base URL for Airflow's XComObjectStorageBackend, prefix=base URL for "
        "hand-written backends. Empty: a string is a string.",
        "type": "string",
        "example": "s3://my_aws_conn@my-bucket/xcom, xcom_s3=s3://s3_xcom_backend_conn@s3-xcom-backend-example",
        "default": "",
    },
    "preview_chars": {
        "description": "How many characters of a value its row shows, for the XCom tab. 0 turns previews off. "
        "Defaults to 160, with encryption_keys to 0.",
        "type": "integer",
        "example": "0",
    },
    "keep_key_order": {
        "description": "Whether dictionaries that stay in the database as plain JSON keep the order of their keys on "
        "Airflow 3. PostgreSQL and MySQL sort the keys of JSON; a dictionary in another order gets one more key, "
        "__id__, which notes the order and which pulls remove. Programs that read rows through the REST API see that "
        "key.",
        "type": "boolean",
        "example": "True",
        "default": "False",
    },
    "allow_pickle": {
        "description": "Whether a value that nothing else takes is pickled with cloudpickle (extra pickle), and "
        "whether pickled values are read. Reading one runs whatever code its writer chose: turn it on only if everyone "
        "who can write XComs or objects may run code in your tasks. The task that pushes and the one that pulls both "
        "need it.",
        "type": "boolean",
        "example": "True",
        "default": "False",
    },
    "max_size_bytes": {
        "description": "The task that returns a value larger than this fails, with an error that names the value's "
        "biggest parts. 0 admits every size.",
        "type": "integer",
        "example": "1000000000",
        "default": "0",
    },
    "warn_size_bytes": {
        "description": "A value larger than this is a warning in the task's log, which names its biggest parts. 0 "
        "warns of none.",
        "type": "integer",
        "example": "100000000",
        "default": "0",
    },
    "routes": {
        "description": "Rules for the values of some Dags, tasks, XCom keys or teams, as a JSON list; the first that "
        "matches a value holds for it. A rule has a name, any of team, dag, task and key (patterns such as sales_*) to "
        "match, and any of path, threshold_bytes, compression, encryption_key, preview_chars, retention, "
        "max_size_bytes and warn_size_bytes in place of the option of the same name.",
        "type": "string",
        "example": '[{"name": "sales", "dag": "sales_*", "path": "s3://sales_conn@sales-bucket/xcom"}]',
        "default": "",
    },
    "signing_key": {
        "description": "Signs the envelopes that this deployment writes; others are refused then. 32 random bytes in "
        "base64 (openssl rand -base64 32), the same on every component. Several, separated by commas, to change the "
        "key: the first signs, all verify. Also as signing_key_cmd and signing_key_secret.",
        "type": "string",
        "example": "BASE64_OF_32_RANDOM_BYTES",
        "default": "",
        "sensitive": True,
    },
    "unsigned_until": {
        "description": "Until when envelopes without a signature are still accepted although signing_key is set, as an "
        "ISO 8601 time with its offset: for what was stored before. Empty: not at all.",
        "type": "string",
        "example": "2027-01-31T00:00:00+00:00",
        "default": "",
    },
    "encryption_keys": {
        "description": "Encrypts objects before they leave the worker, with AES-256-GCM (extra encryption). Keys of 32 "
        "random bytes in base64 (openssl rand -base64 32), separated by commas, the same on every component: the first "
        "encrypts, all decrypt. name=key names one for routes. With it threshold_bytes and preview_chars default to 0. "
        "Also as encryption_keys_cmd and encryption_keys_secret.",
        "type": "string",
        "example": "BASE64_OF_32_RANDOM_BYTES",
        "default": "",
        "sensitive": True,
    },
    "timeout_seconds": {
        "description": "How long a request to the store may take together with its repetitions, in seconds. A single "
        "attempt may take half of it, and is given up when nothing comes for a quarter. Raise it on a slow line: the "
        "parts of a large upload (128 MiB under way at once) must get through in two fifths of it.",
        "type": "float",
        "example": "30",
        "default": "60",
    },
    "retry_wait_seconds": {
        "description": "About how long to wait before a failed request is repeated for the first time, in seconds. "
        "Each further wait is twice as long, up to `retry_max_wait_seconds`. Twenty times as long if the store "
        "answers that it is busy.",
        "type": "float",
        "example": "0.5",
        "default": "0.1",
    },
    "retry_max_wait_seconds": {
        "description": "The longest wait between two attempts, in seconds.",
        "type": "float",
        "example": "20",
        "default": "5",
    },
    "hedge_after_seconds": {
        "description": "After how many seconds without an answer the object of a small value is asked for a second "
        "time, beside the first request; the first answer counts. 0 never does.",
        "type": "float",
        "example": "2",
        "default": "0",
    },
    "purge_timeout_seconds": {
        "description": "After how many seconds deleting the object of a cleared XCom is given up. A purge never fails "
        "a task; an object that stays is an orphan.",
        "type": "float",
        "example": "5",
        "default": "10",
    },
    "part_bytes": {
        "description": "Part size of large transfers. Objects of more than four parts travel in parallel parts; "
        "an upload of less than 16 parts in smaller ones, of 5 MiB at least.",
        "type": "integer",
        "example": "16777216",
        "default": "8388608",
    },
    "max_concurrency": {
        "description": "How many requests to the store one task has under way at once: of the parts of a large value "
        "(of which no more than 128 MiB travel at once), or of the many values of mapped tasks.",
        "type": "integer",
        "example": "16",
        "default": "64",
    },
    "fsync": {
        "description": "Whether an object in a folder (file://) is on the disk before its push returns, so that it "
        "survives a power loss as its row does. For 1 KB this costs half a millisecond on an idle SSD and about 15 on "
        "a busy disk, for 100 MB some tens. Turn it off where the folder is lost with the machine anyway, or where "
        "values can be computed again.",
        "type": "boolean",
        "example": "False",
        "default": "True",
    },
    "deployment": {
        "description": "The name of this deployment. The first sweep (xcargo gc --apply) notes below the path whose it "
        "is, and sweeps of other deployments are refused from then on. Empty: a deployment is known by where its "
        "metadata database or its REST API is, which a sweep by the other of the two cannot compare.",
        "type": "string",
        "example": "production",
        "default": "",
    },
    "retention": {
        "description": "For how long sweeps (xcargo gc --apply) keep values whose rows are still there: rules, "
        "separated by semicolons, of which the first that matches holds. dag=, task=, key= take patterns, state= "
        "success or failed; keep 7d, keep last 3 runs, keep attempts 1, keep forever, joined by or. Empty: every value "
        "is kept as long as its row.",
        "type": "string",
        "example": "dag=reports_*: keep 30d or last 3 runs; state=failed: keep 7d; keep forever",
        "default": "",
    },
    "cache_path": {
        "description": "A folder on a local disk of the machine, in which the tasks of one user keep the large values "
        "that they pulled, so that many tasks on one machine download a value once. It is made if it is missing; one "
        "that others can write is not used. Empty: no cache.",
        "type": "string",
        "example": "/var/cache/xcargo",
        "default": "",
    },
    "cache_size_bytes": {
        "description": "What the files in cache_path take together at most. The values that were not used for the "
        "longest time go first.",
        "type": "integer",
        "example": "107374182400",
        "default": "10737418240",
    },
    "ui": {
        "description": "Whether Airflow's UI (3.1 and later) gets the XCom explorer: a tab with the values of a task "
        "instance, whatever their size, for users who may read the Dag's XComs. The API server then reads objects and "
        "needs credentials for the store.",
        "type": "boolean",
        "example": "True",
        "default": "False",
    },
    "ui_signed_downloads": {
        "description": "Whether a download of the explorer sends the browser to the object itself, by a URL that is "
        "signed for 60 seconds, where an object is neither compressed nor encrypted and its store signs URLs (S3, "
        "Azure with an account key). Such a download does not pass through the API server, nor is it verified, and "
        "the browser must reach the store. Whoever has the URL can use it for these seconds, whatever rights they "
        "have.",
        "type": "boolean",
        "example": "True",
        "default": "False",
    },
    "max_preview_bytes": {
        "description": "How much of a value the explorer holds in memory to answer one request, at most. What needs "
        "more (sorting a table by a very large column) is refused with a message; pages of a table need far less.",
        "type": "integer",
        "example": "268435456",
        "default": "67108864",
    },
}
"""Option -> what ``airflow config list`` shows of it. Options without a default say in words what holds instead."""


def get_provider_info() -> dict[str, Any]:
    """Provider metadata by Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-xcargo",
        "name": "xcargo",
        "versions": [__version__],
        "description": "XCom backend that carries anything a task returns to the next task through object storage: "
        "`Amazon S3, Google Cloud Storage, Azure Blob Storage, S3-compatible stores and local files`.",
        "cli": ["xcargo.cli.main.get_cli_commands"],
        "config": {
            SECTION: {
                "description": "Options of the XCom backend xcargo.XComBackend.",
                "options": {
                    name: {"version_added": "0.1.0", "default": None, "sensitive": False, **option}
                    for name, option in OPTIONS.items()
                },
            }
        },
    }
