"""The only file that knows Airflow's versions, 2.9 to 3.4.

Importing it imports ``BaseXCom`` and nothing else of Airflow: a backend is imported while Airflow itself is half
imported (``airflow.models.xcom`` on 2.x, ``airflow.sdk.execution_time.xcom`` on 3.x).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from xcargo.errors import ConfigurationError

try:
    from airflow.sdk.bases.xcom import BaseXCom
except ModuleNotFoundError as error:  # an ImportError of another kind is Airflow's own and must be seen
    if error.name not in ("airflow.sdk", "airflow.sdk.bases", "airflow.sdk.bases.xcom"):
        raise
    from airflow.models.xcom import BaseXCom

    AIRFLOW_2 = True
    _AIRFLOW_3_0 = False
else:
    from airflow.sdk import __version__ as _sdk_version

    AIRFLOW_2 = False
    _AIRFLOW_3_0 = _sdk_version.startswith("1.0.")

__all__ = [
    "AIRFLOW_2",
    "BLOCKING_ASYNC_HOOKS",
    "KEEPS_ATTEMPTS",
    "REFUSES_NONE",
    "ROW_BY_ROW",
    "XCOM_ARG_MODULES",
    "BaseXCom",
    "active_backend",
    "airflow_home",
    "allowed_by_dag",
    "attempt_of",
    "base_operator",
    "conf",
    "current_context",
    "dag_of_process",
    "dag_of_sequence",
    "fail_exception",
    "get_connection",
    "get_filesystem",
    "lazy_sequence",
    "load_json",
    "mask",
    "mask_from_now_on",
    "operator_arguments",
    "options_in_file",
    "plain_xcom_arg",
    "reads_state",
    "serde",
    "stats",
    "team",
    "use_metadata_database",
    "variable",
]

KEEPS_ATTEMPTS = hasattr(BaseXCom, "store_value")
"""Airflow 3.4 and later keep the XComs of every attempt."""

BLOCKING_ASYNC_HOOKS = hasattr(BaseXCom, "aset") and not KEEPS_ATTEMPTS
"""Airflow 3.3: ``aset``, ``aget_one`` and ``aget_all`` call the hooks on the event loop."""

REFUSES_NONE = _AIRFLOW_3_0
"""A row of None is posted without a body, which the API refuses (3.0)."""

ROW_BY_ROW = not AIRFLOW_2
"""Iterating over the results of a mapped task asks for each row by itself (3.x), where 2.x makes one query."""

XCOM_ARG_MODULES = ("airflow.sdk.definitions.xcom_arg", "airflow.models.xcom_arg")
"""Where the classes are that ``.map()``, ``.zip()`` and ``.concat()`` give."""


def active_backend() -> Any:
    """The backend class that this Airflow is set to use."""
    if AIRFLOW_2:
        from airflow.models.xcom import XCom
    else:
        from airflow.sdk.execution_time.xcom import XCom
    return XCom


def lazy_sequence() -> Any:
    """The class in which a task gets the results of a mapped one, or None if this Airflow has none that we know.

    ``inputs.install`` replaces its ``__iter__`` and ``__getitem__``, since Airflow has no hook to read ahead. Loads
    nothing that is not loaded when Airflow looks for its backend.
    """
    if AIRFLOW_2:
        from airflow.models import xcom

        return getattr(xcom, "LazyXComSelectSequence", None) or getattr(xcom, "LazyXComAccess", None)
    try:
        from airflow.sdk.execution_time.lazy_sequence import LazyXComSequence
    except ImportError:
        return None
    return LazyXComSequence


def dag_of_sequence(values: Any) -> str | None:
    """The Dag whose rows a lazy sequence gives, if this Airflow says (3.x)."""
    task = getattr(getattr(values, "_xcom_arg", None), "operator", None)
    dag_id = getattr(task, "dag_id", None)
    return dag_id if isinstance(dag_id, str) else None


def operator_arguments(task: Any) -> Mapping[str, Any]:
    """The arguments that an operator was made with; for a mapped one, those that are the same in every instance."""
    return getattr(task, "partial_kwargs", None) or vars(task or object)


def conf() -> Any:
    """Airflow's configuration."""
    from airflow.configuration import conf

    return conf


