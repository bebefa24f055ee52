"""Airflow's configuration -> Settings, with Airflow's own parser."""

from __future__ import annotations

import base64
import dataclasses
import traceback
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.configuration import conf
from airflow.secrets import BaseSecretsBackend

import xcargo
from xcargo.airflow import compat
from xcargo.airflow.config import read_settings
from xcargo.airflow.provider_info import OPTIONS
from xcargo.cli.checks.environment import effective
from xcargo.errors import ConfigurationError
from xcargo.model.keys import Key
from xcargo.model.root import Root
from xcargo.model.settings import LegacyRoot, Route, Settings
from xcargo.model.unknown_names import check_unknown

B64 = "kTtQGSAbZ3CA/hzxlPpNvN1g+AX0Jf8ZqUoBxbNH7ck="


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment without any option set, on a distributed executor."""
    import os

    for name in list(os.environ):
        if name.startswith(("AIRFLOW__XCARGO__", "AIRFLOW__COMMON_IO__")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    return monkeypatch


def settings(env: pytest.MonkeyPatch, **options: str) -> Settings:
    """Settings with environment variables, ``xcargo__path`` standing for ``AIRFLOW__XCARGO__PATH``."""
    for name, value in options.items():
        env.setenv(f"AIRFLOW__{name.upper()}", value)
    return read_settings(conf)


SECRET_KEY = Key("first", base64.b64decode(B64))
OPTION_VALUES: dict[str, tuple[str, str, Any]] = {
    "path": ("file:///srv/x", "root", Root.parse("file:///srv/x")),
    "threshold_bytes": ("0", "threshold_bytes", 0),
    "compression": ("lz4", "compression", "lz4"),
    "read_paths": ("s3://a/b, gs://c", "read_roots", (Root.parse("s3://a/b"), Root.parse("gs://c"))),
    "legacy_references": (
        "s3://c@b/x,\n xcom_s3=s3://d",
        "legacy_roots",
        (LegacyRoot.parse("s3://c@b/x"), LegacyRoot.parse("xcom_s3=s3://d")),
    ),
    "preview_chars": ("5", "preview_chars", 5),
    "keep_key_order": ("True", "keep_key_order", True),
    "fsync": ("False", "fsync", False),
    "allow_pickle": ("true", "allow_pickle", True),
    "strict_types": ("t", "strict_types", True),
    "timeout_seconds": ("2.5", "timeout_seconds", 2.5),
    "purge_timeout_seconds": ("3", "purge_timeout_seconds", 3),
    "part_bytes": ("5242880", "part_bytes", 5242880),
    "max_concurrency": ("4", "max_concurrency", 4),
    "cache_path": ("/var/cache/xcargo", "cache_path", "/var/cache/xcargo"),
    "cache_size_bytes": ("1000", "cache_size_bytes", 1000),
    "max_size_bytes": ("2000", "max_size_bytes", 2000),
    "warn_size_bytes": ("1500", "warn_size_bytes", 1500),
    "routes": (
        '[{"name": "sales", "dag": "sales_*", "path": "s3://sales"}]',
        "routes",
        (Route("sales", dag="sales_*", root=Root.parse("s3://sales")),),
    ),
    "signing_key": (f"first={B64}", "signing_keys", (SECRET_KEY,)),
    "unsigned_until": ("2027-01-31T00:00:00Z", "unsigned_until", datetime(2027, 1, 31, tzinfo=timezone.utc)),
    "encryption_keys": (f"first={B64}", "encryption_keys", (SECRET_KEY,)),
    "deployment": ("production", "deployment", "production"),
    "retention": ("keep last 3 runs", "retention", "keep last 3 runs"),
    "retry_wait_seconds": ("0.5", "retry_wait_seconds", 0.5),
    "retry_max_wait_seconds": ("7", "retry_max_wait_seconds", 7),
    "hedge_after_seconds": ("1.5", "hedge_after_seconds", 1.5),
    "memoize": ("False", "memoize", False),
    "memoize_across_dags": ("True", "memoize_across_dags", True),
    "ui": ("True", "ui", True),
    "ui_signed_downloads": ("True", "ui_signed_downloads", True),
    "max_preview_bytes": ("2000000", "max_preview_bytes", 2_000_000),
}


def test_every_option_reaches_the_settings(env: pytest.MonkeyPatch) -> None:
    """No declared option is without effect."""
    assert set(OPTION_VALUES) == set(OPTIONS)
    made = settings(env, **{f"xcargo__{option}": text for option, (text, _, _) in OPTION_VALUES.items()})
    assert made == Settings(**{name: value for _, name, value in OPTION_VALUES.values()}, encryption_key=SECRET_KEY)


def test_with_encryption_nothing_stands_in_the_database_unless_asked(env: pytest.MonkeyPatch) -> None:
    """Threshold and preview default to 0 then; who sets them has asked."""
    made = settings(env, xcargo__path="s3://b", xcargo__encryption_keys=B64)
    assert (made.threshold_bytes, made.preview_chars) == (0, 0)
    made = settings(env, xcargo__threshold_bytes="10", xcargo__preview_chars="20")
    assert (made.threshold_bytes, made.preview_chars) == (10, 20)
    assert made.encryption_key == made.encryption_keys[0]


def test_keys_come_from_commands_and_secrets_backends(env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As Airflow's own secrets do: signing_key_cmd, encryption_keys_secret."""
    made = settings(
        env,
        xcargo__path="s3://b",
        xcargo__signing_key_cmd=f"echo signer={B64}",
        xcargo__encryption_keys_secret="xcargo-keys",
        secrets__backend="tests.unit.airflow.test_config.Vault",
        core__executor="CeleryExecutor",
    )
    assert made.signing_keys == (Key("signer", base64.b64decode(B64)),)
    assert made.encryption_keys == (Key("vault", base64.b64decode(B64)),)


