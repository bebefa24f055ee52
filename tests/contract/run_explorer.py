"""Asks this Airflow's own API server application about rows of a contract Dag; writes the answers as JSON."""

from __future__ import annotations

import json
import sys
import urllib.parse
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

PASSWORDS = {"reader": "reader-secret", "nobody": "nobody-secret"}


def main(out: str, run_id: str) -> None:
    """One request each, as a user with and without the right, by both kinds of login."""
    from airflow.api_fastapi.app import create_app

    told: dict[str, Any] = {}
    with TestClient(create_app(), base_url="http://127.0.0.1", raise_server_exceptions=False) as client:

        def get(name: str, path: str, user: str | None, *, cookie: bool = False, text: str = "", **query: Any) -> None:
            client.cookies.clear()
            headers = {"x-xcargo-text": urllib.parse.quote(text)} if text else {}
            if user and cookie:
                client.cookies.set("_token", tokens[user])
            elif user:
                headers["authorization"] = f"Bearer {tokens[user]}"
            answer = client.get(f"/xcargo/{path}", params=query, headers=headers)
            told[name] = [answer.status_code, answer.json() if "json" in answer.headers["content-type"] else None]

        tokens = {}
        for user, password in PASSWORDS.items():
            login = client.post("/auth/token", json={"username": user, "password": password})
            tokens[user] = login.json()["access_token"]
        dag, value = "api/dags/contract_retry", {"run_id": run_id, "task_id": "flaky", "key": "partial"}
        get("page", "", None)
        get("no_login", f"{dag}/value", None, **value)
        for cookie in (False, True):
            kind = "cookie" if cookie else "bearer"
            get(f"no_right_{kind}", f"{dag}/value", "nobody", cookie=cookie, **value)
            get(f"value_{kind}", f"{dag}/value", "reader", cookie=cookie, **value)
        get("listed", f"{dag}/xcoms", "reader", run_id=run_id, task_id="flaky")
        get("first", f"{dag}/value", "reader", **value, attempt=1)
        get("others", f"{dag}/others", "reader", **value)
        get("compared", f"{dag}/compare", "reader", **value, other_run_id=run_id, other_attempt=1)
        get("searched", f"{dag}/search", "reader", text="ä", **value)
        get("stored", "api/stored", "reader")
    Path(out).write_text(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
