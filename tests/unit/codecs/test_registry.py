"""Codecs of other packages: found by entry point, and named where they are missing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from xcargo.codecs import Registry
from xcargo.codecs.base import contiguous
from xcargo.errors import MissingDependencyError, XCargoError

MODULE = """
from xcargo.codecs import Encoded

class Money:
    def __init__(self, cents): self.cents = cents
    def __eq__(self, other): return self.cents == other.cents

class MoneyCodec:
    id = "money"
    PARAMS = {"currency": "EUR"}
    def accepts(self, value): return type(value) is Money
    def encode(self, value):
        return Encoded(self.id, (str(value.cents).encode() * PIECES,), self.PARAMS)
    def decode(self, payload, params):
        assert params == self.PARAMS, params
        return Money(int(bytes(payload)[: len(payload) // PIECES]))

class Streaming(MoneyCodec):
    def encode(self, value):
        params = dict(self.PARAMS, late="?")
        def parts():
            yield str(value.cents).encode() * PIECES
            del params["late"]
        return Encoded(self.id, parts(), params)

PIECES = 1
"""


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of an installed package with a codec."""
    (tmp_path / "acme_money.py").write_text(MODULE)
    _install(tmp_path, "money = acme_money:MoneyCodec")
    monkeypatch.syspath_prepend(tmp_path)
    yield __import__("acme_money")
    del sys.modules["acme_money"]


def _install(folder: Path, point: str) -> None:
    info = folder / "acme_money-1.2.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-money\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[xcargo.codecs]\n{point}\n")


def _without(package: Path) -> Registry:
    """The codecs of a process that has not got the package."""
    (package / "acme_money-1.2.dist-info" / "entry_points.txt").unlink()
    return Registry()


@pytest.mark.parametrize("point", ["acme_money:MoneyCodec", "acme_money:Streaming"])
@pytest.mark.parametrize("pieces", [1, 50_000])
@pytest.mark.parametrize("nested", [False, True])
def test_a_value_names_the_package_that_wrote_it(
    acme: Any, tmp_path: Path, point: str, pieces: int, nested: bool
) -> None:
    """Read where it is installed, and named where it is not: alone, inside a value, and as a part of one."""
    _install(tmp_path, f"money = {point}")
    acme.PIECES = pieces
    value = {"a": [acme.Money(7)]} if nested else acme.Money(7)
    encoded = Registry().encode(value)
    payload = bytes(contiguous(encoded))
    assert Registry().decode(encoded.codec, payload, dict(encoded.params)) == value
    with pytest.raises(MissingDependencyError, match="'money' of the package acme-money, which") as caught:
        _without(tmp_path).decode(encoded.codec, payload, dict(encoded.params))
    assert "pip install acme-money" in str(caught.value)
    assert acme.MoneyCodec.PARAMS == {"currency": "EUR"}  # which is its own, and not ours to fill


@pytest.mark.parametrize("package", [None, 7, "acme; rm -rf", "-r /etc/x", "x" * 200])
def test_a_forged_name_is_no_advice(package: Any) -> None:
    """What is no name of a package is not shown as one to install."""
    with pytest.raises(MissingDependencyError, match=r"'money', which xcargo .* does not have") as caught:
        Registry(entry_points=False).decode("money", b"7", {"xcargo:package": package})
    assert str(caught.value).partition("pip install")[2] == " --upgrade airflow-provider-xcargo on this worker."


def test_a_codec_that_does_not_load_is_an_error(acme: Any, tmp_path: Path) -> None:
    """A broken package is named, not skipped."""
    _install(tmp_path, "money = acme_money:Absent")
    with pytest.raises(MissingDependencyError, match="The codec 'money'"):
        Registry().encode(acme.Money(7))
    _install(tmp_path, "money = acme_money:PIECES")
    with pytest.raises(XCargoError, match="does not follow the codec protocol"):
        Registry().encode(acme.Money(7))
