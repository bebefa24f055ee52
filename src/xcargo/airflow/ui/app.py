"""The explorer's web application: pages and answers, for who may read a Dag's XComs. GET only; nothing is changed.

Each route below ``/api/dags/{dag_id}`` depends on Airflow's own check of the right to that Dag's XComs; the page itself
and its scripts hold no data.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from sqlalchemy.orm import configure_mappers

from xcargo.airflow.ui import look, stored, values
from xcargo.airflow.ui.headers import SafeHeaders
from xcargo.errors import ErrorKind, XCargoError
from xcargo.explorer.bounds import TooLargeError

__all__ = ["build"]

log = logging.getLogger(__name__)

_STATIC = Path(__file__).with_name("static")
_STATUS = {
    ErrorKind.OBJECT_NOT_FOUND: 404,
    ErrorKind.ROOT_NOT_FOUND: 404,
    ErrorKind.ACCESS_DENIED: 502,
    ErrorKind.STORE_UNAVAILABLE: 503,
    ErrorKind.CONFIGURATION: 500,
}


def build() -> FastAPI:
    """The application, to be mounted in an API server."""
    app = FastAPI(title="xcargo explorer", docs_url=None, redoc_url=None, openapi_url=None, lifespan=_warmed)
    app.add_middleware(_Failures)
    app.add_middleware(SafeHeaders)
    app.add_exception_handler(XCargoError, _told)
    app.include_router(values.router)
    app.include_router(stored.router)

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(_STATIC / "index.html", headers={"cache-control": "no-cache"})

    app.mount("/static", _Assets(directory=_STATIC))
    return app


@asynccontextmanager
async def _warmed(_app: FastAPI) -> AsyncIterator[None]:
    """Load what answers need beside the start of the API server, so that the first one is as fast as those after it.

    Not when the application is made: a process that serves may be a fork of the one that made it.
    """
    threading.Thread(target=_load, name="xcargo-warm", daemon=True).start()
    yield


def _load() -> None:
    """No request to a store or a database. What fails here fails, and is told, where it is needed."""
    with suppress(Exception):
        configure_mappers()  # of Airflow's tables, most of what the first answer waits for
    for library in ("msgpack", "numpy", "pyarrow.compute", "pyarrow.ipc", "obstore.store"):
        with suppress(ImportError):
            import_module(library)
    with suppress(Exception):
        look.pipeline()


class _Assets(StaticFiles):
    """Files of the page; asked for again each time, which costs no more than the question whether they changed."""

    def file_response(self, *args: Any, **kwargs: Any) -> Any:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response


def _told(_request: Request, error: Exception) -> JSONResponse:
    """An error of ours: what went wrong and what to do, neither of which holds a value."""
    error = cast("XCargoError", error)
    status = 413 if isinstance(error, TooLargeError) else _STATUS.get(error.kind, 422)
    told = {"kind": str(error.kind), "what": error.what[:1000], "hint": error.hint}
    return JSONResponse({"error": told}, status_code=status)


class _Failures:
    """ASGI middleware that answers any other error. A handler could not: the server would log the error's text too."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        begun = False

        async def watched(message: MutableMapping[str, Any]) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if scope["type"] != "http":
                raise
            answer = _failed(error)
            if begun:  # a download: it ends short of its length, which a browser tells
                raise RuntimeError("The answer had begun") from None
            await answer(scope, receive, send)


def _failed(error: Exception) -> JSONResponse:
    """Any other error: its name and place go to the log, but not its text, which may hold a part of a value."""
    last = traceback.extract_tb(error.__traceback__)[-1] if error.__traceback__ else None
    where = f"{Path(last.filename).name}:{last.lineno}" if last else "?"
    log.error("The XCom explorer failed at %s with %s", where, type(error).__name__)
    if isinstance(error, RecursionError):
        told = {"kind": "decode", "what": "The value is nested too deeply to be shown", "hint": "Download it."}
        return JSONResponse({"error": told}, status_code=422)
    told = {"kind": "internal", "what": f"The explorer failed: {type(error).__name__}", "hint": f"See the log: {where}"}
    return JSONResponse({"error": told}, status_code=500)
