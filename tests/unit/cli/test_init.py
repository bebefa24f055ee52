"""`xcargo init` in projects of every kind: what it writes, what it leaves alone, and that the result works."""

from __future__ import annotations

import configparser
import io
import json
import stat
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers import Server
from tests.unit.cli.conftest import Examine
from tests.unit.cli.kit import Call, Done, environment, on_terminal
from xcargo.cli.checks import Status
from xcargo.cli.init import SetupAnswers
from xcargo.cli.project import (
    KINDS,
    SettingConflictError,
    detect,
    plan,
    with_options,
    with_requirement,
    with_variables,
)
from xcargo.errors import ConfigurationError

SECRET = "wJalr$XUtnFEMI/K7'MD#ENG"
ANSWERS = SetupAnswers("aws", "my-bucket", login="AKIAEXAMPLE", secret=SECRET)

PROJECTS: dict[str, dict[str, str]] = {
    "astro": {
        ".astro/config.yaml": "project:\n  name: shop\n",
        "Dockerfile": "FROM astrocrpublic.azurecr.io/runtime:3.1-1\n",
        "requirements.txt": "# what the Dags need\npandas>=2\n",
        ".gitignore": "airflow.db\n",
        "dags/shop.py": "",
    },
    "compose": {
        "docker-compose.yaml": "x-airflow-common:\n  &airflow-common\n  image: apache/airflow:3.0.6\n"
        "services:\n  postgres:\n    image: postgres\n  airflow-scheduler:\n    <<: *airflow-common\n"
        "  airflow-worker:\n    <<: *airflow-common\n",
    },
    "helm": {"values.yaml": "executor: CeleryExecutor\nairflowVersion: 3.0.6\ndags:\n  gitSync: {}\n"},
    "plain": {
        "airflow.cfg": "[core]\n# The class to use\n#\nxcom_backend = airflow.sdk.bases.xcom.BaseXCom\n"
        "parallelism = 32\n\n[database]\nsql_alchemy_conn = sqlite:///x\n"
    },
}


def project(kind: str, folder: Path) -> Path:
    """A project as one finds it."""
    for name, text in PROJECTS[kind].items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def apply(kind: str, folder: Path, answers: SetupAnswers = ANSWERS, *, replace: bool = False) -> int:
    changes = plan(kind, folder, answers, replace=replace).changes
    for change in changes:
        change.write()
    return len(changes)


def variables(folder: Path) -> dict[str, str]:
    """What docker compose reads from the .env file."""
    found = {}
    for line in (folder / ".env").read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals:
            found[name] = value[1:-1] if value.startswith("'") else value
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_project_is_known_by_its_files_and_changed_once(kind: str, tmp_path: Path) -> None:
    """A second time changes nothing. The secret is in .env or nowhere; a diff never shows it."""
    assert detect(tmp_path) is None
    assert detect(project(kind, tmp_path)) == kind
    for change in plan(kind, tmp_path, ANSWERS).changes:
        assert "wJalr" not in change.diff(tmp_path)
    assert apply(kind, tmp_path) > 0
    assert apply(kind, tmp_path) == 0
    holding = [p.name for p in tmp_path.rglob("*") if p.is_file() and "wJalr" in p.read_text()]
    assert holding == ([".env"] if kind in ("astro", "compose") else [])
    if holding:
        assert ".env" in (tmp_path / ".gitignore").read_text().splitlines(), "also where git is not in use yet"


@pytest.mark.parametrize("name", [".env", "airflow.cfg"])
def test_a_diff_shows_no_secret_of_the_user(name: str, tmp_path: Path) -> None:
    """Not of the lines beside those that change, and of no connection, whatever its id."""
    project("astro" if name == ".env" else "plain", tmp_path)
    own = (
        "[core]\nfernet_key = hunter2\nparallelism = 32\nsecret_key=hunter2\n" if name != ".env" else "PASSWORD=hunter2"
    )
    (tmp_path / name).write_text(own)
    answers = replace(ANSWERS, connection_id="my_bucket")
    shown = [c.diff(tmp_path) for c in plan("astro" if name == ".env" else "plain", tmp_path, answers).changes]
    assert "xcargo.XComBackend" in "".join(shown)
    assert not [text for text in shown if "hunter2" in text or "wJalr" in text]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_begin_in_an_empty_folder_or_says_why_not(kind: str, tmp_path: Path) -> None:
    """compose needs Airflow's file; the others get what they lack, and then lack nothing."""
    if kind == "compose":
        with pytest.raises(ConfigurationError, match="no compose file"):
            apply(kind, tmp_path)
    else:
        assert apply(kind, tmp_path) > 0
        assert apply(kind, tmp_path) == 0


