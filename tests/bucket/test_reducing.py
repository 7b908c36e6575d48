"""Tiles of the City's size are verified in full and kept reduced."""

import csv
import hashlib
import io
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from capetown.bucket import RetentionPolicy
from capetown.errors import CapetownError
from capetown.imagery.reading import read_raster, read_tile
from capetown.imagery.reducing import reduce_tile
from tests import ROOT, s3
from tests.bucket.mirrors import NO, YES, fetch, fetch_s3, files, incoming

LARGE, SMALL = f"{YES}/W35A_7_58.tif", f"{NO}/W35A_7_59.tif"
DAMAGED, DEEP = f"{NO}/W35A_7_60.tif", f"{NO}/W35A_7_61.tif"
SIDE = 640


def tiff(side: int) -> bytes:
    """A smooth picture with noise, as LZW: four megabytes at 1,250 pixels."""
    rng = np.random.default_rng(side)
    y, x, _ = np.mgrid[:side, :side, :1] / side
    picture = 120 + 80 * np.sin(7 * x + [0, 1, 2]) * y + rng.normal(0, 3, (side, side, 3))
    file = io.BytesIO()
    Image.fromarray(picture.astype(np.uint8)).save(file, "TIFF", compression="tiff_lzw")
    return file.getvalue()


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiles of the City's size, one of them damaged, a small one, and one of 32 bits."""
    folder = tmp_path_factory.mktemp("tiles")
    large = tiff(1250)
    assert 3_000_000 < len(large) < 5_000_000
    damaged = large[:2_000_000] + bytes(1_000) + large[2_001_000:-9_000] + large[-9_000:]
    deep = io.BytesIO()
    Image.fromarray(np.ones((700, 700), dtype=np.float32)).save(deep, "TIFF")
    for key, data in {
        LARGE: large, SMALL: tiff(256), DAMAGED: damaged, DEEP: deep.getvalue(),
    }.items():  # fmt: skip
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(data)
    for place in (YES, NO):
        names = sorted(p.name for p in (folder / place).iterdir())
        (folder / place / "manifest").write_text("\n".join(names))
    return folder


@pytest.fixture(scope="module")
def stored(tiles: Path, seaweed: s3.Server) -> None:
    """The tiles in SeaweedFS, as ``public/tiles``."""
    seaweed.upload(tiles, f"{s3.PUBLIC}/tiles")


def reducing(side: int | None = SIDE) -> RetentionPolicy:
    return RetentionPolicy(tile_side=side, reduce=reduce_tile)


def inventory(raw: Path) -> dict[str, dict[str, str]]:
    with (raw / "inventory.csv").open() as file:
        return {row["key"]: row for row in csv.DictReader(file)}


def assert_reduced(raw: Path, tiles: Path, side: int = SIDE) -> None:
    """The inventory lists every object, and only the large tile is reduced."""
    came, kept, rows = files(tiles), files(raw), inventory(raw)
    assert kept.keys() == came.keys() == rows.keys()
    assert {key for key in came if kept[key] != came[key]} == {LARGE}
    assert read_tile(raw / LARGE).shape == (side, side, 3)
    for key, row in rows.items():
        assert int(row["size"]) == len(came[key])
        assert row["etag"] == hashlib.md5(came[key]).hexdigest()
        assert row["sha256"] == hashlib.sha256(came[key]).hexdigest()
        assert int(row["kept_size"]) == len(kept[key])
        assert row["kept_sha256"] == hashlib.sha256(kept[key]).hexdigest()
        assert row["tile_side"] == ("" if key.endswith("manifest") else str(side))
    assert rows[DAMAGED]["note"].startswith("kept unreduced: damaged")
    assert rows[DEEP]["note"].startswith("kept unreduced: ")
    assert not incoming(raw).exists()


def test_a_reduced_tile_shows_the_same_picture() -> None:
    original = tiff(1250)
    reduced = reduce_tile(original, 500)
    assert len(reduced) < len(original) / 20
    mean_of_its_pixels = np.asarray(Image.open(io.BytesIO(original)).reduce(5), dtype=float)
    halved = np.asarray(Image.fromarray(read_tile(io.BytesIO(reduced))).reduce(2), dtype=float)
    assert np.abs(halved - mean_of_its_pixels).mean() < 1.5
    assert reduce_tile(original, 1250) is original
    assert read_raster(io.BytesIO(reduced)).side == 1250


@pytest.mark.parametrize(("width", "height", "kept"), [(900, 300, (213, 640)), (700, 1, (1, 640))])
def test_a_tile_that_is_not_square_keeps_its_shape(
    width: int, height: int, kept: tuple[int, int]
) -> None:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "TIFF")
    assert read_tile(io.BytesIO(reduce_tile(file.getvalue(), 640))).shape == (*kept, 3)


