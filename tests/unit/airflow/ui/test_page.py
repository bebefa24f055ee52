"""The explorer's page: what it shows of answers that arrive in another order than they were asked for."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import xcargo.airflow.ui
from tests.servers.node import find_node

STATIC = Path(xcargo.airflow.ui.__file__).with_name("static")

OUT_OF_ORDER = """
const { showAnswer } = await import(process.argv[1]);
const shown = [];
const element = { replaceChildren: (...children) => shown.push(...children) };
const answers = ["first", "second", "third"].map(() => Promise.withResolvers());
const all = answers.map(({ promise }) => showAnswer(element, promise, (answer) => `drawn: ${answer}`));
answers[2].resolve("third");
answers[0].resolve("first");
answers[1].reject(new Error("second"));
await Promise.all(all);
console.log(JSON.stringify(shown));
"""


def test_an_answer_that_comes_late_takes_no_other_ones_place() -> None:
    """Nor does a late error: what is on the screen is what was chosen last."""
    command = [str(find_node().program), "--input-type=module", "-e", OUT_OF_ORDER, (STATIC / "dom.js").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == ["drawn: third"]
