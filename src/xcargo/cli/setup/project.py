"""Which kind of project a folder is, and what has to change in it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from xcargo.cli.setup.edits import with_ignored, with_options, with_requirement, with_variables
from xcargo.cli.setup.place import Place
from xcargo.errors import ConfigurationError

__all__ = ["KINDS", "Change", "Plan", "detect", "plan"]

KINDS = ("astro", "compose", "helm", "plain")
_COMPOSE = ("docker-compose.yaml", "docker-compose.yml", "compose.yaml", "compose.yml")
_HELM_KEYS = ("executor:", "dags:", "airflowVersion:", "defaultAirflowTag:", "webserver:", "apiServer:", "workers:")


@dataclass(frozen=True)
class Change:
    """A file as it is (None: not there) and as it should be."""

    path: Path
    before: str | None
    after: str
    is_secret: bool = False
    """Holds a secret: only its owner may read it."""

    def diff(self, base: Path) -> str:
        """The change for a reader, with secrets starred out."""
        name = self.path.relative_to(base).as_posix()
        lines = difflib.unified_diff(
            (self.before or "").splitlines(), self.after.splitlines(), name if self.before is not None else "/dev/null",
            name, lineterm="", n=2,
        )  # fmt: skip
        return "\n".join(re.sub(r"(AIRFLOW_CONN_\w+=).*", r"\1***", line) for line in lines)

    def write(self) -> None:
        """Put it there."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.is_secret and self.before is None:
            self.path.touch(mode=0o600)
        self.path.write_text(self.after, "utf-8")


@dataclass(frozen=True)
class Plan:
    """All changes, and what is left for the user to do; ``secrets`` are for their eyes only."""

    kind: str
    changes: list[Change] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)


def detect(folder: Path) -> str | None:
    """The kind of project in a folder, or None when it shows no sign of Airflow."""
    dockerfile = _read(folder / "Dockerfile") or ""
    if (folder / ".astro").is_dir() or re.search(
        r"^FROM .*(astronomer|astrocrpublic|astro-runtime)", dockerfile, re.MULTILINE
    ):
        return "astro"
    if any("airflow" in (_read(folder / name) or "") for name in _COMPOSE):
        return "compose"
    values = _read(folder / "values.yaml")
    if values is not None and sum(f"\n{key}" in f"\n{values}" for key in _HELM_KEYS) >= 2:
        return "helm"
    return "plain" if (folder / "airflow.cfg").is_file() else None


def plan(kind: str, folder: Path, place: Place, *, replace: bool = False) -> Plan:
    """What is missing. Looks at files and changes none.

    Raises Conflict when a setting has another value, ConfigurationError when the kind cannot begin here.
    """
    found = Plan(kind)
    builders = {"astro": _astro, "compose": _compose, "helm": _helm, "plain": _plain}
    for change in builders[kind](folder, place, found.steps, replace=replace):
        if change.before != change.after:
            found.changes.append(change)
    return found


def _astro(folder: Path, place: Place, steps: list[str], *, replace: bool) -> Iterator[Change]:
    yield _requirements(folder, place)
    yield from _env(folder, {**place.variables(), **place.connection_variable()}, replace=replace)
    yield _dag(folder)
    steps.append("astro dev restart")
    steps.append("astro dev bash, then: xcargo doctor")
    if place.needs_connection:
        steps.append("Deployed: set the same variables there, the connection as a secret (astro deployment variable)")


def _compose(folder: Path, place: Place, steps: list[str], *, replace: bool) -> Iterator[Change]:
    text = next((text for name in _COMPOSE if "airflow" in (text := _read(folder / name) or "")), None)
    if text is None:
        raise ConfigurationError(
            "There is no compose file with Airflow's services here",
            where=folder,
            hint="Begin with Airflow's own docker-compose.yaml, see its page on Docker; then run this again.",
        )
    variables = {**place.variables(), **place.connection_variable()}
    if (folder / "Dockerfile").is_file() or (folder / "requirements.txt").is_file():
        yield _requirements(folder, place)
        steps.append("docker compose build")
    else:
        name = "_PIP_ADDITIONAL_REQUIREMENTS"
        asked = re.search(rf"^{name}=(.*)$", _read(folder / ".env") or "", re.MULTILINE)
        packages = asked[1].strip("\"' \t").split() if asked else []
        variables[name] = " ".join(with_requirement("\n".join(packages), place.extras("")).split())
        steps.append("For production, build an image with the package instead of _PIP_ADDITIONAL_REQUIREMENTS")
    yield from _env(folder, variables, replace=replace, extended=("_PIP_ADDITIONAL_REQUIREMENTS",))
    if "env_file" not in text:
        override = folder / "docker-compose.override.yml"
        before = _read(override)
        services = _airflow_services(text)
        lines = ["services:", *(f"  {s}:\n    env_file: [.env]" for s in services)]
        if before is None:
            yield Change(override, None, "\n".join(lines) + "\n")
        elif "env_file" not in before:
            steps.append(f"Add `env_file: [.env]` to {', '.join(services)} in docker-compose.override.yml")
    yield _dag(folder)
    steps.append("docker compose up -d, then: docker compose exec airflow-scheduler xcargo doctor")


