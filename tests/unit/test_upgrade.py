"""Two releases of xcargo at once, as while workers are upgraded one by one: each in processes of its own.

The older one is the package as it is. The newer one is the package with what a next release would bring: ``NEWS``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import xcargo

NEWER = "9.0.0"
NEWS: dict[str, dict[str, str]] = {
    "model/version.py": {f'__version__ = "{xcargo.__version__}"': f'__version__ = "{NEWER}"'},
    # A field of routes.
    "airflow/provider_info.py": {
        '    "fsync": {': '    "linger_seconds": {"description": "", "type": "float", "example": "1"},\n    "fsync": {'
    },
    "model/settings.py": {
        "    max_size_bytes: int | None": "    linger_seconds: int | None = None\n    max_size_bytes: int | None",
        '(("threshold_bytes",': '(("threshold_bytes", "linger_seconds",',
    },
    # A codec; a type inside nested values, and a number of a type that there is.
    "codecs/registry.py": {"_OWN = {": '_OWN = {"template": ("template", "TemplateCodec", "string"),'},
    "codecs/builtin.py": {
        "    tuple: (Tag.TUPLE, list),": "    tuple: (Tag.TUPLE, list), type(NotImplemented): (99, lambda _: None),",
        "    Tag.TUPLE: tuple,": "    Tag.TUPLE: tuple, 99: lambda _: NotImplemented,",
        "complex, Decimal, Fraction),": "complex, Decimal, Fraction), range,",
    },
    # A compression, an encryption, a signature.
    "transfer/compression.py": {
        '"zip": ".zip",': '"zip": ".zip", "zlib": ".zz",',
        '    """Compress with a canonical algorithm. One copy of the compressed size."""': (
            '    if name == "zlib": return __import__("zlib").compress(data)'
        ),
        '    if name == "zstd":\n        return _zstd_decompress(data, size_bytes)': (
            '    if name == "zlib": return __import__("zlib").decompress(data)\n'
            '    if name == "zstd": return _zstd_decompress(data, size_bytes)'
        ),
    },
    "transfer/encryption.py": {
        '_ALGORITHM = "aes-256-gcm"': '_ALGORITHM = "aes-256-gcm-siv"',
        "!= _ALGORITHM": 'not in (_ALGORITHM, "aes-256-gcm")',
    },
    "model/keys.py": {"hmac-sha256:{": "hmac-sha512:{", '!= "hmac-sha256"': '!= "hmac-sha512"'},
    # A field of the envelope; and a form of it that a reader must not take for the present one.
    "model/envelope.py": {
        '    "created_by",\n': '    "created_by", "rows",\n',
        '    "size_bytes": int,': '    "size_bytes": int, "rows": int,',
        "    dag: str | None = None": "    rows: int | None = 7\n    dag: str | None = None",
        'FORMAT}/{VERSION}"': "FORMAT}/{2 if self.type == 'range' else VERSION}\"",
        "version != str(VERSION)": 'version not in ("1", "2")',
    },
}
"""What the next release brings: file -> text -> what replaces it."""
TEMPLATE = """
import string
from xcargo.codecs.base import Encoded
class TemplateCodec:
    id = "template"
    def accepts(self, value): return type(value) is string.Template
    def encode(self, value): return Encoded(self.id, (value.template.encode(),))
    def decode(self, payload, params): return string.Template(bytes(payload).decode())
"""
CHILD = """
import json, logging, string, sys
from collections import defaultdict
from xcargo.codecs import Registry
from xcargo.lifecycle.references import XComRow, reference_in
from xcargo.model.coordinate import Coordinate
from xcargo.model.envelope import is_envelope
from xcargo.model.keys import parse_keys
from xcargo.model.root import Root
from xcargo.model.settings import Settings, parse_routes
from xcargo.pipeline.pipeline import Pipeline
from xcargo.stores import Access, StorePool

logging.basicConfig(level=logging.WARNING)
values = {
    "plain": {"b": 1, "a": [None]}, "field": (1, {2}), "object": [(n, str(n)) for n in range(900)],
    "compressed": b"again " * 900, "sealed": b"x" * 900, "chunks": bytes(range(256)) * 9000,
    "codec": string.Template("$a"), "tag": [NotImplemented], "number": defaultdict(range), "version": range(5),
}

def pipeline(path, encryption_keys, signing_key, routes, compression):
    keys, signing = parse_keys(encryption_keys), parse_keys(signing_key)
    more = {"signing_keys": signing, "routes": parse_routes(routes)}
    settings = Settings(Root.parse(path), 100, compression, encryption_keys=keys, **more)
    return Pipeline(settings, Registry(entry_points=False), StorePool(lambda _: Access()))

def shown(value):
    return f"{type(value).__name__} {getattr(value, 'template', value)!r}"[:200]

