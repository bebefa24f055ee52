"""Airflow's configuration -> Settings.

An option of ``[xcargo]`` that is not set falls back to the Common IO provider's option of the same meaning, so that a
deployment changes its backend by changing one variable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from xcargo.airflow import compat
from xcargo.airflow.provider_info import OPTIONS, SECTION
from xcargo.errors import ConfigurationError
from xcargo.model.keys import parse_keys
from xcargo.model.root import Root
from xcargo.model.settings import LegacyRoot, Route, Settings, parse_routes

__all__ = ["read_settings", "runs_on_one_machine", "unknown_options"]

_COMMON_IO = "common.io"
_SINGLE_MACHINE = ("SequentialExecutor", "LocalExecutor", "DebugExecutor")

_FLAGS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
"""What Airflow takes for a boolean."""

_PROTECTIVE = ("encryption_keys", "routes", "signing_key")
"""Options without which values are stored less safely."""

_external_value = re.compile("_(cmd|secret)$")
"""How Airflow marks an option whose value comes from a command or a secrets backend."""

_T = TypeVar("_T")


def read_settings(conf: Any) -> Settings:
    """Settings of this process.

    Raises:
        ConfigurationError: A value cannot be used, or an option is misspelt; named.
    """
    for source, name in unknown_options(conf).items():
        from xcargo.model.unknown_names import check_unknown

        check_unknown(name, source, OPTIONS, protective=_PROTECTIVE)
    values: dict[str, Any] = {}
    for option, declared in OPTIONS.items():
        text = _text(conf, option)
        if text:
            parse, name = _SPECIAL.get(option) or (_BY_TYPE[declared["type"]], option)
            values[name] = _parsed(option, parse, text)
        elif declared.get("sensitive"):
            _require_external_value(conf, option)
    if values.get("encryption_keys"):
        values["encryption_key"] = values["encryption_keys"][0]
        # What is encrypted must not be readable in the database either.
        values = {"threshold_bytes": 0, "preview_chars": 0, **values}
    state_route = _state_route(conf, values)
    _fill_from_common_io(conf, values)
    if state_route is not None:
        values["routes"] = (*values.get("routes", ()), state_route)
    if "root" not in values:
        values["root"], values["no_root_reason"] = _default_root(conf)
    return Settings(**values)


def unknown_options(conf: Any) -> dict[str, str]:
    """Options that are set and do not exist: where each is set -> its name."""
    return {
        source: name
        for name, source in _set_options(conf).items()
        if name not in OPTIONS and not OPTIONS.get(_external_value.sub("", name), {}).get("sensitive")
    }


def runs_on_one_machine(conf: Any) -> bool:
    """Whether every configured executor runs its tasks on the machine of the scheduler."""
    names = [name.strip().rpartition(".")[2] for name in str(conf.get("core", "executor")).split(",")]
    return all(name.rpartition(":")[2] in _SINGLE_MACHINE for name in names)


def _set_options(conf: Any) -> dict[str, str]:
    """The options of ours that are set, and where."""
    start = f"AIRFLOW__{SECTION.upper()}__"
    options = {name[len(start) :].lower(): f"the variable {name}" for name in os.environ if name.startswith(start)}
    for name in compat.options_in_file(conf, SECTION):
        options.setdefault(name, f"{name} in section [{SECTION}]")
    return options


def _require_external_value(conf: Any, option: str) -> None:
    """A command or secrets backend that gives no key must not mean that values are stored without one."""
    for name, source in _set_options(conf).items():
        if name != option and _external_value.sub("", name) == option:
            raise ConfigurationError(f"[{SECTION}] {option}: there is none where {source} says")


def _fill_from_common_io(conf: Any, values: dict[str, Any]) -> None:
    """Take what is not set from the Common IO provider's options."""
    path, default = _text(conf, "xcom_objectstorage_path", section=_COMMON_IO), Settings.threshold_bytes
    if path and "root" not in values:
        values["root"] = _parsed("xcom_objectstorage_path", Root.parse, path, section=_COMMON_IO)
        default = -1
    if "threshold_bytes" not in values:
        values["threshold_bytes"] = _common_io_threshold(conf, default=default)
    compression = _text(conf, "xcom_objectstorage_compression", section=_COMMON_IO)
    values.setdefault("compression", compression or Settings.compression)


