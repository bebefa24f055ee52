"""Forged rows, through a real API server where it takes them, else in the database: what a task that pulls them gets.

Once with a signing key, once without: what the second leaves open is written down in docs/security.md.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import airflow
import pytest
from contract_forgery_dags import NAMES, ONLY_BY_SIGNATURE, SECRET, TRAP

from .conftest import DAG_RUN_LIMIT_SECONDS, HERE, file_of, objects_of, run
from .generation import AIRFLOW_2
from .settle import Place

REFUSALS = {0} if AIRFLOW_2 else {500} if airflow.__version__.startswith(("3.0.", "3.1.")) else {400, 422}
"""How the API answers to envelopes. Airflow 2 has none that writes XComs; that of 3.0 and 3.1 fails over the key that
every envelope has, which means something to Airflow; from 3.2 on it says so."""


@dataclass(frozen=True)
class Attack:
    """What came of it."""

    statuses: dict[str, int]
    """Of the API, by forged row; 0 where there is no API that writes XComs."""
    outcomes: dict[str, str]
    as_text: dict[str, Any]
    """Status and outcome of the victim's envelope, written through the API as a string."""
    victims_own: str
    planted: dict[str, str]
    """What the victim makes of rows that the attacker's task wrote into its Dag; nothing on Airflow 2."""
    victims_file: Path
    survivors: frozenset[Path]


@pytest.fixture(scope="module")
def api(database: Path) -> Iterator[dict[str, str]]:
    """A real API server that knows the Dags, on a port of its own; nothing on Airflow 2, whose API only reads XComs."""
    if AIRFLOW_2:
        yield {}
        return
    done = run("-m", "airflow", "dags", "reserialize")
    assert done.returncode == 0, done.stdout + done.stderr
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API_AUTH__JWT_ISSUER": "contract",  # without one 3.0 gives out no token, with a PyJWT of today
    }
    command = ["-m", "airflow", "api-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    log = database.parent / "api-server.log"
    with (
        log.open("wb") as sink,
        subprocess.Popen(
            [sys.executable, *command], env=os.environ | variables, stdout=sink, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            yield {"FORGERY_API": f"http://127.0.0.1:{port}", "FORGERY_TOKEN": _token(port, process, log)}
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _token(port: int, process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/auth/token", timeout=10) as response:
                token: str = json.load(response)["access_token"]
                return token
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"The API server did not come up: {log.read_text()[-5000:]}")


@pytest.fixture(scope="module")
def attacks(place: Place, database: Path, api: dict[str, str]) -> dict[str, Any]:
    """Both Dags, run with a signing key and without."""
    report = place.home / "forgeries.json"
    done = run(str(HERE / "run_forgery.py"), str(report), timeout=DAG_RUN_LIMIT_SECONDS, env=api)
    log = done.stdout + done.stderr
    assert done.returncode == 0, log[-20_000:]
    found: dict[str, Any] = json.loads(report.read_text())
    for one in found.values():
        assert one["states"] == {"contract_victim": "success", "contract_attacker": "success"}, log
    return found


@pytest.fixture(scope="module", params=["signed", "unsigned"])
def attack(request: pytest.FixtureRequest, place: Place, attacks: dict[str, Any]) -> Attack:
    """What came of it with a signing key or without."""
    found = attacks[request.param]
    assert ("signature" in found["victims_row"]) is (request.param == "signed")
    names = ("statuses", "outcomes", "as_text", "victims_own", *([] if AIRFLOW_2 else ["planted"]))
    return Attack(
        **{"planted": {}} | {name: found[name] for name in names},
        victims_file=file_of(found["victims_row"]),
        survivors=objects_of(place, "contract_victim"),
    )


def test_no_forged_row_gives_a_value(attack: Attack, request: pytest.FixtureRequest) -> None:
    """With a key none at all. Without, only what is of the Dag itself, or wholly in the row."""
    given = {name for name, outcome in attack.outcomes.items() if outcome.startswith("value")}
    signed = request.node.callspec.params["attack"] == "signed"
    assert set(attack.outcomes) == set(NAMES)
    assert given == (set() if signed else set(ONLY_BY_SIGNATURE))
    assert {outcome for name, outcome in attack.outcomes.items() if name not in given} <= {
        "SignatureError",
        "EnvelopeError",
        "IntegrityError",
        "DecodeError",
        "MissingDependencyError",
    }, attack.outcomes


def test_the_victims_value_stays_with_the_victim(attack: Attack) -> None:
    """No outcome holds it, nothing deleted its object, no code ran; who asks for the victim's own row gets it."""
    assert not any(
        SECRET.strip() in outcome for outcome in (*attack.outcomes.values(), attack.as_text.get("outcome", ""))
    )
    assert attack.victims_file in attack.survivors
    assert not TRAP.exists()
    assert attack.victims_own.startswith(f"value: {SECRET}")


@pytest.mark.skipif(AIRFLOW_2, reason="tasks write to the database itself")
def test_a_task_that_writes_rows_of_another_dag_gives_it_no_object(
    attack: Attack, request: pytest.FixtureRequest
) -> None:
    """Airflow lets it write them; what it makes up is a value only without a key, and inside a value nothing counts."""
    signed = request.node.callspec.params["attack"] == "signed"
    assert attack.planted["own_object"] == "EnvelopeError"
    assert attack.planted["made_up"] == ("SignatureError" if signed else "value: b'forge'")
    assert attack.planted["nested"].startswith("value: {'deep': [{'__id__'")


def test_the_api_takes_no_envelope(attack: Attack) -> None:
    """On no version, by one who may write XComs, however it is spelled: the database took the forged rows."""
    assert set(attack.statuses.values()) <= REFUSALS, attack.statuses


def test_an_envelope_as_text_is_a_text(attack: Attack) -> None:
    """3.0 to 3.2 take one; it is a value of the writer's, followed nowhere. Later ones refuse it too."""
    taken = airflow.__version__.startswith(("3.0.", "3.1.", "3.2."))
    assert attack.as_text["status"] in ({200} if taken else REFUSALS)
    assert attack.as_text["outcome"].startswith("value: ")
    assert ("__id__" in attack.as_text["outcome"]) is taken


@pytest.mark.skipif(not AIRFLOW_2, reason="Airflow 3 has an API that writes XComs")
def test_airflow_2_has_no_api_that_writes_xcoms(database: Path) -> None:
    """Its REST API knows XComs for reading only."""
    import yaml
    from airflow import api_connexion

    specification = Path(api_connexion.__file__).parent / "openapi" / "v1.yaml"
    paths = yaml.safe_load(specification.read_text())["paths"]
    verbs = {verb for path, item in paths.items() if "xcomEntries" in path for verb in item if verb != "parameters"}
    assert verbs == {"get"}
