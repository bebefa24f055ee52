"""What `xcargo policy` prints suffices, and nothing in it is too much: shown on servers that enforce it.

For AWS moto, which checks each request's signature and judges it by the user's policies; for Azure azurite, which
judges a request by its signature's permissions. No server at hand enforces Google's roles.
"""

from __future__ import annotations

import copy
import json
import logging
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, cast
from urllib.request import Request, urlopen

import pytest
from azure.storage.blob import AccessPolicy, BlobServiceClient

from tests.conftest import Connection
from tests.metadata import Metadata
from tests.servers import Fault, FaultProxy, Server
from tests.unit.cli.kit import Call, Done
from tests.unit.conftest import make_pipeline
from xcargo.airflow.connections import access_of
from xcargo.cli.checks import Finding, Status
from xcargo.cli.checks.store import exercise
from xcargo.cli.provision import setup_steps, with_rules
from xcargo.cli.rights import CLOUDS, Needs, aws_policy, azure_sas_permissions, gcs_lifecycle, s3_lifecycle
from xcargo.errors import AccessDeniedError, ConfigurationError, StoreError
from xcargo.model.coordinate import Coordinate
from xcargo.model.root import Root
from xcargo.stores import open_store
from xcargo.stores.base import Access, Limits, uploads_of

ROOT = Root.parse("s3://conn@guarded/team/xcom")
LIMITS = Limits(timeout_seconds=3, part_bytes=5 * 1024 * 1024)


@dataclass
class Moto:
    """moto as a server, which lets nobody but its administrator do what no policy allows."""

    url: str
    users: int = field(default=0)

    def enforce(self, *, on: bool) -> None:
        body = b"0" if on else b"1000000000"
        request = Request(f"{self.url}/moto-api/reset-auth", body, {"Content-Type": "text/plain"}, method="POST")
        urlopen(request).close()

    def client(self, service: str) -> Any:
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="admin",
            aws_secret_access_key="admin",
        )

    def access(self, policy: dict[str, Any], endpoint: str | None = None, root: Root = ROOT) -> Access:
        """The access of a fresh user who has this policy."""
        connection = self.connection(policy, endpoint)
        return access_of(root, lambda _: Connection(connection))

    def connection(self, policy: dict[str, Any], endpoint: str | None = None) -> dict[str, Any]:
        """The Airflow connection of a fresh user who has this policy."""
        self.enforce(on=False)
        iam = self.client("iam")
        self.users += 1
        name = f"user{self.users}"
        iam.create_user(UserName=name)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(policy))
        self.enforce(on=True)
        return {
            "conn_type": "aws",
            "login": key["AccessKeyId"],
            "password": key["SecretAccessKey"],
            "extra": {"endpoint_url": endpoint or self.url, "region_name": "us-east-1"},
        }


@pytest.fixture(scope="module")
def moto() -> Iterator[Moto]:
    from moto.iam.access_control import IAMRequestBase
    from moto.server import ThreadedMotoServer

    signed = IAMRequestBase._create_aws_request

    def with_tilde(self: Any) -> Any:
        """As AWS: a tilde in a query is signed as it is, however it was sent."""
        request = signed(self)
        request.url = request.url.replace("%7E", "~")
        return request

    patch = pytest.MonkeyPatch()
    patch.setattr(IAMRequestBase, "_create_aws_request", with_tilde)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    found = Moto(f"http://{host}:{port}")
    found.client("s3").create_bucket(Bucket=ROOT.bucket)
    yield found
    found.enforce(on=False)
    server.stop()
    patch.undo()


def without(policy: dict[str, Any], action: str) -> dict[str, Any]:
    """The policy less one action."""
    less = copy.deepcopy(policy)
    for statement in less["Statement"]:
        statement["Action"] = [a for a in statement["Action"] if a != action]
    less["Statement"] = [s for s in less["Statement"] if s["Action"]]
    assert less != policy
    return less


def problems(findings: Iterator[Finding]) -> list[str]:
    return [f.name for f in findings if f.status in (Status.WARNING, Status.FAILED)]


def test_the_aws_policy_suffices(moto: Moto) -> None:
    """With nothing but the printed policy every verb works, parts included."""
    assert problems(exercise(ROOT, moto.access(aws_policy(Needs.of(ROOT))), LIMITS, large=True)) == []


