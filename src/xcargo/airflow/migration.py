"""Which rows are not where the settings say, how each is moved there, and what may be deleted then."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from blake3 import blake3

from xcargo.airflow import compat, rows
from xcargo.airflow.compat import AIRFLOW_2, BaseXCom
from xcargo.airflow.references import tables
from xcargo.airflow.references.database import DatabaseReferences
from xcargo.airflow.references.tables import ValueFilter
from xcargo.codecs.plain_values import shown_name
from xcargo.errors import ConfigurationError, SweepRefusedError, XCargoError
from xcargo.lifecycle.moves import Move, NotMovableError, StaysInlineError
from xcargo.lifecycle.references import EVERYTHING, XComFilter, XComRow
from xcargo.model.coordinate import Coordinate
from xcargo.model.envelope import is_envelope, is_plain
from xcargo.model.key_order import restored
from xcargo.model.root import Root
from xcargo.model.settings import Settings
from xcargo.pipeline.pipeline import Pipeline
from xcargo.pipeline.state import StatePipeline

__all__ = ["KINDS", "SourceCleanup", "ToStock", "ToStore", "check_teams"]

KINDS = ("database", "store", "legacy")

_PAGE_ROWS = 50
"""Rows of the database hold their values: a page of them must fit into memory."""

_ORDER_NOTE = "xcargo-order:"


def check_teams(settings: Settings, team: str | None) -> None:
    """Raise ConfigurationError if the settings depend on a team and none was named: rows do not say theirs."""
    if team is None and any(route.team for route in settings.routes):
        raise ConfigurationError(
            "Some routes are for the tasks of a team, and rows do not say of which team their Dag is",
            hint="Migrate team by team: --team NAME with the --dag of that team, and --team '' for those of none.",
        )


def _in_small_pages(source: DatabaseReferences) -> DatabaseReferences:
    return DatabaseReferences(source.engine, schema=source.schema, page_rows=_PAGE_ROWS)


class ToStore:
    """Moves large rows, objects below other roots and other backends' references to where the settings say.

    Args:
        settings: Where values are stored.
        pipeline: By these settings.
        kinds: Some of `KINDS`.
        team: The team whose Dags are moved, if routes name teams.
        every_object: Also objects that are where they should be, for today's compression.
        recode: The same, and decode and encode each value, for today's codec.
        state: By these settings, for the state store, if its rows are read by xcargo's backend; None leaves alone what
            another one wrote there.
    """

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        *,
        kinds: Collection[str],
        team: str | None,
        every_object: bool,
        recode: bool,
        state: StatePipeline | None = None,
    ) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._state = state
        self._kinds = kinds
        self._team = team
        self._every_object = every_object or recode
        self._recode = recode

    def moves(self, source: DatabaseReferences, where: XComFilter) -> Iterator[Move]:
        """Every row that matches and is not where it should be."""
        least = min((s.threshold_bytes for s in self._settings.variants if s.threshold_bytes >= 0), default=None)
        values = ValueFilter(
            envelopes="store" in self._kinds,
            larger_than=least if "database" in self._kinds else None,
            prefixes=tuple(r.prefix for r in self._settings.for_state.legacy_roots) if "legacy" in self._kinds else (),
        )
        for row in _in_small_pages(source).select(where, values):
            move = self._move(row)
            if move is not None:
                yield move

    def _move(self, row: XComRow) -> Move | None:
        value = row.value
        settings = self._settings_of(row.coordinate)
        if is_envelope(value):
            uri = value.get("uri")
            if "store" not in self._kinds or type(uri) is not str or settings.root is None:
                return None
            key = value.get("encryption")
            key_name = key.get("key") if type(key) is dict else None
            stays = (
                self._settings.root_of(uri) == settings.root
                and key_name == (settings.encryption_key.name if settings.encryption_key else None)
                and not self._every_object
            )
            return None if stays else Move(row, "store", value.get("size_bytes") or 0, uri)
        reference = self._legacy_reference(row)
        if row.coordinate.state is not None and self._state is None:
            return None
        if reference is not None:
            if "legacy" not in self._kinds:
                return None
            return Move(row, "legacy", 0, reference[0].uri(reference[1]))
        size = _size(row)
        stays = self._pipeline_of(row).rules.control_keys.fullmatch(row.coordinate.key)
        if "database" not in self._kinds or not 0 <= settings.threshold_bytes < size or stays:
            return None
        return Move(row, "database", size)

    def convert(self, move: Move) -> tuple[Any, str | None]:
        """The new row, its value stored and read back.

        Under a new key each time: a sweep may be about to delete what a migration that was killed left under its own.
        """
        row = move.row
        pipeline = self._pipeline_of(row)
        if move.kind == "store" and not self._recode:
            new: Any = pipeline.rewrite(row.value, row.coordinate)
            return _raw(new), new["uri"]
        value = self._load(move)
        new = pipeline.push(value, row.coordinate)
        if move.kind == "database" and not (is_envelope(new) and "uri" in new):
            raise StaysInlineError
        if is_envelope(new):
            back = pipeline.pull(new, row.coordinate.dag_id)
            if not _same(value, back, pipeline):
                raise NotMovableError("what was stored does not come back as the value was")
        return _raw(new), new.get("uri") if is_envelope(new) else None

    def _load(self, move: Move) -> Any:
        row = move.row
        if row.coordinate.state is not None and self._state is not None:
            text = tables.state_text(row.raw)
            return self._state.pull_text(text, row.coordinate.dag_id, state=row.coordinate.state)
        if move.kind == "legacy":
            return self._pipeline.pull_legacy(row.value, compat.load_json)
        if move.kind == "store":
            return self._pipeline.pull(row.value, row.coordinate.dag_id)
        return _loaded(row)

    def _pipeline_of(self, row: XComRow) -> Pipeline:
        return self._pipeline if row.coordinate.state is None or self._state is None else self._state

    def _legacy_reference(self, row: XComRow) -> tuple[Root, str] | None:
        """What a text refers to that another backend left: in the state store, one that is no JSON."""
        if not isinstance(row.value, str):
            return None
        if row.coordinate.state is None:
            return self._settings.legacy_reference(row.value)
        return self._settings.for_state.legacy_reference(tables.state_text(row.raw))

    def _settings_of(self, coordinate: Coordinate) -> Settings:
        return self._settings.for_xcom(coordinate, self._team) if self._settings.routes else self._settings


class ToStock:
    """Moves values back into their rows, as Airflow's own backend writes them. What that would change stays."""

    def __init__(self, pipeline: Pipeline, *, most_bytes: int) -> None:
        self._pipeline = pipeline
        self._most_bytes = most_bytes

    def moves(self, source: DatabaseReferences, where: XComFilter) -> Iterator[Move]:
        """Every row that only xcargo reads: envelopes, and plain values that note the order of their keys."""
        values = ValueFilter(envelopes=True, text=None if AIRFLOW_2 else _ORDER_NOTE)
        for row in _in_small_pages(source).select(where, values):
            if is_envelope(row.value):
                yield Move(row, "stock", row.value.get("size_bytes") or 0, row.value.get("uri"))
            elif not isinstance(row.value, bytes) and restored(_copied(row.value)) is not None and _noted(row.value):
                yield Move(row, "stock", _size(row))

    def convert(self, move: Move) -> tuple[Any, str | None]:
        """The row as Airflow's own backend would have written it, read back as that would read it."""
        if move.size_bytes > self._most_bytes:
            raise NotMovableError(f"its {move.size_bytes:,} bytes are more than --max-mib lets into a row")
        row = move.row
        if not is_envelope(row.value):
            return restored(_copied(row.value)), None
        value = self._pipeline.pull(row.value, row.coordinate.dag_id)
        kind = shown_name(type(value))
        if row.coordinate.state is not None:
            if not _is_json(value):
                raise NotMovableError(f"without a backend the state store would not give its {kind} back as it is")
            return value, None
        try:
            new = BaseXCom.serialize_value(value)
            text = new if isinstance(new, bytes) else json.dumps(new, allow_nan=False).encode()
            if not AIRFLOW_2 and not _carried(new):
                raise NotMovableError(f"its {kind} holds what the metadata database does not keep as it is")
            back = BaseXCom.deserialize_value(rows.Row(text if AIRFLOW_2 else json.loads(text)))
        except NotMovableError:
            raise
        except Exception as error:  # whatever Airflow's serializers raise
            raise NotMovableError(f"stock Airflow cannot carry its {kind}: {_line(error)}") from error
        if type(back) is not type(value) or not _same(value, back, self._pipeline, strictly=True):
            raise NotMovableError(f"stock Airflow would not give its {kind} back as it is")
        return new, None


