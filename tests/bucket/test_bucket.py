"""The mirror is whole and verified, or there is a clear error and nothing half-written."""

import asyncio
import csv
import hashlib
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from capetown.bucket import Access, Selection, mirror
from capetown.bucket.access import check_url
from capetown.bucket.keys import MANIFESTS, check_keys, check_manifests, choose, read_manifest
from capetown.bucket.progress import Progress
from capetown.bucket.sources import RANGE
from capetown.bucket.verification import read_inventory
from capetown.errors import CapetownError
from tests import ROOT, s3

YES, NO = "images/swimming-pool/yes", "images/swimming-pool/no"


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capetown.bucket.retrying.FIRST_WAIT", 0.01)
    monkeypatch.setattr("capetown.bucket.retrying.LONGEST_WAIT", 0.05)


def copy(source: Path, to: Path) -> Path:
    shutil.copytree(source, to)
    return to


def files(folder: Path) -> dict[str, bytes]:
    """Every file but the inventory, byte for byte."""
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {key: path.read_bytes() for key, path in found.items() if key != "inventory.csv"}


def fetch(
    url: str | Path,
    folder: Path,
    *,
    include: tuple[str, ...] = ("**",),
    max_tiles: int | None = None,
    tries: int = 4,
    **access: Any,
) -> None:
    settings: dict[str, Any] = {"connections": 8, "timeout": 5.0, **access}
    selection = Selection(include, max_tiles)
    mirror(str(url), folder, incoming(folder), selection, Access(**settings), tries)


def incoming(folder: Path) -> Path:
    """Where a mirror's objects arrive."""
    return folder.with_name("incoming")


def fetch_s3(proxy: s3.Proxy, folder: Path, url: str = "s3://public/city", **how: Any) -> None:
    fetch(url, folder, endpoint_url=proxy.url, **how)


