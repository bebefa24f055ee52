"""The same rights, bucket and identity for Terraform and OpenTofu. Pure."""

from __future__ import annotations

import json
from typing import Any

from xcargo.cli.hcl import Template, block
from xcargo.cli.rights import Needs, aws_policy, azure_role, gcs_role

__all__ = ["aws", "azure", "gcs", "minio"]


def aws(needs: Needs) -> str:
    """Resources for a bucket on S3 and its policy."""
    rule: dict[str, Any] = {
        "id": "xcargo",
        "status": "Enabled",
        "filter {}": {"prefix": f"{needs.prefix}/" if needs.prefix else ""},
        "abort_incomplete_multipart_upload {}": {"days_after_initiation": 7},
    }
    if needs.expire_days:
        rule["expiration {}"] = {"days": needs.expire_days}
    bucket = Template("${aws_s3_bucket.xcargo.id}")
    return "\n".join(
        (
            block("resource", "aws_s3_bucket", "xcargo", body={"bucket": needs.bucket}),
            block(
                "resource",
                "aws_s3_bucket_public_access_block",
                "xcargo",
                body={
                    "bucket": bucket,
                    "block_public_acls": True,
                    "ignore_public_acls": True,
                    "block_public_policy": True,
                    "restrict_public_buckets": True,
                },
            ),
            block(
                "resource", "aws_s3_bucket_lifecycle_configuration", "xcargo", body={"bucket": bucket, "rule {}": rule}
            ),
            block(
                "resource",
                "aws_iam_policy",
                "xcargo",
                body={"name": f"xcargo-{needs.bucket}", "policy": json.dumps(aws_policy(needs))},
            ),
            "# Attach aws_iam_policy.xcargo.arn to the role or user of your workers.\n",
        )
    )


def minio(needs: Needs) -> str:
    """Resources for a bucket on MinIO and its user."""
    return "\n".join(
        (
            block("resource", "minio_s3_bucket", "xcargo", body={"bucket": needs.bucket, "acl": "private"}),
            block(
                "resource",
                "minio_iam_policy",
                "xcargo",
                body={"name": f"xcargo-{needs.bucket}", "policy": json.dumps(aws_policy(needs))},
            ),
            block("resource", "minio_iam_user", "xcargo", body={"name": "xcargo"}),
            block(
                "resource",
                "minio_iam_user_policy_attachment",
                "xcargo",
                body={
                    "user_name": Template("${minio_iam_user.xcargo.id}"),
                    "policy_name": Template("${minio_iam_policy.xcargo.id}"),
                },
            ),
        )
    )


def gcs(needs: Needs) -> str:
    """Resources for a bucket on GCS and its service account."""
    bucket: dict[str, Any] = {
        "name": needs.bucket,
        "location": "LOCATION",
        "uniform_bucket_level_access": True,
        "public_access_prevention": "enforced",
    }
    below = {"matches_prefix": [f"{needs.prefix}/"]} if needs.prefix else {}
    ages = {"AbortIncompleteMultipartUpload": 7, **({"Delete": needs.expire_days} if needs.expire_days else {})}
    bucket["lifecycle_rule {}"] = [
        {"action {}": {"type": action}, "condition {}": {"age": age, **below}} for action, age in ages.items()
    ]
    return "\n".join(
        (
            block("resource", "google_storage_bucket", "xcargo", body=bucket),
            block(
                "resource",
                "google_project_iam_custom_role",
                "xcargo",
                body={"role_id": "xcargo", "title": "xcargo", "permissions": gcs_role(needs)["includedPermissions"]},
            ),
            block(
                "resource",
                "google_service_account",
                "xcargo",
                body={"account_id": "xcargo", "display_name": "Airflow XComs"},
            ),
            block(
                "resource",
                "google_storage_bucket_iam_member",
                "xcargo",
                body={
                    "bucket": Template("${google_storage_bucket.xcargo.name}"),
                    "role": Template("${google_project_iam_custom_role.xcargo.id}"),
                    "member": Template("serviceAccount:${google_service_account.xcargo.email}"),
                },
            ),
        )
    )


def azure(needs: Needs) -> str:
    """Resources for a container on Azure and its role."""
    role = azure_role(needs)
    container = Template("${azurerm_storage_container.xcargo.id}")
    parts = [
        block(
            "resource",
            "azurerm_storage_container",
            "xcargo",
            body={
                "name": needs.bucket,
                "storage_account_id": "STORAGE_ACCOUNT_ID",
                "container_access_type": "private",
            },
        ),
        block(
            "resource",
            "azurerm_role_definition",
            "xcargo",
            body={
                "name": role["Name"],
                "scope": "RESOURCE_GROUP_ID",
                "permissions {}": {"data_actions": role["DataActions"]},
            },
        ),
        block(
            "resource",
            "azurerm_role_assignment",
            "xcargo",
            body={
                "scope": container,
                "role_definition_id": Template("${azurerm_role_definition.xcargo.role_definition_resource_id}"),
                "principal_id": "PRINCIPAL_ID",
            },
        ),
    ]
    if needs.expire_days:
        below = f"{needs.bucket}/{needs.prefix}/" if needs.prefix else f"{needs.bucket}/"
        rule = {
            "name": "xcargo",
            "enabled": True,
            "filters {}": {"prefix_match": [below], "blob_types": ["blockBlob"]},
            "actions {}": {"base_blob {}": {"delete_after_days_since_modification_greater_than": needs.expire_days}},
        }
        parts.append(
            block(
                "resource",
                "azurerm_storage_management_policy",
                "xcargo",
                body={"storage_account_id": "STORAGE_ACCOUNT_ID", "rule {}": rule},
            )
        )
    return "\n".join(parts)
