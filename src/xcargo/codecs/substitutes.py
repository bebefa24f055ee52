"""Built-in values in place of values that no codec takes: a database's row as the dict that it equals.

Whether a codec takes a value is asked first. What is left, instances of subclasses of built-in types above all, is
stored as a plain value unless ``strict_types`` refuses it, and one line in the log says where that was done. Iterators
are stored as the list that they give.
"""

from __future__ import annotations

import inspect
import io
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from itertools import chain, groupby, islice
from types import GeneratorType
from typing import Any, Protocol

import ormsgpack

from xcargo.codecs.builtin import EXTENSIONS, Tag
from xcargo.codecs.class_names import ClassBudget
from xcargo.codecs.plain_values import converter_of, shown_name
from xcargo.codecs.value_path import TooDeepError, first_path, names_part, shift_index
from xcargo.errors import SizeLimitError, UnsupportedTypeError, XCargoError
from xcargo.model.settings import Settings
from xcargo.types import Buffer

__all__ = ["CURRENT", "Packer", "Push", "current_push"]

log = logging.getLogger(__name__)

_ITERATOR_BYTES = 256 * 1024 * 1024
"""What the items of an iterator may take, packed, where ``max_size_bytes`` sets no limit: it may have no end."""
_CHUNK_BYTES = 256 * 1024
_SEARCHED = 10_000
"""Parts of a value among which the first one of a class is looked for."""
_NAMED_CLASSES = 5


class Packer(Protocol):
    """The tree codec, as far as it is needed here."""

    def pack(self, value: Any) -> bytes:
        """A value as bytes."""


