"""Unfinished uploads on S3 and Google Cloud Storage, through what these clouds' providers bring: obstore lists none.

Requests are those of the store itself: its credentials, endpoint, region, proxy and certificates (`Access`).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

from xcargo.errors import AccessDeniedError, MissingDependencyError, StoreError, StoreUnavailableError, XCargoError
from xcargo.model.root import Root
from xcargo.stores.base import Access, Upload, Uploads

__all__ = ["open_uploads"]

_ATTEMPTS = 3
_PAGE = 1000
_SILENT = {"HTTPClientError", "ConnectionError", "RequestException", "TransportError"}
"""Error classes of botocore, requests and google-auth for an answer that did not come."""
_GOOGLE_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_GOOGLE_FILES = ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH")
"""What the store's client reads of the environment, and Google's own library does not."""


def open_uploads(root: Root, access: Access, *, timeout_seconds: float) -> Uploads:
    """The unfinished uploads below a root on S3 or GCS. Makes no request.

    Args:
        root: Where the objects are.
        access: How the root's store is reached.
        timeout_seconds: For a request and each of its repetitions.

    Raises:
        MissingDependencyError: The cloud's library is not installed; says what to install or to set instead.
    """
    opened = _S3Uploads if root.scheme == "s3" else _GoogleUploads
    try:
        return opened(root, access, timeout_seconds)
    except ImportError as error:
        extra, cloud = ("amazon", "aws") if root.scheme == "s3" else ("google", "gcs")
        raise MissingDependencyError(
            f"Unfinished uploads cannot be listed without {error.name}, which is not installed here",
            hint=f"Run: pip install 'airflow-provider-xcargo[{extra}]', or let a rule of the bucket abort them: "
            f"'xcargo policy {cloud} --format commands' prints one",
        ) from error


class _Keys:
    """Whole keys in the bucket, and object keys below a root."""

    def __init__(self, root: Root) -> None:
        self.bucket = root.bucket
        self.folder = f"{root.prefix}/" if root.prefix else ""

    def listed(self, prefix: str) -> str:
        return f"{self.folder}{prefix}/" if prefix else self.folder

    def upload(self, key: str, upload_id: str, started_at: datetime) -> Upload:
        return Upload(key.removeprefix(self.folder), upload_id, started_at)

    def are_within(self, prefix: str) -> bool:
        """Whether a rule for this prefix of the bucket holds for every object below the root."""
        return self.folder.startswith(prefix)


class _S3Uploads:
    """By botocore, which comes with boto3 and with s3fs."""

    def __init__(self, root: Root, access: Access, timeout_seconds: float) -> None:
        from botocore import UNSIGNED
        from botocore.config import Config
        from botocore.session import Session

        config, client = access.config, access.client
        self._root = root
        self._keys = _Keys(root)
        self._who_pays = {"RequestPayer": "requester"} if config.get("request_payer") else {}
        self._certificates = _bundle(client)
        proxy = client.get("proxy_url")
        virtual = bool(config.get("virtual_hosted_style_request"))
        endpoint = config.get("endpoint")
        if endpoint and virtual:  # botocore puts the bucket's name before it itself
            endpoint = str(endpoint).replace(f"://{root.bucket}.", "://", 1)
        options: dict[str, Any] = {
            "connect_timeout": timeout_seconds,
            "read_timeout": timeout_seconds,
            "retries": {"total_max_attempts": _ATTEMPTS, "mode": "standard"},
            "s3": {"addressing_style": "virtual" if virtual else "path"},
            "proxies": {"http": proxy, "https": proxy} if proxy else None,
            "ignore_configured_endpoint_urls": True,
        }
        if config.get("skip_signature") in (True, "true"):
            options["signature_version"] = UNSIGNED
        with _mapped(root):
            keys = access.credentials() if access.credentials else {}
            self._client: Any = Session().create_client(
                "s3",
                region_name=config.get("region"),
                endpoint_url=endpoint,
                verify=not client.get("allow_invalid_certificates") and (self._certificates or None),
                aws_access_key_id=keys.get("access_key_id"),
                aws_secret_access_key=keys.get("secret_access_key"),
                aws_session_token=keys.get("token"),
                config=Config(**options),
            )

    def list(self, prefix: str = "") -> Iterator[Upload]:
        listed, marker = self._keys.listed(prefix), {"KeyMarker": "", "UploadIdMarker": ""}
        while marker:
            where = {"Bucket": self._keys.bucket, "Prefix": listed, **{n: v for n, v in marker.items() if v}}
            with _mapped(self._root):
                page = self._client.list_multipart_uploads(**where, MaxUploads=_PAGE, **self._who_pays)
            for upload in page.get("Uploads", []):
                if upload["Key"].startswith(listed):
                    yield self._keys.upload(upload["Key"], upload["UploadId"], upload["Initiated"])
            more = page.get("IsTruncated")
            after = {n: page.get(f"Next{n}", "") for n in ("KeyMarker", "UploadIdMarker")} if more else {}
            marker = after if after != marker else {}  # without new markers it would begin again

    def abort(self, upload: Upload) -> None:
        key = self._keys.folder + upload.key
        with _mapped(self._root, "NoSuchUpload"):
            self._client.abort_multipart_upload(
                Bucket=self._keys.bucket, Key=key, UploadId=upload.upload_id, **self._who_pays
            )

    def rule_days(self) -> int | None:
        rules: list[Any] = []
        with _mapped(self._root, "NoSuchLifecycleConfiguration"):
            rules = self._client.get_bucket_lifecycle_configuration(Bucket=self._keys.bucket)["Rules"]
        days = [
            rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
            for rule in rules
            if rule["Status"] == "Enabled"
            and "AbortIncompleteMultipartUpload" in rule
            and self._keys.are_within(_prefix_of(rule))
        ]
        return min(days, default=None)


def _prefix_of(rule: Mapping[str, Any]) -> str:
    """Beginning of the keys that a rule is for, which S3 takes in three places."""
    where = rule.get("Filter") or {}
    return str(where.get("Prefix") or where.get("And", {}).get("Prefix") or rule.get("Prefix") or "")


def _bundle(client: Mapping[str, Any]) -> str | None:
    """Path of a file with the system's certificates and that of the connection, which deletes itself at exit."""
    certificate = client.get("root_certificate")
    if not certificate:
        return None
    import atexit

    from botocore.httpsession import DEFAULT_CA_BUNDLE

    usual = Path(DEFAULT_CA_BUNDLE).read_text(encoding="utf-8")
    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as bundle:
        bundle.write(f"{usual}\n{certificate}")
    atexit.register(os.unlink, bundle.name)
    return bundle.name


