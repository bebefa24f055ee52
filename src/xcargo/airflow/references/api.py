"""Requests of Airflow's REST API: signing in, repeating what may be repeated, and what a refusal means."""

from __future__ import annotations

import re
import time
import weakref
from functools import cached_property
from typing import Any

from xcargo.errors import AccessDeniedError, ConfigurationError, ReferencesUnavailableError

__all__ = ["Api"]

_ATTEMPTS = 5
_PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))


class Api:
    """The REST API at ``url``, such as ``https://airflow.example.org``. Methods may be called from many threads."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        username: str | None = None,
        password: str | None = None,
        timeout_seconds: float = 60.0,
    ) -> None:
        self.url = url.strip().rstrip("/")
        self._token = token
        self._user = (username or "", password or "")
        self._timeout_seconds = timeout_seconds
        if not re.match(r"https?://[^/]", self.url):
            raise ConfigurationError(
                f"{url!r} is not the URL of an Airflow",
                hint="Write it as the web page is opened, for example https://airflow.example.org.",
            )

    @cached_property
    def airflow_version(self) -> tuple[int, int]:
        """The Airflow that answers, such as (3, 3). Raises ConfigurationError if none does."""
        for path in ("api/v2/version", "api/v1/version"):
            answer = self._request("GET", f"{self.url}/{path}")
            if answer.status_code == 200 and (found := re.match(r"(\d+)\.(\d+)", str(answer.json().get("version")))):
                return int(found[1]), int(found[2])
        raise ConfigurationError(
            "No REST API of Airflow answers there", where=self.url, hint="Write the URL as the web page is opened."
        )

    def url_of(self, path: str) -> str:
        """The URL of a path below the API's own."""
        return f"{self.url}/api/{'v1' if self.airflow_version < (3, 0) else 'v2'}/{path}"

    def get(self, path: str, query: dict[str, Any]) -> Any:
        """The JSON of a path, or None if there is nothing there.

        A request that fails for a passing reason is repeated. Raises AccessDeniedError, and
        ReferencesUnavailableError for any other answer.
        """
        url = self.url_of(path)
        answer = self._request("GET", url, params=query, headers=self._signature)
        if answer.status_code == 404:
            return None
        if answer.status_code in (401, 403):
            raise AccessDeniedError(
                f"The REST API refuses the user ({answer.status_code})",
                where=url,
                hint="It takes a user who may read the XComs of every Dag.",
            )
        if answer.status_code != 200:
            raise ReferencesUnavailableError(
                f"The REST API answers {answer.status_code}",
                where=url,
                hint="What is referred to is not known, so nothing was deleted or moved.",
            )
        return answer.json()

    @cached_property
    def _signature(self) -> dict[str, str]:
        if self._token:
            return {"Authorization": f"Bearer {self._token}"}
        if not self._user[0]:
            return {}
        if self.airflow_version < (3, 0):
            import base64

            return {"Authorization": "Basic " + base64.b64encode(":".join(self._user).encode()).decode()}
        url = f"{self.url}/auth/token"
        answer = self._request("POST", url, json={"username": self._user[0], "password": self._user[1]})
        if answer.status_code not in (200, 201):
            raise AccessDeniedError(
                f"The REST API gives no token ({answer.status_code})",
                where=url,
                hint="Check the user's name and password, or give a token.",
            )
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    @cached_property
    def _client(self) -> Any:
        import httpx

        client = httpx.Client(timeout=self._timeout_seconds, follow_redirects=False)
        weakref.finalize(self, client.close)
        return client

    def _request(self, method: str, url: str, **options: Any) -> Any:
        import httpx

        for attempt in range(1, _ATTEMPTS + 1):
            try:
                answer = self._client.request(method, url, **options)
                if answer.status_code not in _PASSING or attempt == _ATTEMPTS:
                    return answer
            except httpx.TransportError as error:
                if attempt == _ATTEMPTS:
                    raise ReferencesUnavailableError(
                        f"The REST API does not answer: {error or type(error).__name__}",
                        where=url,
                        hint="What is referred to is not known, so nothing was deleted or moved.",
                    ) from error
            time.sleep(0.1 * 2**attempt)
        raise AssertionError
