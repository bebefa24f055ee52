"""Places: where objects may lie, and work on the stores there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from xcargo.chunks import SpentError
from xcargo.errors import AccessDeniedError, EnvelopeError
from xcargo.root import Root
from xcargo.settings import Settings
from xcargo.stores.base import Limits, Store
from xcargo.stores.open import StorePool

__all__ = ["Places"]

_T = TypeVar("_T")


class Places:
    """The configured roots and their stores. No object elsewhere is ever read, written or deleted."""

    def __init__(self, settings: Settings, stores: StorePool) -> None:
        self._settings = settings
        self._stores = stores

    def of(self, uri: str) -> tuple[Root, str]:
        """Root and object key of a URI. Raises EnvelopeError unless it lies below a configured root."""
        root = self._settings.root_of(uri)
        if root is None:
            configured = ", ".join(map(str, self._settings.roots)) or "none"
            raise EnvelopeError(
                "The row refers to a place below none of the configured roots",
                where=uri[:300],
                hint=f"Configured: {configured}. If [xcargo] path was changed, add the former one to read_paths.",
            )
        return root, root.object_key(uri)

    def store(self, root: Root, limits: Limits) -> Store:
        """The root's store."""
        return self._stores.store(root, limits)

    def work(self, root: Root, limits: Limits, do: Callable[[Store], _T]) -> _T:
        """Do something with a root's store; once more if its credentials are refused, which may have been rotated."""
        try:
            return do(self._stores.store(root, limits))
        except AccessDeniedError as error:
            self._stores.forget(root)
            try:
                return do(self._stores.store(root, limits))
            except SpentError:
                raise error from None
