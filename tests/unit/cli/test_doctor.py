"""The doctor: green where all is well, and each of the usual mistakes finding by name, with what to do."""

from __future__ import annotations

import json
import os
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Fault, FaultProxy, Server
from tests.unit.cli.conftest import Examine
from tests.unit.cli.kit import Call, Skewed
from xcargo.cli.checks import Finding, Status, explain, worst
from xcargo.cli.checks.connection import clock, credentials, reach
from xcargo.cli.checks.environment import misspelt
from xcargo.errors import AccessDeniedError
from xcargo.model.root import Root
from xcargo.stores.base import Access


def problems(found: dict[str, Finding]) -> dict[str, Finding]:
    """What is not fine."""
    return {name: f for name, f in found.items() if f.status in (Status.WARNING, Status.FAILED)}


def only(found: dict[str, Finding], name: str, status: Status = Status.FAILED) -> Finding:
    """The one problem, which has this name and status, and a fix."""
    assert list(problems(found)) == [name], problems(found)
    assert found[name].status is status
    assert found[name].fix
    return found[name]


# --- all is well -----------------------------------------------------------------------------------------------------


def test_everything_is_green_on_each_cloud(any_server: Server, examine: Examine) -> None:
    """A right set-up has no problem, every verb was tried, nothing is left behind, and no password is shown."""
    before = any_server.list_keys()
    found = examine(server=any_server, large=True)
    assert problems(found) == {}
    verbs = ("put", "get", "range", "head", "list", "create", "public", "parts", "parallel", "delete")
    assert {f"store.{verb}" for verb in verbs} <= found.keys()
    assert "value.round-trip" in found
    assert any_server.connection.get("password", "-----BEGIN") not in str(found)
    assert any_server.list_keys() == before


def test_everything_is_green_in_a_folder(examine: Examine, tmp_path: Path) -> None:
    """A local folder, which is made by the first put; nothing is left in it."""
    found = examine(xcargo__path=(tmp_path / "xcom").as_uri())
    assert problems(found) == {}
    assert "folder.space" in found
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


# --- broken on purpose -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "name", "words"),
    [
        ({"xcargo__treshold_bytes": "5"}, "settings.valid", ["AIRFLOW__XCARGO__TRESHOLD_BYTES", "'threshold_bytes'"]),
        ({"xcargo__threshold_bytes": "-1"}, "settings.threshold", ["nothing is offloaded"]),
        ({"xcargo__compression": "zstdd"}, "settings.compression", ["zstd"]),
        ({"xcargo__path": "s4://bucket/xcom"}, "connection.resolves", ["'s4'"]),
        ({"xcargo__path": "s3://nobody_conn@bucket/xcom"}, "connection.resolves", ["'nobody_conn' is not defined"]),
        (
            {"core__xcom_backend": "airflow.sdk.bases.xcom.BaseXCom"},
            "environment.backend",
            ["AIRFLOW__CORE__XCOM_BACKEND=xcargo.XComBackend"],
        ),
        ({"core__executor": "CeleryExecutor"}, "folder.shared", ["several machines"]),
        ({"core__executor": "CeleryExecutor", "xcargo__path": ""}, "settings.path", ["AIRFLOW__XCARGO__PATH"]),
    ],
)
def test_a_wrong_setting_is_named(
    examine: Examine, tmp_path: Path, options: dict[str, str], name: str, words: list[str]
) -> None:
    """In one finding, which says what is wrong and what to do."""
    finding = only(examine(**{"xcargo__path": tmp_path.as_uri(), **options}), name)
    for word in words:
        assert word in finding.what + finding.fix


