"""Pickles: off unless allowed, last among the codecs, refused where they are not allowed."""

from __future__ import annotations

import datetime as dt
import threading
from functools import partial
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from xcargo.airflow.serde_codec import SerdeCodec
from xcargo.codecs import Registry
from xcargo.codecs.base import Encoded, contiguous
from xcargo.codecs.files import Directory, File
from xcargo.codecs.objects import PickleCodec
from xcargo.errors import DecodeError, MissingDependencyError, UnsupportedTypeError
from xcargo.model.settings import Settings


def registry(*, allowed: bool) -> Registry:
    return Registry(fallbacks=[SerdeCodec], last_resort=partial(PickleCodec, allowed=allowed), entry_points=False)


def round_trip(value: Any) -> Any:
    encoded = registry(allowed=True).encode(value)
    return registry(allowed=True).decode(encoded.codec, contiguous(encoded), encoded.params)


class Text(str):
    __slots__ = ()


def test_nothing_is_pickled_unless_allowed() -> None:
    """By default an unknown value is refused."""
    with pytest.raises(UnsupportedTypeError, match="Neither xcargo nor Airflow"):
        registry(allowed=False).encode(Text("a"), Settings(root=None, strict_types=True))


def test_what_nothing_else_takes_is_pickled() -> None:
    """Alone and nested; functions too."""
    back = round_trip({"a": [Text("a"), lambda n: n + 1]})
    assert type(back["a"][0]) is Text
    assert back["a"][1](1) == 2


class Picky:
    """A codec for ASCII texts of class Text."""

    id = "picky"

    def accepts(self, value: object) -> bool:
        return type(value) is Text

    def encode(self, value: Any) -> Encoded:
        if not value.isascii():
            raise UnsupportedTypeError("It is not ASCII")
        return Encoded(self.id, (value.encode(),))

    def decode(self, payload: Any, params: Any) -> Text:
        return Text(bytes(payload).decode())


def test_what_another_codec_refuses_is_pickled() -> None:
    """The codec that a value's class belongs to comes first, but has not the last word."""
    codecs = Registry(fallbacks=[Picky], last_resort=partial(PickleCodec, allowed=True), entry_points=False)
    assert codecs.encode(Text("a")).codec == "picky"
    assert codecs.encode(Text("ä")).codec == "pickle"
    assert round_trip(Text("ä")) == Text("ä")


def test_what_others_take_is_not_pickled() -> None:
    """Allowing pickles changes nothing for the values that had a codec."""
    for value in ({"a": (1, 2)}, np.arange(3), dt.date(2026, 1, 1), [b"x"]):
        assert registry(allowed=True).encode(value) == registry(allowed=False).encode(value)


def test_a_pickle_is_not_read_unless_allowed() -> None:
    """Neither alone nor inside a value; its code does not run, and the error names the setting."""
    ran: list[int] = []

    class Bomb:
        def __reduce__(self) -> Any:
            return (ran.append, (1,))

    for value in (Bomb(), {"a": [Bomb()]}):
        encoded = registry(allowed=True).encode(value)
        with pytest.raises(DecodeError, match="AIRFLOW__XCARGO__ALLOW_PICKLE=True"):
            registry(allowed=False).decode(encoded.codec, contiguous(encoded), encoded.params)
    assert ran == []


def test_what_cannot_be_pickled_is_refused_as_before() -> None:
    """With the error of the codec that was asked first."""
    with pytest.raises(UnsupportedTypeError, match="Neither xcargo nor Airflow"):
        round_trip(threading.Lock())


class Box:
    """A class that no codec takes."""

    def __init__(self, content: Any) -> None:
        self.content = content


@pytest.mark.parametrize(
    "content", [SecretStr("hush"), File(__file__), Directory(".")], ids=["secret", "file", "folder"]
)
def test_what_must_not_be_pickled_is_refused_inside_a_pickle(content: Any) -> None:
    """A secret that would not be encrypted, and a file, of which a pickle holds the path alone."""
    with pytest.raises(UnsupportedTypeError, match=f"A {type(content).__name__} "):
        registry(allowed=True).encode({"boxes": [Box([content])]})


@pytest.mark.parametrize(
    ("payload", "error"),
    [(b"", DecodeError), (b"\x80\x05.", DecodeError), (b"cnowhere_at_all\nX\n.", MissingDependencyError)],
)
def test_a_damaged_pickle_is_a_decode_error(payload: bytes, error: type[Exception]) -> None:
    """As is a module that is missing where it is read."""
    with pytest.raises(error):
        PickleCodec(allowed=True).decode(payload, {})
