"""Values of scientific libraries: the name of a class that is known here, and its state as a nested value.

``CLASSES`` lists all of them. Each library has a module here with two functions: ``state`` gives what a value consists
of, mostly numpy arrays, which are not copied; ``restore`` builds the value of a class and checks what it is given.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any, cast

from xcargo.codecs.base import Encoded, SourceCodec, importable
from xcargo.codecs.source import Source
from xcargo.codecs.tree import TreeCodec
from xcargo.errors import UPGRADE_HINT, DecodeError, UnsupportedTypeError, XCargoError

__all__ = ["CLASSES", "LibraryCodec"]

_POLYNOMIALS = ("Polynomial", "Chebyshev", "Legendre", "Laguerre", "Hermite", "HermiteE")
_RANDOM = ("Generator", "RandomState", "SeedSequence", "MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
_SPARSE = [
    f"{form}_{kind}" for form in ["bsr", "coo", "csc", "csr", "dia", "dok", "lil"] for kind in ("array", "matrix")
]

CLASSES: dict[str, dict[str, str]] = {
    "numpy": {
        "poly1d": "numpy",
        **dict.fromkeys(_POLYNOMIALS, "numpy.polynomial"),
        **dict.fromkeys(_RANDOM, "numpy.random"),
    },
    "pandas": {"NamedAgg": "pandas"},
    "scipy": dict.fromkeys(_SPARSE, "scipy.sparse"),
    "torch": {**dict.fromkeys(("Tensor", "Size", "dtype", "device"), "torch"), "Parameter": "torch.nn"},
    "xarray": dict.fromkeys(("DataArray", "Dataset", "DataTree", "Variable"), "xarray"),
}
"""Library -> names of its classes that are stored -> the module that they are imported from."""

_STATE_PATH = re.compile(r"^At value\[2\]")


class LibraryCodec(SourceCodec):
    """Polynomials and generators of numpy, matrices of scipy, tensors of torch, datasets of xarray, pandas' NamedAgg.

    Exactly these classes, and no subclass. The payload is ``[library, "module:class", state]``. Whatever a library
    would not rebuild from the state is refused when it is pushed.
    """

    id = "library"

    def __init__(self, tree: TreeCodec) -> None:
        self._tree = tree

    def accepts(self, value: object) -> bool:
        cls = type(value)
        library = str(cls.__module__).partition(".")[0]
        module = sys.modules.get(CLASSES.get(library, {}).get(cls.__name__, ""))
        return module is not None and getattr(module, cls.__name__, None) is cls

    def encode(self, value: Any) -> Encoded:
        cls = type(value)
        library = cls.__module__.partition(".")[0]
        name = f"{CLASSES[library][cls.__name__]}:{cls.__name__}"
        adapter: Any = import_module(f"{__name__}.{library}")
        state = adapter.state(value)
        try:
            adapter.restore(cls, state)
        except Exception as error:
            raise UnsupportedTypeError(
                f"A {name.replace(':', '.')} that {library} would not build again cannot be stored: {error}",
                hint="Return the arrays that it consists of.",
            ) from error
        try:
            encoded = self._tree.encode([library, name, state])
        except UnsupportedTypeError as error:
            error.what = _STATE_PATH.sub("At value", error.what)
            raise
        # The same dictionary, which a payload that is an iterator fills in at its end.
        params = cast("dict[str, Any]", encoded.params)
        params["type"] = name.replace(":", ".")
        params["version"] = str(getattr(sys.modules[library], "__version__", ""))
        return replace(encoded, codec=self.id)

    def open(self, source: Source, params: Mapping[str, Any]) -> Any:
        body = self._tree.open(source, params)
        try:
            library, name, state = body
            module, _, class_name = name.partition(":")
            if CLASSES[library][class_name] != module:
                raise ValueError(name)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DecodeError(
                "The object does not hold a value of a library that is known here",
                hint=UPGRADE_HINT,
            ) from error
        cls = getattr(importable(module, f"a {name.replace(':', '.')}", package=library), class_name, None)
        if cls is None:
            raise DecodeError(
                f"The {library} installed here has no {class_name}",
                hint=f"Install the version that wrote the value, {str(params.get('version'))[:40]}, or a newer one.",
            )
        try:
            return import_module(f"{__name__}.{library}").restore(cls, state)
        except XCargoError:
            raise
        except Exception as error:  # a library raises errors of every kind for forged state
            raise DecodeError(f"The object does not hold a {class_name}: {type(error).__name__}: {error}") from error