def assert_whole(folder: Path, bucket: Path) -> None:
    """The mirror has the bucket's files, all of them and nothing else, and says so."""
    assert files(folder) == files(bucket)
    assert not incoming(folder).exists()
    with (folder / "inventory.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows] == sorted(files(bucket))
    for row in rows:
        data = (bucket / row["key"]).read_bytes()
        assert row == {
            "key": row["key"],
            "size": str(len(data)),
            "etag": hashlib.md5(data).hexdigest(),
            "sha256": hashlib.sha256(data).hexdigest(),
        }


def assert_nothing_half_written(folder: Path, bucket: Path, arrived: Path | None = None) -> None:
    """There is no mirror yet, and what has an object's name where they arrive is that object."""
    assert not folder.exists()
    theirs = files(bucket)
    for key, data in files(arrived or incoming(folder)).items():
        assert key == ".partial-journal" or data == theirs[key], key


# --- which keys -------------------------------------------------------------------------------


KEYS = ["a.csv", "b.csv.gz", f"{NO}/N_1_1.tif", f"{NO}/N_1_2.tif", f"{NO}/manifest",
        f"{YES}/Y_1_1.tif", f"{YES}/Y_1_2.TIF", f"{YES}/Y_1_3.tif", f"{YES}/manifest"]  # fmt: skip


@pytest.mark.parametrize(
    ("include", "max_tiles", "expected"),
    [
        (["**"], None, KEYS),
        (["*"], None, ["a.csv", "b.csv.gz"]),
        (["images/**"], None, KEYS[2:]),
        (["**", "!images/**"], None, ["a.csv", "b.csv.gz"]),
        (["!*.csv", "*"], None, ["b.csv.gz"]),
        (["**"], 1, [*KEYS[:3], f"{NO}/manifest", f"{YES}/Y_1_1.tif", f"{YES}/manifest"]),
        (["**/*_1_2.*"], 1, [f"{NO}/N_1_2.tif", f"{YES}/Y_1_2.TIF"]),
    ],
)
def test_patterns_choose_keys(
    include: list[str], max_tiles: int | None, expected: list[str]
) -> None:
    assert choose(reversed(KEYS), include, max_tiles) == expected


@pytest.mark.parametrize(
    ("keys", "include", "said"),
    [
        ([], ["**"], "holds no objects"),
        (KEYS, ["sr.csv.gz"], "'sr.csv.gz' matches no key"),
        (KEYS, ["!images/**"], "nothing is left of the source"),
        (KEYS, ["a.csv", "!a.csv"], "nothing is left of the source"),
        (KEYS, ["images/**x"], "is not a glob pattern"),
    ],
)
def test_a_choice_of_nothing_is_one_line(keys: list[str], include: list[str], said: str) -> None:
    with pytest.raises(CapetownError, match=re.escape(said)):
        choose(keys, include, None)


@pytest.mark.parametrize(
    "key",
    ["../x", "a/../../x", "/etc/passwd", "a//b", "./a", "a/.", "a\\..\\b", "a\0b", "a\nb",
     "inventory.csv", ".partial-journal", "a/.partial-1"],
)  # fmt: skip
def test_a_key_that_leads_elsewhere_is_refused_by_name(key: str) -> None:
    with pytest.raises(CapetownError, match=re.escape(f"key {key!r}")):
        check_keys(["a.csv", key])


@given(st.text(min_size=1, max_size=20))
def test_a_key_that_passes_stays_within_its_folder(key: str) -> None:
    try:
        check_keys([key])
    except CapetownError:
        return
    inside = os.path.normpath(os.path.join("/mirror", key))  # noqa: PTH118
    assert inside == f"/mirror/{key}"


def test_a_key_cannot_be_a_file_and_a_folder() -> None:
    with pytest.raises(CapetownError, match="'a' and 'a/b' cannot both be files"):
        check_keys(["a", "a/b"])


def test_a_manifest_names_tiles_with_or_without_its_own_name_and_paths() -> None:
    assert read_manifest("b.tif\r\n\n./a.tif\nmanifest\n") == ["a.tif", "b.tif"]


def test_manifests_tell_missing_and_extra_tiles() -> None:
    texts = {MANIFESTS[0]: "N_1_1.tif\nN_1_2.tif\n", MANIFESTS[1]: "Y_1_1.tif\nY_1_3.tif\n"}
    assert check_manifests(KEYS, texts, ["**"], None) == [f"{YES}/Y_1_2.TIF"]
    texts[MANIFESTS[0]] += "N_9_9.tif\n"
    with pytest.raises(CapetownError, match=f"1 of the source's.*{NO}/N_9_9.tif"):
        check_manifests(KEYS, texts, ["**"], None)
    # Not asked for, so not missed.
    assert check_manifests(KEYS, texts, ["**", "!**/N_9*"], None) == [f"{YES}/Y_1_2.TIF"]
    assert check_manifests(KEYS, texts, ["**"], 2) == [f"{YES}/Y_1_2.TIF"]


# --- from a folder ----------------------------------------------------------------------------


def test_a_folder_is_mirrored_without_a_network(
    bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    fetch(bucket, tmp_path / "raw")
    assert_whole(tmp_path / "raw", bucket)


def test_a_second_run_writes_nothing(bucket: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    fetch(bucket, raw)
    before = {p: p.stat().st_mtime_ns for p in raw.rglob("*")}
    fetch(bucket, raw)
    assert {p: p.stat().st_mtime_ns for p in raw.rglob("*")} == before


def test_what_changed_left_or_was_edited_is_set_right(bucket: Path, tmp_path: Path) -> None:
    source, raw = copy(bucket, tmp_path / "source"), tmp_path / "raw"
    fetch(source, raw)
    tile = next((raw / YES).glob("*.tif"))
    (source / "sr_hex_truncated.csv").write_text("changed\n")
    (source / "new").mkdir()
    (source / "new" / "table.csv").write_text("a\n")
    fetch(source, raw)
    assert_whole(raw, source)
    # In the mirror: another pixel of the same size, a missing file, a stray one.
    data = bytearray(tile.read_bytes())
    data[-1] ^= 1
    tile.write_bytes(data)
    (raw / "sr.csv.gz").unlink()
    (raw / "stray").mkdir()
    (raw / "stray" / "file").write_text("x")
    shutil.rmtree(source / "new")
    fetch(source, raw)
    assert_whole(raw, source)
    assert not (raw / "new").exists()
    assert not (raw / "stray").exists()


def test_a_mirror_stays_as_it_was_until_the_new_one_is_whole(bucket: Path, tmp_path: Path) -> None:
    source, raw = copy(bucket, tmp_path / "source"), tmp_path / "raw"
    fetch(bucket, raw)
    before = files(raw)
    (source / "sr_hex_truncated.csv").write_text("changed\n")
    (source / "sr.csv.gz").write_bytes(b"damaged")
    with pytest.raises(CapetownError, match=r"sr\.csv\.gz"):
        fetch(source, raw)
    assert files(raw) == before
    assert set(files(incoming(raw))) == {".partial-journal", "sr_hex_truncated.csv"}
    fetch(bucket, raw)
    assert_whole(raw, bucket)


def test_a_file_that_becomes_a_folder_and_back_is_no_obstacle(tmp_path: Path) -> None:
    source, raw = tmp_path / "source", tmp_path / "raw"
    source.mkdir()
    (source / "table").write_text("a\n")
    fetch(source, raw)
    (source / "table").unlink()
    (source / "table").mkdir()
    (source / "table" / "part").write_text("b\n")
    fetch(source, raw)
    assert_whole(raw, source)
    shutil.rmtree(source / "table")
    (source / "table").write_text("a\n")
    fetch(source, raw)
    assert_whole(raw, source)


def test_a_run_that_ends_while_it_moves_the_objects_is_taken_up(
    bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw"
    replace, moved = Path.replace, []

    def cut_off(path: Path, target: Path) -> Path:
        if path.is_relative_to(incoming(raw)) and target.is_relative_to(raw):
            moved.append(target)
            if len(moved) == 5:
                raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", cut_off)
        with pytest.raises(KeyboardInterrupt):
            fetch(bucket, raw)
    assert len(files(raw)) == 4
    assert not (raw / "inventory.csv").exists()

    def refuse(*_: object) -> None:
        raise AssertionError("fetched again")

    monkeypatch.setattr("capetown.bucket.sources.Source.fetch", refuse)
    fetch(bucket, raw)
    assert_whole(raw, bucket)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"\0" * len(text),
        lambda text: text[: len(text) // 2],
        lambda text: b'"' + b"x" * 200_000 + b"\n" + text,
        lambda text: text.replace(b",", b",9" + b"9" * 5_000),
        lambda text: b"\xff" + text,
    ],
)
def test_a_damaged_inventory_is_no_obstacle(
    damage: Callable[[bytes], bytes], bucket: Path, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    fetch(bucket, raw)
    inventory = raw / "inventory.csv"
    (raw / "sr.csv.gz").unlink()
    inventory.write_bytes(damage(inventory.read_bytes()))
    fetch(bucket, raw)
    assert_whole(raw, bucket)


def test_only_what_is_chosen_is_there(bucket: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    fetch(bucket, raw, include=("*",))
    assert set(files(raw)) == {p.name for p in bucket.iterdir() if p.is_file()}
    fetch(bucket, raw, include=("images/**",), max_tiles=3)
    first = [sorted(p.name for p in (bucket / c).glob("*.tif"))[:3] for c in (NO, YES)]
    expected = {f"{c}/{name}" for c, names in zip((NO, YES), first, strict=True) for name in names}
    assert set(files(raw)) == expected | set(MANIFESTS)


@pytest.mark.parametrize(
    ("key", "data", "said"),
    [
        ("sr.csv.gz", b"\x1f\x8b\x08", "is not a whole gzip file"),
        ("sr_hex.csv.gz", b"notification_number\n", "is not a whole gzip file"),
        ("city-hex-polygons-8.geojson", b'{"type": "FeatureCollection", "fea', "is not a whole G"),
        ("city-hex-polygons-8.geojson", b"", "is empty"),
        (f"{YES}/Z_1_1.tif", b"\x89PNG\r\n\x1a\n", "is not a TIFF"),
        (f"{YES}/Z_1_1.tif", b"II*\x00", "is not a TIFF"),
    ],
)
def test_an_object_that_is_not_of_its_kind_is_named(
    key: str, data: bytes, said: str, bucket: Path, tmp_path: Path
) -> None:
    source, raw = copy(bucket, tmp_path / "source"), tmp_path / "raw"
    (source / key).write_bytes(data)
    with pytest.raises(CapetownError, match=re.escape(f"{key} ({said}")) as caught:
        fetch(source, raw)
    assert "\n" not in str(caught.value)
    assert_nothing_half_written(raw, source)
    assert not (incoming(raw) / key).exists()


def test_a_tile_that_the_manifest_names_and_the_source_lacks_is_named(
    bucket: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, raw = copy(bucket, tmp_path / "source"), tmp_path / "raw"
    tile = min((source / NO).glob("*.tif"))
    shutil.copy(tile, source / NO / "A0_0_0.tif")
    with caplog.at_level(logging.WARNING, "capetown"):
        fetch(source, raw)
    assert f"1 tiles that no manifest names: {NO}/A0_0_0.tif" in caplog.text
    tile.unlink()
    with pytest.raises(CapetownError, match=f"should be there and are not: {NO}/{tile.name}"):
        fetch(source, raw)
    fetch(source, raw, include=("**", f"!{NO}/{tile.name}"))
    assert_whole(raw, source)


def test_a_link_does_not_lead_out_of_the_mirror(bucket: Path, tmp_path: Path) -> None:
    raw, outside = tmp_path / "raw", tmp_path / "outside"
    raw.mkdir()
    outside.mkdir()
    (raw / "images").symlink_to(outside)
    with pytest.raises(CapetownError, match="leads out of"):
        fetch(bucket, raw)
    assert list(outside.rglob("*.tif")) == []


@pytest.mark.parametrize("source", [".", "raw", "raw/images"])
def test_a_source_that_shares_the_mirrors_folder_is_refused(
    source: str, bucket: Path, tmp_path: Path
) -> None:
    fetch(bucket, tmp_path / "raw")
    with pytest.raises(CapetownError, match="lie within each other"):
        fetch(tmp_path / source, tmp_path / "raw")
    assert_whole(tmp_path / "raw", bucket)


# --- addresses and credentials ----------------------------------------------------------------


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


def credentials(folder: Path, secret: str = s3.SECRET_KEY) -> str:
    """The City's kind of file."""
    path = folder / "credentials.json"
    path.write_text(json.dumps({"s3": {"access_key": s3.ACCESS_KEY, "secret_key": secret}}))
    return str(path)


# --- from S3 ----------------------------------------------------------------------------------


def test_a_public_bucket_is_mirrored_anonymously(
    bucket: Path, proxy: s3.Proxy, tmp_path: Path
) -> None:
    fetch_s3(proxy, tmp_path / "raw")
    assert_whole(tmp_path / "raw", bucket)
    asked = len(proxy.asked)
    fetch_s3(proxy, tmp_path / "raw")
    # The second run lists, and nothing else.
    assert len(proxy.asked) == asked + proxy.count("list-type") // 2
    assert_whole(tmp_path / "raw", bucket)


def test_a_private_bucket_wants_keys(
    bucket: Path, proxy: s3.Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, private = tmp_path / "raw", "s3://private"
    with pytest.raises(CapetownError, match=r"cannot be listed.*see download\.credentials"):
        fetch_s3(proxy, raw, private)
    with pytest.raises(CapetownError, match="cannot be listed") as caught:
        fetch_s3(proxy, raw, private, credentials=credentials(tmp_path, "hunter2"))
    assert "hunter2" not in str(caught.value)
    assert s3.ACCESS_KEY not in str(caught.value)
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


def test_a_bucket_or_prefix_that_is_not_there_is_one_line(proxy: s3.Proxy, tmp_path: Path) -> None:
    with pytest.raises(CapetownError, match=r"s3://(nowhere|public/nowhere)"):
        fetch_s3(proxy, tmp_path / "raw", "s3://nowhere")
    with pytest.raises(CapetownError, match=r"correct download\.source"):
        fetch_s3(proxy, tmp_path / "raw", "s3://public/nowhere")
    assert not (tmp_path / "raw").exists()


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    [port] = s3.free_ports(1)
    with pytest.raises(CapetownError, match=r"s3://public: cannot be listed: .*\(2 tries\)"):
        fetch("s3://public", tmp_path / "raw", endpoint_url=f"http://127.0.0.1:{port}", tries=2)


FAULTS = {
    "reset": s3.connection_reset,
    "cut short": s3.cut_short,
    "truncated": s3.truncated,
    "damaged": s3.damaged,
    "503": s3.unavailable,
    "stall": s3.stall,
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("key", ["sr_hex_truncated.csv", "sr.csv.gz", r"yes/\w+.tif", "manifest"])
def test_a_passing_fault_ends_in_a_whole_mirror(
    fault: str, key: str, bucket: Path, proxy: s3.Proxy, tmp_path: Path
) -> None:
    proxy.fault(f"GET .*{key}", FAULTS[fault], times=3)
    fetch_s3(proxy, tmp_path / "raw", timeout=0.3)
    assert_whole(tmp_path / "raw", bucket)
    assert proxy.count(f"GET .*{key}") >= 4


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lasting_fault_names_every_key_and_the_next_run_goes_on(
    fault: str, bucket: Path, proxy: s3.Proxy, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    proxy.fault(r"GET .*(sr\.csv\.gz|truncated\.csv)", FAULTS[fault])
    with pytest.raises(CapetownError) as caught:
        fetch_s3(proxy, raw, tries=2, timeout=0.3)
    said = str(caught.value)
    assert re.match(r"2 of \d+ objects could not be fetched: sr.csv.gz \(.*\); sr_hex_tr", said)
    assert "run the same command again to go on" in said
    assert "\n" not in said
    assert_nothing_half_written(raw, bucket)
    assert len(files(incoming(raw))) == len(files(bucket)) - 2 + 1  # and the journal

    proxy.reset()
    fetch_s3(proxy, raw)
    assert_whole(raw, bucket)
    assert proxy.count("GET") - proxy.count("list-type") == 2


def test_a_listing_that_fails_for_a_while_is_asked_for_again(
    bucket: Path, proxy: s3.Proxy, tmp_path: Path
) -> None:
    proxy.fault("list-type", s3.unavailable, times=2)
    proxy.fault("list-type", s3.cut_short, times=1)
    fetch_s3(proxy, tmp_path / "raw", timeout=0.5)
    assert_whole(tmp_path / "raw", bucket)


def test_a_wrong_etag_is_told_and_the_object_not_kept(
    bucket: Path, proxy: s3.Proxy, tmp_path: Path
) -> None:
    raw, key = tmp_path / "raw", "sr_hex_truncated.csv"
    md5 = hashlib.md5((bucket / key).read_bytes()).hexdigest()
    proxy.fault("list-type", s3.rewritten(md5, "0" * 32))
    with pytest.raises(CapetownError, match=f"{key}.*its MD5 is {md5} and its ETag says 000"):
        fetch_s3(proxy, raw, tries=2)
    assert_nothing_half_written(raw, bucket)
    assert not (incoming(raw) / key).exists()


@pytest.mark.parametrize("key", ["../x.tif", "/etc/x", "images/../../x"])
def test_a_server_cannot_make_a_mirror_write_elsewhere(
    key: str, bucket: Path, proxy: s3.Proxy, tmp_path: Path
) -> None:
    proxy.fault("list-type", s3.rewritten("city/sr_hex_truncated.csv", f"city/{key}"))
    with pytest.raises(CapetownError, match="nothing was fetched"):
        fetch_s3(proxy, tmp_path / "raw")
    assert list(tmp_path.iterdir()) == []


def test_a_large_object_comes_in_ranges_and_survives_faults(
    seaweed: s3.Server, proxy: s3.Proxy, tmp_path: Path
) -> None:
    data = os.urandom(3 * RANGE + 12_345)
    seaweed.fs.pipe("public/large/table.bin", data)
    proxy.fault("GET .*table.bin", s3.connection_reset, times=2)
    proxy.fault("GET .*table.bin", s3.truncated, times=1)
    fetch_s3(proxy, tmp_path / "raw", "s3://public/large")
    assert files(tmp_path / "raw") == {"table.bin": data}
    assert proxy.count("GET .*table.bin") == 4 + 3


def test_an_object_that_changes_while_it_is_fetched_is_not_a_mixture(
    seaweed: s3.Server, proxy: s3.Proxy, tmp_path: Path
) -> None:
    """Uploaded in parts, so that its ETag is no MD5 and only its version can tell."""
    first, second = (bytes([n]) * (6 << 20) for n in (1, 2))

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


def test_a_listing_of_several_pages_is_read_to_its_end(
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


# --- from a web server ------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(bucket: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server that lists nothing, and the folder that it shows."""
    folder = copy(bucket, tmp_path / "shown")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()


def test_a_web_server_is_mirrored_by_the_manifests(web: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = web
    fetch(url, tmp_path / "raw")
    assert files(tmp_path / "raw") == files(folder)
    entries = read_inventory(tmp_path / "raw" / "inventory.csv")
    assert {entry.sha256 for entry in entries.values()} == {
        hashlib.sha256(data).hexdigest() for data in files(folder).values()
    }


def test_a_web_servers_missing_tile_is_named(web: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = web
    tile = min((folder / YES).glob("*.tif"))
    tile.unlink()
    with pytest.raises(CapetownError, match=f"1 of .*{YES}/{tile.name}"):
        fetch(url, tmp_path / "raw")


def test_a_web_servers_manifest_need_not_be_utf8(web: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = web
    with (folder / YES / "manifest").open("ab") as file:
        file.write(b"caf\xe9.tif\n")
    with pytest.raises(CapetownError, match=r"1 of .*caf.\.tif"):
        fetch(url, tmp_path / "raw")


@pytest.mark.parametrize("of_s3", [False, True])
def test_a_web_servers_etag_is_an_md5_if_it_is_an_s3(
    web: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_s3: bool
) -> None:
    end = Quiet.end_headers

    def with_etag(self: Quiet) -> None:
        self.send_header("ETag", f'"{"0" * 32}"')
        if of_s3:
            self.send_header("x-amz-request-id", "1")
        end(self)

    monkeypatch.setattr(Quiet, "end_headers", with_etag)
    url, folder = web
    if of_s3:
        with pytest.raises(CapetownError, match="its ETag says 000"):
            fetch(url, tmp_path / "raw", include=("sr.csv.gz",), tries=1)
    else:
        fetch(url, tmp_path / "raw")
        assert files(tmp_path / "raw") == files(folder)


# --- the stage --------------------------------------------------------------------------------


@pytest.fixture
def workspace(tmp_path: Path, proxy: s3.Proxy) -> Path:
    """What the stage reads: params that name the server."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["download"] |= {
        "source": "s3://public/city", "endpoint_url": proxy.url, "connections": 2, "timeout": 2,
    }  # fmt: skip
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder


def start(workspace: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "stages.download"],
        cwd=workspace, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def set_download(workspace: Path, **values: Any) -> None:
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    params["download"] |= values
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))


def wait_for_tiles(workspace: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(list((workspace / "checkpoints").rglob("*.tif"))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_goes_on_where_it_stopped(
    how: signal.Signals, bucket: Path, proxy: s3.Proxy, workspace: Path
) -> None:
    proxy.delay = 0.1
    stage = start(workspace)
    wait_for_tiles(workspace, 5)
    stage.send_signal(how)
    _, said = stage.communicate()
    assert stage.returncode != 0
    assert not (workspace / "raw").exists()
    [arrived] = (workspace / "checkpoints").iterdir()
    theirs = files(bucket)
    whole = {k for k, v in files(arrived).items() if theirs.get(k) == v}
    assert {k for k in files(arrived) if ".partial-" not in k} == whole
    assert len(whole) < len(theirs)

    proxy.reset()
    again = start(workspace)
    _, said = again.communicate()
    assert again.returncode == 0, said
    assert_whole(workspace / "raw", bucket)
    assert not arrived.exists()
    fetched = proxy.count("GET") - proxy.count("list-type")
    # The last object may have been renamed and not yet been written into the journal.
    assert len(theirs) - len(whole) <= fetched <= len(theirs) - len(whole) + 2


def test_an_interruption_is_one_line(proxy: s3.Proxy, workspace: Path) -> None:
    proxy.delay = 0.2
    stage = start(workspace)
    wait_for_tiles(workspace, 1)
    stage.send_signal(signal.SIGINT)
    _, said = stage.communicate()
    assert stage.returncode == 130
    assert "Traceback" not in said
    assert "run the same command again to go on" in said


def test_the_network_gone_is_one_line_and_the_next_run_goes_on(
    bucket: Path, proxy: s3.Proxy, workspace: Path
) -> None:
    set_download(workspace, tries=1)
    proxy.fault("GET .*tif", s3.no_fault, times=4)
    proxy.fault("GET .*tif", s3.connection_reset)
    _, said = (stage := start(workspace)).communicate()
    assert stage.returncode == 1
    assert re.search(r"error: \d+ of \d+ objects could not be fetched", said)
    assert "were not tried after so many failures" in said
    assert "Traceback" not in said
    [arrived] = (workspace / "checkpoints").iterdir()
    assert_nothing_half_written(workspace / "raw", bucket, arrived)
    proxy.reset()
    _, said = (stage := start(workspace)).communicate()
    assert stage.returncode == 0, said
    assert_whole(workspace / "raw", bucket)


def test_credentials_reach_no_log_and_no_file(
    bucket: Path, proxy: s3.Proxy, workspace: Path
) -> None:
    path = credentials(workspace.parent)
    set_download(workspace, source="s3://private", credentials=path)
    _, said = (stage := start(workspace)).communicate()
    assert stage.returncode == 0, said
    proxy.fault("list-type", s3.unavailable)
    set_download(workspace, tries=1)
    _, failed = (stage := start(workspace)).communicate()
    assert stage.returncode == 1
    written = b"".join(p.read_bytes() for p in workspace.rglob("*") if p.is_file())
    for secret in (s3.ACCESS_KEY, s3.SECRET_KEY):
        assert secret not in said + failed
        assert secret.encode() not in written


def test_progress_is_a_line_once_in_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("capetown.bucket.progress.time.monotonic", lambda: now[0])
    with caplog.at_level(logging.INFO, "capetown"), Progress(10, 40_000_000) as progress:
        for _ in range(4):
            now[0] += 3
            progress.advance(2_500_000)
            progress.finish()
        progress.retried()
    assert caplog.messages == ["3 of 10 objects, 10.0 of 40.0 MB, 0.8 MB/s, 36 s left, 0 retries"]
