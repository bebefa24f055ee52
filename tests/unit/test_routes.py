"""Routes: which value goes which way, and which team may read what."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.conftest import HERE, make_pipeline
from xcargo.errors import EnvelopeError, SizeLimitError
from xcargo.model.envelope import is_envelope
from xcargo.model.root import Root
from xcargo.model.settings import LegacyRoot, parse_routes

BIG = {f"key{i}": "x" * 100 for i in range(100)}


def routed(*routes: dict[str, Any], team: str | None = None, **settings: Any) -> Any:
    return make_pipeline(routes=parse_routes(json.dumps(routes)), team=team, **settings)


@pytest.mark.parametrize(
    ("rule", "where", "matches"),
    [
        ({}, {}, True),
        ({"dag": "my_*"}, {}, True),
        ({"dag": "my_*"}, {"dag_id": "your_dag"}, False),
        ({"dag": "MY_*"}, {}, False),
        ({"dag": "my_?ag", "task": "my_task", "key": "return_value"}, {}, True),
        ({"dag": "my_*", "key": "report"}, {}, False),
        ({"task": "group.*"}, {"task_id": "group.inner"}, True),
        ({"key": "[ab]*"}, {"key": "beta"}, True),
    ],
)
def test_a_rule_matches_by_shell_patterns_all_of_them(
    rule: dict[str, str], where: dict[str, Any], matches: bool
) -> None:
    """Dag, task and key, upper and lower case told apart; a rule without any matches everything."""
    (route,) = parse_routes(json.dumps([{"name": "r", **rule}]))
    assert route.matches(dataclasses.replace(HERE, **where), None) is matches


def test_the_first_matching_route_holds_and_the_rest_stays_as_set() -> None:
    """Root, threshold and compression of the route, the settings' own for what it does not name and for others."""
    pipeline = routed(
        {"name": "archive", "key": "report", "path": "memory://archive/x", "threshold_bytes": 0, "compression": "gzip"},
        {"name": "inline", "dag": "my_*", "key": "*", "threshold_bytes": -1},
    )
    report = pipeline.push("short", dataclasses.replace(HERE, key="report"))
    assert report["uri"].startswith("memory://archive/x/my_dag/")
    assert pipeline.pull(report) == "short"
    assert pipeline.push(BIG, HERE) == BIG
    other = pipeline.push(BIG, dataclasses.replace(HERE, dag_id="other"))
    assert (other["uri"].startswith("memory://test/xcom/other/"), other["compression"]) == (True, "zstd")
    big = pipeline.push(BIG, dataclasses.replace(HERE, key="report"))
    assert (big["compression"], big["preview"][:6]) == ("gzip", "{'key0")
    assert pipeline.purge(big) is True


def test_a_route_may_be_smaller_or_larger_than_the_rest() -> None:
    """max_size_bytes of a route beats the general one, in both directions."""
    pipeline = routed({"name": "big", "key": "big", "max_size_bytes": 0}, max_size_bytes=100)
    assert is_envelope(pipeline.push(BIG, dataclasses.replace(HERE, key="big")))
    with pytest.raises(SizeLimitError):
        pipeline.push(BIG, HERE)


TEAMS = (
    {"name": "a", "team": "team_a", "path": "memory://shared/a"},
    {"name": "b", "team": "team_b", "path": "memory://shared/a/b"},
)


def test_a_teams_objects_are_closed_to_other_teams() -> None:
    """A copied reference is neither pulled, nor handed out, nor followed to delete, even below another's root."""
    mine = routed(*TEAMS, team="team_a", read_paths=("memory://shared",))
    theirs = routed(*TEAMS, team="team_b", read_paths=("memory://shared",))
    of_a, of_b = mine.push(BIG, HERE), theirs.push(BIG, HERE)
    assert of_a["uri"].startswith("memory://shared/a/my_dag/")
    assert of_b["uri"].startswith("memory://shared/a/b/my_dag/")
    assert mine.pull(of_a) == theirs.pull(of_b) == BIG
    for pipeline, row in ((mine, of_b), (theirs, of_a), (routed(*TEAMS, team=""), of_a)):
        with pytest.raises(EnvelopeError, match="of team team_"):
            pipeline.pull(row)
        with pytest.raises(EnvelopeError, match="of team team_"):
            pipeline.handle(row).load()
        assert pipeline.purge(row) is False
    assert mine.pull(of_a) == theirs.pull(of_b) == BIG


@pytest.mark.parametrize("above", [False, True])
def test_no_legacy_reference_reaches_a_teams_objects(tmp_path: Path, above: bool) -> None:
    """Neither below the team's own path nor below one around it: whoever may write XComs could write such a text."""
    object_file = tmp_path / "a/d/r/t/5f3e.json"
    object_file.parent.mkdir(parents=True)
    object_file.write_text('["secret"]')
    route = {"name": "a", "team": "team_a", "path": (tmp_path / "a").as_uri()}
    legacy = (LegacyRoot.parse((tmp_path if above else tmp_path / "a").as_uri()),)
    text = object_file.as_uri()
    assert routed(route, team="team_a", legacy_roots=legacy).pull_legacy(text, json.loads) == ["secret"]
    with pytest.raises(EnvelopeError, match="of team team_a"):
        routed(route, team="team_b", legacy_roots=legacy).pull_legacy(text, json.loads)


def test_outside_of_tasks_teams_are_not_told_apart() -> None:
    """The API server and the commands serve all teams; who may see what is Airflow's to decide there."""
    row = routed(*TEAMS, team="team_a").push(BIG, HERE)
    assert routed(*TEAMS, team=None).pull(row) == BIG


def test_what_is_open_to_all_stays_open() -> None:
    """A root that the settings name, or a route without a team, belongs to no team."""
    shared = {"name": "all", "dag": "x", "path": "memory://shared/a"}
    settings = routed(TEAMS[0], shared).settings
    assert settings.teams_of(Root.parse("memory://shared/a")) == frozenset()
    assert routed(*TEAMS).settings.teams_of(Root.parse("memory://shared/a")) == {"team_a"}
    assert (
        routed({"name": "t", "team": "a", "path": "memory://test/xcom"}).settings.teams_of(
            Root.parse("memory://test/xcom")
        )
        == frozenset()
    )


def test_a_task_without_a_team_gets_no_teams_route() -> None:
    """Its values go where the settings say."""
    assert routed(*TEAMS, team="").push(BIG, HERE)["uri"].startswith("memory://test/xcom/")
