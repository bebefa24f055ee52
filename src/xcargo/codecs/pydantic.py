"""Values that pydantic makes of a model's fields: URLs, DSNs, sizes, addresses, and secrets, which must be encrypted.

Models themselves are instances of users' classes (``objects.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from xcargo.codecs.base import Encoded, FinalRefusalError, importable
from xcargo.codecs.substitutes import current_push
from xcargo.codecs.tree import TreeCodec
from xcargo.errors import DecodeError, MissingDependencyError, UnsupportedTypeError, XCargoError
from xcargo.types import Buffer

__all__ = ["PydanticCodec", "check_secret"]

_CORE = ("Url", "MultiHostUrl")
_URLS = (
    *("AnyUrl", "AnyHttpUrl", "HttpUrl", "AnyWebsocketUrl", "WebsocketUrl", "FileUrl", "FtpUrl", "PostgresDsn"),
    *("CockroachDsn", "AmqpDsn", "RedisDsn", "MongoDsn", "KafkaDsn", "NatsDsn", "MySQLDsn", "MariaDBDsn"),
    *("ClickHouseDsn", "SnowflakeDsn"),
)
_SECRETS = ("Secret", "SecretStr", "SecretBytes")
_CLASSES = frozenset((*_CORE, *_URLS, *_SECRETS, "ByteSize", "NameEmail"))
"""Names of the classes that are rebuilt. None but these is looked up."""


class PydanticCodec:
    """Codec of pydantic's own classes: the name of the class, which is one of a table, and its text or value.

    No validator runs. Secrets are refused unless the payload is stored encrypted.
    """

    id = "pydantic"

    def __init__(self, tree: TreeCodec) -> None:
        self._tree = tree

    def accepts(self, value: object) -> bool:
        cls: Any = type(value)
        return _accepts(cls)

    def encode(self, value: Any) -> Encoded:
        cls, name = type(value), type(value).__qualname__
        check_secret(cls)
        if not _is_own(cls):
            raise UnsupportedTypeError(
                f"{cls.__module__}.{name} is a subclass of one of pydantic's secrets",
                hint="Return pydantic.Secret(value.get_secret_value()).",
            )
        state = _state(value, name)
        if name in (*_CORE, *_URLS) and _restored(name, state) != value:
            raise UnsupportedTypeError(f"A {name} cannot be rebuilt from its text", hint="Return str(value).")
        return Encoded(self.id, (self._tree.pack([name, state]),), {"type": f"pydantic.{name}"}, ".msgpack")

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> Any:
        try:
            name, state = self._tree.unpack(payload)
            if type(name) is not str or name not in _CLASSES:
                raise DecodeError(f"pydantic has no type {str(name)[:80]!r} that is rebuilt")
            return _restored(name, state)
        except XCargoError:
            raise
        except (AttributeError, TypeError, ValueError) as error:
            raise DecodeError(f"The object does not hold a value of pydantic: {type(error).__name__}") from error


def check_secret(cls: type) -> None:
    """Raise FinalRefusalError for one of the classes of secrets, unless the value of this push is stored encrypted."""
    if _is_secret(cls) and not current_push().encrypts:
        raise FinalRefusalError(
            f"A {cls.__qualname__} is stored only where values are encrypted, and this one would not be",
            hint="Set [xcargo] encryption_keys and leave threshold_bytes at 0, or return the name of a connection "
            "or variable that holds the secret.",
        )


def _state(value: Any, name: str) -> Any:
    if name in _SECRETS:
        return value.get_secret_value()
    if name == "ByteSize":
        return int(value)
    return [value.name, value.email] if name == "NameEmail" else str(value)


def _restored(name: str, state: Any) -> Any:
    cls = _class(name)
    if name in _SECRETS:
        return cls(state)
    if name == "NameEmail":
        person, address = state
        return cls(str(person), str(address))
    if name == "ByteSize":
        if type(state) is not int:
            raise DecodeError("A size is not a number")
        return cls(state)
    if type(state) is not str:
        raise DecodeError("A URL is not text")
    if name in _CORE:
        return _url(cls, state)
    value = cls.__new__(cls)
    many = any(base.__name__ == "_BaseMultiHostUrl" for base in cls.__mro__)
    value._url = _url(_class("MultiHostUrl" if many else "Url"), state)
    return value


def _url(cls: Any, text: str) -> Any:
    """The URL of a text that one gave; newer releases of pydantic may leave an empty path as it is."""
    url = cls(text)
    return url if str(url) == text else cls(text, preserve_empty_path=True)


def _class(name: str) -> Any:
    """A class of the table, of the pydantic that is installed here."""
    library = importable("pydantic_core" if name in _CORE else "pydantic", "one of pydantic", extra="airflow")
    cls = getattr(library, name, None)
    if isinstance(cls, type) and (name in _CORE or cls.__name__ == name):
        return cls
    raise MissingDependencyError(
        f"The value is a {name}, which the installed pydantic does not have as a class",
        hint="Run: pip install --upgrade pydantic (where this task runs)",
    )


@lru_cache(256)
def _accepts(cls: Any) -> bool:
    return _is_own(cls) or _is_secret(cls)


def _is_own(cls: type) -> bool:
    if cls.__qualname__ not in _CLASSES or cls.__module__.partition(".")[0] not in ("pydantic", "pydantic_core"):
        return False
    try:
        return _class(cls.__qualname__) is cls
    except MissingDependencyError:
        return False


def _is_secret(cls: type) -> bool:
    """Whether it is, or is derived from, a secret of any pydantic, also of the first one that is in the second."""
    return any(base.__qualname__ in _SECRETS and base.__module__.startswith("pydantic.") for base in cls.__mro__)
