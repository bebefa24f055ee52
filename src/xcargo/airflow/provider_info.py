"""What Airflow's provider discovery asks of this package. Standard library only: every Airflow process imports it."""

from __future__ import annotations

from typing import Any

from xcargo import __version__

__all__ = ["OPTIONS", "SECTION", "get_provider_info"]

SECTION = "xcargo"

OPTIONS: dict[str, dict[str, Any]] = {
    "path": {
        "description": "Base URL of the objects, with the id of the Airflow connection that holds the credentials: "
        "scheme://connection_id@bucket/prefix. Without a connection id, the cloud's default credential chain is used. "
        "Schemes: s3, gs, azblob (abfs, wasb, ...), file, and any other scheme that fsspec knows. If neither this nor "
        "[common.io] xcom_objectstorage_path is set, a single-machine executor stores objects below "
        "$AIRFLOW_HOME/xcargo.",
        "type": "string",
        "example": "s3://my_aws_conn@my-bucket/xcom",
    },
    "threshold_bytes": {
        "description": "Values larger than this are stored in object storage, equal or smaller ones stay in the "
        "metadata database. 0 sends all values to object storage, -1 none. Defaults to [common.io] "
        "xcom_objectstorage_threshold if that is set, else to 1024 (to -1 if only [common.io] sets a path, as there). "
        "With encryption_keys it defaults to 0, so that no value is stored in the database unencrypted.",
        "type": "integer",
        "example": "1024",
    },
    "compression": {
        "description": "How objects are compressed: zstd, lz4, gzip, bz2, xz, snappy, zip or none. None of them needs "
        "an extra. Data that does not shrink is stored uncompressed. An object is read the way it was written, so you "
        "can change this at any time. Defaults to [common.io] xcom_objectstorage_compression if that is set, else to "
        "zstd.",
        "type": "string",
        "example": "zstd",
    },
    "read_paths": {
        "description": "Further base URLs, separated by commas, whose objects may be read and purged, such as earlier "
        "values of path. References to objects anywhere else are refused.",
        "type": "string",
        "example": "s3://my_aws_conn@old-bucket/xcom",
        "default": "",
    },
    "legacy_references": {
        "description": "Base URLs of references written by another backend, separated by commas. Strings that begin "
        "with one are read from the store instead of being returned. Write a base URL for Airflow's "
        "XComObjectStorageBackend, prefix=base URL for hand-written backends. If empty, a string is a string.",
        "type": "string",
        "example": "s3://my_aws_conn@my-bucket/xcom, xcom_s3=s3://s3_xcom_backend_conn@s3-xcom-backend-example",
        "default": "",
    },
    "preview_chars": {
        "description": "How many characters of a value the XCom tab shows as a preview. 0 turns previews off. "
        "Defaults to 160, or to 0 with encryption_keys.",
        "type": "integer",
        "example": "0",
    },
    "keep_key_order": {
        "description": "Whether dictionaries that stay in the database as plain JSON keep the order of their keys. "
        "PostgreSQL and MySQL sort the keys of JSON on Airflow 3, and those of Airflow 2's rows when these are "
        "upgraded. If this is on, a dictionary in another order gets an extra key, __id__, which records the order and "
        "is removed by pulls. Programs that read rows through the REST API see that key.",
        "type": "boolean",
        "example": "True",
        "default": "False",
    },
    "allow_pickle": {
        "description": "Whether a value that no codec accepts is pickled with cloudpickle (extra pickle), and whether "
        "pickled values are read. Reading a pickle runs whatever code its writer chose: turn this on only if everyone "
        "who can write XComs or objects may run code in your tasks. It must be on both for the task that pushes and "
        "for the one that pulls.",
        "type": "boolean",
        "example": "True",
        "default": "False",
    },
    "strict_types": {
        "description": "Whether a value that no codec accepts is refused even if it equals one of a built-in type: "
        "an instance of a subclass of str or dict, a dict view, a map object. If this is off, it is stored as that "
        "built-in value, and a warning in the task's log names its class and its place.",
        "type": "boolean",
        "example": "True",
        "default": "False",
    },
    "max_size_bytes": {
        "description": "A task that returns a value larger than this fails, with an error that names the largest "
        "parts of the value. 0 means no limit (256 MiB for iterators, which may have no end).",
        "type": "integer",
        "example": "1000000000",
        "default": "0",
    },
    "warn_size_bytes": {
        "description": "A value larger than this writes a warning to the task's log, which names the largest parts of "
        "the value. 0 means no warnings.",
        "type": "integer",
        "example": "100000000",
        "default": "0",
    },
    "routes": {
        "description": "Rules for the values of some Dags, tasks, XCom keys or teams, as a JSON list; the first rule "
        "that matches a value applies to it. A rule has a name, any of team, dag, task, key (patterns such as "
        "sales_*) and match (state or asset, for the state store) to match, and any of path, threshold_bytes, "
        "compression, encryption_key, preview_chars, retention, max_size_bytes and warn_size_bytes to override the "
        "option of the same name.",
        "type": "string",
        "example": '[{"name": "sales", "dag": "sales_*", "path": "s3://sales_conn@sales-bucket/xcom"}]',
        "default": "",
    },
    "signing_key": {
        "description": "Signs the envelopes that this deployment writes; all others are then refused. 32 random bytes "
        "in base64 (openssl rand -base64 32), the same on every component. To change the key, list several, separated "
        "by commas: the first signs, all of them verify. Also available as signing_key_cmd and signing_key_secret.",
        "type": "string",
        "example": "BASE64_OF_32_RANDOM_BYTES",
        "default": "",
        "sensitive": True,
    },
    "unsigned_until": {
        "description": "Until when envelopes without a signature are still accepted although signing_key is set, for "
        "values stored earlier. An ISO 8601 time with its offset. If empty, they are not accepted at all.",
        "type": "string",
        "example": "2027-01-31T00:00:00+00:00",
        "default": "",
    },
    "encryption_keys": {
        "description": "Encrypts objects before they leave the worker, with AES-256-GCM (extra encryption). Keys of "
        "32 random bytes in base64 (openssl rand -base64 32), separated by commas, the same on every component: the "
        "first encrypts, all of them decrypt. name=key gives a key a name for routes. With this option, "
        "threshold_bytes and preview_chars default to 0. Also available as encryption_keys_cmd and "
        "encryption_keys_secret.",
        "type": "string",
        "example": "BASE64_OF_32_RANDOM_BYTES",
        "default": "",
        "sensitive": True,
    },
    "timeout_seconds": {
        "description": "How long a request to the store may take together with its retries, in seconds. A single "
        "attempt may take half of that, and is aborted if no data arrives for a quarter of it. Raise this on a slow "
        "connection: the parts of a large upload (128 MiB at once), those of all tasks that upload at the same "
        "moment, must get through in two fifths of this time.",
        "type": "float",
        "example": "30",
        "default": "60",
    },
    "retry_wait_seconds": {
        "description": "About how long to wait before the first retry of a failed request, in seconds. Each further "
        "wait is twice as long, up to `retry_max_wait_seconds`. The wait is twenty times as long if the store answers "
        "that it is busy.",
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
        "description": "After how many seconds without an answer the object of a small value is requested a second "
        "time, in parallel with the first request; the first answer is used. 0 turns this off.",
        "type": "float",
        "example": "2",
        "default": "0",
    },
    "purge_timeout_seconds": {
        "description": "After how many seconds xcargo gives up deleting the object of a cleared XCom. A purge never "
        "fails a task; an object that stays behind is an orphan.",
        "type": "float",
        "example": "5",
        "default": "10",
    },
    "part_bytes": {
        "description": "Part size of large transfers. Objects of more than four parts are transferred in parallel "
        "parts; an upload of fewer than 16 parts uses smaller parts, of at least 5 MiB.",
        "type": "integer",
        "example": "16777216",
        "default": "8388608",
    },
    "max_concurrency": {
        "description": "How many requests one task sends to the store at the same time: for the parts of a large "
        "value (of which no more than 128 MiB are in transit at once), or for the many values of mapped tasks.",
        "type": "integer",
        "example": "16",
        "default": "64",
    },
    "fsync": {
        "description": "Whether an object in a folder (file://) is written to the disk before its push returns, with "
        "its name and its folders, so that it survives a power loss as its row does. A push of 2 KB then takes 3 to "
        "30 milliseconds, by how busy the disk is, instead of about a third of one, and a push of 100 MB some 70 more, "
        "1.1 to 2.3 times as long. Without it a power loss may cost the values of about the last half minute: their "
        "pulls fail, and never give a wrong value. Turn it off if the folder is lost with the machine anyway, or if "
        "values can be computed again.",
        "type": "boolean",
        "example": "False",
        "default": "True",
    },
    "deployment": {
        "description": "The name of this deployment. The first sweep (xcargo gc --apply) records below the path which "
        "deployment owns it, and sweeps by other deployments are refused from then on. If empty, a deployment is "
        "identified by the address of its metadata database or of its REST API; a sweep that uses the other one of "
        "the two can't compare them.",
        "type": "string",
        "example": "production",
        "default": "",
    },
    "retention": {
        "description": "How long values are kept whose rows still exist; sweeps (xcargo gc --apply) delete them "
        "afterwards. Rules, separated by semicolons; the first that matches applies. dag=, task=, key= take patterns, "
        "state= success or failed; keep 7d, keep last 3 runs, keep attempts 1, keep forever, joined by or. A rule "
        "that begins with memo is for entries of memoize. If empty, every value is kept as long as its row.",
        "type": "string",
        "example": "dag=reports_*: keep 30d or last 3 runs; state=failed: keep 7d; keep forever",
        "default": "",
    },
    "cache_path": {
        "description": "A folder on a local disk of the machine, in which the tasks of one user cache the large "
        "values that they pull, so that many tasks on one machine download a value only once. It is created if it is "
        "missing; a folder that others can write to is not used. If empty, there is no cache.",
        "type": "string",
        "example": "/var/cache/xcargo",
        "default": "",
    },
    "cache_size_bytes": {
        "description": "How much space the files in cache_path may use in total. The least recently used values are "
        "deleted first.",
        "type": "integer",
        "example": "107374182400",
        "default": "10737418240",
    },
    "memoize": {
        "description": "Whether xcargo.memoize reuses results of tasks. With False, every such task computes its "
        "result, and none is noted.",
        "type": "boolean",
        "example": "False",
        "default": "True",
    },
    "memoize_across_dags": {
        "description": "Whether xcargo.memoize takes scope='global', by which tasks reuse results of other Dags. Only "
        "set this where the author of every Dag may read the results of all Dags below the same path.",
        "type": "boolean",
        "example": "True",
        "default": "False",
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
        "description": "Whether a download in the explorer sends the browser directly to the object, by a URL that is "
        "signed for 60 seconds. This applies to objects that are neither compressed nor encrypted, in a store that "
        "can sign URLs (S3, Google with a service account's key file, Azure with an account key). Such a download "
        "does not pass through the API server and is not verified, it has no file name of its own, and the browser "
        "must be able to reach the store. Anyone who has the URL can use it until it expires, whatever permissions "
        "they have.",
        "type": "boolean",
        "example": "True",
        "default": "False",
    },
    "max_preview_bytes": {
        "description": "How much of a value the explorer holds in memory to answer one request, at most. A request "
        "that needs more (sorting a table by a very large column) is refused with a message; pages of a table need "
        "far less.",
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