@pytest.mark.parametrize(
    ("action", "missed_by"),
    [
        ("s3:PutObject", "store.put"),
        ("s3:GetObject", "store.get"),
        ("s3:DeleteObject", "store.delete"),
        ("s3:ListBucket", "store.list"),
        ("s3:ListBucketMultipartUploads", "store.uploads"),
    ],
)
def test_each_right_of_the_aws_policy_is_needed(moto: Moto, action: str, missed_by: str) -> None:
    """Without any one of them something is refused, and the doctor says what."""
    access = moto.access(without(aws_policy(Needs.of(ROOT)), action))
    assert problems(exercise(ROOT, access, LIMITS, large=False)) == [missed_by]


@pytest.mark.parametrize("allowed", [True, False])
def test_the_right_to_abort_is_needed_to_leave_no_parts(moto: Moto, allowed: bool) -> None:
    """When a part fails, what was sent is taken back; without the right it stays in the bucket, and costs."""
    policy = aws_policy(Needs.of(ROOT))
    with FaultProxy(moto.url) as proxy:
        proxy.add(Fault("status", method="PUT", match="partNumber=3", status=400, times=None))
        access = moto.access(policy if allowed else without(policy, "s3:AbortMultipartUpload"), proxy.url)
        with pytest.raises(StoreError):
            open_store(ROOT, access, LIMITS).put(f"k{allowed}", [bytes(30 * 1024 * 1024)])
    moto.enforce(on=False)
    left = moto.client("s3").list_multipart_uploads(Bucket=ROOT.bucket).get("Uploads", [])
    assert [upload["Key"] for upload in left if upload["Key"].endswith(f"k{allowed}")] == (
        [] if allowed else ["team/xcom/kFalse"]
    )


def test_a_sweep_without_a_right_to_uploads_says_so(moto: Moto, here: Any, sqlite_metadata: Metadata) -> None:
    """What may not be listed is not counted, and what may not be aborted stays. With the rights it goes."""
    root = Root.parse("s3://conn@guarded/team/uploads")
    full = aws_policy(Needs.of(root))
    pipeline = make_pipeline(str(root), connection=moto.connection(full), threshold_bytes=0)
    at = Coordinate("sales", "r", "t", "k")
    sqlite_metadata.push(pipeline.push("v", at), dag_id="sales", run_id="r", task_id="t", key="k")
    moto.enforce(on=False)
    moto.client("s3").create_multipart_upload(Bucket="guarded", Key=f"{root.prefix}/{at.object_key()}")

    def gc(policy: dict[str, Any]) -> Done:
        connection = json.dumps(moto.connection(policy))
        return cast("Done", here(sqlite_metadata, AIRFLOW__XCARGO__PATH=str(root), AIRFLOW_CONN_CONN=connection)("gc"))

    def uploads(policy: dict[str, Any]) -> Any:
        return uploads_of(open_store(root, moto.access(policy, root=root), LIMITS))

    unable = gc(without(full, "s3:ListBucketMultipartUploads"))
    assert unable.code == 0, unable.err
    assert "AccessDenied" in unable.err
    assert "xcargo policy aws" in unable.err
    assert "Unfinished uploads: 1 older than the grace, 0 too young" in gc(full).out
    (upload,) = uploads(full).list()
    with pytest.raises(AccessDeniedError, match="AbortMultipartUpload"):
        uploads(without(full, "s3:AbortMultipartUpload")).abort(upload)
    uploads(full).abort(upload)
    assert list(uploads(full).list()) == []


