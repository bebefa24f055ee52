"""Settings: bounds and roots."""

from __future__ import annotations

import subprocess
import sys

import pytest

from xcargo.errors import ConfigurationError
from xcargo.model.root import Root
from xcargo.model.settings import LegacyRoot, Route, Settings

ROOT = Root.parse("s3://b/xcom")


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold_bytes": -2},
        {"preview_chars": -1},
        {"part_bytes": 1024},
        {"max_concurrency": 0},
        {"timeout_seconds": 0},
        {"timeout_seconds": float("nan")},
        {"retry_max_wait_seconds": float("inf")},
        {"purge_timeout_seconds": 0.5},
        {"cache_size_bytes": -1},
        {"cache_path": "cache"},
    ],
)
def test_a_setting_out_of_bounds_is_refused_by_name(wrong: dict[str, object]) -> None:
    """The message names the option."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Settings(ROOT, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("max_concurrency", "part_bytes", "parts"),
    [(64, 8 * 1024**2, 16), (4, 8 * 1024**2, 4), (64, 5 * 1024**2, 25), (64, 1024**3, 1)],
)
def test_parts_under_way_take_128_mib_at_most(max_concurrency: int, part_bytes: int, parts: int) -> None:
    """Many requests for small values do not mean as many large parts in memory."""
    assert Settings(ROOT, max_concurrency=max_concurrency, part_bytes=part_bytes).part_concurrency == parts


def test_the_innermost_of_nested_roots_holds_a_uri() -> None:
    """A former path may lie above or below the current one."""
    inner = Root.parse("s3://other@b/xcom/old")
    settings = Settings(ROOT, read_roots=(inner,))
    assert settings.root_of("s3://b/xcom/old/k") == inner
    assert settings.root_of("s3://b/xcom/new/k") == ROOT
    assert settings.root_of("s3://b/elsewhere/k") is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s3://here@b/xcom", "s3://there@b/xcom"),
        ("abfss://c@one.dfs.core.windows.net/x", "abfss://c@two.dfs.core.windows.net/x"),
    ],
)
def test_two_places_that_rows_cannot_tell_apart_are_refused(one: str, other: str) -> None:
    """Rows name neither connection nor account: the values of one of the two could not be read, or by anybody."""
    for former in ({"read_roots": (Root.parse(other),)}, {"routes": (Route("hr", root=Root.parse(other)),)}):
        with pytest.raises(ConfigurationError, match="Two connections or accounts"):
            Settings(Root.parse(one), **former)
    Settings(Root.parse(one), read_roots=(Root.parse(one), Root.parse(other + "/of-its-own")))


def test_legacy_references_name_a_path_or_a_prefix() -> None:
    """Both spellings of [xcargo] legacy_references are read."""
    assert LegacyRoot.parse("s3://c@b/x") == LegacyRoot("s3://c@b/x/", Root("s3", "b", "x", "c"))
    assert LegacyRoot.parse("xcom_s3=s3://c@b") == LegacyRoot("xcom_s3://", Root("s3", "b", "", "c"))
    with pytest.raises(ConfigurationError):
        LegacyRoot.parse("not a prefix=s3://b")


def test_an_unusable_route_fails_at_start_up_under_python_O_too() -> None:
    """A route that names a missing encryption key is refused although ``-O`` strips asserts."""
    code = (
        "from xcargo.errors import ConfigurationError\n"
        "from xcargo.model.settings import Route\n"
        "from xcargo.model.settings import Settings\n"
        "try:\n"
        "    Settings(None, routes=(Route('hr', encryption_key='gone'),))\n"
        "except ConfigurationError as error:\n"
        "    print(error.what)\n"
    )
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "Route 'hr' names the encryption key 'gone', and there is none\n"
