"""The clouds that there are rights for, and in which forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from xcargo.cli import rights, terraform
from xcargo.cli.rights import Needs

__all__ = ["CLOUDS", "Cloud"]


@dataclass(frozen=True)
class Cloud:
    """What there is to print for a cloud."""

    schemes: tuple[str, ...]
    document: Callable[[Needs], Mapping[str, Any]]
    """The policy or role, as the cloud's JSON."""
    commands: Callable[[Needs], str]
    """A shell script with the cloud's own command that makes bucket, identity and grant."""
    terraform: Callable[[Needs], str]


CLOUDS = {
    "aws": Cloud(("s3",), rights.aws_policy, rights.aws_commands, terraform.aws),
    "gcs": Cloud(("gs",), rights.gcs_role, rights.gcs_commands, terraform.gcs),
    "azure": Cloud(("az",), rights.azure_role, rights.azure_commands, terraform.azure),
    "minio": Cloud(("s3",), rights.aws_policy, rights.minio_commands, terraform.minio),
}
