"""An environment that holds nothing of ours, and the doctor in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.metadata import Metadata
from tests.unit.cli.kit import BARE_PREFIXES, Call, Done
from xcargo.cli.checks import Finding
from xcargo.cli.doctor import examine as run_checks

Examine = Callable[..., dict[str, Finding]]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Nothing of Airflow or of a cloud is set, but for the backend."""
    for name in list(os.environ):
        if name.startswith(BARE_PREFIXES):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    for name, value in {
        "HOME": str(home),
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_GCE_CHECK": "true",
        "AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def examine(bare: pytest.MonkeyPatch) -> Examine:
    """Runs the doctor with variables set, ``xcargo__path`` standing for ``AIRFLOW__XCARGO__PATH``."""

    def run(*, server: Any = None, large: bool = False, env: dict[str, str] | None = None, **options: str) -> Any:
        if server is not None:
            options.setdefault("xcargo__path", server.root)
        for name, value in {**(server.env() if server is not None else {}), **(env or {})}.items():
            bare.setenv(name, value)
        for name, value in options.items():
            bare.setenv(f"AIRFLOW__{name.upper()}", value)
        return {finding.name: finding for finding in run_checks(timeout_seconds=3, large=large)}

    return run


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """The command in this process, in an environment where nothing is set but what the call names."""
    from xcargo.airflow import runtime
    from xcargo.cli.main import main

    def forget() -> None:
        for cached in vars(runtime).values():
            if hasattr(cached, "cache_clear"):
                cached.cache_clear()

    def call(*args: str, **env: str) -> Done:
        with monkeypatch.context() as patch:
            for name in list(os.environ):
                if name.startswith(BARE_PREFIXES):
                    patch.delenv(name)
            for name, value in ({"AIRFLOW__CORE__EXECUTOR": "LocalExecutor"} | env).items():
                patch.setenv(name, value)
            forget()
            capfd.readouterr()
            try:
                code = main(args)
            except SystemExit as exit_:  # --help, and arguments that are none
                code = int(str(exit_.code))
            finally:
                forget()
            return Done(code, *capfd.readouterr())

    return call


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, cli: Call) -> Callable[..., Call]:
    """The command in this process, over a metadata database."""
    from airflow import settings

    def over(metadata: Metadata, **always: str) -> Call:
        monkeypatch.setattr(settings, "engine", metadata.engine)
        return lambda *args, **env: cli(*args, **(always | env))

    return over
