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

from xcargo.airflow.provider_info import OPTIONS, SECTION
from xcargo.errors import ConfigurationError
from xcargo.model.keys import Key, parse_keys
from xcargo.model.root import Root
from xcargo.model.routes import parse_routes
from xcargo.model.settings import DEFAULT_THRESHOLD_BYTES, LegacyRoot, Settings

__all__ = ["read_settings", "runs_on_one_machine"]

_COMMON_IO = "common.io"
_SINGLE_MACHINE = ("SequentialExecutor", "LocalExecutor", "DebugExecutor")

_FLAGS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
"""What Airflow takes for a boolean."""

_elsewhere = re.compile("_(cmd|secret)$")
"""How Airflow marks an option whose value a command or a secrets backend gives."""

_T = TypeVar("_T")


def read_settings(conf: Any) -> Settings:
    """Settings of this process. Raises ConfigurationError for an unknown option or an unusable value, naming it."""
    _refuse_unknown(conf)
    path = _text(conf, SECTION, "path")
    common_path = _text(conf, _COMMON_IO, "xcom_objectstorage_path")
    reason = "no path is set"
    if path:
        root: Root | None = _parsed("path", Root.parse, path)
    elif common_path:
        root = _parsed("xcom_objectstorage_path", Root.parse, common_path, section=_COMMON_IO)
    elif runs_on_one_machine(conf):
        root = Root.parse((Path(_airflow_home()) / "xcargo").resolve().as_uri())
    else:
        root = None
        reason = f"no path is set and executor {conf.get('core', 'executor')!r} may run tasks on several machines"
    encryption_keys = _keys(conf, "encryption_keys")
    threshold = _threshold(conf, from_common_io=bool(common_path and not path))
    return Settings(
        root=root,
        threshold_bytes=threshold if not encryption_keys or _text(conf, SECTION, "threshold_bytes") else 0,
        compression=_text(conf, SECTION, "compression")
        or _text(conf, _COMMON_IO, "xcom_objectstorage_compression")
        or Settings.compression,
        read_roots=tuple(_parsed("read_paths", Root.parse, url) for url in _list(conf, "read_paths")),
        legacy_roots=tuple(_parsed("legacy_references", LegacyRoot.parse, t) for t in _list(conf, "legacy_references")),
        preview_chars=_number(conf, "preview_chars", int, 0 if encryption_keys else Settings.preview_chars),
        keep_key_order=_flag(conf, "keep_key_order", default=Settings.keep_key_order),
        allow_pickle=_flag(conf, "allow_pickle", default=Settings.allow_pickle),
        timeout_seconds=_number(conf, "timeout_seconds", float, Settings.timeout_seconds),
        retry_wait_seconds=_number(conf, "retry_wait_seconds", float, Settings.retry_wait_seconds),
        retry_max_wait_seconds=_number(conf, "retry_max_wait_seconds", float, Settings.retry_max_wait_seconds),
        hedge_after_seconds=_number(conf, "hedge_after_seconds", float, Settings.hedge_after_seconds),
        purge_timeout_seconds=_number(conf, "purge_timeout_seconds", float, Settings.purge_timeout_seconds),
        part_bytes=_number(conf, "part_bytes", int, Settings.part_bytes),
        max_concurrency=_number(conf, "max_concurrency", int, Settings.max_concurrency),
        cache_path=_text(conf, SECTION, "cache_path"),
        cache_size_bytes=_number(conf, "cache_size_bytes", int, Settings.cache_size_bytes),
        max_size_bytes=_number(conf, "max_size_bytes", int, 0),
        warn_size_bytes=_number(conf, "warn_size_bytes", int, 0),
        signing_keys=_keys(conf, "signing_key"),
        unsigned_until=_number(conf, "unsigned_until", _moment, None),
        encryption_keys=encryption_keys,
        encryption_key=encryption_keys[0] if encryption_keys else None,
        routes=_parsed("routes", parse_routes, _text(conf, SECTION, "routes") or "[]"),
        deployment=_text(conf, SECTION, "deployment"),
        retention=_text(conf, SECTION, "retention"),
        ui=_flag(conf, "ui", default=Settings.ui),
        ui_signed_downloads=_flag(conf, "ui_signed_downloads", default=Settings.ui_signed_downloads),
        max_preview_bytes=_number(conf, "max_preview_bytes", int, Settings.max_preview_bytes),
        no_root_reason=reason,
    )