def attempt(work):
    try:
        return work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"

options, rows = json.load(sys.stdin)
at = lambda name: Coordinate("d", "r", name, "return_value")
if rows is None:
    print(json.dumps({n: attempt(lambda: pipeline(**options).push(v, at(n))) for n, v in values.items()}))
else:
    pull = lambda row: pipeline(**options).pull(row) if is_envelope(row) else row
    print(json.dumps({
        "values": {n: attempt(lambda: shown(pull(row))) for n, row in rows.items()},
        "expected": {n: shown(values[n]) for n in rows},
        "references": [n for n, row in rows.items() if reference_in(XComRow(at(n), row, "xcom"))],
    }))
"""
KEY = "kTtQGSAbZ3CA/hzxlPpNvN1g+AX0Jf8ZqUoBxbNH7ck="
NEW_FORMS = {"codec": "'template'", "tag": "extension 99", "number": "Extension 28", "version": "version 2"}
NEW_FORMS |= {"compressed": "'zlib'", "sealed": "encrypted in a way"}


class Releases:
    """The older and the newer release, and processes of them that share a store, keys and routes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.paths = {"older": Path(xcargo.__file__).parents[1], "newer": folder / "newer"}
        shutil.copytree(self.paths["older"] / "xcargo", self.paths["newer"] / "xcargo")
        for name, changes in NEWS.items():
            self._change(self.paths["newer"] / "xcargo" / name, changes)
        (self.paths["newer"] / "xcargo/codecs/template.py").write_text(TEMPLATE)

    @staticmethod
    def _change(path: Path, changes: dict[str, str]) -> None:
        text = path.read_text()
        for old, new in changes.items():
            assert text.count(old) == 1, (path, old)
            text = text.replace(old, new)
        path.write_text(text)

    def push(self, release: str, **options: str) -> Any:
        """The rows of all values, or the errors."""
        return self._run(release, None, options)[0]

    def pull(self, release: str, rows: Any, **options: str) -> tuple[Any, str]:
        """What a release makes of rows, and its log."""
        return self._run(release, rows, options)

    def _run(self, release: str, rows: Any, options: dict[str, str]) -> tuple[Any, str]:
        routes = [
            {"name": "sealed", "task": "sealed", "encryption_key": "k", "linger_seconds": 1},
            {"name": "compressed", "task": "compressed", "compression": options.pop("compression", "zstd")},
        ]
        path = (self._folder / "objects").as_uri()
        settings = {"path": path, "encryption_keys": f"k={KEY}", "signing_key": "", "compression": "zstd"}
        done = subprocess.run(
            [sys.executable, "-c", CHILD],
            env={**os.environ, "PYTHONPATH": str(self.paths[release])},
            input=json.dumps([settings | {"routes": json.dumps(routes)} | options, rows]),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Releases:
    return Releases(tmp_path_factory.mktemp("releases"))


def test_an_older_worker_reads_what_it_can_of_newer_rows_and_says_what_to_upgrade(releases: Releases) -> None:
    """What it cannot read is never a wrong value, and names both releases. A sweep by it knows every object."""
    rows = releases.push("newer", compression="zlib")
    pulled, log = releases.pull("older", rows)
    assert rows["field"]["rows"] == 7
    for name, shown in pulled["values"].items():
        if name not in NEW_FORMS:
            assert shown == pulled["expected"][name]
            continue
        assert NEW_FORMS[name] in shown
        assert f"xcargo {NEWER} stored it, and this is xcargo {xcargo.__version__}" in shown
        assert f"pip install 'airflow-provider-xcargo>={NEWER}'" in shown
    assert pulled["references"] == [name for name, row in rows.items() if "uri" in row]
    assert log.count("ignores the field 'linger_seconds' of route 'sealed'") == 1


def test_a_newer_worker_reads_everything_that_an_older_one_writes(releases: Releases) -> None:
    """What the older one has no codec for fails there, or is stored as what it equals."""
    rows = releases.push("older")
    refused = [name for name, row in rows.items() if isinstance(row, str)]
    assert refused == ["codec", "tag"]
    pulled, log = releases.pull("newer", {name: row for name, row in rows.items() if name not in refused})
    assert pulled["values"] == pulled["expected"] | {"number": "dict {}"}
    assert log == ""


def test_a_newer_signature_and_a_compression_that_is_set_are_errors_too(releases: Releases) -> None:
    """The one names both releases, the other one what this release knows."""
    rows = releases.push("newer", signing_key=KEY)
    pulled, _ = releases.pull("older", {"field": rows["field"]}, signing_key=KEY)
    assert "signed in a way" in pulled["values"]["field"]
    assert f"xcargo {NEWER} stored it" in pulled["values"]["field"]
    assert f"xcargo {xcargo.__version__} knows" in releases.push("older", compression="zlib")["field"]
