"""XComs as a client lists them: what is known of each without loading it."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from xcargo.codecs.base import importable
from xcargo.errors import XCargoError
from xcargo.lifecycle.references import XComRow, parse_time
from xcargo.model.envelope import Envelope, is_envelope
from xcargo.model.key_order import restored
from xcargo.pipeline.pipeline import Pipeline
from xcargo.transfer.reporting import format_bytes

if TYPE_CHECKING:
    from xcargo.codecs.source import Source
    from xcargo.pipeline.handle import Lazy

__all__ = ["StoredValue", "StoredValues"]

_MOST_SHOWN = 20
_PREVIEW_CHARS = 100


@dataclass(frozen=True)
class StoredValue:
    """One XCom: where it belongs, and what is known of its value without loading it. Times are in UTC."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    key: str
    type: str
    size_bytes: int
    preview: str | None
    run_state: str | None
    run_date: datetime | None
    created_at: datetime | None
    """When it was pushed; None if the value is in the row itself."""
    _row: Any = field(repr=False)
    _pipeline: Pipeline = field(repr=False)

    @classmethod
    def of(cls, row: XComRow, pipeline: Pipeline) -> StoredValue:
        """Describes a row. Reads no object."""
        at, value, run = row.coordinate, row.value, row.run
        try:
            envelope = Envelope.from_row(value) if is_envelope(value) else None
            text = "" if envelope else json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
            preview = envelope.preview if envelope else text[:_PREVIEW_CHARS]
        except XCargoError as error:  # one damaged row does not keep the others from being listed
            envelope, text, preview = None, "", str(error)
        return cls(
            at.dag_id,
            at.run_id,
            at.task_id,
            at.map_index,
            at.key,
            type=envelope.type if envelope else type(value).__name__,
            size_bytes=envelope.size_bytes if envelope else len(text.encode("utf-8", "surrogatepass")),
            preview=preview or None,
            run_state=run.state if run else None,
            run_date=run.date if run else None,
            created_at=parse_time(envelope.created_at) if envelope else None,
            _row=value,
            _pipeline=pipeline,
        )

    def pull(self) -> Any:
        """The value."""
        if is_envelope(self._row):
            return self._pipeline.pull(self._row, self.dag_id)
        if isinstance(self._row, str) and self._pipeline.settings.legacy_reference(self._row):
            from xcargo.airflow import compat  # which is there: Airflow's own settings name what is legacy

            return self._pipeline.pull_legacy(self._row, compat.load_json)
        return restored(deepcopy(self._row))  # which the caller may change

    def source(self) -> Source:
        """The payload of a value that is not in the row itself, to be read in parts. No request."""
        return self._pipeline.source(self._row, self.dag_id)

    def lazy(self) -> Lazy:
        """A handle of the value. No request."""
        return self._pipeline.handle(self._row if is_envelope(self._row) else self.pull(), self.dag_id)

    def _repr_html_(self) -> str:
        """What Jupyter shows: whose it is, and what its handle shows."""
        of_map = f" [{self.map_index}]" if self.map_index >= 0 else ""
        place = html.escape(f"{self.dag_id} · {self.run_id} · {self.task_id}{of_map} · {self.key}")
        try:
            return f"<p>{place}</p>{self.lazy()._repr_html_()}"
        except XCargoError as error:
            return f"<p>{place}</p><pre>{html.escape(str(error))}</pre>"


class StoredValues(Sequence[StoredValue]):
    """A list of XComs, which Jupyter shows as a table."""

    columns = ("dag_id", "run_id", "run_date", "run_state", "task_id", "map_index", "key", "type", "size_bytes")

    def __init__(self, values: Sequence[StoredValue]) -> None:
        self._values = values

    def pull(self) -> list[Any]:
        """All values, in order."""
        return [value.pull() for value in self._values]

    def to_frame(self, *, pull: bool = False) -> Any:
        """A ``pandas.DataFrame`` with a row for each XCom: `columns`, ``created_at`` and ``preview``.

        Args:
            pull: Load the values too, into a column ``value``.
        """
        names = (*self.columns, "created_at", "preview")
        pd = importable("pandas", "a table of XComs")
        frame = pd.DataFrame([[getattr(value, name) for name in names] for value in self], columns=list(names))
        return frame.assign(value=pd.Series(self.pull(), dtype=object)) if pull else frame

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> Any:
        found = self._values[index]
        return found if isinstance(found, StoredValue) else StoredValues(found)

    def __iter__(self) -> Iterator[StoredValue]:
        return iter(self._values)

    def __repr__(self) -> str:
        return f"<{len(self)} XComs: {', '.join(f'{v.task_id} ({v.type})' for v in self._values[:5])}>"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in (*self.columns, "preview"))
        lines = [
            "".join(f"<td>{html.escape(_shown(value, name))}</td>" for name in (*self.columns, "preview"))
            for value in self._values[:_MOST_SHOWN]
        ]
        more = f"<p>and {len(self) - _MOST_SHOWN} more</p>" if len(self) > _MOST_SHOWN else ""
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _shown(value: StoredValue, name: str) -> str:
    field = getattr(value, name)
    if name == "size_bytes":
        return format_bytes(field)
    return "" if field is None or field == -1 else str(field)
