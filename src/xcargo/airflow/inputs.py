"""What a task gets of its upstream tasks: handles instead of values, and results of mapped tasks that are prefetched.

A task gets the results of a mapped one as a lazy sequence. Airflow loads each of its values when it comes to it, one
after the other, and on 3.x asks the supervisor for each row too. Airflow has no hook for that, so `install` replaces
two methods of the sequence, iteration and slices. They get the rows by the methods that they replace, many at once, and
load the values ahead. Where another backend's hooks would load a value, nothing changes.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from functools import partial, wraps
from typing import Any, get_args

from xcargo.airflow import compat
from xcargo.airflow.backend import loads_as_ours
from xcargo.airflow.rows import WINDOW_BYTES, Row, handles_wanted, load_ahead, load_all, querying
from xcargo.errors import UnsupportedTypeError
from xcargo.pipeline.handle import Lazy

__all__ = ["Deferred", "asks_for", "asks_for_handle", "gather", "install", "lazy", "reads_ahead", "rows_of"]


def lazy(upstream: Any = None) -> Any:
    """A handle (`xcargo.Lazy`) instead of the value, so that a task fetches only what it needs.

    In a Dag, ``report(xcargo.lazy(extract()))`` gives the task ``report`` a handle of what ``extract`` returned, or a
    list of handles if ``extract`` is mapped; ``report.expand(x=xcargo.lazy(extract.expand(...)))`` gives each its own.
    Inside a task, write ``with xcargo.lazy(): handle = ti.xcom_pull(...)``. On Airflow 3, a parameter annotated with
    ``xcargo.Lazy`` also gets a handle of the result of a task that is not mapped. The pull itself then sends no request
    to the store; each method of the handle sends its own.

    Raises:
        UnsupportedTypeError: The argument is neither a task nor the result of one.
    """
    if upstream is None:
        return querying(handles=True)
    reference = getattr(upstream, "output", upstream)  # of an operator, the reference to its result
    if type(reference) is not compat.plain_xcom_arg():
        raise UnsupportedTypeError(
            f"xcargo.lazy takes the result of a task, not {type(upstream).__name__}",
            hint="Write xcargo.lazy(some_task()) in the Dag, or 'with xcargo.lazy():' around a pull inside a task.",
        )
    # A reference of Airflow's own class, since the serialized Dag knows no other; it alone is resolved differently.
    handles = type(reference)(reference.operator, reference.key)
    handles.resolve = partial(_resolve, reference)
    return handles


class Deferred:
    """An argument of a memoized function in its handle's form: it is loaded if the function has to run."""

    def __init__(self, handle: Lazy) -> None:
        self.handle = handle

    def __repr__(self) -> str:
        return repr(self.handle)


def asks_for(task_id: Any, key: Any) -> tuple[bool, bool]:
    """Whether a pull is to give a handle, and whether that is to stand for the value until it is needed."""
    if asks_for_handle(task_id, key):
        return (True, False) if _is_for_a_reference() else (False, False)
    deferred = not handles_wanted() and _is_deferred(task_id, key) and _is_for_a_reference()
    return deferred, deferred


def _is_for_a_reference() -> bool:
    """Whether a reference among the arguments is being resolved; a template of the same task pulls the value."""
    code, frame = inspect.unwrap(compat.plain_xcom_arg().resolve).__code__, inspect.currentframe()
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame is not None


def _is_deferred(task_id: Any, key: Any) -> bool:
    """Whether a pull is for arguments of a memoized function, each as it is or in a list, tuple or dictionary."""
    fields = compat.operator_arguments(compat.task_of_context())
    function = fields.get("python_callable")
    if function is None or getattr(getattr(function, "memoized", None), "call", None) is not function:
        return False  # a decorator above memoize is to see values
    plain = compat.plain_xcom_arg()

    def asking(argument: Any) -> Iterator[bool]:
        if type(argument) in (list, tuple, dict):
            for part in argument.values() if type(argument) is dict else argument:
                yield from asking(part)
        elif (task_id, key) in ((op.task_id, name) for op, name in plain.iter_xcom_references(argument)):
            yield type(argument) is plain

    found = list(asking([*(fields.get("op_args") or ()), *(fields.get("op_kwargs") or {}).values()]))
    return bool(found) and all(found)


def asks_for_handle(task_id: Any, key: Any) -> bool:
    """Whether a pull is for a parameter that the task's function annotates with `xcargo.Lazy`, and for no other.

    Airflow pulls arguments before it calls the function; until then the task holds references in their place.
    """
    task = compat.task_of_context()
    fields = compat.operator_arguments(task)
    annotated = _annotated(fields.get("python_callable"))
    if not annotated:
        return False
    try:
        signature = inspect.signature(fields["python_callable"])
        bound = signature.bind_partial(*(fields.get("op_args") or ()), **(fields.get("op_kwargs") or {}))
    except TypeError:  # Airflow itself will raise it
        return False
    plain = compat.plain_xcom_arg()
    asking = [
        name in annotated and type(argument) is plain
        for name, argument in bound.arguments.items()
        for operator, its_key in plain.iter_xcom_references(argument)
        if (operator.task_id, its_key) == (task_id, key)
    ]
    return bool(asking) and all(asking)


