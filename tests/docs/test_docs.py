"""What users and contributors read says what the code does."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import json
import os
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import xcargo
from tests.roundtrips import examples as roundtrips
from tests.roundtrips import table
from tests.roundtrips.probe import NOT_THERE
from xcargo import errors
from xcargo.airflow.provider_info import OPTIONS
from xcargo.model.envelope import Envelope
from xcargo.model.root import ALIASES, Root
from xcargo.model.settings import LegacyRoot
from xcargo.stores.base import Limits
from xcargo.stores.object_store import ObstoreRequests
from xcargo.transfer.compression import SUFFIXES, canonical

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "changes" / "README.md"])
USER_PAGES = [page for page in PAGES if page.parent in (ROOT, DOCS)]

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)^ *```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def name_of(page: Path) -> str:
    """The page's path, to show."""
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    """The whole page."""
    return page.read_text("utf-8")


def blocks(*languages: str) -> list[Block]:
    """Every fenced block in one of these languages."""
    found = []
    for page in PAGES:
        text = text_of(page)
        for match in FENCE.finditer(text):
            if match["language"] in languages:
                line = text.count("\n", 0, match.start()) + 1
                found.append(Block(page, line, match["language"], textwrap.dedent(match["body"])))
    return found


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", text_of(page))


def section(page: Path, heading: str) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    text = prose(page)
    start = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert start, f"{name_of(page)} has no heading {heading!r}"
    end = re.compile(rf"^#{{1,{len(start[1])}}} ", re.MULTILINE).search(text, start.end())
    return text[start.end() : end.start() if end else None]


def rows(text: str) -> list[list[str]]:
    """The rows of all tables in a text, without their heads."""
    table = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line.startswith("|")]
    rules = {n for n, row in enumerate(table) if set("".join(row)) == {"-"}}
    return [row for n, row in enumerate(table) if n not in rules and n + 1 not in rules]