def _helm(folder: Path, place: Place, steps: list[str], *, replace: bool) -> Iterator[Change]:  # noqa: ARG001
    """A values file of its own: nothing of the user's is edited, Helm puts the two together."""
    values = _read(folder / "values.yaml") or ""
    variable = place.connection_variable()
    lines = [
        "# Give it after your own values: helm upgrade ... -f values.yaml -f xcargo-values.yaml",
        "config:",
        "  core:",
        "    xcom_backend: xcargo.XComBackend",
        "  xcargo:",
        f"    path: {place.root()}",
    ]
    if variable:
        steps.append(
            "kubectl create secret generic xcargo-connection --namespace NAMESPACE "
            f'--from-literal={next(iter(variable))}="$XCARGO_CONNECTION"'
        )
        steps.append("where XCARGO_CONNECTION holds the connection as JSON; `xcargo init --show-connection` prints it")
        entry = "- secretRef:\n    name: xcargo-connection"
        if re.search(r"^extraEnvFrom:", values, re.MULTILINE):
            steps.append(f"Your values.yaml sets extraEnvFrom: add this entry there:\n{entry}")
        else:
            lines += ["extraEnvFrom: |", *(f"  {line}" for line in entry.splitlines())]
    path = folder / "xcargo-values.yaml"
    yield Change(path, _read(path), "\n".join(lines) + "\n")
    if (folder / "requirements.txt").is_file():
        yield _requirements(folder, place)
    else:
        requirement = with_requirement("", place.extras("")).strip()
        steps.append(f"Put {requirement} into the image that the chart runs")
    steps.append("helm upgrade ... -f values.yaml -f xcargo-values.yaml")
    steps.append("kubectl exec deploy/airflow-scheduler -- xcargo doctor")


def _plain(folder: Path, place: Place, steps: list[str], *, replace: bool) -> Iterator[Change]:
    path = folder / "airflow.cfg"
    before = _read(path)
    after = with_options(before or "", "core", {"xcom_backend": "xcargo.XComBackend"}, replace=replace)
    after = with_options(after, "xcargo", {"path": str(place.root())}, replace=replace)
    yield Change(path, before, after)
    if (folder / "requirements.txt").is_file():
        yield _requirements(folder, place)
    if place.needs_connection:
        steps.append(
            f'airflow connections add {place.connection_id} --conn-json "$XCARGO_CONNECTION", where the variable '
            "holds the connection as JSON; `xcargo init --show-connection` prints it"
        )
    yield _dag(folder)
    steps.append("Restart scheduler, API server (or webserver), triggerer and workers; then: xcargo doctor")


def _requirements(folder: Path, place: Place) -> Change:
    path = folder / "requirements.txt"
    before = _read(path)
    return Change(path, before, with_requirement(before or "", place.extras(before or "")))


def _env(folder: Path, variables: dict[str, str], *, replace: bool, extended: tuple[str, ...] = ()) -> Iterator[Change]:
    """The .env file, and a .gitignore that keeps it out of the repository before a secret gets into it.

    Variables that are ``extended`` hold what they held before, and more.
    """
    ignore = folder / ".gitignore"
    before = _read(ignore)
    if before is not None or _in_git(folder):
        yield Change(ignore, before, with_ignored(before or "", ".env"))
    path = folder / ".env"
    before = _read(path)
    more = {name: value for name, value in variables.items() if name in extended}
    rest = {name: value for name, value in variables.items() if name not in extended}
    after = with_variables(with_variables(before or "", rest, replace=replace), more, replace=True)
    yield Change(path, before, after, is_secret=True)


def _dag(folder: Path) -> Change:
    """A Dag that shows that it works. One that is there already is left alone."""
    path = folder / "dags" / "xcargo_test.py"
    text = (files("xcargo.cli.setup") / "xcargo_test_dag.txt").read_text("utf-8")
    before = _read(path)
    return Change(path, before, text if before is None else before)


def _airflow_services(text: str) -> list[str]:
    """Services of a compose file that run Airflow: named so, as in the official file."""
    inside = text.partition("\nservices:")[2] or text
    return re.findall(r"^  (airflow[\w-]*):", inside, re.MULTILINE)


def _in_git(folder: Path) -> bool:
    return any((parent / ".git").exists() for parent in (folder, *folder.parents))


def _read(path: Path) -> str | None:
    return path.read_text("utf-8") if path.is_file() else None
