"""The explorer inside this Airflow's API server: whom it answers and what, in the rows that this Airflow wrote."""

from __future__ import annotations

import io
import json
import urllib.parse
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pytest
from airflow.plugins_manager import AirflowPlugin

from .conftest import HERE, Run, State, file_of, run
from .generation import BaseXCom

PER_ATTEMPT = hasattr(BaseXCom, "store_value")
has_explorer = pytest.mark.skipif(not hasattr(AirflowPlugin, "external_views"), reason="this Airflow has no such tabs")
has_none = pytest.mark.skipif(hasattr(AirflowPlugin, "external_views"), reason="this Airflow has the explorer")

has_state = pytest.mark.skipif(find_spec("airflow.state") is None, reason="this Airflow has no state store")

USERS = ("reader", "nobody", "no_xcoms", "no_state")
PASSWORDS = {user: f"{user}-secret" for user in USERS}
DAG = "api/dags/contract_explorer"

HUGE = 10**30
ODD = (-1, HUGE, "1e9", "NaN", "²", "", "--5", "\0", "ü🙂", "'; --", "9" * 5000, "part:²", f"leaf:{HUGE}/part:0")
PARAMETERS = {
    ("xcoms", None): ("run_id", "task_id", "map_index", "start", "count"),
    ("others", "plain"): ("run_id", "task_id", "key", "map_index", "attempt"),
    ("value", "tree"): ("run_id", "key", "map_index", "attempt", "inside"),
    ("tree", "tree"): ("at", "start", "count", "cursor", "inside"),
    ("search", "tree"): ("start",),
    ("table", "table"): ("start", "count", "columns", "sort", "descending"),
    ("column", "table"): ("number",),
    ("array", "array"): ("start", "first", "indexes", "part"),
    ("bytes", "bytes"): ("start", "count", "at", "text"),
    ("bytes", "tree"): ("at", "start"),
    ("compare", "plain"): ("other_run_id", "other_map_index", "other_attempt"),
    ("download", "bytes"): ("form", "inside"),
    ("stored", None): ("run_id",),
}
ODD_FILTERS = [
    "{", "3", "[3]", "[{}]", "null", '{"column": 0}', "[" * 3000,
    *(f'[{{"column": {column}, "operator": "less", "value": "1"}}]' for column in ("NaN", "true", "-1", "9" * 20)),
    '[{"column": 0, "operator": "__class__", "value": "1"}]',
    '[{"column": 0, "operator": ["less"], "value": {"a": 1}}]',
    '[{"column": 0, "operator": "less", "value": "NaN"}]',
    '[{"column": 1, "operator": "equal", "value": NaN}]',
    '[{"column": 1, "operator": "contains", "value": "\\ud800"}]',
    '[{"column": 1, "operator": "equal", "value": "\\u0000"}]',
    '[{"column": 0, "operator": "contains", "value": "(((("}]',
]  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def questions(runs: dict[str, Run]) -> dict[str, dict[str, Any]]:
    """Every question of these tests by a name."""
    asked: dict[str, dict[str, Any]] = {}

    def ask(name: str, path: str, *, user: str | None = "reader", typed: str = "", **query: Any) -> None:
        headers = {"x-xcargo-text": urllib.parse.quote(typed)} if typed else {}
        asked[name] = {"path": path, "user": user, "query": query, "headers": headers}

    def about(key: str | None, /, **query: Any) -> dict[str, Any]:
        run_id = runs["contract_explorer"].run_id
        named = {"run_id": run_id, "task_id": "values", "key": key, "map_index": 0} if key else {}
        return {**named, **query}

    ask("page", "", user=None)
    for (route, key), parameters in PARAMETERS.items():
        typed = "x" if route == "search" else ""
        ask(f"none {route}", f"{DAG}/{route}", user=None, **about(key))
        for kind in ("bearer", "cookie"):
            ask(f"forbidden {kind} {route}", f"{DAG}/{route}", user="nobody", typed=typed, **about(key))
            asked[f"forbidden {kind} {route}"]["cookie"] = kind == "cookie"
        for parameter in parameters:
            for n, odd in enumerate(ODD):
                name = f"odd {route} {key} {parameter} {n}"
                ask(name, f"{DAG}/{route}", typed=typed, **about(key, **{parameter: odd}))
    for n, filters in enumerate(ODD_FILTERS):
        ask(f"filter {n}", f"{DAG}/table", **about("table", columns="0"))
        asked[f"filter {n}"]["headers"] = {"x-xcargo-filters": urllib.parse.quote(filters)}

    ask("cookie", f"{DAG}/value", **about("tree"))
    asked["cookie"]["cookie"] = True
    ask("list", f"{DAG}/xcoms", run_id=about("x")["run_id"])
    ask("others", f"{DAG}/others", **about("plain"))
    for key in ("table", "tree", "array", "bytes", "text", "picture", "plain", "gone", "altered"):
        ask(f"value {key}", f"{DAG}/value", **about(key))
    ask("tree", f"{DAG}/tree", **about("tree", start=2999))
    ask("search", f"{DAG}/search", typed="key 2999", **about("tree"))
    below_four = {"x-xcargo-filters": urllib.parse.quote('[{"column": 0, "operator": "less", "value": "4"}]')}
    ask("table", f"{DAG}/table", **about("table", columns="0,1", sort=0, descending=True))
    ask("column", f"{DAG}/column", **about("table", number=0))
    asked["table"]["headers"] = asked["column"]["headers"] = below_four
    ask("array", f"{DAG}/array", **about("array"))
    ask("bytes", f"{DAG}/bytes", **about("bytes", start=6, count=5))
    ask("image", f"{DAG}/image", **about("picture"))
    ask("compare", f"{DAG}/compare", **about("plain", other_run_id=about("x")["run_id"], other_map_index=1))
    for key, form in DOWNLOADS:
        ask(f"download {key} {form}", f"{DAG}/download", **about(key, form=form))
    ask("download gone", f"{DAG}/download", **about("gone"))
    ask("stored", "api/stored")
    ask("stored nobody", "api/stored", user="nobody")

    retry = {"run_id": runs["contract_retry"].run_id, "task_id": "flaky", "key": "partial"}
    dag = "api/dags/contract_retry"
    ask("latest", f"{dag}/value", **retry)
    ask("attempts", f"{dag}/xcoms", run_id=retry["run_id"], task_id="flaky")
    ask("first attempt", f"{dag}/value", **retry, attempt=1)
    ask("other attempts", f"{dag}/others", **retry)
    ask("compare attempts", f"{dag}/compare", **retry, other_run_id=retry["run_id"], other_attempt=1)
    return asked


