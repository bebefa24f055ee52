"""What this process knows of its configuration and connections, read at first use."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from xcargo.airflow import compat
from xcargo.airflow.config import read_settings
from xcargo.settings import Settings

if TYPE_CHECKING:
    from xcargo.pipeline import Pipeline
    from xcargo.root import Root
    from xcargo.stores.base import Access

__all__ = ["forget", "pipeline", "settings"]


@cache
def settings() -> Settings:
    """The settings, without loading what only stored values need."""
    return read_settings(compat.conf())


@cache
def pipeline() -> Pipeline:
    """The one pipeline of this process."""
    from xcargo.airflow.classes import resolve
    from xcargo.airflow.serde_codec import SerdeCodec
    from xcargo.codecs.objects import ObjectCodec
    from xcargo.codecs.registry import Registry
    from xcargo.pipeline import Pipeline
    from xcargo.stores.open import StorePool

    codecs = Registry(fallbacks=[ObjectCodec(resolve), SerdeCodec()])
    return Pipeline(settings(), codecs, StorePool(_access), describe=compat.mask)


def forget() -> None:
    """Read configuration and connections afresh at the next use."""
    settings.cache_clear()
    pipeline.cache_clear()


def _access(root: Root) -> Access:
    if root.scheme in ("file", "memory"):
        from xcargo.stores.base import Access

        return Access()
    from xcargo.airflow.connections import access_of

    return access_of(root, compat.get_connection)
