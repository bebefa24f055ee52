"""Which storage account, and where: out of a connection's fields, a connection string, or the environment."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from xcargo.airflow.connections.fields import Fields, url

__all__ = ["Account", "ConnectionString", "of_connection", "of_environment"]

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,62}")
_EMULATOR_ACCOUNT = "devstoreaccount1"
# Published by Microsoft as the key of every storage emulator.
_EMULATOR_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True)
class Account:
    """Account name and Blob endpoint; an empty endpoint leaves it to the client and its environment."""

    name: str
    endpoint: str = ""

    def config(self) -> dict[str, Any]:
        """The client's options. An endpoint of ours also rules out AZURE_STORAGE_USE_EMULATOR's."""
        if not self.endpoint:
            return {"account_name": self.name}
        return {"account_name": self.name, "endpoint": self.endpoint, "use_emulator": False}


@dataclass(frozen=True)
class ConnectionString:
    """The parts of a connection string that concern blobs. ``repr`` would hold the key and is not generated."""

    account: Account
    key: str
    sas: str

    def __repr__(self) -> str:
        return f"ConnectionString({self.account!r})"

    @classmethod
    def parse(cls, fields: Fields, text: str) -> ConnectionString:
        """Read ``Name=value;...``. Raises ConfigurationError when no account can be told from it."""
        name = "connection_string"
        parts: dict[str, str] = {}
        for part in filter(None, (piece.strip() for piece in text.split(";"))):
            key, equals, value = part.partition("=")
            if not equals:
                raise fields.error(name, "must be parts Name=value with semicolons between them")
            parts[key.strip().lower()] = value.strip()
        if parts.get("usedevelopmentstorage", "").lower() == "true":
            base = url(fields, name, parts.get("developmentstorageproxyuri") or "http://127.0.0.1")
            emulator = Account(_EMULATOR_ACCOUNT, f"{base}:10000/{_EMULATOR_ACCOUNT}")
            return cls(emulator, _EMULATOR_KEY, "")
        account_name = parts.get("accountname", "")
        endpoint = parts.get("blobendpoint", "")
        if endpoint:
            account = _of_url(fields, name, endpoint, account_name)
        elif account_name:
            protocol = fields.choice(name, parts.get("defaultendpointsprotocol") or "https", ("http", "https"))
            suffix = parts.get("endpointsuffix") or "core.windows.net"
            account = Account(
                _checked(fields, name, account_name), url(fields, name, f"{protocol}://{account_name}.blob.{suffix}")
            )
        else:
            raise fields.error(name, "must hold AccountName or BlobEndpoint")
        return cls(account, parts.get("accountkey", ""), parts.get("sharedaccesssignature", ""))


def of_connection(fields: Fields, sas_url: str, *, login_is_account: bool) -> Account:
    """The account of a connection: its ``account_name``, host, the URL of its SAS, or its login, if that is a name.

    Raises ConfigurationError when it names none.
    """
    name = fields.text("account_name")
    account_host = fields.text("account_host")
    if account_host:
        return _of_url(fields, "account_host", account_host, name)
    if sas_url:
        parts = urlsplit(sas_url)
        return _of_url(fields, "sas_token", f"{parts.scheme}://{parts.netloc}{_first_segment(parts)}", name)
    if fields.host and ("." in fields.host or ":" in fields.host or "/" in fields.host):
        return _of_url(fields, "host", fields.host, name)
    if name:
        return _public(fields, "account_name", name)
    # A host without a dot beside an account as login is what the official hook ignores.
    if login_is_account and fields.login:
        return _public(fields, "login", fields.login)
    if fields.host:
        return _public(fields, "host", fields.host)
    environment = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    if environment:
        return Account(_checked(fields, "(from the environment) AZURE_STORAGE_ACCOUNT_NAME", environment))
    raise fields.error("host", "must name the storage account, as https://account.blob.core.windows.net or account")


def of_environment(fields: Fields) -> Account:
    """The account of a root without a connection."""
    name = fields.root.account or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")
    if not name:
        raise fields.error(
            "AZURE_STORAGE_ACCOUNT_NAME",
            "is not set and the path names no account: write az://connection_id@container/prefix "
            "or abfss://container@account.dfs.core.windows.net/prefix",
        )
    if "." in name and fields.root.account:
        return _of_url(fields, "the account in the path", name, "")
    if fields.root.account:
        return Account(_checked(fields, "the account in the path", name))
    # The client reads this variable too, but must be told here whether http is meant.
    endpoint = os.environ.get("AZURE_STORAGE_ENDPOINT") or os.environ.get("AZURE_ENDPOINT")
    return Account(name, url(fields, "AZURE_STORAGE_ENDPOINT", endpoint) if endpoint else "")


def _public(fields: Fields, field: str, name: str) -> Account:
    return Account(_checked(fields, field, name), f"https://{name}.blob.core.windows.net")


def _of_url(fields: Fields, field: str, text: str, name: str) -> Account:
    """An account by URL or host name: ``account.blob.…``, or for an emulator ``host:port/account``."""
    endpoint = url(fields, field, text if "://" in text else f"https://{text}")
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    segment = _first_segment(parts)
    if segment or "." not in host or _is_ip(host):
        account = name or segment.strip("/")
        if not account:
            raise fields.error(field, "must end with the account name, as http://127.0.0.1:10000/account")
        return Account(_checked(fields, field, account), f"{parts.scheme}://{parts.netloc}/{account}")
    # The Blob API, which the client speaks, has its own host beside that of Data Lake Storage.
    netloc = parts.netloc.replace(".dfs.core.", ".blob.core.", 1)
    return Account(_checked(fields, field, name or host.partition(".")[0]), f"{parts.scheme}://{netloc}")


def _first_segment(parts: Any) -> str:
    """``/account`` of an emulator's URL, else ""; the path of an account's own host is a container."""
    host = parts.hostname or ""
    first = parts.path.strip("/").partition("/")[0]
    return f"/{first}" if first and ("." not in host or _is_ip(host)) else ""


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _checked(fields: Fields, field: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise fields.error(field, "must name a storage account: lower case letters and digits")
    return name
