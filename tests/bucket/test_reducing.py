"""Tiles of the City's size are verified in full and kept reduced."""

import hashlib
import io
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from capetown.bucket import Choice, RetentionPolicy
from capetown.errors import CapetownError
from capetown.imagery.georeference import find_georeference, tags_of_file
from capetown.imagery.reading import read_raster, read_tile
from capetown.imagery.reducing import reduce_tile
from capetown.imagery.tile_ref import Sidecars
from tests import s3
from tests.bucket.mirrors import (
    DAMAGED,
    DEEP,
    LARGE,
    assert_no_partial,
    assert_whole,
    fetch,
    fetch_s3,
    files,
    incoming,
    tiff,
)
from tests.imagery import GRID, UTM, WORLD, geotiff


def reducing(side: int | None = 640) -> RetentionPolicy:
    return RetentionPolicy(tile_side=side, reduce=reduce_tile)


def assert_reduced(raw: Path, tiles: Path, side: int = 640) -> None:
    """Only the large tile is reduced, and the inventory says why others are not."""
    notes = assert_whole(raw, tiles, {LARGE}, side)
    assert notes.keys() == {DAMAGED, DEEP}
    assert notes[DAMAGED].startswith("kept unreduced: damaged")
    assert read_tile(raw / LARGE).shape == (side, side, 3)


def test_a_reduced_tile_shows_the_same_picture() -> None:
    original = tiff(1250)
    reduced = reduce_tile(original, 500)
    assert len(reduced) < len(original) / 20
    mean_of_its_pixels = np.asarray(Image.open(io.BytesIO(original)).reduce(5), dtype=float)
    halved = np.asarray(Image.fromarray(read_tile(io.BytesIO(reduced))).reduce(2), dtype=float)
    assert np.abs(halved - mean_of_its_pixels).mean() < 1.5
    assert reduce_tile(original, 1250) is original
    assert read_raster(io.BytesIO(reduced)).side == 1250
    for size, kept in {(900, 300): (213, 640), (700, 1): (1, 640)}.items():
        file = io.BytesIO()
        Image.new("RGB", size).save(file, "TIFF")
        assert read_tile(io.BytesIO(reduce_tile(file.getvalue(), 640))).shape == (*kept, 3)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_reduced_tile_stays_where_it_was(tmp_path: Path, orientation: int) -> None:
    """Its tags refer to the reduced pixels, and a world file beside it to the original's."""
    wide = np.zeros((60, 120, 3), np.uint8)
    tagged = geotiff(tmp_path / "a.tif", wide)
    with tifffile.TiffFile(tagged) as tiff:
        geo = [(t.code, int(t.dtype), t.count, t.value, True) for t in tiff.pages.first.tags
               if t.code in (33550, 33922, 34735, 34736, 34737)]  # fmt: skip
    turn = (274, 3, 1, orientation, True)
    tifffile.imwrite(tagged, wide, photometric="rgb", extratags=[*geo, turn])
    reduced = reduce_tile(tagged.read_bytes(), 60)
    place = find_georeference(tags_of_file(reduced), Sidecars(), "")
    height, width = read_tile(io.BytesIO(reduced)).shape[:2]
    assert max(width, height) == 60
    before = find_georeference(tags_of_file(tagged.read_bytes()), Sidecars(), "")
    assert place is not None
    assert before is not None
    # Corners of the stored pixels, 120 wide and 60 high.
    corners = {(0, 0), (0, 60), (120, 0), (120, 60)}
    there = {tuple(np.round(before.transform @ corner, 6)) for corner in corners}
    ends = {(0, 0), (0, height), (width, 0), (width, height)}
    assert {tuple(np.round(place.transform @ end, 6)) for end in ends} == there
    raster = read_raster(io.BytesIO(reduced))
    # Turned pixels have no scale, but a matrix.
    assert (raster.side, raster.resolution) == (120, 2.5 if orientation == 1 else 0)

    tifffile.imwrite(tagged, wide, photometric="rgb")
    plain = reduce_tile(tagged.read_bytes(), 60)
    (tmp_path / "a.tfw").write_text(WORLD)
    beside = find_georeference(tags_of_file(plain), Sidecars(world=str(tmp_path / "a.tfw")), UTM)
    assert beside is not None
    assert beside.transform @ (60, 30) == pytest.approx(GRID @ (120, 60))


def test_originals_are_verified_and_kept_reduced(
    tiles: Path, stored: str, proxy: s3.Proxy, raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.fault("GET .*W35A_7_58.tif", s3.damaged, times=1)
    proxy.fault("GET .*W35A_7_58.tif", s3.cut_short, times=1)
    fetch_s3(proxy, raw, stored, policy=reducing(None))
    assert_whole(raw, tiles)
    proxy.reset()
    for _ in range(2):
        fetch_s3(proxy, raw, stored, policy=reducing())
        assert_reduced(raw, tiles)
    assert proxy.count("GET") == proxy.count("list-type") > 0
    for key in (DAMAGED, DEEP):
        assert f"{key}: kept unreduced: " in caplog.text


def test_only_edited_tiles_and_those_of_another_side_are_fetched_again(
    tiles: Path, raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fetch(tiles, raw, policy=reducing())
    (raw / LARGE).write_bytes(tiff(640))
    fetch(tiles, raw, policy=reducing())
    assert_reduced(raw, tiles)
    with caplog.at_level(logging.INFO, "capetown"):
        fetch(tiles, raw, policy=reducing(512))
    assert_reduced(raw, tiles, 512)
    large = (tiles / LARGE).stat().st_size / 1e6
    assert f": 1 ({large:.1f} MB) to fetch, 5 are here" in caplog.text
    fetch(tiles, raw, policy=reducing(None))
    assert_whole(raw, tiles)


def test_checksums_of_size_ignore_etags(
    tiles: Path, stored: str, proxy: s3.Proxy, raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    md5 = hashlib.md5((tiles / LARGE).read_bytes()).hexdigest()
    proxy.fault("list-type", s3.rewritten(md5, "0" * 32))
    with pytest.raises(CapetownError, match=r"set download\.checksums to size") as error:
        fetch_s3(proxy, raw, stored, tries=2)
    assert f"{LARGE} (its MD5 is {md5} and its ETag says 000" in error.value.what
    assert_no_partial(raw, tiles)
    assert not (incoming(raw) / LARGE).exists()
    fetch_s3(proxy, raw, stored, policy=RetentionPolicy(checksums="size"))
    assert "download.checksums is size" in caplog.text
    assert files(raw) == files(tiles)


def test_too_little_disk_space_is_refused_before_fetching(
    tiles: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(raw.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3_000_000))
    with pytest.raises(CapetownError, match=r"\d+ MB are needed and 3 MB are free"):
        fetch(tiles, raw)
    fetch(tiles, raw, choice=Choice("requests", [LARGE]), policy=reducing())
    assert set(files(raw)) == {LARGE}
