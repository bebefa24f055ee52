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
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from sqlalchemy.orm import configure_mappers

from xcargo.airflow.ui import stored, values, xcoms
from xcargo.errors import ErrorKind, XCargoError
from xcargo.explorer.limits import PreviewTimeoutError, TooLargeError

__all__ = ["POLICY", "build"]

log = logging.getLogger(__name__)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Load nothing from elsewhere. Trusted types: not even our own scripts can make markup out of text."""

_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""Of every answer that does not say otherwise."""

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
    app = FastAPI(title="xcargo explorer", docs_url=None, redoc_url=None, openapi_url=None, lifespan=_lifespan)
    app.add_middleware(_Failures)
    app.add_middleware(_SafeHeaders)
    app.add_exception_handler(XCargoError, _answer_error)
    app.include_router(values.router)
    app.include_router(stored.router)

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(_STATIC / "index.html", headers={"cache-control": "no-cache"})

    app.mount("/static", _Assets(directory=_STATIC))
    return app


@asynccontextmanager
async def _lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Load what answers need beside the start of the API server, so that the first one is as fast as those after it.

    Not when the application is made: a process that serves may be a fork of the one that built it.
    """
    threading.Thread(target=_load, name="xcargo-warm", daemon=True).start()
    yield


def _load() -> None:
    """No request to a store or a database. What fails here fails again, with its error, where it is needed."""
    with suppress(Exception):
        configure_mappers()  # of Airflow's tables, most of what the first answer waits for
    # pyarrow loads pandas, where it is installed, as soon as it makes an array out of Python's values.
    for library in ("msgpack", "numpy", "pyarrow.compute", "pyarrow.ipc", "pandas", "obstore.store"):
        with suppress(ImportError):
            import_module(library)
    with suppress(Exception):
        xcoms.pipeline()


class _Assets(StaticFiles):
    """Files of the page; asked for again each time, which costs no more than the question whether they changed."""

    def file_response(self, *args: Any, **kwargs: Any) -> Any:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response


class _SafeHeaders:
    """ASGI middleware that adds the headers to each answer."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message["headers"]}
                added = [(k.encode(), v.encode()) for k, v in _HEADERS.items() if k.encode() not in own]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._app(scope, receive, send_with_headers)


class _Failures:
    """ASGI middleware that answers any other error. A handler could not: the server would log the error's text too."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        started = False

        async def send_and_note(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception as error:
            if scope["type"] != "http":
                raise
            answer = _answer_failure(error)
            if started:  # a download: it ends short of its length, which a browser shows
                raise RuntimeError("The answer had begun") from None
            await answer(scope, receive, send)


def _answer_error(_request: Request, error: Exception) -> JSONResponse:
    """An error of ours: what went wrong and what to do, neither of which holds a value."""
    if not isinstance(error, XCargoError):
        raise error
    too_much = isinstance(error, (TooLargeError, PreviewTimeoutError))
    status = 413 if too_much else _STATUS.get(error.kind, 422)
    body = {"kind": str(error.kind), "what": error.what[:1000], "hint": error.hint}
    return JSONResponse({"error": body}, status_code=status)


def _answer_failure(error: Exception) -> JSONResponse:
    """Any other error: its name and line go to the log, but not its text, which may hold a part of a value."""
    last = traceback.extract_tb(error.__traceback__)[-1] if error.__traceback__ else None
    where = f"{Path(last.filename).name}:{last.lineno}" if last else "?"
    log.error("The XCom explorer failed at %s with %s", where, type(error).__name__)
    if isinstance(error, RecursionError):
        body = {"kind": "decode", "what": "The value is nested too deeply to be shown", "hint": "Download it."}
        return JSONResponse({"error": body}, status_code=422)
    body = {"kind": "internal", "what": f"The explorer failed: {type(error).__name__}", "hint": f"See the log: {where}"}
    return JSONResponse({"error": body}, status_code=500)
