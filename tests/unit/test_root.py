"""Root: reading base URLs, and confinement."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xcargo.errors import ConfigurationError, EnvelopeError
from xcargo.model.root import Root


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://my_conn@Bucket/xcom", Root("s3", "Bucket", "xcom", "my_conn")),
        ("s3a://b/", Root("s3", "b", "")),
        ("gcs://c@b/a/b/", Root("gs", "b", "a/b", "c")),
        ("azblob://c@container/x", Root("az", "container", "x", "c")),
        ("wasbs://container/x", Root("az", "container", "x")),
        ("abfss://fs@acct.dfs.core.windows.net/x", Root("az", "fs", "x", None, "acct")),
        ("file:///var/lib/x%20y", Root("file", "", "var/lib/x y")),
        ("sftp://c@host/dir", Root("sftp", "host", "dir", "c")),
        ("memory://t", Root("memory", "t", "")),
    ],
)
def test_roots_are_read_as_airflow_writes_them(url: str, expected: Root) -> None:
    """Scheme aliases, connection ids, buckets and prefixes are told apart."""
    assert Root.parse(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "my_conn@bucket/xcom",
        "bucket",
        "/var/lib",
        "s3:bucket",
        "s3:///prefix",
        "file://relative/dir",
        "s3://user:secretpw@bucket/x",
        "s3://user:half/secretpw@bucket/x",
        "s3://user:half/secretpw@bucket/x?versionId=1",
        "s3://user:half@secretpw@bucket/x?versionId=1",
        "s3://[bucket/x",
        "s3://bu\u2100cket/x",
        "s3://b/a/../c",
        "s3://b/a//c",
        "s3://b/x?versionId=1",
    ],
)
def test_an_unusable_root_is_refused_without_showing_a_password(url: str) -> None:
    """Nothing is guessed from a URL that is not one."""
    with pytest.raises(ConfigurationError) as caught:
        Root.parse(url)
    assert "secretpw" not in str(caught.value)


def test_a_written_uri_never_names_the_connection() -> None:
    """The connection id stays in the configuration."""
    assert Root.parse("s3://my_conn@b/x").uri("k") == "s3://b/x/k"


@pytest.mark.parametrize(
    "uri",
    [
        "s3://b/xcom",
        "s3://b/xcom/",
        "s3://b/xcom-other/k",
        "s3://b/k",
        "s3://other/xcom/k",
        "s3://c@b/xcom/k",
        "s3://b/xcom/../k",
        "s3://b/xcom/a//k",
        "s3://b/xcom/./k",
        "s3://b/xcom/a/..",
        "s3://b/xcom/k?versionId=1",
        "s3://b/xcom/a\\b",
        "s3://b/xcom/a\nb",
        "file:///xcom/k",
    ],
)
def test_only_uris_below_the_root_are_followed(uri: str) -> None:
    """Siblings, other buckets and climbing paths are refused."""
    with pytest.raises(EnvelopeError):
        Root.parse("s3://conn@b/xcom").object_key(uri)


@given(st.text(max_size=60))
def test_whatever_is_below_the_root_stays_below_it(tail: str) -> None:
    """A key that is accepted has no segment that a path would resolve."""
    root = Root.parse("file:///srv/xcom")
    try:
        key = root.object_key("file:///srv/xcom/" + tail)
    except EnvelopeError:
        return
    assert not {"", ".", ".."} & set(key.split("/"))
