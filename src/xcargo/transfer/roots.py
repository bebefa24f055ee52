"""The configured roots, and the stores behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from xcargo.errors import AccessDeniedError, EnvelopeError
from xcargo.model.root import Root
from xcargo.model.settings import Settings
from xcargo.stores import StorePool
from xcargo.stores.base import Limits, ObjectInfo, PutMode, Store, copy_object, get_into
from xcargo.transfer.chunks import NotReplayableError
from xcargo.types import Buffer

__all__ = ["RenewingStore", "RootResolver"]

_T = TypeVar("_T")


class RootResolver:
    """Finds the root and the store of a URI. No object outside the configured roots is ever read, written or deleted.

    Args:
        settings: Name the roots, and the teams that some are reserved for.
        stores: Opens their stores.
        team: Gives the team of the task that runs here, empty if it has none; None outside of tasks.
    """

    def __init__(self, settings: Settings, stores: StorePool, *, team: Callable[[], str | None]) -> None:
        self._settings = settings
        self._stores = stores
        self._team = team
        self.limits = Limits.from_settings(settings)

    def resolve(self, uri: str) -> tuple[Root, str]:
        """Root and object key of a URI. Raises EnvelopeError unless it is below a root that is open to this task."""
        root = self._settings.root_of(uri)
        if root is None:
            configured = ", ".join(map(str, self._settings.roots)) or "none"
            raise EnvelopeError(
                "The row refers to an object below none of the configured roots",
                where=uri[:300],
                hint=f"Configured: {configured}. If [xcargo] path was changed, add the former one to read_paths.",
            )
        self._check_team(root, uri)
        return root, root.object_key(uri)

    def legacy_store(self, root: Root, key: str) -> RenewingStore:
        """The store of an object that another backend left. A path below it may still be reserved for a team."""
        uri = root.uri(key)
        self._check_team(self._settings.root_of(uri) or root, uri)
        return self.store(root)

    def _check_team(self, root: Root, uri: str) -> None:
        teams = self._settings.teams_of(root)
        team = self._team() if teams else None
        if team is not None and team not in teams:
            raise EnvelopeError(
                f"The row refers to an object of team {' or '.join(sorted(teams))}, and this task is of "
                f"{f'team {team}' if team else 'no team'}",
                where=uri[:300],
                hint="Another team's values cannot be pulled; look at who wrote the XCom.",
            )

    def store(self, root: Root) -> RenewingStore:
        """The root's store."""
        return RenewingStore(self._stores, root, self.limits)


class RenewingStore:
    """A root's store that survives rotated credentials.

    A request whose credentials are refused is repeated once, with the root's connection looked up again.
    """

    def __init__(self, stores: StorePool, root: Root, limits: Limits) -> None:
        self._stores = stores
        self._root = root
        self._limits = limits

    @property
    def current(self) -> Store:
        """The store with the credentials that are known now."""
        return self._stores.store(self._root, self._limits)

    @property
    def part_bytes(self) -> int:
        """Size of the parts of a large transfer."""
        return self._limits.part_bytes

    def put(
        self, key: str, parts: Iterable[Buffer], *, mode: PutMode = "overwrite", expected_bytes: int | None = None
    ) -> None:
        self._request(lambda store: store.put(key, parts, mode=mode, expected_bytes=expected_bytes))

    def copy(self, source: str, target: str) -> None:
        self._request(lambda store: copy_object(store, source, target))

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Buffer:
        return self._request(lambda store: store.get(key, start=start, end=end))

    def get_into(self, key: str, view: memoryview, *, start: int) -> int:
        return self._request(lambda store: get_into(store, key, view, start=start))

    def head(self, key: str) -> ObjectInfo:
        return self._request(lambda store: store.head(key))

    def delete(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        self._request(lambda store: store.delete(keys))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self.current.list(prefix)

    def _request(self, send: Callable[[Store], _T]) -> _T:
        try:
            return send(self._stores.store(self._root, self._limits))
        except AccessDeniedError as error:
            self._stores.forget(self._root)
            try:
                return send(self.current)
            except NotReplayableError:  # the payload is made as it goes, and part of it has gone
                raise error from None
