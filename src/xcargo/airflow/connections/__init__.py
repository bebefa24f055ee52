"""Airflow connection -> access to a store. Every error names the connection and the field, never a value."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from xcargo.errors import (
    AccessDeniedError,
    ConfigurationError,
    MissingDependencyError,
    StoreUnavailableError,
    XCargoError,
)
from xcargo.model.root import Root
from xcargo.stores.base import Access, Uploads

__all__ = ["ConnectionFields", "RenewedCredentials", "StaticCredentials", "access_of"]

_CLOUDS = {"s3": "aws", "gs": "google", "az": "azure"}
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}
_LIBRARY_ERRORS: dict[str, type[XCargoError]] = {
    "ClientError": AccessDeniedError,
    "ClientAuthenticationError": AccessDeniedError,
    "RefreshError": AccessDeniedError,
    "ConnectionError": StoreUnavailableError,
    "HTTPClientError": StoreUnavailableError,
    "TimeoutError": StoreUnavailableError,
    "TransportError": StoreUnavailableError,
}
"""Error classes of botocore, azure-identity and google-auth, by name: a hook may have another client behind it."""


@dataclass(frozen=True)
class ConnectionFields:
    """A connection; for a root that names none, ``connection`` is None and everything else empty."""

    root: Root
    connection: Any = field(default=None, repr=False)
    conn_type: str = ""
    login: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    host: str = ""
    port: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, root: Root, connection: Any) -> ConnectionFields:
        """Read a connection. Raises ConfigurationError when it is empty, or its extra is not a JSON object."""
        if connection is None:
            return cls(root)
        extra = connection.extra_dejson
        is_object = isinstance(extra, Mapping)
        fields = cls(
            root,
            connection,
            conn_type=connection.conn_type or "",
            login=connection.login or "",
            password=connection.password or "",
            host=connection.host or "",
            port=connection.port,
            extra=extra if is_object else {},
        )
        if (extra and not is_object) or (not extra and not _is_json(getattr(connection, "extra", None))):
            raise fields.error("extra", "is not a JSON object")
        if not any((fields.conn_type, fields.login, fields.password, fields.host, extra)):
            # Airflow makes that of a text that is neither JSON nor a URI; the environment's credentials are not meant.
            raise ConfigurationError(
                f"{fields._who} holds nothing that Airflow can read",
                where=root,
                hint="Write it as JSON or as a URI, without quotes around it: docker's --env-file keeps those.",
            )
        return fields

    def require_type(self, allowed: tuple[str, ...]) -> None:
        """Raises ConfigurationError for a connection of another type. An untyped one passes."""
        if self.connection is not None and self.conn_type not in ("", *allowed):
            known = " or ".join(repr(name) for name in allowed)
            raise ConfigurationError(
                f"{self._who} is of type {self.conn_type!r}; {self.root.scheme}:// needs one of type {known}",
                where=self.root,
                hint="Write the id of another connection into the path, or correct the type of this one.",
            )

    def get(self, *names: str) -> Any:
        """The first of these extra fields that is set (None and "" are not), by its short or its prefixed name."""
        for name in names:
            for key in (name, f"extra__{self.conn_type}__{name}"):
                if self.extra.get(key) not in (None, ""):
                    return self.extra[key]
        return None

    def text(self, *names: str) -> str:
        """The first of these extra fields that is set, as stripped text, else ""."""
        value = self.get(*names)
        if isinstance(value, (Mapping, list, bool)):
            raise self.error(names[0], "must be text")
        return "" if value is None else str(value).strip()

    def flag(self, *names: str) -> bool | None:
        """The first of these extra fields that is set, as a bool; None when none is."""
        value = self.get(*names)
        if value is None or isinstance(value, bool):
            return value
        if str(value).lower() not in _FLAGS:
            raise self.error(names[0], "must be true or false")
        return _FLAGS[str(value).lower()]

    def mapping(self, name: str) -> Mapping[str, Any]:
        """An extra field that is a JSON object or text that holds one, ``a.b`` for one inside another; else empty."""
        outer, _, inner = name.rpartition(".")
        value = self.mapping(outer).get(inner) if outer else self.get(name)
        if value in (None, ""):
            return {}
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                # Not chained: the decoder's error holds the text.
                raise self.error(name, "is not valid JSON") from None
        if not isinstance(value, Mapping):
            raise self.error(name, "must be a JSON object")
        return value

    def choice(self, name: str, value: Any, allowed: tuple[str, ...]) -> str:
        """``value`` if it is allowed. Raises ConfigurationError naming the field and what is allowed."""
        if value not in allowed:
            raise self.error(name, f"must be one of {', '.join(allowed)}")
        return str(value)

    def url(self, name: str, value: Any, *, may_log_in: bool = False) -> str:
        """``value`` as an http(s) URL without a slash at its end; with user and password only if it may log in.

        Raises ConfigurationError; it must, because a client given something else panics or falls back to the public
        cloud.
        """
        text = str(value).strip().rstrip("/")
        try:
            parts = urlsplit(text)
            is_valid = parts.scheme in ("http", "https") and parts.port != 0
        except ValueError:  # a port that is not a number, a bracket that is not closed
            is_valid = False
        if is_valid:
            login, _, host = parts.netloc.rpartition("@")
            is_valid = may_log_in or not login
            is_valid &= bool(_HOST.fullmatch(re.sub(r":\d*$", "", host))) and ".." not in host
            is_valid &= not re.search(r"[\s?#\\]", text)
        if not is_valid:
            raise self.error(name, "must be a URL such as https://storage.example.com:9000")
        return text

    def pem(self, name: str, path: str) -> str:
        """The certificates of a PEM file. Raises ConfigurationError naming the field when there are none."""
        text = self.file(name, path)
        if "-----BEGIN CERTIFICATE-----" not in text:
            raise self.error(name, "names a file without a PEM certificate")
        return text

    def file(self, name: str, path: str) -> str:
        """The text of a file that a field names. Raises ConfigurationError when it cannot be read."""
        try:
            return Path(path).expanduser().read_text("utf-8", "replace")
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise self.error(name, f"names a file that cannot be read ({reason})") from None

    def library(self, module: str, *, needs: str, extra: str) -> Any:
        """Import a library that only some connections need.

        Raises:
            MissingDependencyError: It is not installed; with ``needs`` and the extra of this package that holds it.
        """
        try:
            return import_module(module)
        except ImportError as error:
            raise MissingDependencyError(
                f"{self._who} {needs}, which is not installed",
                where=self.root,
                hint=f"Run: pip install 'airflow-provider-xcargo[{extra}]'",
            ) from error

    def hook(self, module: str, name: str, *, extra: str) -> Any:
        """The class of an official hook, which takes this connection instead of looking it up.

        A look-up would be another request to the supervisor. Raises MissingDependencyError without the provider.
        """
        base = getattr(self.library(module, needs=f"needs the hook of the {extra.title()} provider", extra=extra), name)
        connection = self.connection

        class Hook(base):  # type: ignore[misc,valid-type]
            @classmethod
            def get_connection(cls, conn_id: str) -> Any:  # noqa: ARG003
                return connection

        return Hook

    @contextmanager
    def mapped_errors(self) -> Iterator[None]:
        """Errors of an official library, as ours: with its own words, but not with its values."""
        try:
            yield
        except XCargoError:
            raise
        except Exception as error:
            names = (cls.__name__ for cls in type(error).__mro__)
            kind = next((_LIBRARY_ERRORS[name] for name in names if name in _LIBRARY_ERRORS), ConfigurationError)
            text = re.sub(r"(https?://[^\s?]+)\?\S+", r"\1?…", " ".join(str(error).split()))
            text = re.sub(r"\bvalue: [^,]*", "value: …", text)[:300]
            raise kind(
                f"{self._who} gives no credentials: {type(error).__name__}: {text}",
                where=self.root,
                hint="Check the fields of the connection." if self.connection is not None else None,
            ) from error

    def error(self, name: str, what: str, *, hint: str = "Correct the field.") -> ConfigurationError:
        """The error for a field: which connection, which field, what it must be."""
        return ConfigurationError(
            f"{self._who}: {name} {what}", where=self.root, hint=None if self.connection is None else hint
        )

    def no_credentials(self, cloud: str, *, needed: str) -> ConfigurationError:
        """The error for want of credentials, with the fields that would give them."""
        path = f"{self.root.scheme}://connection_id@bucket/prefix"
        return ConfigurationError(
            f"{self._who} gives no {cloud} credentials",
            where=self.root,
            hint=f"Give it {needed}." if self.connection is not None else f"Name a connection in the path: {path}.",
        )

    @property
    def _who(self) -> str:
        return f"Connection {self.root.connection_id!r}" if self.connection is not None else "The environment"


def _is_json(extra: Any) -> bool:
    """Whether an extra that Airflow takes for empty is JSON, or nothing: what it cannot read counts as empty there.

    Without its endpoint, values meant for another store would go to the public cloud.
    """
    try:
        json.loads(str(extra or "").strip() or "{}")
    except ValueError:
        return False
    return True


class StaticCredentials:
    """Credentials that do not expire, in the client's terms. As a callable, they win over the environment's."""

    def __init__(self, **values: str | None) -> None:
        self._values = {**values, "expires_at": None}

    def __call__(self) -> Mapping[str, Any]:
        return dict(self._values)


class RenewedCredentials:
    """Credentials in the client's terms that an official library renews when it is asked for them.

    Asked once when they are made, so that an error comes with its cause and not in the first request. Raises
    AccessDeniedError, StoreUnavailableError or ConfigurationError when there are none.
    """

    def __init__(self, fields: ConnectionFields, read: Callable[[], Mapping[str, Any]]) -> None:
        self._fields = fields
        self._read = read
        self()

    def __call__(self) -> Mapping[str, Any]:
        with self._fields.mapped_errors():
            return self._read()


def access_of(root: Root, get_connection: Callable[[str], Any]) -> Access:
    """How to reach ``root``: as its Airflow connection says, or by the default credentials when it names none.

    What a connection says counts before the environment; credentials of the two are never mixed. Static credentials
    need no package of a cloud or provider and make no request; a role, a profile or an impersonation goes through the
    official hook, and may ask the cloud's token service right away.

    Args:
        root: Where objects are stored.
        get_connection: Gives an Airflow connection by its id; called once, and only if the root names one.

    Raises:
        ConfigurationError: A field cannot be used; it names connection and field, never a value.
        MissingDependencyError: With the ``pip install`` command.
        AccessDeniedError: The token service refuses.
    """
    if root.scheme in ("file", "memory"):
        return Access()
    connection = get_connection(root.connection_id) if root.connection_id else None
    cloud = import_module(f"xcargo.airflow.connections.{_CLOUDS.get(root.scheme, 'fsspec')}")
    access: Access = cloud.access(ConnectionFields.of(root, connection))
    return replace(access, uploads=partial(_uploads, root, access)) if root.scheme in ("s3", "gs") else access


def _uploads(root: Root, access: Access, timeout_seconds: float) -> Uploads:
    from xcargo.airflow.connections.uploads import open_uploads  # only sweeps need it

    return open_uploads(root, access, timeout_seconds=timeout_seconds)
