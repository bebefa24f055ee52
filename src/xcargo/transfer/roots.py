"""Places: where objects may lie, and work on the stores there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from xcargo.errors import AccessDeniedError, EnvelopeError
from xcargo.model.root import Root
from xcargo.model.settings import Settings
from xcargo.stores.base import Limits, Store
from xcargo.stores.pool import StorePool
from xcargo.transfer.chunks import NotReplayableError

__all__ = ["Places"]

_T = TypeVar("_T")


class Places:
    """The configured roots and their stores. No object elsewhere is ever read, written or deleted."""

    def __init__(self, settings: Settings, stores: StorePool, team: Callable[[], str | None]) -> None:
        self._settings = settings
        self._stores = stores
        self._team = team

    def of(self, uri: str) -> tuple[Root, str]:
        """Root and object key of a URI. Raises EnvelopeError unless it lies below a root that is open to this task."""
        root = self._settings.root_of(uri)
        if root is None:
            configured = ", ".join(map(str, self._settings.roots)) or "none"
            raise EnvelopeError(
                "The row refers to a place below none of the configured roots",
                where=uri[:300],
                hint=f"Configured: {configured}. If [xcargo] path was changed, add the former one to read_paths.",
            )
        teams = self._settings.teams_of(root)
        team = self._team() if teams else None
        if team is not None and team not in teams:
            raise EnvelopeError(
                f"The row refers to a place of team {' or '.join(sorted(teams))}, and this task is of "
                f"{f'team {team}' if team else 'no team'}",
                where=uri[:300],
                hint="Another team's values cannot be pulled; look at who wrote the XCom.",
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
            except NotReplayableError:
                raise error from None
