"""The pages on the command say what the command does."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.docs.test_docs import DOCS, ROOT, assert_fresh, blocks, codes, rows, section, text_of
from xcargo.cli.command import ExitCode
from xcargo.cli.main import all_commands, build_parser
from xcargo.cli.rights import Needs, aws_policy, azure_role, gcs_role

CLI = ROOT / "src" / "xcargo" / "cli"


def test_the_reference_is_fresh() -> None:
    """docs/cli.md holds what docs/generate_cli.py writes."""
    assert_fresh("generate_cli")


def test_exit_codes_are_those_of_the_code() -> None:
    """The table has every code."""
    assert [int(row[0]) for row in rows(section(DOCS / "cli.md", "Exit codes"))] == [int(code) for code in ExitCode]


def lines() -> list[str]:
    """Every command line of ours in help texts and pages."""
    found = [f"xcargo {example.line}" for command in all_commands() for example in command.examples]
    for block in blocks("console", "bash"):
        found += re.findall(r"^(?:\$ )?(xcargo (?!\d).*)$", block.text, re.MULTILINE)
    return sorted(set(found))


@pytest.mark.parametrize("line", lines())
def test_every_command_line_is_understood(line: str) -> None:
    """What an example types is parsed: no command or option in it is missing."""
    words = shlex.split(re.split(r" [|>]", line)[0])
    assert build_parser().parse_args(words[1:]).command


def test_every_check_is_documented() -> None:
    """The table of checks has every name that a finding can have, and no other."""
    pattern = r'"((?:environment|settings|connection|folder|store|value)\.[a-z-]+)"'
    found = {
        name
        for path in (CLI / "doctor.py", *CLI.glob("checks/*.py"))
        for name in re.findall(pattern, path.read_text("utf-8"))
    }
    table = {name for row in rows(section(DOCS / "doctor.md", "Checks")) for name in codes(row[0])}
    assert {name for name in table if not name.startswith(("read.", "route."))} == found


def test_the_tutorials_rights_are_those_that_are_printed() -> None:
    """Policy, role and permissions stand there as `xcargo policy --no-gc` gives them."""
    page = DOCS / "tutorial.md"
    policy, role = (json.loads(block.text) for block in blocks("json") if block.page == page)
    assert policy == aws_policy(Needs("my-bucket", "xcom", list=False))
    printed = azure_role(Needs("my-container", list=False))
    assert {**role, "AssignableScopes": printed["AssignableScopes"]} == printed
    (given,) = re.findall(r"--permissions=(\S+)", text_of(page))
    assert given.split(",") == gcs_role(Needs("my-bucket", list=False))["includedPermissions"]


def test_the_health_dag_is_python() -> None:
    """The example compiles."""
    path = Path(ROOT / "examples" / "dags" / "xcargo_health.py")
    compile(path.read_text("utf-8"), str(path), "exec")
