"""The Python of pages as files that run: with what a page takes as known before it, and what puts its tasks to use."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from tests.docs.test_docs import Block, blocks, name_of, text_of

__all__ = ["DAGS", "dag_file", "excuse", "python_of", "tutorial_files"]


@dataclass(frozen=True)
class Around:
    """What stands around the blocks of a page in the Dag that they make."""

    known: str
    used: str = ""


DAGS = {
    "docs/big-data.md": Around(
        known="""
            import pandas
            import polars

            def write_report():
                path = pathlib.Path(tempfile.mkdtemp()) / "report.csv"
                path.write_text("n\\n1\\n2\\n")
                return path

            class response:
                def iter_content(size):
                    yield from (b"x" * 1000, b"y" * 500)

            @task
            def extract():
                return polars.DataFrame({"price": [1.5, 2.5], "day": ["mon", "tue"]})
        """,
        used="load(export())\ncount(fetch())",
    ),
    "docs/memoize.md": Around(
        known="""
            import polars

            def read_orders():
                return polars.DataFrame({"price": [1.5, 2.5]}).to_pandas()

            def fit(orders, rounds):
                return float(orders.price.sum()) * rounds
        """,
    ),
    "docs/mapped-tasks.md": Around(
        known="""
            import pyarrow

            paths = ["a", "bb", "ccc"]

            @task
            def count_lines(path):
                return len(path)

            @task
            def load():
                return pyarrow.table({"n": range(1_500_000)})

            @task
            def use(left, right):
                assert (len(left), len(right)) == (1_000_000, 500_000)
        """,
        used="join(count_lines.override(task_id='again').expand(path=paths))",
    ),
}
"""Pages whose blocks are tasks of one Dag."""


def python_of(page: str) -> list[Block]:
    """The Python blocks of a page that are to run."""
    return [block for block in blocks("python") if name_of(block.page) == page and excuse(block) is None]


def excuse(block: Block) -> str | None:
    """Why a block does not run: what a comment right before it says, ``<!-- not run: ... -->``."""
    lines = text_of(block.page).splitlines()
    before = lines[block.line - 2 if lines[block.line - 2].strip() else block.line - 3].strip()
    return before[len("<!-- not run:") : -len("-->")].strip() if before.startswith("<!-- not run:") else None


def dag_file(page: str) -> tuple[str, str]:
    """Id and text of the Dag that a page's blocks make."""
    around = DAGS[page]
    dag_id = "docs_" + page.removeprefix("docs/").removesuffix(".md").replace("-", "_")
    inside = [textwrap.dedent(around.known), *(block.text for block in python_of(page)), around.used]
    head = (
        "import pathlib, tempfile\n"
        "from datetime import datetime\n\n"
        "from airflow.sdk import DAG, task\n\n"
        f"with DAG({dag_id!r}, schedule=None, start_date=datetime(2026, 1, 1), catchup=False) as dag:\n"
    )
    return dag_id, head + textwrap.indent("\n".join(inside), "    ") + "\n"


def tutorial_files() -> dict[str, str]:
    """Dags that stand in pages as whole files: name -> text, each with its Dag by a name."""
    (readme,) = python_of("README.md")
    first, second = python_of("docs/tutorial.md")
    tutorial = first.text.replace("custom_xcom_backend_test", "tutorial_page")
    return {
        "readme": readme.text,
        "tutorial": tutorial.replace("\ntutorial_page()", "\nfound = tutorial_page()"),
        "tables": second.text.replace("\ntables()", "\nfound = tables()"),
    }
