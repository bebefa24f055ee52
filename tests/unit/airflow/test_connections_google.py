"""A ``google_cloud_platform`` connection: what it gives the client, and what a storage server sees."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Server
from tests.unit.airflow.connection_kit import (
    SECRET,
    Connection,
    Recorder,
    access,
    options,
    put,
    put_and_get,
    seconds_left,
    set_variables,
    store,
)
from xcargo.errors import AccessDeniedError, ConfigurationError, StoreUnavailableError

pytestmark = pytest.mark.usefixtures("bare")

URL = "gs://my_conn@bucket/xcom"
PREFIXED = "extra__google_cloud_platform__keyfile_dict"


def conn(**extra: Any) -> Connection:
    return Connection("google_cloud_platform", extra=extra)


def issuer(record: Recorder) -> str:
    """Who signed the token of the last request."""
    payload = record.last.headers["authorization"].removeprefix("Bearer ").split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return str(claims["iss"])


@pytest.mark.parametrize("form", ["dict", "text", "prefixed", "file", "escaped"])
def test_each_spelling_of_a_key_reaches_the_client(key: dict[str, Any], tmp_path: Path, form: str) -> None:
    """As object, as text, under its older name, in a file, and with line ends that a form has escaped."""
    (tmp_path / "key.json").write_text(json.dumps(key))
    escaped = {**key, "private_key": key["private_key"].replace("\n", "\\n")}
    extras: dict[str, dict[str, Any]] = {
        "dict": {"keyfile_dict": key},
        "text": {"keyfile_dict": json.dumps(key)},
        "prefixed": {PREFIXED: json.dumps(key)},
        "file": {"key_path": str(tmp_path / "key.json")},
        "escaped": {"keyfile_dict": escaped},
    }
    made = options(URL, conn(**extras[form]))
    assert json.loads(made["service_account_key"]) == key
    assert made["skip_signature"] is False


@pytest.mark.parametrize("name", ["endpoint", "endpoint_url", "gcs.endpoint", "keyfile_dict"])
def test_each_spelling_of_an_endpoint_reaches_the_client(key: dict[str, Any], name: str) -> None:
    """In the extra or, as an emulator's key has it, in the key; before the environment's."""
    endpoint = "http://127.0.0.1:4443"
    extra = {"keyfile_dict": {**key, "gcs_base_url": endpoint}} if name == "keyfile_dict" else {name: endpoint}
    assert options(URL, conn(**{"keyfile_dict": key, **extra}))["base_url"] == endpoint


@pytest.mark.parametrize(
    "extra", [{"quota_project_id": "payer"}, {"gcs.requester-pays": True, "project": "payer"}], ids=str
)
def test_who_pays_travels_in_a_header(key: dict[str, Any], extra: dict[str, Any]) -> None:
    """Quota project and requester pays."""
    assert options(URL, conn(keyfile_dict=key, **extra))["default_headers"] == {"x-goog-user-project": "payer"}


@pytest.mark.servers
@pytest.mark.parametrize("form", ["key", "anonymous"])
def test_an_emulator(gcs_server: Server, form: str) -> None:
    """A key that needs no token, or ``is_anonymous``, puts and gets an object on an emulator."""
    connection = conn(is_anonymous=True, endpoint_url=gcs_server.endpoint)
    put_and_get(gcs_server.root, Connection(**gcs_server.connection) if form == "key" else connection, form)
    assert gcs_server.raw_get(f"demo/{form}") == b"value"


def test_a_service_account_signs_for_itself(
    wire: Recorder, key: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its token is signed here, no token service is asked, and no credentials of the environment count."""
    variables = {
        "GOOGLE_APPLICATION_CREDENTIALS": "/nowhere.json",
        "GOOGLE_BASE_URL": "http://127.0.0.1:1",
        "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps({**key, "client_email": "env@example.com"}),
        "GOOGLE_SKIP_SIGNATURE": "true",
    }
    set_variables(monkeypatch, variables)
    put(URL, conn(keyfile_dict={**key, "gcs_base_url": wire.url}))
    assert issuer(wire) == key["client_email"]
    assert [request.method for request in wire.requests] == ["PUT"]


