"""memoize: the result of a task is reused as long as nothing that it depends on has changed."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import wraps
from threading import Event
from typing import Any, ClassVar, TypeVar, overload

from xcargo.airflow import compat
from xcargo.airflow.memo_computation import Computation, computing, is_computing
from xcargo.airflow.memo_fingerprint import Options, loaded, options_of
from xcargo.airflow.memo_lookup import MISS, look_up
from xcargo.errors import UnsupportedTypeError
from xcargo.pipeline.memo import Scope

__all__ = ["MemoizeMixin", "memoize"]

_F = TypeVar("_F", bound=Callable[..., Any])


@overload
def memoize(function: _F) -> _F: ...
@overload
def memoize(
    *,
    version: str | None = ...,
    depends_on: Iterable[str] = ...,
    ignore: Iterable[str] = ...,
    expires: timedelta | None = ...,
    wait: timedelta | None = ...,
    scope: Scope = ...,
    on_miss: Callable[[list[str] | None], object] | None = ...,
) -> Callable[[_F], _F]: ...
def memoize(
    function: Any = None,
    *,
    version: str | None = None,
    depends_on: Iterable[str] = (),
    ignore: Iterable[str] = (),
    expires: timedelta | None = None,
    wait: timedelta | None = None,
    scope: Scope = "task",
    on_miss: Callable[[list[str] | None], object] | None = None,
) -> Any:
    """Reuse the result of a task as long as its code, its arguments and what else it depends on are the same.

    Write it under the task's own decorator::

        @task
        @xcargo.memoize(expires=timedelta(days=7))
        def train(frame, rounds=10): ...

    Outside of a task, the function is simply called.

    Args:
        function: The task's function.
        version: Stands for the function's code. By default its source does, with that of functions and classes of the
            same file that it uses, and constants.
        depends_on: What else a result depends on: ``variable:NAME``, ``connection:ID`` (where it leads to, without its
            password and extra) and ``file:/absolute/path`` (its bytes).
        ignore: Parameters on which the result does not depend.
        expires: For how long a result is reused.
        wait: For how long a task waits for another that is computing the same result, before it computes it as well.
        scope: Whose results are reused: those of this task, of all tasks of the Dag, or of all Dags. The last needs
            ``[xcargo] memoize_across_dags``.
        on_miss: Called before the function runs, with the names of what changed since the last result; None if there
            was none.
    """
    options = options_of(
        version=version,
        depends_on=depends_on,
        ignore=ignore,
        expires=expires,
        wait=wait,
        scope=scope,
        on_miss=on_miss,
    )

    def decorate(function: Any) -> Any:
        return _decorated(function, options)

    return decorate if function is None else decorate(function)


def _decorated(function: Any, options: Options) -> Any:
    if not callable(function) or hasattr(function, "operator_class") or hasattr(function, "expand"):
        raise UnsupportedTypeError(
            "xcargo.memoize decorates a function, not a task", hint="Write @task above @xcargo.memoize."
        )
    memo = _Memo(function, options)
    call: Any
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            stopped = Event()
            try:
                result, computation = await asyncio.to_thread(memo.look_up, args, kwargs, stopped)
            finally:
                stopped.set()
            if result is not MISS:
                return result
            with computing(computation) as returned:
                args, kwargs = await asyncio.to_thread(loaded, (args, kwargs))
                return returned(await function(*args, **kwargs))

    else:

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            result, computation = memo.look_up(args, kwargs)
            if result is not MISS:
                return result
            with computing(computation) as returned:
                return returned(function(*loaded(args), **loaded(kwargs)))

    call.memoized, memo.call = memo, call
    return call


class _Memo:
    """A function and how its results are reused."""

    def __init__(self, function: Callable[..., Any], options: Options) -> None:
        self.call: Any = None
        """What takes the function's place; a decorator above it has its attributes too."""
        self._function = function
        self._options = options
        self._signature = inspect.signature(function)

    def look_up(self, args: Any, kwargs: Any, stopped: Event | None = None) -> tuple[Any, Computation | None]:
        """The result, if the task that runs computed it before, else `MISS`; and what notes its result then."""
        context = compat.current_context()
        if context is None or not self._is_function_of(context["ti"].task):
            return MISS, None
        return look_up(context, self._options, self._function, self._arguments(args, kwargs), stopped)

    def _is_function_of(self, task: Any) -> bool:
        """Whether the result of this call is to be that of the task: it may as well be called by a task's code."""
        own = getattr(getattr(task, "python_callable", None), "memoized", None) is self
        return own and not is_computing() and getattr(task, "do_xcom_push", True)

    def _arguments(self, args: Any, kwargs: Any) -> dict[str, Any]:
        """The function's arguments by name, with defaults. One of ``**kwargs`` that has another's name has stars."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        for name, parameter in self._signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                more = arguments.pop(name, {})
                arguments |= {key if key not in arguments else f"**{key}": value for key, value in more.items()}
        return arguments


class MemoizeMixin:
    """Reuse the results of an operator as `memoize` does those of a function. Name it before the operator's class.

    Write it into a class of your own::

        class Query(xcargo.MemoizeMixin, SQLExecuteQueryOperator):
            memoize_options = {"expires": timedelta(days=1)}

    A result depends on the class, as far as it is written in the Dag's file, on the operator's template fields as they
    were rendered, on the params of the run, and on its other arguments, but for those that every operator has. Nothing
    else of the context counts, and no attribute that is set after the operator was created.
    """

    memoize_options: ClassVar[Mapping[str, Any]] = {}
    """Options of `memoize`; ``ignore`` has names of template fields and arguments."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        options = options_of(**cls.memoize_options)
        execute = getattr(cls, "execute", None)
        if execute is None:
            return

        @wraps(execute)
        def call(self: Any, context: Any, **more: Any) -> Any:
            if is_computing() or type(self) is not cls or not getattr(self, "do_xcom_push", True):
                return execute(self, context, **more)
            result, computation = look_up(context, options, cls, _operator_arguments(self, context))
            if result is not MISS:
                return result
            with computing(computation) as returned:
                return returned(execute(self, context, **more))

        cls.execute = call  # type: ignore[attr-defined]


def _operator_arguments(operator: Any, context: Any) -> dict[str, Any]:
    of_all = inspect.signature(compat.base_operator().__init__).parameters
    given = {name: value for name, value in operator._BaseOperator__init_kwargs.items() if name not in of_all}
    given |= {name: getattr(operator, name, None) for name in operator.template_fields}
    return {**given, "params": context.get("params") or {}}
