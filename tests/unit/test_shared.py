"""Objects that programs put and get by signed URLs, over real servers, by plain HTTP."""

from __future__ import annotations

import http.client
import io
import json
import socket
import time
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers import Server
from tests.unit.conftest import HERE, google_key, make_pipeline
from xcargo import ConfigurationError, DecodeError, File, IntegrityError, ObjectNotFoundError, SizeLimitError
from xcargo.codecs import media
from xcargo.errors import UnsupportedTypeError
from xcargo.model.coordinate import dag_of
from xcargo.model.keys import Key
from xcargo.pipeline.pipeline import Pipeline
from xcargo.pipeline.shared import SharedObject, check_sharing

UNIQUE = "0123456789abcdef"
LIMIT = 5 * 1024**3
TABLE = pa.table({"n": [1, 2, 3], "text": ["a", None, "c"]})
signed = pytest.mark.parametrize("kind", ["s3", "azure"])
"""Servers that verify what was signed; that of Google's kind does not."""


def pipeline_of(server: Server, **settings: Any) -> Pipeline:
    connection = dict(server.connection)
    if server.kind == "gcs":  # a key that signs, for a server that asks for none
        connection["extra"] = {"keyfile_dict": {**google_key(), "gcs_base_url": server.endpoint}}
    return make_pipeline(server.root + "/shared", connection=connection, **settings)


def shared_of(pipeline: Pipeline, unique: str = UNIQUE) -> SharedObject:
    return pipeline.shared(HERE, unique, ".upload")


