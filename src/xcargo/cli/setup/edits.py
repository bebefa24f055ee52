"""Edits of the files that a project has. Each takes the text as it is and gives it as it should be; done twice, it
changes nothing the second time, and every other line stays to the letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

__all__ = ["Conflict", "with_ignored", "with_options", "with_requirement", "with_variables"]

DISTRIBUTION = "airflow-provider-xcargo"
_REQUIREMENT = re.compile(rf"^\s*{DISTRIBUTION}\s*(\[(?P<extras>[^\]]*)\])?(?P<rest>.*)$", re.IGNORECASE)


class Conflict(Exception):  # noqa: N818 - a decision for the caller, not an error to show as it is
    """A setting is there already, with another value."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def with_requirement(text: str, extras: Iterable[str]) -> str:
    """requirements.txt that asks for us with these extras, beside those it asks for already; a version stays."""
    lines = text.splitlines()
    for n, line in enumerate(lines):
        found = _REQUIREMENT.match(line)
        if found:
            have = {extra.strip() for extra in (found["extras"] or "").split(",") if extra.strip()}
            wanted = have | set(extras)
            if wanted != have:
                lines[n] = f"{_requirement(wanted)}{found['rest']}"
            return _joined(lines)
    return _joined([*lines, _requirement(extras)])


def _requirement(extras: Iterable[str]) -> str:
    inside = ",".join(sorted(extras))
    return f"{DISTRIBUTION}[{inside}]" if inside else DISTRIBUTION


def with_variables(text: str, variables: Mapping[str, str], *, replace: bool = False) -> str:
    """A .env file with these variables. Raises Conflict when one has another value, unless it may be replaced."""
    lines = text.splitlines()
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
            raise Conflict(name)
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
    """airflow.cfg with these options in a section; comments and order stay. Raises Conflict as above."""
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if line.strip() == f"[{section}]"), None)
    if start is None:
        added = [f"[{section}]", *(f"{name} = {value}" for name, value in options.items())]
        return _joined([*lines, *([""] if lines and lines[-1].strip() else []), *added])
    for name, value in options.items():
        end = next((n for n in range(start + 1, len(lines)) if re.match(r"\[.+\]\s*$", lines[n])), len(lines))
        at = next((n for n in range(start + 1, end) if re.match(rf"{re.escape(name)}\s*=", lines[n])), None)
        line = f"{name} = {value}"
        if at is None:
            lines.insert(start + 1, line)
            continue
        old = lines[at].partition("=")[2].strip()
        if old == value:
            continue
        # What Airflow wrote there itself when it made the file was nobody's decision.
        if old and not replace and old not in _GENERATED.get(name, ()):
            raise Conflict(f"[{section}] {name}")
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
    lines = text.splitlines()
    return _joined(lines if any(line.strip().lstrip("/") == name for line in lines) else [*lines, name])


def _joined(lines: list[str]) -> str:
    return "\n".join(lines) + "\n" if lines else ""