def test_the_doctor_looks_for_the_buckets_rule(moto: Moto) -> None:
    """Of which it says what it may see, and which is enough where uploads cannot be listed."""
    full = aws_policy(Needs.of(ROOT))
    seeing = {"Sid": "See", "Effect": "Allow", "Action": ["s3:GetLifecycleConfiguration"], "Resource": "*"}
    with_rule = {**full, "Statement": [*full["Statement"], seeing]}

    def finding(policy: dict[str, Any]) -> Finding:
        (found,) = (f for f in exercise(ROOT, moto.access(policy), LIMITS, large=False) if f.name == "store.uploads")
        return found

    assert "may not see" in finding(full).what
    assert "has no rule" in finding(with_rule).what
    moto.enforce(on=False)
    client = moto.client("s3")
    rules = s3_lifecycle(Needs.of(ROOT))
    client.put_bucket_lifecycle_configuration(Bucket=ROOT.bucket, LifecycleConfiguration=rules)
    able = finding(with_rule)
    assert "The bucket aborts them after 7 days" in able.what
    assert finding(without(with_rule, "s3:ListBucketMultipartUploads")).status is Status.OK
    rules["Rules"][0]["Filter"]["Prefix"] = "elsewhere/"
    moto.enforce(on=False)
    client.put_bucket_lifecycle_configuration(Bucket=ROOT.bucket, LifecycleConfiguration=rules)
    assert "has no rule" in finding(with_rule).what
    moto.enforce(on=False)
    client.delete_bucket_lifecycle(Bucket=ROOT.bucket)


@pytest.mark.parametrize("missing", ["s3:ListBucket", "s3:DeleteObject"])
def test_a_sweep_without_a_right_deletes_nothing(
    moto: Moto, missing: str, here: Any, sqlite_metadata: Metadata
) -> None:
    """It ends with 4 and says what was refused; with the right its dry run shows what would go."""
    root = Root.parse(f"s3://conn@guarded/team/{missing[3:]}")
    full = aws_policy(Needs.of(root))
    pipeline = make_pipeline(str(root), connection=moto.connection(full), threshold_bytes=0)
    kept, gone = (cast("Any", pipeline.push("v", Coordinate("sales", "r", task, "k"))) for task in ("kept", "gone"))
    sqlite_metadata.push(kept, dag_id="sales", run_id="r", task_id="kept", key="k")
    time.sleep(1.1)  # times of objects are whole seconds there

    def gc(policy: dict[str, Any], *args: str) -> Done:
        connection = json.dumps(moto.connection(policy))
        call = here(sqlite_metadata, AIRFLOW__XCARGO__PATH=str(root), AIRFLOW_CONN_CONN=connection)
        return cast("Done", call("gc", "--grace", "0", *args))

    able, unable = gc(full, "--json"), gc(without(full, missing), "--apply", "--yes")
    assert able.json[0]["objects"]["orphan"]["objects"] == 1
    assert unable.code == 4
    assert "<Code>AccessDenied</Code>" in unable.err
    moto.enforce(on=False)
    found = moto.client("s3").list_objects_v2(Bucket="guarded", Prefix=root.prefix)["Contents"]
    left = {f"s3://guarded/{entry['Key']}" for entry in found if "~xcargo/" not in entry["Key"]}
    assert left == {kept["uri"], gone["uri"]}


def test_the_aws_policy_ends_at_the_path(moto: Moto) -> None:
    """Beside the path nothing can be read, written or deleted. (moto does not judge the condition on listing.)"""
    beside = Root.parse("s3://conn@guarded/team/other")
    moto.enforce(on=False)
    moto.client("s3").put_object(Bucket="guarded", Key="team/other/k", Body=b"x")
    store = open_store(beside, moto.access(aws_policy(Needs.of(ROOT)), root=beside), LIMITS)
    for call in (lambda: store.get("k"), lambda: store.put("k", [b"y"]), lambda: store.delete(["k"])):
        with pytest.raises(AccessDeniedError):
            call()


def test_a_neighbour_of_the_same_beginning_cannot_be_listed() -> None:
    """Whoever may list `xcom` sees the keys of `xcom-of-others`, too; all that is listed begins with `xcom/`."""
    (listing,) = [s for s in aws_policy(Needs("b", "xcom"))["Statement"] if s["Action"] == ["s3:ListBucket"]]
    assert listing["Condition"] == {"StringLike": {"s3:prefix": "xcom/*"}}


def test_an_account_of_a_sovereign_cloud_is_named_without_its_host() -> None:
    """The commands of `az` take the name alone."""
    assert Needs.of(Root.parse("abfss://c@acct.dfs.core.chinacloudapi.cn/x")).account == "acct"


def test_flags_leave_rights_out() -> None:
    """--no-gc prints no right to list, --no-delete none to delete."""
    text = json.dumps(aws_policy(Needs("b", "p", delete=False, list=False)))
    assert "ListBucket" not in text
    assert "DeleteObject" not in text
    assert azure_sas_permissions(Needs("b", delete=False, list=False)) == "rw"


