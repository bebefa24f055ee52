"""xcargo: an Airflow XCom backend that carries anything a task returns to the next task, through object storage.

Turn it on with ``AIRFLOW__CORE__XCOM_BACKEND=xcargo.XComBackend``. Importing this package loads nothing but itself;
each public name is loaded at first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from xcargo.model.version import __version__

if TYPE_CHECKING:
    from xcargo.airflow.backend import XComBackend
    from xcargo.airflow.client.connect import connect
    from xcargo.airflow.inputs import gather, lazy
    from xcargo.airflow.memoize import MemoizeMixin, memoize
    from xcargo.airflow.state_store import StateStoreBackend
    from xcargo.airflow.urls import collect, collector, download_url, upload_url
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
    "MemoizeMixin",
    "MissingDependencyError",
    "ObjectExistsError",
    "ObjectExpiredError",
    "ObjectNotFoundError",
    "ReferencesUnavailableError",
    "RootNotFoundError",
    "SignatureError",
    "SizeLimitError",
    "StateStoreBackend",
    "StorageFullError",
    "StoreError",
    "StoreUnavailableError",
    "SweepRefusedError",
    "UnsupportedTypeError",
    "XCargoError",
    "XComBackend",
    "__version__",
    "collect",
    "collector",
    "connect",
    "download_url",
    "gather",
    "lazy",
    "memoize",
    "upload_url",
]

_MODULES = {
    "ByteStream": "xcargo.codecs.stream",
    "Directory": "xcargo.codecs.files",
    "File": "xcargo.codecs.files",
    "Lazy": "xcargo.pipeline.handle",
    "connect": "xcargo.airflow.client.connect",
}
_IN_AIRFLOW = {
    "StateStoreBackend": "xcargo.airflow.state_store",
    "XComBackend": "xcargo.airflow.backend",
    "collect": "xcargo.airflow.urls",
    "collector": "xcargo.airflow.urls",
    "download_url": "xcargo.airflow.urls",
    "gather": "xcargo.airflow.inputs",
    "lazy": "xcargo.airflow.inputs",
    "MemoizeMixin": "xcargo.airflow.memoize",
    "memoize": "xcargo.airflow.memoize",
    "upload_url": "xcargo.airflow.urls",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'xcargo' has no attribute {name!r}")
    if name in _IN_AIRFLOW:
        from xcargo.airflow import load_backend

        load_backend()
    module = _IN_AIRFLOW.get(name) or _MODULES.get(name, "xcargo.errors")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