def _is_json(value: Any) -> bool:
    """Whether a value is one that JSON gives back as it is."""
    if type(value) is dict:
        return all(type(key) is str and _is_json(item) for key, item in value.items())
    if type(value) is list:
        return all(map(_is_json, value))
    return type(value) is str or is_plain(value)


def _loaded(row: XComRow) -> Any:
    """A value as a task would read it."""
    try:
        return rows.load_parsed(row.value if not AIRFLOW_2 else row.raw, row.coordinate.dag_id)
    except XCargoError:
        raise
    except Exception as error:  # whatever Airflow's serializers raise
        raise NotMovableError(f"Airflow cannot read it here: {_line(error)}") from error


def _same(value: Any, back: Any, pipeline: Pipeline, *, strictly: bool = False) -> bool:
    """Whether two values are encoded alike; or, unless it must be so in every part, equal."""
    if _payload_digest(pipeline, value) == _payload_digest(pipeline, back):
        return True
    try:
        return not strictly and type(value) is type(back) and bool(value == back)
    except Exception:  # tables and arrays have no single truth
        return False


def _payload_digest(pipeline: Pipeline, value: Any) -> bytes:
    digest = blake3()
    for part in pipeline.codecs.encode(value).parts:
        digest.update(part)
    return digest.digest()