class Push:
    """One push: its settings, and which built-in values it stores in place of others.

    Nothing of it is made before it is needed: most pushes store every value as it is.

    Attributes:
        settings: What applies to the value; None stands for the defaults.
        mask: Hides secrets in what the log shows of the value.
        for_digest: Whether the payload is only compared: sets are in order, and the value is still whole afterwards.
        first: Class -> the first instance in whose place a built-in value is stored, and the type of that.
        task_error: What an iterator, reader or query of the task raised when its items were asked for.
    """

    settings: Settings | None = None
    mask: Callable[[str], str] = staticmethod(str)
    for_digest: bool = False
    first: dict[type, tuple[Any, str]] | None = None
    task_error: Exception | None = None

    @cached_property
    def converters(self) -> dict[type, Callable[[Any], Any]]:
        """Class -> what gives the built-in value, from the second instance of the class on without asking codecs."""
        return {}

    @cached_property
    def named_tuples(self) -> ClassBudget:
        """Classes of named tuples that a pull may have to make."""
        return ClassBudget()

    @cached_property
    def _packed(self) -> dict[int, tuple[Any, ormsgpack.Ext]]:
        """Id of an iterator -> itself, so that no other value gets that id, and its items."""
        return {}

    @cached_property
    def _opened(self) -> dict[int, tuple[Any, list[Any], Iterator[Any]]]:
        """Id of a generator -> itself, its first item, and all of its items."""
        return {}

    @property
    def encrypts(self) -> bool:
        """Whether the payload is stored encrypted, wherever it goes. (One that may stay in its row is not.)"""
        return self.settings is not None and bool(self.settings.encryption_key) and self.settings.threshold_bytes == 0

    def substitute(self, value: Any, refusal: UnsupportedTypeError, *, tree: Packer) -> Any:
        """What is stored in place of a value for which every codec raised ``refusal``; raises that if nothing is."""
        cls: Any = type(value)
        if (inspect.isawaitable(value) and not hasattr(cls, "__dask_graph__")) or inspect.isasyncgen(value):
            raise _not_awaited(value) from None
        convert = converter_of(cls)
        if (convert is None and not _is_iterator(value)) or names_part(refusal) or isinstance(refusal, TooDeepError):
            raise refusal
        if any(isinstance(first, (bytes, bytearray, memoryview)) for first in self._opened.get(id(value), ((), ()))[1]):
            raise refusal  # of a generator of bytes, some of which are taken
        if self.settings is not None and self.settings.strict_types:
            refusal.hint = f"{refusal.hint or ''} ([xcargo] strict_types refuses what only equals such a type.)".strip()
            raise refusal
        built_in = self._iterated(value, tree) if convert is None else convert(value)
        self.first = self.first or {}
        self.first.setdefault(cls, (value, "list" if convert is None else type(built_in).__name__))
        if convert is not None and cls not in EXTENSIONS:
            self.converters[cls] = convert
        return built_in

    def opened(self, generator: GeneratorType[Any, None, None]) -> tuple[list[Any], Iterator[Any]]:
        """The first item of a generator, if it gives one, and all of its items: the same at each call."""
        self.refuse_to_consume(generator)
        known = self._opened.get(id(generator))
        if known is None:
            if generator.gi_frame is None:
                raise UnsupportedTypeError(
                    "The generator has ended before it was stored", hint="Return one that was not used."
                )
            with self.running_task_code():
                first = list(islice(generator, 1))
            known = self._opened[id(generator)] = generator, first, chain(first, generator)
        return known[1], known[2]

    def refuse_to_consume(self, value: Any) -> None:
        """Raise UnsupportedTypeError for a value that gives its items once, if the task still needs them."""
        if self.for_digest:
            raise UnsupportedTypeError(
                f"A {shown_name(type(value))} gives its items only once", hint="Pass a list, a table or a handle."
            )

    @contextmanager
    def running_task_code(self) -> Iterator[None]:
        """Around code of the task that runs while its value is stored, of which the error leaves the push as it is.

        Its type says what becomes of the task: Airflow skips it, fails it, or tries it again.
        """
        try:
            yield
        except Exception as error:
            self.task_error = error
            raise

    def as_ours(self, error: Exception) -> Exception:
        """The error to raise for one of any kind: itself, or ours if a class's own code raised it."""
        if error is self.task_error or isinstance(error, (XCargoError, MemoryError)):
            return error
        refusal = UnsupportedTypeError(
            f"The code of its class raised {type(error).__name__} while it was stored",
            hint="Return its data as a plain value instead.",
        )
        refusal.__cause__ = error
        return refusal

    def _iterated(self, iterator: Any, tree: Packer) -> ormsgpack.Ext:
        """The items of an iterator as a list, packed at the first call."""
        self.refuse_to_consume(iterator)
        known = self._packed.get(id(iterator))
        if known is None:
            items = self.opened(iterator)[1] if type(iterator) is GeneratorType else iterator
            packed = self._pack_items(items, type(iterator), tree)
            known = self._packed[id(iterator)] = iterator, ormsgpack.Ext(Tag.NESTED, packed)
        return known[1]

    def _pack_items(self, items: Iterator[Any], cls: type, tree: Packer) -> bytes:
        """The items as a packed list. Memory holds that and some items; raises SizeLimitError if it is too long."""
        items = chain(items)  # islice() calls iter() each time, and a group_by() of polars would start over
        limit_bytes = (self.settings and self.settings.max_size_bytes) or _ITERATOR_BYTES
        bodies, count, size_bytes = [b"\xdd"], 0, 0
        chunk_items, most_items = 1, 1 if cls is groupby else 4096  # its items end when it goes on
        while True:
            with self.running_task_code():
                chunk = list(islice(items, chunk_items))
            if not chunk:
                break
            try:
                packed = tree.pack(chunk)
            except UnsupportedTypeError as error:
                shift_index(error, count)
                raise
            count += len(chunk)
            size_bytes += len(packed)
            if size_bytes > limit_bytes:
                raise SizeLimitError(
                    f"The {shown_name(cls)} gave more than {limit_bytes} bytes, and it may have no end",
                    hint="Return list(value) if it has one and all of it is to be stored, or raise max_size_bytes.",
                )
            bodies.append(packed[1 if len(chunk) < 16 else 3 :])
            chunk_items = min(most_items, 2 * chunk_items) if len(packed) < _CHUNK_BYTES else max(1, chunk_items // 2)
        bodies.insert(1, count.to_bytes(4, "big"))
        return b"".join(bodies)

    def report(self, value: Any) -> None:
        """Say in the log which classes of ``value``, now that all of it is encoded, come back as built-in types."""
        named = []
        for cls, (part, built_in) in islice((self.first or {}).items(), _NAMED_CLASSES):
            path = first_path(value, part, most=_SEARCHED)
            named.append(f"{shown_name(cls)} as {built_in}" + ("" if path is None else f" (value{self.mask(path)})"))
        more = len(self.first or ()) - len(named)
        log.warning(
            "xcargo stores %s%s: the next task gets the built-in type. [xcargo] strict_types = True refuses this",
            ", ".join(named),
            f" and {more} more classes as such" if more else "",
        )

    def resumed(self, parts: Iterable[Buffer], value: Any) -> Iterator[Buffer]:
        """The parts of a payload that is an iterator, each made as a part of this push; at their end the report."""
        rest = iter(parts)
        while True:
            token = CURRENT.set(self)
            try:
                part = next(rest, None)
            except Exception as error:
                ours = self.as_ours(error)
                if ours is error:
                    raise
                raise ours from error
            finally:
                CURRENT.reset(token)
            if part is None:
                break
            yield part
        if self.first and not self.for_digest:
            self.report(value)


CURRENT: ContextVar[Push] = ContextVar("xcargo_push")
"""The push under way."""


def current_push() -> Push:
    """The push under way in this context; outside of one, a push by default settings."""
    return CURRENT.get(None) or Push()


def _is_iterator(value: Any) -> bool:
    """Whether it gives its items once. A file does too, and is none."""
    return isinstance(value, Iterator) and not isinstance(value, io.IOBase) and not hasattr(value, "read")


def _not_awaited(value: Any) -> UnsupportedTypeError:
    kind = shown_name(type(value))
    if inspect.isasyncgen(value):
        return UnsupportedTypeError(
            f"An asynchronous generator ({kind}) cannot be stored", hint="Return [item async for item in it]."
        )
    return UnsupportedTypeError(f"The value is a {kind} that was not awaited", hint="Return what `await it` gives.")
