"""What a bucket or container needs in each cloud: rights, lifecycle rules, the commands and resources that make it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from xcargo.errors import ConfigurationError
from xcargo.model.root import Root

__all__ = [
    "CLOUDS",
    "PUBLIC_BLOCK",
    "Cloud",
    "Needs",
    "aws_policy",
    "azure_role",
    "azure_sas_permissions",
    "gcs_lifecycle",
    "gcs_role",
    "s3_lifecycle",
]


@dataclass(frozen=True)
class Needs:
    """What the rights are for. Pushes and pulls always; deleting for purges and sweeps; listing for sweeps."""

    bucket: str
    prefix: str = ""
    delete: bool = True
    list: bool = True
    kms_key: str | None = None
    """ARN of the key that encrypts the bucket (AWS)."""
    account: str = "ACCOUNT_NAME"
    """Storage account (Azure)."""
    expire_days: int | None = None
    """After how many days the bucket itself deletes objects."""

    @classmethod
    def of(cls, root: Root, **more: Any) -> Needs:
        """The needs of a root."""
        if root.account:
            more.setdefault("account", root.account.partition(".")[0])  # of a sovereign cloud it is the whole host
        return cls(root.bucket, root.prefix, **more)

    @property
    def folder(self) -> str:
        """The prefix as keys begin with it; empty for the whole bucket."""
        return f"{self.prefix}/" if self.prefix else ""


@dataclass(frozen=True)
class Cloud:
    """What can be printed for a cloud; each function takes the `Needs`."""

    schemes: tuple[str, ...]
    document: Callable[[Needs], Mapping[str, Any]]
    """The policy or role, as the cloud's JSON."""
    commands: Callable[[Needs], str]
    """A shell script with the cloud's own command that makes bucket, identity and grant."""
    lifecycle: Callable[[Needs], Mapping[str, Any]]
    """The bucket's lifecycle rules, as the cloud's JSON."""
    resources: Callable[[Needs], dict[str, dict[str, Any]]]
    """Terraform resources by type. Each is named ``xcargo``."""
    providers: Mapping[str, str] = field(default_factory=dict)
    """Name and source of a Terraform provider that its resources' names alone do not lead to."""

    def terraform(self, needs: Needs) -> dict[str, Any]:
        """Resources as the content of a ``.tf.json`` file, for Terraform and OpenTofu.

        Text of the user is escaped: only references of ours are filled in.
        """

        def literal(text: str) -> str:
            return text.replace("${", "$${").replace("%{", "%%{")

        key = literal(needs.kms_key) if needs.kms_key else None
        needs = replace(needs, prefix=literal(needs.prefix), account=literal(needs.account), kms_key=key)
        resources = {kind: {"xcargo": body} for kind, body in self.resources(needs).items()}
        sources = {name: {"source": source} for name, source in self.providers.items()}
        return {**({"terraform": {"required_providers": sources}} if sources else {}), "resource": resources}


# --- Amazon S3 and MinIO ---------------------------------------------------------------------------------------------


def aws_policy(needs: Needs) -> dict[str, Any]:
    """An IAM policy. MinIO reads the same language. Raises ConfigurationError for a prefix that means more in it."""
    if any(c in needs.prefix for c in "*?$"):
        raise ConfigurationError(
            f"A policy cannot be bounded to the prefix {needs.prefix!r}: *, ? and $ have a meaning in policies",
            hint="Choose a path without them.",
        )
    bucket = f"arn:aws:s3:::{needs.bucket}"
    actions = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
    actions += ["s3:DeleteObject"] if needs.delete else []
    statements: list[dict[str, Any]] = [
        {"Sid": "XCargoObjects", "Effect": "Allow", "Action": actions, "Resource": f"{bucket}/{needs.folder}*"}
    ]
    if needs.list:
        listing: dict[str, Any] = {
            "Sid": "XCargoListing",
            "Effect": "Allow",
            "Action": ["s3:ListBucket"],
            "Resource": bucket,
        }
        if needs.prefix:
            # Without the slash the names of its neighbours could be listed, too: xcom-of-others beside xcom.
            listing["Condition"] = {"StringLike": {"s3:prefix": f"{needs.folder}*"}}
        uploads = {"Sid": "XCargoUploads", "Effect": "Allow", "Action": ["s3:ListBucketMultipartUploads"]}
        statements += [listing, {**uploads, "Resource": bucket}]  # AWS cannot bound this one to a prefix
    if needs.kms_key:
        statements.append(
            {
                "Sid": "XCargoKey",
                "Effect": "Allow",
                "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
                "Resource": needs.kms_key,
            }
        )
    return {"Version": "2012-10-17", "Statement": statements}