def test_a_connection_of_broken_json_is_named_as_such(examine: Examine) -> None:
    """Not as one that is not defined; and nothing of it is shown."""
    broken = {"AIRFLOW_CONN_BROKEN": '{"conn_type": "aws", "password": "hunter2",}'}
    finding = only(examine(env=broken, xcargo__path="s3://broken@bucket/xcom"), "connection.resolves")
    assert "AIRFLOW_CONN_BROKEN does not hold a connection" in finding.what + finding.fix
    assert "hunter2" not in str(finding)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("AIRFLOW__COMMON.IO__XCOM_OBJECTSTORAGE_PATH", "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH"),
        ("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_TRESHOLD", "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD"),
        ("AIRFLOW__CORE__XCOM_BACKENDS", "AIRFLOW__CORE__XCOM_BACKEND"),
        ("AIRFLOW_CORE_XCOM_BACKEND", "AIRFLOW__CORE__XCOM_BACKEND"),
        ("AIRFLOW_XCARGO__PATH", "AIRFLOW__XCARGO__PATH"),
        ("AIRFLOW__XCARGO_PATH", "AIRFLOW__XCARGO__PATH"),
        ("XCARGO_THRESHOLD_BYTES", "AIRFLOW__XCARGO__THRESHOLD_BYTES"),
        ("airflow__xcargo__path", "AIRFLOW__XCARGO__PATH"),
    ],
)
def test_a_variable_without_effect_is_named_with_the_right_one(examine: Examine, wrong: str, right: str) -> None:
    """A misspelt name is finding, and the name that was meant."""
    finding = only(examine(env={wrong: "file:///tmp/x"}), "settings.variables")
    assert wrong in finding.what
    assert right in finding.fix


def test_names_of_others_are_left_alone() -> None:
    """What is right, Airflow's own, or another application's is no typo."""
    fine = (
        "AIRFLOW__XCARGO__PATH",
        "AIRFLOW_CONN_XCARGO_S3",
        "AIRFLOW__CORE__XCOM_BACKEND",
        "AIRFLOW__CORE__EXECUTOR",
        "AIRFLOW__COMMON_IO__STATE_STORE_OBJECTSTORAGE_PATH",
        "AIRFLOW__CORE__XCOM_BACKEND_CMD",
        "MY_XCOM_BACKEND_BUCKET",
        "PATH",
    )
    assert misspelt(fine) == {}


def test_a_wrong_clock_is_named(s3_server: Server, examine: Examine) -> None:
    """A clock an hour behind the store's is finding, by how much and in which direction."""
    with Skewed(s3_server.endpoint, timedelta(hours=3)) as relay:
        found = examine(server=s3_server.via(relay.url))
    assert "3 h behind" in only(found, "connection.clock").what


@pytest.mark.parametrize(
    ("seconds", "status"),
    [(0, Status.OK), (-59, Status.OK), (60, Status.WARNING), (899, Status.WARNING), (900, Status.FAILED)],
)
def test_bounds_of_the_clock(seconds: float, status: Status) -> None:
    """A minute is suspicious, a quarter of an hour is refused."""
    assert clock(seconds).status is status
    assert clock(-seconds).status is status


