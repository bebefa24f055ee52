"""Airflow finds the package, its options and its backend."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from xcargo.airflow.provider_info import OPTIONS, get_provider_info

from .conftest import run
from .generation import BaseXCom, XCom


def test_providers_list_shows_the_distribution() -> None:
    """``airflow providers list`` shows airflow-provider-xcargo."""
    done = run("-m", "airflow", "providers", "list")
    assert done.returncode == 0, done.stderr
    assert "airflow-provider-xcargo" in done.stdout


def test_config_list_shows_every_option() -> None:
    """``airflow config list`` shows section [xcargo] with each option and its description."""
    done = run("-m", "airflow", "config", "list", "--section", "xcargo", "--include-descriptions")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "[xcargo]" in lines
    # An option whose value is hidden or not set is commented out.
    shown = {line.lstrip("# ").partition(" = ")[0] for line in lines if " = " in line}
    assert OPTIONS.keys() <= shown
    text = " ".join(line.lstrip("# ") for line in lines)
    assert [name for name, option in OPTIONS.items() if option["description"].split(".")[0] not in text] == []


def _schemas() -> Iterator[Path]:
    spec = importlib.util.find_spec("airflow")
    assert spec is not None
    for folder in spec.submodule_search_locations or ():
        yield from Path(folder).glob("provider_info.schema.json")


def test_provider_info_fits_the_schema() -> None:
    """The package's metadata is valid by this Airflow's schema."""
    jsonschema = pytest.importorskip("jsonschema")
    (schema,) = _schemas()
    jsonschema.validate(get_provider_info(), json.loads(schema.read_text()))


def test_backend_is_resolved() -> None:
    """``[core] xcom_backend = xcargo.XComBackend`` makes Airflow's XCom our backend."""
    import xcargo

    assert issubclass(XCom, xcargo.XComBackend)
    assert issubclass(XCom, BaseXCom)
