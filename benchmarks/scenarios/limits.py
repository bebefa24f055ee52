"""How near to the limit: bytes by xcargo and by clients with no backend around them, on the same server.

``socket`` is a plain HTTP client that reads into memory of the right size, over 1, 2 and 4 connections, of which the
best counts; ``file`` writes to and reads from a folder in memory, for comparison. All give memory of their own to the
caller, so what fresh pages cost is in every figure.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import hooks, memory, rawhttp
from benchmarks.payloads import bytes_of, payload
from benchmarks.trial import Plan, Trial

BASELINE = ("obstore", "boto3", "socket")
SHOWN = ("push_seconds", "pull_seconds", "push_cpu_seconds", "pull_cpu_seconds")

QUICK = ("bytes, 1 KB", "bytes, 100 MB")
RELEASE = ("bytes, 1 KB", "bytes, 10 MB", "bytes, 100 MB", "bytes, 1 GB", "numpy, 100 MB", "numpy, 1 GB")

Clients = tuple[Callable[[], Any], Callable[[], Any]]


def trials(plan: Plan) -> Iterator[Trial]:
    """Each payload with each client."""
    for name in plan.choose(QUICK, RELEASE):
        size = bytes_of(name.partition(", ")[2])
        for latency_ms in plan.latencies_ms:
            for subject in ("xcargo", *BASELINE, "file"):
                if latency_ms and (subject == "file" or size > 10_000_000):
                    continue
                repeat = 30 if size < 100_000 else 5 if size < 500_000_000 else 2
                arguments = {"name": name, "repeat": repeat, "client": subject}
                yield Trial(name, subject, f"{__name__}:measure", arguments, latency_ms=latency_ms)


def measure(name: str, repeat: int, client: str) -> dict[str, Any]:
    """Put and get, over and over, after one that is not counted."""
    value = payload(name)
    data = memoryview(value).cast("B")
    if client == "xcargo":
        put, get, tidy = _backend(value)
    else:
        put, get = CLIENTS[client](data, json.loads(os.environ["BENCHMARKS_RAW"]))
        tidy = int
    put()
    if bytes(memoryview(get()).cast("B")) != data:
        raise ValueError("came back changed")
    watch = hooks.Watch()
    for _ in range(repeat):
        memory.at_hand(len(data))
        with watch("push"):
            put()
        with watch("pull"):
            back = get()
        del back
        tidy()
    return watch.metrics


def _backend(value: Any) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]:
    """Also what deletes the objects: the others put theirs under one key, and take no more memory of the server."""
    rows: list[Any] = []

    def tidy() -> None:
        while rows[1:]:
            hooks.purge(rows.pop(0))

    return lambda: rows.append(hooks.push(value)), lambda: hooks.pull(rows[-1]), tidy


def _obstore(data: memoryview, where: dict[str, Any]) -> Clients:
    import obstore
    from obstore.store import S3Store

    store = S3Store(
        where["bucket"],
        prefix=where["prefix"],
        config={
            "endpoint": where["endpoint"],
            "access_key_id": where["access_key"],
            "secret_access_key": where["secret_key"],
            "region": where["region"],
            "unsigned_payload": True,
        },
        client_options={"allow_http": True},
    )
    return (
        lambda: obstore.put(store, "raw-obstore", data, use_multipart=False),
        lambda: memoryview(obstore.get(store, "raw-obstore").bytes()),
    )


def _boto3(data: memoryview, where: dict[str, Any]) -> Clients:
    client = _s3(where)
    place = {"Bucket": where["bucket"], "Key": f"{where['prefix']}/raw-boto3"}
    whole = bytes(data)
    return lambda: client.put_object(Body=whole, **place), lambda: client.get_object(**place)["Body"].read()


def _socket(data: memoryview, where: dict[str, Any]) -> Clients:
    place = {"Bucket": where["bucket"], "Key": f"{where['prefix']}/raw-socket"}
    client = _s3(where)
    put_url = client.generate_presigned_url("put_object", place, ExpiresIn=86400)
    get_url = client.generate_presigned_url("get_object", place, ExpiresIn=86400)
    http = rawhttp.Client(where["endpoint"])
    http.put(put_url, data)
    connections = rawhttp.best(lambda count: http.get(get_url, len(data), count), (1, 2, 4))
    return lambda: http.put(put_url, data), lambda: http.get(get_url, len(data), connections)


def _file(data: memoryview, _: dict[str, Any]) -> Clients:
    shm = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="xcargo-bench-", dir=shm if shm.is_dir() else None))
    path, draft = folder / "raw-file", folder / "draft"

    def put() -> None:
        with draft.open("wb", buffering=0) as file:
            rest = data
            while rest:
                rest = rest[file.write(rest) :]
        draft.rename(path)

    def get() -> bytes:
        return path.read_bytes()

    import atexit
    import shutil

    atexit.register(shutil.rmtree, folder)
    return put, get


def _s3(where: dict[str, Any]) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=where["endpoint"],
        aws_access_key_id=where["access_key"],
        aws_secret_access_key=where["secret_key"],
        region_name=where["region"],
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


CLIENTS: dict[str, Callable[[memoryview, dict[str, Any]], Clients]] = {
    "obstore": _obstore,
    "boto3": _boto3,
    "socket": _socket,
    "file": _file,
}
