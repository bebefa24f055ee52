"""The peers and their environments: their requirements collide with Airflow's and with one another's."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests.matrix.environments import clean_environ, find_uv

__all__ = ["PEERS", "Peer", "python_of", "settings"]

_CHECKOUT = Path(__file__).resolve().parents[2]
_STAMP = "requirements.txt"


@dataclass(frozen=True)
class Peer:
    """What is installed for a peer, and what is imported before a value is pushed or pulled."""

    requirements: tuple[str, ...]
    modules: tuple[str, ...]


_VALUES = ("pandas", "pyarrow.parquet", "benchmarks.peers.measure")

PEERS = {
    "dagster": Peer(("dagster==1.13.27", "dagster-aws==0.29.27"), (*_VALUES, "dagster_aws.s3")),
    "prefect": Peer(("prefect==3.9.1", "prefect-aws==0.7.12"), (*_VALUES, "prefect.results", "prefect_aws", "boto3")),
    "metaflow": Peer(
        ("metaflow==2.19.39", "boto3==1.44.8"),
        (*_VALUES, "metaflow.datastore", "metaflow.plugins.datastores.s3_storage", "boto3"),
    ),
    "zenml": Peer(
        ("zenml==0.98.0", "s3fs==2026.9.0", "boto3"),
        (*_VALUES, "zenml.integrations.s3.artifact_stores.s3_artifact_store", "zenml.materializers"),
    ),
    "flyte": Peer(("flytekit==1.16.31", "s3fs==2026.9.0"), (*_VALUES, "flytekit", "flytekit.types.numpy", "s3fs")),
    "pickle-boto3": Peer(("boto3==1.44.8",), (*_VALUES, "boto3")),
    "pandas-s3fs": Peer(("s3fs==2026.9.0",), (*_VALUES, "s3fs")),
}


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment below ``.venv-peers``, which is made at first need.

    Every environment has the same numpy, pandas and pyarrow as this one: all push the same values.
    """
    environment = _CHECKOUT / ".venv-peers" / name
    python, stamp = environment / "bin" / "python", environment / _STAMP
    shared = [f"{package}=={version(package)}" for package in ("numpy", "pandas", "pyarrow")]
    requirements = "\n".join([*PEERS[name].requirements, *shared])
    if not stamp.exists() or stamp.read_text() != requirements:
        shutil.rmtree(environment, ignore_errors=True)
        _uv("venv", "--python", str(_CHECKOUT / ".venv" / "bin" / "python"), str(environment))
        _uv("pip", "install", "--python", str(python), *requirements.splitlines())
        stamp.write_text(requirements)  # last: a half-made environment has none
    return python


def settings(home: Path) -> dict[str, str]:
    """Variables of a peer's process: files go to ``home``, and nothing is reported to its makers."""
    home.mkdir(parents=True, exist_ok=True)
    return {
        "HOME": str(home),
        "DO_NOT_TRACK": "1",
        "METAFLOW_ARTIFACT_LOCALROOT": str(home),
        "METAFLOW_USER": "bench",
        "ZENML_ANALYTICS_OPT_IN": "false",
    }


def _uv(*arguments: str) -> None:
    subprocess.run([*find_uv(), "--quiet", *arguments], cwd=_CHECKOUT, env=clean_environ(), check=True)
