"""Values as programs in other languages write and read them: JSON, Arrow, Parquet and CSV, by media type.

Nothing here is a form in which a value is stored: types that only Python knows do not come back.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from xcargo.codecs.base import arrow, importable
from xcargo.codecs.files import File, FileCodec
from xcargo.errors import DecodeError, UnsupportedTypeError
from xcargo.types import Buffer

__all__ = ["CSV", "SUFFIXES", "decode", "encode", "media_type_of"]

JSON = "application/json"
ARROW_FILE = "application/vnd.apache.arrow.file"
ARROW_STREAM = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
CSV = "text/csv"

SUFFIXES = {JSON: ".json", ARROW_FILE: ".arrow", ARROW_STREAM: ".arrows", PARQUET: ".parquet", CSV: ".csv"}
"""The media types that are decoded and encoded here, and the suffix of a file of each."""


def media_type_of(name: str) -> str | None:
    """The one of these media types that a file of this name has; None if it has none of them."""
    suffix = PurePath(name).suffix.lower()
    return next((media_type for media_type, own in SUFFIXES.items() if own == suffix), None)


def decode(data: bytes, media_type: str) -> Any:
    """The value of a document: plain Python of JSON, a ``pyarrow.Table`` of a table.

    Raises DecodeError if it is none of that media type, and MissingDependencyError without pyarrow.
    """
    if media_type == JSON:
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError
            raise DecodeError(f"It is not JSON: {type(error).__name__}") from None  # the error may quote it
    pa = arrow()
    try:
        if media_type == CSV:
            table = importable("pyarrow.csv", "a table", extra="arrow").read_csv(io.BytesIO(data))
        elif media_type == PARQUET:
            table = importable("pyarrow.parquet", "a table", extra="arrow").read_table(io.BytesIO(data))
        else:
            read = pa.ipc.open_file if media_type == ARROW_FILE else pa.ipc.open_stream
            table = read(data).read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:  # all of which pyarrow raises
        raise DecodeError(f"It is not {media_type}: {type(error).__name__}") from None
    return table


def encode(value: Any, media_type: str | None) -> Iterable[Buffer]:
    """A value as a document of a media type. None takes the form that is its own: of files, bytes, text, plain values.

    A file in its own form is read while it is consumed; anything else is in memory. Raises UnsupportedTypeError if the
    value has no such form.
    """
    if isinstance(value, File):
        if media_type in (None, value.media_type):
            return FileCodec().encode(value).parts
        own = value.media_type if value.media_type in SUFFIXES else media_type_of(value.name)
        if own is None:
            raise _no_form(value, media_type)
        value = decode(value.read_bytes(), own)
    if media_type is None and isinstance(value, (bytes, bytearray)):
        return [value]
    if media_type in (None, JSON):
        is_text = media_type is None and isinstance(value, str)
        try:
            return [(value if is_text else json.dumps(value, allow_nan=False, ensure_ascii=False)).encode()]
        except (TypeError, ValueError, RecursionError):
            raise _no_form(value, media_type) from None
    if media_type not in SUFFIXES:
        raise _no_form(value, media_type)
    table = _table(value)
    target = io.BytesIO()
    if media_type == CSV:
        importable("pyarrow.csv", "a table", extra="arrow").write_csv(table, target)
    elif media_type == PARQUET:
        importable("pyarrow.parquet", "a table", extra="arrow").write_table(table, target)
    else:
        ipc = arrow().ipc
        with (ipc.new_file if media_type == ARROW_FILE else ipc.new_stream)(target, table.schema) as writer:
            writer.write_table(table)
    return [target.getvalue()]


def table_of_records(records: Sequence[Mapping[str, Any]]) -> Any:
    """Records as a ``pyarrow.Table``, null where one lacks a field that another has. Raises what pyarrow raises."""
    names = dict.fromkeys(name for record in records for name in record)  # not those of the first record alone
    return arrow().table({name: [record.get(name) for record in records] for name in names})


def _table(value: Any) -> Any:
    """A frame of any library, a reader or a list of records as a ``pyarrow.Table``."""
    pa = arrow()
    try:
        return table_of_records(value) if isinstance(value, list) else pa.table(value)
    except (pa.ArrowException, OverflowError, TypeError, ValueError, AttributeError):
        raise _no_form(value, "a table") from None


def _no_form(value: Any, media_type: str | None) -> UnsupportedTypeError:
    return UnsupportedTypeError(
        f"A value of type {type(value).__name__} cannot be handed out as {media_type or 'it is'}",
        hint=f"Give media_type: tables take {', '.join(list(SUFFIXES)[1:])}; plain values {JSON}; files their own.",
    )
