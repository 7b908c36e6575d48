"""An S3 bucket as source, with faults of network and server."""

import asyncio
import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from capetown.bucket.fetching import LARGEST_IN_MEMORY
from capetown.errors import CapetownError
from tests import s3
from tests.bucket.mirrors import (
    assert_nothing_half_written,
    assert_whole,
    credentials,
    fetch,
    fetch_s3,
    files,
    incoming,
)


def test_a_public_bucket_is_mirrored_anonymously(
    bucket: Path, proxy: s3.Proxy, tmp_path: Path
) -> None:
    fetch_s3(proxy, tmp_path / "raw")
    assert_whole(tmp_path / "raw", bucket)
    asked = len(proxy.asked)
    fetch_s3(proxy, tmp_path / "raw")
    # The second run only lists.
    assert len(proxy.asked) == asked + proxy.count("list-type") // 2
    assert_whole(tmp_path / "raw", bucket)


def test_anonymous_access_ignores_aws_settings(
    bucket: Path, proxy: s3.Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("no [section\n")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "config"))
    fetch_s3(proxy, tmp_path / "raw", include=("sr.csv.gz",))
    assert files(tmp_path / "raw") == {"sr.csv.gz": (bucket / "sr.csv.gz").read_bytes()}


def test_a_private_bucket_needs_keys(
    bucket: Path, proxy: s3.Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, private = tmp_path / "raw", "s3://private"
    with pytest.raises(CapetownError, match="cannot be listed") as error:
        fetch_s3(proxy, raw, private)
    assert "download.credentials" in error.value.fix
    with pytest.raises(CapetownError, match="cannot be listed") as error:
        fetch_s3(proxy, raw, private, credentials=credentials(tmp_path, "hunter2"))
    assert "hunter2" not in str(error.value)
    assert s3.ACCESS_KEY not in str(error.value)
    assert not raw.exists()

    fetch_s3(proxy, raw, private, credentials=credentials(tmp_path))
    assert_whole(raw, bucket)
    shutil.rmtree(raw)

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.SECRET_KEY)
    fetch_s3(proxy, raw, private, credentials="aws")
    assert_whole(raw, bucket)
    shutil.rmtree(raw)

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "aws").write_text(
        f"[city]\naws_access_key_id={s3.ACCESS_KEY}\naws_secret_access_key={s3.SECRET_KEY}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws"))
    fetch_s3(proxy, raw, private, profile="city")
    assert_whole(raw, bucket)
    with pytest.raises(CapetownError, match="nobody"):
        fetch_s3(proxy, raw, private, profile="nobody")


def test_a_missing_bucket_prefix_or_server_is_named(proxy: s3.Proxy, tmp_path: Path) -> None:
    with pytest.raises(CapetownError) as error:
        fetch_s3(proxy, tmp_path / "raw", "s3://nowhere")
    assert error.value.where == "s3://nowhere"
    with pytest.raises(CapetownError) as error:
        fetch_s3(proxy, tmp_path / "raw", "s3://public/nowhere")
    assert error.value.where == "download.source"
    with s3.nobody() as url, pytest.raises(CapetownError, match=r"\(2 tries\)") as error:
        fetch("s3://public", tmp_path / "raw", endpoint_url=url, tries=2)
    assert error.value.where == "s3://public"
    assert not (tmp_path / "raw").exists()


FAULTS = {
    "reset": s3.connection_reset,
    "cut short": s3.cut_short,
    "truncated": s3.truncated,
    "damaged": s3.damaged,
    "503": s3.unavailable,
    "stall": s3.stall,
}


def quick(fault: str, tries: int) -> dict[str, Any]:
    """Settings that fail fast. A stall gets more tries, since a busy machine may be slow, too."""
    return {"timeout": 0.5, "tries": tries + 4} if fault == "stall" else {"tries": tries}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("key", ["sr_hex_truncated.csv", "sr.csv.gz", r"yes/\w+.tif", "manifest"])
def test_a_transient_fault_is_survived(
    fault: str, key: str, bucket: Path, proxy: s3.Proxy, tmp_path: Path
) -> None:
    proxy.fault(f"GET .*{key}", FAULTS[fault], times=3)
    fetch_s3(proxy, tmp_path / "raw", **quick(fault, tries=4))
    assert_whole(tmp_path / "raw", bucket)
    assert proxy.count(f"GET .*{key}") >= 4


