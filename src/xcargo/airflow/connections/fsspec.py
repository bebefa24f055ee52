"""Connections for every other scheme: the file system that Airflow's providers or fsspec itself have for it."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any

from xcargo.airflow import load_backend
from xcargo.airflow.connections import ConnectionFields
from xcargo.errors import ConfigurationError, MissingDependencyError
from xcargo.model.root import Root
from xcargo.stores.base import Access

__all__ = ["access"]

_LOGIN = {"webhdfs": "user", "hdfs": "user", "arrow_hdfs": "user"}
"""Protocols whose file system has another name for the login than ``username``."""

_SSH_IGNORED = ("allow_host_key_change", "ciphers", "compress", "host_key_algorithms", "no_host_key_check", "ssh_args")
_SSH_NAMES = {"key_file": "key_filename", "private_key_passphrase": "passphrase", "conn_timeout": "timeout"}
"""Fields of an ``sftp`` or ``ssh`` connection -> paramiko's names."""


def access(fields: ConnectionFields) -> Access:
    """Access by a file system that is made at first use. Raises ConfigurationError for a scheme that nobody knows.

    A scheme registered by an Airflow provider: that provider's, with the connection's id. Any other: fsspec's, with
    host, port, login and password of the connection, and its extra as further options of the file system.
    """
    root = fields.root
    # Looked up now and not at first use: what a library takes to load is not the store's time, which is bounded.
    official = _provided(root.scheme)
    if official is not None:
        return Access(filesystem=partial(official, root.scheme, root.connection_id))
    kind = _class(root)
    return Access(filesystem=lambda: _filesystem(fields, kind))


def _provided(scheme: str) -> Callable[[str, str | None], Any] | None:
    """What makes the file system of a scheme that an Airflow provider has registered. None without Airflow, too."""
    try:
        load_backend()
    except ModuleNotFoundError as error:
        if error.name != "airflow":
            raise
        return None
    from xcargo.airflow import compat

    return compat.get_filesystem(scheme)


def _class(root: Root) -> Callable[..., Any]:
    """fsspec's class for a scheme. Raises ConfigurationError if there is none."""
    try:
        import fsspec
    except ImportError as error:
        raise MissingDependencyError(
            f"{root.scheme}:// needs fsspec, which is not installed here",
            where=root,
            hint="Run: pip install 'airflow-provider-xcargo[fsspec]'",
        ) from error
    try:
        return fsspec.get_filesystem_class(root.scheme)  # type: ignore[no-any-return]
    except ImportError as error:
        raise MissingDependencyError(f"{root.scheme}:// needs another package: {error}", where=root) from error
    except ValueError as error:
        raise ConfigurationError(
            f"No store is known for the scheme {root.scheme!r}: {error}",
            where=root,
            hint="Known are s3, gs, az, file, and every protocol of fsspec and of the installed providers.",
        ) from error


def _filesystem(fields: ConnectionFields, kind: Callable[..., Any]) -> Any:
    root = fields.root
    try:
        if fields.connection is None:
            import fsspec

            return fsspec.url_to_fs(root.uri())[0]
        return kind(**_options(fields))
    except ImportError as error:
        raise MissingDependencyError(f"{root.scheme}:// needs another package: {error}", where=root) from error
    except TypeError as error:
        # Python's message names the argument, not its value.
        raise ConfigurationError(
            f"The file system of {root.scheme}:// refuses connection {root.connection_id!r}: {error}",
            where=root,
            hint="The connection's extra holds options of that file system.",
        ) from error


def _options(fields: ConnectionFields) -> dict[str, Any]:
    """Keyword arguments of the file system. The connection's host counts before the host in the path."""
    root = fields.root
    options = {
        "host": fields.host or root.bucket,
        "port": fields.port,
        _LOGIN.get(root.scheme, "username"): fields.login,
        "password": fields.password,
    }
    extra = _ssh_options(fields) if root.scheme in ("sftp", "ssh") else fields.extra
    return {**{name: value for name, value in options.items() if value not in (None, "")}, **extra}


def _ssh_options(fields: ConnectionFields) -> dict[str, Any]:
    """The extra of an ``sftp`` or ``ssh`` connection under paramiko's names.

    The file system cannot check a host key, so a connection that asks for the check is refused rather than weakened.
    """
    extra = dict(fields.extra)
    if extra.pop("host_key", None) or fields.flag("no_host_key_check") is False:
        raise fields.error("host_key", "cannot be checked by the file system; leave out host_key and no_host_key_check")
    options = {_SSH_NAMES.get(name, name): value for name, value in extra.items() if name not in _SSH_IGNORED}
    key = options.pop("private_key", None)
    if key:
        options["pkey"] = _private_key(fields, str(key), options.get("passphrase"))
    return options


def _private_key(fields: ConnectionFields, text: str, passphrase: str | None) -> Any:
    import paramiko  # type: ignore[import-untyped,unused-ignore]

    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key(io.StringIO(text), passphrase)
        except (paramiko.SSHException, ValueError):
            continue
    raise fields.error("private_key", "is not a private key that can be read with private_key_passphrase")
