"""Which kind of project a folder is, and what has to change in its files to use xcargo.

Each edit takes the text as it is and returns it as it should be; done twice, it changes nothing the second time, and
every other line stays to the letter.
"""

from __future__ import annotations

import difflib
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from xcargo.errors import ConfigurationError

if TYPE_CHECKING:
    from xcargo.cli.init import SetupAnswers

__all__ = [
    "KINDS",
    "FileChange",
    "ProjectPlan",
    "SettingConflictError",
    "detect",
    "plan",
    "with_options",
    "with_requirement",
    "with_variables",
]

KINDS = ("astro", "compose", "helm", "plain")
_COMPOSE = ("docker-compose.yaml", "docker-compose.yml", "compose.yaml", "compose.yml")
_HELM_KEYS = ("executor:", "dags:", "airflowVersion:", "defaultAirflowTag:", "webserver:", "apiServer:", "workers:")


@dataclass(frozen=True)
class FileChange:
    """A file as it is (None: not there) and as it should be."""

    path: Path
    before: str | None
    after: str
    is_secret: bool = False
    """Holds a secret: only its owner may read it, and its group if that could before."""

    def diff(self, base: Path) -> str:
        """The changed lines for a reader, connections masked. Lines around them may hold secrets of the user's."""
        name = self.path.relative_to(base).as_posix()
        lines = difflib.unified_diff(
            (self.before or "").splitlines(), self.after.splitlines(), name if self.before is not None else "/dev/null",
            name, lineterm="", n=0,
        )  # fmt: skip
        return "\n".join(re.sub(r"(AIRFLOW_CONN_[^=]*=).*", r"\1***", line) for line in lines)

    def write(self) -> None:
        """Write the file, with the ends of lines that it has."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.is_secret and self.before is None:
            self.path.touch(mode=0o600)
        elif self.is_secret:
            self.path.chmod(self.path.stat().st_mode & 0o770)
        old = b"" if self.before is None else self.path.read_bytes()
        is_windows = b"\r\n" in old and old.count(b"\r\n") == old.count(b"\n")
        self.path.write_text(self.after, "utf-8", newline="\r\n" if is_windows else "\n")


@dataclass(frozen=True)
class ProjectPlan:
    """The files to change, and what is left for the user to do, in order."""

    changes: tuple[FileChange, ...]
    steps: tuple[str, ...]


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


def plan(kind: str, folder: Path, answers: SetupAnswers, *, replace: bool = False) -> ProjectPlan:
    """What is missing. Looks at files and changes none.

    Raises SettingConflictError when a setting has another value, unless ``replace`` allows to change it, and
    ConfigurationError when a project of this kind cannot begin here.
    """
    planner = _Planner(folder, answers, replace=replace)
    changes = {"astro": planner.astro, "compose": planner.compose, "helm": planner.helm, "plain": planner.plain}[kind]()
    return ProjectPlan(tuple(change for change in changes if change.before != change.after), tuple(planner.steps))


class _Planner:
    """The changes for each kind of project; ``steps`` fills while they are made."""

    def __init__(self, folder: Path, answers: SetupAnswers, *, replace: bool) -> None:
        self.steps: list[str] = []
        self._folder = folder
        self._answers = answers
        self._replace = replace

    def astro(self) -> list[FileChange]:
        self.steps += ["astro dev restart", "astro dev bash, then: xcargo doctor"]
        if self._answers.needs_connection:
            self.steps.append(
                "Deployed: set the same variables there, the connection as a secret (astro deployment variable)"
            )
        variables = {**self._answers.variables(), **self._answers.connection_variable()}
        return [self._requirements(), *self._env(variables), self._test_dag()]

    def compose(self) -> list[FileChange]:
        texts = [_read(self._folder / name) or "" for name in _COMPOSE]
        text = next((text for text in texts if "airflow" in text), None)
        if text is None:
            raise ConfigurationError(
                "There is no compose file with Airflow's services here",
                where=self._folder,
                hint="Begin with Airflow's own docker-compose.yaml, see its page on Docker; then run this again.",
            )
        changes = []
        packages = {}
        if (self._folder / "Dockerfile").is_file() or (self._folder / "requirements.txt").is_file():
            changes.append(self._requirements())
            self.steps.append("docker compose build")
        else:
            name = "_PIP_ADDITIONAL_REQUIREMENTS"
            current = re.search(rf"^{name}=(.*)$", _read(self._folder / ".env") or "", re.MULTILINE)
            names = current[1].strip("\"' \t").split() if current else []
            packages[name] = " ".join(with_requirement("\n".join(names), self._answers.extras("")).split())
            self.steps.append(f"For production, build an image with the package instead of {name}")
        changes += self._env({**self._answers.variables(), **self._answers.connection_variable()}, extended=packages)
        if "env_file" not in text:
            changes += self._env_file_override(text)
        self.steps.append("docker compose up -d, then: docker compose exec airflow-scheduler xcargo doctor")
        return [*changes, self._test_dag()]

    def _env_file_override(self, compose: str) -> list[FileChange]:
        """Lets every service of Airflow read .env, in a file beside the user's own."""
        path = self._folder / "docker-compose.override.yml"
        before, services = _read(path), _airflow_services(compose)
        if before is None and services:
            lines = ["services:", *(f"  {service}:\n    env_file: [.env]" for service in services)]
            return [FileChange(path, None, "\n".join(lines) + "\n")]
        if "env_file" not in (before or ""):
            named = ", ".join(services) or "each service of Airflow"
            self.steps.append(f"Add `env_file: [.env]` to {named} in docker-compose.override.yml")
        return []

    def helm(self) -> list[FileChange]:
        """A values file of its own: nothing of the user's is edited, Helm puts the two together."""
        values = _read(self._folder / "values.yaml") or ""
        lines = [
            "# Give it after your own values: helm upgrade ... -f values.yaml -f xcargo-values.yaml",
            "config:",
            "  core:",
            "    xcom_backend: xcargo.XComBackend",
            "  xcargo:",
            f"    path: {self._answers.root()}",
        ]
        for variable in self._answers.connection_variable():
            secret = f'--from-literal={variable}="$XCARGO_CONNECTION"'
            self.steps += [
                f"kubectl create secret generic xcargo-connection --namespace NAMESPACE {secret}",
                "where XCARGO_CONNECTION holds the connection as JSON; `xcargo init --show-connection` prints it",
            ]
            entry = "- secretRef:\n    name: xcargo-connection"
            if re.search(r"^extraEnvFrom:", values, re.MULTILINE):
                self.steps.append(f"Your values.yaml sets extraEnvFrom: add this entry there:\n{entry}")
            else:
                lines += ["extraEnvFrom: |", *(f"  {line}" for line in entry.splitlines())]
        path = self._folder / "xcargo-values.yaml"
        changes = [FileChange(path, _read(path), "\n".join(lines) + "\n")]
        if (self._folder / "requirements.txt").is_file():
            changes.append(self._requirements())
        else:
            requirement = with_requirement("", self._answers.extras("")).strip()
            self.steps.append(f"Put {requirement} into the image that the chart runs")
        self.steps.append("helm upgrade ... -f values.yaml -f xcargo-values.yaml")
        self.steps.append("kubectl exec deploy/airflow-scheduler -- xcargo doctor")
        return changes

    def plain(self) -> list[FileChange]:
        path = self._folder / "airflow.cfg"
        before = _read(path)
        path_option = str(self._answers.root()).replace("%", "%%")  # which Airflow would fill in
        backend, objects = {"xcom_backend": "xcargo.XComBackend"}, {"path": path_option}
        after = with_options(before or "", "core", backend, replace=self._replace)
        after = with_options(after, "xcargo", objects, replace=self._replace)
        changes = [FileChange(path, before, after)]
        if (self._folder / "requirements.txt").is_file():
            changes.append(self._requirements())
        if self._answers.needs_connection:
            self.steps.append(
                f'airflow connections add {self._answers.connection_id} --conn-json "$XCARGO_CONNECTION", where the '
                "variable holds the connection as JSON; `xcargo init --show-connection` prints it"
            )
        self.steps.append("Restart scheduler, API server (or webserver), triggerer and workers; then: xcargo doctor")
        return [*changes, self._test_dag()]

    def _requirements(self) -> FileChange:
        path = self._folder / "requirements.txt"
        before = _read(path)
        return FileChange(path, before, with_requirement(before or "", self._answers.extras(before or "")))

    def _env(self, variables: Mapping[str, str], *, extended: Mapping[str, str] = {}) -> list[FileChange]:
        """The .env file, and a .gitignore that keeps it out of the repository before a secret gets into it.

        Variables that are ``extended`` hold what they held before, and more: they may always be replaced.
        """
        ignore, path = self._folder / ".gitignore", self._folder / ".env"
        ignored, before = _read(ignore), _read(path)
        if self._answers.secret and before is not None and _is_tracked(path):
            raise ConfigurationError(
                "git tracks the file that the secret would be written to",
                where=path,
                hint="Let git forget it, and commit that: git rm --cached .env",
            )
        after = with_variables(before or "", variables, replace=self._replace)
        after = with_variables(after, extended, replace=True)
        return [
            FileChange(ignore, ignored, with_ignored(ignored or "", ".env")),
            FileChange(path, before, after, is_secret=True),
        ]

    def _test_dag(self) -> FileChange:
        """A Dag that shows that it works. One that is there already is left alone."""
        path = self._folder / "dags" / "xcargo_test.py"
        before = _read(path)
        text = (files("xcargo.cli") / "xcargo_test_dag.txt").read_text("utf-8") if before is None else before
        return FileChange(path, before, text)