class Vault(BaseSecretsBackend):  # type: ignore[misc]
    """A secrets backend with one entry."""

    def get_config(self, key: str) -> str | None:
        return {"xcargo-keys": f"vault={B64}"}.get(key)


@pytest.mark.parametrize("option", ["signing_key", "encryption_keys"])
def test_a_secret_that_is_not_there_is_loud(env: pytest.MonkeyPatch, option: str) -> None:
    """Else everything would be stored unsigned and unencrypted."""
    with pytest.raises(ConfigurationError, match=f"{option}.*there is none where the variable"):
        settings(env, **{f"xcargo__{option}_secret": "gone"}, secrets__backend="tests.unit.airflow.test_config.Vault")


@pytest.mark.parametrize(("threshold", "meant"), [("-1", -1), ("0", 0), ("1000", 1000), (None, -1)])
def test_common_io_options_mean_what_they_mean_there(
    env: pytest.MonkeyPatch, threshold: str | None, meant: int
) -> None:
    """A deployment that only changes its backend keeps path, threshold and compression, and the default of -1."""
    options = {
        "common_io__xcom_objectstorage_path": "s3://c@b/xcom",
        "common_io__xcom_objectstorage_compression": "zip",
    }
    if threshold is not None:
        options["common_io__xcom_objectstorage_threshold"] = threshold
    made = settings(env, **options)
    assert (made.root, made.threshold_bytes, made.compression) == (Root.parse("s3://c@b/xcom"), meant, "zip")


def test_our_own_options_come_first(env: pytest.MonkeyPatch) -> None:
    """[xcargo] beats [common.io], option by option."""
    made = settings(
        env,
        common_io__xcom_objectstorage_path="s3://old",
        common_io__xcom_objectstorage_threshold="5",
        xcargo__path="s3://new",
    )
    assert (made.root, made.threshold_bytes) == (Root.parse("s3://new"), 5)
    for theirs in ("5", "1k"):  # what is not used is not read
        own = settings(env, xcargo__threshold_bytes="7", common_io__xcom_objectstorage_threshold=theirs)
        assert own.threshold_bytes == 7


def test_the_default_that_airflow_writes_into_its_file_is_no_wish(env: pytest.MonkeyPatch) -> None:
    """A generated airflow.cfg holds the Common IO threshold of -1; with a path of ours values are offloaded.

    Nor does the doctor say that the file set it.
    """
    if not conf.has_section("common.io"):
        conf.add_section("common.io")
    conf.set("common.io", "xcom_objectstorage_threshold", "-1")
    try:
        made = settings(env, xcargo__path="s3://b")
        assert made.threshold_bytes == 1024
        assert {s.option: s.origin for s in effective(conf, made)}["threshold_bytes"] == "default"
        env.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD", "-1")
        assert settings(env, xcargo__path="s3://b").threshold_bytes == -1
    finally:
        conf.remove_option("common.io", "xcom_objectstorage_threshold")


def test_without_a_path_a_single_machine_stores_below_airflow_home(env: pytest.MonkeyPatch) -> None:
    """LocalExecutor needs no setting at all."""
    made = settings(env, core__executor="LocalExecutor")
    assert made.root is not None
    assert made.root.scheme == "file"
    assert made.root.prefix.endswith("/xcargo")
    assert made.threshold_bytes == 1024