def questions_of_state(kept: State) -> dict[str, dict[str, Any]]:
    """The same about the state of tasks and of an asset."""
    asked: dict[str, dict[str, Any]] = {}

    def ask(name: str, path: str, *, user: str | None = "reader", **query: Any) -> None:
        asked[name] = {"path": f"api/{path}", "user": user, "query": query}

    dag, asset = "dags/contract_state/state", f"assets/{kept.asset_id}/state"
    task = {"run_id": kept.run_id, "task_id": "keep"}
    for route in ("", "/value", "/others", "/tree", "/bytes", "/download", "/compare"):
        for user in (None, "nobody", "no_state"):
            ask(f"{user} task{route}", dag + route, user=user, **task, key="large")
            ask(f"{user} asset{route}", asset + route, user=user, key="cursor")
    for user in (None, "nobody", "no_state"):
        ask(f"{user} assets", "assets", user=user)
    ask("no xcoms", "dags/contract_state/xcoms", user="no_xcoms", run_id=kept.run_id)
    ask("state without xcoms", dag, user="no_xcoms", **task)
    ask("task", dag, **task, map_index=-1)
    ask("mapped", dag, run_id=kept.run_id, task_id="cleared")
    ask("assets", "assets")
    ask("asset", asset)
    for key in ("small", "large", "typed", "gone"):
        ask(f"value {key}", f"{dag}/value", **task, key=key)
    mapped = {"run_id": kept.run_id, "task_id": "cleared", "key": "one"}
    ask("value mapped", f"{dag}/value", **mapped, map_index=1, region=kept.region)
    ask("value of an asset", f"{asset}/value", key="cursor")
    ask("what common io wrote", f"{asset}/value", key="old")
    ask("others", f"{dag}/others", **mapped, map_index=7)
    ask("download", f"{dag}/download", **task, key="large", form="json")
    ask("download of an asset", f"{asset}/download", key="cursor", form="json")
    ask("an xcom of that name", "dags/contract_state/value", **task, key="large")
    for n, odd in enumerate((*ODD, "1/../2")):
        ask(f"odd asset {n}", f"assets/{urllib.parse.quote(str(odd), safe='')}/state")
        ask(f"odd region {n}", f"{dag}/value", **task, key="large", region=odd)
        ask(f"odd index {n}", dag, **task, map_index=odd)
    return asked


