"""xcargo: an Airflow XCom backend that carries anything a task returns to the next task, through object storage.

Turn it on with ``AIRFLOW__CORE__XCOM_BACKEND=xcargo.XComBackend``. Importing this package loads nothing but itself;
each public name is loaded at first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xcargo.airflow.backend import XComBackend
    from xcargo.airflow.lazily import lazy
    from xcargo.airflow.sequences import gather
    from xcargo.codecs.files import Directory, File
    from xcargo.codecs.stream import ByteStream
    from xcargo.errors import (
        AccessDeniedError,
        CodecError,
        ConfigurationError,
        DecodeError,
        EnvelopeError,
        ErrorKind,
        IntegrityError,
        MissingDependencyError,
        ObjectExistsError,
        ObjectExpiredError,
        ObjectNotFoundError,
        ReferencesUnavailableError,
        RootNotFoundError,
        SignatureError,
        SizeLimitError,
        StorageFullError,
        StoreError,
        StoreUnavailableError,
        SweepRefusedError,
        UnsupportedTypeError,
        XCargoError,
    )
    from xcargo.pipeline.handle import Lazy

__version__ = "0.1.0"

__all__ = [
    "AccessDeniedError",
    "ByteStream",
    "CodecError",
    "ConfigurationError",
    "DecodeError",
    "Directory",
    "EnvelopeError",
    "ErrorKind",
    "File",
    "IntegrityError",
    "Lazy",
    "MissingDependencyError",
    "ObjectExistsError",
    "ObjectExpiredError",
    "ObjectNotFoundError",
    "ReferencesUnavailableError",
    "RootNotFoundError",
    "SignatureError",
    "SizeLimitError",
    "StorageFullError",
    "StoreError",
    "StoreUnavailableError",
    "SweepRefusedError",
    "UnsupportedTypeError",
    "XCargoError",
    "XComBackend",
    "__version__",
    "gather",
    "lazy",
]

_HOMES = {
    "ByteStream": "xcargo.codecs.stream",
    "Directory": "xcargo.codecs.files",
    "File": "xcargo.codecs.files",
    "Lazy": "xcargo.pipeline.handle",
}
_AT_THE_EDGE = {
    "XComBackend": "xcargo.airflow.backend",
    "gather": "xcargo.airflow.sequences",
    "lazy": "xcargo.airflow.lazily",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'xcargo' has no attribute {name!r}")
    if name in _AT_THE_EDGE:
        # Airflow looks for its XCom backend while it loads: it has to begin before the backend does.
        if import_module("airflow").__version__.startswith("2."):
            import_module("airflow.models.xcom")
        value = getattr(import_module(_AT_THE_EDGE[name]), name)
    else:
        value = getattr(import_module(_HOMES.get(name, "xcargo.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
