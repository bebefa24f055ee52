"""Handles instead of values: ``xcargo.lazy``, and parameters that are annotated with ``xcargo.Lazy``."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any, get_args

from xcargo.airflow import compat
from xcargo.airflow.rows import querying
from xcargo.errors import UnsupportedTypeError
from xcargo.pipeline.handle import Lazy

__all__ = ["asks_for_handle", "lazy"]


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
