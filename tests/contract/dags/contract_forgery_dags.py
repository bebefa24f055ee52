"""Two Dags, and somebody who may write the XComs of one of them and would like to have the other's.

The second Dag's own task plays that person: it forges rows through the REST API where that takes them, else in the
database itself. The next task pulls them, and tells what it got.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import sqlite3
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow import __version__ as airflow_version
from contract_dags import plain_dag, this_task
from contract_values import large

try:
    from airflow.sdk import task
    from airflow.sdk.execution_time.xcom import XCom
except ImportError:
    from airflow.decorators import task
    from airflow.models.xcom import XCom

SECRET = "what only the victim may read "
HOME = Path(os.environ["AIRFLOW_HOME"])
TRAP = HOME / "trap"
"""A file that exists if anything unpickled what the attacker wrote."""


class Trap:
    """Code that runs where it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (TRAP,))


def forgeries(own: dict[str, Any], victims: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows that somebody may make of the envelopes that he sees."""
    root = (HOME / "objects").as_uri()
    unsigned = {name: value for name, value in own.items() if name != "signature"}
    made_up = {"__id__": "xcargo/1", "type": "str", "size_bytes": 5, "stored_bytes": 5, "compression": "none"}
    inline = made_up | {"data": base64.b64encode(b"forge").decode(), "codec": "bytes"}
    trap = pickle.dumps(Trap())
    elsewhere = made_up | {"codec": "bytes", "checksum": "blake3:" + "0" * 64}
    return {
        "victims_row": victims,
        "victims_object": own | {name: victims[name] for name in ("uri", "checksum", "stored_bytes", "size_bytes")},
        "victims_place": own | {"uri": victims["uri"]},
        "etc_passwd": elsewhere | {"uri": "file:///etc/passwd"},
        "dots": elsewhere | {"uri": f"{root}/contract_attacker/../contract_victim/x"},
        "other_scheme": elsewhere | {"uri": "s3://bucket/x"},
        "url": elsewhere | {"uri": "http://127.0.0.1:1/x"},
        "connection": elsewhere | {"uri": f"file://aws_default@{root.removeprefix('file://')}/contract_attacker/x"},
        "pickled": inline
        | {"codec": "pickle", "data": base64.b64encode(trap).decode(), "size_bytes": len(trap)}
        | {"stored_bytes": len(trap)},
        "version": own | {"__id__": "xcargo/99"},
        "bomb": inline | {"size_bytes": 2**60, "compression": "zstd"},
        "half": {"__id__": "xcargo/1"},
        # These need no other's secret: only a signature tells them from what the Dag itself stored.
        "unsigned": unsigned,
        "other_value": inline,
        "changed": own | {"preview": "'harmless'"},
    }


def plants(own: dict[str, Any]) -> dict[str, Any]:
    """Rows that a task of one Dag may write into another Dag by Airflow's Execution API, as every task may."""
    made_up = forgeries(own, dict.fromkeys(("uri", "checksum", "stored_bytes", "size_bytes")))["other_value"]
    return {"own_object": own, "made_up": made_up, "nested": {"deep": [own]}}


NAMES = tuple(forgeries({}, dict.fromkeys(("uri", "checksum", "stored_bytes", "size_bytes"))))
ONLY_BY_SIGNATURE = ("unsigned", "other_value", "changed")


@plain_dag
def contract_victim() -> None:
    """A Dag with a value that is nobody else's business."""

    @task
    def secret() -> str:
        return SECRET * 20

    secret()


@plain_dag
def contract_attacker() -> None:
    """A Dag whose rows are forged while it runs."""

    @task
    def mine() -> None:
        for name in (*NAMES, "as_text"):
            this_task().xcom_push(key=name, value=large(3))

    @task
    def forge() -> None:
        own, victims = rows_of("contract_attacker")["half"], rows_of("contract_victim")["return_value"]
        _report("statuses", {name: _forge(name, row) for name, row in forgeries(own, victims).items()})
        status = _by_api("as_text", json.dumps(victims)) if os.environ.get("FORGERY_API") else 0
        _report("as_text", {"status": status})

    @task
    def pull() -> None:
        ti = this_task()
        _report("outcomes", {name: _outcome(ti.xcom_pull, task_ids="mine", key=name) for name in NAMES})
        text = json.loads(_file("as_text").read_text())
        _report("as_text", text | {"outcome": _outcome(ti.xcom_pull, task_ids="mine", key="as_text")})

    @task
    def victims_own() -> None:
        query = {"dag_id": "contract_victim", "task_id": "secret", "run_id": os.environ["VICTIM_RUN_ID"]}
        _report("victims_own", _outcome(XCom.get_one, key="return_value", **query))
        if not airflow_version.startswith("2."):
            own = rows_of("contract_attacker")["half"]
            _report("planted", {name: _planted(name, row, **query) for name, row in plants(own).items()})

    @task
    def delete() -> None:
        where = {"task_id": "mine", "dag_id": "contract_attacker", "run_id": this_task().run_id}
        if airflow_version.startswith("2."):
            XCom.clear(**where, map_index=-1)
        else:
            for name in NAMES:
                XCom.delete(key=name, **where, map_index=-1)

    mine() >> forge() >> pull() >> victims_own() >> delete()


def _report(name: str, found: Any) -> None:
    _file(name).write_text(json.dumps(found))


def _file(name: str) -> Path:
    return HOME / f"forgery_{name}.json"


def _outcome(pull: Callable[..., Any], **query: Any) -> str:
    """The name of the error, or the value's beginning."""
    try:
        return f"value: {pull(**query)}"[:60]
    except Exception as error:
        return type(error).__name__


def _planted(key: str, row: Any, **query: Any) -> str:
    """What the Dag that it was written into makes of a row."""
    XCom._set_xcom_in_db(key, row, **query)
    return _outcome(XCom.get_one, key=key, **query)


def _forge(key: str, row: dict[str, Any]) -> int:
    """Put a row in the place of the one of that key: by the API if there is one that takes it. Returns its status."""
    status = _by_api(key, row) if os.environ.get("FORGERY_API") else 0
    if status != 200:
        _in_database(key, row)
    return status


def _by_api(key: str, row: Any) -> int:
    run_id = urllib.parse.quote(this_task().run_id, safe="")
    entries = f"dags/contract_attacker/dagRuns/{run_id}/taskInstances/mine/xcomEntries"
    statuses = []
    for n, spelled in enumerate(_spellings(json.dumps(row))):
        body = f'"value": {spelled}, "map_index": -1'
        statuses.append(_request("PATCH", f"{entries}/{key}", f"{{{body}}}"))
        statuses.append(_request("POST", entries, f'{{"key": "new_{n}_{key}", {body}}}'))
    assert len({status // 100 for status in statuses}) == 1, statuses
    return statuses[0]


def _spellings(text: str) -> tuple[str, ...]:
    """The same JSON as it is, with its marker in escapes, and with a harmless one in front of it."""
    escaped = text.replace('"__id__"', '"\\u005f\\u005fid\\u005f\\u005f"')
    return text, escaped, text.replace('{"__id__"', '{"__id__": "harmless", "__id__"')


def _request(method: str, path: str, body: str) -> int:
    request = urllib.request.Request(
        f"{os.environ['FORGERY_API']}/api/v2/{path}",
        data=body.encode(),
        method=method,
        headers={"Authorization": f"Bearer {os.environ['FORGERY_TOKEN']}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def rows_of(dag_id: str) -> dict[str, Any]:
    """The rows of a Dag by XCom key, as the database holds them."""
    per_attempt = (
        "SELECT x.key, x.value FROM xcom_v2 x JOIN task_instance ti ON ti.id = x.task_instance_id WHERE ti.dag_id = ?"
    )
    with sqlite3.connect(HOME / "airflow.db", timeout=60) as connection:
        query = per_attempt if _table(connection) == "xcom_v2" else "SELECT key, value FROM xcom WHERE dag_id = ?"
        found = dict(connection.execute(query, (dag_id,)).fetchall())
    return {key: json.loads(value) for key, value in found.items() if isinstance(value, (str, bytes))}


def _in_database(key: str, row: dict[str, Any]) -> None:
    text = json.dumps(row, separators=(",", ":"))
    if airflow_version.startswith("2."):  # which may hold the database's lock in this very process
        from airflow.utils.session import create_session
        from sqlalchemy import text as sql

        with create_session() as session:
            session.execute(
                sql("UPDATE xcom SET value = :value WHERE key = :key"), {"value": text.encode(), "key": key}
            )
        return
    with sqlite3.connect(HOME / "airflow.db", timeout=60) as connection:
        table = _table(connection)
        changed = connection.execute(f"UPDATE {table} SET value = ? WHERE key = ?", (text, key)).rowcount
    assert changed == 1, (key, changed)


def _table(connection: sqlite3.Connection) -> str:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return "xcom_v2" if "xcom_v2" in tables else "xcom"


DAGS = (contract_victim(), contract_attacker())
