"""Values that pydantic makes of fields, alone and in models; secrets, which are stored encrypted or not at all."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pydantic
import pydantic_core
import pytest

from tests.unit.codecs.known_classes import KnownClasses
from tests.unit.conftest import HERE, make_pipeline
from xcargo.codecs import Codec, Registry
from xcargo.codecs.base import contiguous
from xcargo.codecs.objects import PickleCodec
from xcargo.codecs.tree import TreeCodec
from xcargo.errors import DecodeError, UnsupportedTypeError
from xcargo.model.keys import Key
from xcargo.testing import CodecTests

REGISTRY = Registry(classes=KnownClasses(__name__), entry_points=False)
KEY = Key("k", bytes(32))
URLS = {
    "AnyUrl": "custom://a/b?c=d#e",
    "AnyHttpUrl": "http://ü.de/",
    "HttpUrl": "https://user:pass@a.de:444/ä",
    "AnyWebsocketUrl": "ws://a/",
    "WebsocketUrl": "wss://a/",
    "FileUrl": "file:///a/b",
    "FtpUrl": "ftp://a/b",
    "PostgresDsn": "postgresql://u:p@a:1,b:2/db",
    "CockroachDsn": "cockroachdb://u@a/db",
    "AmqpDsn": "amqp://u:p@a:5672/",
    "RedisDsn": "redis://a:6379/0",
    "MongoDsn": "mongodb://a:1,b:2/db",
    "KafkaDsn": "kafka://a:9092",
    "NatsDsn": "nats://a:4222",
    "MySQLDsn": "mysql://u:p@a/db",
    "MariaDBDsn": "mariadb://u:p@a/db",
    "ClickHouseDsn": "clickhouse+http://a/db",
    "SnowflakeDsn": "snowflake://u:p@a/db",
}


class KeepsEmptyPath(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(url_preserve_empty_path=True)  # type: ignore[typeddict-unknown-key, unused-ignore]
    url: pydantic.HttpUrl


class Site(pydantic.BaseModel):
    url: pydantic.HttpUrl
    database: pydantic.PostgresDsn
    size: pydantic.ByteSize
    digest: pydantic.Base64Bytes
    payload: pydantic.Json[dict[str, int]]
    path: pydantic.NewPath
    count: pydantic.PositiveInt
    id: pydantic.UUID4
    seen: pydantic.AwareDatetime
    code: pydantic.constr(min_length=2)  # type: ignore[valid-type]


class Account(pydantic.BaseModel):
    name: str
    password: pydantic.SecretStr


def site() -> Site:
    return Site.model_validate(
        {
            "url": "http://a/b",
            "database": "postgres://u:p@h/db",
            "size": "10MiB",
            "digest": b"YWI=",
            "payload": '{"a": 1}',
            "path": "/no-such-path",
            "count": 3,
            "id": "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
            "seen": "2026-01-02T03:04:05+02:00",
            "code": "de",
        }
    )


class TestPydantic(CodecTests):
    """Each class of the table but the secrets."""

    VALUES: Sequence[Any] = (
        *(getattr(pydantic, name)(text) for name, text in URLS.items()),
        pydantic_core.Url("http://a/"),
        pydantic_core.MultiHostUrl("mongodb://a:1,b:2/db"),
        KeepsEmptyPath.model_validate({"url": "http://a"}).url,
        pydantic.ByteSize(10**12),
        pydantic.NameEmail("Ada", "ada@example.org"),
    )

    @pytest.fixture
    def codec(self) -> Codec:
        return REGISTRY.codec("pydantic")

    def equal(self, left: Any, right: Any) -> bool:
        return type(left) is type(right) and left == right and str(left) == str(right)


def round_trip(value: Any) -> Any:
    encoded = REGISTRY.encode(value)
    return REGISTRY.decode(encoded.codec, bytes(contiguous(encoded)), dict(encoded.params))


def test_models_keep_every_type_of_field() -> None:
    """With the zone that pydantic gives a time that it reads."""
    back = round_trip([site()])[0]
    assert back == site()
    assert {name: type(part) for name, part in vars(back).items()} == {
        name: type(part) for name, part in vars(site()).items()
    }
    assert back.seen.tzinfo == pydantic_core.TzInfo(7200)
    assert round_trip(dt.time(1, tzinfo=pydantic_core.TzInfo(-60))).tzinfo == pydantic_core.TzInfo(-60)


SECRETS = (
    pydantic.SecretStr("hunter2"),
    pydantic.SecretBytes(b"hunter2"),
    pydantic.Secret[dt.date](dt.date(2026, 1, 2)),
    Account(name="ada", password=pydantic.SecretStr("hunter2")),
)


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: type(secret).__name__)
def test_a_secret_is_stored_where_it_is_encrypted(secret: Any, tmp_path: Path) -> None:
    """As an object; neither that nor the row shows it."""
    pipeline = make_pipeline(
        tmp_path.as_uri(),
        codecs=REGISTRY,
        threshold_bytes=0,
        compression="none",
        encryption_keys=(KEY,),
        encryption_key=KEY,
    )
    row = pipeline.push({"a": [secret]}, HERE)
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert stored
    assert b"hunter2" not in stored + repr(row).encode()
    (back,) = pipeline.pull(row)["a"]
    assert type(back) is type(secret)
    assert back == secret


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: type(secret).__name__)
@pytest.mark.parametrize(
    "settings",
    [{}, {"threshold_bytes": 0}, {"threshold_bytes": 1000, "encryption_keys": (KEY,), "encryption_key": KEY}],
    ids=["rows", "objects", "encrypted objects and plain rows"],
)
def test_a_secret_is_refused_where_it_might_not_be(secret: Any, settings: dict[str, Any]) -> None:
    """With the setting that helps; not even a pickle holds it."""
    pickles = Registry(
        classes=KnownClasses(__name__), last_resort=partial(PickleCodec, allowed=True), entry_points=False
    )
    for codecs in (REGISTRY, pickles):
        with pytest.raises(UnsupportedTypeError, match=r"\['a'\]\[0\].*encryption_keys"):
            make_pipeline(codecs=codecs, **settings).push({"a": [secret]}, HERE)


@pytest.mark.parametrize(
    "body",
    [
        ["BaseModel", "x"],
        ["os.system", "x"],
        ["HttpUrl", "no url"],
        ["HttpUrl", 1],
        ["HttpUrl", None],
        ["ByteSize", "x"],
        ["NameEmail", ["a"]],
        [["AnyUrl"], "x"],
        ["MongoDsn", ["a"]],
        7,
        [],
    ],
)
def test_a_forged_value_is_an_error(body: Any) -> None:
    """No class is looked up but those of the table."""
    with pytest.raises(DecodeError):
        REGISTRY.decode("pydantic", TreeCodec(REGISTRY).pack(body), {})
