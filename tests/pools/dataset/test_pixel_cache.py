"""Packs of decoded tiles are whole and reused, and folds are read from their table."""

import errno
import os
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image

from capetown.errors import CapetownError
from capetown.imagery.reading import read_tile, resize
from capetown.params import BandRendering
from capetown.pools.dataset import pixel_cache
from capetown.pools.dataset.dataset import LabelledTiles, keep_folds, load_fold
from capetown.pools.dataset.pixel_cache import pack_tiles, scratch

RGB = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    files = [tmp_path / f"A_1_{n}.tif" for n in range(3)]
    for n, file in enumerate(files):
        Image.fromarray(np.roll(RGB, n, axis=0)).save(file)
    return files


def contents_of(files: list[Path]) -> str:
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def pack(files: list[Path], cache: Path, size: int = 16) -> npt.NDArray[np.uint8]:
    return pack_tiles(files, contents_of(files), size, "bicubic", cache)


def test_a_pack_holds_the_resized_tiles_in_order(files: list[Path], tmp_path: Path) -> None:
    packed = pack(files, tmp_path / "cache")
    expected = np.stack([resize(read_tile(file), 16, "bicubic") for file in files])
    np.testing.assert_array_equal(packed, expected)
    assert packed.shape == (3, 16, 16, 3)


def test_a_pack_is_reused_and_another_content_or_size_makes_another(
    files: list[Path], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    pack(files, cache)
    [first] = cache.iterdir()
    made = first.stat().st_ino
    pack(files, cache)
    assert [p.stat().st_ino for p in cache.iterdir()] == [made]
    pack(files, cache, size=8)
    assert len(list(cache.iterdir())) == 2
    Image.fromarray(255 - RGB).save(files[1])
    np.testing.assert_array_equal(pack(files, cache)[1], resize(255 - RGB, 16, "bicubic"))
    assert len(list(cache.iterdir())) == 3


def test_another_rule_of_bands_makes_another_pack(files: list[Path], tmp_path: Path) -> None:
    contents = contents_of(files)
    rule = BandRendering(bands=[3, 2, 1], scale="full")
    usual = np.array(pack(files, tmp_path / "cache"))
    turned = pack_tiles(files, contents, 16, "bicubic", tmp_path / "cache", rule)
    np.testing.assert_array_equal(turned, usual[..., ::-1])


def test_a_pack_cut_short_is_made_again(files: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    whole = np.array(pack(files, cache))
    [file] = cache.iterdir()
    for kept in (0, 50, 500):
        file.write_bytes(file.read_bytes()[:kept])
        np.testing.assert_array_equal(pack(files, cache), whole)


def test_a_pack_unused_for_a_month_is_removed(files: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    pack(files, cache)
    [old] = cache.iterdir()
    os.utime(old, (0, time.time() - pixel_cache.MONTH - 60))
    pack(files, cache, size=8)
    assert not old.exists()


def test_a_pack_that_another_process_removes_meanwhile_is_no_error(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    gone = [cache / "gone.npy", cache / "gone.part"]
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(gone))
    assert pack(files, cache).shape == (3, 16, 16, 3)


def test_a_damaged_tile_leaves_no_pack_behind(files: list[Path], tmp_path: Path) -> None:
    files[2].write_bytes(b"")
    with pytest.raises(CapetownError, match=r"A_1_2\.tif: empty: 0 bytes"):
        pack(files, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_says_what_to_do(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CapetownError, match="XDG_CACHE_HOME"):
        pack(files, tmp_path / "file" / "cache")


def test_a_full_disk_is_told_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(CapetownError, match=r"cannot keep 0\.6 GB of decoded tiles \(No space"):
        scratch(1000, 448, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_folds_that_are_decoded_already_need_their_files_no_more(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    decoded = scratch(5, 16, cache)
    decoded[:] = np.arange(5, dtype=np.uint8)[:, None, None, None]
    assert list(cache.iterdir()) == [], "it has no name, so a killed process leaves nothing"
    rows = [(f"{n}.tif", label, "A", "A", fold, str(n))
            for n, label, fold in [(0, "no", "train"), (1, "no", "test"), (3, "yes", "train"),
                                   (4, "yes", "test")]]  # fmt: skip
    table = pd.DataFrame(rows, columns=["path", "label", "sheet", "group", "fold", "digest"])
    table.to_csv(tmp_path / "tiles.csv", index=False)
    # The third cannot be read, so the table does not have it.
    keep_folds(table, decoded, np.array([0, 1, 3, 4]), interpolation="bicubic", cache=cache)
    for name, expected in (("train", [0, 3]), ("test", [1, 4])):
        fold = load_fold(
            tmp_path / "tiles.csv", name, tmp_path, size=16, interpolation="bicubic", cache=cache
        )
        assert fold.pixels[:, 0, 0, 0].tolist() == expected
        assert (fold.pixels == fold.pixels[:, :1, :1, :1]).all()


def test_a_fold_is_read_from_its_table(files: list[Path], tmp_path: Path) -> None:
    table = tmp_path / "tiles.csv"
    table.write_text(
        "path,label,sheet,group,fold,digest\nA_1_0.tif,no,A,A_1,train,0\n"
        "A_1_1.tif,yes,A,A_1,train,1\nA_1_2.tif,yes,A,A_1,test,2\n"
    )

    def load(name: str) -> LabelledTiles:
        return load_fold(
            table, name, tmp_path, size=16, interpolation="bicubic", cache=tmp_path / "cache"
        )

    fold = load("train")
    assert fold.paths == ["A_1_0.tif", "A_1_1.tif"]
    assert fold.labels.tolist() == [0, 1]
    assert fold.sheets.tolist() == ["A", "A"]
    assert fold.groups.tolist() == ["A_1", "A_1"]
    with pytest.raises(CapetownError, match="fold test has no `no` tile"):
        load("test")
    files[1].unlink()
    assert (load("train").pixels == fold.pixels).all(), (
        "from the pack: the tiles are not read again"
    )
    table.write_text(table.read_text().replace(",1\n", ",9\n"))
    with pytest.raises(CapetownError, match=r"A_1_1\.tif: cannot be read"):
        load("train")
    table.unlink()
    with pytest.raises(CapetownError, match=r"tiles\.csv: no such file; run `dvc repro split`"):
        load("train")