DOWNLOADS = {
    ("table", "raw"): ".arrow",
    ("table", "csv"): ".csv",
    ("table", "parquet"): ".parquet",
    ("tree", "raw"): ".msgpack",
    ("tree", "json"): ".json",
    ("text", "txt"): ".txt",
    ("array", "npy"): ".npy",
    ("bytes", "raw"): ".bin",
    ("picture", "raw"): ".png",
}


@pytest.fixture(scope="module")
def kept(request: pytest.FixtureRequest) -> State | None:
    """What the Dag with state left, where there is such a store."""
    return request.getfixturevalue("state") if find_spec("airflow.state") else None


@pytest.fixture(scope="module")
def told(kept: State | None, dag_runs: dict[str, Run], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """Name -> answer, of a process that is an API server but for its socket; one object is gone, one altered."""
    gone, altered = (file_of(dag_runs["contract_explorer"].row("values", key, 0)) for key in ("gone", "altered"))
    originals = {path: path.read_bytes() for path in (gone, altered)}
    gone.unlink()
    altered.write_bytes(b"x" * altered.stat().st_size)
    home = tmp_path_factory.mktemp("explorer")
    (home / "passwords.json").write_text(json.dumps(PASSWORDS))
    of_state = {f"state {name}": one for name, one in questions_of_state(kept).items()} if kept else {}
    (home / "questions.json").write_text(json.dumps(questions(dag_runs) | of_state))
    done = run(
        str(HERE / "run_explorer.py"),
        *(str(home / f"{name}.json") for name in ("questions", "answers", "passwords")),
        env={
            "AIRFLOW__XCARGO__UI": "True",
            "AIRFLOW__XCARGO__READ_PATHS": kept.root.as_uri() if kept else "",
            "AIRFLOW__CORE__AUTH_MANAGER": "tests.contract.auth.PickyAuthManager",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(
                f"{u}:{'' if u == 'nobody' else 'viewer'}" for u in USERS
            ),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        },
    )
    for path, data in originals.items():  # other tests read them
        path.write_bytes(data)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-10_000:]
    answers = json.loads((home / "answers.json").read_text())
    return {
        name: Answer(answer["status"], answer["headers"], bytes.fromhex(answer["hex"]))
        for name, answer in answers.items()
    }


@has_explorer
def test_explorer_answers_whoever_has_the_right(told: dict[str, Answer]) -> None:
    """401 without a login, 403 without the right, on every route and by both kinds of login; the page holds no data."""
    assert (told["page"].status, told["cookie"].status) == (200, 200)
    for name, answer in told.items():
        if name.startswith(("none ", "forbidden ")):
            assert answer.status == (401 if name.startswith("none ") else 403), name
    assert told["stored"].json["count"] > 0
    assert told["stored nobody"].status == 403 or told["stored nobody"].json["count"] == 0