@pytest.mark.parametrize(
    "executor",
    [
        "CeleryExecutor",
        "KubernetesExecutor",
        "LocalExecutor,CeleryExecutor",
        "airflow.providers.edge3.executors.EdgeExecutor",
        "my_company.executors.FleetExecutor",
    ],
)
def test_without_a_path_several_machines_get_no_folder(env: pytest.MonkeyPatch, executor: str) -> None:
    """Where workers may not share a disk nothing is guessed; the reason names the executor."""
    made = settings(env, core__executor=executor)
    assert made.root is None
    assert executor in made.no_root_reason


def test_what_a_command_prints_before_it_fails_is_not_shown(env: pytest.MonkeyPatch) -> None:
    """Airflow's own error holds it, and would be in the log of every task."""
    with pytest.raises(ConfigurationError, match=r"\[xcargo\] signing_key cannot be read") as caught:
        settings(env, xcargo__signing_key_cmd=f"sh -c 'echo {B64}; exit 1'")
    assert B64 not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"xcargo__encryption_key": B64}, ["AIRFLOW__XCARGO__ENCRYPTION_KEY", "'encryption_keys'"]),
        ({"xcargo__signing_keys_secret": "x"}, ["SIGNING_KEYS_SECRET", "'signing_key'"]),
        ({"xcargo__route": "[]"}, ["ROUTE", "'routes'"]),
        ({"xcargo__encryption_context": "x"}, ["ENCRYPTION_CONTEXT", "xcargo 0.1.0", "upgrade xcargo"]),
        ({"xcargo__pathh": "x"}, ["PATHH", "'path'"]),
        ({"xcargo__threshold_btyes": "x"}, ["THRESHOLD_BTYES", "'threshold_bytes'"]),
        ({"xcargo__routes": '[{"match": {"operator": "x"}}]'}, ["'operator' in the match", "upgrade xcargo"]),
        ({"xcargo__routes": '[{"encryption_keys": "a"}]'}, ["Did you mean 'encryption_key'", "less protection"]),
        ({"xcargo__path": "https://minio:9000/bucket"}, ["https://", "s3, gs, azblob", "endpoint_url"]),
        ({"xcargo__path": "s3://my_conn@bucket/a//b"}, ["[xcargo] path", "'//'"]),
        ({"xcargo__ui": "perhaps"}, ["ui", "perhaps", "True or False"]),
        ({"xcargo__path": "my_conn@bucket/x"}, ["[xcargo] path", "s3://my_aws_conn@my-bucket/xcom"]),
        ({"xcargo__threshold_bytes": "1kb"}, ["threshold_bytes", "1kb", "1024"]),
        ({"xcargo__timeout_seconds": "soon"}, ["timeout_seconds", "soon"]),
        ({"xcargo__threshold_bytes": "-5"}, ["threshold_bytes", "-5"]),
        ({"xcargo__read_paths": "s3://ok,nonsense"}, ["read_paths", "nonsense"]),
        ({"xcargo__legacy_references": "a b=s3://c"}, ["legacy_references"]),
        ({"xcargo__signing_key": "c2hvcnQ="}, ["signing_key", "openssl rand -base64 32"]),
        ({"xcargo__signing_key": "hunter2-hunter2-hunter2"}, ["signing_key", "Key 1"]),
        ({"xcargo__encryption_keys": f"a={B64},a={B64}"}, ["encryption_keys", "same name"]),
        ({"xcargo__encryption_keys": f"a b={B64}"}, ["encryption_keys", "characters"]),
        (
            {"xcargo__encryption_keys": "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA="},
            ["Key 1 is not random", "openssl rand -base64 32"],
        ),
        ({"xcargo__unsigned_until": "2027-01-31"}, ["unsigned_until", "+00:00"]),
        ({"xcargo__unsigned_until": "soon"}, ["unsigned_until", "soon"]),
        ({"xcargo__routes": "[{"}, ["routes", "JSON"]),
        ({"xcargo__routes": '{"name": "a"}'}, ["routes", "list"]),
        ({"xcargo__routes": '[{"name": "a", "dags": "b"}]'}, ["'a'", "'dags'", "Did you mean 'dag'"]),
        ({"xcargo__routes": '[{"dag": "b", "threshold_bytes": "5"}]'}, ["route 1", "threshold_bytes", "number"]),
        ({"xcargo__routes": '[{"name": "a", "threshold_bytes": -2}]'}, ["'a'", "threshold_bytes"]),
        ({"xcargo__routes": '[{"name": "a", "encryption_key": "b"}]'}, ["'a'", "'b'", "encryption_keys"]),
        ({"xcargo__routes": '[{"name": "a"}, {"name": "a"}]'}, ["same name"]),
        ({"xcargo__routes": '[{"name": "a", "path": "bucket"}]'}, ["routes", "bucket"]),
        ({"common_io__xcom_objectstorage_path": "relative/dir"}, ["[common.io]", "xcom_objectstorage_path"]),
    ],
)
def test_a_wrong_setting_is_loud_and_named(env: pytest.MonkeyPatch, options: dict[str, str], words: list[str]) -> None:
    """An unusable value never falls back to the database, a misspelt key never to no encryption or signature."""
    with pytest.raises(ConfigurationError) as caught:
        settings(env, **options)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "hint"),
    [("path_cmd", " Did you mean 'path'?"), ("of_a_newer_release_9", "")],
)
def test_an_unknown_option_is_one_warning(
    env: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, option: str, hint: str
) -> None:
    """An older worker still works when an option of a newer release is set; the log names it, once."""
    for _ in range(2):
        assert settings(env, xcargo__path="s3://b", **{f"xcargo__{option}": "x"}).root == Root.parse("s3://b")
    variable = f"AIRFLOW__XCARGO__{option.upper()}"
    release = f"xcargo {xcargo.__version__}"
    assert caplog.messages == [f"{release} ignores the variable {variable}, which it does not know.{hint}"]