@pytest.mark.parametrize("fault", FAULTS)
def test_a_permanent_fault_names_every_key_and_the_next_run_continues(
    fault: str, bucket: Path, proxy: s3.Proxy, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    proxy.fault(r"GET .*(sr\.csv\.gz|truncated\.csv)", FAULTS[fault])
    with pytest.raises(CapetownError) as error:
        fetch_s3(proxy, raw, **quick(fault, tries=2))
    assert re.match(r"2 of \d+ .*: sr.csv.gz \(.*\); sr_hex_tr.*\)$", error.value.what)
    assert error.value.fix.startswith("run the same command again")
    assert_nothing_half_written(raw, bucket)
    assert len(files(incoming(raw))) == len(files(bucket)) - 2 + 1  # and the journal

    proxy.reset()
    fetch_s3(proxy, raw)
    assert_whole(raw, bucket)
    assert proxy.count("GET") - proxy.count("list-type") == 2


def test_a_failing_listing_is_retried(bucket: Path, proxy: s3.Proxy, tmp_path: Path) -> None:
    proxy.fault("list-type", s3.unavailable, times=2)
    proxy.fault("list-type", s3.cut_short, times=1)
    fetch_s3(proxy, tmp_path / "raw")
    assert_whole(tmp_path / "raw", bucket)


def test_an_object_with_another_md5_is_not_kept(
    bucket: Path, proxy: s3.Proxy, tmp_path: Path
) -> None:
    raw, key = tmp_path / "raw", "sr_hex_truncated.csv"
    md5 = hashlib.md5((bucket / key).read_bytes()).hexdigest()
    proxy.fault("list-type", s3.rewritten(md5, "0" * 32))
    with pytest.raises(CapetownError, match=f"{key}.*its MD5 is {md5} and its ETag says 000"):
        fetch_s3(proxy, raw, tries=2)
    assert_nothing_half_written(raw, bucket)
    assert not (incoming(raw) / key).exists()


def test_an_encoded_object_is_kept_encoded(
    bucket: Path, seaweed: s3.Server, proxy: s3.Proxy, tmp_path: Path
) -> None:
    data = (bucket / "sr.csv.gz").read_bytes()
    seaweed.fs.pipe("public/encoded/sr.csv.gz", data, ContentEncoding="gzip")
    fetch_s3(proxy, tmp_path / "raw", "s3://public/encoded")
    assert files(tmp_path / "raw") == {"sr.csv.gz": data}


@pytest.mark.parametrize("key", ["../x.tif", "/etc/x", "images/../../x"])
def test_a_server_cannot_write_outside_the_mirror(
    key: str, bucket: Path, proxy: s3.Proxy, tmp_path: Path
) -> None:
    proxy.fault("list-type", s3.rewritten("city/sr_hex_truncated.csv", f"city/{key}"))
    with pytest.raises(CapetownError, match="nothing was fetched"):
        fetch_s3(proxy, tmp_path / "raw")
    assert list(tmp_path.iterdir()) == []


def test_a_large_object_survives_faults(
    seaweed: s3.Server, proxy: s3.Proxy, tmp_path: Path
) -> None:
    data = os.urandom(LARGEST_IN_MEMORY + 12_345)
    seaweed.fs.pipe("public/large/table.bin", data)
    proxy.fault("GET .*table.bin", s3.connection_reset, times=2)
    proxy.fault("GET .*table.bin", s3.truncated, times=1)
    fetch_s3(proxy, tmp_path / "raw", "s3://public/large")
    assert files(tmp_path / "raw") == {"table.bin": data}
    assert proxy.count("GET .*table.bin") == 4


def test_an_object_that_changes_meanwhile_is_refused(
    seaweed: s3.Server, proxy: s3.Proxy, tmp_path: Path
) -> None:
    """A multipart upload: its ETag is not an MD5, so only the ETag shows the change."""
    first, second = (bytes([n]) * (LARGEST_IN_MEMORY + 1) for n in (1, 2))

    def upload(data: bytes) -> None:
        with seaweed.fs.open("public/parts/table.bin", "wb", block_size=5 << 20) as file:
            file.write(data)

    upload(first)

    async def change(request: Any, answer: Any, data: bytes) -> Any:
        await asyncio.to_thread(upload, second)
        return s3.plain(answer, data)

    proxy.fault("GET .*table.bin", change, times=1)
    with pytest.raises(CapetownError, match=r"table\.bin \(it changed while it was fetched"):
        fetch_s3(proxy, tmp_path / "raw", "s3://public/parts", tries=2, connections=1)
    assert not (tmp_path / "raw" / "table.bin").exists()
    proxy.reset()
    fetch_s3(proxy, tmp_path / "raw", "s3://public/parts")
    assert (tmp_path / "raw" / "table.bin").read_bytes() == second


def test_a_listing_of_several_pages_is_complete(
    seaweed: s3.Server, proxy: s3.Proxy, tmp_path: Path
) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(1_100):
        (many / f"{number:04}.csv").write_text(f"{number}\n")
    seaweed.upload(many, "public/many")
    fetch_s3(proxy, tmp_path / "raw", "s3://public/many", connections=32)
    assert_whole(tmp_path / "raw", many)
    assert proxy.count("list-type") == 2
