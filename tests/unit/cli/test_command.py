"""The command itself: help, exit codes, output on a terminal and in a pipe, completion."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest

import xcargo as package
from tests.unit.cli.kit import Call, environment, on_terminal, xcargo
from xcargo.cli.command import Output
from xcargo.cli.main import all_commands


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path)


def test_version_is_a_table_in_a_pipe_and_an_object_with_json(cli: Call) -> None:
    """The same facts for a reader and for a program, and nothing else on standard output."""
    done = cli("version")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[1] == f"xcargo                                    {package.__version__}"
    assert "\x1b" not in done.out
    assert cli("version", "--json").json["xcargo"] == package.__version__


def test_a_terminal_gets_colour_unless_it_asks_for_none(env: dict[str, str]) -> None:
    """Escape sequences on a terminal; NO_COLOR leaves no colour."""
    assert "\x1b[3" in on_terminal("--help", env=env).out
    assert "\x1b[3" not in on_terminal("version", env={**env, "NO_COLOR": "1"}).out


def test_a_table_of_many_rows_is_soon_in_a_pipe() -> None:
    """Columns stay under each other, wide characters too, and a row costs microseconds."""
    piped = io.StringIO()
    rows = [("日本", 1), ("plain", None), *((f"dag-{n}", n) for n in range(20_000))]
    started = time.perf_counter()
    Output(stdout=piped).table(("dag", "rows"), rows, right=("rows",))
    assert time.perf_counter() - started < 3
    assert piped.getvalue().splitlines()[:3] == ["dag         rows", "日本           1", "plain"]


def test_without_rich_a_table_says_what_to_install(cli: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clear message and no traceback; JSON does without rich."""
    for module in ("rich", "rich.box", "rich.console"):
        monkeypatch.setitem(sys.modules, module, None)
    done = cli("version")
    assert (done.code, done.out) == (4, "")
    assert "pip install rich" in done.err
    assert cli("version", "--json").code == 0


@pytest.mark.parametrize("reader", ["head -c 1", "true"])
def test_a_reader_that_has_enough_is_no_error(env: dict[str, str], reader: str) -> None:
    """`xcargo version | head -1` ends quietly, and so it does if nothing is read."""
    line = f'"{sys.executable}" -m xcargo version | {reader}; echo " ${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True, check=True)
    assert (done.stdout.split()[-1], done.stderr) == ("0", "")


def test_what_the_system_refuses_is_one_line(cli: Call) -> None:
    """A file that is not there: no traceback, its name, exit code 4."""
    done = cli("bench", "--path", "memory://a/b", "--max-mib", "1", "--seconds", "0", "--sample", "/no/such.csv")
    assert done.code == 4
    assert "/no/such.csv" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("name", [command.name for command in all_commands()])
def test_every_command_has_help_with_an_example(cli: Call, name: str) -> None:
    """--help of each command shows how to use it."""
    (command,) = [c for c in all_commands() if c.name == name]
    assert command.examples
    done = cli(*name.split(), "--help")
    assert done.code == 0
    assert f"xcargo {command.examples[0].line}" in done.out


def test_usage_errors_end_with_2(cli: Call) -> None:
    """A command that does not exist, or none, is an error of usage."""
    assert cli().code == 2
    done = cli("nonsense")
    assert done.code == 2
    assert "version" in done.err


@pytest.mark.parametrize(
    "line",
    [
        *("ls --limit -1", "verify --workers 0", "migrate --workers 0", "sql x --limit 0", "memo why d t --limit 0"),
        *("cat d r t --head -1", "bench --max-mib 0", "policy aws --expire-days 0", "lifecycle aws --days 0"),
        "doctor --timeout 0",
    ],
)
def test_numbers_that_make_no_sense_are_errors_of_usage(cli: Call, line: str) -> None:
    """Not a traceback, and not another answer than the one that was asked for."""
    done = cli(*line.split())
    assert (done.code, "is less than" in done.err) == (2, True), done.err


def test_characters_that_the_output_does_not_have_are_escaped(env: dict[str, str]) -> None:
    """A terminal or pipe of another encoding than UTF-8 ends no command."""
    done = xcargo("doctor", "--quick", env={**env, "PYTHONIOENCODING": "latin-1"})
    assert "\\u2713 xcargo" in done.out
    assert "Traceback" not in done.err


def test_loading_all_commands_loads_the_standard_library_only() -> None:
    """Airflow loads the commands whenever its own command runs; `import xcargo` leaves them alone."""
    script = (
        "import sys, xcargo; print([n for n in sys.modules if n.startswith('xcargo.cli') or n == 'argparse'])\n"
        "before = set(sys.modules); import xcargo.cli.main as c; c.all_commands();"
        "print([n for n in sys.modules if n not in before and n.partition('.')[0] not in sys.stdlib_module_names"
        " and n.partition('.')[0] != 'xcargo'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]"]


def test_without_airflow_commands_say_so_or_do_without(tmp_path: Path) -> None:
    """On a machine of nothing but xcargo: no traceback; a store is measured and a policy printed even so."""
    script = (
        "import sys; sys.modules['airflow'] = None; from xcargo.cli.main import main\n"
        "for line in sys.argv[1:]: print(line.split()[0], int(main(line.split())), flush=True)"
    )
    needing = ("cat d r t", "doctor", "du", "gc", "lifecycle aws", "ls", "migrate", "restore", "show d r t", "verify")
    free = tuple(f"bench --path {scheme}://{tmp_path} --max-mib 1 --seconds 0.1 --json" for scheme in ("file", "local"))
    lines = (*needing, *free, "policy aws --path s3://my-bucket/xcom")
    done = subprocess.run([sys.executable, "-c", script, *lines], capture_output=True, text=True, check=False)
    codes = dict(re.findall(r"^([a-z]+) (\d+)$", done.stdout, re.MULTILINE))
    assert codes == {line.split()[0]: "4" for line in needing} | {"bench": "0", "policy": "0"}, done.stderr
    assert done.stderr.count("Airflow is not installed here") == len(needing)


def test_completion_prints_a_script_that_names_the_command(cli: Call, env: dict[str, str]) -> None:
    """bash, asked through that script, completes a command."""
    assert "_python_argcomplete" in cli("completion", "bash").out
    asked = {**env, "_ARGCOMPLETE": "1", "COMP_LINE": "xcargo vers", "COMP_POINT": "11", "_ARGCOMPLETE_IFS": "\n"}
    read = "import os,sys; sys.argv=['xcargo']; from xcargo.cli.main import main; main()"
    done = subprocess.run(
        ["bash", "-c", f'exec 8>&1 9>/dev/null; "{sys.executable}" -c "{read}"'],
        env=asked,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["version"]


def test_json_holds_what_json_can() -> None:
    """Numbers that are none are null, and any key is a text."""
    written = io.StringIO()
    out = Output(stdout=written)
    out.print_json_line({"nan": [float("nan"), {"deep": -float("inf")}], "keys": {date(2026, 1, 1): 1, 2: 0.5}})
    assert written.getvalue() == '{"nan": [null, {"deep": null}], "keys": {"2026-01-01": 1, "2": 0.5}}\n'