@contextmanager
def _powerless() -> Iterator[None]:
    """Whoever runs the tests, inside it is somebody for whom permissions count."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize(("mode", "below"), [(0o555, ""), (0, "not/visible")])
def test_a_folder_that_cannot_be_written_is_named(examine: Examine, tmp_path: Path, mode: int, below: str) -> None:
    """A read-only folder, and one below a folder that may not be entered: who may not write where."""
    (tmp_path / "closed").mkdir(mode=mode)
    folder = tmp_path / "closed" / below
    for parent in (*tmp_path.parents, tmp_path):
        if parent.stat().st_uid == os.geteuid() and str(parent).startswith("/tmp/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    with _powerless():
        found = examine(xcargo__path=folder.as_uri())
    finding = only(found, "store.put")
    assert "refused access" in finding.what
    assert str(folder) in finding.fix


def test_an_endpoint_that_does_not_answer_is_named(s3_server: Server, examine: Examine) -> None:
    """Nobody listens: the endpoint is finding, and the store is not asked in vain."""
    with FaultProxy(s3_server.endpoint) as proxy:
        proxy.add(Fault("refuse"))
        found = examine(server=s3_server.via(proxy.url))
        assert proxy.url in only(found, "connection.endpoint").what
    assert found["store"].status is Status.SKIPPED


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", Status.FAILED),
        (b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n", Status.OK),
    ],
    ids=["ssh", "redirect"],
)
def test_an_endpoint_is_judged_by_its_own_answer(said: bytes, status: Status) -> None:
    """Another protocol is named, not raised; where browsers are sent need not be reachable from here."""

    class Says(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(said)

    with socketserver.TCPServer(("127.0.0.1", 0), Says) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        found, _ = reach(f"http://127.0.0.1:{server.server_address[1]}", Access(), timeout_seconds=5)
    assert found.status is status, found.what


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("SignatureDoesNotMatch", "secret key is not that of the access key id"),
        ("InvalidAccessKeyId", "does not know the access key id"),
        ("ExpiredToken", "session token"),
        ("RequestTimeTooSkewed", "clock"),
        ("AuthenticationFailed", "account key or signature"),
        ("AuthorizationPermissionMismatch", "not among their rights"),
        ("AuthorizationFailure", "from this network"),
        ("AccessDenied: not authorized to perform: kms:GenerateDataKey", "key that encrypts the bucket"),
        ("SomethingNew", "SomethingNew"),
    ],
)
def test_what_a_refusal_means_is_told(code: str, words: str) -> None:
    """A known code in plain words with its fix; an unknown one as the store said it."""
    error = AccessDeniedError(f"403 Forbidden: <Code>{code}</Code>", where="s3://b/k", hint="Check.")
    found = explain("store.put", error, Root.parse("s3://my_conn@b"))
    assert words in found.what
    assert found.fix


# --- further mistakes ------------------------------------------------------------------------------------------------


def test_requests_are_repeated_as_the_settings_say(s3_server: Server, examine: Examine) -> None:
    """A request fails once, and is made again after the wait that is configured, not after the default of 0.1 s."""
    with FaultProxy(s3_server.endpoint) as proxy:
        proxy.add(Fault("status", method="PUT", status=500))
        found = examine(server=s3_server.via(proxy.url), xcargo__retry_wait_seconds="1.5")
    assert problems(found) == {}
    assert (found["store.put"].milliseconds or 0) > 500


def test_the_command_says_who_set_what_and_ends_with_1_on_a_failure(cli: Call, tmp_path: Path) -> None:
    """Standard output is JSON alone; without --json the marks say what is wrong and what to do."""
    env = {"AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend", "AIRFLOW__XCARGO__PATH": tmp_path.as_uri()}
    done = cli("doctor", "--json", **env, AIRFLOW__XCARGO__THRESHOLD_BYTES="-1")
    assert (done.code, done.json["status"]) == (1, "failed"), done.err
    assert [f["name"] for f in done.json["findings"] if f["status"] == "failed"] == ["settings.threshold"]
    origins = {s["option"]: s["origin"] for s in done.json["settings"]}
    assert origins["threshold_bytes"] == "variable AIRFLOW__XCARGO__THRESHOLD_BYTES"
    assert origins["compression"] == "default"
    key = "echo glTDKakoUPbVOd03b0gW7idkUX2l4CNVFK9DMWRIDXo="
    secret = cli("doctor", "--json", "--quick", **env, AIRFLOW__XCARGO__ENCRYPTION_KEYS_CMD=key).json
    origins = {s["option"]: s["origin"] for s in secret["settings"]}
    assert origins["encryption_keys"] == "variable AIRFLOW__XCARGO__ENCRYPTION_KEYS_CMD"
    shown = cli("doctor", "--settings", **env, AIRFLOW__XCARGO__THRESHOLD_BYTES="-1")
    assert "  ✗ threshold_bytes is -1" in shown.out
    assert "    → Set AIRFLOW__XCARGO__THRESHOLD_BYTES=1024" in shown.out
    assert shown.out.endswith(" checks failed.\n")
    assert cli("doctor", **env).code == 0


def test_objects_that_anyone_can_read_are_named(gcs_server: Server, examine: Examine, bare: Any) -> None:
    """A store that asks for no credentials, somewhere else than on this machine."""
    bare.setattr("xcargo.cli.checks.store.is_loopback", lambda _: False)
    finding = only(examine(server=gcs_server), "store.public")
    assert "xcargo policy" in finding.fix


def test_roots_that_are_only_read_are_asked_too(s3_server: Server, examine: Examine) -> None:
    """A former root whose bucket is gone is finding."""
    found = examine(server=s3_server, xcargo__read_paths="s3://xcargo_s3@gone-bucket/old")
    assert "gone-bucket" in problems(found)["read.s3"].what


def test_a_folder_that_is_only_read_has_to_be_there(examine: Examine, tmp_path: Path) -> None:
    """One that is not mounted here would answer every pull that there is no such object."""
    found = examine(xcargo__path=tmp_path.as_uri(), xcargo__read_paths=(tmp_path / "gone").as_uri())
    assert "gone" in only(found, "read.file").what


def test_a_bucket_that_may_not_be_listed_may_be_readable(s3_server: Server, examine: Examine) -> None:
    """Whoever may not list it is denied an object that is missing, as AWS does."""
    with FaultProxy(s3_server.endpoint) as proxy:
        proxy.add(Fault("status", match="absent", status=403, code="AccessDenied", times=None))
        found = examine(server=s3_server.via(proxy.url), xcargo__read_paths="s3://xcargo_s3@xcom/old")
    only(found, "read.s3", Status.WARNING)


def test_stores_of_routes_are_asked_too(s3_server: Server, gcs_server: Server, examine: Examine) -> None:
    """A route whose bucket is right is fine; one whose bucket is not there is named."""
    gone = gcs_server.root.replace("@xcom", "@no-such-bucket")
    routes = [
        {"name": "sales", "dag": "sales_*", "path": gcs_server.root},
        {"name": "old", "dag": "old_*", "path": gone},
    ]
    found = examine(server=s3_server, env=gcs_server.env(), xcargo__routes=json.dumps(routes))
    assert "'no-such-bucket'" in only(found, "route.old").what
    assert found["route.sales"].status is Status.OK


@pytest.mark.parametrize(
    ("hours", "status"), [(-1, Status.FAILED), (1, Status.WARNING), (23.9, Status.WARNING), (25, Status.OK)]
)
def test_a_signature_that_ends_is_told(hours: float, status: Status) -> None:
    """A shared access signature is renewed by nobody: its last day is a warning, its end a failure."""
    end = datetime.now(timezone.utc) + timedelta(hours=hours)
    sas = {"sas_token": f"sv=2024-08-04&se={end:%Y-%m-%dT%H%%3A%M%%3A%SZ}&sig=abc", "expires_at": None}
    assert credentials(Access(credentials=lambda: sas)).status is status


def test_credentials_that_are_renewed_may_end_soon() -> None:
    """A token for an hour is what a role gives."""
    end = datetime.now(timezone.utc) + timedelta(minutes=50)
    found = credentials(Access(credentials=lambda: {"token": "secret", "expires_at": end}))
    assert found.status is Status.OK
    assert "50 min" in found.what.replace("49 min", "50 min")
    assert "secret" not in str(found)


def test_the_worst_finding_decides() -> None:
    """Skipped counts as nothing, a warning less than a failure."""
    found = [Finding("x", status, "") for status in Status]
    assert worst(found) is Status.FAILED
    assert worst(found[:3]) is Status.WARNING
    assert worst(found[:2]) is Status.OK
