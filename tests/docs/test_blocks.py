"""Every code block runs, is read by what it is for, or says why not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DAGS, dag_file, excuse, python_of
from tests.docs.test_docs import FENCE, PAGES, Block, blocks, name_of, text_of
from tests.unit.cli.kit import environment

WHOLE_DAGS = ("README.md", "docs/tutorial.md")
"""Run by tests/e2e/test_new_user.py, as those of DAGS are."""
TESTS = {"CONTRIBUTING.md": ("test_store.py", "acme_money.py", "test_codec.py")}

LINES = (
    r"AIRFLOW__\w+=(\S*|'[^']*')",  # read by test_docs
    r"AIRFLOW_CONN_\w+='\{.*\}'",  # opened by test_docs
    r"OTEL_\w+=\S+",
    r"make [a-z0-9-]+( .*)?",  # looked up by test_docs
    r"pip install '?airflow-provider-xcargo(\[\w+\])?'?",  # tried by make build
    r"(\$ )?xcargo .*",  # parsed by test_cli_docs
    r"\.venv/bin/(python|towncrier) .*",
    r"(gcloud|aws|az|mc|kubectl|promtool) .*",  # other programs: their syntax is read below
    r" *(--|#).*",
    r"",
)


@pytest.mark.parametrize("page", DAGS)
def test_tasks_of_a_page_make_a_dag(page: str) -> None:
    """All names that its blocks use are there, and its tasks fit together."""
    pytest.importorskip("airflow.sdk")
    dag_id, text = dag_file(page)
    exec(compile(text, dag_id, "exec"), {"__name__": dag_id})


def scripts() -> list[Block]:
    """All other Python. A comment before a block, ``<!-- not run: why -->``, excuses it."""
    elsewhere = {*WHOLE_DAGS, *DAGS, *TESTS}
    return [b for b in blocks("python") if name_of(b.page) not in elsewhere and excuse(b) is None]


@pytest.mark.parametrize("block", scripts(), ids=str)
def test_scripts_run(block: Block, tmp_path: Path) -> None:
    """As a program of its own, in an Airflow of its own."""
    env = environment(tmp_path, AIRFLOW__XCARGO__PATH=tmp_path.as_uri(), AIRFLOW__CORE__EXECUTOR="LocalExecutor")
    done = subprocess.run([sys.executable, "-c", block.text], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", TESTS)
def test_tests_of_a_page_pass(page: str, tmp_path: Path) -> None:
    """What contributors copy works as it stands."""
    found = python_of(page)
    assert len(found) == len(TESTS[page])
    for name, block in zip(TESTS[page], found, strict=True):
        (tmp_path / name).write_text(block.text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(tmp_path)],
        cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("block", blocks("bash"), ids=str)
def test_every_line_for_a_shell_is_of_a_known_kind(block: Block) -> None:
    """A shell can read the block, and each line is one that some test reads for what it says."""
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
    for line in block.text.splitlines():
        assert any(re.fullmatch(kind, line) for kind in LINES), line


def test_every_block_has_a_known_language() -> None:
    """No language that nothing checks. `text`, `ini` and the like are shown, not run."""
    known = {"bash", "console", "javascript", "python", "json", "text", "ini", "toml", "yaml", "sql"}
    found = {match["language"] for page in PAGES for match in FENCE.finditer(text_of(page))}
    assert found <= known
