"""Addresses and credentials: nothing unsafe is used, nothing secret is told."""

from pathlib import Path

import pytest

from capetown.bucket.access import check_url
from capetown.errors import CapetownError
from tests.bucket.mirrors import fetch


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.org/data", "is not encrypted"),
        ("ftp://example.org/data", "is neither a folder, s3://"),
        ("s3://", "is neither a folder, s3://"),
        ("https://me:hunter2@example.org/data", "would end up in dvc.lock"),
        ("https://example.org/data?X-Amz-Signature=hunter2", "would end up in dvc.lock"),
        ("s3://hunter2:hunter2@bucket", "would end up in dvc.lock"),
        ("s3://[hunter2", "download.source: not a URL"),
        ("https://[hunter2", "download.source: not a URL"),
        ("https://127.0.0.1:99999/hunter2", "download.source: not a URL"),
        ("https://127.0.0.1:hunter2/", "download.source: not a URL"),
        ("https://xn--\u2603/hunter2", "download.source: not a URL"),
    ],
)
def test_an_unsafe_address_is_refused_without_its_secrets(
    url: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(CapetownError, match=said) as caught:
        fetch(url, tmp_path / "raw")
    assert "hunter2" not in str(caught.value)
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_this_machine_needs_no_encryption(host: str) -> None:
    check_url(f"http://{host}:8333", "download.endpoint_url")


def test_an_endpoint_that_is_not_encrypted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CapetownError, match=r"download.endpoint_url: .* is not encrypted"):
        fetch("s3://public", tmp_path / "raw", endpoint_url="http://192.0.2.1:8333")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("hunter2", "is not of the form"),
        ('{"s3": {"access_key": "hunter2"}}', "is not of the form"),
        ('{"s3": {"access_key": "hunter2", "secret_key": 1}}', "is not of the form"),
    ],
)
def test_credentials_that_cannot_be_read_are_one_line(
    text: str | None, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "credentials.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CapetownError, match=said) as caught:
        fetch("s3://public", tmp_path / "raw", credentials=str(path))
    assert "hunter2" not in str(caught.value)
