"""Damaged and forged payloads of every codec: a value, or an error of ours, and never more memory than they warrant."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from importlib.abc import MetaPathFinder
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import ALLOWED, TARGETS

SEEDS = {name: list(target.seeds()) for name, target in TARGETS.items()}


@st.composite
def mutations(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A real payload with some bytes changed, a piece left out, or a piece said twice."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(1, max(1, len(data) - 1)))
        kind = draw(st.sampled_from("flip cut repeat number".split()))
        if kind == "flip" and at < len(data):
            data[at] ^= draw(st.integers(1, 255))
        elif kind == "cut":
            del data[at : at + draw(st.integers(1, 16))]
        elif kind == "repeat":
            data[at:at] = data[at : at + draw(st.integers(1, 64))]
        else:
            data[at : at + 8] = draw(st.sampled_from([2**31 - 1, 2**60, 2**63 - 1, 2**64 - 1])).to_bytes(8, "little")
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_payloads_raise_only_what_a_decoder_may(name: str) -> None:
    """For each decoder, of real payloads."""

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(mutations(SEEDS[name]))
    def check(data: bytes) -> Any:
        try:
            TARGETS[name].run(data)
        except ALLOWED:
            pass
        except ValueError as error:
            if type(error).__name__ not in ("JSONDecodeError", "UnicodeDecodeError"):  # text that is no JSON
                raise

    check()


class ImportWatch(MetaPathFinder):
    """Sees what is imported, and finds nothing."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        self.names.append(fullname)


@pytest.mark.parametrize("name", TARGETS)
def test_no_name_in_a_payload_is_imported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each word of real payloads is replaced in turn by one that would be seen."""
    watch = ImportWatch()
    monkeypatch.setattr(sys, "meta_path", [watch, *sys.meta_path])
    for seed in SEEDS[name]:
        for word in re.finditer(rb"[A-Za-z_][\w.:-]{2,}", seed[1:]):
            forged = seed[: word.start() + 1] + b"z" * len(word[0]) + seed[word.end() + 1 :]
            with suppress(*ALLOWED, ValueError):
                TARGETS[name].run(forged)
    forged_names = [imported for imported in watch.names if "zzz" in imported]
    assert not [name for name in forged_names if not name.startswith("tzdata.zoneinfo.")]  # where zoneinfo looks


@pytest.mark.parametrize("name", TARGETS)
def test_real_payloads_are_read(name: str) -> None:
    """What the mutations start from is sound."""
    for seed in SEEDS[name]:
        TARGETS[name].run(seed)
