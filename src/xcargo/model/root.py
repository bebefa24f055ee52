"""Root: a configured base URL below which objects are stored, and the check that a URI is below it.

``s3://my_conn@bucket/prefix`` reads as Airflow's object storage URLs do: the user part is the id of an Airflow
connection, the host is the bucket or container. Aliases of a scheme are one scheme (``s3a`` and ``s3n`` are ``s3``;
``gcs`` is ``gs``; ``azblob abfs abfss adl wasb wasbs`` are ``az``). ``abfss://container@account.dfs.core.windows.net/p``
is Azure's own spelling: container and account, no connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import unquote, urlsplit

from xcargo.errors import ConfigurationError, EnvelopeError

__all__ = ["ALIASES", "Root"]

ALIASES = {
    "s3a": "s3",
    "s3n": "s3",
    "gcs": "gs",
    "azblob": "az",
    "azure": "az",
    "abfs": "az",
    "abfss": "az",
    "adl": "az",
    "wasb": "az",
    "wasbs": "az",
    "local": "file",
}

_OBJECT_STORES = ("s3", "gs", "az")
"""Stores whose client takes no empty segment in a path."""

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_OBJECT_KEY = re.compile(r"[A-Za-z0-9_.%~@-]+(/[A-Za-z0-9_.%~@-]+)*")
_AZURE_HOST = re.compile(r"([a-z0-9-]+)\.(dfs|blob)\.(core\.[a-z.]+|fabric\.microsoft\.com)")


@dataclass(frozen=True)
class Root:
    """Base URL in parts: canonical ``scheme``, ``bucket`` (empty for ``file``), ``prefix`` without outer slashes.

    ``connection_id`` names an Airflow connection and stays out of every URI that is written down; ``account`` is an
    Azure account named in the URL itself, by its host outside the public cloud.
    """

    scheme: str
    bucket: str
    prefix: str
    connection_id: str | None = None
    account: str | None = None

    @classmethod
    def parse(cls, url: str) -> Root:
        """Read a root from its URL.

        Raises:
            ConfigurationError: The URL is not one of a root; says why.
        """
        try:
            split = urlsplit(url.strip())
        except ValueError:  # brackets or characters that no host has
            split = urlsplit("")
        scheme = split.scheme.lower()
        if not _SCHEME.fullmatch(scheme) or "://" not in url:
            raise ConfigurationError(
                f"{_shown(url)!r} is not a storage URL",
                hint="Write it as scheme://connection_id@bucket/prefix, for example s3://my_aws_conn@my-bucket/xcom, "
                "or file:///absolute/folder.",
            )
        if split.query or split.fragment:
            raise ConfigurationError(
                f"{_shown(url)!r} has a query or fragment",
                hint="Set options of a store in its Airflow connection.",
            )
        scheme = ALIASES.get(scheme, scheme)
        user, _, host = split.netloc.rpartition("@")
        prefix = unquote(split.path) if scheme == "file" else split.path
        if any(part in (".", "..") for part in prefix.split("/")):
            raise ConfigurationError(f"{_shown(url)!r} has '.' or '..' in its path", hint="Write the path out.")
        if "//" in prefix.strip("/") and scheme in _OBJECT_STORES:
            raise ConfigurationError(f"{_shown(url)!r} has '//' in its path", hint="Write one slash.")
        # A slash in a password ends what is read as the host. No bucket has a colon in its name.
        if ":" in user or (":" in host and "@" in split.path and scheme in _OBJECT_STORES):
            raise ConfigurationError(
                "A storage URL holds a password",
                hint="Put credentials into an Airflow connection and write its id: scheme://connection_id@bucket/prefix.",
            )
        if scheme == "file":
            if host or not split.path.startswith("/"):
                raise ConfigurationError(
                    f"{_shown(url)!r} does not name an absolute folder",
                    hint="A local root has three slashes: file:///var/lib/airflow/xcom.",
                )
        elif not host:
            raise ConfigurationError(f"{_shown(url)!r} names no bucket or container")
        account = None
        azure = _AZURE_HOST.fullmatch(host) if scheme == "az" else None
        if azure and user:
            # Of a sovereign cloud the whole host is kept: the account's name alone would mean the public one.
            public = azure.group(3) == "core.windows.net"
            account, host, user = azure.group(1) if public else host, user, ""
        return cls(scheme, host, prefix.strip("/"), unquote(user) or None, account)

    def uri(self, key: str = "") -> str:
        """URI of an object key, without the connection id."""
        return self._below + key if key else self._below.removesuffix("/") if self.prefix else self._below

    @cached_property
    def _below(self) -> str:
        """What every URI below this root begins with."""
        return f"{self.scheme}://{self.bucket}/{self.prefix}/" if self.prefix else f"{self.scheme}://{self.bucket}/"

    def contains(self, uri: str) -> bool:
        """Whether ``uri`` is spelled as an object below this root. Pure text: no look-up, no normalisation."""
        return uri.startswith(self._below) and len(uri) > len(self._below)

    def object_key(self, uri: str) -> str:
        """Object key of a URI below this root, in the present spelling or that of pre-releases.

        Raises:
            EnvelopeError: xcargo would never have written this URI: another root, an empty or dotted segment, a
                character that object keys do not hold.
        """
        key = uri[len(self._below) :]
        if not self.contains(uri) or not _OBJECT_KEY.fullmatch(key) or {".", ".."} & set(key.split("/")):
            raise EnvelopeError(
                "The row refers to something that is not an object of a configured root",
                hint="It was not written by this deployment; look at who wrote the XCom.",
            )
        return key

    def __str__(self) -> str:
        user = f"{self.connection_id}@" if self.connection_id else ""
        return self.uri().replace("://", f"://{user}", 1)


def _shown(url: str) -> str:
    """The URL without a password that someone may have put into it."""
    return re.sub(r"//[^@]*:.*@", "//***@", url)