# --- Azure -----------------------------------------------------------------------------------------------------------


def signed(server: Server, permissions: str) -> Access:
    """The access that a signature with these permissions gives."""
    from azure.storage.blob import generate_container_sas

    fields = server.connection
    sas = generate_container_sas(
        account_name="devstoreaccount1",
        container_name=server.bucket,
        account_key=fields["password"],
        permission=permissions,
        expiry=datetime.now(timezone.utc) + timedelta(hours=1),
    )
    given = {**fields, "password": None, "extra": {**fields.get("extra", {}), "sas_token": sas}}
    return access_of(Root.parse(server.root), lambda _: Connection(given))


def test_the_azure_signature_suffices_and_each_letter_is_needed(azure_server: Server) -> None:
    """With the printed permissions every verb works; without any one of them something is refused."""
    root = Root.parse(azure_server.root)
    letters = azure_sas_permissions(Needs.of(root))
    assert problems(exercise(root, signed(azure_server, letters), LIMITS, large=True)) == []
    missed = {"w": "store.put", "r": "store.get", "d": "store.delete", "l": "store.list"}
    assert set(missed) == set(letters)
    for letter, name in missed.items():
        fewer = letters.replace(letter, "")
        assert name in problems(exercise(root, signed(azure_server, fewer), LIMITS, large=False)), letter
    for key in azure_server.list_keys():
        azure_server.raw_delete(key)


# --- making the bucket -----------------------------------------------------------------------------------------------


def test_apply_makes_a_closed_bucket_and_is_idempotent(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run finds everything done; rules of others stay."""
    moto.enforce(on=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "admin")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "admin")
    needs = Needs("fresh-bucket", "xcom", expire_days=90)

    def run() -> list[bool]:
        return [step.ensure() for step in setup_steps("aws", needs, region="eu-central-1", endpoint=moto.url)]

    first = run()
    assert first[0], "the bucket was not there"
    client = moto.client("s3")
    assert all(client.get_public_access_block(Bucket="fresh-bucket")["PublicAccessBlockConfiguration"].values())
    assert client.get_bucket_location(Bucket="fresh-bucket")["LocationConstraint"] == "eu-central-1"
    assert not any(run())
    rule = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "other/"}, "Expiration": {"Days": 3}}
    client.put_bucket_lifecycle_configuration(Bucket="fresh-bucket", LifecycleConfiguration={"Rules": [rule]})
    assert any(run())
    rules = {r["ID"] for r in client.get_bucket_lifecycle_configuration(Bucket="fresh-bucket")["Rules"]}
    assert rules == {"theirs", "xcargo-broken-uploads", "xcargo-backstop"}


def test_another_age_takes_the_place_of_the_former_one() -> None:
    """With two rules for the same objects, Google would go by the lower age. Rules of others stay."""
    theirs = {"action": {"type": "Delete"}, "condition": {"age": 3, "matchesPrefix": ["other/"]}}
    former, ours = (gcs_lifecycle(Needs("b", "xcom", expire_days=days))["rule"] for days in (30, 180))
    assert with_rules([theirs, *former], ours) == [theirs, *ours]
    assert with_rules([theirs], ours) == [theirs, *ours]


def test_apply_makes_a_google_bucket_and_an_azure_container(
    gcs_server: Server, azure_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the official SDKs; a second run changes nothing. (This GCS server keeps no rules of a bucket.)"""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.endpoint)
    needs = Needs("fresh-bucket", "xcom")
    made, again = (
        [step.ensure() for step in setup_steps("gcs", needs, project="p", endpoint=gcs_server.endpoint)]
        for _ in range(2)
    )
    assert made[0]
    assert made[2]
    assert not again[0]
    key = azure_server.connection["password"]
    text = f"AccountName=devstoreaccount1;AccountKey={key};BlobEndpoint={azure_server.endpoint};"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    assert [step.ensure() for step in setup_steps("azure", needs)] == [True, False]
    assert [step.ensure() for step in setup_steps("azure", needs)] == [False, False]
    container = BlobServiceClient.from_connection_string(text).get_container_client("fresh-bucket")
    policy = AccessPolicy(permission="r", expiry="2030-01-01T00:00:00Z", start="2026-01-01T00:00:00Z")
    container.set_container_access_policy({"theirs": policy}, public_access="blob")
    assert [step.ensure() for step in setup_steps("azure", needs)] == [False, True]
    access = container.get_container_access_policy()
    assert (access["public_access"], [p.id for p in access["signed_identifiers"]]) == (None, ["theirs"])


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cloud", CLOUDS)
def test_each_cloud_prints_its_document(cloud: str, cli: Call) -> None:
    """JSON that names the bucket or role, scripts that a shell can read, and resources that refer to each other."""
    line = ("policy", cloud, "--path", f"{CLOUDS[cloud].schemes[0]}://my-bucket/it's", "--expire-days", "9")
    printed = cli(*line)
    assert isinstance(printed.json, dict)
    assert f"'xcargo lifecycle {cloud} --days 9' prints the rule" in printed.err
    script = cli(*line, "--format", "commands").out
    assert "my-bucket" in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    terraform = cli(*line, "--format", "terraform")
    made = {f"{kind}.{name}" for kind, named in terraform.json["resource"].items() for name in named}
    references = set(re.findall(r"\$\{(\w+\.\w+)\.\w+\}", terraform.out))
    assert references
    assert references <= made
    needed = {kind.partition("_")[0] for kind in terraform.json["resource"]} - {"aws", "google", "azurerm"}
    assert set(terraform.json.get("terraform", {}).get("required_providers", {})) == needed, "found by no name alone"