def airflow_home() -> str:
    """Airflow's home folder."""
    from airflow.configuration import AIRFLOW_HOME

    return str(AIRFLOW_HOME)


def options_in_file(conf: Any, section: str) -> set[str]:
    """Names that the file ``airflow.cfg`` sets in a section; not what Airflow or a provider sets by default."""
    return set(conf.options(section)) - set(conf.defaults()) if section in conf.sections() else set()


def get_connection(connection_id: str) -> Any:
    """An Airflow connection. Raises ConfigurationError if it is not defined, or not readable; there is no fallback."""
    try:
        from airflow.sdk.bases.hook import BaseHook
    except ImportError:
        from airflow.hooks.base import BaseHook
    try:
        return BaseHook.get_connection(connection_id)
    except Exception as error:
        if type(error).__name__ != "AirflowNotFoundException":
            raise
        variable = f"AIRFLOW_CONN_{connection_id.upper()}"
        if os.environ.get(variable):  # Airflow passes over it; its error holds the text, so it is not chained
            raise ConfigurationError(
                f"The variable {variable} does not hold a connection that Airflow can read",
                hint='Write it like {"conn_type": "aws", "login": "...", "password": "...", "extra": {}}; '
                "common causes are a quote or a comma too many, and a field that no connection has.",
            ) from None
        way = f"or the variable {variable}" if variable.isidentifier() else "since no shell exports such a variable"
        raise ConfigurationError(
            f"The Airflow connection {connection_id!r} is not defined",
            hint=f"Define it (airflow connections add {connection_id} ..., {way}), or correct the id in [xcargo] path. "
            "Airflow also says so where the database or the secrets backend that holds it does not answer.",
        ) from error


def use_metadata_database() -> None:
    """Let this process read connections from the metadata database, as ``airflow connections`` does (3.x).

    A process without a database goes on to the next source, and a task keeps asking its supervisor.
    """
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")


def get_filesystem(scheme: str) -> Callable[[str, str | None], Any] | None:
    """Airflow's ``get_fs``, which makes a file system of scheme and connection id, if a provider has the scheme."""
    try:
        from airflow.sdk.io import get_fs, has_fs
    except ImportError:
        try:
            from airflow.io import get_fs, has_fs
        except ImportError:
            return None
    return get_fs if has_fs(scheme) else None


def base_operator() -> Any:
    """The class of which operators are."""
    try:
        from airflow.sdk import BaseOperator
    except ImportError:
        from airflow.models.baseoperator import BaseOperator
    return BaseOperator


def fail_exception() -> Any:
    """The exception that fails a task without further tries."""
    try:
        from airflow.sdk.exceptions import AirflowFailException
    except ImportError:
        from airflow.exceptions import AirflowFailException
    return AirflowFailException


def serde() -> Any:
    """The module with Airflow's ``serialize`` and ``deserialize``."""
    try:
        from airflow.sdk import serde
    except ImportError:
        from airflow.serialization import serde
    return serde


def allowed_by_dag() -> set[str]:
    """Classes that Airflow itself admits in this process, for models that operators declare (3.3 on)."""
    return set(getattr(serde(), "_extra_allowed", ()))


def load_json(text: str) -> Any:
    """A value that ``XComObjectStorageBackend`` wrote as JSON, with Airflow's own decoder and its allow-list."""
    import json

    from airflow.utils.json import XComDecoder

    return json.loads(text, cls=XComDecoder)


def mask(text: str) -> str:
    """The text with every secret that Airflow knows of replaced by asterisks."""
    try:
        from airflow.sdk.log import redact
    except ImportError:
        try:
            from airflow.sdk.execution_time.secrets_masker import redact
        except ImportError:
            from airflow.utils.log.secrets_masker import redact
    return str(redact(text))


def stats() -> Any:
    """Airflow's own metrics: ``incr`` and ``timing``, which send them wherever this Airflow sends its own."""
    try:
        from airflow.sdk.observability import stats  # 3.2 on
    except ImportError:
        from airflow.stats import Stats

        return Stats
    return stats if hasattr(stats, "incr") else stats.Stats  # functions of the module from 3.3 on


