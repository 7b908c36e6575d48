"""Cached pixels are complete and reused, and folds are read from their table."""

import errno
import os
import time
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from capetown.errors import CapetownError
from capetown.imagery.reading import AS_STORED, read_tile, resize
from capetown.params import BandRendering
from capetown.pools.dataset import pixel_cache
from capetown.pools.dataset.dataset import fold_profile, load_fold
from capetown.pools.dataset.drift import TypicalProfile
from capetown.pools.dataset.pixel_cache import cached_pixels

RGB = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    files = [tmp_path / f"A_1_{n}.tif" for n in range(3)]
    for n, file in enumerate(files):
        Image.fromarray(np.roll(RGB, n, axis=0)).save(file)
    return files


def load(
    files: list[Path], cache: Path, size: int = 16, rendering: BandRendering = AS_STORED
) -> npt.NDArray[np.uint8]:
    contents = sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return cached_pixels(files, contents, size, "bicubic", cache, rendering)


def test_pixels_are_reused_and_another_content_size_or_rendering_makes_others(
    files: list[Path], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    usual = np.array(load(files, cache))
    expected = np.stack([resize(read_tile(file), 16, "bicubic") for file in files])
    np.testing.assert_array_equal(usual, expected)
    [made] = (file.stat().st_ino for file in cache.iterdir())
    load(files, cache)
    assert [p.stat().st_ino for p in cache.iterdir()] == [made]
    load(files, cache, size=8)
    turned = load(files, cache, rendering=BandRendering(bands=[3, 2, 1], scale="full"))
    np.testing.assert_array_equal(turned, usual[..., ::-1])
    Image.fromarray(255 - RGB).save(files[1])
    np.testing.assert_array_equal(load(files, cache)[1], resize(255 - RGB, 16, "bicubic"))
    assert len(list(cache.iterdir())) == 4


def test_a_truncated_file_is_made_again_and_one_unused_for_a_month_is_removed(
    files: list[Path], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    complete = np.array(load(files, cache))
    [file] = cache.iterdir()
    for kept in (0, 50, 500):
        os.truncate(file, kept)
        np.testing.assert_array_equal(load(files, cache), complete)
    os.utime(file, (0, time.time() - pixel_cache.MONTH - 60))
    load(files, cache, size=8)
    assert not file.exists()


def test_a_file_that_another_process_removes_meanwhile_is_no_error(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    gone = [cache / "gone.npy", cache / "gone.part"]
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(gone))
    assert load(files, cache).shape == (3, 16, 16, 3)


def test_a_full_disk_or_an_unwritable_cache_is_an_error_before_tiles_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = tmp_path / "cache"
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(CapetownError) as error:
        cached_pixels([tmp_path / "no.tif"] * 1000, "", 448, "bicubic", cache)
    assert error.value.where == str(cache)
    assert "0.6 GB of decoded tiles (No space left" in error.value.what
    assert list(cache.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(CapetownError, match="XDG_CACHE_HOME"):
        cached_pixels([], "", 16, "bicubic", tmp_path / "file" / "cache")


def test_a_fold_is_read_from_its_table(files: list[Path], tmp_path: Path) -> None:
    table = tmp_path / "tiles.csv"
    table.write_text(
        "path,label,sheet,group,fold,digest,groups_source,names\n"
        "A_1_0.tif,no,A,A_1,train,0,names,match\nA_1_1.tif,yes,A,A_1,train,1,names,match\n"
        "A_1_2.tif,yes,A,A_1,test,2,names,match\n"
    )
    cache = tmp_path / "cache"
    read = partial(load_fold, table, root=tmp_path, size=16, interpolation="bicubic", cache=cache)
    fold = read("train")
    assert (fold.paths, fold.labels.tolist()) == (["A_1_0.tif", "A_1_1.tif"], [0, 1])
    assert (fold.sheets.tolist(), fold.groups.tolist()) == (["A", "A"], ["A_1", "A_1"])
    for some in (fold, fold.subset(fold.labels == 1)):
        assert (some.groups_source, some.names) == ("names", "match")
    files[1].unlink()
    assert (read("train").pixels == fold.pixels).all(), "cached: the tiles are not read again"
    with pytest.raises(CapetownError, match=r"tiles\.csv: no `no` tile in fold test"):
        read("test")
    table.write_text(table.read_text().replace(",1,names,match\n", ",9,names,match\n"))
    with pytest.raises(CapetownError) as error:
        read("train")
    assert error.value.where == str(files[1])
    assert len(list(cache.iterdir())) == 1
    table.unlink()
    with pytest.raises(CapetownError, match=r"tiles\.csv: no such file; run `dvc repro split`"):
        read("train")


@pytest.mark.parametrize(("sides", "expected"), [((640, 640, 0), 640), ((640, 0, 0), None)])
def test_a_fold_is_reduced_if_most_of_its_tiles_are(
    sides: tuple[int, ...], expected: int | None, tmp_path: Path
) -> None:
    rows = [f"train,1250,0.0,False,True,{side}" for side in sides]
    rows += ["test,50,0.1,True,False,320"] * 4
    table = tmp_path / "tiles.csv"
    table.write_text("\n".join(["fold,side,resolution,dark,grey,reduced_to", *rows]))
    typical = TypicalProfile(side=1250, resolution=0, dark=False, grey=True)
    assert fold_profile(table, "train") == (typical, expected)
