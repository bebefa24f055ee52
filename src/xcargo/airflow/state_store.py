"""StateStoreBackend: the state of tasks and assets (Airflow 3.3 on), stored as XComs are.

Airflow calls it in the process of a task or a trigger. What ``serialize_…_to_ref`` gives goes into a row of the
metadata database; ``delete`` and ``clear`` are called after such rows are gone, without what they held.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from xcargo.airflow import compat, runtime
from xcargo.errors import ConfigurationError
from xcargo.model.coordinate import Coordinate, State, segment

try:
    from airflow.sdk.state import BaseStoreBackend
except ModuleNotFoundError as error:
    raise ConfigurationError(
        "This Airflow has no state store, so xcargo.StateStoreBackend has nothing to do",
        hint="It takes Airflow 3.3 or later. XComs do not need it.",
    ) from error

__all__ = ["StateStoreBackend"]

log = logging.getLogger(__name__)


class StateStoreBackend(BaseStoreBackend):  # type: ignore[misc]
    """Backend of the state store: small values in their rows, large ones in object storage, each back as it was."""

    def serialize_task_state_store_to_ref(self, *, value: Any, key: str, scope: Any) -> str:
        """Store a value of a task, give what its row is to hold. One request if it is larger than the threshold."""
        return _push(value, _coordinate(scope, key))

    def serialize_asset_state_store_to_ref(self, *, value: Any, key: str, scope: Any) -> str:
        """The same of an asset."""
        return _push(value, _coordinate(scope, key))

    def deserialize_task_state_store_from_ref(self, stored: str) -> Any:
        """The value of a row. One request if it refers to an object, which has to be of a task of this Dag."""
        return runtime.state_pipeline().pull_text(stored, compat.dag_of_process())

    def deserialize_asset_state_store_from_ref(self, stored: str) -> Any:
        """The same of an asset; an object has to be of the state of some asset, since Airflow does not say of which."""
        return runtime.state_pipeline().pull_text(stored, state=State(asset=""))

    def delete(self, scope: Any, key: str, *, session: Any = None) -> None:
        """Delete what is stored of a key. Never raises; what it could not delete in time is an orphan."""
        coordinate = _coordinate(scope, key)
        _purge(coordinate, f"{coordinate.prefix()}/{segment(key)}")

    def clear(self, scope: Any, *, all_map_indices: bool = False, session: Any = None) -> None:
        """The same of all keys of a task instance or asset, or of all map indexes of a task."""
        coordinate = _coordinate(scope, "")
        _purge(coordinate, coordinate.prefix(all_map_indexes=all_map_indices))

    def set(self, scope: Any, key: str, value: str, *, expires_at: Any = None, session: Any = None) -> None:
        """Store a text by itself, without a row of Airflow's. One request."""
        runtime.state_pipeline().put(value, _coordinate(scope, key))

    def get(self, scope: Any, key: str, *, session: Any = None) -> str | None:
        """The text that ``set`` stored; None if there is none. One request."""
        text: str | None = runtime.state_pipeline().get(_coordinate(scope, key))
        return text

    async def adelete(self, scope: Any, key: str, *, session: Any = None) -> None:
        """``delete`` without holding up the event loop."""
        await asyncio.to_thread(self.delete, scope, key)

    async def aclear(self, scope: Any, *, all_map_indices: bool = False, session: Any = None) -> None:
        """``clear`` without holding up the event loop."""
        await asyncio.to_thread(self.clear, scope, all_map_indices=all_map_indices)

    async def aset(self, scope: Any, key: str, value: str, *, expires_at: Any = None, session: Any = None) -> None:
        """``set`` without holding up the event loop."""
        await asyncio.to_thread(self.set, scope, key, value)

    async def aget(self, scope: Any, key: str, *, session: Any = None) -> str | None:
        """``get`` without holding up the event loop."""
        return await asyncio.to_thread(self.get, scope, key)


def _push(value: Any, coordinate: Coordinate) -> str:
    text = runtime.state_pipeline().push_text(value, coordinate)
    runtime.classes().warn()
    return text


def _purge(coordinate: Coordinate, folder: str) -> None:
    try:
        runtime.state_pipeline().purge_folder(coordinate, folder)
    except Exception as error:  # an unusable setting
        log.warning("xcargo left objects of deleted state in the store: %s", error)


def _coordinate(scope: Any, key: str) -> Coordinate:
    if hasattr(scope, "task_id"):
        region = getattr(scope, "region_id", None)  # Airflow 3.4 on; zero outside of loops
        state = State(str(region) if region is not None and region.int else None)
        return Coordinate(scope.dag_id, scope.run_id, scope.task_id, key, scope.map_index, state=state)
    by = "name" if scope.name else "uri" if scope.uri else "id"
    asset = scope.asset_id if by == "id" else getattr(scope, by)
    return Coordinate("", "", "", key, state=State(asset=str(asset), asset_by=by))
