"""What this process knows of its configuration and connections, read at first use.

Importing it loads what a push or pull needs, but for the clients of the stores and the libraries of data frames: a task
is a fork of a process that has imported its backend, so what is loaded here is loaded once and not in every task.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from xcargo.airflow import compat, metrics
from xcargo.airflow.classes import resolve
from xcargo.airflow.config import read_settings
from xcargo.airflow.connections import access_of
from xcargo.airflow.serde_codec import SerdeCodec
from xcargo.codecs import Registry
from xcargo.codecs import gc_tuning as collector
from xcargo.codecs.objects import PickleCodec
from xcargo.model.root import Root
from xcargo.model.settings import Settings
from xcargo.pipeline.pipeline import Pipeline
from xcargo.stores import Access, StorePool

__all__ = ["opened", "plain_limit", "run", "settings"]

_T = TypeVar("_T")


@cache
def settings() -> Settings:
    """The settings of this process."""
    found = read_settings(compat.conf())
    for key in (*found.signing_keys, *found.encryption_keys):
        compat.mask_from_now_on(base64.b64encode(key.secret).decode())
    return found


@cache
def plain_limit() -> float:
    """Bytes of JSON up to which a plain value is its own row, and nothing else is to be done for it."""
    return run(lambda pipeline: pipeline.plain_limit)


def run(work: Callable[[Pipeline], _T]) -> _T:
    """Do something with the one pipeline. The first time connects, and is kept free of garbage collections."""
    if _pipeline.cache_info().currsize:
        return work(_pipeline())
    with collector.paused():
        return work(_pipeline())


@cache
def _pipeline() -> Pipeline:
    return opened(settings(), observe=metrics.observer(compat.conf()), team=compat.team)


def opened(settings: Settings, **more: Any) -> Pipeline:
    """A pipeline by these settings, with the codecs and connections of this deployment."""
    codecs = Registry(
        resolve_class=resolve, fallbacks=[SerdeCodec()], last_resort=PickleCodec(allowed=settings.allow_pickle)
    )
    stores = StorePool(_access, on_retry=metrics.retry_counter(compat.conf()))
    return Pipeline(settings, codecs, stores, describe=compat.mask, **more)


def _access(root: Root) -> Access:
    if root.scheme in ("file", "memory"):
        return Access()
    return access_of(root, compat.get_connection)
