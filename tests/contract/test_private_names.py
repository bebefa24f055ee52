"""Names that others do not promise to keep: each is used at one place of ours, and this test fails by its name."""

from __future__ import annotations

import inspect
import socket
from http.client import HTTPResponse

import attrs
import pytest
from airflow import __version__ as airflow_version

from xcargo.airflow import compat

from .generation import AIRFLOW_2

MINOR = tuple(int(part) for part in airflow_version.split(".")[:2])
ON_3 = pytest.mark.skipif(AIRFLOW_2, reason="Airflow 2 has no such name")


@ON_3
def test_a_lazy_sequence_has_xcom_arg() -> None:
    """``LazyXComSequence._xcom_arg``: whose rows a sequence gives."""
    assert "_xcom_arg" in {field.name for field in attrs.fields(compat.lazy_sequence())}


@ON_3
def test_a_lazy_sequence_has_the_methods_that_are_replaced() -> None:
    """``__iter__`` and ``__getitem__`` read ahead."""
    assert {"__iter__", "__getitem__"} <= vars(compat.lazy_sequence()).keys()


def test_a_mapped_operator_has_partial_kwargs() -> None:
    """``MappedOperator.partial_kwargs``: the arguments of a mapped task."""
    try:
        from airflow.sdk.definitions.mappedoperator import MappedOperator
    except ImportError:
        from airflow.models.mappedoperator import MappedOperator
    assert "partial_kwargs" in {field.name for field in attrs.fields(MappedOperator)}


@pytest.mark.skipif(MINOR < (3, 3), reason="models that operators declare: from Airflow 3.3 on")
def test_serde_has_extra_allowed() -> None:
    """``airflow.sdk.serde._extra_allowed``: classes that operators declare."""
    assert isinstance(compat.serde()._extra_allowed, set)


@pytest.mark.skipif(MINOR < (3, 1), reason="3.0 reads connections by other means")
def test_the_process_context_decides_who_reads_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """``_AIRFLOW_PROCESS_CONTEXT``: with "server", connections come from the metadata database."""
    from airflow.sdk.execution_time import supervisor

    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    backends = [type(backend).__name__ for backend in supervisor.ensure_secrets_backend_loaded()]
    assert "MetastoreBackend" in backends


@pytest.mark.skipif(MINOR != (3, 0), reason="other releases mask what a task sends by themselves")
def test_the_task_runner_has_serialize_rendered_fields() -> None:
    """``task_runner._serialize_rendered_fields``: rendered templates are masked before they are sent."""
    from airflow.sdk.execution_time import task_runner

    assert callable(task_runner._serialize_rendered_fields)


def test_botocores_credentials_have_expiry_time() -> None:
    """``RefreshableCredentials._expiry_time``: until when temporary keys of AWS last."""
    credentials = pytest.importorskip("botocore.credentials")
    assert "self._expiry_time =" in inspect.getsource(credentials.RefreshableCredentials)


def test_fsspecs_file_systems_have_strip_protocol() -> None:
    """``AbstractFileSystem._strip_protocol``: a URL as the file system spells its paths."""
    spec = pytest.importorskip("fsspec.spec")
    assert spec.AbstractFileSystem._strip_protocol("ftp://host/a") is not None


def test_fsspec_caches_file_systems_in_cache() -> None:
    """``AbstractFileSystem._cache``: a broken connection is taken out, and nobody else's."""
    spec = pytest.importorskip("fsspec.spec")
    assert isinstance(spec.AbstractFileSystem._cache, dict)


def test_a_http_response_has_fp() -> None:
    """``http.client.HTTPResponse.fp``: reads into memory of ours what has arrived so far."""
    ours, theirs = socket.socketpair()
    with ours, theirs, HTTPResponse(ours) as response:
        assert callable(response.fp.readinto1)


@pytest.mark.skipif(MINOR < (3, 1), reason="the explorer: from Airflow 3.1 on")
@pytest.mark.parametrize("name", ["get_user", "requires_access_asset", "requires_access_dag"])
def test_core_api_security_has_the_checks_of_rights(name: str) -> None:
    """``airflow.api_fastapi.core_api.security``: who is asking, and whether they may read a Dag or an asset."""
    from airflow.api_fastapi.core_api import security

    assert callable(getattr(security, name))


@pytest.mark.skipif(MINOR < (3, 1), reason="the explorer: from Airflow 3.1 on")
@pytest.mark.parametrize("name", ["get_authorized_dag_ids", "batch_is_authorized_dag"])
def test_the_auth_manager_answers_about_many_dags(name: str) -> None:
    """``BaseAuthManager``: which Dags a user may read, and one answer about the XComs of many."""
    from airflow.api_fastapi.auth.managers.base_auth_manager import BaseAuthManager

    assert callable(getattr(BaseAuthManager, name))