def test_an_astro_project_gets_what_it_lacks(tmp_path: Path) -> None:
    """Requirement with the right extra, variables, connection, a Dag; what was there stays to the letter.

    A shell that reads .env sees the secret as it was meant, with dollar, quote and hash.
    """
    project("astro", tmp_path)
    apply("astro", tmp_path)
    assert (tmp_path / "requirements.txt").read_text() == (
        "# what the Dags need\npandas>=2\nairflow-provider-xcargo[pandas]\n"
    )
    assert (tmp_path / ".gitignore").read_text() == "airflow.db\n.env\n"
    found = variables(tmp_path)
    assert found["AIRFLOW__CORE__XCOM_BACKEND"] == "xcargo.XComBackend"
    assert found["AIRFLOW__XCARGO__PATH"] == "s3://xcargo@my-bucket/xcom"
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    script = 'set -a; . ./.env; printf %s "$AIRFLOW_CONN_XCARGO"'
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    connection = json.loads(done.stdout)
    assert (connection["login"], connection["password"]) == ("AKIAEXAMPLE", SECRET)
    compile((tmp_path / "dags" / "xcargo_test.py").read_text(), "xcargo_test.py", "exec")


def test_a_connection_that_no_shell_passes_on_is_refused(tmp_path: Path) -> None:
    """Its variable would be missing wherever one starts Airflow; nothing is written."""
    folder = project("astro", tmp_path)
    with pytest.raises(ConfigurationError, match="AIRFLOW_CONN_MY-CONN is no name for a variable"):
        plan("astro", folder, replace(ANSWERS, connection_id="my-conn"))


def test_airflow_cfg_keeps_its_comments(tmp_path: Path) -> None:
    """Two options are set, everything else is as it was; Airflow's parser reads it."""
    before = PROJECTS["plain"]["airflow.cfg"]
    project("plain", tmp_path)
    apply("plain", tmp_path)
    after = (tmp_path / "airflow.cfg").read_text()
    assert after.replace("xcargo.XComBackend", "airflow.sdk.bases.xcom.BaseXCom").startswith(before)
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(after)
    assert parser["core"]["xcom_backend"] == "xcargo.XComBackend"
    assert parser["core"]["parallelism"] == "32"
    assert parser["xcargo"]["path"] == "s3://xcargo@my-bucket/xcom"


def test_helm_values_are_a_file_of_their_own(tmp_path: Path) -> None:
    """values.yaml is not touched; the new file is YAML that sets section and secret."""
    yaml = pytest.importorskip("yaml")
    project("helm", tmp_path)
    apply("helm", tmp_path)
    assert (tmp_path / "values.yaml").read_text() == PROJECTS["helm"]["values.yaml"]
    values = yaml.safe_load((tmp_path / "xcargo-values.yaml").read_text())
    assert values["config"]["core"] == {"xcom_backend": "xcargo.XComBackend"}
    assert values["config"]["xcargo"] == {"path": "s3://xcargo@my-bucket/xcom"}
    assert yaml.safe_load(values["extraEnvFrom"]) == [{"secretRef": {"name": "xcargo-connection"}}]


def test_compose_services_read_the_env_file(tmp_path: Path) -> None:
    """Every Airflow service, and no other, gets .env by an override file."""
    yaml = pytest.importorskip("yaml")
    project("compose", tmp_path)
    apply("compose", tmp_path)
    override = yaml.safe_load((tmp_path / "docker-compose.override.yml").read_text())
    assert override == {"services": {s: {"env_file": [".env"]} for s in ("airflow-scheduler", "airflow-worker")}}
    assert variables(tmp_path)["_PIP_ADDITIONAL_REQUIREMENTS"] == "airflow-provider-xcargo"