@has_explorer
def test_explorer_shows_each_kind_of_value(told: dict[str, Answer]) -> None:
    """What the rows tell, and what is read of the values."""
    listed = told["list"].json
    assert (listed["total"], {one["map_index"] for one in listed["xcoms"]}) == (18, {0, 1})
    assert [one["map_index"] for one in told["others"].json["xcoms"]] == [1]
    kinds = {name.partition(" ")[2]: one.json.get("value", {}) for name, one in told.items() if name[:6] == "value "}
    assert {key: value.get("kind") for key, value in kinds.items() if key not in ("gone", "altered")} == {
        "table": "table",
        "array": "array",
        "tree": "tree",
        "text": "tree",
        "plain": "tree",
        "bytes": "bytes",
        "picture": "bytes",
    }
    assert (kinds["table"]["rows"], kinds["picture"]["image"]) == (1000, "image/png")
    assert told["tree"].json["items"][0]["key"]["value"] == "key 2999"
    assert [hit["way"][-1]["key"] for hit in told["search"].json["hits"]] == ["key 2999"]
    assert told["table"].json["cells"] == [["3", "2", "1", "0"], ["name 3", "name 2", "name 1", "name 0"]]
    assert (told["column"].json["rows"], told["column"].json["max"]) == (4, "3.0")
    assert told["array"].json["max"] == "599.0"
    assert told["bytes"].json["hex"] == "060708090a"
    assert told["image"].headers["content-type"] == "image/png"
    assert told["compare"].json["changes"] == [{"where": "['plain']", "left": "1", "right": "2"}]


@has_explorer
def test_explorer_downloads_files_that_people_open(told: dict[str, Answer], dag_runs: dict[str, Run]) -> None:
    """By the value's name, in the formats of its kind, each readable by the library that others would use."""
    import numpy as np
    import pandas as pd

    for (key, form), suffix in DOWNLOADS.items():
        answer = told[f"download {key} {form}"]
        assert answer.status == 200, (key, form, answer.body[:300])
        run = dag_runs["contract_explorer"].run_id.replace(":", "_")
        name = urllib.parse.quote(f"contract_explorer-{run}-values-0-{key}{suffix}", safe="")
        assert answer.headers["content-disposition"] == f"attachment; filename*=UTF-8''{name}"
    assert pd.read_csv(io.BytesIO(told["download table csv"].body))["name"].tolist()[:2] == ["name 0", "name 1"]
    assert pd.read_parquet(io.BytesIO(told["download table parquet"].body))["id"].tolist() == list(range(1000))
    assert np.load(io.BytesIO(told["download array npy"].body)).shape == (20, 30)
    assert told["download text txt"].body.decode() == "text ö " * 100
    assert told["download tree json"].json["key 7"] == [7, "text ö", None]
    assert told["download bytes raw"].body == bytes(range(256)) * 20


@has_explorer
def test_explorer_says_what_is_wrong_with_an_object(told: dict[str, Answer]) -> None:
    """Beside what the row tells; nothing of an altered object is shown."""
    for key, kind in (("gone", "object_not_found"), ("altered", "integrity")):
        answer = told[f"value {key}"].json
        assert (answer["problem"]["kind"], answer.get("value")) == (kind, None)
        assert answer["envelope"]["uri"].startswith("file://")
    assert told["download gone"].status == 404


@has_explorer
def test_explorer_answers_odd_questions_in_words(told: dict[str, Answer]) -> None:
    """Numbers beyond any database, signs, other scripts, broken filters: an answer, or a refusal with a reason."""
    for name, answer in told.items():
        if name.startswith(("odd ", "filter ")):
            assert answer.status == 200 or 400 <= answer.status < 500, (name, answer.status, answer.body[:300])
            if answer.status != 200:
                assert answer.json["error"]["what"] if "error" in answer.json else answer.json["detail"][0]["msg"], name