def _state_route(conf: Any, values: dict[str, Any]) -> Route | None:
    """What the Common IO provider's options say of the state store, where ``[xcargo]`` does not; None if nothing."""
    fields: dict[str, Any] = {}
    option = "state_store_objectstorage_path"
    path = _text(conf, option, section=_COMMON_IO)
    if path:
        fields["root"] = root = _parsed(option, Root.parse, path, section=_COMMON_IO)
        values["state_legacy_root"] = LegacyRoot(path.rstrip("/") + "/", root)
    option = "state_store_objectstorage_threshold"
    text = _text(conf, option, section=_COMMON_IO)
    if path and "root" not in values:
        text = text or "0"
    elif text == "0" and f"AIRFLOW__COMMON_IO__{option.upper()}" not in os.environ:
        text = ""  # the registered default, see `_common_io_threshold`
    if text and "threshold_bytes" not in values:
        threshold = _parsed(option, int, text, section=_COMMON_IO)
        if threshold < 0:
            raise ConfigurationError(f"[{_COMMON_IO}] {option} is {threshold}", hint="It must be 0 or more.")
        fields["threshold_bytes"] = max(0, threshold - 1)  # a value of that size goes to object storage there
    fields["compression"] = _text(conf, "state_store_objectstorage_compression", section=_COMMON_IO) or None
    fields = {name: value for name, value in fields.items() if value is not None and name not in values}
    return Route(f"[{_COMMON_IO}] state_store_objectstorage", state=True, **fields) if fields else None


def _common_io_threshold(conf: Any, *, default: int) -> int:
    option = "xcom_objectstorage_threshold"
    text = _text(conf, option, section=_COMMON_IO)
    # -1 is the provider's registered default, and Airflow writes it into the airflow.cfg that it generates: alone it
    # does not say that a user wants it. In the environment it does.
    if text and (text != "-1" or "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD" in os.environ):
        return _parsed(option, int, text, section=_COMMON_IO)
    return default


def _default_root(conf: Any) -> tuple[Root | None, str]:
    """A folder on a single machine; elsewhere none, and why."""
    if runs_on_one_machine(conf):
        return Root.parse((Path(compat.airflow_home()) / "xcargo").resolve().as_uri()), ""
    return None, f"no path is set and executor {conf.get('core', 'executor')!r} may run tasks on several machines"


def _text(conf: Any, option: str, *, section: str = SECTION) -> str:
    try:
        value = conf.get(section, option, fallback=None)
    except Exception as error:  # of its command, its secrets backend or the file; not chained, since it may show a key
        raise ConfigurationError(
            f"[{section}] {option} cannot be read: {type(error).__name__}",
            hint="Try its command or secrets backend by hand. In airflow.cfg, % is written %%.",
        ) from None
    return "" if value is None else str(value).strip()


def _parsed(option: str, parse: Callable[[str], _T], text: str, *, section: str = SECTION) -> _T:
    try:
        return parse(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"[{section}] {option}: {error.what}", hint=error.hint) from error
    except ValueError:
        kind = "a whole number" if parse is int else "a number"
        raise ConfigurationError(
            f"[{section}] {option} is {text!r}, which is not {kind}",
            hint="Bytes and seconds are written as plain numbers, for example 1024.",
        ) from None


def _list_of(parse: Callable[[str], _T]) -> Callable[[str], tuple[_T, ...]]:
    return lambda text: tuple(parse(item.strip()) for item in text.split(",") if item.strip())


def _boolean(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise ConfigurationError(f"{text!r} is not a boolean", hint="Write True or False.")
    return _FLAGS[text.lower()]


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        time = datetime.min  # noqa: DTZ901
    if time.tzinfo is None:
        raise ConfigurationError(
            f"{text!r} is not a time with its offset", hint="Write it like 2027-01-31T00:00:00+00:00."
        )
    return time


_BY_TYPE: dict[str, Callable[[str], Any]] = {"boolean": _boolean, "float": float, "integer": int, "string": str}

_SPECIAL: dict[str, tuple[Callable[[str], Any], str]] = {
    "encryption_keys": (parse_keys, "encryption_keys"),
    "legacy_references": (_list_of(LegacyRoot.parse), "legacy_roots"),
    "path": (Root.parse, "root"),
    "read_paths": (_list_of(Root.parse), "read_roots"),
    "routes": (parse_routes, "routes"),
    "signing_key": (parse_keys, "signing_keys"),
    "unsigned_until": (_time, "unsigned_until"),
}
"""Options that are more than a value of their type: how they are parsed, and the name of their setting."""
