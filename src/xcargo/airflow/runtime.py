"""What this process knows of its configuration and connections, read at first use.

Importing it loads what every push or pull needs. What only some need is loaded by the first that does, or by `preload`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from xcargo.airflow import compat, metrics
from xcargo.airflow.classes import AirflowClasses
from xcargo.airflow.config import read_settings
from xcargo.airflow.connections import access_of
from xcargo.codecs import Codec, Registry
from xcargo.codecs.gc_tuning import gc_paused
from xcargo.model.coordinate import Coordinate
from xcargo.model.root import Root
from xcargo.model.settings import Settings
from xcargo.pipeline.pipeline import Pipeline, RowRules
from xcargo.stores import Access, StorePool

if TYPE_CHECKING:
    from xcargo.pipeline.state import StatePipeline

__all__ = [
    "classes",
    "on_failed_push",
    "on_push",
    "open_pipeline",
    "open_state_pipeline",
    "pipeline",
    "preload",
    "settings",
    "state_pipeline",
]

on_push: list[Callable[[Coordinate, Any, Any], object]] = []
"""Called after each push with its value and its row."""

on_failed_push: list[Callable[[Coordinate], object]] = []
"""Called after each push that failed."""

_RULES = RowRules(
    takes_none=not compat.REFUSES_NONE,
    control_keys=re.compile("skipmixin_key|_link_.*|_airflow_loop_.*", re.DOTALL),
)


_NEEDED_BY_SOME = (
    *("airflow.connections.aws", "airflow.connections.azure", "airflow.connections.fsspec"),
    *("airflow.connections.google", "airflow.serde_codec", "codecs.objects", "codecs.skops", "codecs.table_file"),
    *("pipeline.observer", "pipeline.prefetch", "stores.direct", "stores.fsspec", "stores.local"),
    *("stores.object_store", "transfer.cache", "transfer.encryption", "transfer.reader"),
)


def preload() -> None:
    """Load what some pushes and pulls need, but for the clients of the stores and the libraries of data frames.

    Tasks are forks: what is loaded here, in a process that forks many, is loaded once and not in every task.
    """
    for module in _NEEDED_BY_SOME:
        import_module(f"xcargo.{module}")


@cache
def settings() -> Settings:
    """The settings of this process."""
    own = read_settings(compat.conf())
    for key in (*own.signing_keys, *own.encryption_keys):
        compat.mask_from_now_on(base64.b64encode(key.secret).decode())
    return own


@cache
def classes() -> AirflowClasses:
    """Which classes this process stores and rebuilds."""
    return AirflowClasses()


@cache
def pipeline() -> Pipeline:
    """The pipeline of this process. It is made at the first call, without garbage collections."""
    with gc_paused():
        return open_pipeline(settings(), observer=metrics.observer(compat.conf()), team=compat.team)


@cache
def state_pipeline() -> StatePipeline:
    """The same for the state store."""
    with gc_paused():
        return open_state_pipeline(settings(), observer=metrics.observer(compat.conf()), team=compat.team)


def open_pipeline(settings: Settings, **more: Any) -> Pipeline:
    """A pipeline by these settings, with the codecs and connections of this deployment."""
    return Pipeline(settings, **_parts(settings), rules=_RULES, **more)


def open_state_pipeline(settings: Settings, **more: Any) -> StatePipeline:
    """The same for the state store, which has no control keys."""
    from xcargo.pipeline.state import StatePipeline

    return StatePipeline(settings.for_state, **_parts(settings), **more)


def _parts(settings: Settings) -> dict[str, Any]:
    codecs = Registry(
        classes=classes(),
        fallbacks=[_serde],
        last_resort=partial(_last_resort, settings),
        mask=compat.mask,
    )
    stores = StorePool(_access, on_retry=metrics.retry_counter(compat.conf()))
    return {"codecs": codecs, "stores": stores, "mask": compat.mask}


def _serde() -> Codec:
    from xcargo.airflow.serde_codec import SerdeCodec

    return SerdeCodec()


def _last_resort(settings: Settings) -> Codec:
    from xcargo.codecs.objects import PickleCodec

    return PickleCodec(allowed=settings.allow_pickle)


def _access(root: Root) -> Access:
    if root.scheme in ("file", "memory"):
        return Access()
    return access_of(root, compat.get_connection)
