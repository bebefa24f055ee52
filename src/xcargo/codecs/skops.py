"""scikit-learn's estimators, by skops: a ZIP archive of arrays and of a schema that names classes. Never a pickle."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from xcargo.codecs.base import Encoded, importable
from xcargo.codecs.class_names import ClassNames, dotted
from xcargo.codecs.plain_values import class_name
from xcargo.errors import DecodeError, UnsupportedTypeError, XCargoError
from xcargo.types import Buffer

__all__ = ["SkopsCodec"]

_PICKLE = "allow_pickle stores it as a pickle, where whoever writes XComs may run code."


class SkopsCodec:
    """Instances of ``sklearn.base.BaseEstimator``: models, transformers, pipelines of them.

    skops rebuilds the classes that it trusts, which are those of scikit-learn, numpy and scipy that do no harm. Any
    other class in an estimator must be one that may be rebuilt here, by `ClassNames`.
    """

    id = "skops"

    def __init__(self, classes: ClassNames) -> None:
        self._classes = classes

    def accepts(self, value: object) -> bool:
        base = getattr(sys.modules.get("sklearn.base"), "BaseEstimator", None)
        return base is not None and isinstance(value, base)

    def encode(self, value: Any) -> Encoded:
        kind = class_name(type(value))
        try:
            with _no_warnings_of_skops():
                skops = import_module("skops.io")
        except ImportError as error:
            raise UnsupportedTypeError(
                f"The estimator {kind} needs skops to be stored, which is not installed here",
                hint=f"Run: pip install 'airflow-provider-xcargo[sklearn]', here and where it is pulled. {_PICKLE}",
            ) from error
        try:
            with _no_warnings_of_skops():
                payload = skops.dumps(value)
            self._load(skops, payload)
        except XCargoError as error:
            raise UnsupportedTypeError(f"The estimator {kind}: {error.what}", hint=f"{error.hint} {_PICKLE}") from error
        except Exception as error:  # an estimator's own way to be stored may raise anything
            raise UnsupportedTypeError(
                f"skops cannot store the estimator {kind}: {type(error).__name__}: {error}",
                hint=f"Return xcargo.File of a file that you saved it to. {_PICKLE}",
            ) from error
        versions = {name: str(getattr(sys.modules.get(name), "__version__", "")) for name in ("sklearn", "skops")}
        return Encoded(self.id, (payload,), {"type": kind, **versions}, ".skops")

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> Any:
        kind = str(params.get("type"))[:200]
        for library in ("sklearn", "skops.io"):
            with _no_warnings_of_skops():
                skops = importable(library, f"the estimator {kind}", extra="sklearn")
        try:
            return self._load(skops, bytes(payload))
        except XCargoError:
            raise
        except Exception as error:  # zipfile, JSON, numpy and skops each have errors of their own
            raise DecodeError(
                f"The object does not hold the estimator {kind}: {type(error).__name__}: {error}",
                hint=f"It was written with scikit-learn {str(params.get('sklearn'))[:40]}.",
            ) from error

    def _load(self, skops: Any, payload: bytes) -> Any:
        """The estimator. Raises DecodeError, before anything is built, for a class that may not be rebuilt."""
        import io
        import zipfile

        with zipfile.ZipFile(io.BytesIO(payload)) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise DecodeError("The archive of the estimator is compressed, which skops' is not here")
        with _no_warnings_of_skops():
            names = skops.get_untrusted_types(data=payload)
        self._check([":".join(name.rpartition(".")[::2]) for name in names])
        with _no_warnings_of_skops():
            return skops.loads(payload, trusted=names)

    def _check(self, names: Sequence[str]) -> None:
        """Raises DecodeError for classes that may not be rebuilt, or that skops would not find by their names."""
        classes = {name: self._classes.class_of(name) for name in names}
        refused = [name for name, cls in classes.items() if cls is None]
        if refused:
            raise self._classes.refusal(refused)
        for name, cls in classes.items():
            if cls is not None and self._classes.name_of(cls) != name:
                raise DecodeError(
                    f"The class {dotted(name)} cannot be imported by that name in another task",
                    hint="Define it in a module that every worker can import.",
                )


@contextmanager
def _no_warnings_of_skops() -> Iterator[None]:
    """It looks for functions in every module there is, and Airflow's say of each attribute that it is deprecated.

    What scikit-learn says of another version that wrote an estimator is a UserWarning, and shown.
    """
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        yield
