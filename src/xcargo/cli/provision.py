"""Makes a bucket or container as it should be, with the cloud's official SDK and the caller's own credentials.

Each step looks first and changes only what is not so yet. Nothing is ever opened, emptied or deleted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xcargo.cli.rights import Needs, gcs_lifecycle, s3_lifecycle
from xcargo.errors import ConfigurationError, MissingDependencyError

__all__ = ["Step", "steps"]


@dataclass(frozen=True)
class Step:
    """One thing to see to. ``run`` says whether it had to be changed."""

    what: str
    run: Callable[[], bool]


def steps(
    cloud: str,
    needs: Needs,
    *,
    region: str | None = None,
    project: str | None = None,
    endpoint: str | None = None,
) -> list[Step]:
    """What is to be done. Makes no request yet. Raises MissingDependencyError without the cloud's SDK."""
    if cloud in ("aws", "minio"):
        return _s3(needs, region, endpoint, is_aws=cloud == "aws")
    if cloud == "gcs":
        return _gcs(needs, region, project, endpoint)
    return _azure(needs, endpoint)


def _s3(needs: Needs, region: str | None, endpoint: str | None, *, is_aws: bool) -> list[Step]:
    try:
        import boto3
        from botocore.exceptions import ClientError
    except ImportError:
        raise _missing("boto3", "amazon") from None
    client = boto3.client("s3", region_name=region, endpoint_url=endpoint)
    bucket = needs.bucket

    def absent(call: Callable[[], Any], *codes: str) -> bool:
        try:
            call()
        except ClientError as error:
            if error.response["Error"]["Code"] in codes:
                return True
            raise
        return False

    def create() -> bool:
        if not absent(lambda: client.head_bucket(Bucket=bucket), "404", "NoSuchBucket"):
            return False
        where = client.meta.region_name
        # us-east-1 is the one region that must not be named.
        options = {} if where in (None, "us-east-1") else {"CreateBucketConfiguration": {"LocationConstraint": where}}
        client.create_bucket(Bucket=bucket, **options)
        return True

    def block_public() -> bool:
        wanted = dict.fromkeys(
            ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
        )
        if not absent(lambda: client.get_public_access_block(Bucket=bucket), "NoSuchPublicAccessBlockConfiguration"):
            found = client.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
            if found == wanted:
                return False
        client.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=wanted)
        return True

    def encrypt() -> bool:
        if not absent(
            lambda: client.get_bucket_encryption(Bucket=bucket), "ServerSideEncryptionConfigurationNotFoundError"
        ):
            return False  # whatever it is, it was chosen
        default = {"SSEAlgorithm": "AES256"}
        if needs.kms_key:
            default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": needs.kms_key}
        rules = [{"ApplyServerSideEncryptionByDefault": default}]
        client.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules})
        return True

    def unversioned() -> bool:
        if client.get_bucket_versioning(Bucket=bucket).get("Status") != "Enabled":
            return False
        raise ConfigurationError(
            f"Bucket {bucket!r} keeps every version of its objects, so deleted XComs stay and cost",
            hint="Use a bucket of its own without versioning, or let a lifecycle rule expire noncurrent versions.",
        )

    def tidy() -> bool:
        rules: list[dict[str, Any]] = []
        if not absent(lambda: client.get_bucket_lifecycle_configuration(Bucket=bucket), "NoSuchLifecycleConfiguration"):
            rules = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
        ours = s3_lifecycle(needs)["Rules"]
        names = {rule["ID"] for rule in ours}
        if names <= {rule.get("ID") for rule in rules} and all(rule in rules for rule in ours):
            return False
        kept = [rule for rule in rules if rule.get("ID") not in names]
        client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [*kept, *ours]})
        return True

    found = [Step(f"bucket {bucket} is there", create), Step("it keeps no former versions", unversioned)]
    if is_aws:
        found.append(Step("public access is blocked", block_public))
    found += [
        Step("objects are encrypted at rest", encrypt),
        Step(f"broken uploads go after 7 days{_expiry(needs)}", tidy),
    ]
    return found


def _gcs(needs: Needs, region: str | None, project: str | None, endpoint: str | None) -> list[Step]:
    try:
        from google.cloud import storage
    except ImportError:
        raise _missing("google-cloud-storage", "google") from None
    options: dict[str, Any] = {"project": project}
    if endpoint:
        from google.auth.credentials import AnonymousCredentials

        options.update(client_options={"api_endpoint": endpoint}, credentials=AnonymousCredentials())
    client = storage.Client(**options)

    def create() -> bool:
        if client.lookup_bucket(needs.bucket) is not None:
            return False
        bucket = client.bucket(needs.bucket)
        bucket.iam_configuration.uniform_bucket_level_access_enabled = True
        bucket.iam_configuration.public_access_prevention = "enforced"
        client.create_bucket(bucket, location=region)
        return True

    def close() -> bool:
        bucket = client.get_bucket(needs.bucket)
        access = bucket.iam_configuration
        if access.uniform_bucket_level_access_enabled and access.public_access_prevention == "enforced":
            return False
        access.uniform_bucket_level_access_enabled = True
        access.public_access_prevention = "enforced"
        bucket.patch()
        return True

    def tidy() -> bool:
        bucket = client.get_bucket(needs.bucket)
        kept = [dict(rule) for rule in bucket.lifecycle_rules]
        wanted = [rule for rule in gcs_lifecycle(needs)["rule"] if rule not in kept]
        if not wanted:
            return False
        bucket.lifecycle_rules = [*kept, *wanted]
        bucket.patch()
        return True

    return [
        Step(f"bucket {needs.bucket} is there", create),
        Step("access is uniform and public access prevented", close),
        Step(f"broken uploads go after 7 days{_expiry(needs)}", tidy),
    ]


def _azure(needs: Needs, endpoint: str | None) -> list[Step]:
    try:
        from azure.core.exceptions import ResourceExistsError
        from azure.storage.blob import BlobServiceClient
    except ImportError:
        raise _missing("azure-storage-blob", "azure") from None
    import os

    text = os.environ.get("AZURE_STORAGE_CONNECTION_STRING")
    if text:
        client = BlobServiceClient.from_connection_string(text)
    else:
        try:
            from azure.identity import DefaultAzureCredential
        except ImportError:
            raise _missing("azure-identity", "azure") from None
        url = endpoint or f"https://{needs.account}.blob.core.windows.net"
        client = BlobServiceClient(url, credential=DefaultAzureCredential())

    def create() -> bool:
        try:
            client.create_container(needs.bucket)
        except ResourceExistsError:
            return False
        return True

    def close() -> bool:
        container = client.get_container_client(needs.bucket)
        if container.get_container_access_policy()["public_access"] is None:
            return False
        container.set_container_access_policy({}, public_access=None)
        return True

    return [Step(f"container {needs.bucket} is there", create), Step("it is private", close)]


def _expiry(needs: Needs) -> str:
    return f", objects after {needs.expire_days} days" if needs.expire_days else ""


def _missing(package: str, extra: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"--apply needs {package}, which is not installed here",
        hint=f"Run: pip install 'airflow-provider-xcargo[{extra}]', or use --format commands.",
    )