class _GoogleUploads:
    """By google-auth and requests; the XML API alone lists uploads, and no library of Google's does it."""

    def __init__(self, root: Root, access: Access, timeout_seconds: float) -> None:
        from google.auth.transport.requests import AuthorizedSession
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        self._root = root
        self._keys = _Keys(root)
        self._seconds = timeout_seconds
        self._base = str(access.config.get("base_url") or "https://storage.googleapis.com").rstrip("/")
        with _mapped(root):
            self._session: Any = AuthorizedSession(_google_credentials(access))
        self._session.headers.update(access.client.get("default_headers", {}))
        statuses = [429, 500, 502, 503, 504]
        retry = Retry(_ATTEMPTS - 1, status_forcelist=statuses, allowed_methods=None, raise_on_status=False)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry))

    def list(self, prefix: str = "") -> Iterator[Upload]:
        listed, marker = self._keys.listed(prefix), {"key-marker": "", "upload-id-marker": ""}
        while marker:
            query = urlencode({"prefix": listed, "max-uploads": _PAGE, **{n: v for n, v in marker.items() if v}})
            page = self._xml(self._request("GET", f"/{quote(self._keys.bucket)}?uploads&{query}"))
            for node in page.iterfind("{*}Upload"):
                key, upload_id, started = (node.findtext(f"{{*}}{n}", "") for n in ("Key", "UploadId", "Initiated"))
                if key.startswith(listed):
                    yield self._keys.upload(key, upload_id, datetime.fromisoformat(started.replace("Z", "+00:00")))
            more = page.findtext("{*}IsTruncated") == "true"
            names = {"key-marker": "NextKeyMarker", "upload-id-marker": "NextUploadIdMarker"}
            after = {n: page.findtext(f"{{*}}{tag}", "") for n, tag in names.items()} if more else {}
            marker = after if after != marker else {}

    def abort(self, upload: Upload) -> None:
        key = quote(self._keys.folder + upload.key)
        self._request("DELETE", f"/{self._keys.bucket}/{key}?uploadId={quote(upload.upload_id, safe='')}", 404)

    def rule_days(self) -> int | None:
        bucket = self._request("GET", f"/storage/v1/b/{quote(self._keys.bucket)}?fields=lifecycle").json()
        days = [
            rule["condition"]["age"]
            for rule in bucket.get("lifecycle", {}).get("rule", [])
            if rule["action"]["type"] == "AbortIncompleteMultipartUpload"
            and "age" in rule["condition"]
            and any(map(self._keys.are_within, rule["condition"].get("matchesPrefix", [""])))
        ]
        return min(days, default=None)

    def _request(self, method: str, path: str, *allowed: int) -> Any:
        with _mapped(self._root):
            answer = self._session.request(method, self._base + path, timeout=self._seconds)
        if answer.status_code >= 400 and answer.status_code not in allowed:
            raise _refused(self._root, answer.status_code, " ".join(answer.text.split()))
        return answer

    def _xml(self, answer: Any) -> ElementTree.Element:
        try:
            return ElementTree.fromstring(answer.content)  # noqa: S314 - from the store that holds the values
        except ElementTree.ParseError as error:
            raise StoreError("The answer of the store is not XML", where=self._root) from error


