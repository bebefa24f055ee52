"""The fields of a connection, read with complaints that name connection and field, never a value."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from xcargo.errors import ConfigurationError, MissingDependencyError, XCargoError
from xcargo.model.root import Root

__all__ = ["Fields", "pem", "url"]

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}


@dataclass(frozen=True)
class Fields:
    """A connection, or nothing (``connection`` is None, everything else empty) for a root that names none."""

    root: Root
    connection: Any = field(default=None, repr=False)
    conn_type: str = ""
    login: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    host: str = ""
    port: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, root: Root, connection: Any) -> Fields:
        """Read a connection. Raises ConfigurationError when its extra is not a JSON object."""
        if connection is None:
            return cls(root)
        extra = connection.extra_dejson
        found = cls(
            root,
            connection,
            connection.conn_type or "",
            connection.login or "",
            connection.password or "",
            connection.host or "",
            connection.port,
            extra if isinstance(extra, Mapping) else {},
        )
        if extra and not isinstance(extra, Mapping):
            raise found.error("extra", "is not a JSON object")
        return found

    def require_type(self, allowed: tuple[str, ...]) -> None:
        """Raises ConfigurationError for a connection of another type. An untyped one passes."""
        if self.connection is not None and self.conn_type not in ("", *allowed):
            known = " or ".join(repr(name) for name in allowed)
            raise ConfigurationError(
                f"Connection {self.root.connection_id!r} is of type {self.conn_type!r}; "
                f"{self.root.scheme}:// needs one of type {known}",
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
        """An extra field that is a JSON object, or text that holds one; empty when it is not set."""
        value = self.get(name)
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                # Not chained: the decoder's error holds the text.
                raise self.error(name, "is not valid JSON") from None
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self.error(name, "must be a JSON object")
        return value

    def choice(self, name: str, value: Any, allowed: tuple[str, ...]) -> str:
        """``value`` if it is allowed. Raises ConfigurationError naming the field and what is allowed."""
        if value not in allowed:
            raise self.error(name, f"must be one of {', '.join(allowed)}")
        return str(value)

    def error(self, name: str, what: str) -> ConfigurationError:
        """The error for a field: which connection, which field, what it must be."""
        who = f"Connection {self.root.connection_id!r}" if self.connection is not None else "The environment"
        return ConfigurationError(
            f"{who}: {name} {what}", where=self.root, hint=None if self.connection is None else "Correct the field."
        )

    def missing(self, what: str, package: str, extra: str) -> MissingDependencyError:
        """The error for a package that is not installed."""
        who = f"Connection {self.root.connection_id!r}" if self.connection is not None else "This environment"
        return MissingDependencyError(
            f"{who} {what}, for which {package} is not installed",
            where=self.root,
            hint=f"Run: pip install 'airflow-provider-xcargo[{extra}]'",
        )

    def failed(self, kind: type[XCargoError], error: Exception) -> XCargoError:
        """``kind`` for credentials that could not be had, with the official library's own words but not its values."""
        who = f"connection {self.root.connection_id!r}" if self.connection is not None else "this environment"
        text = re.sub(r"(https?://[^\s?]+)\?\S+", r"\1?…", " ".join(str(error).split()))
        text = re.sub(r"\bvalue: [^,]*", "value: …", text)[:300]
        return kind(
            f"No credentials could be had for {who}: {type(error).__name__}: {text}",
            where=self.root,
            hint="Check the fields of the connection." if self.connection is not None else None,
        )


def url(fields: Fields, name: str, value: Any, *, may_log_in: bool = False) -> str:
    """``value`` as an http(s) URL without a slash at its end; with user and password only if it may log in.

    Raises ConfigurationError; it must, because a client given something else panics or falls back to the public cloud.
    """
    text = str(value).strip().rstrip("/")
    try:
        parts = urlsplit(text)
        is_right = parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        is_right = False
    if is_right:
        login, _, host = parts.netloc.rpartition("@")
        is_right = may_log_in or not login
        is_right &= bool(_HOST.fullmatch(re.sub(r":\d*$", "", host))) and ".." not in host
        is_right &= not re.search(r"[\s?#\\]", text)
    if not is_right:
        raise fields.error(name, "must be a URL such as https://storage.example.com:9000")
    return text


def pem(fields: Fields, name: str, path: str) -> str:
    """The certificates of a PEM file. Raises ConfigurationError naming the field when there are none."""
    try:
        text = Path(path).expanduser().read_text("ascii", "replace")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise fields.error(name, f"names a certificate file that cannot be read ({reason})") from None
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise fields.error(name, "names a file without a PEM certificate")
    return text