def test_originals_are_verified_and_kept_reduced(
    tiles: Path, stored: None, proxy: s3.Proxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = tmp_path / "raw"
    proxy.fault("GET .*W35A_7_58.tif", s3.damaged, times=1)
    proxy.fault("GET .*W35A_7_58.tif", s3.cut_short, times=1)
    with caplog.at_level(logging.INFO, "capetown"):
        fetch_s3(proxy, raw, "s3://public/tiles", policy=reducing())
    assert_reduced(raw, tiles)
    assert "6 objects" in caplog.text
    for key in (DAMAGED, DEEP):
        assert f"{key}: kept unreduced: " in caplog.text
    proxy.reset()
    fetch_s3(proxy, raw, "s3://public/tiles", policy=reducing())
    assert proxy.count("GET") == proxy.count("list-type") > 0


def test_another_side_fetches_only_reduced_tiles_again(
    tiles: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = tmp_path / "raw"
    fetch(tiles, raw, policy=reducing())
    with caplog.at_level(logging.INFO, "capetown"):
        fetch(tiles, raw, policy=reducing(512))
    assert_reduced(raw, tiles, 512)
    large = (tiles / LARGE).stat().st_size / 1e6
    assert f": 1 ({large:.1f} MB) to fetch, 5 are here" in caplog.text
    fetch(tiles, raw, policy=reducing(None))
    assert files(raw) == files(tiles)
    assert {row["tile_side"] for row in inventory(raw).values()} == {""}


def test_existing_originals_are_reduced_without_fetching(
    tiles: Path, stored: None, proxy: s3.Proxy, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    fetch_s3(proxy, raw, "s3://public/tiles", policy=reducing(None))
    proxy.reset()
    fetch_s3(proxy, raw, "s3://public/tiles", policy=reducing())
    assert proxy.count("GET") == proxy.count("list-type") > 0
    assert_reduced(raw, tiles)


def test_an_edited_tile_is_fetched_again(tiles: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    fetch(tiles, raw, policy=reducing())
    (raw / LARGE).write_bytes(tiff(SIDE))
    fetch(tiles, raw, policy=reducing())
    assert_reduced(raw, tiles)


def test_checksums_of_size_ignore_etags(
    tiles: Path, stored: None, proxy: s3.Proxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw, key = tmp_path / "raw", LARGE
    md5 = hashlib.md5((tiles / key).read_bytes()).hexdigest()
    proxy.fault("list-type", s3.rewritten(md5, "0" * 32))
    with pytest.raises(CapetownError, match=r"set download\.checksums to size"):
        fetch_s3(proxy, raw, "s3://public/tiles", tries=1)
    fetch_s3(proxy, raw, "s3://public/tiles", policy=RetentionPolicy(checksums="size"))
    assert "download.checksums is size" in caplog.text
    assert files(raw) == files(tiles)


def test_too_little_disk_space_is_refused_before_fetching(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3_000_000))
    with pytest.raises(CapetownError, match=r"\d+ MB are needed and 3 MB are free"):
        fetch(tiles, tmp_path / "raw")
    fetch(tiles, tmp_path / "raw", include=(LARGE,), policy=reducing())
    assert set(files(tmp_path / "raw")) == {LARGE}


# --- the stage --------------------------------------------------------------------------------


@pytest.fixture
def workspace(tmp_path: Path, stored: None, proxy: s3.Proxy) -> Path:
    """A folder with params for the server, otherwise the defaults."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["download"] |= {
        "source": "s3://public/tiles", "endpoint_url": proxy.url, "connections": 2,
        "include": ["images/swimming-pool/**"],
    }  # fmt: skip
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder


def start(workspace: Path, *within: str, code: str = "") -> "subprocess.Popen[str]":
    """The stage as a process that runs some code of the test first."""
    run = f"import runpy\n{code}\nrunpy.run_module('stages.download', run_name='__main__')"
    command = [*within, sys.executable, "-c", run]
    return subprocess.Popen(
        command, cwd=workspace, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


SLOW = """
import time
import stages
from capetown.imagery import reducing
reduce = reducing.reduce_tile
def slow(data, side):
    open('reducing', 'w').close()
    time.sleep(60 if len(data) > 1_000_000 else 0)
    return reduce(data, side)
reducing.reduce_tile = slow
"""


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("where", ["in mid-tile", "in mid-reduction"])
def test_a_killed_run_leaves_no_partial_tile(
    where: str, tiles: Path, proxy: s3.Proxy, workspace: Path
) -> None:
    if where == "in mid-tile":
        proxy.fault("GET .*W35A_7_58.tif", s3.stall)
        stage = start(workspace)
        deadline = time.monotonic() + 60
        while proxy.count("GET .*W35A_7_58.tif") == 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    else:
        stage = start(workspace, code=SLOW)
        wait_for(workspace / "reducing")
    stage.send_signal(signal.SIGKILL)
    stage.communicate()
    assert not (workspace / "raw").exists()
    [arrived] = (workspace / "checkpoints").iterdir()
    came = files(tiles)
    for key, data in files(arrived).items():
        assert ".partial-" in key or data == came[key]
    proxy.reset()
    _, said = (stage := start(workspace)).communicate()
    assert stage.returncode == 0, said
    assert_reduced(workspace / "raw", tiles)
    assert not arrived.exists()


@pytest.fixture
def small_disk(workspace: Path) -> list[str]:
    """A command that runs another with a disk of 1.5 MB mounted as ``checkpoints``."""
    folder = workspace / "checkpoints"
    folder.mkdir()
    mount = 'mount -t tmpfs -o size=1500k none "$0" && exec "$@"'
    within = ["unshare", "-rm", "sh", "-c", mount, str(folder)]
    if subprocess.run([*within, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    return within


def test_a_full_disk_is_one_line(small_disk: list[str], workspace: Path) -> None:
    """The damaged tile is expected to take 0.2 MB. It is kept unreduced and has 3 MB."""
    _, said = (stage := start(workspace, *small_disk)).communicate()
    assert stage.returncode == 1, said
    assert re.search(r"^error: .*: No space left on device; make room and run", said, re.M)
    assert "Traceback" not in said
    assert not (workspace / "raw").exists()