def _carried(part: Any) -> bool:
    """Whether JSON in a row comes back as it is from every metadata database."""
    if isinstance(part, dict):
        return all(is_plain(key) and _carried(item) for key, item in part.items())
    if isinstance(part, list):
        return all(map(_carried, part))
    return is_plain(part)


def _noted(part: Any) -> bool:
    if isinstance(part, dict):
        note = part.get("__id__")
        return (isinstance(note, str) and note.startswith(_ORDER_NOTE)) or any(map(_noted, part.values()))
    return isinstance(part, list) and any(map(_noted, part))


def _copied(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _size(row: XComRow) -> int:
    if isinstance(row.raw, (bytes, str)):
        return len(row.raw)
    return len(json.dumps(row.value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass"))


def _raw(value: Any) -> Any:
    """A row as the metadata database of this Airflow takes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() if AIRFLOW_2 else value


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:200]


class SourceCleanup:
    """Deletes objects that a migration left behind, below the configured roots only."""

    def __init__(self, source: DatabaseReferences, settings: Settings, pipeline: Pipeline) -> None:
        self._source = source
        self._settings = settings
        self._pipeline = pipeline

    def judge(
        self, sources: Mapping[str, tuple[str | None, float]], *, grace_seconds: float
    ) -> Iterator[tuple[str, str]]:
        """Each source object of a journal with the reason to keep it, empty if it may be deleted.

        It may be deleted if no row refers to it, in an archive neither, nor as another backend wrote references; if the
        object that was made of it is in use and whole; and if that has been so for ``grace_seconds``, since a task that
        read the row before may still be reading the object.
        """
        rows = self._rows_that_refer_to({*sources, *(target for target, _ in sources.values() if target)})
        for uri, (target, moved_at) in sources.items():
            if uri in rows:
                yield uri, "a row refers to it"
            elif time.time() - moved_at < grace_seconds:
                yield uri, f"it was left less than {grace_seconds:.0f} s ago"
            elif target is not None and target not in rows:
                yield uri, "no row refers to what was made of it; xcargo gc looks after both"
            elif target is not None and not self._is_whole(rows[target]):
                yield uri, "what was made of it cannot be read back"
            else:
                yield uri, ""

    def delete(self, uri: str) -> None:
        """Delete an object. One request. Raises SweepRefusedError unless it is below a configured root."""
        root = self._settings.root_of(uri)
        if root is not None:
            self._pipeline.roots.store(root).delete([root.object_key(uri)])
            return
        for legacy in self._settings.for_state.legacy_roots:
            key = uri.removeprefix(legacy.root.uri() + "/")
            if key != uri and not {"", ".", ".."} & set(key.split("/")):
                self._pipeline.roots.store(legacy.root).delete([key])
                return
        raise SweepRefusedError(
            "The journal names an object below none of the configured roots",
            where=uri,
            hint="Keep the former path in [xcargo] read_paths or legacy_references until its objects are deleted.",
        )

    def _rows_that_refer_to(self, uris: set[str]) -> dict[str, XComRow]:
        legacy_roots = self._settings.for_state.legacy_roots
        values = ValueFilter(envelopes=True, prefixes=tuple(legacy.prefix for legacy in legacy_roots))
        rows: dict[str, XComRow] = {}
        for row in self._source.select(EVERYTHING, values, archived=True):
            uri = ""
            if isinstance(row.value, dict):
                uri = str(row.value.get("uri"))
            elif isinstance(row.value, str) and (reference := self._settings.for_state.legacy_reference(row.value)):
                uri = reference[0].uri(reference[1])
            if uri in uris:
                rows[uri] = row
        return rows

    def _is_whole(self, row: XComRow) -> bool:
        try:
            self._pipeline.verify(row.value, row.coordinate.dag_id)
        except XCargoError:
            return False
        return True
