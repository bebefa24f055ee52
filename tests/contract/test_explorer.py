"""The explorer inside this Airflow's API server: whom it answers and what, in the rows that this Airflow wrote."""

from __future__ import annotations

import io
import json
import urllib.parse
from dataclasses import dataclass
from typing import Any

import pytest
from airflow.plugins_manager import AirflowPlugin

from .conftest import HERE, Run, file_of, run
from .generation import BaseXCom

PER_ATTEMPT = hasattr(BaseXCom, "store_value")
has_explorer = pytest.mark.skipif(not hasattr(AirflowPlugin, "external_views"), reason="this Airflow has no such tabs")
has_none = pytest.mark.skipif(hasattr(AirflowPlugin, "external_views"), reason="this Airflow has the explorer")

PASSWORDS = {"reader": "reader-secret", "nobody": "nobody-secret"}
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
def told(dag_runs: dict[str, Run], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """Name -> answer, of a process that is an API server but for its socket; one object is gone, one altered."""
    gone, altered = (file_of(dag_runs["contract_explorer"].row("values", key, 0)) for key in ("gone", "altered"))
    originals = {path: path.read_bytes() for path in (gone, altered)}
    gone.unlink()
    altered.write_bytes(b"x" * altered.stat().st_size)
    home = tmp_path_factory.mktemp("explorer")
    (home / "passwords.json").write_text(json.dumps(PASSWORDS))
    (home / "questions.json").write_text(json.dumps(questions(dag_runs)))
    done = run(
        str(HERE / "run_explorer.py"),
        *(str(home / f"{name}.json") for name in ("questions", "answers", "passwords")),
        env={
            "AIRFLOW__XCARGO__UI": "True",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "reader:viewer,nobody:",
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


@has_none
def test_explorer_that_cannot_be_is_said() -> None:
    """An Airflow without such tabs says in its log that there is no explorer."""
    code = "from airflow import plugins_manager; plugins_manager.ensure_plugins_loaded()"
    done = run("-c", code, env={"AIRFLOW__XCARGO__UI": "True"})
    assert done.returncode == 0, done.stderr[-3000:]
    assert "the XCom explorer needs Airflow 3.1" in done.stdout + done.stderr