def _airflow_services(text: str) -> list[str]:
    """Services of a compose file that run Airflow: named so, as in the official file."""
    inside = text.partition("\nservices:")[2] or text
    return re.findall(r"^  (airflow[\w-]*):", inside, re.MULTILINE)


def _is_tracked(path: Path) -> bool:
    """Whether git has a file in its index: then it commits the file, whatever .gitignore says."""
    git = shutil.which("git")
    if git is None:
        return False
    line = [git, "ls-files", "--error-unmatch", path.name]
    return subprocess.run(line, cwd=path.parent, capture_output=True, check=False).returncode == 0  # noqa: S603


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8") if path.is_file() else None
    except UnicodeDecodeError:
        raise ConfigurationError("The file is not in UTF-8", where=path, hint="Save it in UTF-8 first.") from None


# --- edits -----------------------------------------------------------------------------------------------------------

DISTRIBUTION = "airflow-provider-xcargo"
_REQUIREMENT = re.compile(rf"^\s*{DISTRIBUTION}\s*(\[(?P<extras>[^\]]*)\])?(?P<rest>.*)$", re.IGNORECASE)


class SettingConflictError(Exception):
    """A setting is there already, with another value."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def with_requirement(text: str, extras: Iterable[str]) -> str:
    """requirements.txt that asks for us with these extras, beside those it asks for already; a version stays."""
    lines = _lines(text)
    for n, line in enumerate(lines):
        ours = _REQUIREMENT.match(line)
        if ours:
            current = {extra.strip() for extra in (ours["extras"] or "").split(",") if extra.strip()}
            if not current.issuperset(extras):
                lines[n] = f"{_requirement(current.union(extras))}{ours['rest']}"
            return _joined(lines)
    return _joined([*lines, _requirement(extras)])


def _requirement(extras: Iterable[str]) -> str:
    inside = ",".join(sorted(extras))
    return f"{DISTRIBUTION}[{inside}]" if inside else DISTRIBUTION


def with_variables(text: str, variables: Mapping[str, str], *, replace: bool = False) -> str:
    """A .env file with these variables.

    Raises SettingConflictError when one has another value, unless it may be replaced.
    """
    lines = _lines(text)
    missing = []
    for name, value in variables.items():
        line = f"{name}={_env_quoted(value)}"
        at = [n for n, old in enumerate(lines) if re.match(rf"\s*(export\s+)?{re.escape(name)}\s*=", old)]
        if not at:
            missing.append(line)
            continue
        old = lines[at[-1]].partition("=")[2].strip()
        if old in (value, _env_quoted(value), f'"{value}"', f"'{value}'"):
            continue
        if not replace:
            raise SettingConflictError(name)
        lines[at[-1]] = line
    if missing and lines and lines[-1].strip():
        lines.append("")
    return _joined([*lines, *missing])


def _env_quoted(value: str) -> str:
    """As docker compose, the Astro CLI and shells read it: nothing inside single quotes has a meaning."""
    if re.fullmatch(r"[A-Za-z0-9_./:@,+=-]*", value):
        return value
    return "'" + value.replace("'", r"\u0027") + "'"  # only JSON has quotes, and reads this as one


def with_options(text: str, section: str, options: Mapping[str, str], *, replace: bool = False) -> str:
    """airflow.cfg with these options in a section; comments and order stay. Raises as above."""
    lines = _lines(text)
    start = next((n for n, line in enumerate(lines) if line.strip() == f"[{section}]"), None)
    if start is None:
        added = [f"[{section}]", *(f"{name} = {value}" for name, value in options.items())]
        return _joined([*lines, *([""] if lines and lines[-1].strip() else []), *added])
    for name, value in options.items():
        end = next((n for n in range(start + 1, len(lines)) if re.match(r"\[.+\]\s*$", lines[n])), len(lines))
        # As Airflow's parser takes it: in any case, with a colon too. A second one would keep Airflow from starting.
        option = re.compile(rf"{re.escape(name)}\s*[=:](.*)", re.IGNORECASE)
        matches = [(n, match) for n in range(start + 1, end) if (match := option.match(lines[n]))]
        line = f"{name} = {value}"
        if not matches:
            lines.insert(start + 1, line)
            continue
        at, match = matches[0]
        old = match[1].strip()
        if old == value:
            continue
        # What Airflow wrote there itself when it made the file was nobody's decision.
        if old and not replace and old not in _GENERATED.get(name, ()):
            raise SettingConflictError(f"[{section}] {name}")
        lines[at] = line
    return _joined(lines)


_GENERATED = {
    "xcom_backend": (
        "airflow.models.xcom.BaseXCom",
        "airflow.sdk.execution_time.xcom.BaseXCom",
        "airflow.sdk.bases.xcom.BaseXCom",
    ),
}


def with_ignored(text: str, name: str) -> str:
    """.gitignore that names a file."""
    lines = _lines(text)
    return _joined(lines if any(line.strip().lstrip("/") == name for line in lines) else [*lines, name])


def _lines(text: str) -> list[str]:
    """The lines between line feeds alone: `str.splitlines` would break lines, and passwords, at other characters."""
    return text.removesuffix("\n").split("\n") if text else []


def _joined(lines: list[str]) -> str:
    return "\n".join(lines) + "\n" if lines else ""
