"""The runbooks of the documentation that change settings while tasks run: workers are restarted one by one.

So at each step workers of two settings are at work, each in a process of its own: both push, and each pulls everything
that was pushed since the beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.metadata import Metadata
from tests.unit.cli.kit import Call
from tests.unit.cli.worker import work
from tests.unit.conftest import FORKS

OLD, NEW = "OLD=kTtQGSAbZ3CA/hzxlPpNvN1g+AX0Jf8ZqUoBxbNH7ck=", "NEW=Yq7b1w0D5nT0zX1m0oCkq0m4m2b0p0y9uQ8v7r6s5t4="
NOT_YET = '[{"name": "not yet", "encryption_key": "none"}]'

RUNBOOKS: dict[str, list[dict[str, str]]] = {
    "sign": [{}, {"signing_key": NEW, "unsigned_until": "2999-01-01T00:00:00Z"}],
    "change the signing key": [{"signing_key": k} for k in (OLD, f"{OLD},{NEW}", f"{NEW},{OLD}")],
    "encrypt": [{}, {"encryption_keys": NEW, "routes": NOT_YET}, {"encryption_keys": NEW}],
    "change the encryption key": [{"encryption_keys": k} for k in (OLD, f"{OLD},{NEW}", f"{NEW},{OLD}")],
    "another bucket": [
        {"path": "file://{home}/old"},
        {"path": "file://{home}/old", "read_paths": "file://{home}/new"},
        {"path": "file://{home}/new", "read_paths": "file://{home}/old"},
    ],
}
"""Name -> the settings of each step. The last step of each, which removes what is old, is a test of its own."""

ERRORS = {
    "sign": ("is not signed", None),
    "change the signing key": ("the key 'OLD', which is not in", "the key 'NEW', which is not in"),
    "encrypt": (None, "the key 'NEW', which is not in"),
    "change the encryption key": ("the key 'OLD', which is not in", "the key 'NEW', which is not in"),
    "another bucket": ("/old/", "/new/"),
}
"""What a value of the first step is after the last one, and what one of the last step is where none was taken."""


def worker(settings: dict[str, str], home: Path, name: str, rows: dict[str, Any]) -> tuple[Any, dict[str, str]]:
    """The rows that a worker in a new process pushes, and its errors with others. Paths are below ``home``."""
    settings = {"path": "file://{home}/objects", "threshold_bytes": "1024"} | settings
    settings = {option: text.replace("{home}", str(home)) for option, text in settings.items()}
    with FORKS.Pool(1) as pool:
        return pool.apply(work, (settings, name, rows))


@pytest.mark.parametrize("name", RUNBOOKS)
def test_workers_of_two_steps_read_each_other(name: str, tmp_path: Path) -> None:
    """No pull fails at any step, whichever worker pushed the value and whichever pulls it."""
    steps, rows = RUNBOOKS[name], dict[str, Any]()
    for n, (before, after) in enumerate(pairwise(steps)):
        for settings in (before, after, before):
            pushed, wrong = worker(settings, tmp_path, f"{n}", rows)
            assert wrong == {}
            rows |= {f"{len(rows)}-{key}": row for key, row in pushed.items()}
    assert len(rows) == 6 * (len(steps) - 1)


@pytest.mark.parametrize("name", RUNBOOKS)
def test_a_step_too_early_is_an_error_that_says_why(name: str, tmp_path: Path) -> None:
    """What is old is removed while a value needs it, or a step is left out: never another value."""
    first, last = RUNBOOKS[name][0], RUNBOOKS[name][-1]
    removed = {
        option: text.partition(",")[0] for option, text in last.items() if "un" not in option and "read" not in option
    }
    for pushing, pulling, error in zip((first, last), (removed, first), ERRORS[name], strict=True):
        rows, _ = worker(pushing, tmp_path, "pushed", {})
        _, wrong = worker(pulling, tmp_path, "pulled", rows)
        assert bool(wrong) is bool(error)
        assert all(error in text for text in wrong.values() if error)


def test_a_bucket_is_emptied_while_workers_read_and_write_it(
    sqlite_metadata: Metadata, here: Callable[..., Call], tmp_path: Path
) -> None:
    """Sweeps of both paths take nothing that a row refers to, half-way through a migration either; nothing is lost."""
    _, both, last = RUNBOOKS["another bucket"]
    old, new = tmp_path / "old", tmp_path / "new"
    paths = {name: (tmp_path / name).as_uri() for name in ("old", "new")}
    cli = here(sqlite_metadata, AIRFLOW__XCARGO__PATH=paths["new"], AIRFLOW__XCARGO__READ_PATHS=paths["old"])
    journal = ("--json", "--journal", str(tmp_path / "journal"), "--apply")

    def rows() -> dict[str, Any]:
        return {task_id: value for (_, _, task_id, _, _), value in sqlite_metadata.values().items()}

    def work_on(*settings: dict[str, str]) -> None:
        for number, each in enumerate(settings):
            pushed, wrong = worker(each, tmp_path, f"{len(rows())}.{number}", rows())
            assert wrong == {}
            for task_id, row in pushed.items():
                sqlite_metadata.push(row, dag_id="d", run_id="r", task_id=task_id)

    def sweep() -> list[int]:
        """Objects that a sweep deletes in the new path and in the old one."""
        done = cli("gc", "--apply", "--yes", "--grace", "0", "--max-share", "1", "--json")
        assert done.code == 0, done.err
        return [report["outcomes"].get("deleted", {"objects": 0})["objects"] for report in done.json]

    def files(folder: Path) -> int:
        return len([path for path in folder.rglob("*~*") if path.is_file() and path.name != "owner.json"])

    work_on(both, last, both)
    assert sweep() == [0, 0]
    assert (files(old), files(new)) == (2, 1)
    (first,) = [name for name, row in rows().items() if "uri" in row and "0.0" in name]
    assert cli("migrate", *journal, "--task", first).code == 0
    work_on(both, last)
    assert sweep() == [0, 1]  # the copy that no row refers to
    work_on(both, last)
    done = cli("migrate", *journal)
    assert done.code == 0, done.out + done.err
    work_on(last, last)
    assert cli("migrate", "--delete-source", "--grace", "0", *journal).code == 0
    assert files(old) == 0
    work_on({"path": "file://{home}/new"}, {"path": "file://{home}/new"})
    assert cli("verify").code == 0
    assert sweep() == [0, 0]
