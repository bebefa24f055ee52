"""Objects that a migration left behind: is one still referred to, and how it goes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from xcargo.airflow.references import DatabaseReferences
from xcargo.errors import SweepRefusedError, XCargoError
from xcargo.lifecycle.references import EVERYTHING
from xcargo.model.root import Root
from xcargo.model.settings import Settings
from xcargo.pipeline.legacy import resolve
from xcargo.pipeline.pipeline import Pipeline

__all__ = ["LeftBehind"]


class LeftBehind:
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
