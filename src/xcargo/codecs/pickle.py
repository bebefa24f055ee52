"""Pickles, for values that nothing else takes, and only where the deployment says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xcargo.codecs.base import Encoded, importable
from xcargo.errors import DecodeError, MissingDependencyError, UnsupportedTypeError
from xcargo.types import Buffer

__all__ = ["PickleCodec"]


class PickleCodec:
    """Any value that cloudpickle takes, if ``allowed``; else it writes nothing and reads nothing.

    **Reading a pickle runs whatever code its writer chose.** So one that lies in a store is refused unless this side
    allows it too, whoever wrote it.
    """

    id = "pickle"

    def __init__(self, *, allowed: bool) -> None:
        self._allowed = allowed

    def accepts(self, value: object) -> bool:
        return self._allowed

    def encode(self, value: Any) -> Encoded:
        cloudpickle = importable("cloudpickle", "pickled", extra="pickle")
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        try:
            payload = cloudpickle.dumps(value, protocol=5)
        except Exception as error:  # a class's own way to be pickled may raise anything
            raise UnsupportedTypeError(f"{kind} cannot be pickled: {type(error).__name__}") from error
        return Encoded(self.id, (payload,), {"class": kind}, ".pkl")

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> Any:
        if not self._allowed:
            raise DecodeError(
                "The value is a pickle, and reading one runs code that its writer chose",
                hint="If everyone who can write XComs and objects may run code in this task, set "
                "AIRFLOW__XCARGO__ALLOW_PICKLE=True where it runs.",
            )
        import pickle

        try:
            return pickle.loads(payload)  # noqa: S301 - allowed by the deployment, and said so where it is set
        except ImportError as error:
            raise MissingDependencyError(
                f"The pickle needs a module that is not installed here: {error}",
                hint="Install what the task that pushed the value had installed.",
            ) from error
        except Exception as error:
            raise DecodeError(f"The pickle cannot be read: {type(error).__name__}: {error}") from error