def mask_from_now_on(secret: str) -> None:
    """Have Airflow replace a secret by asterisks in every log, preview and rendered template of this process."""
    try:
        from airflow.sdk.log import mask_secret
    except ImportError:
        try:
            from airflow.sdk.execution_time.secrets_masker import mask_secret
        except ImportError:
            from airflow.utils.log.secrets_masker import mask_secret
    mask_secret(secret)
    if _AIRFLOW_3_0:
        _mask_rendered_fields()


def _mask_rendered_fields() -> None:
    """Have this process mask the rendered templates that it sends, as later releases do by themselves.

    On 3.0 the API server masks what it stores, by the secrets that it knows: none of a task.
    """
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.secrets_masker import redact

    stock = task_runner._serialize_rendered_fields
    if hasattr(stock, "__wrapped__"):
        return

    @wraps(stock)
    def serialize(task: Any) -> dict[str, Any]:
        return {name: redact(value, name) for name, value in stock(task).items()}

    task_runner._serialize_rendered_fields = serialize


def team() -> str | None:
    """The team of the task that runs in this process, empty if it has none; None outside of tasks.

    Tasks know their team from Airflow 3.3 on; before, every task counts as having none. While the task's code runs its
    context says it; after it, when its result is pushed, the environment does.
    """
    if AIRFLOW_2:
        return None
    from airflow.sdk import get_current_context

    try:
        run = get_current_context()["dag_run"]
    except (RuntimeError, KeyError):
        return os.environ.get("AIRFLOW_CTX_TEAM_NAME") or ("" if "AIRFLOW_CTX_DAG_ID" in os.environ else None)
    return getattr(run, "team_name", None) or ""


def dag_of_process() -> str | None:
    """The Dag of the task that runs in this process (3.x); None if there is none, or it is not known."""
    task = task_of_context()
    return getattr(task, "dag_id", None) or os.environ.get("AIRFLOW_CTX_DAG_ID")


def task_of_context() -> Any:
    """The task whose arguments are made ready, or that runs, in this process (3.x); None if there is none."""
    if "airflow.sdk.execution_time.task_runner" not in sys.modules:
        return None
    from airflow.sdk import get_current_context

    try:
        return get_current_context()["ti"].task
    except (AttributeError, KeyError, RuntimeError):
        return None


def current_context() -> Any:
    """The context of the task that runs, or whose templates are rendered, in this process; None if there is none."""
    try:
        from airflow.sdk import get_current_context
    except ImportError:
        from airflow.operators.python import get_current_context
    try:
        return get_current_context()
    except Exception:  # a RuntimeError (3.x), an AirflowException (2.x)
        return None


def attempt_of(context: Any) -> str:
    """What tells one try of a task instance from any other. A task that was deferred goes on as the same try."""
    ti = context["ti"]
    if not AIRFLOW_2:
        return str(ti.id)
    run = context["dag_run"]  # a run that is deleted and made again under its name has another number and start
    return f"{run.id} {run.start_date} {ti.try_number}"


def reads_state() -> bool:
    """Whether this Airflow is set to use xcargo's backend of the state store, or one made of it (3.3 on)."""
    if not conf().get("workers", "state_store_backend", fallback=""):
        return False
    try:
        from xcargo.airflow.state_store import StateStoreBackend
    except ConfigurationError:  # this Airflow has none
        return False
    backend = conf().getimport("workers", "state_store_backend")
    return isinstance(backend, type) and issubclass(backend, StateStoreBackend)


def variable(name: str) -> str | None:
    """The text of an Airflow variable; None if it is not set."""
    if AIRFLOW_2:
        from airflow.models import Variable

        return Variable.get(name, default_var=None)  # type: ignore[no-any-return]
    from airflow.sdk import Variable

    return Variable.get(name, default=None)  # type: ignore[no-any-return]


def plain_xcom_arg() -> Any:
    """The class that refers to the result of one task in a Dag."""
    try:
        from airflow.sdk.definitions.xcom_arg import PlainXComArg
    except ImportError:
        from airflow.models.xcom_arg import PlainXComArg
    return PlainXComArg
