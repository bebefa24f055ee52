"""A ``google_cloud_platform`` connection, from its fields to what a storage server sees."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Server
from tests.unit.airflow.connection_kit import (
    SECRET,
    Connection,
    Recorder,
    access,
    from_json,
    seconds_left,
    store,
)
from xcargo.errors import AccessDeniedError, ConfigurationError, MissingDependencyError, StoreUnavailableError

pytestmark = pytest.mark.usefixtures("bare")

URL = "gs://my_conn@bucket/xcom"
PREFIX = "extra__google_cloud_platform__"
OPEN_KEY = {"client_email": "", "private_key": "", "private_key_id": "", "disable_oauth": True}


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


def conn(**extra: Any) -> Connection:
    return Connection("google_cloud_platform", extra=extra)


def put(connection: Connection | None = None, url: str = URL) -> None:
    store(url, connection).put("key", [b"value"])


def issuer(record: Recorder) -> str:
    """Who signed the token of the last request."""
    payload = record.last.headers["authorization"].removeprefix("Bearer ").split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return str(claims["iss"])


@pytest.mark.servers
@pytest.mark.parametrize("form", ["dict", "text", "prefixed", "file", "endpoint"])
def test_an_emulator_behind_a_key(gcs_server: Server, tmp_path: Path, form: str) -> None:
    """A key that needs no token, as dict, as text or in a file, puts and gets an object on an emulator."""
    described = gcs_server.connection
    keyfile = described["extra"]["keyfile_dict"]
    path = tmp_path / "key.json"
    path.write_text(json.dumps(keyfile))
    bare_key = {name: value for name, value in keyfile.items() if name != "gcs_base_url"}
    extra: dict[str, Any] = {
        "dict": {"keyfile_dict": keyfile},
        "text": {"keyfile_dict": json.dumps(keyfile)},
        "prefixed": {f"{PREFIX}keyfile_dict": json.dumps(keyfile)},
        "file": {"key_path": str(path)},
        "endpoint": {"keyfile_dict": bare_key, "gcs.endpoint": gcs_server.endpoint},
    }[form]
    opened = store(gcs_server.root, from_json({**described, "extra": extra}))
    opened.put(form, [b"value"])
    assert bytes(opened.get(form)) == b"value"
    assert gcs_server.raw_get(f"demo/{form}") == b"value"


@pytest.mark.servers
def test_an_anonymous_connection(gcs_server: Server) -> None:
    """``is_anonymous`` asks nobody for a token, not even for writing."""
    connection = conn(is_anonymous=True, endpoint_url=gcs_server.endpoint)
    opened = store(gcs_server.root, connection)
    opened.put("anonymous", [b"value"])
    assert bytes(opened.get("anonymous")) == b"value"


@pytest.mark.parametrize("form", ["keyfile_dict", "key_path", "escaped"])
def test_a_service_account_signs_for_itself(wire: Recorder, key: dict[str, Any], tmp_path: Path, form: str) -> None:
    """A key is used by the client alone: its token is signed here, no token service is asked."""
    path = tmp_path / "key.json"
    path.write_text(json.dumps(key))
    escaped = {**key, "private_key": key["private_key"].replace("\n", "\\n")}
    extra = {"keyfile_dict": {"keyfile_dict": key}, "key_path": {"key_path": str(path)}}.get(
        form, {f"{PREFIX}keyfile_dict": json.dumps(escaped)}
    )
    put(conn(endpoint=wire.url, **extra))
    assert issuer(wire) == key["client_email"]
    assert [request.method for request in wire.requests] == ["PUT"]


def test_the_environments_credentials_stay_out(
    wire: Recorder, key: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key of the connection holds against Application Default Credentials, endpoint and key of the environment."""
    for name, value in {
        "GOOGLE_APPLICATION_CREDENTIALS": "/nowhere.json",
        "GOOGLE_BASE_URL": "http://127.0.0.1:1",
        "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps({**key, "client_email": "env@example.com"}),
        "GOOGLE_SKIP_SIGNATURE": "true",
    }.items():
        monkeypatch.setenv(name, value)
    put(conn(keyfile_dict={**key, "gcs_base_url": wire.url}))
    assert issuer(wire) == key["client_email"]


