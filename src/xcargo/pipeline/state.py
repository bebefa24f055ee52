"""The way of a value of Airflow's state store: that of an XCom, but its row is a text, and is deleted first."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from xcargo.errors import ConfigurationError, DecodeError, EnvelopeError, ObjectNotFoundError
from xcargo.model.coordinate import Coordinate, State, segment
from xcargo.model.envelope import is_envelope
from xcargo.model.settings import Settings
from xcargo.pipeline.pipeline import Pipeline
from xcargo.transfer.roots import RenewingStore

__all__ = ["StatePipeline"]

log = logging.getLogger(__name__)

_OF_A_TASK = State()


class StatePipeline(Pipeline):
    """A pipeline for the state store, by ``Settings.for_state``."""

    def push_text(self, value: Any, coordinate: Coordinate) -> str:
        """The text of the row for a value, after its object, if it needs one, is stored."""
        return json.dumps(self.push(value, coordinate), separators=(",", ":"), ensure_ascii=False)

    def pull_text(self, stored: str, dag_id: str | None = None, *, state: State = _OF_A_TASK) -> Any:
        """The value of a row, whoever wrote it. One request if it refers to an object.

        Args:
            stored: The text of the row.
            dag_id: The Dag whose row it is, if that is known.
            state: Whose row it is.

        Raises:
            EnvelopeError: It refers to an object that is not one of the state of this Dag, or of this asset.
            ObjectNotFoundError: The object is gone.
        """
        try:
            row = json.loads(stored)
        except ValueError:  # what Common IO's backend gives for an object
            if self.settings.legacy_reference(stored) is None:
                raise EnvelopeError(
                    "The row refers to an object of another backend, below none of the configured roots",
                    where=stored[:300],
                    hint="If Common IO's backend wrote it, set [common.io] state_store_objectstorage_path as it was, "
                    "or add that path to [xcargo] legacy_references.",
                ) from None
            return self.pull_legacy(stored, json.loads)
        if not is_envelope(row):
            return row
        self.check_owner(row, state)
        return self.pull(row, dag_id)

    def check_owner(self, row: Any, state: State) -> None:
        """Raise EnvelopeError if an envelope refers to something else than state of a task, or of the asset.

        Args:
            row: The envelope.
            state: Whose row it is in. The name of an asset is empty where it is not known.
        """
        uri = row.get("uri")
        if type(uri) is str and not state.has_object(self.roots.resolve(uri)[1]):
            owner = "a task" if state.asset is None else f"asset {state.asset!r}" if state.asset else "an asset"
            raise EnvelopeError(
                f"A row of the state of {owner} refers to an object of something else",
                where=uri[:300],
                hint="It was copied or made up; look at who wrote it.",
            )

    def purge_folder(self, coordinate: Coordinate, folder: str) -> None:
        """Delete the objects of a key, or of all keys of a task instance or asset, whose rows are gone.

        As `purge` it never raises, and gives up after ``purge_timeout_seconds``. One request to list them, one an
        object.

        Args:
            coordinate: Says below which root, by today's settings; what earlier ones put elsewhere is an orphan.
            folder: A folder of the coordinate.
        """
        started = time.perf_counter()
        error: BaseException | None = None
        try:
            root = self.settings.for_xcom(coordinate, self._team()).root
            if root is None:
                return
            error = self._delete_in_time(
                root, lambda store: store.delete([info.key for info in store.list(folder)]), folder
            )
        except Exception as refusal:
            error = refusal
        if error is not None:
            log.warning("xcargo left objects of deleted state in the store: %s", error)
        self._emit("purge", started, None, error=error)

    def put(self, value: str, coordinate: Coordinate) -> None:
        """Store a text without a row: an object of a fixed name holds what the row would. One request.

        No sweep deletes it.
        """
        store, key, settings = self._object(coordinate)
        if settings.encryption_key is not None:
            raise ConfigurationError(
                "State without a row cannot be encrypted",
                where=coordinate,
                hint="Set [workers] state_store_backend, and leave [state_store] backend as it is by default.",
            )
        store.put(key, [json.dumps(self.push_inline(value, coordinate)).encode()])

    def get(self, coordinate: Coordinate) -> Any:
        """What `put` stored; None if there is nothing. One request."""
        store, key, _ = self._object(coordinate)
        try:
            row = json.loads(bytes(store.get(key)))
        except ObjectNotFoundError:
            return None
        except ValueError as error:
            raise DecodeError(f"The object is not JSON: {error}", where=coordinate) from error
        return self.pull(row, coordinate.dag_id)

    def _object(self, coordinate: Coordinate) -> tuple[RenewingStore, str, Settings]:
        settings = self.settings.for_xcom(coordinate, self._team())
        if settings.root is None:
            raise ConfigurationError(
                f"State goes to object storage, but {settings.no_root_reason}", hint="Set AIRFLOW__XCARGO__PATH."
            )
        return self.roots.store(settings.root), f"{coordinate.prefix()}/{segment(coordinate.key)}/row.json", settings