def _threshold(conf: Any, *, from_common_io: bool) -> int:
    own = _text(conf, SECTION, "threshold_bytes")
    if own:
        return _parsed("threshold_bytes", int, own)
    option = "xcom_objectstorage_threshold"
    common = _text(conf, _COMMON_IO, option)
    # -1 is the provider's registered default, and Airflow writes it into the airflow.cfg that it generates: alone it
    # does not say that a user wants it. In the environment it does.
    if common and (common != "-1" or "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD" in os.environ):
        return _parsed(option, int, common, section=_COMMON_IO)
    return -1 if from_common_io else DEFAULT_THRESHOLD_BYTES


def _number(conf: Any, option: str, kind: Callable[[str], _T], default: _T) -> _T:
    text = _text(conf, SECTION, option)
    return _parsed(option, kind, text) if text else default


def _keys(conf: Any, option: str) -> tuple[Key, ...]:
    text = _text(conf, SECTION, option)
    if not text:
        for name, source in _given(conf).items():
            if name != option and _elsewhere.sub("", name) == option:  # else nothing would be signed, or encrypted
                raise ConfigurationError(f"[{SECTION}] {option}: there is none where {source} says")
    return _parsed(option, parse_keys, text or "")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        moment = datetime.min  # noqa: DTZ901
    if moment.tzinfo is None:
        raise ConfigurationError(
            f"{text!r} is not a time with its offset", hint="Write it like 2027-01-31T00:00:00+00:00."
        )
    return moment


def _flag(conf: Any, option: str, *, default: bool) -> bool:
    text = str(_text(conf, SECTION, option) or default).lower()
    if text not in _FLAGS:
        raise ConfigurationError(f"[{SECTION}] {option} is {text!r}", hint="Write True or False.")
    return _FLAGS[text]


def _list(conf: Any, option: str) -> list[str]:
    return [item.strip() for item in (_text(conf, SECTION, option) or "").split(",") if item.strip()]


def _text(conf: Any, section: str, option: str) -> str | None:
    value = conf.get(section, option, fallback=None)
    return value.strip() or None if isinstance(value, str) else value


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


def _refuse_unknown(conf: Any) -> None:
    """A misspelt option must not be silently without effect."""
    for name, source in _given(conf).items():
        if name not in OPTIONS and not OPTIONS.get(_elsewhere.sub("", name), {}).get("sensitive"):
            import difflib

            close = difflib.get_close_matches(name, OPTIONS, n=1)
            raise ConfigurationError(
                f"There is no option for {source}",
                hint=f"Did you mean {close[0]!r}?" if close else f"Known options: {', '.join(OPTIONS)}.",
            )


def _given(conf: Any) -> dict[str, str]:
    """The options that are set, and where."""
    start = f"AIRFLOW__{SECTION.upper()}__"
    given = {name[len(start) :].lower(): f"the variable {name}" for name in os.environ if name.startswith(start)}
    for name in getattr(conf, "_sections", {}).get(SECTION, {}):
        given.setdefault(name, f"{name} in section [{SECTION}]")
    return given


def runs_on_one_machine(conf: Any) -> bool:
    """Whether every configured executor runs its tasks on the machine of the scheduler."""
    names = [name.strip().rpartition(".")[2] for name in str(conf.get("core", "executor")).split(",")]
    return all(name.rpartition(":")[2] in _SINGLE_MACHINE for name in names)


def _airflow_home() -> str:
    from airflow.configuration import AIRFLOW_HOME

    return str(AIRFLOW_HOME)
