"""The edge to Airflow: the only modules that import it."""

from __future__ import annotations

__all__ = ["load_backend"]


def load_backend() -> None:
    """Load the backend and adapt this process to it. Call it before anything else of this package is imported.

    Airflow 2 looks its XCom backend up while ``airflow.models.xcom`` loads, so that has to begin before the backend
    does. Airflow 3 looks it up at first use.
    """
    import airflow

    if airflow.__version__.startswith("2."):
        import airflow.models.xcom
    from xcargo.airflow.backend import install

    install()
