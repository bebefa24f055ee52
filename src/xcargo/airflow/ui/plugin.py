"""The explorer's place in Airflow's UI, and macros. Every Airflow process imports this, so it imports next to nothing.

The web application behind the explorer is built when an API server asks for it, and nowhere else.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar
from urllib.parse import urlsplit

try:
    from airflow.sdk.plugins_manager import AirflowPlugin
except ImportError:
    from airflow.plugins_manager import AirflowPlugin

__all__ = ["PREFIX", "XCargoPlugin"]

PREFIX = "/xcargo"
"""Where the application is mounted, below the path of ``[api] base_url``."""

_TITLE = "XCom data"
_TASK = "dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}"
_VIEWS = (
    ("task_instance", "xcom_data", _TASK),
    ("dag_run", "xcom_data_run", "dag_id={DAG_ID}&run_id={RUN_ID}"),
    ("dag", "xcom_data_dag", "dag_id={DAG_ID}"),
    ("nav", "xcom_data_all", ""),
)

_POSSIBLE = hasattr(AirflowPlugin, "external_views")

log = logging.getLogger(__name__)


def upload_url(*args: Any, **options: Any) -> str:
    """`xcargo.upload_url` in a template."""
    import xcargo

    return xcargo.upload_url(*args, **options)


def download_url(*args: Any, **options: Any) -> str:
    """`xcargo.download_url` in a template."""
    import xcargo

    return xcargo.download_url(*args, **options)


class XCargoPlugin(AirflowPlugin):  # type: ignore[misc]
    """The macros; and if ``[xcargo] ui`` is true, tabs of a task instance, a run and a Dag, and a page in the menu."""

    name = "xcargo"
    macros: ClassVar[list[Any]] = [upload_url, download_url]

    @classmethod
    def on_load(cls, *_args: Any, **_kwargs: Any) -> None:
        """Say it where the explorer is asked for and cannot be."""
        if not _POSSIBLE and _enabled():
            log.warning("[xcargo] ui is on, but the XCom explorer needs Airflow 3.1 or later; there is none here")

    @property
    def external_views(self) -> list[dict[str, Any]]:
        """What Airflow 3.1 and later show. Made once, since Airflow may take views out of the list."""
        if not hasattr(self, "_views"):
            self._views = _views() if _available() else []
        return self._views

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:
        """The application behind the views. A failure to build it is logged, and there is no page then."""
        if not hasattr(self, "_apps"):
            self._apps = _apps() if _available() else []
        return self._apps


def _available() -> bool:
    return _POSSIBLE and _enabled()


def _enabled() -> bool:
    from airflow.configuration import conf

    try:
        return bool(conf.getboolean("xcargo", "ui", fallback=False))
    except Exception:
        log.exception("[xcargo] ui is neither True nor False; there is no explorer")
        return False


def _views() -> list[dict[str, Any]]:
    from airflow.configuration import conf

    base = urlsplit(str(conf.get("api", "base_url", fallback=""))).path.rstrip("/")
    return [
        {
            "name": _TITLE,
            "href": f"{base}{PREFIX}/?{query}".rstrip("?"),
            "destination": destination,
            "url_route": route,
            "icon": f"{base}{PREFIX}/static/icon.svg",
            "icon_dark_mode": f"{base}{PREFIX}/static/icon-dark.svg",
            **({"category": "browse"} if destination == "nav" else {}),
        }
        for destination, route, query in _VIEWS
    ]


def _apps() -> list[dict[str, Any]]:
    try:
        from xcargo.airflow.ui.app import build

        return [{"app": build(), "url_prefix": PREFIX, "name": "xcargo explorer"}]
    except Exception:
        log.exception("The XCom explorer of xcargo could not be built; the API server runs without it")
        return []
