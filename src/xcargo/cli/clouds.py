"""The clouds that there are rights for, and in which forms."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from xcargo.cli import rights, terraform
from xcargo.cli.rights import Needs
from xcargo.errors import ConfigurationError
from xcargo.model.root import Root

__all__ = ["CLOUDS", "Cloud", "root_in"]


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


def root_in(path: str | None, cloud: str, schemes: tuple[str, ...]) -> Root:
    """The root that is asked for, else the configured one if it lies in that cloud."""
    if path:
        root = Root.parse(path)
    else:
        from xcargo.cli.deployment import read_settings

        configured = read_settings().root
        if configured is None or configured.scheme not in schemes:
            raise ConfigurationError(
                f"The configured path does not lie in {cloud}: {configured or 'none is set'}",
                hint=f"Name one: --path {schemes[0]}://my-bucket/xcom",
            )
        root = configured
    if root.scheme not in schemes:
        raise ConfigurationError(f"{root} does not lie in {cloud}", hint=f"It begins with {schemes[0]}://.")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", root.bucket):  # it stands in scripts
        raise ConfigurationError(f"{root.bucket!r} is not the name of a bucket or container")
    return root