def test_compose_services_of_other_names_are_left_to_the_user(tmp_path: Path) -> None:
    """No override file without a service in it, which docker compose refuses: a step says what to add."""
    (tmp_path / "docker-compose.yaml").write_text("services:\n  scheduler:\n    image: apache/airflow:3.0.6\n")
    steps = plan("compose", tmp_path, ANSWERS).steps
    apply("compose", tmp_path)
    assert not (tmp_path / "docker-compose.override.yml").exists()
    assert any("`env_file: [.env]` to each service" in step for step in steps)


def test_compose_keeps_the_packages_that_were_asked_for(tmp_path: Path) -> None:
    """Ours is added to what pip installs at the start; a second time changes nothing."""
    project("compose", tmp_path)
    (tmp_path / ".env").write_text("AIRFLOW_UID=50000\n_PIP_ADDITIONAL_REQUIREMENTS=pandas==2.2 lxml\n")
    apply("compose", tmp_path)
    assert variables(tmp_path)["_PIP_ADDITIONAL_REQUIREMENTS"] == "pandas==2.2 lxml airflow-provider-xcargo"
    assert apply("compose", tmp_path) == 0


def test_a_setting_with_another_value_is_not_overwritten_silently(tmp_path: Path) -> None:
    """It is refused by name, and changed when that is asked for."""
    project("astro", tmp_path)
    (tmp_path / ".env").write_text("AIRFLOW__XCARGO__PATH=s3://other/xcom\n")
    with pytest.raises(SettingConflictError, match="AIRFLOW__XCARGO__PATH"):
        apply("astro", tmp_path)
    apply("astro", tmp_path, replace=True)
    assert variables(tmp_path)["AIRFLOW__XCARGO__PATH"] == "s3://xcargo@my-bucket/xcom"
    with pytest.raises(SettingConflictError):
        with_options("[core]\nxcom_backend = my.Backend\n", "core", {"xcom_backend": "xcargo.XComBackend"})


@pytest.mark.parametrize("line", ["xcom_backend = my.Backend", "XCom_Backend = my.Backend", "xcom_backend: my.Backend"])
def test_an_option_is_found_however_it_is_written(line: str) -> None:
    """A second one of the same name would keep Airflow from starting."""
    text = with_options(f"[core]\n{line}\n", "core", {"xcom_backend": "xcargo.XComBackend"}, replace=True)
    parser = configparser.ConfigParser()
    parser.read_string(text)
    assert dict(parser["core"]) == {"xcom_backend": "xcargo.XComBackend"}


def test_characters_that_python_takes_for_ends_of_lines_stay() -> None:
    """A password may hold them."""
    before = "PASSWORD=a\x85b\u2028c\n"
    assert with_variables(before, {"B": "1"}) == before + "\nB=1\n"


@pytest.mark.parametrize(
    ("before", "extras", "after"),
    [
        ("", {"amazon"}, "airflow-provider-xcargo[amazon]\n"),
        ("airflow-provider-xcargo==0.1.0\n", {"amazon"}, "airflow-provider-xcargo[amazon]==0.1.0\n"),
        (
            "Airflow-Provider-XCargo[pandas]>=0.1 # ok\n",
            {"amazon"},
            "airflow-provider-xcargo[amazon,pandas]>=0.1 # ok\n",
        ),
        ("airflow-provider-xcargo[amazon,pandas]\n", {"amazon"}, "airflow-provider-xcargo[amazon,pandas]\n"),
    ],
)
def test_a_requirement_keeps_its_version_and_extras(before: str, extras: set[str], after: str) -> None:
    """Extras are added to what is asked for already."""
    assert with_requirement(before, extras) == after


@given(
    lines=st.lists(st.sampled_from(["A=1", "# note", "", "export B='x y'", "C=", "AIRFLOW__XCARGO__PATHS=no"])),
    value=st.text("az09:/@ $#-", min_size=1, max_size=20),
)
def test_variables_are_added_once_and_others_stay(lines: list[str], value: str) -> None:
    """Whatever else stands in the file stays, in order; a second time changes nothing."""
    before = "\n".join(lines) + "\n" if lines else ""
    once = with_variables(before, {"AIRFLOW__XCARGO__PATH": value})
    assert once.startswith(before)
    assert with_variables(once, {"AIRFLOW__XCARGO__PATH": value}) == once