def _annotated(function: Any) -> frozenset[str]:
    """Names of the parameters that are annotated as handles."""
    if not callable(function):
        return frozenset()
    try:
        parameters = inspect.signature(function, eval_str=True).parameters
    except Exception:  # names that only a type checker knows
        try:
            parameters = inspect.signature(function).parameters
        except (TypeError, ValueError):
            return frozenset()
    return frozenset(
        name
        for name, parameter in parameters.items()
        if parameter.annotation in (Lazy, "Lazy", "xcargo.Lazy") or Lazy in get_args(parameter.annotation)
    )


def _resolve(reference: Any, *args: Any, **kwargs: Any) -> Any:
    with querying(handles=True):
        value = reference.resolve(*args, **kwargs)
        # The results of mapped tasks come as a sequence that would pull each of them later.
        return list(value) if isinstance(value, compat.lazy_sequence() or ()) else value


# --- results of mapped tasks -----------------------------------------------------------------------------------------

_FIRST_ROWS, _MOST_ROWS = 16, 512
"""Rows of the first slice and of the longest. A row is an envelope, some 600 bytes, or a value that stays inline."""

_END: Any = object()


def gather(values: Iterable[Any], *, window_bytes: int = WINDOW_BYTES) -> Iterator[Any]:
    """Iterate over the results of a mapped task in order, and prefetch them.

    Costs one request per value, and on Airflow 3 one message to the supervisor for up to 512 rows. At most
    ``max_concurrency`` requests are sent at once. An error that a value raises is raised when its turn comes.

    Args:
        values: The lazy sequence that a task received, or what ``.map()``, ``.zip()`` and ``.concat()`` made of it.
            Any other iterable is iterated over as it is.
        window_bytes: The most bytes of payloads that are being fetched or waiting to be used (in a zip: for each
            sequence). A value larger than that is loaded alone.
    """
    if _is_lazy(values):
        return _ahead(values, window_bytes)
    return iter(_viewed(values, window_bytes))


def install() -> None:
    """Have the lazy sequences of this Airflow read ahead, as long as its backend is one that loads values as ours."""
    kind = compat.lazy_sequence()
    if kind is None or hasattr(kind.__iter__, "__wrapped__"):
        return
    stock_iter, stock_getitem = kind.__iter__, kind.__getitem__

    @wraps(stock_iter)
    def iterate(self: Any) -> Iterator[Any]:
        return _ahead(self, WINDOW_BYTES) if reads_ahead() else stock_iter(self)

    @wraps(stock_getitem)
    def get(self: Any, key: Any) -> Any:
        if isinstance(key, slice) and reads_ahead():
            with querying(raw=True):
                found = stock_getitem(self, key)
            return load_all(found, compat.dag_of_sequence(self))
        with querying(dag_id=compat.dag_of_sequence(self)):
            return stock_getitem(self, key)

    kind.__iter__, kind.__getitem__ = iterate, get


def reads_ahead() -> bool:
    """Whether the backend that this Airflow uses loads values by our hooks, so that sequences read ahead."""
    return loads_as_ours(compat.active_backend())


def _is_lazy(values: Any) -> bool:
    kind = compat.lazy_sequence()
    return kind is not None and isinstance(values, kind) and reads_ahead()


def _ahead(values: Any, window_bytes: int) -> Iterator[Any]:
    rows = _slices(values) if compat.ROW_BY_ROW else _steps(values)
    return load_ahead(rows, window_bytes, compat.dag_of_sequence(values))


def rows_of(values: Any) -> Iterator[Row] | None:
    """The raw rows of a lazy sequence, of which none is loaded; None for anything else."""
    if not _is_lazy(values):
        return None
    return _slices(values) if compat.ROW_BY_ROW else _steps(values)


def _slices(values: Any) -> Iterator[Row]:
    """The rows of a sequence, a slice at a time."""
    get = type(values).__getitem__.__wrapped__
    start, count = 0, _FIRST_ROWS
    while True:
        with querying(raw=True):
            rows = get(values, slice(start, start + count))
        yield from rows
        if len(rows) < count:
            return
        start += count
        count = min(2 * count, _MOST_ROWS)


def _steps(values: Any) -> Iterator[Row]:
    """The rows of a sequence whose own iteration is a single query."""
    rows = type(values).__iter__.__wrapped__(values)
    while True:
        with querying(raw=True):
            row = next(rows, _END)
        if row is _END:
            return
        yield row


def _viewed(values: Any, window_bytes: int) -> Any:
    """The same sequence, over lazy sequences that are read ahead. What it makes of their values stays Airflow's."""
    if _is_lazy(values):
        return _View(values, window_bytes)
    if not isinstance(values, Sequence) or type(values).__module__ not in compat.XCOM_ARG_MODULES:
        return values
    view: Any = copy(values)
    if hasattr(view, "value"):
        view.value = _viewed(view.value, window_bytes)
    else:
        view.values = [_viewed(part, window_bytes) for part in view.values]
    return view


class _View(Sequence[Any]):
    """A lazy sequence for someone who asks by rising index."""

    def __init__(self, values: Any, window_bytes: int) -> None:
        self._values = values
        self._ahead = _ahead(values, window_bytes)
        self._next = 0

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> Any:
        if index != self._next:
            return self._values[index]
        value = next(self._ahead, _END)
        if value is _END:
            raise IndexError(index)
        self._next += 1
        return value
