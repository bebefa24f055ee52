"""obstore's clients for one root: built when first used, one for each kind of work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Literal

from xcargo.errors import ConfigurationError, XCargoError
from xcargo.model.root import Root
from xcargo.stores.base import Access, Limits
from xcargo.stores.error_mapping import first_line

__all__ = ["Clients", "Work"]

_SHARE_OF_SEVERAL = 0.4
"""Of the time, what one attempt may take that obstore repeats."""

Work = Literal["request", "upload", "several"]
"""One request, one whose body takes long to send, or several that obstore repeats one by one: parts, pages."""


class Clients:
    """The clients of a root, with the credentials that its connection gives."""

    def __init__(self, root: Root, access: Access, limits: Limits) -> None:
        self._root = root
        self._access = access
        self._limits = limits
        self._clients: dict[Work, Any] = {}
        self.credentials = _Credentials(access.credentials) if access.credentials else None

    def get(self, work: Work, seconds: float | None = None) -> Any:
        """The client for a kind of work, each of whose requests may take so many seconds.

        One with less time than usual is built for this call alone. Makes no request.

        Raises:
            ConfigurationError: The connection lacks what a client needs.
        """
        usual = self._limits.timeout_seconds * (0.9 if work == "several" else 0.5)
        if seconds is not None and seconds < usual:
            return self._build(work, max(seconds, 0.05))
        if work not in self._clients:
            self._clients.setdefault(work, self._build(work, usual))
        return self._clients[work]

    def _build(self, work: Work, seconds: float) -> Any:
        from obstore.store import AzureStore, GCSStore, S3Store

        root, config = self._root, dict(self._access.config)
        endpoint = str(config.get("endpoint") or config.get("base_url") or "")
        quiet = self._limits.timeout_seconds / 4
        attempt = min(seconds, self._limits.timeout_seconds * _SHARE_OF_SEVERAL) if work == "several" else seconds
        client = {
            "timeout": _duration(attempt),
            "connect_timeout": _duration(min(10.0, quiet, attempt)),
            "user_agent": "xcargo",
            # For how long nothing may arrive. An upload has no other sign of life than its answer.
            **({"read_timeout": _duration(min(quiet, seconds))} if work == "request" else {}),
            **({"allow_http": True} if endpoint.startswith("http://") else {}),
            **self._access.client,
        }
        options: dict[str, Any] = {
            "prefix": root.prefix or None,
            "config": config,
            "client_options": client,
            "retry_config": self._retries(seconds - attempt) if work == "several" else {"max_retries": 0},
            "credential_provider": self.credentials,
        }
        try:
            if root.scheme == "s3":
                # A single DELETE works everywhere; DeleteObjects is missing on some S3-compatible servers.
                config.setdefault("disable_bulk_delete", True)
                # Over TLS the channel protects the body; hashing it for the signature would halve the speed.
                config.setdefault("unsigned_payload", not endpoint.startswith("http://"))
                return S3Store(root.bucket, **options)
            if root.scheme == "gs":
                return GCSStore(root.bucket, **options)
            return AzureStore(root.bucket, **options)
        except XCargoError:
            raise
        except Exception as error:
            raise ConfigurationError(
                f"The connection does not give what a client needs: {first_line(error)}",
                where=root,
                hint="Check the fields of the Airflow connection named in the path.",
            ) from None

    def _retries(self, seconds: float) -> dict[str, Any]:
        """Repetitions by obstore, the last of which begins after so many seconds at the latest."""
        longest = min(self._limits.retry_max_wait_seconds, self._limits.timeout_seconds / 10)
        return {
            "max_retries": 100,
            "retry_timeout": timedelta(seconds=seconds),
            "backoff": {
                "init_backoff": timedelta(seconds=self._limits.retry_wait_seconds),
                "max_backoff": timedelta(seconds=longest),
                "base": 2,
            },
        }


class _Credentials:
    """Asks the connection for credentials, and keeps the error that obstore would only paraphrase."""

    def __init__(self, provider: Callable[[], Mapping[str, Any]]) -> None:
        self._provider = provider
        self.error: XCargoError | None = None

    def __call__(self) -> Mapping[str, Any]:
        try:
            credentials = self._provider()
        except XCargoError as error:
            self.error = error
            raise
        self.error = None
        return credentials


def _duration(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"
