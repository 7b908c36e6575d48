"""Unsafe addresses are refused, and errors contain no secret."""

from pathlib import Path

import pytest

from capetown.bucket.addresses import check_url
from capetown.errors import CapetownError
from tests.bucket.mirrors import fetch


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("http://example.org/data", "is not encrypted"),
        ("ftp://example.org/data", "is neither a folder, s3://"),
        ("s3://", "is neither a folder, s3://"),
        ("s3://hunter2:hunter2@bucket", "would end up in dvc.lock"),
        ("https://example.org/data?X-Amz-Signature=hunter2", "would end up in dvc.lock"),
        ("https://[hunter2", "not a URL"),
        ("https://127.0.0.1:99999/hunter2", "not a URL"),
        ("https://xn--\u2603/hunter2", "not a URL"),
    ],
)
def test_an_unsafe_address_is_refused(url: str, what: str, raw: Path) -> None:
    with pytest.raises(CapetownError) as error:
        fetch(url, raw)
    assert error.value.where == "download.bucket"
    assert what in error.value.what
    assert "hunter2" not in str(error.value)
    assert not raw.exists()


def test_an_endpoint_is_encrypted_or_on_this_machine(raw: Path) -> None:
    for host in ("127.0.0.1", "localhost", "[::1]"):
        check_url(f"http://{host}:8333", "download.endpoint_url")
    with pytest.raises(CapetownError) as error:
        fetch("s3://public", raw, endpoint_url="http://192.0.2.1:8333")
    assert error.value.where == "download.endpoint_url"


@pytest.mark.parametrize(
    "text",
    ["hunter2", '{"s3": {"access_key": "hunter2"}}',
     '{"s3": {"access_key": "hunter2", "secret_key": 1}}'],
)  # fmt: skip
def test_unreadable_credentials_are_named(text: str, raw: Path, tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(text)
    with pytest.raises(CapetownError) as error:
        fetch("s3://public", raw, credentials=str(path))
    assert error.value.where == f"download.credentials: {path}"
    assert "hunter2" not in str(error.value)