def codes(text: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", text)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the headings of a page."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return set(found) | {f"{slug}-{n}" for slug, last in found.items() for n in range(1, last + 1)}


def links(page: Path) -> list[str]:
    """Targets of links and images that point into this repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


# --- pages -----------------------------------------------------------------------------------------------------------


def test_there_are_pages_to_check() -> None:
    """The tests below look at something."""
    assert len(PAGES) > 15
    assert sum(len(blocks(language)) for language in ("bash", "python", "json")) > 30


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_module_that_a_page_names_exists(page: Path) -> None:
    """By its path in the checkout, or below the source."""
    for path in re.findall(r"`([\w/.-]+/[\w-]+\.py)`", prose(page)):
        assert any((base / path).is_file() for base in (ROOT, ROOT / "src" / "xcargo")), f"{name_of(page)}: {path}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_and_anchor_resolves(page: Path) -> None:
    """A link or picture leads to a file of this repository, an anchor to a heading of it."""
    for target in links(page):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{name_of(page)} links to {target}"
        if anchor:
            assert anchor in anchors(there), f"{name_of(page)} links to {target}"


def test_every_page_is_reachable_from_the_index() -> None:
    """docs/index.md is the map of all pages."""
    index = {(DOCS / target.partition("#")[0]).resolve() for target in links(DOCS / "index.md")}
    assert {page for page in PAGES if page.is_relative_to(DOCS)} - index == {DOCS / "index.md"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_lists_are_read_alike_everywhere(page: Path) -> None:
    """What belongs to a list item is indented by four columns: GitHub takes less, the site's builder does not."""
    outside = FENCE.sub(lambda block: f"{block['indent']}-\n", text_of(page))
    short = [line for line in outside.splitlines() if re.match(r" {1,3}\S| {5,7}\S", line)]
    assert short == [], name_of(page)
    lost = re.findall(r"\n {4,}\w[^\n]*\n\d+\. [^\n]*", outside)
    assert lost == [], f"{name_of(page)}: an empty line belongs between a paragraph in a list and the next item"


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles(block: Block) -> None:
    """Each Python example is Python."""
    compile(ast.parse(block.text), str(block), "exec")


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_parses(block: Block) -> None:
    """Each JSON example is JSON."""
    json.loads(block.text)


def test_make_targets_exist() -> None:
    """Every `make` target that a page names is one."""
    targets = set(re.findall(r"^([a-z0-9-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    for page in PAGES:
        for code in codes(prose(page)) + [block.text for block in blocks("bash") if block.page == page]:
            named = set(re.findall(r"^make ([a-z0-9-]+)", code, re.MULTILINE))
            assert named <= targets, f"{name_of(page)}: {named - targets}"


def test_extras_exist() -> None:
    """Every extra in an install command is one."""
    extras = set(importlib.metadata.metadata("airflow-provider-xcargo").get_all("Provides-Extra") or ())
    named = {extra for page in PAGES for extra in re.findall(r"airflow-provider-xcargo\[(\w+)\]", text_of(page))}
    assert named
    assert named <= extras


# --- settings --------------------------------------------------------------------------------------------------------


def test_the_settings_page_is_fresh() -> None:
    """docs/settings.md holds what docs/generate_settings.py writes."""
    assert_fresh("generate_settings")


def test_every_variable_is_an_option() -> None:
    """No page names a variable of ours that would be refused."""
    for page in PAGES:
        for name in re.findall(r"AIRFLOW__XCARGO__([A-Z_]+)", text_of(page)):
            option = name.lower()
            if OPTIONS.get(re.sub("_(cmd|secret)$", "", option), {}).get("sensitive"):
                continue
            assert option in OPTIONS, f"{name_of(page)}: AIRFLOW__XCARGO__{name}"


def test_compressions_are_those_of_the_code() -> None:
    """The table has every algorithm, and each name in it means the one in its row."""
    table = rows(section(DOCS / "how-it-works.md", "Compression"))
    assert {codes(row[0])[0] for row in table} == set(SUFFIXES)
    for name, aliases in table:
        assert {canonical(alias) for alias in codes(aliases)} <= {codes(name)[0]}
    for page in PAGES:
        for value in re.findall(r"AIRFLOW__XCARGO__COMPRESSION=(\w+)", text_of(page)):
            canonical(value)


def test_schemes_are_those_of_the_code() -> None:
    """The table has every alias of a scheme, in the row of what it means."""
    table = rows(section(DOCS / "connections.md", "Schemes"))
    written = {alias: codes(row[0])[0] for row in table for alias in codes(row[1])}
    assert written == ALIASES


def test_url_schemes_are_known() -> None:
    """Every storage URL in a page has a scheme that is explained."""
    known = {*ALIASES, *ALIASES.values(), "memory", "http", "https"}
    known |= {f"xcom_{cloud}" for cloud in ("s3", "gcs", "wasb", "minio")}  # prefixes of hand-written backends
    for page in PAGES:
        found = set(re.findall(r"\b([a-z][a-z0-9_]*)://", text_of(page)))
        assert found - {"scheme"} <= known, f"{name_of(page)}: {found - known}"


# --- connections -----------------------------------------------------------------------------------------------------


def assert_fresh(generator: str) -> None:
    """A page is what the script beside it, which generates it, would write today."""
    spec = importlib.util.spec_from_file_location(generator, DOCS / f"{generator}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    current = text_of(module.PAGE)
    assert module.page(current) == current, f"run: .venv/bin/python docs/{generator}.py"


def examples() -> list[Block]:
    """Blocks that define a connection."""
    return [block for block in blocks("bash") if "AIRFLOW_CONN_" in block.text]


def urls(text: str) -> list[str]:
    """Storage URLs that variables of a block are set to."""
    found = []
    for name, value in re.findall(r"^(AIRFLOW__\w+)=(\S+)$", text, re.MULTILINE):
        if name.endswith(("__PATH", "_PATHS", "_REFERENCES")):
            found += [item.rpartition("=")[2] for item in value.split(",")]
    return found


@pytest.fixture(scope="module")
def pem() -> str:
    """A private key, for a place where a page says that one belongs."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    return (
        rsa.generate_private_key(65537, 2048)
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pem: str) -> Callable[[str], str]:
    """Puts something of the right form where a page has a placeholder. Nothing of a cloud is around."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_", "CLOUDSDK_", "IDENTITY_", "MSI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    key = {"type": "service_account", "client_email": "a@b.example", "private_key_id": "1", "private_key": pem}
    (tmp_path / "key.json").write_text(json.dumps(key))

    def fill(text: str) -> str:
        for placeholder, value in (
            ("/path/to/key.json", str(tmp_path / "key.json")),
            ("PRIVATE_KEY_PEM", json.dumps(pem)[1:-1]),
            ("ACCOUNT_NAME", "myaccount"),
            ("ACCOUNT_KEY", "a2V5"),
            ("MINIO_IP", "127.0.0.1"),
        ):
            text = text.replace(placeholder, value)
        return text

    return fill


@pytest.mark.parametrize("block", examples(), ids=str)
def test_connections_open_a_store(block: Block, filled: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example, read by Airflow itself, gives a client for every URL beside it. No request is made."""
    sdk = pytest.importorskip("airflow.sdk")
    from xcargo.airflow.connections import access_of

    described = dict(re.findall(r"^(AIRFLOW_CONN_\w+)='(.*)'$", block.text, re.MULTILINE))
    assert described
    assert len(described) == block.text.count("AIRFLOW_CONN_"), "one line each, in single quotes"
    for name, text in described.items():
        json.loads(text)
        monkeypatch.setenv(name, filled(text))
    roots = [Root.parse(url) for url in urls(block.text)]
    used = {f"AIRFLOW_CONN_{(root.connection_id or '').upper()}" for root in roots}
    assert used == set(described), "a connection and the URL that names it stand side by side"
    for root in roots:
        access = access_of(root, sdk.Connection.get)
        assert ObstoreRequests(root, access, Limits()).client("request") is not None


def test_every_path_is_a_root() -> None:
    """Every value of `path`, `read_paths` and `legacy_references` in a page is accepted."""
    checked = 0
    for block in blocks("bash"):
        for value in re.findall(r"^AIRFLOW__XCARGO__(?:PATH|READ_PATHS)=(\S+)$", block.text, re.MULTILINE):
            checked += len([Root.parse(url) for url in value.split(",")])
        for value in re.findall(r"^AIRFLOW__XCARGO__LEGACY_REFERENCES=(\S+)$", block.text, re.MULTILINE):
            checked += len([LegacyRoot.parse(item) for item in value.split(",")])
    for row in rows(section(DOCS / "migration.md", "From a hand-written backend")):
        prefix, legacy = codes(row[0])[-1], LegacyRoot.parse(codes(row[1])[0])
        assert legacy.prefix == prefix
        checked += 1
    assert checked > 12


# --- errors and names ------------------------------------------------------------------------------------------------


def test_every_error_is_documented() -> None:
    """Each class has a heading of its own that gives its kind and its built-in base."""
    page = DOCS / "errors.md"
    headings = set(re.findall(r"^### (\w+)$", prose(page), re.MULTILINE))
    assert headings == set(errors.__all__)
    tree = next(block.text for block in blocks("text") if block.page == page and "├" in block.text)
    for name in errors.__all__:
        cls = getattr(errors, name)
        if not issubclass(cls, errors.XCargoError):
            continue
        builtin = next((base for base in cls.__bases__ if base.__module__ == "builtins"), Exception)
        shown = re.search(rf"\b{name}(?: \((\w+)\))?$", tree, re.MULTILINE)
        assert shown, name
        assert shown[1] == (None if builtin is Exception else builtin.__name__), name
        if "kind" in vars(cls) and cls is not errors.XCargoError:
            assert f"Kind `{cls.kind}`" in section(page, name)


def test_every_kind_is_documented() -> None:
    """The words of ErrorKind are all listed."""
    assert set(codes(section(DOCS / "errors.md", "ErrorKind"))) == {str(kind) for kind in errors.ErrorKind}


@pytest.mark.parametrize("name", xcargo.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    """What the package exports is named in a page for users."""
    assert any(re.search(rf"\b{name}\b", text_of(page)) for page in USER_PAGES)


def test_every_field_of_the_envelope_is_documented() -> None:
    """The table has the marker and every field, and the example beside it is a valid envelope."""
    page = DOCS / "how-it-works.md"
    table = rows(section(page, "The envelope"))
    assert [codes(row[0])[0] for row in table][:1] == ["__id__"]
    assert {codes(row[0])[0] for row in table[1:]} == set(Envelope.__dataclass_fields__)
    example = next(json.loads(block.text) for block in blocks("json") if block.page == page)
    envelope = Envelope.from_row(example)
    assert Root.parse("s3://my_aws_conn@my-bucket/xcom").contains(envelope.uri or "")


def test_the_stored_format_is_documented_in_full() -> None:
    """Every codec, every extension number and every compression has its row in the page of the format."""
    from xcargo.airflow.classes import AirflowClasses
    from xcargo.airflow.serde_codec import SerdeCodec
    from xcargo.codecs import Registry
    from xcargo.codecs.builtin import Tag
    from xcargo.codecs.objects import PickleCodec

    page = DOCS / "format.md"
    ours = Registry(
        classes=AirflowClasses(),
        fallbacks=[SerdeCodec],
        last_resort=partial(PickleCodec, allowed=True),
        entry_points=False,
    )
    documented = {codes(row[0])[0] for row in rows(section(page, "Codecs")) if codes(row[0])}
    assert documented == {codec.id for codec in ours.codecs}
    numbers = [int(number) for row in rows(section(page, "Nested values")) for number in re.findall(r"\d+", row[0])]
    assert sorted(numbers) == sorted(number for name, number in vars(Tag).items() if name.isupper())
    assert {codes(row[0])[0] for row in rows(section(page, "Compression"))} == set(SUFFIXES)


def test_the_sizes_of_the_dags_objects_are_right() -> None:
    """Sizes that README and tutorial give for the two objects of the Dag are right, and on the right side."""
    from xcargo.model.settings import Settings

    objects = ({"a": 23}, {f"key{i}": "x" * 100 for i in range(100)})
    small, big = (len(json.dumps(value, separators=(",", ":"))) for value in objects)
    assert small <= Settings.threshold_bytes < big
    assert f"{big:,} bytes" in text_of(ROOT / "README.md")
    assert f"{Settings.threshold_bytes:,} bytes" in text_of(ROOT / "README.md")
    assert f"has {small} bytes" in text_of(DOCS / "tutorial.md")
    assert f"has {big:,}" in text_of(DOCS / "tutorial.md")


# --- types -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the examples of docs/types.md are written with."""
    return roundtrips.names()


def there_and_back(value: Any) -> Any:
    """The value after encoding and decoding, with the codecs that the backend uses."""
    from xcargo.airflow.classes import AirflowClasses
    from xcargo.airflow.serde_codec import SerdeCodec
    from xcargo.codecs import Registry
    from xcargo.codecs.base import contiguous

    registry = Registry(classes=AirflowClasses(), fallbacks=[SerdeCodec], entry_points=False)
    encoded = registry.encode(value)
    payload = bytes(contiguous(encoded))
    return registry.decode(encoded.codec, payload, json.loads(json.dumps(dict(encoded.params))))


def test_the_tables_of_round_trips_are_fresh() -> None:
    """docs/types.md holds what the probes found, of every type and release, and xcargo gives every one back."""
    for version, found in table.results().items():
        assert list(found) == list(roundtrips.examples()), f"{version}: run: make roundtrips"
        for kind, outcomes in found.items():
            assert set(outcomes["xcargo"].values()) in ({"exact"}, {NOT_THERE}), f"{version}: {kind}"
            assert outcomes["common_io"].keys() == outcomes["xcargo"].keys()
    current = text_of(roundtrips.PAGE)
    assert table.page(current) == current, "run: .venv/bin/python -m tests.roundtrips tables"


# --- changelog -------------------------------------------------------------------------------------------------------


def test_fragments_have_names_that_are_gathered() -> None:
    """A fragment with a misspelt kind would be missing from the changelog."""
    config = text_of(ROOT / "pyproject.toml").partition("[tool.towncrier]")[2]
    kinds = re.findall(r'directory = "(\w+)", name', config)
    assert kinds
    for path in (ROOT / "changes").iterdir():
        if path.name != "README.md":
            assert re.fullmatch(rf"(\+[a-z0-9-]+|\d+)\.({'|'.join(kinds)})\.md", path.name), path.name
            assert path.read_text("utf-8").strip()
    assert "<!-- towncrier release notes start -->" in text_of(ROOT / "CHANGELOG.md")


def test_the_page_of_faults_shows_every_cell_of_the_matrix_and_none_is_red() -> None:
    """It is written by a run of them all."""
    from tests.faults.cells import FAULTS_OF, cells

    page = (DOCS / "faults.md").read_text("utf-8")
    assert f"{len(cells())} cells, 0 red." in page
    assert "**red**:" not in page
    for name in {fault.name for faults in FAULTS_OF.values() for fault in faults}:
        assert f"| {name} |" in page


@pytest.mark.parametrize("page", ["guarantees.md", "security.md"])
def test_each_guarantee_and_each_attempt_names_a_test_that_there_is(page: str) -> None:
    """By file and function, and each of them has one."""
    text = (DOCS / page).read_text("utf-8")
    if page == "security.md":
        text = text.partition("\n## Attempts\n")[2].partition("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.endswith("| Proved by |")]
    assert len(rows) > 20
    for row in rows:
        found = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert found, row
        for file, function in found:
            assert f"def {function}(" in (ROOT / file).read_text("utf-8"), row
