"""Which classes of a Dag's folder come back, by names that last, and what is refused."""

from __future__ import annotations

import logging
import site
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import ormsgpack
import pytest

from xcargo.airflow.classes import AirflowClasses
from xcargo.airflow.serde_codec import SerdeCodec
from xcargo.codecs import Registry
from xcargo.codecs.base import contiguous
from xcargo.errors import ConfigurationError, DecodeError, UnsupportedTypeError
from xcargo.transfer.description import type_name

SOURCE = """
from dataclasses import dataclass
from enum import Enum
import helpers
import json

@dataclass
class Order:
    @dataclass
    class Line:
        text: str
    id: int
    lines: list

class Lazy:
    pass

def __getattr__(name):
    raise AssertionError(f"{name} of a payload was looked up in the module's own code")
"""

Load = Callable[[str], ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Makes a folder of Dags, and loads a Dag file in it as Airflow does: by a name with a hash of its path."""
    before = set(sys.modules)
    path = list(sys.path)

    def load(folder: str) -> ModuleType:
        root = tmp_path / folder
        (root / "etl").mkdir(parents=True)
        (root / "etl" / "my_dag.py").write_text(SOURCE)
        (root / "helpers.py").write_text(SOURCE.replace("import helpers", ""))
        forget()
        monkeypatch.setattr(sys, "path", [*path, str(root)])
        name = f"unusual_prefix_{abs(hash(folder)):040x}_my_dag"
        spec = spec_from_file_location(name, root / "etl" / "my_dag.py")
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def forget() -> None:
        for name in set(sys.modules) - before:
            if name == "helpers" or "my_dag" in name:
                del sys.modules[name]

    yield load
    forget()


def encoded(value: Any) -> tuple[str, bytes, dict[str, Any]]:
    """What a push stores of a value."""
    one = Registry(classes=AirflowClasses()).encode(value)
    return one.codec, bytes(contiguous(one)), dict(one.params)


def decoded(stored: tuple[str, bytes, dict[str, Any]]) -> Any:
    """What a pull gives, in a process that has pushed nothing."""
    return Registry(classes=AirflowClasses()).decode(*stored)


def forged(name: str) -> tuple[str, bytes, dict[str, Any]]:
    """A payload that claims a class of this name."""
    return "object", Registry(classes=AirflowClasses()).tree.pack(["dataclass", name, {"text": "x"}]), {}


def order(module: ModuleType) -> Any:
    return module.Order(1, [module.Order.Line("a"), module.helpers.Order(2, [])])


def test_another_version_of_the_bundle_reads_what_one_wrote(load: Load) -> None:
    """The path of the file below its folder counts, not where that folder is."""
    stored = encoded(order(load("version-1")))
    assert b"version-1" not in stored[1]
    assert b"unusual" not in stored[1]
    module = load("version-2")
    value = decoded(stored)
    assert value == order(module)
    assert type(value) is module.Order
    assert type_name(value) == "my_dag.Order"


def test_messages_name_a_class_as_its_dag_file_does(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    """Without the hash that Airflow puts before the name of the file's module."""
    module = load("dags")
    value = type("Row", (dict,), {"__module__": module.__name__})(a=1)
    Registry(classes=AirflowClasses()).encode([value])
    assert "stores my_dag.Row as dict" in caplog.text
    with pytest.raises(UnsupportedTypeError, match=r" type my_dag\.Lazy\. "):
        Registry(classes=AirflowClasses(), fallbacks=[SerdeCodec]).encode(module.Lazy())


LATE = """
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import late

def give():
    import late
"""


def test_a_module_that_only_a_function_imports_is_warned_of(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    """Another task's process does not know it; one that the file imports by way of another module it does."""
    module = load("dags")
    folder = Path(module.__file__ or "").parents[1]
    (folder / "late.py").write_text(SOURCE)
    (folder / "etl" / "my_dag.py").write_text(SOURCE + LATE)
    (folder / "helpers.py").write_text(SOURCE + "from early import tasks")
    (folder / "early").mkdir()
    for name in ("__init__", "tasks"):
        (folder / "early" / f"{name}.py").write_text("from . import models")
    (folder / "early" / "models.py").write_text(SOURCE)
    try:
        classes = AirflowClasses()
        for cls in (module.helpers.Order, import_module("early.models").Order):
            classes.name_of(cls)
        classes.warn()
        assert caplog.messages == []
        cls = import_module("late").Order
        classes.name_of(cls)
        stored = encoded(cls(1, []))
    finally:
        for name in [name for name in sys.modules if name == "late" or name.partition(".")[0] == "early"]:
            del sys.modules[name]
    classes.warn()
    assert "Or import late at the top of the Dag's file" in caplog.text
    with pytest.raises(DecodeError, match="Or import late at the top"):
        decoded(stored)


def test_a_process_that_has_loaded_another_file_names_all_classes_that_it_refuses(load: Load) -> None:
    """The setting of the message, with names that last, admits them: the file is imported by its name then."""
    value = order(load("dags"))
    stored = encoded({"orders": [value, value]})
    for name in [name for name in sys.modules if "my_dag" in name or name == "helpers"]:
        del sys.modules[name]
    with pytest.raises(DecodeError, match="may not be rebuilt") as caught:
        decoded(stored)
    hint = caught.value.hint or ""
    value = hint.partition("='")[2].partition("'")[0]
    assert value.split() == ["airflow.*", "etl.my_dag.Order.Line", "helpers.Order", "etl.my_dag.Order"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES", value)
        assert decoded(stored)["orders"][0].lines[0].text == "a"
        assert "etl.my_dag" in sys.modules


@pytest.mark.parametrize(
    "name",
    [
        "./etl/my_dag.py:helpers.Order",
        "./etl/my_dag.py:json.JSONDecoder",
        "./etl/my_dag.py:Order.Missing",
        "./etl/my_dag.py:Order.__class__",
        "./etl/my_dag.py:missing",
        "./etl/../etl/my_dag.py:Order.Line",
        "./my_dag.py:Order.Line",
        "my_dag:Order.Line",
        "json:JSONDecoder",
        "pytest:Item",
        "unloaded:Order",
        ":Order",
        "",
        "..:Order",
    ],
)
def test_a_name_that_is_made_up_leads_nowhere(load: Load, name: str) -> None:
    """No attribute is followed into another module, no code of a module is run, nothing is imported."""
    load("dags")
    modules = set(sys.modules)
    with pytest.raises(DecodeError, match="may not be rebuilt"):
        decoded(forged(name))
    assert set(sys.modules) - modules <= {"airflow.sdk.serde", *(m for m in sys.modules if m.startswith("airflow."))}


@pytest.mark.parametrize("name", ["airflow.configuration:ConfigParser", "airflow.configuration:os.PathLike"])
def test_what_an_allowed_package_imports_is_not_allowed_with_it(name: str) -> None:
    """By default ``airflow.*`` is: not every class of every module that Airflow itself imports."""
    with pytest.raises(DecodeError, match="no class"):
        AirflowClasses().class_of(name)
    assert AirflowClasses().class_of("airflow.configuration:AirflowConfigParser") is not None


def test_an_environment_within_the_folder_is_not_of_the_dag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed packages stay under the allow-list, wherever they are."""
    module = ModuleType("unusual_prefix_0_my_dag")
    module.__file__ = str(Path(sys.prefix).parent / "my_dag.py")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(DecodeError, match="may not be rebuilt"):
        decoded(forged("_pytest.nodes:Item"))


def test_neither_are_packages_of_the_user(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose home may be the folder of the Dags."""
    packages = str(Path(load("home").helpers.__file__).parent)
    monkeypatch.setattr(site, "getusersitepackages", lambda: packages)
    with pytest.raises(DecodeError, match="may not be rebuilt"):
        decoded(forged("helpers:Order"))


def test_a_push_warns_once_of_what_a_pull_would_refuse(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    """All such classes in one line; none that the Dag's tasks get back, and none before one is stored."""
    module = load("dags")
    strangers = import_module("tests.unit.golden_classes")
    classes = AirflowClasses()
    registry = Registry(classes=classes)
    with caplog.at_level(logging.WARNING):
        registry.encode([order(module)])
        registry.encode([strangers.Order("a", None), strangers.Colour.RED], for_digest=True)
        classes.warn()
        assert not caplog.records
        for _ in range(2):
            registry.encode([strangers.Order("a", None), strangers.Colour.RED])
            classes.warn()
    (record,) = caplog.records
    assert "tests.unit.golden_classes.Order" in record.getMessage()
    assert "tests.unit.golden_classes.Colour" in record.getMessage()


def test_a_message_names_no_more_than_a_few_of_many() -> None:
    """Whoever wrote the payload does not decide how long a message gets."""
    tree = Registry(classes=AirflowClasses()).tree
    many = [["object", {}, tree.pack(["enum", f"module:Class{n}", ["A", None]])] for n in range(1000)]
    payload = ormsgpack.packb([ormsgpack.Ext(0, ormsgpack.packb(one)) for one in many])
    with pytest.raises(DecodeError, match="and 30 more") as caught:
        decoded(("msgpack", payload, {}))
    assert len(str(caught.value)) < 2_000


def test_a_regular_expression_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the setting that holds it, and as one of our errors."""
    monkeypatch.setenv("AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES_REGEXP", "*.models")
    with pytest.raises(ConfigurationError, match=r"\[core\] allowed_deserialization_classes_regexp is not"):
        AirflowClasses().class_of("package.models:Order")