def test_an_unknown_field_of_a_route_is_one_warning(env: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The rest of the route applies."""
    for _ in range(2):
        routes = settings(env, xcargo__path="s3://b", xcargo__routes='[{"name": "a", "dag": "b", "linger": 5}]').routes
        assert routes == (Route("a", dag="b"),)
    assert [message for message in caplog.messages if "the field 'linger' of route 'a'" in message] == caplog.messages
    assert len(caplog.messages) == 1


def test_no_name_looks_like_another_one_misspelt() -> None:
    """So an older release takes an option of a later one for what it is. Names of all releases stay in the list."""
    for names in (OPTIONS, {field.name for field in dataclasses.fields(Route)}):
        for name in names:
            others = [other for other in names if other != name]
            if not name.startswith(("encryption_key", "signing_key", "routes")):
                check_unknown(name, name, others, protective=())


def test_an_unknown_option_in_the_file_is_a_warning_too(
    env: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """airflow.cfg is read like the environment."""
    conf.add_section("xcargo") if not conf.has_section("xcargo") else None
    conf.set("xcargo", "treshold", "5")
    try:
        settings(env, xcargo__path="s3://b")
    finally:
        conf.remove_option("xcargo", "treshold")
    assert "treshold in section [xcargo]" in caplog.text


def test_declared_defaults_are_those_of_the_settings(env: pytest.MonkeyPatch) -> None:
    """Where Airflow does not know the provider's defaults, the same ones apply."""
    for option, declared in OPTIONS.items():
        if declared.get("default"):
            env.setenv(f"AIRFLOW__XCARGO__{option.upper()}", declared["default"])
    assert settings(env, xcargo__path="s3://b") == Settings(Root.parse("s3://b"))


@pytest.mark.parametrize(
    ("conn_id", "text", "says"),
    [
        ("my_conn", '{"conn_type": "aws", "password": "hunter2",}', "AIRFLOW_CONN_MY_CONN does not hold a connection"),
        ("my_conn", '{"conn_type": "aws", "pasword": "hunter2"}', "MY_CONN does not .* a field that no connection has"),
        ("my_conn", None, "'my_conn' is not defined.*AIRFLOW_CONN_MY_CONN"),
        ("my-conn", None, "'my-conn' is not defined.*add my-conn ..., since no shell exports such a variable"),
    ],
    ids=["broken-json", "unknown-field", "not-defined", "not-a-variable"],
)
def test_a_connection_that_cannot_be_had_says_why(
    env: pytest.MonkeyPatch, conn_id: str, text: str | None, says: str
) -> None:
    """Broken JSON in the variable is named as such, and not shown; no other connection takes its place."""
    if text is not None:
        env.setenv("AIRFLOW_CONN_MY_CONN", text)
    with pytest.raises(ConfigurationError, match=says) as caught:
        compat.get_connection(conn_id)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