PUBLIC_BLOCK = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


def aws_commands(needs: Needs) -> str:
    """Bucket, policy, and a role or user for it, by the ``aws`` command."""
    block_all = ",".join(f"{name}=true" for name in PUBLIC_BLOCK)
    return f"""\
# Outside us-east-1 add: --create-bucket-configuration LocationConstraint=REGION
aws s3api create-bucket --bucket {needs.bucket}
aws s3api put-public-access-block --bucket {needs.bucket} \\
  --public-access-block-configuration {block_all}
# This replaces the rules that a bucket already has:
aws s3api put-bucket-lifecycle-configuration --bucket {needs.bucket} \\
  --lifecycle-configuration {_quoted(s3_lifecycle(needs))}
aws iam create-policy --policy-name xcargo-{needs.bucket} \\
  --policy-document {_quoted(aws_policy(needs))}
# Then, with the ARN that the last command printed, for a role (EKS, EC2, MWAA) ...
aws iam attach-role-policy --role-name ROLE_NAME --policy-arn POLICY_ARN
# ... or for a user with a key of its own:
aws iam create-user --user-name xcargo
aws iam attach-user-policy --user-name xcargo --policy-arn POLICY_ARN
aws iam create-access-key --user-name xcargo
"""


def s3_lifecycle(needs: Needs) -> dict[str, Any]:
    """What the bucket itself tidies: uploads that were broken off, and objects after ``expire_days``."""

    def rule(name: str, **action: Any) -> dict[str, Any]:
        return {"ID": name, "Status": "Enabled", "Filter": {"Prefix": needs.folder}, **action}

    rules = [rule("xcargo-broken-uploads", AbortIncompleteMultipartUpload={"DaysAfterInitiation": 7})]
    if needs.expire_days:
        rules.append(rule("xcargo-backstop", Expiration={"Days": needs.expire_days}))
    return {"Rules": rules}


def aws_resources(needs: Needs) -> dict[str, dict[str, Any]]:
    """A bucket on S3 and its policy."""
    rule: dict[str, Any] = {
        "id": "xcargo",
        "status": "Enabled",
        "filter": {"prefix": needs.folder},
        "abort_incomplete_multipart_upload": {"days_after_initiation": 7},
    }
    if needs.expire_days:
        rule["expiration"] = {"days": needs.expire_days}
    bucket = "${aws_s3_bucket.xcargo.id}"
    return {
        "aws_s3_bucket": {"bucket": needs.bucket},
        "aws_s3_bucket_public_access_block": {
            "bucket": bucket,
            "block_public_acls": True,
            "ignore_public_acls": True,
            "block_public_policy": True,
            "restrict_public_buckets": True,
        },
        "aws_s3_bucket_lifecycle_configuration": {"bucket": bucket, "rule": [rule]},
        "aws_iam_policy": {
            "//": "Attach it to the role or user of your workers.",
            "name": f"xcargo-{needs.bucket}",
            "policy": json.dumps(aws_policy(needs)),
        },
    }


def minio_commands(needs: Needs) -> str:
    """The same by MinIO's ``mc``."""
    expire = ""
    if needs.expire_days:
        below = f" --prefix {shlex.quote(needs.folder)}" if needs.prefix else ""
        expire = f"mc ilm rule add ALIAS/{needs.bucket}{below} --expire-days {needs.expire_days}\n"
    return f"""\
mc mb --ignore-existing ALIAS/{needs.bucket}
mc anonymous set none ALIAS/{needs.bucket}
{expire}cat > xcargo-policy.json <<'EOF'
{json.dumps(aws_policy(needs), indent=2)}
EOF
mc admin policy create ALIAS xcargo-{needs.bucket} xcargo-policy.json
mc admin user add ALIAS xcargo SECRET_KEY
mc admin policy attach ALIAS xcargo-{needs.bucket} --user xcargo
"""


