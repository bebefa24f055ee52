"""Whatever else Airflow's own serializers know (``serde``): providers' classes, Kubernetes objects, delta tables."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

from xcargo.airflow import compat
from xcargo.airflow.classes import how_to_allow
from xcargo.codecs.base import Encoded
from xcargo.codecs.plain_values import shown_name, way_out
from xcargo.errors import DecodeError, UnsupportedTypeError
from xcargo.types import Buffer

__all__ = ["SerdeCodec"]


class SerdeCodec:
    """Last resort among the codecs: Airflow's ``serialize`` and ``deserialize``, with Airflow's allow-list.

    The class to build is named in the payload and imported by Airflow only if ``[core]
    allowed_deserialization_classes`` admits it; a refusal says what to add there.
    """

    id = "airflow-serde"

    def accepts(self, value: object) -> bool:
        return True

    def encode(self, value: Any) -> Encoded:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        try:
            if isinstance(value, (list, dict)):
                raise TypeError("Airflow would give it back as another type, after a walk through all of it")
            serialized = compat.serde().serialize(value)
            if not isinstance(serialized, dict) or serialized.get("__classname__") != kind:
                raise TypeError("Airflow would give it back as another type")
            if hasattr(value, "serialize"):  # exceptions of Airflow and triggers have no way back
                inspect.signature(type(value).deserialize).bind(serialized["__data__"], 0)
            payload = json.dumps(serialized).encode()
        except Exception as error:  # of the value's own code too
            raise UnsupportedTypeError(
                f"Neither xcargo nor Airflow can store a value of type {shown_name(type(value))}",
                hint=f"Return {way_out(value)}, or register a codec for it under the entry point group "
                "'xcargo.codecs'.",
            ) from error
        return Encoded(self.id, (payload,), suffix=".json")

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> Any:
        try:
            return compat.serde().deserialize(json.loads(bytes(payload)))
        except ImportError as error:
            name = str(error).partition(" ")[0]
            raise DecodeError(
                f"Airflow does not allow (or find) the class {name}: {error}",
                hint=how_to_allow([name]),
            ) from error
        except Exception as error:  # of the class's own code too
            raise DecodeError(f"Airflow could not rebuild the value: {error}") from error