# --- the result works ------------------------------------------------------------------------------------------------


def answers_for(server: Server) -> SetupAnswers:
    """The answers of a user of this server."""
    fields: dict[str, Any] = server.connection
    if server.kind == "s3":
        return SetupAnswers(
            "minio", server.bucket, login=fields["login"], secret=fields["password"], endpoint=server.endpoint
        )
    if server.kind == "gcs":
        key = json.dumps(fields["extra"]["keyfile_dict"])
        return SetupAnswers("gcs", server.bucket, secret=key, endpoint=server.endpoint)
    return SetupAnswers(
        "azure", server.bucket, secret=fields["password"], account="devstoreaccount1", endpoint=server.endpoint
    )


def test_what_was_written_makes_the_doctor_happy(any_server: Server, tmp_path: Path, examine: Examine) -> None:
    """An Astro project on each kind of server: its .env, and nothing else, is all that Airflow needs."""
    project("astro", tmp_path)
    apply("astro", tmp_path, answers_for(any_server))
    found = examine(env=variables(tmp_path))
    assert [f for f in found.values() if f.status is not Status.OK] == []
    assert "value.round-trip" in found


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_shows_a_diff_and_writes_when_told(tmp_path: Path, cli: Call) -> None:
    """A dry run writes nothing; --yes writes; without either, in a pipe, it is refused."""
    project("astro", tmp_path)
    line = ("init", str(tmp_path), "--cloud", "local", "--bucket", "/srv/xcom")
    shown = cli(*line, "--dry-run")
    assert shown.code == 0, shown.err
    assert "+AIRFLOW__XCARGO__PATH=file:///srv/xcom" in shown.out
    assert cli(*line).code == 3
    assert not (tmp_path / ".env").exists()
    assert cli(*line, "--yes").code == 0
    assert variables(tmp_path)["AIRFLOW__XCARGO__PATH"] == "file:///srv/xcom"
    assert "Nothing is missing" in cli(*line, "--yes").out


def test_the_command_asks_on_a_terminal(tmp_path: Path) -> None:
    """Questions are answered by typing; the secret is not echoed."""
    project("astro", tmp_path)
    answers = {
        "Where are objects": "minio",
        "Bucket": "xcom",
        "Endpoint": "http://127.0.0.1:9000",
        "Access key id": "me",
        "Secret key": "secret-of-mine",
        "[y/N]": "y",
    }
    done = on_terminal("init", str(tmp_path), env=environment(tmp_path, NO_COLOR="1"), answers=answers)
    assert done.code == 0, done.out
    assert json.loads(variables(tmp_path)["AIRFLOW_CONN_XCARGO"])["password"] == "secret-of-mine"
    assert "secret-of-mine" not in done.out


def test_an_end_of_input_in_place_of_the_secret_is_one_line(tmp_path: Path) -> None:
    """Ctrl-D at the prompt that echoes nothing."""
    project("plain", tmp_path)
    line = ("init", str(tmp_path), "--cloud", "aws", "--bucket", "b", "--region", "r", "--access-key", "me")
    done = on_terminal(*line, env=environment(tmp_path, NO_COLOR="1"), answers={"Secret key": "\x04"})
    assert done.code == 4
    assert "Error: The input ended" in done.out
    assert "Traceback" not in done.out


