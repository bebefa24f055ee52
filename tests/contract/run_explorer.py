"""Puts questions, named in a JSON file, to this Airflow's own API server application; writes the answers as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient


def main(questions: str, answers: str, passwords: str) -> None:
    """Each question is asked as a user, by a bearer token or a cookie, or as nobody."""
    from airflow.api_fastapi.app import create_app

    told: dict[str, Any] = {}
    with TestClient(create_app(), base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        tokens = {}
        for user, password in json.loads(Path(passwords).read_text()).items():
            login = client.post("/auth/token", json={"username": user, "password": password})
            tokens[user] = login.json()["access_token"]
        for name, asked in json.loads(Path(questions).read_text()).items():
            client.cookies.clear()
            headers = dict(asked.get("headers", {}))
            user = asked.get("user")
            if user and asked.get("cookie"):
                client.cookies.set("_token", tokens[user])
            elif user:
                headers["authorization"] = f"Bearer {tokens[user]}"
            answer = client.get(f"/xcargo/{asked['path']}", params=asked.get("query", {}), headers=headers)
            told[name] = {"status": answer.status_code, "headers": dict(answer.headers), "hex": answer.content.hex()}
    Path(answers).write_text(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
