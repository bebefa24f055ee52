"""Attempts on a running cluster: by users with few rights, by another Dag's author, by whoever writes rows or objects.

All that is forged is pulled in one run of two Dags, on a worker with a signing key and on one without.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psutil
import psycopg2
import pyarrow as pa
import pytest

from demo.cluster import FINISHED
from demo.processes import Process, stop_all
from tests.cluster.cluster import Cluster
from tests.servers.wire import Reply, call
from xcargo.transfer import compression

Row = dict[str, Any]

ROLES = {"viewer": "viewer", "editor": "user"}
"""Of Airflow. Both see every Dag; the second may write XComs as well."""
PASSWORDS = {user: base64.b64encode(os.urandom(12)).decode() for user in ROLES}
SIGNING_KEY = base64.b64encode(os.urandom(32)).decode()
SECRET = "what only the victim may read"

SAME_DAG = {"row of another key", "row of another run"}
BY_SIGNATURE = {"unsigned", "made up", "changed"}
"""Rows that only a signature tells from those that the Dag stored itself."""
ERRORS = {"SignatureError", "EnvelopeError", "DecodeError", "IntegrityError", "MissingDependencyError"}
ELSEWHERE = {
    "file": "file:///etc/passwd",
    "http": "http://127.0.0.1:1/x",
    "bucket": "s3://other/attacker/x",
    "connection": "s3://aws_default@xcom/demo/attacker/x",
    "dots": "s3://xcom/demo/attacker/../victim/x",
}
OBJECTS = {
    "cut off": "text",
    "of another key": "text",
    "bomb": "nested",
    "hostile msgpack": "nested",
    "hostile numpy": "array",
    "hostile arrow": "frame",
    "chunk moved": "chunks",
    "note of expiry": "text",
    "gone": "text",
}
"""What is replaced in the bucket, and the kind of value that it was."""
PLANTED = ("own object", "made up", "nested")
QUESTIONS = ("value", "others", "tree", "table?columns=0", "column?number=0", "array", "bytes", "folder", "image")
FORMS = ("raw", "json", "csv", "txt", "npy")


class Trap:
    """Code that runs where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def bomb() -> bytes:
    return bytes(compression.compress("zstd", bytes(300_000_000)))


def arrow_bomb() -> bytes:
    """A table that Arrow itself has compressed."""
    sink, table = BytesIO(), pa.table({"n": [bytes(100_000_000)]})
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return sink.getvalue()


def hostile_payloads(trap: Path) -> dict[str, Row]:
    """Rows with a payload in them."""

    def row(codec: str, data: bytes, *, size: int | None = None, compressed: str = "none", **params: Any) -> Row:
        sizes = {"size_bytes": len(data) if size is None else size, "stored_bytes": len(data)}
        text = base64.b64encode(data).decode()
        made = {"__id__": "xcargo/1", "type": "str", "codec": codec, "params": params, "data": text}
        return made | sizes | {"compression": compressed}

    footer = b"ARROW1\0\0" + bytes(8) + b"\xff\xff\xff\x7fARROW1"
    return {
        "made up": row("bytes", b"forged"),
        "pickle": row("pickle", pickle.dumps(Trap(trap))),
        "bomb in the row": row("bytes", bomb(), size=1000, compressed="zstd"),
        "size of an exabyte": row("bytes", b"x", size=2**60, compressed="zstd"),
        "list of four billion": row("msgpack", b"\xdd\xff\xff\xff\xff"),
        "nested too deeply": row("msgpack", b"\x91" * 200_000 + b"\xc0"),
        "shape of a terabyte": row("numpy", bytes(8), dtype="<f8", shape=[2**37]),
        "array of objects": row("numpy", bytes(8), dtype="O", shape=[1]),
        "compressed arrow": row("arrow", arrow_bomb(), type="pyarrow.Table"),
        "arrow with a long footer": row("arrow", footer, type="pyarrow.Table"),
    }


def forged_rows(own: Row, another_key: Row, another_run: Row, victims: Row, trap: Path) -> dict[str, Row]:
    """What somebody may make of the rows that they see."""
    unsigned = {name: value for name, value in own.items() if name != "signature"}
    place = ("uri", "checksum", "stored_bytes", "size_bytes")
    return {
        "victim's row": victims,
        "victim's object": own | {name: victims.get(name) for name in place},
        "row of another key": another_key,
        "row of another run": another_run,
        "unsigned": unsigned,
        "changed": own | {"preview": "'harmless'"},
        **{name: unsigned | {"uri": uri} for name, uri in ELSEWHERE.items()},
        **hostile_payloads(trap),
    }