def request(method: str, url: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of the answer, as any program gets it."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body, {"x-ms-blob-type": "BlockBlob"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def put(shared: SharedObject, data: bytes, seconds: float = 60) -> int:
    return request("PUT", shared.signed_url("PUT", seconds), data)[0]


def uploaded(shared: SharedObject, name: str = "data.bin", **more: Any) -> Any:
    options = {"media_type": None, "decode": None, "max_bytes": LIMIT, **more}
    return shared.uploaded(name, **options)


@pytest.fixture
def server(kind: str, request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(f"{kind}_server")
    return found


@pytest.mark.servers
def test_what_a_program_puts_becomes_a_value(any_server: Server) -> None:
    """A file of several parts: pushed as any other, compressed and in chunks, and pulled by another pipeline."""
    pipeline = pipeline_of(any_server)
    shared, data = shared_of(pipeline, "0" * 16), b"0123456789abcdef" * 1_000_000
    assert put(shared, data) in (200, 201)
    row: Any = pipeline.push(uploaded(shared, "digits.txt"), HERE)
    shared.delete()
    file = pipeline_of(any_server).pull(row, HERE.dag_id)
    assert (file.name, file.media_type, file.read_bytes()) == ("digits.txt", "text/plain", data)
    assert row["stored_bytes"] < len(data) / 10


@pytest.mark.servers
def test_a_program_gets_a_value(any_server: Server) -> None:
    """What was put for it, by a URL that reads it and nothing else."""
    shared = shared_of(pipeline_of(any_server), "1" * 16)
    shared.put(media.encode(TABLE, media.CSV))
    status, body = request("GET", shared.signed_url("GET", 60))
    assert (status, body) == (200, b'"n","text"\n1,"a"\n2,\n3,"c"\n')


@pytest.mark.servers
@signed
def test_a_url_opens_one_object_for_one_method(server: Server) -> None:
    """It neither reads what it may put, nor puts anything elsewhere, nor deletes it."""
    shared = shared_of(pipeline_of(server), "2" * 16)
    url = shared.signed_url("PUT", 60)
    assert request("PUT", url, b"x")[0] in (200, 201)
    assert request("GET", url)[0] == request("DELETE", url)[0] == 403
    assert request("PUT", url.replace("2" * 16, "3" * 16), b"x")[0] == 403
    assert request("PUT", shared.signed_url("GET", 60), b"x")[0] == 403


@pytest.mark.servers
@signed
def test_an_expired_url_delivers_nothing(server: Server) -> None:
    """The store refuses the PUT with 403, and the error says what that means."""
    shared = shared_of(pipeline_of(server), "4" * 16)
    url = shared.signed_url("PUT", 1)
    time.sleep(2.1)
    assert request("PUT", url, b"x")[0] == 403
    with pytest.raises(ObjectNotFoundError, match=r"Nothing was uploaded.*403 means that the URL had expired"):
        uploaded(shared)


@pytest.mark.servers
@signed
def test_an_upload_that_is_cut_short_delivers_nothing(server: Server) -> None:
    """A connection that ends before the body does leaves no object behind."""
    shared = shared_of(pipeline_of(server), "5" * 16)
    parts = urlsplit(shared.signed_url("PUT", 60))
    head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 1000000\r\n"
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:  # type: ignore[arg-type]
        connection.sendall(f"{head}x-ms-blob-type: BlockBlob\r\n\r\n".encode() + b"x" * 500_000)
    time.sleep(0.5)
    with pytest.raises(ObjectNotFoundError, match="Nothing was uploaded"):
        uploaded(shared)


@pytest.mark.servers
def test_the_last_of_two_uploads_counts_until_it_is_read(s3_server: Server) -> None:
    """While it is read a second one is an error, and after it was pushed it changes no value."""
    pipeline = pipeline_of(s3_server)
    shared = shared_of(pipeline, "6" * 16)
    first, second = b"a" * 20_000_000, b"b" * 20_000_000
    put(shared, b"before")
    put(shared, first)
    file = uploaded(shared)
    chunks = iter(file._source.iter_chunks())
    next(chunks)
    put(shared, second)
    with pytest.raises(IntegrityError, match="uploaded again while it was read"):
        list(chunks)
    row = pipeline.push(uploaded(shared), HERE)
    put(shared, first)
    assert pipeline.pull(row).read_bytes() == second
    put(shared, b"short")
    with pytest.raises(IntegrityError, match=r"has 5 bytes, 20000000 were stored"):
        pipeline.push(file, HERE)


@pytest.mark.servers
def test_a_larger_upload_is_refused_and_deleted(any_server: Server) -> None:
    """The boundary is max_bytes itself."""
    shared = shared_of(pipeline_of(any_server), "7" * 16)
    put(shared, b"x" * 1000)
    assert uploaded(shared, max_bytes=1000).size_bytes == 1000
    with pytest.raises(SizeLimitError, match=r"1000 bytes were uploaded, more than max_bytes \(999\)"):
        uploaded(shared, max_bytes=999)
    with pytest.raises(ObjectNotFoundError):
        uploaded(shared)


@pytest.mark.servers
def test_nothing_and_empty_uploads(s3_server: Server) -> None:
    """What was never put is an error; an empty object is a file of no bytes, and no document."""
    pipeline = pipeline_of(s3_server)
    shared = shared_of(pipeline, "8" * 16)
    with pytest.raises(ObjectNotFoundError, match="200 or 201"):
        uploaded(shared)
    put(shared, b"")
    assert pipeline.pull(pipeline.push(uploaded(shared), HERE)).read_bytes() == b""
    with pytest.raises(DecodeError, match="It is not JSON"):
        uploaded(shared, "x.json")


@pytest.mark.servers
def test_a_sweep_finds_what_nobody_collects(s3_server: Server) -> None:
    """It lies below its Dag, where sweeps look, and no row refers to it."""
    shared = shared_of(pipeline_of(s3_server), "9" * 16)
    put(shared, b"x")
    (key,) = [key for key in s3_server.list_keys() if "9" * 16 in key]
    assert dag_of(key.removeprefix("demo/shared/")) == HERE.dag_id
    assert key.endswith(".upload")


def written(value: Any, media_type: str) -> bytes:
    return b"".join(map(bytes, media.encode(value, media_type)))


@pytest.mark.parametrize("media_type", list(media.SUFFIXES)[1:])
def test_tables_travel_in_each_form(media_type: str) -> None:
    """Arrow, Parquet and CSV, of a frame of any library and of records."""
    for value in (TABLE, TABLE.to_pandas(), TABLE.to_pylist(), TABLE.to_reader()):
        assert media.decode(written(value, media_type), media_type).column("n").to_pylist() == [1, 2, 3]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
def test_json_travels(value: Any) -> None:
    """Plain values come back equal."""
    data = written(value, "application/json")
    assert media.decode(data, "application/json") == value == json.loads(data)


def test_records_may_have_fields_that_the_first_one_lacks() -> None:
    """None where a record has no such field."""
    records = [{"a": 1}, {"b": 2}]
    table = media.decode(written(records, media.PARQUET), media.PARQUET)
    assert table.to_pylist() == [{"a": 1, "b": None}, {"a": None, "b": 2}]


@given(st.sampled_from(list(media.SUFFIXES)), st.binary(max_size=300), st.integers(0, 2000), st.booleans())
def test_damaged_documents_are_refused(media_type: str, junk: bytes, at: int, is_cut: bool) -> None:
    """A document that was cut or altered gives an error of ours, or a value."""
    whole = written({"name": "value"} if media_type == "application/json" else TABLE, media_type)
    data = whole[:at] if is_cut else whole[:at] + junk + whole[at + len(junk) :]
    with suppress(DecodeError):
        media.decode(data, media_type)


@pytest.mark.parametrize("media_type", media.SUFFIXES)
def test_a_document_of_another_type_is_refused(media_type: str) -> None:
    """The error names the type, and shows nothing of the content."""
    with pytest.raises(DecodeError, match=r"It is not (JSON|text|application)") as caught:
        media.decode(b'\xffsecret,"', media_type)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "media_type"),
    [
        ("\ud800", None),
        ({1, 2}, None),
        (float("nan"), "application/json"),
        (object(), media.CSV),
        ({"a": 1}, "image/png"),
        (pd.DataFrame(), None),
    ],
)
def test_a_value_without_such_a_form_is_an_error(value: Any, media_type: str | None) -> None:
    """It names the type and the media types, not the value."""
    with pytest.raises(UnsupportedTypeError, match="Give media_type"):
        media.encode(value, media_type)