@has_explorer
def test_explorer_names_shows_and_compares_attempts(told: dict[str, Answer]) -> None:
    """The list is of the latest; earlier ones can be opened where Airflow keeps them, else the answer says so."""
    attempts = {xcom["key"]: xcom["attempt"] for xcom in told["attempts"].json["xcoms"]}
    assert attempts == {"partial": 2, "return_value": 2}
    first, compared, others = (told[name] for name in ("first attempt", "compare attempts", "other attempts"))
    if not PER_ATTEMPT:
        assert (first.status, compared.status, others.json["xcoms"]) == (422, 422, [])
        assert "latest attempt only" in first.json["error"]["what"]
        return
    assert (first.status, first.json["xcom"]["attempt"], first.json.get("problem")) == (200, 1, None)
    assert first.json["envelope"]["uri"] != told["latest"].json["envelope"]["uri"]
    assert [other["attempt"] for other in others.json["xcoms"]] == [1]
    assert (compared.status, compared.json["compared"]) == (200, "every value")
    assert compared.json["changes"] == [{"where": "['number']", "left": "2", "right": "1"}]


@has_state
def test_state_is_shown_as_xcoms_are(told: dict[str, Answer], kept: State) -> None:
    """That of a task, of a mapped one and of an asset: listed, opened and downloaded; not as XComs."""
    answers = {name.removeprefix("state "): one for name, one in told.items() if name.startswith("state ")}
    rows = answers["task"].json["xcoms"]
    assert [(row["key"], row["type"], row["where"]) for row in rows] == [
        ("large", "dict", "object"),
        ("small", "dict", "row"),
        ("typed", "dict", "row"),
    ]
    assert [(row["key"], row["map_index"]) for row in answers["mapped"].json["xcoms"]] == [("one", 1), ("two", 1)]
    (asset,) = answers["assets"].json["assets"]
    assert (asset["asset_id"], asset["name"], asset["keys"]) == (kept.asset_id, "contract_orders", 3)
    assert [row["key"] for row in answers["asset"].json["xcoms"]] == ["cursor", "old", "old small"]
    for name in ("value small", "value large", "value typed", "value mapped", "value of an asset"):
        assert answers[name].json["value"]["kind"] == "tree", answers[name].json
    assert answers["what common io wrote"].json["xcom"]["preview"].strip("'").startswith("file://")
    assert [(row["map_index"], row["run_id"]) for row in answers["others"].json["xcoms"]] == [(1, kept.run_id)]
    assert answers["download"].json["number"] == 2
    assert answers["download of an asset"].json["number"] == 4
    assert (answers["value gone"].status, answers["an xcom of that name"].status) == (404, 404)
    for name, answer in answers.items():
        if name.startswith("odd "):
            assert answer.status in (200, 404, 422), (name, answer.status, answer.body[:300])


@has_state
def test_state_is_shown_to_whom_airflow_shows_it(told: dict[str, Answer]) -> None:
    """The right to a Dag's task instances, not to its XComs; that to the asset."""
    for name, answer in told.items():
        user = name.removeprefix("state ").split()[0]
        if name.startswith("state ") and user in ("None", "nobody", "no_state"):
            assert answer.status == (401 if user == "None" else 403), name
    assert (told["state no xcoms"].status, told["state state without xcoms"].status) == (403, 200)


@has_none
def test_explorer_that_cannot_be_is_said() -> None:
    """An Airflow without such tabs says in its log that there is no explorer."""
    code = "from airflow import plugins_manager; plugins_manager.ensure_plugins_loaded()"
    done = run("-c", code, env={"AIRFLOW__XCARGO__UI": "True"})
    assert done.returncode == 0, done.stderr[-3000:]
    assert "the XCom explorer needs Airflow 3.1" in done.stdout + done.stderr
