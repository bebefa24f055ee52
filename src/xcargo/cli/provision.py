"""Makes a bucket or container as it should be, with the cloud's official SDK and the caller's own credentials.

Each step looks first and changes only what is not so yet. Nothing is ever opened, emptied or deleted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xcargo.cli.rights import PUBLIC_BLOCK, Needs, gcs_lifecycle, s3_lifecycle
from xcargo.errors import ConfigurationError, MissingDependencyError

__all__ = ["SetupStep", "setup_steps", "with_rules"]


@dataclass(frozen=True)
class SetupStep:
    """One state that the bucket should have. ``ensure`` returns whether it had to change anything."""

    state: str
    ensure: Callable[[], bool]


def setup_steps(
    cloud: str, needs: Needs, *, region: str | None = None, project: str | None = None, endpoint: str | None = None
) -> list[SetupStep]:
    """What is to be done, in order. Makes no request yet. Raises MissingDependencyError without the cloud's SDK."""
    if cloud == "gcs":
        return _gcs(needs, region, project=project, endpoint=endpoint)
    if cloud == "azure":
        return _azure(needs, endpoint)
    return _s3(needs, region, endpoint=endpoint, is_aws=cloud == "aws")


def _s3(needs: Needs, region: str | None, *, endpoint: str | None, is_aws: bool) -> list[SetupStep]:
    try:
        import boto3
        from botocore.exceptions import ClientError
    except ImportError:
        raise _missing("boto3", "amazon") from None
    client = boto3.client("s3", region_name=region, endpoint_url=endpoint)
    bucket = needs.bucket

    def ask(request: Callable[..., Any], *absent: str) -> Any:
        """The answer; None if the server says, by one of these codes, that there is no such thing."""
        try:
            return request(Bucket=bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] in absent:
                return None
            raise

    def create() -> bool:
        if ask(client.head_bucket, "404", "NoSuchBucket") is not None:
            return False
        name = client.meta.region_name
        # us-east-1 is the one region that must not be named.
        options = {} if name in (None, "us-east-1") else {"CreateBucketConfiguration": {"LocationConstraint": name}}
        client.create_bucket(Bucket=bucket, **options)
        return True

    def require_no_versions() -> bool:
        if client.get_bucket_versioning(Bucket=bucket).get("Status") != "Enabled":
            return False
        raise ConfigurationError(
            f"Bucket {bucket!r} keeps every version of its objects, so deleted XComs stay and cost",
            hint="Use a bucket of its own without versioning, or let a lifecycle rule expire noncurrent versions.",
        )

    def block_public_access() -> bool:
        blocked = dict.fromkeys(PUBLIC_BLOCK, True)
        current = ask(client.get_public_access_block, "NoSuchPublicAccessBlockConfiguration")
        if current is not None and current["PublicAccessBlockConfiguration"] == blocked:
            return False
        client.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=blocked)
        return True

    def encrypt() -> bool:
        if ask(client.get_bucket_encryption, "ServerSideEncryptionConfigurationNotFoundError") is not None:
            return False  # whatever it is, it was chosen
        default = {"SSEAlgorithm": "AES256"}
        if needs.kms_key:
            default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": needs.kms_key}
        rules = [{"ApplyServerSideEncryptionByDefault": default}]
        client.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules})
        return True

    def add_lifecycle() -> bool:
        current = ask(client.get_bucket_lifecycle_configuration, "NoSuchLifecycleConfiguration")
        rules = current["Rules"] if current is not None else []
        ours = s3_lifecycle(needs)["Rules"]
        if all(rule in rules for rule in ours):
            return False
        names = {rule["ID"] for rule in ours}
        kept = [rule for rule in rules if rule.get("ID") not in names]
        client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [*kept, *ours]})
        return True

    steps = [
        SetupStep(f"bucket {bucket} is there", create),
        SetupStep("it keeps no former versions", require_no_versions),
        SetupStep("objects are encrypted at rest", encrypt),
        SetupStep(_lifecycle_state(needs), add_lifecycle),
    ]
    if is_aws:  # MinIO has no such block
        steps.insert(2, SetupStep("public access is blocked", block_public_access))
    return steps


def _gcs(needs: Needs, region: str | None, *, project: str | None, endpoint: str | None) -> list[SetupStep]:
    try:
        from google.cloud import storage
    except ImportError:
        raise _missing("google-cloud-storage", "google") from None
    options: dict[str, Any] = {"project": project}
    if endpoint:
        from google.auth.credentials import AnonymousCredentials

        options.update(client_options={"api_endpoint": endpoint}, credentials=AnonymousCredentials())
    client = storage.Client(**options)

    def close(bucket: Any) -> None:
        bucket.iam_configuration.uniform_bucket_level_access_enabled = True
        bucket.iam_configuration.public_access_prevention = "enforced"

    def create() -> bool:
        if client.lookup_bucket(needs.bucket) is not None:
            return False
        bucket = client.bucket(needs.bucket)
        close(bucket)
        client.create_bucket(bucket, location=region)
        return True

    def prevent_public_access() -> bool:
        bucket = client.get_bucket(needs.bucket)
        access = bucket.iam_configuration
        if access.uniform_bucket_level_access_enabled and access.public_access_prevention == "enforced":
            return False
        close(bucket)
        bucket.patch()
        return True

    def add_lifecycle() -> bool:
        bucket = client.get_bucket(needs.bucket)
        current = [dict(rule) for rule in bucket.lifecycle_rules]
        ours = gcs_lifecycle(needs)["rule"]
        if all(rule in current for rule in ours):
            return False
        bucket.lifecycle_rules = with_rules(current, ours)
        bucket.patch()
        return True

    return [
        SetupStep(f"bucket {needs.bucket} is there", create),
        SetupStep("access is uniform and public access prevented", prevent_public_access),
        SetupStep(_lifecycle_state(needs), add_lifecycle),
    ]


def with_rules(rules: Iterable[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rules of a bucket on GCS with ours in the place of those with another age: of two, the lower age would count."""

    def ageless(rule: Mapping[str, Any]) -> dict[str, Any]:
        return {**rule, "condition": {**rule["condition"], "age": None}}

    replaced = [ageless(rule) for rule in ours]
    return [*(rule for rule in rules if ageless(rule) not in replaced), *ours]


def _azure(needs: Needs, endpoint: str | None) -> list[SetupStep]:
    try:
        from azure.core.exceptions import ResourceExistsError
        from azure.storage.blob import BlobServiceClient
    except ImportError:
        raise _missing("azure-storage-blob", "azure") from None
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
        current = container.get_container_access_policy()
        if current["public_access"] is None:
            return False
        # Signatures may rest on the stored policies of the container; a request without them would delete them.
        policies = {policy.id: policy.access_policy for policy in current["signed_identifiers"]}
        container.set_container_access_policy(policies, public_access=None)
        return True

    return [SetupStep(f"container {needs.bucket} is there", create), SetupStep("it is private", close)]


def _lifecycle_state(needs: Needs) -> str:
    expiry = f", objects after {needs.expire_days} days" if needs.expire_days else ""
    return f"broken uploads go after 7 days{expiry}"


def _missing(package: str, extra: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"--apply needs {package}, which is not installed here",
        hint=f"Run: pip install 'airflow-provider-xcargo[{extra}]', or use --format commands.",
    )
