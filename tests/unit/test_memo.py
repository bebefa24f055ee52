"""Reused results: which inputs count as the same, what counts of a function, and entries that nobody should trust."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import types
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.roundtrips.examples import examples, names
from tests.servers import Server
from tests.unit.codecs.known_classes import KnownClasses
from tests.unit.codecs.test_tree import SCALARS, VALUES, same
from tests.unit.conftest import HERE, make_pipeline
from xcargo.codecs import Registry
from xcargo.codecs.objects import PickleCodec
from xcargo.errors import (
    EnvelopeError,
    IntegrityError,
    ObjectExistsError,
    ObjectNotFoundError,
    SignatureError,
    SizeLimitError,
    UnsupportedTypeError,
    XCargoError,
)
from xcargo.model.keys import Key
from xcargo.pipeline.code_parts import parts_of
from xcargo.pipeline.handle import Reused
from xcargo.pipeline.memo import Claim, Entry, Fingerprint, changes, entries_for, reuse, value_digest
from xcargo.pipeline.source_code import SourceChangedError
from xcargo.stores.local import buckets

PIPELINE = make_pipeline()
NEXT = replace(HERE, run_id="next_run")
KEY = Key("2026", os.urandom(32))


# --- values ----------------------------------------------------------------------------------------------------------


@given(VALUES, VALUES)
def test_digests_are_equal_only_for_equal_values(left: Any, right: Any) -> None:
    """Equal in type and order, too; a copy has the digest of the original."""
    if value_digest(PIPELINE, left) == value_digest(PIPELINE, right):
        assert same(left, right)
    assert value_digest(PIPELINE, copy.deepcopy(left)) == value_digest(PIPELINE, left)


CODECS = Registry(classes=KnownClasses(), last_resort=lambda: PickleCodec(allowed=True), entry_points=False)
OF_ALL_TYPES = make_pipeline("memory://hits/x", codecs=CODECS)


@cache
def comparable_examples() -> dict[str, str]:
    """The values of the round-trip suite by their text, and their digests."""
    found = {}
    for text in examples().values():
        # torch is not installed; read once, or of a class that is not known here
        with suppress(NameError, XCargoError):
            found[text] = value_digest(OF_ALL_TYPES, eval(text, names()))
    return found


def test_no_two_examples_of_the_types_page_have_one_digest() -> None:
    """Over the values of the round-trip suite."""
    found = comparable_examples()
    assert len(set(found.values())) == len(found) > 60


def twice(n: Any, more: Any) -> Any:
    return [n, more] * 2


def thrice(n: Any, more: Any) -> Any:
    return [n, more] * 3


@dataclass(frozen=True)
class Example:
    """One of the round-trip suite, by its text: another object each time."""

    text: str


ALWAYS_ANOTHER = Example("StandardScaler().fit([[1.0], [2.0]])")
"""Its library writes ids and times into it: never taken for the same."""
EXAMPLES = st.sampled_from([Example(text) for text in sorted({*examples().values()} - {ALWAYS_ANOTHER.text})])
LOOK_ALIKE = [
    *(("1", 1), (True, 1), (1, 1.0), (0.0, -0.0), ([1], (1,)), (b"ab", bytearray(b"ab")), (None, "None")),
    (Decimal("1.0"), Decimal("1.00")),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    (np.zeros(4, "int64"), np.zeros(4, "float64")),
    (np.zeros((2, 3)), np.zeros((3, 2))),
    (np.zeros(4), np.zeros(4).tolist()),
    (pd.Series([1, 2], name="a"), pd.Series([1, 2], name="b")),
    (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": pd.array([1], "Int64")})),
]


def test_values_that_look_alike_have_digests_of_their_own() -> None:
    """Of other types, orders, shapes or names, though equal or of equal bytes."""
    for one, other in LOOK_ALIKE:
        assert value_digest(OF_ALL_TYPES, one) != value_digest(OF_ALL_TYPES, other), (one, other)


TWO_VALUES = st.one_of(
    st.tuples(VALUES, VALUES).map(lambda two: (*two, same(*two))),
    st.tuples(VALUES, SCALARS, SCALARS).map(
        lambda parts: ([*parts[:2]], [copy.deepcopy(parts[0]), parts[2]], same(*parts[1:]))
    ),
    VALUES.map(lambda value: (value, copy.deepcopy(value), True)),
    st.sampled_from(LOOK_ALIKE).map(lambda two: (*two, False)),
    st.tuples(EXAMPLES, EXAMPLES).map(lambda two: (*two, two[0] == two[1])),
    EXAMPLES.map(lambda example: (example, example, True)),
)
"""And whether they are equal."""
TWO_CALLS = st.tuples(TWO_VALUES, TWO_VALUES) | TWO_VALUES.map(lambda two: (two, (two[1], two[0], two[2])))
"""Of each argument, its value in two calls; with the same values for both in other order, too."""


@given(TWO_CALLS, *[st.sampled_from([twice, thrice])] * 2)
def test_a_hit_is_given_only_for_equal_inputs_and_equal_source(arguments: Any, before: Any, now: Any) -> None:
    """And for all of these: of any type and value, in either argument, made at another time."""

    def key_of(function: Any, *values: Any) -> str:
        digests = {name: value_digest(PIPELINE, part) for name, part in parts_of(function)}
        for name, value in zip(("n", "more"), values, strict=True):
            is_example = isinstance(value, Example)
            assume(not is_example or value.text in comparable_examples())
            digests[name] = value_digest(OF_ALL_TYPES, eval(value.text, names()) if is_example else value)
        return Fingerprint("task", "my_dag", "my_task", digests).key

    entries = entries_for(OF_ALL_TYPES, HERE)
    buckets.setdefault("hits/x", {}).clear()
    first, second, are_equal = zip(*arguments, strict=True)
    entries.put(entry_of(OF_ALL_TYPES, 1, key=key_of(before, *first)))
    assert (entries.get(key_of(now, *second)) is not None) is (before is now and all(are_equal))


def test_sets_are_compared_whatever_their_order() -> None:
    """Each process orders the texts of a set in another way; the digest is the same, at any depth."""
    code = (
        "from tests.unit.test_memo import PIPELINE, value_digest\n"
        "names = {f'name {n}' for n in range(50)}\n"
        "print(value_digest(PIPELINE, {'a': [names, frozenset([frozenset(names), 1])]}))"
    )
    found = set()
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        found.add(subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True).stdout)
    assert len(found) == 1


@pytest.mark.parametrize("value", [iter([1, 2]), (n for n in range(3)), [iter([1])], pa.table({"a": [1]}).to_reader()])
def test_what_can_be_read_once_is_refused_and_still_whole(value: Any) -> None:
    """The task would find it empty."""
    with pytest.raises(UnsupportedTypeError, match="only once"):
        value_digest(PIPELINE, value)
    inner = value[0] if isinstance(value, list) else value
    assert list(inner)


def test_what_cannot_be_encoded_is_named_with_its_place() -> None:
    """The error says where in the value it is."""
    with pytest.raises(UnsupportedTypeError, match=r"value\['a'\]\[1\]"):
        value_digest(PIPELINE, {"a": [1, lambda: 2]})


def test_a_value_that_refers_to_itself_is_refused() -> None:
    """At once, however often it does, and with a handle in it too."""
    cycle: dict[str, Any] = {}
    cycle.update(dict.fromkeys("abcdefgh", cycle))
    for value in (cycle, {**cycle, "handle": PIPELINE.handle(1), "self": cycle}, [PIPELINE.handle(1), cycle]):
        with pytest.raises(UnsupportedTypeError, match="itself"):
            value_digest(PIPELINE, value)


def test_a_handle_is_compared_by_its_envelope(tmp_path: Path) -> None:
    """Equal payloads that two runs pushed are equal, without a request; a copy, also of an encrypted one, is too."""
    pipeline = make_pipeline(tmp_path.as_uri())
    frame = pd.DataFrame({"n": range(1000)})
    rows = [pipeline.push(frame, HERE), pipeline.push(frame, NEXT), pipeline.push(frame + 1, NEXT)]
    handles = [pipeline.handle(row) for row in rows]
    for path in tmp_path.rglob("*.arrow*"):
        path.unlink()
    one, again, other = (value_digest(pipeline, {"frames": [handle]}) for handle in handles)
    assert one == again
    assert one != other
    pipeline = make_pipeline(encryption_keys=(KEY,), encryption_key=KEY)
    row = pipeline.push(frame, HERE)
    copied = pipeline.push(pipeline.handle(row), NEXT)
    assert value_digest(pipeline, pipeline.handle(row)) == value_digest(pipeline, pipeline.handle(copied))


# --- functions -------------------------------------------------------------------------------------------------------


def digests(text: str, tmp_path: Path, name: str = "work") -> dict[str, str]:
    """What counts of a function in a file of this text."""
    number = len(list(tmp_path.iterdir()))
    path = tmp_path / f"dag_{number}.py"
    path.write_text(text)
    module = types.ModuleType(path.stem)
    exec(compile(text, str(path), "exec", dont_inherit=True), vars(module))
    sys.modules[path.stem] = module
    module.__file__ = str(path)
    for item in list(vars(module).values()):
        if isinstance(item, types.FunctionType):
            item.__module__ = path.stem
    found = {}
    for part, content in parts_of(getattr(module, name)):
        with suppress(UnsupportedTypeError):  # an instance of a class of its own, of which the class counts
            found[part] = value_digest(PIPELINE, content)
    return found


BEFORE = '''
import math
RATE = 3

def outer(n):
    return inner(n) * 2

def inner(n):
    return n + 1

def unused():
    pass

def work(n, more=1):
    """Words."""
    return [outer(n) * RATE + math.pi for _ in range(more)]
'''


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ('"""Words."""', '"""Other words."""  # and a comment', []),
        ("def unused():\n    pass", "def unused():\n    return 1", []),
        ("def work", "def decorated(f):\n    return f\n\n@decorated\ndef work", []),
        ("RATE = 3", "RATE = 4", ["constant RATE"]),
        ("n + 1", "n + 2", ["source of inner"]),
        ("* RATE", "* RATE + 1", ["source"]),
        ("math.pi", "math.e", ["source"]),
    ],
)
def test_what_counts_of_a_function(old: str, new: str, changed: list[str], tmp_path: Path) -> None:
    """Its source, that of its helpers in the file, and constants; neither comments, docstring nor decorators."""
    assert old in BEFORE
    assert changes(digests(BEFORE, tmp_path), digests(BEFORE.replace(old, new), tmp_path)) == changed


@pytest.mark.parametrize(
    "text",
    [
        "def by(f):\n    return lambda x: f + x\na, b = by(2), by({})\ndef work(n):\n    return a(n) + b(n)",
        "class A:\n    def f(self):\n        return {}\nclass B(A):\n    pass\ndef work(n):\n    return B().f()",
        "R = {}\ndef h(x, r=R):\n    return r\ndef work(n):\n    return h(n)",
        "R = {}\nclass C:\n    rate = R\ndef work(n):\n    return C.rate",
        "R = {}\nclass work:\n    rate = R\n    def execute(self):\n        return self.rate",
        "def h():\n    return {}\nclass A:\n    def f(self):\n        return h()\nclass work(A):\n    pass",
        "def round(x):\n    return x + {}\ndef work(n):\n    return round(n)",
        "class P:\n    def f(self):\n        return {}\np = P()\ndef work(n):\n    return p.f()",
        "def h(x):\n    return x + {}\nT = {{'a': h}}\ndef work(n):\n    return T['a'](n)",
        (
            "import functools\ndef h():\n    return {}\nclass C:\n    @functools.cached_property\n    def v(self):\n"
            "        return h()\ndef work(n):\n    return C().v"
        ),
        (
            "import functools\ndef scale(by):\n    def wrap(f):\n        @functools.wraps(f)\n        def g(x):\n"
            "            return f(x) * by\n        return g\n    return wrap\n@scale({})\ndef h(x):\n    return x\n"
            "def work(n):\n    return h(n)"
        ),
        (
            "import functools\n@functools.singledispatch\ndef h(x):\n    return x\n@h.register\ndef _(x: int):\n"
            "    return x + {}\ndef work(n):\n    return h(n)"
        ),
        (
            "import functools\ndef h():\n    return {}\nclass C:\n    @functools.singledispatchmethod\n"
            "    def v(self, x):\n        return x\n    @v.register\n    def _(self, x: int):\n        return h()\n"
            "    @v.register\n    def _(self, x: str):\n        return x\ndef work(n):\n    return C().v(n)"
        ),
        (
            "class P:\n    def __init__(self):\n        self.__module__ = __name__\n        self.n = {}\np = P()\n"
            "def work(n):\n    return p.n"
        ),
        "import collections\nT = collections.namedtuple('T', 'a b{}')\ndef work(n):\n    return T",
        "import enum\nE = enum.Enum('E', 'X Y{}')\ndef work(n):\n    return E.X",
    ],
)
def test_code_counts_wherever_a_function_gets_it_from(text: str, tmp_path: Path) -> None:
    """Closures of one name, base classes, defaults, bodies of classes, instances, containers, wrappers."""
    one, same_again, other = (digests(text.format(number), tmp_path) for number in (1, 1, 2))
    assert changes(one, same_again) == []
    assert changes(one, other)


@pytest.mark.parametrize(
    "replaced",
    [
        BEFORE.replace("n + 1", "n + 2"),
        BEFORE.replace("* RATE", "/ RATE"),
        "\n" + BEFORE,
        BEFORE[: BEFORE.index("def unused")],
        "def work(",
    ],
)
def test_a_file_that_was_replaced_after_it_was_loaded_is_noticed(replaced: str, tmp_path: Path) -> None:
    """What it says now is not what runs, whether in the function or in its helpers."""
    path = tmp_path / "dag.py"
    path.write_text(BEFORE)
    module: dict[str, Any] = {"__name__": "dag"}
    exec(compile(BEFORE, str(path), "exec", dont_inherit=True), module)
    assert dict(parts_of(module["work"]))
    path.write_text(replaced)
    with pytest.raises(SourceChangedError, match="replaced"):
        dict(parts_of(module["work"]))


def test_the_path_of_its_file_counts_if_a_function_uses_it(tmp_path: Path) -> None:
    """As the page says: what lies beside the file may be another in a folder of another version."""
    one, other = (digests("def work():\n    return __file__", tmp_path) for _ in range(2))
    assert changes(one, other) == ["constant __file__"]


def test_values_from_around_a_function_count() -> None:
    """What a function closes over is a constant of it."""

    def made(rate: int) -> Any:
        def work(n: int) -> int:
            return n * rate

        return work

    one, other = (dict(parts_of(made(rate))) for rate in (1, 2))
    assert changes(one, other) == ["constant rate"]


@pytest.mark.parametrize("function", [len, eval("lambda: 1"), dict.get])
def test_a_function_without_source_asks_for_a_version(function: Any) -> None:
    """C functions, and what was typed into a shell."""
    with pytest.raises(UnsupportedTypeError, match=r'version="1"'):
        list(parts_of(function))


# --- entries ---------------------------------------------------------------------------------------------------------

FINGERPRINT = Fingerprint("task", "my_dag", "my_task", {"source": "1", "argument x": "2"})
OLDER = replace(FINGERPRINT, digests={"source": "0"})


def entry_of(pipeline: Any, value: Any, **fields: Any) -> Entry:
    """An entry for a value that was pushed."""
    entry = Entry(
        key=FINGERPRINT.key,
        dag_id=HERE.dag_id,
        run_id=HERE.run_id,
        task_id=HERE.task_id,
        map_index=-1,
        rows={"return_value": pipeline.push(value, HERE)},
        digests=FINGERPRINT.digests,
        seconds=1.5,
        created_at="2026-01-01T00:00:00+00:00",
    )
    return replace(entry, **fields)


def stored(key: str) -> dict[str, Any]:
    return json.loads(buckets["test/xcom"][key][0])  # type: ignore[no-any-return]


def store(key: str, content: bytes) -> None:
    buckets["test/xcom"][key] = (content, datetime.now(timezone.utc))


def test_an_entry_gives_a_copy_that_says_where_it_is_from() -> None:
    """Its own object, which outlives the first; the envelope has run, task and time of the computation."""
    pipeline = make_pipeline()
    entries = entries_for(pipeline, HERE)
    entries.put(entry_of(pipeline, b"x" * 5000))
    entry = entries.get(FINGERPRINT.key)
    assert entry is not None
    (row,) = entry.rows.values()
    origin = {"run": entry.run_id, "task": entry.task_id, "at": entry.created_at}
    copied: Any = reuse(pipeline, row, NEXT, dag_id=entry.dag_id, origin=origin)
    assert copied["reused"] == origin
    pipeline.purge(row)
    assert pipeline.pull(copied, NEXT.dag_id) == b"x" * 5000
    with pytest.raises(ObjectNotFoundError):
        reuse(pipeline, row, NEXT, dag_id=entry.dag_id, origin=origin)


def test_a_damaged_copy_says_how_to_have_the_value_computed_again() -> None:
    """The store copies bytes that nobody reads: whoever loads them is told what keeps them coming back."""
    pipeline = make_pipeline(threshold_bytes=0)
    row = pipeline.push(pa.table({"a": [1]}), HERE)
    copied: Any = reuse(pipeline, row, NEXT, dag_id="my_dag", origin={"run": HERE.run_id})
    key = copied["uri"].removeprefix("memory://test/xcom/")
    content, _ = buckets["test/xcom"][key]
    store(key, content[:-1] + bytes([content[-1] ^ 1]))
    handle = pipeline.handle(copied, NEXT.dag_id)
    for read in (handle.load, handle.to_arrow, handle.scan, lambda: handle.open().read()):
        with pytest.raises(IntegrityError, match=r"xcargo_recompute.*xcargo memo clear"):
            read()


def test_a_decorator_that_looks_at_a_reused_result_is_told_where_to_stand() -> None:
    """Whichever way it looks, but for asking whether there is an attribute."""
    reused: Any = Reused({"type": "list", "size_bytes": 5})
    for look in (len, list, lambda value: value["a"], lambda value: value.shape):
        with pytest.raises(AttributeError, match="below @xcargo"):
            look(reused)
    assert not hasattr(reused, "shape")
    assert reused


@pytest.mark.servers
def test_a_hit_costs_three_requests(any_server: Server) -> None:
    """Counted at the server: the entry, the copy, and whether that is complete; no byte of the value."""
    pipeline = make_pipeline(any_server.root, connection=any_server.connection)
    entries = entries_for(pipeline, HERE)
    entries.put(entry_of(pipeline, os.urandom(3_000_000)))
    any_server.reset_requests()
    entry = entries.get(FINGERPRINT.key)
    assert entry is not None
    reuse(pipeline, entry.rows["return_value"], NEXT, dag_id="my_dag", origin={})
    assert [method for method, _ in any_server.requests()] == ["GET", "PUT", "HEAD"]


def test_a_small_result_is_in_the_entry_itself() -> None:
    """One request, and nothing to copy."""
    pipeline = make_pipeline()
    entries = entries_for(pipeline, HERE)
    entries.put(entry_of(pipeline, {"rows": 3}))
    entry = entries.get(FINGERPRINT.key)
    assert entry is not None
    assert reuse(pipeline, entry.rows["return_value"], NEXT, dag_id="my_dag", origin={}) == {"rows": 3}


def test_an_entry_counts_until_it_expires() -> None:
    """By the clock of who reads it: from when the result was computed, the time of its writer or a shorter one."""
    ago = lambda **by: (datetime.now(timezone.utc) - timedelta(**by)).isoformat()  # noqa: E731
    entry = entry_of(make_pipeline(), 1, created_at=ago(hours=2))
    assert not entry.is_expired()
    assert not replace(entry, expires_at=ago(hours=-1)).is_expired()
    assert replace(entry, expires_at=ago(hours=1)).is_expired()
    assert not entry.is_expired(timedelta(hours=3))
    assert entry.is_expired(timedelta(hours=1))


def test_no_time_is_too_far_away() -> None:
    """However long a result is reused or waited for, and whenever it is said to have been computed."""
    far, ever = "9999-12-31T23:59:59+00:00", timedelta.max
    assert not entry_of(make_pipeline(), 1, created_at=far, expires_at=far).is_expired(ever)
    assert not Claim(FINGERPRINT.key, ("my_dag", "run", "my_task", -1), "2026-01-01T00:00:00+00:00").is_older_than(ever)


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: b"",
        lambda entry: b"[]",
        lambda entry: b"[" * 100_000,
        lambda entry: b"\xff\xfe",
        lambda entry: json.dumps({**entry, "__id__": "xcargo-memo/2"}).encode(),
        lambda entry: json.dumps({**entry, "rows": []}).encode(),
        lambda entry: json.dumps({**entry, "rows": {"other": 1}}).encode(),
        lambda entry: json.dumps({**entry, "created_at": "2026-01-01T00:00:00"}).encode(),
        lambda entry: json.dumps({**entry, "expires_at": ""}).encode(),
        lambda entry: json.dumps({**entry, "rows": {"return_value": {"__id__": "xcargo/1"}}}).encode(),
        lambda entry: json.dumps({**entry, "expires_at": "soon"}).encode(),
        lambda entry: json.dumps({**entry, "expires_at": "2090-01-01T00:00:00"}).encode(),
        lambda entry: json.dumps({**entry, "seconds": "long"}).encode(),
        lambda entry: json.dumps({**entry, "seconds": "12"}).encode(),
        lambda entry: json.dumps({**entry, "seconds": float("nan")}).encode(),
        lambda entry: json.dumps({**entry, "seconds": 10**400}).encode(),
        lambda entry: json.dumps({**entry, "digests": {"source": 5}}).encode(),
        lambda entry: json.dumps({**entry, "map_index": True}).encode(),
        lambda entry: json.dumps({**entry, "dag_id": ["my_dag"]}).encode(),
        lambda entry: json.dumps({name: entry[name] for name in entry if name != "digests"}).encode(),
        lambda entry: json.dumps({**entry, "key": "~xcargo/memo/my_dag/my_task/other.json"}).encode(),
    ],
)
def test_a_damaged_entry_or_one_of_a_newer_release_is_refused(damage: Any) -> None:
    """Nothing but an error of ours, upon which the result is computed."""
    pipeline = make_pipeline()
    entries = entries_for(pipeline, HERE)
    entries.put(entry_of(pipeline, b"x" * 5000))
    store(FINGERPRINT.key, damage(stored(FINGERPRINT.key)))
    with pytest.raises(EnvelopeError):
        entries.get(FINGERPRINT.key)


def test_an_entry_that_is_too_large_to_be_read_is_not_stored() -> None:
    """Of many small results, say: it would be a miss each time, as damaged."""
    pipeline = make_pipeline("memory://large/x")
    entries = entries_for(pipeline, HERE)
    entry = entry_of(pipeline, 1)
    with pytest.raises(SizeLimitError, match="bytes"):
        entries.put(replace(entry, rows={**entry.rows, "text": "x" * 4 * 1024 * 1024}))
    assert entries.find(entry.key) is None


def test_a_forged_entry_is_refused() -> None:
    """Where there is a key: one that is not signed, was changed, or was signed for something else."""
    pipeline = make_pipeline(signing_keys=(KEY,))
    entries = entries_for(pipeline, HERE)
    entries.put(entry_of(pipeline, b"x" * 5000))
    good = stored(FINGERPRINT.key)
    unsigned = {name: good[name] for name in good if name != "signature"}
    for forged in (unsigned, {**good, "dag_id": "other"}, {**good, "rows": {"return_value": 1}}):
        store(FINGERPRINT.key, json.dumps(forged).encode())
        with pytest.raises(SignatureError):
            entries.get(FINGERPRINT.key)
    other = replace(FINGERPRINT, digests={"source": "other"}).key
    store(other, json.dumps(good).encode())
    with pytest.raises(EnvelopeError, match="another key"):
        entries.get(other)


def test_a_row_of_another_dag_in_an_entry_is_refused() -> None:
    """Its Dag's rows are all that an entry of a Dag leads to."""
    pipeline = make_pipeline()
    row = pipeline.push(b"x" * 5000, replace(HERE, dag_id="other_dag"))
    with pytest.raises(EnvelopeError, match="other_dag"):
        reuse(pipeline, row, HERE, dag_id="my_dag", origin={})