def minio_resources(needs: Needs) -> dict[str, dict[str, Any]]:
    """A bucket on MinIO and its user."""
    return {
        "minio_s3_bucket": {"bucket": needs.bucket, "acl": "private"},
        "minio_iam_policy": {"name": f"xcargo-{needs.bucket}", "policy": json.dumps(aws_policy(needs))},
        "minio_iam_user": {"name": "xcargo"},
        "minio_iam_user_policy_attachment": {
            "user_name": "${minio_iam_user.xcargo.id}",
            "policy_name": "${minio_iam_policy.xcargo.id}",
        },
    }


# --- Google Cloud Storage --------------------------------------------------------------------------------------------


def gcs_role(needs: Needs) -> dict[str, Any]:
    """A custom role, as ``gcloud iam roles create --file`` reads it."""
    permissions = [
        "storage.multipartUploads.abort",
        "storage.multipartUploads.create",
        "storage.objects.create",
        "storage.objects.get",
        *(["storage.objects.delete"] if needs.delete else []),
        *(["storage.multipartUploads.list", "storage.objects.list"] if needs.list else []),
    ]
    return {
        "title": "xcargo",
        "description": "What the Airflow XCom backend xcargo needs of its bucket",
        "stage": "GA",
        "includedPermissions": permissions,
    }


def gcs_commands(needs: Needs) -> str:
    """Bucket, role and service account, by ``gcloud``."""
    permissions = ",".join(gcs_role(needs)["includedPermissions"])
    account = "xcargo@PROJECT_ID.iam.gserviceaccount.com"
    return f"""\
gcloud storage buckets create gs://{needs.bucket} --project=PROJECT_ID \\
  --uniform-bucket-level-access --public-access-prevention
echo {_quoted(gcs_lifecycle(needs))} > xcargo-lifecycle.json
# This replaces the rules that a bucket already has:
gcloud storage buckets update gs://{needs.bucket} --lifecycle-file=xcargo-lifecycle.json
gcloud iam roles create xcargo --project=PROJECT_ID --title=xcargo --stage=GA \\
  --permissions={permissions}
gcloud iam service-accounts create xcargo --project=PROJECT_ID
gcloud storage buckets add-iam-policy-binding gs://{needs.bucket} \\
  --member=serviceAccount:{account} --role=projects/PROJECT_ID/roles/xcargo
# For a connection that holds a key; better is workload identity, which needs none:
gcloud iam service-accounts keys create xcargo-key.json --iam-account={account}
"""