def test_a_path_is_no_template() -> None:
    """What Terraform would fill in is escaped; a prefix that would widen an IAM policy is refused."""
    resources = CLOUDS["gcs"].terraform(Needs("b", "it${a}/%{b}", expire_days=9))["resource"]
    for rule in resources["google_storage_bucket"]["xcargo"]["lifecycle_rule"]:
        assert rule["condition"]["matches_prefix"] == ["it$${a}/%%{b}/"]
    with pytest.raises(ConfigurationError, match="have a meaning in policies"):
        aws_policy(Needs("my-bucket", "teams/*"))


def test_a_path_in_another_cloud_is_refused(cli: Call) -> None:
    """A policy of one cloud for a path in another helps nobody."""
    done = cli("policy", "gcs", "--path", "s3://my-bucket/xcom")
    assert done.code == 4
    assert "gs://" in done.err


@pytest.mark.parametrize(
    ("line", "env", "reason"),
    [
        ("aws --path s3://my-bucket --region eu", {"AWS_PROFILE": "no-such"}, "ProfileNotFound"),
        ("gcs --path gs://my-bucket", {"GOOGLE_APPLICATION_CREDENTIALS": "/no/such.json"}, "DefaultCredentialsError"),
        ("azure --path az://my-container", {"AZURE_STORAGE_CONNECTION_STRING": "none"}, "ValueError"),
    ],
)
def test_apply_without_credentials_says_so(cli: Call, line: str, env: dict[str, str], reason: str) -> None:
    """What an SDK refuses before any request is one line, too."""
    done = cli("policy", *line.split(), "--apply", **env)
    assert (done.code, done.out) == (4, "")
    assert reason in done.err
    assert "Traceback" not in done.err


def test_an_account_is_not_code(cli: Call) -> None:
    """What becomes part of a script is a name."""
    done = cli("policy", "azure", "--path", "az://c", "--account", "a;id", "--format", "commands")
    assert (done.code, done.out) == (4, "")


def test_apply_says_what_could_not_be_done(cli: Call) -> None:
    """A server that does not answer: the step and the reason, no traceback. Without a yes it is not even asked."""
    env = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_MAX_ATTEMPTS": "1"}
    line = ("policy", "aws", "--path", "s3://my-bucket/xcom", "--region", "us-east-1", "--apply")
    unasked = cli(*line, "--endpoint-url", "http://127.0.0.1:9", **env)
    assert unasked.code == 3
    assert "--yes" in unasked.err
    done = cli(*line, "--yes", "--endpoint-url", "http://127.0.0.1:9", **env)
    assert done.code == 4, done.err
    assert "bucket my-bucket is there" in done.err
    assert "Traceback" not in done.err
