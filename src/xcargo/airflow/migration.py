"""Which rows are not where the settings say they belong, and how each gets there."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from blake3 import blake3

from xcargo.airflow import compat, rows
from xcargo.airflow.backend import control_key
from xcargo.airflow.compat import AIRFLOW_2, BaseXCom
from xcargo.airflow.references import DatabaseReferences
from xcargo.errors import ConfigurationError, SweepRefusedError, XCargoError
from xcargo.lifecycle.moves import DeterministicCoordinate, Move, NotMovableError, StaysInlineError
from xcargo.lifecycle.references import EVERYTHING, XComFilter, XComRow
from xcargo.model.coordinate import Coordinate
from xcargo.model.envelope import is_envelope, is_plain
from xcargo.model.key_order import marked, restored
from xcargo.model.root import Root
from xcargo.model.settings import Settings
from xcargo.pipeline.legacy import resolve
from xcargo.pipeline.pipeline import Pipeline
from xcargo.transfer.compression import canonical

__all__ = ["KINDS", "SourceCleanup", "ToStock", "ToStore", "check_teams"]

KINDS = ("database", "store", "legacy")

_PAGE_ROWS = 50
"""Rows of the database hold their values: a page of them must fit into memory."""

_ORDER_NOTE = "xcargo-order:"


def check_teams(settings: Settings, team: str | None) -> None:
    """Raise ConfigurationError if a row's place depends on a team that nobody named: rows do not tell theirs."""
    if team is None and any(route.team for route in settings.routes):
        raise ConfigurationError(
            "Some routes are for the tasks of a team, and rows do not tell of which team their Dag is",
            hint="Migrate team by team: --team NAME with the --dag of that team, and --team '' for those of none.",
        )


class ToStore:
    """Where the settings say: large rows, objects below other roots and other backends' references go to the store.

    ``anew`` takes every object, so that it gets today's compression and codec too; ``recode`` decodes and encodes it.
    """

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        *,
        kinds: Collection[str],
        team: str | None,
        anew: bool,
        recode: bool,
    ) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._kinds = kinds
        self._team = team
        self._anew = anew or recode
        self._recode = recode

    def steps(self, source: DatabaseReferences, where: XComFilter) -> Iterator[Move]:
        """Every row that is meant and is not where it belongs."""
        import sqlalchemy as sa

        least = min((s.threshold_bytes for s in self._settings.variants if s.threshold_bytes >= 0), default=None)

        def holding(table: Any) -> Any:
            wanted = [table.is_envelope()] if "store" in self._kinds else []
            if "database" in self._kinds and least is not None:
                wanted.append(table.is_larger(least))
            if "legacy" in self._kinds:
                wanted += [table.begins_with(legacy.prefix) for legacy in self._settings.legacy_roots]
            return sa.or_(sa.false(), *wanted)

        for row in DatabaseReferences(source.engine, schema=source.schema, page_rows=_PAGE_ROWS).select(where, holding):
            step = self._step(row)
            if step is not None:
                yield step

    def _step(self, row: XComRow) -> Move | None:
        value = row.value
        way = self._way(row.coordinate)
        if is_envelope(value):
            uri = value.get("uri")
            if "store" not in self._kinds or type(uri) is not str or way.root is None:
                return None
            key = value.get("encryption")
            stays = (
                self._settings.root_of(uri) == way.root
                and (key["key"] if type(key) is dict and "key" in key else None)
                == (way.encryption_key.name if way.encryption_key else None)
                and not self._anew
            )
            return None if stays else Move(row, "store", value.get("size_bytes") or 0, uri)
        reference = resolve(value, self._settings.legacy_roots) if isinstance(value, str) else None
        if reference is not None:
            if "legacy" not in self._kinds:
                return None
            return Move(row, "legacy", 0, reference.root.uri(reference.key))
        size = _size(row)
        if "database" not in self._kinds or not 0 <= way.threshold_bytes < size or control_key(row.coordinate.key):
            return None
        return Move(row, "database", size)

    def convert(self, step: Move) -> tuple[Any, str | None]:
        """The new row, its value stored and read back."""
        row = step.row
        coordinate = self._pinned(step)
        if step.kind == "store" and not self._recode:
            new: Any = self._pipeline.stored_anew(row.value, coordinate)
            return _raw(new), new["uri"]
        value = self._load(step)
        new = self._pipeline.push(value, coordinate, inline_only=control_key(row.coordinate.key))
        if step.kind == "database" and not (is_envelope(new) and "uri" in new):
            raise StaysInlineError
        if is_envelope(new):
            back = self._pipeline.pull(new, row.coordinate.dag_id)
            if not _same(value, back, self._pipeline):
                raise NotMovableError("what was stored does not come back as the value was")
        elif self._settings.keep_key_order and not AIRFLOW_2:
            new = marked(new)
        return _raw(new), new.get("uri") if is_envelope(new) else None

    def _load(self, step: Move) -> Any:
        row = step.row
        if step.kind == "legacy":
            return self._pipeline.pull_legacy(row.value, compat.load_json)
        if step.kind == "store":
            return self._pipeline.pull(row.value, row.coordinate.dag_id)
        return _loaded(row)

    def _way(self, coordinate: Coordinate) -> Settings:
        return self._settings.for_xcom(coordinate, self._team) if self._settings.routes else self._settings

    def _pinned(self, step: Move) -> DeterministicCoordinate:
        """The coordinate whose object key follows from what is moved and to where: the same whenever it is repeated."""
        way = self._way(step.row.coordinate)
        told = json.dumps(
            [
                *(step.source or _text(step.row.raw), str(way.root), canonical(way.compression)),
                *(way.encryption_key.name if way.encryption_key else "", self._recode),
            ]
        )
        return DeterministicCoordinate.of(step.row.coordinate, blake3(told.encode()).hexdigest(length=8))