def test_files_are_converted_by_their_own_type(tmp_path: Any) -> None:
    """A CSV file asked for as Parquet; a file of another kind is refused."""
    (tmp_path / "t.csv").write_bytes(written(TABLE, media.CSV))
    data = written(File(tmp_path / "t.csv"), "application/vnd.apache.parquet")
    assert pd.read_parquet(io.BytesIO(data))["n"].tolist() == [1, 2, 3]
    (tmp_path / "t.png").write_bytes(b"")
    with pytest.raises(UnsupportedTypeError, match="File cannot be handed out as text/csv"):
        media.encode(File(tmp_path / "t.png"), media.CSV)


@pytest.mark.parametrize("url", ["memory://test/xcom", "file:///tmp/x"])
def test_a_store_without_urls_says_what_to_do_instead(url: str) -> None:
    """The error names the alternatives."""
    with pytest.raises(ConfigurationError, match=r"No URL can be signed.*S3, Google or Azure.*mount a folder"):
        check_sharing(make_pipeline(url).settings)


def test_no_url_goes_past_encryption() -> None:
    """Where values are encrypted here, neither an upload nor a download is offered; a route may say otherwise."""
    key = Key("k", bytes(range(32)))
    pipeline = make_pipeline("s3://c@bucket/x", encryption_keys=(key,), encryption_key=key)
    with pytest.raises(ConfigurationError, match=r"values are encrypted here.*encryption_key\": \"none\""):
        shared_of(pipeline)


def test_credentials_that_cannot_sign_are_named() -> None:
    """Before the container starts; the error says which credentials can."""
    shared = shared_of(make_pipeline("gs://c@b/x", connection={"conn_type": "google_cloud_platform", "extra": {}}))
    with pytest.raises(ConfigurationError, match="the key file of a service account on Google"):
        shared.signed_url("PUT", 60)