@pytest.mark.parametrize("name", ["GOOGLE_BEARER_TOKEN", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH"])
def test_what_cannot_be_kept_out_is_refused(key: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A variable that the client would prefer to the connection's key is an error that names it."""
    monkeypatch.setenv(name, SECRET)
    with pytest.raises(ConfigurationError, match=f"{name}.*'my_conn'.*Unset") as caught:
        access(URL, conn(keyfile_dict=key))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "extra",
    [{"quota_project_id": "payer"}, {"gcs.requester-pays": True, "project": "payer"}],
    ids=["quota", "requester-pays"],
)
def test_who_pays(wire: Recorder, key: dict[str, Any], extra: dict[str, Any]) -> None:
    """Quota project and requester pays are told to the server."""
    put(conn(keyfile_dict=key, endpoint=wire.url, **extra))
    assert wire.last.headers["x-goog-user-project"] == "payer"


# --- the official hook, with token services on loopback


@pytest.fixture
def hook() -> None:
    pytest.importorskip("airflow.providers.google")


HOOK = [pytest.mark.usefixtures("hook"), pytest.mark.filterwarnings("default")]


def with_marks(*marks: Any) -> Any:
    def apply(test: Any) -> Any:
        for mark in marks:
            test = mark(test)
        return test

    return apply


@with_marks(*HOOK)
def test_scopes_go_through_the_hook(wire: Recorder, key: dict[str, Any]) -> None:
    """A scope is honoured by google-auth: its token service grants a token, which is then sent."""
    wire.replies["/token"] = {"access_token": "scoped", "expires_in": 3600, "token_type": "Bearer"}
    connection = conn(
        keyfile_dict={**key, "token_uri": f"{wire.url}/token"},
        scope="https://www.googleapis.com/auth/devstorage.read_write",
        endpoint=wire.url,
    )
    put(connection)
    assert wire.last.headers["authorization"] == "Bearer scoped"


def external_account(record: Recorder, tmp_path: Path) -> Path:
    """Workload identity federation whose token service is the recorder."""
    subject = tmp_path / "subject"
    subject.write_text("subject-token")
    path = tmp_path / "external.json"
    path.write_text(
        json.dumps(
            {
                "type": "external_account",
                # A pool outside of any project, so that nobody asks which project it is.
                "audience": "//iam.googleapis.com/locations/global/workforcePools/p/providers/x",
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "token_url": f"{record.url}/token",
                "credential_source": {"file": str(subject)},
            }
        )
    )
    return path


def numbered_tokens(record: Recorder, expires_in: int) -> None:
    """A token service whose every token is another."""
    record.replies["/token"] = lambda: {
        "access_token": f"token-{sum(r.target == '/token' for r in record.requests)}",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": expires_in,
    }


@with_marks(*HOOK)
def test_an_external_account_of_the_connection(wire: Recorder, tmp_path: Path) -> None:
    """``credential_config_file`` (identity federation) goes through the hook; a token that lasts is kept."""
    numbered_tokens(wire, 3600)
    connection = conn(credential_config_file=str(external_account(wire, tmp_path)), endpoint=wire.url)
    opened = store(URL, connection)
    opened.put("one", [b"value"])
    opened.put("two", [b"value"])
    assert [r.headers["authorization"] for r in wire.requests if r.method == "PUT"] == ["Bearer token-1"] * 2


@with_marks(*HOOK)
def test_a_token_is_renewed_near_its_end(wire: Recorder, tmp_path: Path) -> None:
    """A token carries its expiry; asked again when it has nearly ended, a new one is fetched."""
    numbered_tokens(wire, 60)
    found = access(URL, conn(credential_config_file=str(external_account(wire, tmp_path)), endpoint=wire.url))
    assert found.credentials is not None
    first, second = found.credentials(), found.credentials()
    assert first["token"] != second["token"]
    assert 50 < seconds_left(first["expires_at"]) <= 60


@with_marks(*HOOK)
def test_an_impersonation_asks_for_it(wire: Recorder, key: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """An ``impersonation_chain`` asks Google's IAM for the other account's token (seen at a proxy that stops it)."""
    wire.replies["/token"] = {"access_token": "own", "expires_in": 3600}
    monkeypatch.setenv("HTTPS_PROXY", wire.url)
    connection = conn(
        keyfile_dict={**key, "token_uri": f"{wire.url}/token"}, impersonation_chain="other@p.iam.gserviceaccount.com"
    )
    with pytest.raises(StoreUnavailableError, match="my_conn"):
        access(URL, connection)
    assert {r.target for r in wire.requests if r.method == "CONNECT"} == {"iamcredentials.googleapis.com:443"}


@with_marks(*HOOK)
def test_a_refused_token(wire: Recorder, key: dict[str, Any]) -> None:
    """A token service that says no ends as AccessDeniedError naming the connection."""
    wire.replies["/token"] = (400, '{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}')
    connection = conn(keyfile_dict={**key, "token_uri": f"{wire.url}/token"}, scope="https://x", endpoint=wire.url)
    with pytest.raises(AccessDeniedError, match=r"'my_conn'.*invalid_grant") as caught:
        access(URL, connection)
    assert key["private_key"][40:80] not in str(caught.value)


def test_the_provider_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the Google provider an impersonation ends in the install command."""
    monkeypatch.setitem(sys.modules, "airflow.providers.google.common.hooks.base_google", None)
    with pytest.raises(
        MissingDependencyError, match=r"'my_conn'.*Run: pip install 'airflow-provider-xcargo\[google\]'"
    ):
        access(URL, conn(impersonation_chain="x@example.com"))


# --- no credentials in the connection, or no connection


@pytest.mark.parametrize("connection", [None, conn()], ids=["no-connection", "empty-connection"])
@pytest.mark.parametrize("place", ["variable", "gcloud"])
def test_default_credentials_of_a_service_account(
    wire: Recorder,
    key: dict[str, Any],
    bare: Path,
    monkeypatch: pytest.MonkeyPatch,
    connection: Connection | None,
    place: str,
) -> None:
    """Application Default Credentials of a service account, by variable or gcloud's file, are read by the client."""
    path = bare / ".config" / "gcloud" / "application_default_credentials.json"
    if place == "variable":
        path = bare / "adc.json"
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(key))
    monkeypatch.setenv("GOOGLE_BASE_URL", wire.url)
    put(connection, URL if connection else "gs://bucket/xcom")
    assert issuer(wire) == key["client_email"]


def test_default_credentials_of_another_kind(wire: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Federated default credentials, which the client cannot read, are read by google-auth."""
    pytest.importorskip("google.auth")
    numbered_tokens(wire, 3600)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(external_account(wire, tmp_path)))
    monkeypatch.setenv("GOOGLE_BASE_URL", wire.url)
    put(None, "gs://bucket/xcom")
    assert wire.last.headers["authorization"] == "Bearer token-1"


def test_default_credentials_of_another_kind_need_google_auth(
    wire: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without google-auth they end in the install command."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(external_account(wire, tmp_path)))
    monkeypatch.setitem(sys.modules, "google.auth", None)
    with pytest.raises(MissingDependencyError, match=r"'external_account'.*airflow-provider-xcargo\[google\]"):
        access("gs://bucket/xcom")


def test_no_credentials_at_all() -> None:
    """Nothing around and no metadata service: said at once, with what to do."""
    with pytest.raises(ConfigurationError, match=r"no Google credentials.*gs://connection_id@bucket"):
        access("gs://bucket/xcom")


# --- complaints


@pytest.mark.parametrize(
    ("connection", "says"),
    [
        (Connection("aws", password=SECRET), "of type 'aws'; gs:// needs one of type 'google_cloud_platform'"),
        (conn(keyfile_dict=f"{{{SECRET}"), "keyfile_dict is not valid JSON"),
        (conn(keyfile_dict=[SECRET]), "keyfile_dict must be a JSON object"),
        (conn(keyfile_dict={"private_key": SECRET}), "keyfile_dict is not a service account key"),
        (conn(key_path="/nowhere.json"), "key_path names a file that cannot be read (No such file or directory)"),
        (conn(key_path=__file__), "key_path names a file that is not a JSON object"),
        (conn(key_path="/a", keyfile_dict={"private_key": SECRET}), "key_path and keyfile_dict cannot both be set"),
        (conn(keyfile_dict=OPEN_KEY, endpoint="127.0.0.1:4443"), "endpoint must be a URL"),
        (conn(keyfile_dict={**OPEN_KEY, "gcs_base_url": "4443"}), "keyfile_dict.gcs_base_url must be a URL"),
        (conn(is_anonymous="perhaps"), "is_anonymous must be true or false"),
    ],
)
def test_what_cannot_be_used_is_named(connection: Connection, says: str) -> None:
    """Each unusable field is a ConfigurationError with connection and field, never a secret."""
    with pytest.raises(ConfigurationError) as caught:
        access(URL, connection)
    assert says in str(caught.value)
    assert "'my_conn'" in str(caught.value)
    assert SECRET not in repr(caught.value) + str(caught.value)
    assert caught.value.__cause__ is None


def test_a_key_without_its_pem(wire: Recorder) -> None:
    """A key whose private_key is no PEM is refused when the store is opened, without being shown."""
    broken = {"client_email": "a@example.com", "private_key": SECRET, "private_key_id": "1"}
    with pytest.raises(ConfigurationError) as caught:
        put(conn(keyfile_dict=broken, endpoint=wire.url))
    assert SECRET not in str(caught.value)