class Terminal(io.StringIO):
    """Somebody is there."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def typing(cli: Call, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """The command, answered by these lines; what it asks is its standard error."""

    def run(*args: str, answers: Sequence[str]) -> Done:
        screen = Terminal()
        monkeypatch.setattr("sys.stdin", Terminal("".join(f"{answer}\n" for answer in answers)))
        monkeypatch.setattr("sys.stderr", screen)
        return replace(cli(*args), err=screen.getvalue())

    return run


def test_an_empty_folder_and_answers_that_do_not_fit(tmp_path: Path, typing: Callable[..., Done]) -> None:
    """Asks for the kind of project; a question is asked again until it is answered with something that fits."""
    answers = ["rails", "astro", "local", "", str(tmp_path / "objects"), "y"]
    done = typing("init", str(tmp_path), answers=answers)
    assert done.code == 0, done.err
    assert "Please answer one of astro, compose, helm, plain." in done.err
    assert done.err.count("Folder (absolute)") == 2
    assert variables(tmp_path)["AIRFLOW__XCARGO__PATH"] == f"file://{tmp_path}/objects"
    assert (tmp_path / "dags" / "xcargo_test.py").is_file()


def test_googles_key_file_is_asked_for(tmp_path: Path, typing: Callable[..., Done]) -> None:
    """Its content becomes part of the connection; one that is not there is named."""
    project("astro", tmp_path)
    key = tmp_path / "key.json"
    answers = ["gcs", "my-bucket", str(key), "y"]
    done = typing("init", str(tmp_path), answers=answers)
    assert done.code == 4
    assert str(key) in done.err
    key.write_text(json.dumps({"type": "service_account", "client_email": "me@example.com", "private_key": "k"}))
    done = typing("init", str(tmp_path), answers=answers)
    assert done.code == 0, done.err
    assert "me@example.com" in variables(tmp_path)["AIRFLOW_CONN_XCARGO"]


def test_a_folder_that_is_no_project_is_refused(tmp_path: Path, cli: Call) -> None:
    """It says so, and which kinds there are."""
    done = cli("init", str(tmp_path), "--cloud", "local", "--bucket", "/x")
    assert done.code == 4
    assert "--kind astro" in done.err


@pytest.mark.parametrize("wrong", [{"bucket": "s3://my-bucket"}, {"bucket": "a b"}, {"connection_id": "a/b"}])
def test_what_is_no_name_is_refused(tmp_path: Path, wrong: dict[str, str]) -> None:
    """A URL in place of the name would make a path to another bucket; nothing is written."""
    project("plain", tmp_path)
    before = (tmp_path / "airflow.cfg").read_text()
    with pytest.raises(ConfigurationError, match="is not the name of a"):
        apply("plain", tmp_path, replace(ANSWERS, **wrong))
    assert (tmp_path / "airflow.cfg").read_text() == before


def test_no_secret_is_written_where_git_tracks_it(tmp_path: Path) -> None:
    """.gitignore has no effect on a file that was committed before."""
    project("astro", tmp_path)
    (tmp_path / ".env").write_text("AIRFLOW_UID=50000\n")
    for line in (["init", "--quiet"], ["add", ".env"]):
        subprocess.run(["git", *line], cwd=tmp_path, check=True)
    with pytest.raises(ConfigurationError, match="git tracks the file"):
        apply("astro", tmp_path)
    subprocess.run(["git", "rm", "--quiet", "--cached", ".env"], cwd=tmp_path, check=True)
    apply("astro", tmp_path)
    assert SECRET in json.loads(variables(tmp_path)["AIRFLOW_CONN_XCARGO"])["password"]


def test_a_percent_sign_is_one_in_airflow_cfg(tmp_path: Path) -> None:
    """Airflow would take it for the beginning of a reference, and not start."""
    project("plain", tmp_path)
    apply("plain", tmp_path, SetupAnswers("local", "/var/50%/xcom"))
    parser = configparser.ConfigParser()
    parser.read(tmp_path / "airflow.cfg")
    assert parser["xcargo"]["path"] == "file:///var/50%/xcom"


def test_lines_keep_their_ends_and_a_secret_is_for_no_others(tmp_path: Path) -> None:
    """A .env of Windows that everybody may read keeps its lines, and is no longer everybody's."""
    env = project("astro", tmp_path) / ".env"
    env.write_bytes(b"A=1\r\nB=2\r\n")
    env.chmod(0o644)
    for change in plan("astro", tmp_path, ANSWERS).changes:
        change.write()
    written = env.read_bytes()
    assert written.startswith(b"A=1\r\nB=2\r\n\r\nAIRFLOW__CORE__XCOM_BACKEND=")
    assert written.count(b"\n") == written.count(b"\r\n")
    assert stat.S_IMODE(env.stat().st_mode) == 0o640


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    """As PowerShell writes one."""
    path = project("astro", tmp_path) / "requirements.txt"
    path.write_text("pandas", "utf-16")
    with pytest.raises(ConfigurationError, match="not in UTF-8") as raised:
        plan("astro", tmp_path, ANSWERS)
    assert raised.value.where == path
