"""Fixtures of the connection tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.airflow.connection_kit import Recorder, bare, recorder

__all__ = ["bare"]


@pytest.fixture
def wire() -> Iterator[Recorder]:
    """A recorder on loopback, without TLS."""
    with recorder() as record:
        yield record


@pytest.fixture(scope="module")
def key() -> dict[str, Any]:
    """A service account key of nobody."""
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()).decode()
    return {
        "type": "service_account",
        "project_id": "my-project",
        "private_key_id": "key-1",
        "private_key": pem,
        "client_email": "xcom@my-project.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "http://127.0.0.1:1/token",
    }
