"""An S3 bucket as source, with faults of network and server."""

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import pytest

from capetown.bucket import Choice
from capetown.bucket.fetching import LARGEST_IN_MEMORY
from capetown.errors import CapetownError
from tests import s3
from tests.bucket.mirrors import (
    assert_no_partial,
    assert_whole,
    credentials,
    fetch,
    fetch_s3,
    files,
)


def test_a_public_bucket_is_mirrored_anonymously_whatever_the_aws_settings(
    bucket: Path, proxy: s3.Proxy, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("no [section\n")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "config"))
    fetch_s3(proxy, raw)
    assert_whole(raw, bucket)
    proxy.reset()
    fetch_s3(proxy, raw)
    assert len(proxy.asked) == proxy.count("list-type")
    assert_whole(raw, bucket)


def test_a_private_bucket_needs_keys(
    bucket: Path, proxy: s3.Proxy, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(**how: Any) -> CapetownError:
        with pytest.raises(CapetownError) as error:
            fetch_s3(proxy, raw, "s3://private", **how)
        assert not raw.exists()
        return error.value

    def allowed(name: str, **how: Any) -> None:
        fetch_s3(
            proxy, tmp_path / name, "s3://private", choice=Choice("requests", ["sr.csv.gz"]), **how
        )
        assert files(tmp_path / name) == {"sr.csv.gz": (bucket / "sr.csv.gz").read_bytes()}

    assert "download.credentials" in refused().fix
    error = refused(credentials=credentials(tmp_path, "hunter2"))
    assert all(secret not in str(error) for secret in ("hunter2", s3.ACCESS_KEY))
    allowed("by file", credentials=credentials(tmp_path))
    (tmp_path / "aws").write_text(
        f"[city]\naws_access_key_id={s3.ACCESS_KEY}\naws_secret_access_key={s3.SECRET_KEY}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws"))
    allowed("by profile", profile="city")
    assert "nobody" in refused(profile="nobody").what
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.SECRET_KEY)
    allowed("by environment", credentials="aws")


def test_a_missing_bucket_prefix_or_server_is_named(proxy: s3.Proxy, raw: Path) -> None:
    with s3.nobody() as nobody:
        for url, endpoint, where in (
            ("s3://nowhere", proxy.url, "s3://nowhere"),
            ("s3://public/nowhere", proxy.url, "download.requests"),
            ("s3://public", nobody, "s3://public"),
        ):
            with pytest.raises(CapetownError) as error:
                fetch(url, raw, endpoint_url=endpoint, tries=2)
            assert error.value.where == where
    assert "(2 tries)" in error.value.what
    assert not raw.exists()


FAULTS = (
    s3.connection_reset, s3.cut_short, s3.truncated, s3.damaged, s3.unavailable, s3.stall,
)  # fmt: skip


def quick(fault: s3.Fault, tries: int) -> dict[str, Any]:
    """Settings that fail fast. A stall gets more tries, since a busy machine may be slow, too."""
    return {"timeout": 0.5, "tries": tries + 4} if fault is s3.stall else {"tries": tries}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("key", ["sr_hex_truncated.csv", "sr.csv.gz", r"yes/\w+.tif", "manifest"])
def test_a_transient_fault_is_survived(
    fault: s3.Fault, key: str, bucket: Path, proxy: s3.Proxy, raw: Path
) -> None:
    proxy.fault(f"GET .*{key}", fault, times=3)
    fetch_s3(proxy, raw, **quick(fault, tries=4))
    assert_whole(raw, bucket)
    assert proxy.count(f"GET .*{key}") >= 4


@pytest.mark.parametrize("fault", FAULTS)
def test_a_permanent_fault_names_every_key_and_the_next_run_continues(
    fault: s3.Fault, bucket: Path, proxy: s3.Proxy, raw: Path
) -> None:
    proxy.fault(r"GET .*(sr\.csv\.gz|truncated\.csv)", fault)
    with pytest.raises(CapetownError) as error:
        fetch_s3(proxy, raw, **quick(fault, tries=2))
    assert re.match(r"2 of \d+ .*: sr.csv.gz \(.*\); sr_hex_tr.*\)$", error.value.what)
    assert error.value.fix.startswith("run the same command again")
    assert_no_partial(raw, bucket)
    proxy.reset()
    fetch_s3(proxy, raw)
    assert_whole(raw, bucket)
    assert proxy.count("GET") - proxy.count("list-type") == 2


def test_a_lost_network_stops_the_run(bucket: Path, proxy: s3.Proxy, raw: Path) -> None:
    proxy.fault("GET .*tif", s3.no_fault, times=4)
    proxy.fault("GET .*tif", s3.connection_reset)
    with pytest.raises(CapetownError, match="were not tried after so many failures"):
        fetch_s3(proxy, raw, tries=1, connections=2)
    assert_no_partial(raw, bucket)
    # The next run goes on. A failing listing is retried.
    proxy.reset()
    proxy.fault("list-type", s3.unavailable, times=2)
    proxy.fault("list-type", s3.cut_short, times=1)
    fetch_s3(proxy, raw)
    assert_whole(raw, bucket)


def test_an_encoded_object_is_kept_encoded(
    bucket: Path, seaweed: s3.Server, proxy: s3.Proxy, raw: Path
) -> None:
    data = (bucket / "sr.csv.gz").read_bytes()
    seaweed.fs.pipe("public/encoded/sr.csv.gz", data, ContentEncoding="gzip")
    fetch_s3(proxy, raw, "s3://public/encoded")
    assert files(raw) == {"sr.csv.gz": data}


def test_a_server_cannot_write_outside_the_mirror(proxy: s3.Proxy, raw: Path) -> None:
    proxy.fault("list-type", s3.rewritten("city/sr_hex_truncated.csv", "city/../x.tif"))
    with pytest.raises(CapetownError, match="nothing was fetched"):
        fetch_s3(proxy, raw)
    assert list(raw.parent.iterdir()) == []


def test_a_large_object_survives_faults(seaweed: s3.Server, proxy: s3.Proxy, raw: Path) -> None:
    data = os.urandom(LARGEST_IN_MEMORY + 12_345)
    seaweed.fs.pipe("public/large/table.bin", data)
    proxy.fault("GET .*table.bin", s3.connection_reset, times=2)
    proxy.fault("GET .*table.bin", s3.truncated, times=1)
    fetch_s3(proxy, raw, "s3://public/large")
    assert files(raw) == {"table.bin": data}
    assert proxy.count("GET .*table.bin") == 4


def test_an_object_that_changes_meanwhile_is_refused(
    seaweed: s3.Server, proxy: s3.Proxy, raw: Path
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
        fetch_s3(proxy, raw, "s3://public/parts", tries=2, connections=1)
    assert not (raw / "table.bin").exists()
    proxy.reset()
    fetch_s3(proxy, raw, "s3://public/parts")
    assert (raw / "table.bin").read_bytes() == second


def test_a_listing_of_several_pages_is_complete(
    seaweed: s3.Server, proxy: s3.Proxy, raw: Path
) -> None:
    seaweed.fs.pipe({f"public/many/{number:04}.csv": b"a\n" for number in range(1_100)})
    fetch_s3(proxy, raw, "s3://public/many", choice=Choice("requests", ["10*.csv"]))
    assert set(files(raw)) == {f"{number}.csv" for number in range(1_000, 1_100)}
    assert proxy.count("list-type") == 2