def gcs_lifecycle(needs: Needs) -> dict[str, Any]:
    """Uploads that were broken off go, and objects older than ``expire_days``."""
    below = {"matchesPrefix": [needs.folder]} if needs.prefix else {}
    rules = [{"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 7, **below}}]
    if needs.expire_days:
        rules.insert(0, {"action": {"type": "Delete"}, "condition": {"age": needs.expire_days, **below}})
    return {"rule": rules}


def gcs_resources(needs: Needs) -> dict[str, dict[str, Any]]:
    """A bucket on GCS and its service account."""
    below = {"matches_prefix": [needs.folder]} if needs.prefix else {}
    ages = {"AbortIncompleteMultipartUpload": 7, **({"Delete": needs.expire_days} if needs.expire_days else {})}
    return {
        "google_storage_bucket": {
            "name": needs.bucket,
            "location": "LOCATION",
            "uniform_bucket_level_access": True,
            "public_access_prevention": "enforced",
            "lifecycle_rule": [
                {"action": {"type": action}, "condition": {"age": age, **below}} for action, age in ages.items()
            ],
        },
        "google_project_iam_custom_role": {
            "role_id": "xcargo",
            "title": "xcargo",
            "permissions": gcs_role(needs)["includedPermissions"],
        },
        "google_service_account": {"account_id": "xcargo", "display_name": "Airflow XComs"},
        "google_storage_bucket_iam_member": {
            "bucket": "${google_storage_bucket.xcargo.name}",
            "role": "${google_project_iam_custom_role.xcargo.id}",
            "member": "serviceAccount:${google_service_account.xcargo.email}",
        },
    }


# --- Azure Blob Storage ----------------------------------------------------------------------------------------------

_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
_GROUP = "/subscriptions/SUBSCRIPTION_ID/resourceGroups/RESOURCE_GROUP"
"""Where a role may be assigned. It is assigned to the container alone."""


def azure_role(needs: Needs) -> dict[str, Any]:
    """A custom role, to be assigned for one container. Azure has no right to list apart from the one to read."""
    actions = [f"{_BLOBS}/read", f"{_BLOBS}/write", *([f"{_BLOBS}/delete"] if needs.delete else [])]
    return {
        "Name": f"xcargo {needs.bucket}",
        "IsCustom": True,
        "Description": "What the Airflow XCom backend xcargo needs of its container",
        "Actions": [],
        "NotActions": [],
        "DataActions": actions,
        "NotDataActions": [],
        "AssignableScopes": [_GROUP],
    }


def azure_lifecycle(needs: Needs) -> dict[str, Any]:
    """A management policy of the storage account: objects older than ``expire_days`` go."""
    definition = {
        "filters": {"blobTypes": ["blockBlob"], "prefixMatch": [f"{needs.bucket}/{needs.folder}"]},
        "actions": {"baseBlob": {"delete": {"daysAfterModificationGreaterThan": needs.expire_days}}},
    }
    return {"rules": [{"name": "xcargo", "enabled": True, "type": "Lifecycle", "definition": definition}]}


def azure_sas_permissions(needs: Needs) -> str:
    """The letters of a shared access signature for the container."""
    return "rw" + ("d" if needs.delete else "") + ("l" if needs.list else "")


def azure_commands(needs: Needs) -> str:
    """Container, role and signature, by ``az``."""
    container = f"storageAccounts/{needs.account}/blobServices/default/containers/{needs.bucket}"
    return f"""\
az storage account update --name {needs.account} --allow-blob-public-access false
az storage container create --account-name {needs.account} --name {needs.bucket} \\
  --public-access off --auth-mode login
az role definition create --role-definition {_quoted(azure_role(needs))}
az role assignment create --assignee PRINCIPAL_ID --role 'xcargo {needs.bucket}' \\
  --scope {_GROUP}/providers/Microsoft.Storage/{container}
# Or a signature instead of a role, for the connection's sas_token; nobody renews it:
az storage container generate-sas --account-name {needs.account} --name {needs.bucket} \\
  --permissions {azure_sas_permissions(needs)} --expiry EXPIRY --https-only --auth-mode login --as-user
"""


def azure_resources(needs: Needs) -> dict[str, dict[str, Any]]:
    """A container on Azure and its role."""
    role = azure_role(needs)
    resources: dict[str, dict[str, Any]] = {
        "azurerm_storage_container": {
            "name": needs.bucket,
            "storage_account_id": "STORAGE_ACCOUNT_ID",
            "container_access_type": "private",
        },
        "azurerm_role_definition": {
            "name": role["Name"],
            "scope": "RESOURCE_GROUP_ID",
            "permissions": {"data_actions": role["DataActions"]},
        },
        "azurerm_role_assignment": {
            "scope": "${azurerm_storage_container.xcargo.id}",
            "role_definition_id": "${azurerm_role_definition.xcargo.role_definition_resource_id}",
            "principal_id": "PRINCIPAL_ID",
        },
    }
    if needs.expire_days:
        expiry = {"delete_after_days_since_modification_greater_than": needs.expire_days}
        resources["azurerm_storage_management_policy"] = {
            "storage_account_id": "STORAGE_ACCOUNT_ID",
            "rule": {
                "name": "xcargo",
                "enabled": True,
                "filters": {"prefix_match": [f"{needs.bucket}/{needs.folder}"], "blob_types": ["blockBlob"]},
                "actions": {"base_blob": expiry},
            },
        }
    return resources


def _quoted(document: Mapping[str, Any]) -> str:
    return shlex.quote(json.dumps(document))


CLOUDS = {
    "aws": Cloud(("s3",), aws_policy, aws_commands, s3_lifecycle, aws_resources),
    "gcs": Cloud(("gs",), gcs_role, gcs_commands, gcs_lifecycle, gcs_resources),
    "azure": Cloud(("az",), azure_role, azure_commands, azure_lifecycle, azure_resources),
    "minio": Cloud(
        ("s3",), aws_policy, minio_commands, s3_lifecycle, minio_resources, providers={"minio": "aminueza/minio"}
    ),
}