def test_one_of_two_claims_what_both_compute() -> None:
    """A claim is no entry; only its owner gives it up, and an entry takes its place."""
    pipeline = make_pipeline("memory://claims/x", signing_keys=(KEY,))
    entries, key = entries_for(pipeline, HERE), FINGERPRINT.key
    one, other = ("my_dag", "run", "my_task", -1), ("my_dag", "next_run", "my_task", -1)
    entries.put(entry_of(pipeline, 1, key=OLDER.key, digests=OLDER.digests))
    entries.claim(key, one)
    with pytest.raises(ObjectExistsError):
        entries.claim(key, other)
    claim = entries.find(key)
    assert isinstance(claim, Claim)
    assert claim.by == one
    assert not claim.is_older_than(timedelta(hours=1))
    assert entries.get(key) is None
    assert entries.latest(FINGERPRINT.folder) == entries.get(OLDER.key) is not None
    entries.release(key, other)
    assert entries.find(key) == claim
    entries.claim(key, other, overtakes=True)
    entries.release(key, other)
    assert entries.find(key) is None
    entries.claim(key, one)
    entries.put(entry_of(pipeline, 1))
    entries.release(key, one)
    assert entries.get(key) is not None


@pytest.mark.parametrize("damage", [{"by": ["d"]}, {"by": [1, 2, 3, 4]}, {"created_at": "soon"}, {"key": "other"}])
def test_a_damaged_claim_is_refused(damage: dict[str, Any]) -> None:
    """As a damaged entry is: the result is computed."""
    entries = entries_for(make_pipeline(), HERE)
    entries.claim(FINGERPRINT.key, ("my_dag", "run", "my_task", -1), overtakes=True)
    store(FINGERPRINT.key, json.dumps({**stored(FINGERPRINT.key), **damage}).encode())
    with pytest.raises(EnvelopeError):
        entries.find(FINGERPRINT.key)


def test_scopes_have_folders_of_their_own() -> None:
    """Task, Dag, or all: equal parts in another scope are another entry."""
    one = Fingerprint("task", "d", "t", {"a": "1"})
    keys = {
        one.key,
        replace(one, task_id="u").key,
        replace(one, dag_id="e").key,
        replace(one, scope="dag").key,
        replace(one, scope="global").key,
    }
    assert len(keys) == 5
    assert replace(one, scope="dag").key == replace(one, scope="dag", task_id="u").key
    assert replace(one, scope="global").key == replace(one, scope="global", dag_id="e", task_id="u").key
    assert {key.split("/")[:2] == ["~xcargo", "memo"] for key in keys} == {True}


def test_the_latest_entry_says_what_changed() -> None:
    """Names of the parts that differ."""
    pipeline = make_pipeline("memory://latest/x")
    entries = entries_for(pipeline, HERE)
    assert entries.latest(FINGERPRINT.folder) is None
    entries.put(entry_of(pipeline, 1))
    latest = entries.latest(FINGERPRINT.folder)
    assert latest is not None
    assert changes({"source": "3", "argument x": "2", "argument y": "4"}, latest.digests) == ["argument y", "source"]
