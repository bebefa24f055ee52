"""What counts of a function: whatever its result may depend on, in files that fresh processes import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HEAD = """from __future__ import annotations
import collections, contextlib, dataclasses, enum, functools, logging, operator, os, re, threading, types, typing
N = 1
"""
SECTIONS = Path(__file__).with_name("code_parts.txt").read_text().split("### ")[1:]
CASES = {title: HEAD + text for title, _, text in (section.partition("\n") for section in SECTIONS)}
"""Files by their titles, which say what is replaced in one, and by what: its ``f()`` returns something else then."""

RUN = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
from tests.unit.conftest import make_pipeline
from xcargo.errors import UnsupportedTypeError
from xcargo.pipeline.code_parts import parts_of
from xcargo.pipeline.memo import value_digest
pipeline, found = make_pipeline(), []
for name in json.loads(sys.argv[2]):
    f, digests = importlib.import_module(name).f, {}
    for part, content in parts_of(f):
        try:
            digests[part] = value_digest(pipeline, content)
        except UnsupportedTypeError:
            assert part.startswith("constant "), part
    found.append([digests, repr(f())])
print(json.dumps(found))
"""


def fingerprints(folder: Path, texts: dict[str, str], seed: int) -> dict[str, tuple[dict[str, str], str]]:
    """Digests of the parts of each file's ``f``, and what that returns, in a process of their own."""
    folder.mkdir()
    files = [f"file_{seed}_{n}" for n in range(len(texts))]
    for file, text in zip(files, texts.values(), strict=True):
        (folder / f"{file}.py").write_text(text)
    env = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", RUN, str(folder), json.dumps(files)]
    run = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return dict(zip(texts, json.loads(run.stdout), strict=True))


def replaced(title: str, text: str) -> str:
    old, new = title.partition(": ")[2].split(" -> ")
    assert old in text.removeprefix(HEAD), title
    return HEAD + text.removeprefix(HEAD).replace(old, new, 1)


def test_equal_fingerprints_mean_equal_results_and_each_process_finds_the_same(tmp_path: Path) -> None:
    """Wherever code or a constant changes; neither addresses, nor the order of sets, nor where the file is, count."""
    one, again = (fingerprints(tmp_path / str(seed), CASES, seed) for seed in (1, 2))
    differing = {title: dict(one[title][0].items() ^ again[title][0].items()) for title in CASES}
    assert {title: parts for title, parts in differing.items() if parts} == {}
    texts = {title: replaced(title, text) for title, text in CASES.items() if " -> " in title}
    other = fingerprints(tmp_path / "3", texts, 3)
    assert len(texts) > 50
    assert [title for title in texts if one[title][1] == other[title][1]] == []  # then the case proves nothing
    assert [title for title in texts if one[title][0] == other[title][0]] == []