@pytest.mark.parametrize("name", ["GOOGLE_BEARER_TOKEN", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH"])
def test_what_cannot_be_kept_out_is_refused(key: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A variable that the client would prefer to the connection's key is an error that names it."""
    monkeypatch.setenv(name, SECRET)
    with pytest.raises(ConfigurationError, match=f"{name}.*'my_conn'.*Unset") as caught:
        access(URL, conn(keyfile_dict=key))
    assert SECRET not in str(caught.value)


# --- the official hook and google-auth, with token services on loopback


@pytest.fixture
def external_account(wire: Recorder, tmp_path: Path) -> str:
    """Path of an identity federation whose token service is the recorder."""
    (tmp_path / "subject").write_text("subject-token")
    described = {
        "type": "external_account",
        # A pool outside of any project, so that nobody asks which project it is.
        "audience": "//iam.googleapis.com/locations/global/workforcePools/p/providers/x",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{wire.url}/token",
        "credential_source": {"file": str(tmp_path / "subject")},
    }
    path = tmp_path / "external.json"
    path.write_text(json.dumps(described))
    return str(path)


def numbered_tokens(record: Recorder, *, expires_in: int) -> None:
    """A token service whose every token is another."""
    record.replies["/token"] = lambda: {
        "access_token": f"token-{sum(r.target == '/token' for r in record.requests)}",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": expires_in,
    }


@pytest.mark.filterwarnings("default")
class TestHook:
    """What goes through the official hook."""

    @pytest.fixture(autouse=True)
    def _provider(self) -> None:
        pytest.importorskip("airflow.providers.google")

    def test_scopes(self, wire: Recorder, key: dict[str, Any]) -> None:
        """A scope is honoured by google-auth: its token service grants a token, which is then sent."""
        wire.replies["/token"] = {"access_token": "scoped", "expires_in": 3600, "token_type": "Bearer"}
        scope = "https://www.googleapis.com/auth/devstorage.read_write"
        put(URL, conn(keyfile_dict={**key, "token_uri": f"{wire.url}/token"}, scope=scope, endpoint=wire.url))
        assert wire.last.headers["authorization"] == "Bearer scoped"

    def test_an_external_account(self, wire: Recorder, external_account: str) -> None:
        """``credential_config_file`` (identity federation); a token that lasts is kept."""
        numbered_tokens(wire, expires_in=3600)
        opened = store(URL, conn(credential_config_file=external_account, endpoint=wire.url))
        opened.put("one", [b"value"])
        opened.put("two", [b"value"])
        assert [r.headers["authorization"] for r in wire.requests if r.method == "PUT"] == ["Bearer token-1"] * 2

    def test_a_token_is_renewed_near_its_end(self, wire: Recorder, external_account: str) -> None:
        """A token carries its expiry; asked again when it has nearly ended, a new one is fetched."""
        numbered_tokens(wire, expires_in=60)
        credentials = access(URL, conn(credential_config_file=external_account, endpoint=wire.url)).credentials
        assert credentials is not None
        first, second = credentials(), credentials()
        assert first["token"] != second["token"]
        assert 50 < seconds_left(first["expires_at"]) <= 60

    def test_an_impersonation(self, wire: Recorder, key: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """It asks Google's IAM for the other account's token (seen at a proxy that stops it)."""
        wire.replies["/token"] = {"access_token": "own", "expires_in": 3600}
        monkeypatch.setenv("HTTPS_PROXY", wire.url)
        keyfile = {**key, "token_uri": f"{wire.url}/token"}
        with pytest.raises(StoreUnavailableError, match="my_conn"):
            access(URL, conn(keyfile_dict=keyfile, impersonation_chain="other@p.iam.gserviceaccount.com"))
        assert {r.target for r in wire.requests if r.method == "CONNECT"} == {"iamcredentials.googleapis.com:443"}

    def test_a_refused_token(self, wire: Recorder, key: dict[str, Any]) -> None:
        """A token service that says no ends as AccessDeniedError naming the connection."""
        wire.replies["/token"] = (400, '{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}')
        connection = conn(keyfile_dict={**key, "token_uri": f"{wire.url}/token"}, scope="https://x", endpoint=wire.url)
        with pytest.raises(AccessDeniedError, match=r"'my_conn'.*invalid_grant") as caught:
            access(URL, connection)
        assert key["private_key"][40:80] not in str(caught.value)


# --- no credentials in the connection, or no connection


@pytest.mark.parametrize(("connection", "source"), [(None, "variable"), (conn(), "gcloud")], ids=["none", "empty"])
def test_default_credentials_of_a_service_account(
    wire: Recorder,
    key: dict[str, Any],
    bare: Path,
    monkeypatch: pytest.MonkeyPatch,
    connection: Connection | None,
    source: str,
) -> None:
    """Application Default Credentials of a service account, by variable or gcloud's file, are read by the client."""
    path = bare / ".config" / "gcloud" / "application_default_credentials.json"
    if source == "variable":
        path = bare / "adc.json"
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(key))
    monkeypatch.setenv("GOOGLE_BASE_URL", wire.url)
    put(URL if connection else "gs://bucket/xcom", connection)
    assert issuer(wire) == key["client_email"]


def test_default_credentials_of_another_kind(
    wire: Recorder, external_account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Federated default credentials, which the client cannot read, are read by google-auth."""
    pytest.importorskip("google.auth")
    numbered_tokens(wire, expires_in=3600)
    set_variables(monkeypatch, {"GOOGLE_APPLICATION_CREDENTIALS": external_account, "GOOGLE_BASE_URL": wire.url})
    put("gs://bucket/xcom")
    assert wire.last.headers["authorization"] == "Bearer token-1"