@dataclass
class Attack:
    """What came of it all."""

    cluster: Cluster
    url: str
    """Of an API server whose users have roles, with the explorer."""
    tokens: dict[str, str]
    statuses: dict[str, set[int]] = field(default_factory=dict)
    """Of the API, to each user who wrote a row."""
    pulled: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """What each pull came to, by Dag, task and key."""
    answers: dict[str, Reply] = field(default_factory=dict)
    """Of the explorer and of Airflow's own API, to the viewer."""
    grown_bytes: int = 0
    """By how much these raised the most memory that the API server ever had."""
    commands: set[str] = field(default_factory=set)
    """What the list of processes showed."""
    lost: set[str] = field(default_factory=set)
    """Objects with a row that a sweep amid the forged rows took."""
    trap: Path = Path()
    victims_object: str = ""

    def ask(self, method: str, path: str, *, user: str = "", body: object = None) -> Reply:
        headers = {"Content-Type": "application/json"}
        if user:
            headers["Authorization"] = f"Bearer {self.tokens[user]}"
        return call(self.url, method, path, headers, b"" if body is None else json.dumps(body).encode())

    def wait(self, done: Callable[[], bool], seconds: float = 600) -> None:
        """Look at the list of processes until it is done."""
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline
            self.commands |= {" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])}
            time.sleep(0.25)


def log_in(url: str, user: str) -> str:
    body = json.dumps({"username": user, "password": PASSWORDS[user]}).encode()
    return str(
        json.loads(call(url, "POST", "/auth/token", {"Content-Type": "application/json"}, body).body)["access_token"]
    )


@contextlib.contextmanager
def more_components(cluster: Cluster) -> Iterator[str]:
    """A worker that signs, and an API server whose users have roles: its URL."""
    passwords = cluster.home / "passwords.json"
    passwords.write_text(json.dumps(PASSWORDS))
    env = {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in ROLES.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "AIRFLOW__XCARGO__UI": "True",
    }
    before = set(cluster.processes)
    celery = ("celery", "worker", "--celery-hostname", "signing", "--concurrency", 4)
    try:
        cluster.launch_worker("signing", *celery, env={"AIRFLOW__XCARGO__SIGNING_KEY": SIGNING_KEY})
        yield cluster.another_api_server(env, seconds=300)
    finally:
        stop_all([cluster.processes.pop(name) for name in set(cluster.processes) - before])


@pytest.fixture(scope="module")
def attack(cluster: Cluster) -> Iterator[Attack]:
    """Pushes, then everything forged, then pulls, questions to the explorer, and a sweep."""
    with more_components(cluster) as url:
        made = Attack(cluster, url, {user: log_in(url, user) for user in ROLES}, trap=cluster.meeting / "trap")
        names = (*forged_rows({}, {}, {}, {}, made.trap), *OBJECTS)
        pushed = dict.fromkeys(("own", "plain", "api", *names), "text") | OBJECTS | {"another": "nested"}
        conf = {"pushed": pushed, "pulled": [*names, "plain", "api"], "deleted": ["victim's row", "victim's object"]}
        runs = {
            "attacker": cluster.trigger("attacker", conf=conf),
            "victim": cluster.trigger("victim", conf={"pushed": {"secret": "secret"}, "pulled": ["secret", *PLANTED]}),
        }
        earlier = cluster.trigger("attacker", conf={"pushed": {"own": "nested"}, "ends": True})
        everything = [*runs.items(), ("attacker", earlier)]
        made.wait(lambda: all(is_pushed(cluster, *run) for run in everything))
        own, victims = (
            rows_of(cluster, "attacker", runs["attacker"]),
            rows_of(cluster, "victim", runs["victim"])["secret"],
        )
        made.victims_object = key_of(victims)

        write_by_api(made, runs["attacker"], own["own"])
        another_run = rows_of(cluster, "attacker", earlier)["own"]
        forged = forged_rows(own["own"], own["another"], another_run, victims, made.trap)
        write_to_database(cluster, "attacker", runs["attacker"], forged)
        replace_objects(cluster, own)
        planted = zip(PLANTED, (own["own"], forged["made up"], {"deep": [own["own"]]}), strict=True)
        plant(cluster, runs["victim"], dict(planted))
        made.wait(lambda: all(cluster.result(*run).state in FINISHED for run in everything))
        for dag_id, run_id in runs.items():
            assert cluster.errors(dag_id, run_id) == []
            told = {task: cluster.meeting / f"{dag_id}.{task}.json" for task in ("pull_signing", "pull_two")}
            made.pulled[dag_id] = {task: json.loads(path.read_text()) for task, path in told.items()}

        server = cluster.processes[f"api-server-{url.rpartition(':')[2]}"]
        before = peak_bytes(server)
        ask_as_viewer(made, runs["attacker"], pushed)
        made.grown_bytes = peak_bytes(server) - before
        in_use = cluster.objects() & cluster.referenced()
        cluster.sweep()
        made.lost = in_use - cluster.objects()
        yield made
        for dag_id, run_id in everything:
            cluster.request("DELETE", f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}")
        for key in cluster.objects() - cluster.referenced():
            cluster.store.raw.delete(key)


def is_pushed(cluster: Cluster, dag_id: str, run_id: str) -> bool:
    return any(
        task.task_id == "push" and task.state in ("success", "skipped") for task in cluster.result(dag_id, run_id).tasks
    )


def rows_of(cluster: Cluster, dag_id: str, run_id: str) -> dict[str, Row]:
    return {row.key: row.value for row in cluster.xcoms(dag_id, run_id) if row.task_id == "push"}


def key_of(row: Row) -> str:
    return str(row["uri"].removeprefix("s3://xcom/"))


def entries(run_id: str) -> str:
    return f"/api/v2/dags/attacker/dagRuns/{quote(run_id, safe='')}/taskInstances/push/xcomEntries"


def write_by_api(made: Attack, run_id: str, envelope: Row) -> None:
    """An envelope by `PATCH` and by `POST`, as each user and as nobody; at last a plain value as the editor."""
    for user in ("", *ROLES):
        patched = made.ask("PATCH", f"{entries(run_id)}/api", user=user, body={"value": envelope, "map_index": -1})
        posted = made.ask("POST", entries(run_id), user=user, body={"key": "new", "value": envelope, "map_index": -1})
        made.statuses[user] = {patched.status, posted.status}
    plain = made.ask("PATCH", f"{entries(run_id)}/plain", user="editor", body={"value": ["plain"], "map_index": -1})
    made.statuses["plain"] = {plain.status}


def write_to_database(cluster: Cluster, dag_id: str, run_id: str, rows: dict[str, Row]) -> None:
    sql = "UPDATE xcom SET value = %s WHERE dag_id = %s AND run_id = %s AND key = %s"
    with contextlib.closing(psycopg2.connect(cluster.metadata_url.replace("+psycopg2", ""))) as connection:
        with connection, connection.cursor() as cursor:
            for key, row in rows.items():
                cursor.execute(sql, (json.dumps(row), dag_id, run_id, key))
                assert cursor.rowcount == 1


def replace_objects(cluster: Cluster, rows: dict[str, Row]) -> None:
    """As somebody may who has the bucket alone."""
    bucket = cluster.store.raw
    own = {name: bucket.get(key_of(rows[name])) for name in OBJECTS}
    arrow, chunks = own["hostile arrow"], own["chunk moved"]
    replaced = {
        "cut off": own["cut off"][:-1],
        "of another key": bucket.get(key_of(rows["another"])),
        "bomb": bomb(),
        "hostile msgpack": b"\xdd\xff\xff\xff\xff",
        "hostile numpy": own["hostile numpy"][::-1],
        "hostile arrow": arrow[:-10] + b"\xff\xff\xff\x7f" + arrow[-6:],
        "chunk moved": chunks[2**20 : 2**21] + chunks[: 2**20] + chunks[2**21 :],
        "note of expiry": rb'{"__id__":"xcargo/expired","at":"now","rule":"forged\nERROR in another line"}',
    }
    for name, data in replaced.items():
        assert data != own[name]
        bucket.put(key_of(rows[name]), data)
    bucket.delete(key_of(rows["gone"]))


def plant(cluster: Cluster, run_id: str, rows: dict[str, Row]) -> None:
    """Have the attacker's task write these rows into the victim's run; then all tasks pull."""
    where = {"dag_id": "victim", "run_id": run_id, "task_id": "push"}
    planned = cluster.meeting / "planned"
    planned.write_text(json.dumps([{"key": key, "value": row, **where} for key, row in rows.items()]))
    planned.rename(cluster.meeting / "forged.json")


def ask_as_viewer(made: Attack, run_id: str, keys: dict[str, str]) -> None:
    """Everything about each forged row and replaced object, in every form."""
    for key in keys:
        query = urlencode({"run_id": run_id, "task_id": "push", "key": key})
        for question in (*QUESTIONS, *(f"download?form={form}" for form in FORMS)):
            path, _, more = question.partition("?")
            where = f"/xcargo/api/dags/attacker/{path}?{query}&{more}"
            made.answers[f"{key}: {question}"] = made.ask("GET", where, user="viewer")
        for option in ("deserialize", "stringify"):
            where = f"{entries(run_id)}/{quote(key)}?{option}=true"
            made.answers[f"{key}: {option}"] = made.ask("GET", where, user="viewer")


def peak_bytes(process: Process) -> int:
    """The most memory that each process of a component ever had, in all."""
    family = [process.session, *(child.pid for child in psutil.Process(process.session).children(recursive=True))]
    lines = [line for pid in family for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def values(outcomes: dict[str, Any]) -> set[str]:
    return {key for key, outcome in outcomes.items() if "value" in outcome}


def test_no_forged_row_gives_a_value(attack: Attack) -> None:
    """But a signed row of the same Dag, unchanged; and without a key what only a signature tells apart."""
    forged = set(forged_rows({}, {}, {}, {}, attack.trap))
    for task, open_to in (("pull_signing", SAME_DAG), ("pull_two", SAME_DAG | BY_SIGNATURE)):
        outcomes = {key: outcome for key, outcome in attack.pulled["attacker"][task].items() if key in forged}
        assert values(outcomes) == open_to
        errors = {key: outcome["error"] for key, outcome in outcomes.items() if key not in open_to}
        assert set(errors.values()) <= ERRORS, errors
        assert not any(SECRET in str(outcome) for outcome in outcomes.values())


def test_no_replaced_object_gives_a_value(attack: Attack) -> None:
    """Whoever has the bucket alone, with a signing key and without."""
    for outcomes in attack.pulled["attacker"].values():
        errors = {key: outcomes[key]["error"] for key in OBJECTS}
        others = {"note of expiry": "ObjectExpiredError", "gone": "ObjectNotFoundError"}
        assert errors == dict.fromkeys(OBJECTS, "IntegrityError") | others
        assert outcomes["note of expiry"]["text"].isprintable()


def test_nothing_hostile_costs_memory_or_runs(attack: Attack) -> None:
    """In the tasks, and in the API server that shows it."""
    for outcomes in attack.pulled["attacker"].values():
        assert all(outcome["kilobytes"] < 100_000 for outcome in outcomes.values()), outcomes
    assert attack.grown_bytes < 200_000_000
    assert not attack.trap.exists()


def test_no_user_writes_an_envelope(attack: Attack) -> None:
    """Nobody and the viewer may not write at all; the editor's envelope is refused, and a plain value is one."""
    assert attack.statuses == {"": {401}, "viewer": {403}, "editor": {422}, "plain": {200}}
    for outcomes in attack.pulled["attacker"].values():
        assert outcomes["plain"]["value"] == "['plain']"
        assert outcomes["api"]["value"].startswith("'1 1 1")


def test_the_author_of_another_dag_plants_no_object(attack: Attack) -> None:
    """Whose task may write rows anywhere: of its object nothing is read, what it makes up needs the missing key."""
    for task, made_up in (("pull_signing", "error"), ("pull_two", "value")):
        outcomes = attack.pulled["victim"][task]
        assert outcomes["own object"]["error"] == "EnvelopeError"
        assert made_up in outcomes["made up"]
        assert outcomes["nested"]["value"].startswith("{'deep': [{")
        assert SECRET in outcomes["secret"]["value"]


def test_a_viewer_is_answered_in_words(attack: Attack) -> None:
    """About every forged row and object, in every form; nobody else's value is among the answers."""
    for name, answer in attack.answers.items():
        assert answer.status in (200, 404, 413, 422), (name, answer)
        assert SECRET.encode() not in answer.body, name
        if answer.status != 200 and "serialize" not in name:
            assert set(json.loads(answer.body)) <= {"error", "detail"}, name
    of_row = ("value", "others", "deserialize", "stringify")
    shown = [name for name, answer in attack.answers.items() if answer.status == 200 and not name.endswith(of_row)]
    assert not {name.partition(":")[0] for name in shown} & set(OBJECTS), shown


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_the_explorer_changes_nothing(attack: Attack, method: str) -> None:
    """It answers questions only, and none of nobody."""
    path = "/xcargo/api/dags/attacker/value?run_id=r&task_id=t&key=k"
    assert attack.ask(method, path, user="editor").status == 405
    assert attack.ask("GET", path).status == 401


def test_a_sweep_amid_forged_rows_takes_nothing_in_use(attack: Attack) -> None:
    """Nor did the attacker's deletion of the row of the victim's object."""
    assert attack.lost == set()
    assert attack.victims_object in attack.cluster.objects()


def test_no_secret_is_seen(attack: Attack) -> None:
    """In any log of any component, in an answer, in the error of a pull, in the list of processes."""
    logs = {str(path): path.read_bytes() for path in attack.cluster.logs.rglob("*") if path.is_file()}
    places = {
        **logs,
        **{name: answer.body for name, answer in attack.answers.items()},
        "errors": json.dumps(attack.pulled).encode(),
        "processes": "\n".join(attack.commands).encode(),
    }
    assert any("dag_id=attacker" in name for name in logs)
    assert len(attack.commands) > 20
    secrets = (SIGNING_KEY, *PASSWORDS.values(), attack.cluster.store.connection["password"])
    assert [name for name, text in places.items() if any(secret.encode() in text for secret in secrets)] == []
    assert [name for name, text in logs.items() if SECRET.encode() in text] == []