class ToStock:
    """Back into the rows, as Airflow's own backend writes them. What that cannot carry exactly is left alone."""

    def __init__(self, pipeline: Pipeline, *, most_bytes: int) -> None:
        self._pipeline = pipeline
        self._most_bytes = most_bytes

    def steps(self, source: DatabaseReferences, where: XComFilter) -> Iterator[Move]:
        """Every row that only xcargo reads: envelopes, and plain values that note the order of their keys."""
        import sqlalchemy as sa

        def holding(table: Any) -> Any:
            return table.is_envelope() if AIRFLOW_2 else sa.or_(table.is_envelope(), table.mentions(_ORDER_NOTE))

        for row in DatabaseReferences(source.engine, schema=source.schema, page_rows=_PAGE_ROWS).select(where, holding):
            if is_envelope(row.value):
                yield Move(row, "stock", row.value.get("size_bytes") or 0, row.value.get("uri"))
            elif not isinstance(row.value, bytes) and restored(_copied(row.value)) is not None and _noted(row.value):
                yield Move(row, "stock", _size(row))

    def convert(self, step: Move) -> tuple[Any, str | None]:
        """The row as Airflow's own backend would have written it, read back as that would read it."""
        if step.size_bytes > self._most_bytes:
            raise NotMovableError(f"its {step.size_bytes:,} bytes are more than --max-mib lets into a row")
        row = step.row
        if not is_envelope(row.value):
            return restored(_copied(row.value)), None
        value = self._pipeline.pull(row.value, row.coordinate.dag_id)
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
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
    if pipeline.payload_of(value) == pipeline.payload_of(back):
        return True
    try:
        return not strictly and type(value) is type(back) and bool(value == back)
    except Exception:  # tables and arrays have no single truth
        return False


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


def _text(raw: Any) -> str:
    """What tells a value from another, however its database gave it."""
    if isinstance(raw, bytes):
        return blake3(raw).hexdigest()
    return blake3(json.dumps(raw, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:200]


class SourceCleanup:
    """Objects at URIs of the journal, below the roots that are configured: no other is ever deleted."""

    def __init__(self, source: DatabaseReferences, settings: Settings, pipeline: Pipeline) -> None:
        self._source = source
        self._settings = settings
        self._pipeline = pipeline
        self._rows: dict[str, Any] = {}

    def referred(self, uris: Collection[str]) -> set[str]:
        """Those that a row refers to, also one in an archive, and also as another backend wrote references."""
        import sqlalchemy as sa

        def holding(table: Any) -> Any:
            prefixes = (table.begins_with(legacy.prefix) for legacy in self._settings.legacy_roots)
            return sa.or_(table.is_envelope(), *prefixes)

        found = set()
        for row in self._source.select(EVERYTHING, holding, archived=True):
            uri = self._uri(row.value)
            if uri in uris:
                found.add(uri)
                self._rows[uri] = (row.value, row.coordinate.dag_id)
        return found

    def is_whole(self, uri: str) -> bool:
        """Whether an object that a row refers to can be read back, every byte as it was stored."""
        try:
            self._pipeline.verify(*self._rows[uri])
        except XCargoError:
            return False
        return True

    def delete(self, uri: str) -> None:
        """Delete an object. One request. Raises SweepRefusedError unless it lies below a configured root."""
        root, key = self._place(uri)
        self._pipeline.delete(root, key)

    def _uri(self, value: Any) -> str:
        if isinstance(value, dict):
            return str(value.get("uri"))
        reference = resolve(value, self._settings.legacy_roots) if isinstance(value, str) else None
        return reference.root.uri(reference.key) if reference is not None else ""

    def _place(self, uri: str) -> tuple[Root, str]:
        root = self._settings.root_of(uri)
        if root is not None:
            return root, root.object_key(uri)
        for legacy in self._settings.legacy_roots:
            key = uri.removeprefix(legacy.root.uri() + "/")
            if key != uri and not {"", ".", ".."} & set(key.split("/")):
                return legacy.root, key
        raise SweepRefusedError(
            "The journal names an object below none of the configured roots",
            where=uri,
            hint="Keep the former path in [xcargo] read_paths or legacy_references until its objects are deleted.",
        )
