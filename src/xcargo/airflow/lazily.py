"""Handles instead of values: ``xcargo.lazy``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from xcargo.airflow import compat
from xcargo.errors import UnsupportedTypeError

__all__ = ["lazy", "wanted"]

_wanted: ContextVar[bool] = ContextVar("xcargo_lazy", default=False)


def wanted() -> bool:
    """Whether a pull is to give a handle."""
    return _wanted.get()


def lazy(upstream: Any = None) -> Any:
    """A handle (:class:`xcargo.Lazy`) instead of the value, so that a task takes only what it needs of it.

    In a Dag: ``report(xcargo.lazy(extract()))`` hands the task ``report`` a handle of what ``extract`` returned, a list
    of handles if ``extract`` is mapped. Inside a task: ``with xcargo.lazy(): handle = ti.xcom_pull(...)``. A pull costs
    no request of the store then; each method of the handle costs its own. Raises UnsupportedTypeError for anything but
    the result of one task.
    """
    if upstream is None:
        return _handles()
    if type(upstream).__name__ != "PlainXComArg":
        raise UnsupportedTypeError(
            f"xcargo.lazy takes the result of a task, not {type(upstream).__name__}",
            hint="Write xcargo.lazy(some_task()) in the Dag, or 'with xcargo.lazy():' around a pull inside a task.",
        )
    return _lazy_xcom_arg()(upstream.operator, upstream.key)


@contextmanager
def _handles() -> Iterator[None]:
    token = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(token)


@cache
def _lazy_xcom_arg() -> Any:
    class LazyXComArg(compat.plain_xcom_arg()):  # type: ignore[misc]
        """Reference to the result of a task that is resolved to a handle."""

        def resolve(self, *args: Any, **kwargs: Any) -> Any:
            with _handles():
                value = super().resolve(*args, **kwargs)
                # The results of mapped tasks come as a sequence that would pull each of them later.
                return list(value) if isinstance(value, compat.lazy_sequence() or ()) else value

    return LazyXComArg
