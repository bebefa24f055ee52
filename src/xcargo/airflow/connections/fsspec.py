"""Connections for every other scheme: the file system that Airflow's providers or fsspec itself have for it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from xcargo.airflow.connections.fields import Fields
from xcargo.errors import ConfigurationError, MissingDependencyError
from xcargo.model.root import Root
from xcargo.stores.base import Access

__all__ = ["access"]

_LOGIN = {"webhdfs": "user", "hdfs": "user", "arrow_hdfs": "user"}
"""Protocols whose file system has another name for the login than ``username``."""

_SSH_IGNORED = ("allow_host_key_change", "ciphers", "compress", "host_key_algorithms", "ssh_args")


def access(fields: Fields) -> Access:
    """Access by a file system that is made at first use. Raises ConfigurationError for a scheme that nobody knows.

    A scheme registered by an Airflow provider: that provider's, with the connection's id. Any other: fsspec's, with
    host, port, login and password of the connection, and its extra as further options of the file system.
    """

    root = fields.root
    # Looked up now and not at first use: what a library takes to load is not the store's time, which is bounded.
    official = _airflow_get_fs(root.scheme)
    kind = None if official else _class(root)

    def filesystem() -> Any:
        if official is not None:
            return official(root.scheme, root.connection_id)
        return _of_fsspec(fields, kind)

    return Access(filesystem=filesystem)


def _airflow_get_fs(scheme: str) -> Callable[[str, str | None], Any] | None:
    """Airflow's ``get_fs`` if a provider has registered the scheme; it lives elsewhere since Airflow 3."""
    try:
        from airflow.sdk.io import get_fs, has_fs
    except ImportError:
        try:
            from airflow.io import get_fs, has_fs
        except ImportError:
            return None
    return get_fs if has_fs(scheme) else None


def _class(root: Root) -> Any:
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
        return fsspec.get_filesystem_class(root.scheme)
    except ImportError as error:
        raise MissingDependencyError(f"{root.scheme}:// needs another package: {error}", where=root) from error
    except ValueError as error:
        raise ConfigurationError(
            f"No store is known for the scheme {root.scheme!r}: {error}",
            where=root,
            hint="Known are s3, gs, az, file, and every protocol of fsspec and of the installed providers.",
        ) from error


def _of_fsspec(fields: Fields, kind: Any) -> Any:
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
            f"The file system of {root.scheme}:// does not take what connection {root.connection_id!r} gives: {error}",
            where=root,
            hint="The connection's extra holds options of that file system.",
        ) from error


def _options(fields: Fields) -> dict[str, Any]:
    """Keyword arguments of the file system. The connection's host counts before the host in the path."""
    root = fields.root
    extra = dict(fields.extra)
    if root.scheme in ("sftp", "ssh"):
        extra = _ssh(fields, extra)
    given = {
        "host": fields.host or root.bucket,
        "port": fields.port,
        _LOGIN.get(root.scheme, "username"): fields.login,
        "password": fields.password,
    }
    return {**{name: value for name, value in given.items() if value not in (None, "")}, **extra}


def _ssh(fields: Fields, extra: dict[str, Any]) -> dict[str, Any]:
    """The extra of an ``sftp`` or ``ssh`` connection in paramiko's words.

    The file system cannot check a host key, so a connection that asks for the check is refused rather than weakened.
    """
    if extra.pop("host_key", None) or fields.flag("no_host_key_check") is False:
        raise fields.error("host_key", "cannot be checked by the file system; leave out host_key and no_host_key_check")
    extra.pop("no_host_key_check", None)
    for name in _SSH_IGNORED:
        extra.pop(name, None)
    for name, paramiko_name in (
        ("key_file", "key_filename"),
        ("private_key_passphrase", "passphrase"),
        ("conn_timeout", "timeout"),
    ):
        if name in extra:
            extra[paramiko_name] = extra.pop(name)
    key = extra.pop("private_key", None)
    if key:
        extra["pkey"] = _private_key(fields, str(key), extra.get("passphrase"))
    return extra


def _private_key(fields: Fields, text: str, passphrase: str | None) -> Any:
    import paramiko  # type: ignore[import-untyped,unused-ignore]

    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key(io.StringIO(text), passphrase)
        except (paramiko.SSHException, ValueError):
            continue
    raise fields.error("private_key", "is not a private key that can be read with private_key_passphrase")
