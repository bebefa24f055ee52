"""The error tree."""

from __future__ import annotations

import pickle

import pytest

import xcargo
from xcargo import errors

TREE = {
    "XCargoError": (Exception,),
    "CodecError": (errors.XCargoError,),
    "StoreError": (errors.XCargoError,),
    "ConfigurationError": (errors.XCargoError, ValueError),
    "UnsupportedTypeError": (errors.CodecError, TypeError),
    "DecodeError": (errors.CodecError, ValueError),
    "MissingDependencyError": (errors.CodecError, ImportError),
    "EnvelopeError": (errors.XCargoError, ValueError),
    "ObjectNotFoundError": (errors.StoreError, FileNotFoundError),
    "ObjectExpiredError": (errors.StoreError, FileNotFoundError),
    "RootNotFoundError": (errors.StoreError, FileNotFoundError),
    "ObjectExistsError": (errors.StoreError, FileExistsError),
    "AccessDeniedError": (errors.StoreError, PermissionError),
    "StoreUnavailableError": (errors.StoreError, ConnectionError),
    "StorageFullError": (errors.StoreError,),
    "SignatureError": (errors.EnvelopeError, ValueError),
    "SizeLimitError": (errors.XCargoError, ValueError),
    "IntegrityError": (errors.XCargoError, ValueError),
    "ReferencesUnavailableError": (errors.XCargoError,),
    "SweepRefusedError": (errors.XCargoError,),
}


@pytest.mark.parametrize("name", TREE)
def test_an_error_is_also_the_builtin_that_a_caller_would_catch(name: str) -> None:
    """The tree is what handlers rely on."""
    cls = getattr(xcargo, name)
    assert all(issubclass(cls, base) for base in TREE[name])


@pytest.mark.parametrize("name", TREE)
def test_an_error_says_what_where_and_what_next_and_survives_pickling(name: str) -> None:
    """Airflow passes exceptions between processes; nothing is lost."""
    error = getattr(xcargo, name)("It broke", where="s3://b/k", hint="Mend it.")
    error.busy, error.retry_after_seconds = True, 3.0
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) == "It broke [s3://b/k]. Mend it."
    assert vars(copy) == vars(error)


def test_each_error_has_a_kind_of_its_own() -> None:
    """Metrics and logs tell a fault of a codec from one of a store."""
    kinds = [getattr(errors, name).kind for name in TREE]
    assert sorted(kinds) == sorted(errors.ErrorKind)


def test_the_innermost_place_is_kept_and_the_outer_one_added() -> None:
    """An error from a store also tells which XCom it hit."""
    error = errors.IntegrityError("Damaged", where="s3://b/k")
    error.at("dag 'd'")
    assert "s3://b/k (dag 'd')" in str(error)


@pytest.mark.parametrize("char", ["\n", "\r", "\x1b", "\x9b", "\x00", "\u2028", "\u202e", "\ud800"])
def test_a_message_is_one_line_that_no_terminal_acts_upon(char: str) -> None:
    """Rows, objects and stores may say anything: nothing of it begins a line of a log, or moves a cursor."""
    error = errors.EnvelopeError(f"It{char}broke", where=f"s3://b/k{char}ERROR forged", hint=f"Mend{char}it.")
    assert str(error).isprintable()
    assert "ERROR forged" in str(error)


def test_the_public_names_are_all_there() -> None:
    """Every error class is a public name of the package."""
    assert set(errors.__all__) == {*TREE, "ErrorKind"} <= set(xcargo.__all__)
    assert all(getattr(xcargo, name) for name in xcargo.__all__ if name != "XComBackend")
