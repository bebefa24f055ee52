"""Where objects are to go: answers of the user -> path, connection and extras. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xcargo.errors import ConfigurationError
from xcargo.model.root import Root

__all__ = ["CLOUDS", "Place"]

CLOUDS = ("aws", "gcs", "azure", "minio", "local")
_SCHEMES = {"aws": "s3", "minio": "s3", "gcs": "gs", "azure": "az"}


@dataclass(frozen=True)
class Place:
    """What the user answered. Empty credentials mean those of the machine: a role, a managed identity."""

    cloud: str
    bucket: str
    """Bucket or container; for ``local`` an absolute folder."""
    prefix: str = "xcom"
    connection_id: str = "xcargo"
    login: str = ""
    """Access key id (aws, minio)."""
    secret: str = field(default="", repr=False)
    """Secret key (aws, minio), account key or SAS token (azure), content of a key file (gcs)."""
    endpoint: str = ""
    region: str = ""
    role_arn: str = ""
    account: str = ""

    @property
    def needs_connection(self) -> bool:
        """Whether there is anything to say that the environment does not say by itself."""
        if self.cloud == "local":
            return False
        return bool(self.secret or self.endpoint or self.role_arn or self.account or self.region)

    def root(self) -> Root:
        """The root. Raises ConfigurationError for answers that make none."""
        if self.cloud == "local":
            return Root.parse(f"file://{self.bucket}")
        user = f"{self.connection_id}@" if self.needs_connection else ""
        return Root.parse(f"{_SCHEMES[self.cloud]}://{user}{self.bucket}/{self.prefix}".rstrip("/"))

    def connection(self) -> dict[str, Any]:
        """The Airflow connection in its JSON form; empty when none is needed."""
        if not self.needs_connection:
            return {}
        if self.cloud in ("aws", "minio"):
            extra = {"endpoint_url": self.endpoint, "region_name": self.region, "role_arn": self.role_arn}
            return _compact({"conn_type": "aws", "login": self.login, "password": self.secret, "extra": extra})
        if self.cloud == "gcs":
            keyfile = _key_file(self.secret) if self.secret else None
            extra_gcs = {"keyfile_dict": keyfile, "endpoint": self.endpoint}
            return _compact({"conn_type": "google_cloud_platform", "extra": extra_gcs})
        is_sas = "sig=" in self.secret
        host = self.endpoint
        return _compact(
            {
                "conn_type": "wasb",
                "login": self.account,
                "host": host,
                "password": "" if is_sas else self.secret,
                "extra": {"sas_token": self.secret if is_sas else ""},
            }
        )

    def variables(self) -> dict[str, str]:
        """What makes xcargo the backend, as variables; without the connection."""
        return {"AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend", "AIRFLOW__XCARGO__PATH": str(self.root())}

    def connection_variable(self) -> dict[str, str]:
        """The connection as a variable; it holds the secret."""
        found = self.connection()
        return {f"AIRFLOW_CONN_{self.connection_id.upper()}": json.dumps(found)} if found else {}

    def extras(self, requirements: str) -> set[str]:
        """Extras of our distribution: the provider where its hook is needed, and libraries the project uses itself."""
        found = {"amazon"} if self.role_arn else set()
        named = {line.strip().lower() for line in requirements.splitlines()}
        for library in ("pandas", "polars", "numpy"):
            if any(line == library or line.startswith((f"{library}=", f"{library}>", f"{library}<")) for line in named):
                found.add(library)
        return found


def _key_file(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigurationError("The key file is not JSON", hint="Give the file that Google Cloud let you download.")
    return found


def _compact(fields: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in fields.items():
        kept = {k: v for k, v in value.items() if v} if isinstance(value, dict) else value
        if kept:
            found[name] = kept
    return found