def _google_credentials(access: Access) -> Any:
    """Google's own object for the credentials of the store."""
    import google.auth
    from google.auth.credentials import AnonymousCredentials
    from google.oauth2 import credentials, service_account

    if access.credentials is not None:
        return credentials.Credentials(access.credentials()["token"])
    key = access.config.get("service_account_key") or os.environ.get("GOOGLE_SERVICE_ACCOUNT_KEY")
    if key:
        account = {"token_uri": "https://oauth2.googleapis.com/token", **json.loads(key)}
        if account.get("disable_oauth"):
            return AnonymousCredentials()
        # As the store's client does it: no token service is asked.
        return service_account.Credentials.from_service_account_info(
            account, scopes=[_GOOGLE_SCOPE], always_use_jwt_access=True
        )
    files = [access.config.get("application_credentials"), *map(os.environ.get, _GOOGLE_FILES)]
    path = next(filter(None, files), None)
    if path:
        return google.auth.load_credentials_from_file(path, scopes=[_GOOGLE_SCOPE])[0]
    return google.auth.default(scopes=[_GOOGLE_SCOPE])[0]


@contextmanager
def _mapped(root: Root, *ignored: str) -> Iterator[None]:
    """Errors of these libraries as those of a store; nothing for an answer with an ignored code."""
    try:
        yield
    except (XCargoError, ImportError):
        raise
    except Exception as error:
        answer = getattr(error, "response", None)
        if isinstance(answer, dict):  # of botocore
            code = str(answer.get("Error", {}).get("Code"))
            if code not in ignored:
                status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
                raise _refused(root, status, " ".join(str(error).split())) from error
            return
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if _SILENT & {cls.__name__ for cls in type(error).__mro__}:
            raise StoreUnavailableError(f"The store does not answer: {text}", where=root) from error
        raise StoreError(f"Unfinished uploads cannot be listed: {text}", where=root) from error


def _refused(root: Root, status: int, text: str) -> StoreError:
    what = f"The store refuses with {status}: {text[:300]}"
    if status in (401, 403):
        cloud = "aws" if root.scheme == "s3" else "gcs"
        return AccessDeniedError(what, where=root, hint=f"Grant it: 'xcargo policy {cloud}' prints all that is needed")
    if status in (408, 429) or (status >= 500 and status != 501):
        return StoreUnavailableError(what, where=root)
    return StoreError(what, where=root)
