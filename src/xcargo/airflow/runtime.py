"""The pipeline of this process, made of Airflow's configuration and connections at first use."""

from __future__ import annotations

from functools import cache

from xcargo.airflow import compat
from xcargo.airflow.config import read_settings
from xcargo.pipeline import Pipeline
from xcargo.root import Root
from xcargo.stores.base import Access
from xcargo.stores.open import StorePool

__all__ = ["pipeline"]


@cache
def pipeline() -> Pipeline:
    """The one pipeline. ``pipeline.cache_clear()`` makes the next call read the configuration again."""
    from xcargo.airflow.serde_codec import SerdeCodec
    from xcargo.codecs.registry import Registry

    return Pipeline(
        read_settings(compat.conf()),
        Registry(fallbacks=[SerdeCodec()]),
        StorePool(_access),
        describe=compat.mask,
    )


def _access(root: Root) -> Access:
    if root.scheme in ("file", "memory"):
        return Access()
    from xcargo.airflow.connections import access_of

    return access_of(root, compat.get_connection)
